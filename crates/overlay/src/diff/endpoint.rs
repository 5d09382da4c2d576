//! The steps of one endpoint: its namespace, its veth pairs, their insides, and its virtual addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use types::NetworkId;

use super::{
    local::{self, Outer},
    wire::{Parent, Wire, wire_steps},
};
use crate::{
    BridgePlan, BridgePort, Cidr, EndpointId, EndpointPlan, EndpointStep, Inside, Link, LoadedVips, LocalNetworkPlan,
    LocalPort, Namespace, NetworkPlan, Observed, OverlayInside, OverlayNamespace, OverlayPlan, OverlayPort, Place,
    PortRole, WayOut,
    mesh::backend::{self, Backend},
    mtu::planned_mtu,
    plan::{OVERLAY_BRIDGE, local_veth_name, veth_name},
    vip,
};

/// What all endpoints share: computed once.
pub struct Networks<'a> {
    plan: &'a NetworkPlan,
    observed: &'a Observed,
    overlays: BTreeMap<NetworkId, Network<'a>>,
}

struct Network<'a> {
    plan: &'a OverlayPlan,
    inside: Option<&'a OverlayInside>,
    mtu: u32,
    vips: BTreeMap<IpAddr, String>,
    /// Addresses that were endpoints' and are nobody's any more.
    gone: BTreeSet<IpAddr>,
}

impl<'a> Networks<'a> {
    pub fn new(plan: &'a NetworkPlan, observed: &'a Observed) -> Self {
        let mut overlays = BTreeMap::new();
        let lives = live_addresses(plan);
        for (id, overlay) in &plan.overlays {
            let Some(path) = &plan.data_path else { continue };
            let inside = match observed.overlays.get(id) {
                Some(OverlayNamespace::Alive(inside)) => Some(inside),
                _ => None,
            };
            let mtu = planned_mtu(overlay, path, observed, super::overlay::bridge_of(inside).map(|link| link.mtu));
            let vips = vip::digests(&overlay.services);
            let mut gone = known_addresses(overlay, inside, observed);
            gone.retain(|address| !lives.contains(address));
            overlays.insert(*id, Network { plan: overlay, inside, mtu, vips, gone });
        }
        Self { plan, observed, overlays }
    }

