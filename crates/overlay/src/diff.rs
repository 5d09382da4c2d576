//! From what the kernel has to what the plan wants: a list of steps. Pure, no I/O.
//!
//! Called by `netd` on every plan and whenever the kernel reports a change. The answer is empty when
//! everything is as wanted. Endpoints the plan has [`crate::plan::Problems`] with must be left out of
//! the plan by the caller.

use std::collections::BTreeSet;

use crate::{
    BridgePlan, BridgePort, Cidr, EndpointId, EndpointStep, Inside, InsideLink, InsideStep, Link, MacAddress,
    Namespace, NetworkPlan, NftTable, Observed, Step, nft, plan::veth_name,
};

/// The steps that make the kernel match `plan`, in the order in which they must be done.
///
/// First what nobody wants goes, then the rules and the bridge come, then the endpoints: no packet
/// is forwarded before the rules that bound it stand.
pub fn diff(plan: &NetworkPlan, observed: &Observed) -> Vec<Step> {
    let mut steps = removals(plan, observed);
    steps.extend(nft_steps(plan, observed));
    let Some(bridge) = &plan.bridge else { return steps };
    if !observed.ip_forward {
        steps.push(Step::EnableForwarding);
    }
    steps.extend(bridge_steps(bridge, observed));
    let standing = standing_bridge(bridge, observed).map(|link| link.index);
    for (id, endpoint) in &plan.endpoints {
        let Some(port) = &endpoint.bridge else { continue };
        let todo = endpoint_steps(id, port, bridge, standing, observed);
        if !todo.is_empty() {
            steps.push(Step::Endpoint { id: id.clone(), steps: todo });
        }
    }
    steps
}

fn removals(plan: &NetworkPlan, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut gone_with_endpoint = BTreeSet::new();
    let unwanted = |id: &EndpointId| plan.bridge.is_none() || !plan.endpoints.contains_key(id);
    for id in observed.namespaces.keys().filter(|id| unwanted(id)) {
        let veth = veth_name(id);
        let mut todo = Vec::new();
        if observed.links.contains_key(&veth) {
            todo.push(EndpointStep::RemoveVeth { name: veth.clone() });
            gone_with_endpoint.insert(veth);
        }
        todo.push(EndpointStep::RemoveNamespace);
        steps.push(Step::Endpoint { id: id.clone(), steps: todo });
    }
    let mut wanted: BTreeSet<String> = match &plan.bridge {
        Some(bridge) => plan.endpoints.keys().map(veth_name).chain([bridge.name.clone()]).collect(),
        None => BTreeSet::new(),
    };
    wanted.append(&mut gone_with_endpoint);
    let left_over = observed.links.keys().filter(|name| !wanted.contains(*name));
    steps.extend(left_over.map(|name| Step::RemoveLink { name: name.clone() }));
    steps
}

fn nft_steps(plan: &NetworkPlan, observed: &Observed) -> Option<Step> {
    let Some(ruleset) = nft::render(plan) else {
        return (observed.nft != NftTable::Absent).then_some(Step::RemoveNft);
    };
    let digest = nft::digest(&ruleset);
    match &observed.nft {
        NftTable::Loaded { digest: loaded } if *loaded == digest => None,
        _ => Some(Step::LoadNft { ruleset, digest }),
    }
}

/// The link of the bridge's name, if it is a bridge. Anything else under our name is replaced.
fn standing_bridge<'a>(bridge: &BridgePlan, observed: &'a Observed) -> Option<&'a Link> {
    observed.links.get(&bridge.name).filter(|link| link.kind == "bridge")
}

