//! From what the kernel has to what the plan wants: a list of steps. Pure, no I/O.
//!
//! Called by `netd` on every plan and whenever the kernel reports a change. The answer is empty when
//! everything is as wanted. What the plan has [`crate::plan::Problems`] with must be left out of the
//! plan by the caller ([`NetworkPlan::without`]).

mod endpoint;
mod local;
mod mesh;
mod overlay;
mod tunnel;
mod wire;

pub(crate) use mesh::port_rules;
pub(crate) use overlay::hosts_of;

use std::collections::BTreeSet;

use crate::{
    EndpointStep, Link, MeshStep, Namespace, NetworkPlan, NftTable, Observed, OverlayNamespace, Place, Step,
    mesh::INGRESS,
    nft,
    plan::{BridgeLink, veth_name},
};
use endpoint::Networks;

/// The steps that make the kernel match `plan`, in the order in which they must be done.
///
/// First what nobody wants goes, then the rules, the bridges and the overlays come, then the endpoints:
/// no packet is forwarded before the rules that bound it stand. Last the overlays forget remote
/// endpoints that are gone, once no connection is led to them any more.
pub fn diff(plan: &NetworkPlan, observed: &Observed) -> Vec<Step> {
    let mut steps = removals(plan, observed);
    steps.extend(nft_steps(plan, observed));
    let forwards = plan.bridge.is_some() || plan.mesh.is_some() || !plan.locals.is_empty();
    if forwards && !observed.ip_forward {
        steps.push(Step::EnableForwarding);
    }
    if forwards_ipv6(plan) && !observed.mesh.ipv6_forward {
        steps.push(Step::Mesh(MeshStep::EnableIpv6Forwarding));
    }
    steps.extend(plan.bridge.iter().flat_map(|bridge| bridge_steps(bridge.link(), observed)));
    steps.extend(local::steps(plan, observed));
    steps.extend(overlay::neighbour_limit(plan, observed));
    steps.extend(tunnel::steps(plan, observed));
    let (come, go) = overlay::steps(plan, observed);
    steps.extend(come);
    let (come, last) = mesh::steps(plan, observed);
    steps.extend(come);
    let networks = Networks::new(plan, observed);
    for (id, endpoint) in &plan.endpoints {
        let todo = endpoint::steps(id, endpoint, &networks);
        if !todo.is_empty() {
            steps.push(Step::Endpoint { id: id.clone(), steps: todo });
        }
    }
    steps.extend(last);
    steps.extend(go);
    steps
}

/// Whether a bridge leads packets of IPv6 on; the mesh may too.
fn forwards_ipv6(plan: &NetworkPlan) -> bool {
    plan.locals.values().any(|local| local.ipv6.is_some() && local.driver.parent().is_none())
}

fn removals(plan: &NetworkPlan, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut gone_with_endpoint = BTreeSet::new();
    for (id, namespace) in observed.namespaces.iter().filter(|(id, _)| !plan.endpoints.contains_key(id)) {
        let veth = veth_name(id);
        let mut todo = Vec::new();
        // The kernel takes its time to empty a namespace; until then the address would be taken on the parent.
        if let Namespace::Alive(inside) = namespace {
            let on_parents = inside.interfaces.iter().filter(|(_, link)| link.stacked.is_some());
            todo.extend(on_parents.map(|(name, _)| EndpointStep::RemoveInterface { name: name.clone() }));
        }
        if observed.links.contains_key(&veth) {
            todo.push(EndpointStep::RemoveVeth { at: Place::Host, name: veth.clone() });
            gone_with_endpoint.insert(veth.clone());
        }
        for (network, overlay) in &observed.overlays {
            let OverlayNamespace::Alive(inside) = overlay else { continue };
            if inside.links.contains_key(&veth) {
                todo.push(EndpointStep::RemoveVeth { at: Place::Overlay(*network), name: veth.clone() });
            }
        }
        todo.push(EndpointStep::RemoveNamespace);
        steps.push(Step::Endpoint { id: id.clone(), steps: todo });
    }
    let on_bridge = plan.endpoints.iter().filter(|(_, endpoint)| endpoint.bridge.is_some());
    let mut wanted: BTreeSet<String> = on_bridge.map(|(id, _)| veth_name(id)).collect();
    wanted.extend(plan.bridge.as_ref().map(|bridge| bridge.name.clone()));
    wanted.extend(plan.mesh.as_ref().map(|_| INGRESS.to_owned()));
    wanted.extend(local::wanted_links(plan, observed));
    wanted.append(&mut gone_with_endpoint);
    let left_over = observed.links.keys().filter(|name| !wanted.contains(*name));
    steps.extend(left_over.map(|name| Step::RemoveLink { name: name.clone() }));
    steps.extend(overlay::removals(plan, observed));
    steps.extend(tunnel::removals(plan, observed));
    steps.extend(mesh::removals(plan, observed));
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
fn standing_bridge<'a>(name: &str, observed: &'a Observed) -> Option<&'a Link> {
    observed.links.get(name).filter(|link| link.kind == "bridge")
}

fn bridge_steps(bridge: BridgeLink, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    let BridgeLink { name, mac, mtu, addresses: wanted, ipv6 } = bridge;
    let switch_ipv6 = || match ipv6 {
        true => Step::EnableIpv6 { link: name.clone() },
        false => Step::DisableIpv6 { link: name.clone() },
    };
    let Some(link) = standing_bridge(&name, observed) else {
        if observed.links.contains_key(&name) {
            steps.push(Step::RemoveLink { name: name.clone() });
        }
        steps.push(Step::CreateBridge { name: name.clone(), mac, mtu });
        steps.push(switch_ipv6());
        steps.extend(wanted.into_iter().map(|address| Step::AddAddress { link: name.clone(), address }));
        return steps;
    };
    if link.ipv6_off == ipv6 {
        steps.push(switch_ipv6());
    }
    for address in link.addresses.iter().filter(|a| !wanted.contains(a)) {
        steps.push(Step::RemoveAddress { link: name.clone(), address: *address });
    }
    let lacking = wanted.into_iter().filter(|address| !link.addresses.contains(address));
    steps.extend(lacking.map(|address| Step::AddAddress { link: name.clone(), address }));
    if !link.up || link.mtu != mtu {
        steps.push(Step::SetBridge { name, mtu });
    }
    steps
}

#[cfg(test)]
mod local_tests;
#[cfg(test)]
mod mesh_tests;
#[cfg(test)]
pub(crate) mod overlay_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tunnel_tests;
