//! Why a task has no node, in words that say what to do about it (P06).

use std::collections::BTreeMap;

use types::NanoCpus;

use super::{
    candidate::Candidate,
    filter::{Ask, Refusal},
    neighbours::Against,
};

/// How many nodes each filter refused.
pub(super) struct Reasons {
    counts: BTreeMap<Refusal, usize>,
}

impl Reasons {
    pub(super) fn of<'a>(ask: &Ask<'_>, nodes: impl IntoIterator<Item = Candidate<'a>>) -> Self {
        let mut counts = BTreeMap::new();
        for refusal in nodes.into_iter().filter_map(|node| ask.refuses(&node)) {
            *counts.entry(refusal).or_default() += 1;
        }
        Self { counts }
    }

    /// `no suitable node: 2 of 5 nodes lack memory (want 512 MiB), 1 is drained, …`
    pub(super) fn text(&self, ask: &Ask<'_>) -> String {
        let all: usize = self.counts.values().sum();
        if all == 0 {
            return "no suitable node: the cluster has no nodes".to_owned();
        }
        let mut parts = Vec::new();
        for (refusal, count) in &self.counts {
            let what = words(refusal, *count == 1, ask);
            match (parts.is_empty(), all) {
                (true, 1) => parts.push(format!("the only node {what}")),
                (true, _) => parts.push(format!("{count} of {all} nodes {what}")),
                (false, _) => parts.push(format!("{count} {what}")),
            }
        }
        format!("no suitable node: {}", parts.join(", "))
    }
}

/// `volume data is on node h2, which is down: …`
pub(super) fn of_home(ask: &Ask<'_>, home: &Candidate<'_>, volume: &str) -> String {
    let name = home.node.description.as_ref().map_or_else(|| home.node.id.short(), |told| told.hostname.clone());
    let why = ask.refuses(home).map_or_else(String::new, |refusal| format!(", which {}", words(&refusal, true, ask)));
    format!("volume {volume} is on node {name}{why}: bring it back, or start without the data (--on-missing create)")
}

fn words(refusal: &Refusal, one: bool, ask: &Ask<'_>) -> String {
    let (is, lack, does, has) = if one { ("is", "lacks", "does", "has") } else { ("are", "lack", "do", "have") };
    let want = ask.reserved();
    match refusal {
        Refusal::NotConnected => format!("{has} not connected yet"),
        Refusal::Unreachable => format!("{is} unreachable"),
        Refusal::Down => format!("{is} down"),
        Refusal::Paused => format!("{is} paused"),
        Refusal::Drained => format!("{is} drained"),
        Refusal::Cpus => format!("{lack} CPUs (want {})", cpus(want.nano_cpus)),
        Refusal::Memory => format!("{lack} memory (want {})", bytes(want.memory.0)),
        Refusal::Generic(kind) => {
            let wanted = match want.generic.get(kind) {
                Some(types::GenericResource::Named(names)) => names.join(", "),
                amount => amount.map_or(0, types::GenericResource::amount).to_string(),
            };
            format!("{lack} {kind} (want {wanted})")
        }
        Refusal::Devices => {
            let wanted: Vec<String> = ask.spec.container.host.claims.iter().map(types::DeviceClaim::words).collect();
            format!("{lack} devices (want {})", wanted.join(", "))
        }
        Refusal::Constraint(text) => format!("{does} not satisfy {text}"),
        Refusal::Neighbours(Against::Own(text)) => format!("{does} not satisfy {text}"),
        Refusal::Neighbours(Against::Other(name)) => {
            format!("{has} a task of {name}, which keeps away from this service")
        }
        Refusal::Platform => format!("{has} another platform than the image ({})", platforms(ask)),
        Refusal::MaxReplicas => {
            format!("{has} as many tasks as allowed (max replicas per node {})", ask.spec.placement.max_replicas)
        }
        Refusal::HostPort(place) => format!("{has} host port {place} in use"),
    }
}

fn platforms(ask: &Ask<'_>) -> String {
    let one = |p: &types::Platform| format!("{}/{}", p.os, p.architecture);
    ask.spec.placement.platforms.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `0.5`, `2`: thousandths of a CPU are the smallest anybody asks for.
fn cpus(amount: NanoCpus) -> String {
    let thousandths = amount.0 / 1_000_000;
    let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// In the largest unit that divides it.
fn bytes(amount: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fitting = UNITS.iter().find(|(_, size)| amount >= *size && amount.is_multiple_of(*size));
    fitting.map_or_else(|| format!("{amount} bytes"), |(unit, size)| format!("{} {unit}", amount / size))
}