    fn wires(&self, id: &EndpointId, endpoint: &EndpointPlan) -> Vec<Wire<'a>> {
        let outer = veth_name(id);
        let mut wires: Vec<Wire<'a>> = Vec::new();
        let way = self.plan.default_way(endpoint);
        let way6 = self.plan.default_way6(endpoint).map(|port| port.network);
        if let (Some(port), Some(bridge)) = (&endpoint.bridge, &self.plan.bridge) {
            let gateway = way.is_none().then(|| WayOut::Gateway(bridge.gateway.into()));
            let wire = self.bridge_wire(endpoint, outer.clone(), port, bridge);
            wires.push(Wire { gateway, ..wire }.with(endpoint.special(None)));
        }
        for port in &endpoint.overlays {
            let Some(network) = self.overlays.get(&port.network) else { continue };
            let addresses = port.addresses.iter().filter_map(|address| with_prefix(network.plan, *address));
            let outside = network.inside.and_then(|inside| inside.links.get(&outer));
            let leads_there = network.inside.is_some_and(|inside| inside.ports.get(&port.mac) == Some(&outer));
            let wire = Wire {
                at: Place::Overlay(port.network),
                parent: None,
                outside,
                bridge: OVERLAY_BRIDGE.to_owned(),
                is_known: leads_there && outside.is_some_and(|link| link.port == Some(PortRole::Endpoint)),
                bridge_index: super::overlay::bridge_of(network.inside).map(|link| link.index),
                outer: outer.clone(),
                inner: endpoint.interface_name(Some(port.network), wires.len()),
                mac: port.mac,
                mtu: network.mtu,
                addresses: addresses.collect(),
                routes: other_ranges(network.plan, &port.addresses),
                gateway: self.mesh_way_out(endpoint, port).map(|address| WayOut::Gateway(address.into())),
                gateway6: None,
                settings: Vec::new(),
                ipv6: None,
            };
            wires.push(wire.with(endpoint.special(Some(port.network))));
        }
        for (port, network) in local::places(self.plan, endpoint) {
            let inner = endpoint.interface_name(Some(port.network), wires.len());
            let wire = self.local_wire(id, port, network, inner);
            let gateway = network.way_out(port).filter(|_| way == Some(port.network));
            let gateway6 = network.way_out6(port).filter(|_| way6 == Some(port.network));
            let wire = Wire { gateway, gateway6, ..wire };
            wires.push(wire.with(endpoint.special(Some(port.network))));
        }
        wires
    }

    fn bridge_wire(&self, endpoint: &EndpointPlan, outer: String, port: &BridgePort, bridge: &BridgePlan) -> Wire<'a> {
        Wire {
            at: Place::Host,
            parent: None,
            outside: self.observed.links.get(&outer),
            bridge: bridge.name.clone(),
            is_known: true,
            bridge_index: super::standing_bridge(&bridge.name, self.observed).map(|link| link.index),
            outer,
            inner: endpoint.interface_name(None, 0),
            mac: port.mac,
            mtu: bridge.mtu,
            addresses: on_bridge(bridge.with_prefix(port.address), &endpoint.bridge_link_local),
            routes: Vec::new(),
            gateway: None,
            gateway6: None,
            settings: Vec::new(),
            ipv6: None,
        }
    }

    /// The mesh's own IPv4 address, where an endpoint has no other way out: replies of datagram sockets that are
    /// bound to no address need one to take their source from.
    fn mesh_way_out(&self, endpoint: &EndpointPlan, port: &OverlayPort) -> Option<Ipv4Addr> {
        let mesh = self.plan.mesh.as_ref().filter(|mesh| mesh.network == port.network && endpoint.bridge.is_none())?;
        if local::places(self.plan, endpoint)
            .any(|(port, network)| !network.internal && network.way_out(port).is_some())
        {
            return None;
        }
        port.addresses.iter().find(|address| address.is_ipv4())?;
        mesh.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
    }

    fn local_wire(&self, id: &EndpointId, port: &LocalPort, network: &LocalNetworkPlan, inner: String) -> Wire<'a> {
        let (outer, mtu) = local::outer(id, port.network, network, self.observed);
        let wire = Wire {
            at: Place::Host,
            parent: None,
            outside: None,
            bridge: String::new(),
            is_known: true,
            bridge_index: None,
            outer: String::new(),
            inner,
            mac: port.mac,
            mtu,
            addresses: network.addresses(port),
            routes: Vec::new(),
            gateway: None,
            gateway6: None,
            settings: Vec::new(),
            ipv6: None,
        };
        match outer {
            Outer::Bridge { name, index, veth, found } => {
                Wire { outside: found, bridge: name, bridge_index: index, outer: veth, ..wire }
            }
            Outer::Parent { name, index } => {
                let kind = network.driver.stacked(port.mac).expect("what has a parent is an interface on it");
                let parent = Parent { network: network.name.clone(), interface: name, index, kind };
                Wire { parent: Some(parent), ..wire }
            }
        }
    }
}

fn on_bridge(address: Cidr, link_local: &[IpAddr]) -> Vec<Cidr> {
    [address].into_iter().chain(link_local.iter().map(|address| crate::plan::link_local(*address))).collect()
}

/// The address as an interface in this network bears it.
pub fn with_prefix(overlay: &OverlayPlan, address: IpAddr) -> Option<Cidr> {
    let subnet = overlay.subnets.iter().find(|subnet| subnet.contains(address))?;
    Cidr::new(address, subnet.prefix()).ok()
}

/// The network's ranges, of families that the endpoint has, in which it has no address.
fn other_ranges(overlay: &OverlayPlan, addresses: &[IpAddr]) -> Vec<Cidr> {
    let speaks = |range: &Cidr| addresses.iter().any(|own| own.is_ipv4() == range.address().is_ipv4());
    let has_none = |range: &&Cidr| speaks(range) && !addresses.iter().any(|own| range.contains(*own));
    overlay.subnets.iter().filter(has_none).copied().collect()
}

