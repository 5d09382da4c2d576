//! The steps of the routing mesh on the host's side, and of published ports: the rules, the host's port in the
//! ingress network, and the neighbours behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use crate::{
    Cidr, DataPath, Link, MacAddress, MeshPlan, MeshStep, NetworkPlan, Observed, OverlayInside, OverlayNamespace,
    OverlayPlan, PortRole, Step,
    mesh::{INGRESS, USER_CHAINS, load::PortRules, ports, skeleton},
    mtu::planned_mtu,
};

use super::endpoint::with_prefix;

/// The mesh of a plan with all that it stands on.
struct Ingress<'a> {
    mesh: &'a MeshPlan,
    overlay: &'a OverlayPlan,
    inside: Option<&'a OverlayInside>,
    mtu: u32,
}

impl<'a> Ingress<'a> {
    fn of(plan: &'a NetworkPlan, observed: &'a Observed) -> Option<Self> {
        let (mesh, path): (&MeshPlan, &DataPath) = (plan.mesh.as_ref()?, plan.data_path.as_ref()?);
        let overlay = plan.overlays.get(&mesh.network)?;
        let inside = match observed.overlays.get(&mesh.network) {
            Some(OverlayNamespace::Alive(inside)) => Some(inside),
            _ => None,
        };
        let mtu = planned_mtu(overlay, path, observed, super::overlay::bridge_of(inside).map(|link| link.mtu));
        Some(Self { mesh, overlay, inside, mtu })
    }

    /// Both ends, if they are a pair of ours.
    fn pair(&self, observed: &'a Observed) -> Option<(&'a Link, &'a Link)> {
        let (outer, inner) = (self.inside?.links.get(INGRESS)?, observed.links.get(INGRESS)?);
        let agree = inner.peer == Some(outer.index) && outer.peer == Some(inner.index);
        (inner.kind == "veth" && agree && inner.mac == Some(self.mesh.mac)).then_some((outer, inner))
    }

    fn addresses(&self) -> Vec<Cidr> {
        self.mesh.addresses.iter().filter_map(|address| with_prefix(self.overlay, *address)).collect()
    }

    fn has_ipv6(&self) -> bool {
        self.mesh.has_ipv6()
    }
}

fn needs_rules(plan: &NetworkPlan) -> bool {
    plan.mesh.is_some() || plan.endpoints.values().any(|endpoint| !endpoint.ports.is_empty())
}

/// What the plan has no use for. The interface itself goes with all other links that nobody wants.
pub fn removals(plan: &NetworkPlan, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let wanted = skeleton::localnet_links(plan);
    let bridges = bridge_names(plan);
    let stays = |link: &&String| bridges.contains(*link);
    let open = observed.mesh.localnet.iter().filter(|link| !wanted.contains(link)).filter(stays);
    steps.extend(open.map(|link| Step::Mesh(MeshStep::SetLocalnet { link: link.clone(), on: false })));
    if !needs_rules(plan) {
        let is_there = observed.mesh.ports.is_some() || observed.mesh.loaded.is_some();
        steps.extend(is_there.then_some(Step::Mesh(MeshStep::RemovePorts)));
        let user = observed.mesh.user_chains.as_ref().filter(|_| observed.mesh.user_is_empty);
        steps.extend(user.map(|_| Step::Mesh(MeshStep::RemoveUserTable)));
    }
    steps
}