fn bridge_steps(bridge: &BridgePlan, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let (name, mtu) = (bridge.name.clone(), bridge.mtu);
    let Some(link) = standing_bridge(bridge, observed) else {
        if observed.links.contains_key(&name) {
            steps.push(Step::RemoveLink { name: name.clone() });
        }
        // A fixed address of its own: else the bridge takes the least of its ports' and changes it
        // whenever a container comes or goes, which breaks every neighbour's ARP entry.
        steps.push(Step::CreateBridge { name: name.clone(), mac: MacAddress::for_ipv4(bridge.gateway), mtu });
        steps.push(Step::DisableIpv6 { link: name.clone() });
        steps.push(Step::AddAddress { link: name, address: bridge.address() });
        return steps;
    };
    if !link.ipv6_off {
        steps.push(Step::DisableIpv6 { link: name.clone() });
    }
    for address in link.addresses.iter().filter(|a| **a != bridge.address()) {
        steps.push(Step::RemoveAddress { link: name.clone(), address: *address });
    }
    if !link.addresses.contains(&bridge.address()) {
        steps.push(Step::AddAddress { link: name.clone(), address: bridge.address() });
    }
    if !link.up || link.mtu != mtu {
        steps.push(Step::SetBridge { name, mtu });
    }
    steps
}

fn endpoint_steps(
    id: &EndpointId,
    port: &BridgePort,
    bridge: &BridgePlan,
    bridge_index: Option<u32>,
    observed: &Observed,
) -> Vec<EndpointStep> {
    let mut steps = Vec::new();
    let name = veth_name(id);
    let outside = observed.links.get(&name);
    let inside = match observed.namespaces.get(id) {
        Some(Namespace::Alive(inside)) => Some(inside),
        Some(Namespace::Stale) => {
            steps.push(EndpointStep::RemoveNamespace);
            None
        }
        None => None,
    };
    if inside.is_none() {
        steps.push(EndpointStep::CreateNamespace);
    }
    let interface = inside.and_then(|inside| inside.interface.as_ref());
    let pair = outside.zip(interface).filter(|(out, within)| is_pair(out, within, port.mac));
    if pair.is_none() {
        if outside.is_some() {
            steps.push(EndpointStep::RemoveVeth { name: name.clone() });
        }
        // Gone already with the host's end when the two were a pair; performing it twice is the same as once.
        if interface.is_some() {
            steps.push(EndpointStep::RemoveInterface);
        }
        steps.push(EndpointStep::CreateVeth { name: name.clone(), mac: port.mac, mtu: bridge.mtu });
    }
    let attached = pair.is_some_and(|(out, _)| {
        out.up && out.mtu == bridge.mtu && out.controller.is_some() && out.controller == bridge_index
    });
    if !attached {
        steps.push(EndpointStep::Attach { name, bridge: bridge.name.clone(), mtu: bridge.mtu });
    }
    let within = inside_steps(port, bridge, inside, pair.map(|(_, within)| within));
    if !within.is_empty() {
        steps.push(EndpointStep::Inside { steps: within });
    }
    steps
}

fn is_pair(outside: &Link, inside: &InsideLink, mac: MacAddress) -> bool {
    outside.kind == "veth" && inside.peer == Some(outside.index) && inside.mac == Some(mac)
}

fn inside_steps(
    port: &BridgePort,
    bridge: &BridgePlan,
    inside: Option<&Inside>,
    kept: Option<&InsideLink>,
) -> Vec<InsideStep> {
    let mut steps = Vec::new();
    let address = bridge.with_prefix(port.address);
    if !inside.is_some_and(|inside| inside.loopback_up) {
        steps.push(InsideStep::LoopbackUp);
    }
    if !kept.is_some_and(|link| link.ipv6_off) {
        steps.push(InsideStep::DisableIpv6);
    }
    if kept.is_some_and(|link| link.mtu != bridge.mtu) {
        steps.push(InsideStep::SetMtu(bridge.mtu));
    }
    let had: &[Cidr] = kept.map_or(&[], |link| &link.addresses);
    steps.extend(had.iter().filter(|a| **a != address).map(|a| InsideStep::RemoveAddress(*a)));
    if !had.contains(&address) {
        steps.push(InsideStep::AddAddress(address));
    }
    if !kept.is_some_and(|link| link.up) {
        steps.push(InsideStep::InterfaceUp);
    }
    // The kernel drops the route with its interface and with its source address: then it must come again.
    let route_stands = had == [address] && kept.is_some_and(|link| link.up);
    if !route_stands || inside.and_then(|inside| inside.default_route) != Some(bridge.gateway) {
        steps.push(InsideStep::DefaultRoute(bridge.gateway));
    }
    steps
}

#[cfg(test)]
mod tests;
