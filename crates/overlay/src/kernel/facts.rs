//! What netlink's messages say, as far as it matters here. Pure.

use std::net::IpAddr;

use rtnetlink::packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::{
        InfoBridgePort, InfoData, InfoIpVlan, InfoPortData, InfoVxlan, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo,
        LinkMessage,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};

use types::IpvlanMode;

use crate::{Cidr, Link, MacAddress, PortRole, Vxlan};

/// What the attributes of a link say.
#[derive(Default)]
pub struct Facts {
    pub name: String,
    pub kind: String,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    pub controller: Option<u32>,
    pub peer: Option<u32>,
    pub port: Option<PortRole>,
    pub vxlan: Option<Vxlan>,
    pub hairpin: bool,
    pub isolated: bool,
    pub ipvlan: Option<IpvlanMode>,
}

pub fn facts(link: &LinkMessage) -> Facts {
    let mut facts = Facts::default();
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => facts.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => facts.mtu = *mtu,
            LinkAttribute::Address(bytes) => facts.mac = mac_of(bytes),
            LinkAttribute::Controller(index) => facts.controller = Some(*index).filter(|index| *index != 0),
            LinkAttribute::Link(index) => facts.peer = Some(*index),
            LinkAttribute::LinkInfo(infos) => infos.iter().for_each(|info| match info {
                LinkInfo::Kind(kind) => facts.kind = kind.to_string(),
                LinkInfo::Data(InfoData::Vxlan(infos)) => facts.vxlan = Some(vxlan(infos)),
                LinkInfo::Data(InfoData::IpVlan(infos)) => facts.ipvlan = infos.iter().find_map(ipvlan),
                LinkInfo::PortData(InfoPortData::BridgePort(infos)) => {
                    facts.port = Some(role(infos));
                    facts.hairpin = infos.contains(&InfoBridgePort::HairpinMode(true));
                    facts.isolated = infos.contains(&InfoBridgePort::Isolated(true));
                }
                _ => {}
            }),
            _ => {}
        }
    }
    facts
}

fn vxlan(infos: &[InfoVxlan]) -> Vxlan {
    let mut vxlan = Vxlan { vni: 0, local: None, port: 0, learns: true };
    for info in infos {
        match info {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Local(address) => vxlan.local = Some((*address).into()),
            InfoVxlan::Local6(address) => vxlan.local = Some((*address).into()),
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Learning(learns) => vxlan.learns = *learns,
            _ => {}
        }
    }
    vxlan
}

/// None for a mode that no network of ours has: such an interface is made anew.
fn ipvlan(info: &InfoIpVlan) -> Option<IpvlanMode> {
    match info {
        InfoIpVlan::Mode(IpVlanMode::L2) => Some(IpvlanMode::L2),
        InfoIpVlan::Mode(IpVlanMode::L3) => Some(IpvlanMode::L3),
        InfoIpVlan::Mode(IpVlanMode::L3S) => Some(IpvlanMode::L3s),
        _ => None,
    }
}

fn role(infos: &[InfoBridgePort]) -> PortRole {
    let (mut learns, mut unicast, mut multicast, mut broadcast, mut suppress) = (true, true, true, true, false);
    for info in infos {
        match info {
            InfoBridgePort::Learning(on) => learns = *on,
            InfoBridgePort::UnicastFlood(on) => unicast = *on,
            InfoBridgePort::MulticastFlood(on) => multicast = *on,
            InfoBridgePort::BroadcastFlood(on) => broadcast = *on,
            InfoBridgePort::NeighSupress(on) => suppress = *on,
            _ => {}
        }
    }
    match (learns || unicast, multicast, broadcast, suppress) {
        (false, true, true, false) => PortRole::Endpoint,
        (false, false, false, true) => PortRole::Uplink,
        _ => PortRole::Other,
    }
}

pub fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up)
}

/// Without what only a further question would tell.
pub fn link_of(link: &LinkMessage, facts: Facts) -> Link {
    let Facts { kind, mtu, mac, controller, peer, port, vxlan, hairpin, isolated, .. } = facts;
    let (index, up) = (link.header.index, is_up(link));
    Link { index, kind, up, mtu, mac, controller, peer, port, vxlan, hairpin, isolated, ..Link::default() }
}

/// The interface's addresses without link-local ones of IPv6, which the kernel gives by itself.
pub fn addresses_of(index: u32, addresses: &[AddressMessage]) -> Vec<Cidr> {
    let own = addresses.iter().filter(|message| message.header.index == index).filter_map(cidr_of);
    own.filter(|cidr| !matches!(cidr.address(), IpAddr::V6(v6) if v6.is_unicast_link_local())).collect()
}

/// Those.
pub fn link_local_of(index: u32, addresses: &[AddressMessage]) -> Vec<Cidr> {
    let own = addresses.iter().filter(|message| message.header.index == index).filter_map(cidr_of);
    own.filter(|cidr| matches!(cidr.address(), IpAddr::V6(v6) if v6.is_unicast_link_local())).collect()
}

/// `IFA_LOCAL` is the interface's own address, `IFA_ADDRESS` the other end's on point-to-point links; IPv6
/// has only the latter, unless the two differ.
pub fn cidr_of(message: &AddressMessage) -> Option<Cidr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let only = || {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) if address.is_ipv6() => Some(*address),
            _ => None,
        })
    };
    Cidr::new(local.or_else(only)?, message.header.prefix_len).ok()
}

/// An entry of a forwarding table.
pub enum Forwarding {
    /// Of a VXLAN interface: what is for this address goes to this host.
    Host(MacAddress, IpAddr),
    /// Of a bridge: what is for this address goes through the entry's link.
    Port(MacAddress),
}

/// None for a link's own address, which the kernel keeps by itself.
pub fn forwarding(entry: &NeighbourMessage) -> Option<Forwarding> {
    let mac = link_layer_address(entry)?;
    if entry.header.flags.contains(NeighbourFlags::Own) {
        return destination(entry).map(|host| Forwarding::Host(mac, host));
    }
    let is_of_bridge = entry.attributes.iter().any(|attribute| matches!(attribute, NeighbourAttribute::Controller(_)));
    (is_of_bridge && entry.header.state != NeighbourState::Permanent).then_some(Forwarding::Port(mac))
}

/// An address and what the kernel was told to say for it.
pub fn permanent_neighbour(entry: &NeighbourMessage) -> Option<(IpAddr, MacAddress)> {
    let is_told = entry.header.state == NeighbourState::Permanent;
    is_told.then(|| destination(entry).zip(link_layer_address(entry))).flatten()
}

fn link_layer_address(entry: &NeighbourMessage) -> Option<MacAddress> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => mac_of(bytes),
        _ => None,
    })
}

fn destination(entry: &NeighbourMessage) -> Option<IpAddr> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => super::netfilter::address(bytes),
        _ => None,
    })
}

fn mac_of(bytes: &[u8]) -> Option<MacAddress> {
    bytes.try_into().ok().map(MacAddress::from_bytes)
}