/// What must be there before the endpoints, and what goes after them.
///
/// The rules come before the interface that they guard. A backend that is gone first gets no new
/// connections, then its flows end, then its neighbour entry goes: as long as that stands, there is
/// something to end.
pub fn steps(plan: &NetworkPlan, observed: &Observed) -> (Vec<Step>, Vec<Step>) {
    if !needs_rules(plan) {
        return (Vec::new(), Vec::new());
    }
    let ingress = Ingress::of(plan, observed);
    let mut come: Vec<Step> = Vec::new();
    let is_there = |chain: &str| observed.mesh.user_chains.as_ref().is_some_and(|chains| chains.contains(chain));
    if !USER_CHAINS.into_iter().all(is_there) {
        come.push(Step::Mesh(MeshStep::CreateUserTable));
    }
    come.extend(rule_step(plan, ingress.as_ref(), observed).map(Step::Mesh));
    come.extend(bridges_localnet(plan, observed));
    let Some(ingress) = &ingress else { return (come, Vec::new()) };
    let is_on = observed.mesh.ipv6_forward || super::forwards_ipv6(plan);
    if ingress.has_ipv6() && !is_on {
        come.push(Step::Mesh(MeshStep::EnableIpv6Forwarding));
    }
    let pair = ingress.pair(observed);
    come.extend(link_steps(ingress, pair, observed));
    let (first, last) = neighbour_steps(plan, ingress, pair.map(|_| observed));
    come.extend(first.into_iter().map(Step::Mesh));
    (come, last.into_iter().map(Step::Mesh).collect())
}

fn rule_step(plan: &NetworkPlan, ingress: Option<&Ingress<'_>>, observed: &Observed) -> Option<MeshStep> {
    let wanted = rules_of(plan, ingress, observed);
    let load = match &observed.mesh.loaded {
        Some(loaded) => wanted.load_after(loaded)?,
        None => wanted.load_over(observed.mesh.ports.as_ref())?,
    };
    Some(MeshStep::LoadPorts { load, loaded: Arc::new(wanted) })
}

/// From what the table of published ports shall be made; None where there shall be none.
pub fn port_rules(plan: &NetworkPlan, observed: &Observed) -> Option<PortRules> {
    needs_rules(plan).then(|| rules_of(plan, Ingress::of(plan, observed).as_ref(), observed))
}

fn rules_of(plan: &NetworkPlan, ingress: Option<&Ingress<'_>>, observed: &Observed) -> PortRules {
    let folded = |bytes: [u8; 6]| bytes.iter().fold(0, |salt, byte| salt << 8 | u64::from(*byte));
    let entries = ports::entries(plan, observed.mesh.port_proxy);
    let bound: BTreeSet<&str> = entries.iter().filter_map(ports::Entry::interface).collect();
    let own = observed.addresses.iter().filter(|(name, _)| bound.contains(name.as_str()));
    PortRules {
        skeleton: skeleton::chains(plan, ingress.map(|ingress| ingress.mtu)),
        own: own.map(|(name, addresses)| (name.clone(), addresses.clone())).collect(),
        entries,
        spared: plan.mesh.as_ref().map(|mesh| mesh.spared.clone()).unwrap_or_default(),
        salt: ingress.map_or(0, |ingress| folded(ingress.mesh.mac.bytes())),
    }
}

/// The bridges are there by now; a new one has the kernel's own setting, which is off.
fn bridges_localnet(plan: &NetworkPlan, observed: &Observed) -> Vec<Step> {
    let bridges = bridge_names(plan);
    let is_on =
        |name: &String| super::standing_bridge(name, observed).is_some() && observed.mesh.localnet.contains(name);
    let wanted = skeleton::localnet_links(plan).into_iter();
    let off = wanted.filter(|link| bridges.contains(link) && !is_on(link));
    off.map(|link| Step::Mesh(MeshStep::SetLocalnet { link, on: true })).collect()
}

/// The host's and those of users' networks.
fn bridge_names(plan: &NetworkPlan) -> BTreeSet<String> {
    let locals = plan.locals.iter().filter_map(|(id, local)| local.bridge_name(*id));
    plan.bridge.iter().map(|bridge| bridge.name.clone()).chain(locals).collect()
}