/// The addresses that some endpoint of the plan has, here or elsewhere, in whatever network.
fn live_addresses(plan: &NetworkPlan) -> BTreeSet<IpAddr> {
    let remotes = plan.overlays.values().flat_map(|overlay| overlay.remotes.values());
    let mut lives: BTreeSet<IpAddr> = remotes.flat_map(|remote| remote.addresses.iter().copied()).collect();
    for endpoint in plan.endpoints.values() {
        lives.extend(endpoint.bridge.map(|port| IpAddr::V4(port.address)));
        lives.extend(endpoint.overlays.iter().flat_map(|port| &port.addresses));
    }
    lives
}

/// The addresses of this overlay that the kernel knows endpoints by.
fn known_addresses(overlay: &OverlayPlan, inside: Option<&OverlayInside>, observed: &Observed) -> BTreeSet<IpAddr> {
    let mut known: BTreeSet<IpAddr> = inside.iter().flat_map(|inside| inside.neighbours.keys().copied()).collect();
    for namespace in observed.namespaces.values() {
        let Namespace::Alive(inside) = namespace else { continue };
        let addresses = inside.interfaces.values().flat_map(|link| &link.addresses).map(|cidr| cidr.address());
        known.extend(addresses.filter(|address| overlay.subnets.iter().any(|subnet| subnet.contains(*address))));
    }
    known
}

pub fn steps(id: &EndpointId, endpoint: &EndpointPlan, networks: &Networks<'_>) -> Vec<EndpointStep> {
    let mut steps = Vec::new();
    let inside = match networks.observed.namespaces.get(id) {
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
    if !inside.is_some_and(|inside| inside.loopback_up) {
        steps.push(EndpointStep::LoopbackUp);
    }
    let wires = networks.wires(id, endpoint);
    let left_over = inside.iter().flat_map(|inside| inside.interfaces.keys());
    let left_over = left_over.filter(|name| !wires.iter().any(|wire| wire.inner == **name));
    steps.extend(left_over.map(|name| EndpointStep::RemoveInterface { name: name.clone() }));
    let mut rewired = BTreeSet::new();
    for wire in &wires {
        let todo = wire_steps(wire, inside);
        rewired.extend((!todo.is_empty()).then_some(wire.inner.as_str()));
        steps.extend(todo);
    }
    steps.extend(hairpins(id, endpoint, networks.plan, &wires, &rewired));
    steps.extend(isolations(id, endpoint, networks.plan, &wires, &rewired));
    let mesh = mesh_step(&wires, &rewired, inside, networks);
    // Loading those rules moves the ruleset's number on, which those of virtual addresses build upon.
    let loaded = inside.and_then(|inside| inside.vips.as_ref()).filter(|_| mesh.is_none());
    steps.extend(mesh);
    steps.extend(vip_steps(id, endpoint, inside.is_some(), loaded, networks));
    steps
}

/// For one that publishes ports of its own: where they lead to it, over IPv4 and over IPv6.
fn hairpins(
    id: &EndpointId,
    endpoint: &EndpointPlan,
    plan: &NetworkPlan,
    wires: &[Wire<'_>],
    rewired: &BTreeSet<&str>,
) -> Vec<EndpointStep> {
    if endpoint.ports.is_empty() {
        return Vec::new();
    }
    let four = plan.published4(endpoint).map(|(network, _)| network);
    let four = four.map(|network| network.map_or_else(|| veth_name(id), |network| local_veth_name(id, network)));
    let six = plan.published6(endpoint).map(|(network, _)| local_veth_name(id, network));
    let leads = four.into_iter().chain(six).collect();
    unset(wires, rewired, &leads, |link| link.hairpin).map(|name| EndpointStep::Hairpin { name }).collect()
}

/// The outer ends on the host, of these names, that have not what `is_set` looks for, or lose it by being made anew.
fn unset<'w>(
    wires: &'w [Wire<'_>],
    rewired: &'w BTreeSet<&str>,
    names: &'w BTreeSet<String>,
    is_set: fn(&Link) -> bool,
) -> impl Iterator<Item = String> + 'w {
    let meant = wires.iter().filter(|wire| wire.at == Place::Host && names.contains(&wire.outer));
    let stands = move |wire: &Wire<'_>| !rewired.contains(wire.inner.as_str()) && wire.outside.is_some_and(is_set);
    meant.filter(move |wire| !stands(wire)).map(|wire| wire.outer.clone())
}

