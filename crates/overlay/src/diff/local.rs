//! The steps of the host's own networks: users' bridges, and the VLAN interfaces that networks on links need.

use std::collections::BTreeSet;

use types::NetworkId;

use super::{bridge_steps, standing_bridge};
use crate::{
    EndpointId, EndpointPlan, Link, LocalDriver, LocalNetworkPlan, LocalPort, NetworkPlan, Observed, ParentLink, Step,
    plan::local_veth_name,
};

/// What must be there before the endpoints.
pub fn steps(plan: &NetworkPlan, observed: &Observed) -> Vec<Step> {
    let mut steps = Vec::new();
    for (id, local) in &plan.locals {
        let Some(bridge) = local.link(*id) else { continue };
        let todo = bridge_steps(bridge, observed);
        steps.extend((!todo.is_empty()).then_some(Step::Local { id: *id, steps: todo }));
    }
    for (name, (id, parent)) in plan.vlans() {
        if observed.parents.contains_key(&parent.text()) {
            continue;
        }
        let todo = vlan_steps(&name, parent, observed);
        steps.extend((!todo.is_empty()).then_some(Step::Local { id, steps: todo }));
    }
    steps
}

fn vlan_steps(name: &str, parent: &ParentLink, observed: &Observed) -> Vec<Step> {
    let found = observed.links.get(name);
    let under = observed.parents.get(&parent.interface).map(|link| link.index);
    match found {
        Some(link) if link.kind == "vlan" && link.up && (under.is_none() || link.peer == under) => Vec::new(),
        found => {
            let remove = found.map(|_| Step::RemoveLink { name: name.to_owned() });
            let create = Step::CreateVlan {
                name: name.to_owned(),
                parent: parent.interface.clone(),
                tag: parent.vlan.unwrap_or_default(),
            };
            remove.into_iter().chain([create]).collect()
        }
    }
}

/// The host's links that the local networks need.
pub fn wanted_links(plan: &NetworkPlan, observed: &Observed) -> BTreeSet<String> {
    let mut wanted: BTreeSet<String> = plan.locals.iter().filter_map(|(id, local)| local.bridge_name(*id)).collect();
    let vlans = plan.vlans().into_iter().filter(|(_, (_, parent))| !observed.parents.contains_key(&parent.text()));
    wanted.extend(vlans.map(|(name, _)| name));
    for (id, endpoint) in &plan.endpoints {
        let on_bridge =
            |port: &&LocalPort| plan.locals.get(&port.network).is_some_and(|local| local.bridge().is_some());
        wanted.extend(endpoint.locals.iter().filter(on_bridge).map(|port| local_veth_name(id, port.network)));
    }
    wanted
}

/// Where the outer end of an endpoint's interface in a local network is.
pub enum Outer<'a> {
    /// A veth's end in this bridge.
    Bridge { name: String, index: Option<u32>, veth: String, found: Option<&'a Link> },
    /// None: an interface on this link, whose index is known if it is there.
    Parent { name: String, index: Option<u32> },
}

/// The outer end and the MTU of a place.
pub fn outer<'a>(
    id: &EndpointId,
    network: NetworkId,
    local: &LocalNetworkPlan,
    observed: &'a Observed,
) -> (Outer<'a>, u32) {
    match &local.driver {
        LocalDriver::Bridge(_) => {
            let bridge = local.link(network).expect("a bridge network has one");
            let veth = local_veth_name(id, network);
            let index = standing_bridge(&bridge.name, observed).map(|link| link.index);
            let found = observed.links.get(&veth);
            (Outer::Bridge { name: bridge.name, index, veth, found }, bridge.mtu)
        }
        LocalDriver::Macvlan { parent } | LocalDriver::Ipvlan { parent, .. } => {
            let (name, index, mtu) = parent_link(parent, observed);
            let mtu = local.mtu.map_or(mtu, |wish| wish.min(mtu));
            (Outer::Parent { name, index }, mtu)
        }
    }
}

/// The host's own interface of that name, else ours. Name, index and MTU.
fn parent_link(parent: &ParentLink, observed: &Observed) -> (String, Option<u32>, u32) {
    /// Of Ethernet, for what is not there yet.
    const ETHERNET: u32 = 1500;
    let text = parent.text();
    let (own, ours) = (observed.parents.get(&text), parent.vlan_name());
    match (own, ours) {
        (None, Some(name)) => match observed.links.get(&name) {
            Some(link) => (name, Some(link.index), link.mtu),
            None => (name, None, observed.parents.get(&parent.interface).map_or(ETHERNET, |link| link.mtu)),
        },
        (found, _) => (text, found.map(|link| link.index), found.map_or(ETHERNET, |link| link.mtu)),
    }
}

/// The endpoint's places with their networks.
pub fn places<'a>(
    plan: &'a NetworkPlan,
    endpoint: &'a EndpointPlan,
) -> impl Iterator<Item = (&'a LocalPort, &'a LocalNetworkPlan)> {
    endpoint.locals.iter().filter_map(|port| Some((port, plan.locals.get(&port.network)?)))
}
