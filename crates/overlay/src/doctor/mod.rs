//! The checker behind `rswarm network doctor`: is what is there, entry by entry, what the plan says?
//!
//! [`look`] asks the kernel and the resolvers, [`judge`] compares (pure), [`examine`] does both for as long
//! as the network keeps changing under it. Called by the engine. It changes nothing, and has no idea of its
//! own of what is wanted: that is the plan's affair, and the cluster's, whose words it is given.

mod balanced;
mod forward;
mod held;
mod look;
mod steps;
mod tunnel;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use types::NetworkId;

pub use forward::ForwardDrop;
pub use look::{Seen, look};

use crate::{Client, Kernel, NetworkPlan, OverlayPlan, dns, netd};

/// A process that is there answers within milliseconds.
const PLAN_LIMIT: Duration = Duration::from_secs(5);
/// What differs at two looks this far apart is no change on its way.
const BETWEEN_LOOKS: Duration = Duration::from_millis(400);
/// Looks at a network that changes each time; then what the last one found is told.
const MOST_LOOKS: usize = 6;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// `fdb 02:42:0a:00:00:05`, `virtual address 10.0.0.2`, …
    pub what: String,
    /// In which namespace, table or process.
    pub place: String,
    pub expected: String,
    pub found: String,
}

impl Difference {
    fn new(what: impl Into<String>, place: impl Into<String>, expected: String, found: String) -> Self {
        let or_nothing = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
        Self { what: what.into(), place: place.into(), expected: or_nothing(expected), found: or_nothing(found) }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, place, expected, found } = self;
        write!(f, "{what} ({place}): expected {expected}, found {found}")
    }
}

/// One overlay network on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFindings {
    pub id: NetworkId,
    pub name: String,
    /// On this host, and on others.
    pub endpoints: (usize, usize),
    pub virtual_addresses: usize,
    /// Questions that were put to the resolvers of its endpoints here.
    pub questions: usize,
    pub differences: Vec<Difference>,
}

/// All of this host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Findings {
    pub networks: Vec<NetworkFindings>,
    /// What belongs to no overlay.
    pub host: Vec<Difference>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
}

impl Findings {
    /// Whether nothing differs anywhere.
    pub fn is_equal(&self) -> bool {
        self.host.is_empty() && self.networks.iter().all(|network| network.differences.is_empty())
    }
}

/// What is compared with what.
pub struct Wanted<'a> {
    /// What the data plane process was told last.
    pub plan: &'a NetworkPlan,
    /// The overlays as the cluster has them now; None while no manager has spoken.
    pub value: Option<&'a BTreeMap<NetworkId, OverlayPlan>>,
}

/// Compares. Overlays of the value without an endpoint here need nothing here.
pub fn judge(wanted: &Wanted<'_>, seen: &Seen) -> Findings {
    let Wanted { plan, value } = *wanted;
    let mut of_network: BTreeMap<NetworkId, Vec<Difference>> = BTreeMap::new();
    let mut host = forward::differences(&seen.forward_drops);
    if plan.needs_port_proxy() && seen.observed.mesh.port_proxy.is_none() {
        let what = if plan.needs_headers() { "ask for its headers" } else { "are led to by it from IPv6" };
        let expected = format!("running, as published ports {what}");
        host.push(Difference::new("rswarm port-proxy", "process; why not is in netd.log", expected, String::new()));
    }
    for (network, difference) in steps::differences(&plan.with_probe_overlays(), &seen.observed) {
        match network.filter(|id| plan.overlays.contains_key(id)) {
            Some(id) => of_network.entry(id).or_default().push(difference),
            None => host.push(difference),
        }
    }
    for (id, found) in &seen.balanced {
        let Some(endpoint) = plan.endpoints.get(id) else { continue };
        for (network, difference) in balanced::differences(id, endpoint, plan, found) {
            of_network.entry(network).or_default().push(difference);
        }
    }
    for (id, found) in &seen.resolved {
        for (network, difference) in dns::check::differences(id, found) {
            of_network.entry(network).or_default().push(difference);
        }
    }
    for (id, overlay) in &plan.overlays {
        of_network.entry(*id).or_default().extend(strangers(plan, *id, overlay));
    }
    for (id, overlay) in plan.overlays.iter().filter(|_| value.is_some()) {
        let said = value.and_then(|value| value.get(id));
        of_network.entry(*id).or_default().extend(held::differences(said, overlay));
    }
    let network = |(id, overlay): (&NetworkId, &OverlayPlan)| NetworkFindings {
        id: *id,
        name: overlay.name.clone(),
        endpoints: (local_endpoints(plan, *id), overlay.remotes.len()),
        virtual_addresses: overlay.services.len(),
        questions: seen.resolved.values().map(|found| found.questions(*id)).sum(),
        differences: of_network.remove(id).unwrap_or_default(),
    };
    let networks = plan.overlays.iter().map(network).collect();
    Findings { networks, host, notes: seen.notes.clone() }
}