/// Whether its neighbours in a bridge reach it. A port that is made anew is within reach.
fn isolations(
    id: &EndpointId,
    endpoint: &EndpointPlan,
    plan: &NetworkPlan,
    wires: &[Wire<'_>],
    rewired: &BTreeSet<&str>,
) -> Vec<EndpointStep> {
    let is_apart = |network: &NetworkId| {
        plan.locals.get(network).and_then(LocalNetworkPlan::bridge).is_some_and(|bridge| bridge.apart)
    };
    let apart = endpoint.locals.iter().map(|port| port.network).filter(is_apart);
    let mut apart: BTreeSet<String> = apart.map(|network| local_veth_name(id, network)).collect();
    apart.extend(plan.bridge.as_ref().filter(|bridge| bridge.apart).map(|_| veth_name(id)));
    let parted = unset(wires, rewired, &apart, |link| link.isolated);
    let joined = wires.iter().filter(|wire| wire.at == Place::Host && !apart.contains(&wire.outer));
    let joined = joined.filter(|wire| wire.outside.is_some_and(|link| link.isolated));
    let parted = parted.map(|name| EndpointStep::Isolate { name, apart: true });
    parted.chain(joined.map(|wire| EndpointStep::Isolate { name: wire.outer.clone(), apart: false })).collect()
}

/// Replies through the mesh. Rules and routes may have gone with an interface that is made anew.
fn mesh_step(
    wires: &[Wire<'_>],
    rewired: &BTreeSet<&str>,
    inside: Option<&Inside>,
    networks: &Networks<'_>,
) -> Option<EndpointStep> {
    let had = inside.and_then(|inside| inside.mesh.as_ref());
    let mesh = networks.plan.mesh.as_ref();
    let wire = mesh.and_then(|mesh| wires.iter().find(|wire| wire.at == Place::Overlay(mesh.network)));
    let Some((mesh, wire)) = mesh.zip(wire) else { return had.map(|_| EndpointStep::LeaveMesh) };
    let speaks = |hop: &&IpAddr| wire.addresses.iter().any(|own| own.address().is_ipv4() == hop.is_ipv4());
    // of each family the first: the others are for those that have no other subnet
    let mut next_hops: Vec<IpAddr> = mesh.addresses.iter().filter(speaks).copied().collect();
    next_hops.dedup_by_key(|hop| hop.is_ipv4());
    let way_out = wires.iter().find(|wire| wire.at == Place::Host && wire.gateway.is_some());
    let way_out = way_out.and_then(|wire| wire.addresses.iter().find_map(ipv4));
    let place = backend::Place { interface: &wire.inner, next_hops: &next_hops, way_out };
    if !rewired.contains(wire.inner.as_str()) && had == Some(&Backend::wanted(&place)) {
        return None;
    }
    Some(EndpointStep::JoinMesh { interface: wire.inner.clone(), ruleset: backend::ruleset(&place), next_hops })
}

fn ipv4(address: &Cidr) -> Option<Ipv4Addr> {
    match address.address() {
        IpAddr::V4(v4) => Some(v4),
        IpAddr::V6(_) => None,
    }
}

/// New connections are led elsewhere before the old ones to dead backends end.
fn vip_steps(
    id: &EndpointId,
    endpoint: &EndpointPlan,
    is_there: bool,
    loaded: Option<&LoadedVips>,
    networks: &Networks<'_>,
) -> Vec<EndpointStep> {
    let places: Vec<&Network<'_>> =
        endpoint.overlays.iter().filter_map(|port| networks.overlays.get(&port.network)).collect();
    let mut wanted = BTreeMap::new();
    for network in &places {
        wanted.extend(network.vips.iter().map(|(vip, digest)| (*vip, digest.clone())));
    }
    let backends_of = |vip: &IpAddr| {
        let found = places.iter().find_map(|network| network.plan.services.get(vip));
        found.cloned().unwrap_or_default()
    };
    let load = vip::plan_load(id, wanted, loaded, backends_of);
    let mut steps: Vec<EndpointStep> = Vec::new();
    steps.extend(load.map(|vip::Load { onto, ruleset, digests }| EndpointStep::SetVips { onto, ruleset, digests }));
    let gone: BTreeSet<IpAddr> = places.iter().flat_map(|network| network.gone.iter().copied()).collect();
    if is_there && !gone.is_empty() {
        steps.push(EndpointStep::EndFlows { to: gone });
    }
    steps
}