fn link_steps(ingress: &Ingress<'_>, pair: Option<(&Link, &Link)>, observed: &Observed) -> Vec<Step> {
    let (network, mac, mtu) = (ingress.mesh.network, ingress.mesh.mac, ingress.mtu);
    let mut steps = Vec::new();
    if pair.is_none() {
        if observed.links.contains_key(INGRESS) {
            steps.push(Step::RemoveLink { name: INGRESS.to_owned() });
        }
        if ingress.inside.is_some_and(|inside| inside.links.contains_key(INGRESS)) {
            steps.push(Step::Mesh(MeshStep::RemoveOuterIngress { network }));
        }
        steps.push(Step::Mesh(MeshStep::CreateIngress { network, mac, mtu }));
    }
    let bridge = super::overlay::bridge_of(ingress.inside).map(|link| link.index);
    let is_plugged = pair.is_some_and(|(outer, _)| {
        let in_bridge = bridge.is_some() && outer.controller == bridge;
        outer.up && outer.mtu == mtu && in_bridge && outer.port == Some(PortRole::Endpoint)
    });
    let leads_there = ingress.inside.is_some_and(|inside| inside.ports.get(&mac).is_some_and(|link| link == INGRESS));
    if !is_plugged || !leads_there {
        steps.push(Step::Mesh(MeshStep::PlugIngress { network, mac, mtu }));
    }
    let ipv6_off = pair.map(|_| observed.mesh.ipv6_off);
    if ipv6_off.is_none_or(|off| off == ingress.has_ipv6()) {
        steps.push(if ingress.has_ipv6() {
            Step::Mesh(MeshStep::EnableIngressIpv6)
        } else {
            Step::DisableIpv6 { link: INGRESS.to_owned() }
        });
    }
    if pair.is_none() || !observed.mesh.localnet.contains(INGRESS) {
        steps.push(Step::Mesh(MeshStep::SetLocalnet { link: INGRESS.to_owned(), on: true }));
    }
    let wanted = ingress.addresses();
    let had = pair.map_or(&[][..], |(_, inner)| &inner.addresses);
    let link = || INGRESS.to_owned();
    steps.extend(had.iter().filter(|a| !wanted.contains(a)).map(|a| Step::RemoveAddress { link: link(), address: *a }));
    steps.extend(wanted.iter().filter(|a| !had.contains(a)).map(|a| Step::AddAddress { link: link(), address: *a }));
    if !pair.is_some_and(|(_, inner)| inner.up && inner.mtu == mtu) {
        steps.push(Step::Mesh(MeshStep::SetIngress { mtu }));
    }
    // The kernel forgets it with the link, and whenever that is down.
    if ingress.has_ipv6() && (pair.is_none() || !observed.mesh.leads_loopback) {
        steps.push(Step::Mesh(MeshStep::LeadLoopback));
    }
    steps
}

/// Who is behind the interface: every endpoint of the network, here and elsewhere. What comes, and what goes last.
/// `kept` is what stands on an interface that stays.
fn neighbour_steps(
    plan: &NetworkPlan,
    ingress: &Ingress<'_>,
    kept: Option<&Observed>,
) -> (Vec<MeshStep>, Vec<MeshStep>) {
    let here = plan.endpoints.values().flat_map(|endpoint| &endpoint.overlays);
    let here = here.filter(|port| port.network == ingress.mesh.network).map(|port| (port.mac, &port.addresses));
    let there = ingress.overlay.remotes.iter().map(|(mac, remote)| (*mac, &remote.addresses));
    let wanted: BTreeMap<IpAddr, MacAddress> =
        here.chain(there).flat_map(|(mac, addresses)| addresses.iter().map(move |address| (*address, mac))).collect();
    let nothing = BTreeMap::new();
    let had = kept.map_or(&nothing, |observed| &observed.mesh.neighbours);
    let fresh = wanted.iter().filter(|(address, mac)| had.get(address) != Some(mac));
    let come = fresh.map(|(address, mac)| MeshStep::AddNeighbour { address: *address, mac: *mac }).collect();
    let gone: BTreeSet<IpAddr> = had.keys().filter(|address| !wanted.contains_key(address)).copied().collect();
    let mut go = Vec::new();
    if !gone.is_empty() {
        go.push(MeshStep::EndFlows { to: gone.clone() });
    }
    go.extend(gone.into_iter().map(|address| MeshStep::RemoveNeighbour { address }));
    (come, go)
}
