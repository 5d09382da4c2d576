//! One interface of an endpoint, as it shall be, and the steps that make it so.

use crate::{
    Cidr, EndpointStep, Inside, InsideLink, InsideStep, InterfacePlan, InterfaceSetting, Link, MacAddress, Place,
    Stacked, WayOut,
};

/// One interface of an endpoint, as it shall be: a veth pair, or an interface on a link of the host's.
pub struct Wire<'a> {
    pub at: Place,
    /// The host's interface that it is on: then there is no outer end.
    pub parent: Option<Parent>,
    /// The outer end, if it is there.
    pub outside: Option<&'a Link>,
    pub bridge: String,
    /// None: the bridge is yet to be made.
    pub bridge_index: Option<u32>,
    /// Whether the bridge treats the port as it shall.
    pub is_known: bool,
    pub outer: String,
    pub inner: String,
    pub mac: MacAddress,
    pub mtu: u32,
    pub addresses: Vec<Cidr>,
    /// Ranges on its link that none of its addresses is in.
    pub routes: Vec<Cidr>,
    pub gateway: Option<WayOut>,
    /// The same of IPv6.
    pub gateway6: Option<WayOut>,
    pub settings: Vec<InterfaceSetting>,
    /// None: as its addresses want it.
    pub ipv6: Option<bool>,
}

pub struct Parent {
    /// Of the user's network, for messages.
    pub network: String,
    pub interface: String,
    /// None: not there yet.
    pub index: Option<u32>,
    pub kind: Stacked,
}

impl Wire<'_> {
    /// With what its user set for it. Where he turned IPv6 off, it has none, whatever its network has.
    pub fn with(mut self, special: Option<&InterfacePlan>) -> Self {
        let Some(special) = special else { return self };
        self.settings.clone_from(&special.settings);
        self.ipv6 = special.ipv6();
        if self.ipv6 == Some(false) {
            self.addresses.retain(|address| address.address().is_ipv4());
            self.routes.retain(|range| range.address().is_ipv4());
            self.gateway6 = None;
        }
        self
    }
}

pub fn wire_steps(wire: &Wire<'_>, inside: Option<&Inside>) -> Vec<EndpointStep> {
    if let Some(parent) = &wire.parent {
        return stacked_steps(wire, parent, inside);
    }
    let mut steps = Vec::new();
    let Wire { at, outside, outer, inner, mac, mtu, .. } = wire;
    let interface = inside.and_then(|inside| inside.interfaces.get(inner));
    let pair = outside.zip(interface).filter(|(out, within)| is_pair(out, within, *mac));
    if pair.is_none() {
        if outside.is_some() {
            steps.push(EndpointStep::RemoveVeth { at: *at, name: outer.clone() });
        }
        // Gone already with the outer end when the two were a pair; performing it twice is the same as once.
        if interface.is_some() {
            steps.push(EndpointStep::RemoveInterface { name: inner.clone() });
        }
        let (name, inside) = (outer.clone(), inner.clone());
        steps.push(EndpointStep::CreateVeth { at: *at, name, inside, mac: *mac, mtu: *mtu });
    }
    steps.extend(attachment(wire, pair.map(|(out, _)| out)));
    let within = inside_steps(wire, inside, pair.map(|(_, within)| within));
    if !within.is_empty() {
        steps.push(EndpointStep::Inside { interface: inner.clone(), steps: within });
    }
    steps
}

fn stacked_steps(wire: &Wire<'_>, parent: &Parent, inside: Option<&Inside>) -> Vec<EndpointStep> {
    let mut steps = Vec::new();
    let Wire { inner, mtu, .. } = wire;
    let found = inside.and_then(|inside| inside.interfaces.get(inner));
    let is_right =
        |link: &&InsideLink| link.stacked == Some(parent.kind) && parent.index.is_some() && link.peer == parent.index;
    let kept = found.filter(is_right);
    if kept.is_none() {
        steps.extend(found.map(|_| EndpointStep::RemoveInterface { name: inner.clone() }));
        steps.push(EndpointStep::CreateStacked {
            network: parent.network.clone(),
            parent: parent.interface.clone(),
            inside: inner.clone(),
            kind: parent.kind,
            mtu: *mtu,
        });
    }
    let within = inside_steps(wire, inside, kept);
    if !within.is_empty() {
        steps.push(EndpointStep::Inside { interface: inner.clone(), steps: within });
    }
    steps
}

