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
    /// The nodes of each platform that the image is not for.
    platforms: BTreeMap<String, Vec<String>>,
}

/// Nodes of one platform that are named; of more it is said how many there are.
const NAMED: usize = 2;

impl Reasons {
    pub(super) fn of<'a>(ask: &Ask<'_>, nodes: impl IntoIterator<Item = Candidate<'a>>) -> Self {
        let mut reasons = Self { counts: BTreeMap::new(), platforms: BTreeMap::new() };
        for node in nodes {
            match ask.refuses(&node) {
                Some(Refusal::Platform) => {
                    reasons.platforms.entry(platform_of(&node)).or_default().push(shown(&node));
                }
                Some(refusal) => *reasons.counts.entry(refusal).or_default() += 1,
                None => {}
            }
        }
        reasons
    }

    /// `no suitable node: 2 of 5 nodes lack memory (want 512 MiB), 1 is drained, …`
    pub(super) fn text(&self, ask: &Ask<'_>) -> String {
        let all = self.counts.values().sum::<usize>() + self.platforms.values().map(Vec::len).sum::<usize>();
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
        let texts = [parts.join(", "), self.platforms_text(ask)];
        let texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        format!("no suitable node: {}", texts.join("; "))
    }

    /// `image has linux/arm/v7; node3 is linux/arm64 (compatible: v8)`
    fn platforms_text(&self, ask: &Ask<'_>) -> String {
        if self.platforms.is_empty() {
            return String::new();
        }
        let one = |(platform, nodes): (&String, &Vec<String>)| {
            let named = nodes.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            match nodes.len() {
                1 => format!("{named} is {platform}"),
                2 => format!("{named} are {platform}"),
                all => format!("{named} and {} more are {platform}", all - NAMED),
            }
        };
        let nodes: Vec<String> = self.platforms.iter().map(one).collect();
        let hint = "where that is labelled wrong, --platform any runs it";
        format!("image has {}; {}; {hint}", platforms(ask), nodes.join(", "))
    }
}

/// With what else runs there.
fn platform_of(node: &Candidate<'_>) -> String {
    let Some(told) = &node.node.description else { return "of an unknown platform".to_owned() };
    let others = told.also_runs.iter().map(ToString::to_string);
    let newest = Some(told.platform.newest_variant()).filter(|variant| !variant.is_empty());
    let compatible: Vec<String> = newest.into_iter().chain(others).collect();
    match compatible.is_empty() {
        true => told.platform.to_string(),
        false => format!("{} (compatible: {})", told.platform, compatible.join(", ")),
    }
}

fn shown(node: &Candidate<'_>) -> String {
    node.node.description.as_ref().map_or_else(|| node.node.id.short(), |told| told.hostname.clone())
}

/// Why one node takes none, as what is said of it.
pub(super) fn of_node(ask: &Ask<'_>, node: &Candidate<'_>) -> Option<String> {
    Some(match ask.refuses(node)? {
        Refusal::Platform => format!("is {} while the image has {}", platform_of(node), platforms(ask)),
        refusal => words(&refusal, true, ask),
    })
}

/// `volume data is on node h2, which is down: …`
pub(super) fn of_home(ask: &Ask<'_>, home: &Candidate<'_>, volume: &str) -> String {
    let name = shown(home);
    let why = of_node(ask, home).map_or_else(String::new, |why| format!(", which {why}"));
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
                Some(types::GenericResource::NamedAndMore(names, more)) => {
                    format!("{} and {more} more", names.join(", "))
                }
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
    let real = ask.spec.placement.platforms.iter().filter(|platform| !platform.is_unknown());
    real.map(ToString::to_string).collect::<Vec<_>>().join(", ")
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