/// Backends that are no endpoint, neither here nor elsewhere: what is sent to them gets no answer.
fn strangers(plan: &NetworkPlan, network: NetworkId, overlay: &OverlayPlan) -> Vec<Difference> {
    let here = plan.endpoints.values().flat_map(|endpoint| &endpoint.overlays);
    let here = here.filter(|port| port.network == network).flat_map(|port| &port.addresses);
    let elsewhere = overlay.remotes.values().flat_map(|remote| &remote.addresses);
    let known: BTreeSet<IpAddr> = here.chain(elsewhere).copied().collect();
    let differs = |(vip, backend): (&IpAddr, &IpAddr)| {
        let what = format!("backend {backend} of virtual address {vip}");
        Difference::new(what, "plan of rswarm netd", "an endpoint here or on another host".to_owned(), String::new())
    };
    let backends = overlay.services.iter().flat_map(|(vip, backends)| backends.iter().map(move |b| (vip, b)));
    backends.filter(|(_, backend)| !known.contains(backend)).map(differs).collect()
}

fn local_endpoints(plan: &NetworkPlan, network: NetworkId) -> usize {
    plan.endpoints.values().filter(|endpoint| endpoint.overlays.iter().any(|port| port.network == network)).count()
}

/// Looks and compares until two looks in a row say the same, or nothing differs. `value` is asked anew each
/// time for what the cluster says at that moment.
///
/// # Errors
/// A sentence when the kernel cannot be asked, or there is no plan to compare with.
pub async fn examine(
    client: &Client,
    kernel: &Kernel,
    state_dir: &std::path::Path,
    value: impl Fn() -> Option<BTreeMap<NetworkId, OverlayPlan>>,
) -> Result<Findings, String> {
    let mut before: Option<Findings> = None;
    for round in 1..=MOST_LOOKS {
        let (plan, trouble) = plan(client, state_dir).await?;
        let seen = look(kernel, &plan).await.map_err(|error| crate::explain(&error))?;
        let value = value();
        let mut findings = judge(&Wanted { plan: &plan, value: value.as_ref() }, &seen);
        findings.host.extend(trouble);
        if value.is_none() {
            let note =
                "no manager has spoken to this host since its daemon started: compared with what it was told before";
            findings.notes.push(note.to_owned());
        }
        if findings.is_equal() || round == MOST_LOOKS || before.as_ref() == Some(&findings) {
            return Ok(findings);
        }
        before = Some(findings);
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Err("the network could not be looked at".to_owned())
}

/// The plan, from the process or, while that does not answer, from its file.
async fn plan(client: &Client, state_dir: &std::path::Path) -> Result<(NetworkPlan, Option<Difference>), String> {
    let silent = match tokio::time::timeout(PLAN_LIMIT, client.held_plan()).await {
        Ok(Ok(plan)) => return Ok((plan.unwrap_or_default(), None)),
        Ok(Err(error)) => crate::explain(&error),
        Err(_) => format!("no answer within {} s", PLAN_LIMIT.as_secs()),
    };
    let kept = netd::kept_plan(state_dir);
    let plan = kept.ok_or_else(|| format!("rswarm netd does not answer ({silent}), and it has left no plan"))?;
    let difference = Difference::new("rswarm netd", "process", "an answer".to_owned(), silent);
    Ok((plan, Some(difference)))
}

#[cfg(test)]
mod tests;