/// Both ends must agree: an index alone may belong to a link of another namespace.
fn is_pair(outside: &Link, inside: &InsideLink, mac: MacAddress) -> bool {
    let agree = inside.peer == Some(outside.index) && outside.peer == Some(inside.index) && inside.stacked.is_none();
    outside.kind == "veth" && agree && inside.mac == Some(mac)
}

fn attachment(wire: &Wire<'_>, kept: Option<&Link>) -> Option<EndpointStep> {
    let in_bridge = |out: &Link| out.controller.is_some() && out.controller == wire.bridge_index;
    if kept.is_some_and(|out| out.up && out.mtu == wire.mtu && in_bridge(out)) && wire.is_known {
        return None;
    }
    let (name, mtu) = (wire.outer.clone(), wire.mtu);
    Some(match wire.at {
        Place::Host => EndpointStep::Attach { name, bridge: wire.bridge.clone(), mtu },
        Place::Overlay(network) => EndpointStep::Plug { network, name, mac: wire.mac, mtu },
    })
}

fn inside_steps(wire: &Wire<'_>, inside: Option<&Inside>, kept: Option<&InsideLink>) -> Vec<InsideStep> {
    let mut steps = Vec::new();
    let wants_ipv6 = wire.ipv6.unwrap_or_else(|| wire.addresses.iter().any(|address| address.address().is_ipv6()));
    if kept.is_none_or(|link| link.ipv6_off == wants_ipv6) {
        steps.push(if wants_ipv6 { InsideStep::EnableIpv6 } else { InsideStep::DisableIpv6 });
    }
    if kept.is_some_and(|link| link.mtu != wire.mtu) {
        steps.push(InsideStep::SetMtu(wire.mtu));
    }
    let had: &[Cidr] = kept.map_or(&[], |link| &link.addresses);
    let stands = |address: &Cidr| had.contains(address) || kept.is_some_and(|link| link.link_local.contains(address));
    let spare = had.iter().filter(|address| !wire.addresses.contains(address));
    let lacking = wire.addresses.iter().filter(|address| !stands(address));
    let changes = spare.map(|address| InsideStep::RemoveAddress(*address));
    let changes: Vec<_> = changes.chain(lacking.map(|address| InsideStep::AddAddress(*address))).collect();
    let addresses_stand = changes.is_empty();
    steps.extend(changes);
    if !kept.is_some_and(|link| link.up) {
        // first, so that one that could not be set is tried again
        steps.extend(wire.settings.iter().cloned().map(InsideStep::Set));
        steps.push(InsideStep::InterfaceUp);
    }
    // The kernel drops routes with their interface and with their source address: then they must come again.
    let route_stands = addresses_stand && kept.is_some_and(|link| link.up);
    let routes: &[Cidr] = kept.map_or(&[], |link| &link.routes);
    steps.extend(
        routes.iter().filter(|range| !wire.routes.contains(range)).map(|range| InsideStep::RemoveRoute(*range)),
    );
    let lacking = wire.routes.iter().filter(|range| !route_stands || !routes.contains(range));
    steps.extend(lacking.map(|range| InsideStep::AddRoute(*range)));
    let lacks = |way: &WayOut, had: Option<WayOut>| !route_stands || had != Some(*way);
    let had = inside.and_then(|inside| inside.default_route);
    steps.extend(wire.gateway.filter(|way| lacks(way, had)).map(InsideStep::DefaultRoute));
    let had = inside.and_then(|inside| inside.default_route6);
    steps.extend(wire.gateway6.filter(|way| lacks(way, had)).map(InsideStep::DefaultRoute6));
    steps
}
