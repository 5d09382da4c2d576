//! What of a plan cannot be done, found before anything is touched. Pure.

mod ports;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use types::NetworkId;

use super::{
    BridgePort, DataPath, EndpointId, EndpointPlan, LocalNetworkPlan, MTU_RANGE, NetworkPlan, OverlayPlan, OverlayPort,
    is_link_local,
};
use crate::{Cidr, Ipam};

/// The largest VXLAN network identifier: 24 bits (RFC 7348). Zero is left to nobody.
const VNI_MAX: u32 = (1 << 24) - 1;

/// Sentences by what they concern.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    /// Of the bridge: the plan as a whole is refused.
    pub host: Vec<String>,
    /// Of single endpoints: these are left out, all others are served.
    pub endpoints: BTreeMap<EndpointId, String>,
    /// Of single overlays and local networks: these are left out, and so are the endpoints that are in them.
    pub overlays: BTreeMap<NetworkId, String>,
    /// Of the routing mesh: it is left out.
    pub mesh: Option<String>,
    /// Of single published ports of the mesh, by their place in the plan: these are left out.
    pub ports: BTreeMap<usize, String>,
}

impl NetworkPlan {
    /// Checks everything that can be known without asking the kernel.
    pub fn problems(&self) -> Problems {
        let bridge = match self.bridge.as_ref().map(super::BridgePlan::checked).transpose() {
            Ok(bridge) => bridge,
            Err(host) => return Problems { host: vec![host], ..Problems::default() },
        };
        let mut overlays = overlay_problems(&self.overlays, self.data_path.as_ref());
        overlays.extend(local_problems(self));
        let mesh = self.mesh.as_ref().and_then(|mesh| ports::mesh_problem(mesh, self, &overlays));
        let mut taken = ports::Taken::default();
        let ports = self.port_problems(mesh.is_some(), &mut taken);
        let mut seen = BTreeSet::new();
        let mut places = BTreeSet::new();
        let mut endpoints = BTreeMap::new();
        for (id, endpoint) in &self.endpoints {
            let on_bridge = endpoint.bridge.and_then(|port| {
                let own = &endpoint.bridge_link_local;
                bridge_problem(&port, own, bridge.as_ref(), &mut seen)
            });
            let problem = on_bridge
                .or_else(|| place_problem(endpoint, &self.overlays, &overlays))
                .or_else(|| local_place_problem(endpoint, &self.locals, &overlays, &mut places))
                .or_else(|| endpoint.interface_problem())
                .or_else(|| {
                    ports::endpoint_problem(id.as_str(), endpoint, self.published6(endpoint).is_some(), &mut taken)
                });
            endpoints.extend(problem.map(|problem| (id.clone(), problem)));
        }
        Problems { host: Vec::new(), endpoints, overlays, mesh, ports }
    }

    /// By their place in the plan; none when the mesh is left out as a whole.
    fn port_problems(&self, is_left_out: bool, taken: &mut ports::Taken<'_>) -> BTreeMap<usize, String> {
        let Some(mesh) = self.mesh.as_ref().filter(|_| !is_left_out) else { return BTreeMap::new() };
        let Some(overlay) = self.overlays.get(&mesh.network) else { return BTreeMap::new() };
        let published = mesh.ports.iter().enumerate();
        published.filter_map(|(place, port)| Some((place, ports::port_problem(port, overlay, taken)?))).collect()
    }

    /// The plan without what has problems of its own: most often itself.
    pub fn without(&self, problems: &Problems) -> Cow<'_, Self> {
        if *problems == Problems::default() {
            return Cow::Borrowed(self);
        }
        let mut possible = self.clone();
        possible.endpoints.retain(|id, _| !problems.endpoints.contains_key(id));
        possible.overlays.retain(|id, _| !problems.overlays.contains_key(id));
        possible.locals.retain(|id, _| !problems.overlays.contains_key(id));
        possible.mesh = possible.mesh.filter(|_| problems.mesh.is_none());
        if let Some(mesh) = &mut possible.mesh {
            let mut place = 0..;
            mesh.ports.retain(|_| place.next().is_some_and(|place| !problems.ports.contains_key(&place)));
        }
        Cow::Owned(possible)
    }
}

fn bridge_problem(
    port: &BridgePort,
    link_local: &[IpAddr],
    ipam: Option<&Ipam>,
    seen: &mut BTreeSet<Ipv4Addr>,
) -> Option<String> {
    let BridgePort { address, mac } = port;
    let Some(ipam) = ipam else { return Some("the plan has no bridge to attach it to".to_owned()) };
    if !ipam.is_host_address(*address) {
        Some(format!("address {address} is not a host address of {}", ipam.subnet()))
    } else if *address == ipam.gateway() {
        Some(format!("address {address} is the gateway's"))
    } else if mac.bytes()[0] & 1 == 1 {
        Some(format!("MAC address {mac} is a group address"))
    } else if let Some(other) = link_local.iter().find(|other| other.is_ipv6() || !is_link_local(other)) {
        Some(format!("{other} is no link-local address of IPv4: those are of 169.254.0.0/16"))
    } else if !seen.insert(*address) {
        Some(format!("address {address} is another endpoint's"))
    } else {
        None
    }
}

/// Of an endpoint's places in overlays.
fn place_problem(
    endpoint: &EndpointPlan,
    overlays: &BTreeMap<NetworkId, OverlayPlan>,
    problems: &BTreeMap<NetworkId, String>,
) -> Option<String> {
    let mut networks = BTreeSet::new();
    endpoint.overlays.iter().find_map(|OverlayPort { network, addresses, mac }| {
        let Some(overlay) = overlays.get(network) else {
            return Some(format!("the plan does not name the overlay network {network} that it is in"));
        };
        let name = &overlay.name;
        let outside = addresses.iter().find(|address| !overlay.subnets.iter().any(|net| net.contains(**address)));
        if let Some(problem) = problems.get(network) {
            Some(format!("overlay network {name}: {problem}"))
        } else if let Some(address) = outside {
            Some(format!("address {address} is in no subnet of the overlay network {name}"))
        } else if mac.bytes()[0] & 1 == 1 {
            Some(format!("MAC address {mac} is a group address"))
        } else if !networks.insert(*network) {
            Some(format!("it is in the overlay network {name} twice"))
        } else {
            None
        }
    })
}

fn overlay_problems(
    overlays: &BTreeMap<NetworkId, OverlayPlan>,
    data_path: Option<&DataPath>,
) -> BTreeMap<NetworkId, String> {
    let mut vnis = BTreeMap::new();
    let mut problems = BTreeMap::new();
    for (id, overlay) in overlays {
        let OverlayPlan { vni, mtu, .. } = overlay;
        let problem = if data_path.is_none() {
            "this host has no data path address, so it cannot speak to the others".to_owned()
        } else if *vni == 0 || *vni > VNI_MAX {
            format!("VXLAN network identifier {vni} is outside 1-{VNI_MAX}")
        } else if let Some(mtu) = mtu.filter(|mtu| !MTU_RANGE.contains(mtu)) {
            format!("MTU {mtu} is outside {}-{}", MTU_RANGE.start(), MTU_RANGE.end())
        } else if let Some(other) = vnis.insert(*vni, &overlay.name) {
            format!("VXLAN network identifier {vni} is that of the network {other} too")
        } else {
            continue;
        };
        problems.insert(*id, problem);
    }
    problems
}

/// Of an endpoint's places in local networks; `seen` are the addresses of those before it.
fn local_place_problem(
    endpoint: &EndpointPlan,
    locals: &BTreeMap<NetworkId, LocalNetworkPlan>,
    problems: &BTreeMap<NetworkId, String>,
    seen: &mut BTreeSet<(NetworkId, IpAddr)>,
) -> Option<String> {
    endpoint.locals.iter().find_map(|port| {
        let network = port.network;
        let own = port.addresses().into_iter().chain(port.link_local.iter().copied());
        let Some(plan) = locals.get(&network) else {
            return Some(format!("the plan does not name the network {network} that it is in"));
        };
        let name = &plan.name;
        if let Some(problem) = problems.get(&network) {
            return Some(format!("network {name}: {problem}"));
        }
        plan.place_problem(port).or_else(|| {
            let taken: Vec<IpAddr> = own.filter(|address| !seen.insert((network, *address))).collect();
            let taken = taken.first()?;
            Some(format!("address {taken} of the network {name} is another endpoint's, or it is in there twice"))
        })
    })
}

fn local_problems(plan: &NetworkPlan) -> BTreeMap<NetworkId, String> {
    let mut bridges: Vec<(&str, Cidr)> =
        plan.bridge.iter().map(|bridge| (bridge.name.as_str(), bridge.subnet)).collect();
    let mut problems = BTreeMap::new();
    for (id, local) in &plan.locals {
        let is_bridge = local.bridge().is_some();
        let own: Vec<Cidr> = local.ranges().into_iter().map(|(subnet, _)| subnet).collect();
        let overlaps = |own: &Cidr| {
            let (other, subnet) = bridges.iter().find(|(_, subnet)| is_bridge && subnet.overlaps(*own))?;
            Some(format!("subnet {own} overlaps {subnet} of the bridge network {other}"))
        };
        match local.problem().or_else(|| own.iter().find_map(overlaps)) {
            Some(problem) => drop(problems.insert(*id, problem)),
            None if is_bridge => bridges.extend(own.into_iter().map(|subnet| (local.name.as_str(), subnet))),
            None => {}
        }
    }
    problems
}
