//! The user's networks of this host alone: bridges of their own, and places on the host's own links (macvlan, ipvlan).
//! Plain data and the names of what is made of it; read by `diff`, `nft` and `dns`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use types::{IpvlanMode, NetworkId};

use super::{
    BRIDGE_MTU, BRIDGE_PREFIX, BridgePlan, EndpointId, EndpointPlan, LINK_NAME_MAX, MTU_RANGE, NetworkPlan, VETH_PREFIX,
};
use crate::{Cidr, Ipam, Ipam6, MacAddress, Stacked, WayOut};

/// The bridges of users' networks start with this. No veth of ours does: `r` is no hexadecimal digit.
pub const USER_BRIDGE_PREFIX: &str = "rs-br";
/// The VLAN interfaces that we make for macvlan and ipvlan networks start with this.
pub const VLAN_PREFIX: &str = "rs-v";
/// Of a VLAN tag (IEEE 802.1Q): 0 and 4095 are reserved.
const VLAN_IDS: std::ops::RangeInclusive<u16> = 1..=4094;
/// The least that a link with IPv6 carries (RFC 8200, section 5); the kernel turns it off below.
const IPV6_LEAST_MTU: u32 = 1280;
/// Of link-local addresses (RFC 3927, RFC 4291).
const LINK_LOCAL_PREFIX: (u8, u8) = (16, 64);

/// A network that ends at this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalNetworkPlan {
    /// For messages.
    pub name: String,
    pub subnet: Cidr,
    /// Of the endpoints' default route; a bridge bears it.
    pub gateway: Ipv4Addr,
    /// In bytes; None: 1500 on a bridge, on a link as much as the link has.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// No way out of it.
    #[serde(default)]
    pub internal: bool,
    pub driver: LocalDriver,
    /// None: IPv4 alone.
    #[serde(default)]
    pub ipv6: Option<Ipv6Range>,
}

/// What of a network is IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Range {
    pub subnet: Cidr,
    /// Of the endpoints' default route; a bridge bears it.
    pub gateway: Ipv6Addr,
}

/// What a local network is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalDriver {
    /// A bridge of its own.
    Bridge {
        /// Whether endpoints reach the world under the host's own address.
        masquerade: bool,
        /// As its user calls it; None: [`bridge_name`].
        #[serde(default)]
        name: Option<String>,
        /// Its endpoints do not reach each other.
        #[serde(default)]
        apart: bool,
    },
    /// Its endpoints are neighbours of whatever is on this link, with MAC addresses of their own.
    Macvlan { parent: ParentLink },
    /// Its endpoints have the link's own MAC address; the kernel tells them apart by their IP addresses.
    Ipvlan { parent: ParentLink, mode: IpvlanMode },
}

/// A link of the host's that is not ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ParentLink {
    pub interface: String,
    /// The tag on it, of a VLAN (IEEE 802.1Q) whose interface is made if the host has none.
    #[serde(default)]
    pub vlan: Option<u16>,
}

/// A place in a local network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPort {
    pub network: NetworkId,
    pub address: Ipv4Addr,
    /// If the network has IPv6.
    #[serde(default)]
    pub address6: Option<Ipv6Addr>,
    /// Further ones that only its neighbours reach, of either family.
    #[serde(default)]
    pub link_local: Vec<IpAddr>,
    pub mac: MacAddress,
    /// By which the others in the network find it, lower case; the first is its own.
    #[serde(default)]
    pub names: Vec<String>,
}

impl LocalPort {
    /// By which others reach it, IPv4 before IPv6.
    pub fn addresses(&self) -> Vec<IpAddr> {
        [IpAddr::V4(self.address)].into_iter().chain(self.address6.map(IpAddr::V6)).collect()
    }
}

impl LocalDriver {
    /// The link that interfaces are put on; None for a bridge.
    pub fn parent(&self) -> Option<&ParentLink> {
        match self {
            Self::Bridge { .. } => None,
            Self::Macvlan { parent } | Self::Ipvlan { parent, .. } => Some(parent),
        }
    }

    /// What an endpoint's interface on that link is.
    pub(crate) fn stacked(&self, mac: MacAddress) -> Option<Stacked> {
        match self {
            Self::Bridge { .. } => None,
            Self::Macvlan { .. } => Some(Stacked::Macvlan { mac }),
            Self::Ipvlan { mode, .. } => Some(Stacked::Ipvlan { mode: *mode }),
        }
    }

    /// Whether the kernel cannot have interfaces of both: a link bears those of one kind, and of ipvlan those of one mode.
    pub fn excludes(&self, other: &Self) -> bool {
        let is_same = match (self, other) {
            (Self::Ipvlan { mode, .. }, Self::Ipvlan { mode: other, .. }) => mode == other,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        };
        !is_same && self.parent().is_some() && self.parent() == other.parent()
    }

    /// For messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Bridge { .. } => "a bridge".to_owned(),
            Self::Macvlan { .. } => "macvlan interfaces".to_owned(),
            Self::Ipvlan { mode, .. } => format!("ipvlan interfaces of mode {}", mode.text()),
        }
    }
}

impl LocalNetworkPlan {
    /// Where an endpoint sends what is for no neighbour: the host routes for those of an ipvlan network that is not L2.
    pub(crate) fn way_out(&self) -> WayOut {
        match self.driver {
            LocalDriver::Ipvlan { mode: IpvlanMode::L3 | IpvlanMode::L3s, .. } => WayOut::Link,
            _ => WayOut::Gateway(self.gateway.into()),
        }
    }

    /// The same over IPv6; None for an endpoint that has no address there.
    pub(crate) fn way_out6(&self, port: &LocalPort) -> Option<WayOut> {
        let ipv6 = self.ipv6.filter(|_| port.address6.is_some())?;
        Some(match self.way_out() {
            WayOut::Link => WayOut::Link,
            WayOut::Gateway(_) => WayOut::Gateway(ipv6.gateway.into()),
        })
    }

    /// The bridge, if it is made of one.
    pub(crate) fn bridge(&self, id: NetworkId) -> Option<BridgePlan> {
        let LocalDriver::Bridge { masquerade, name, apart } = &self.driver else { return None };
        Some(BridgePlan {
            name: name.clone().unwrap_or_else(|| bridge_name(id)),
            subnet: self.subnet,
            gateway: self.gateway,
            mtu: self.mtu.unwrap_or(BRIDGE_MTU),
            masquerade: *masquerade && !self.internal,
            ipv6: self.ipv6,
            apart: *apart,
        })
    }

    /// The endpoint's addresses as its interface in this network bears them.
    pub(crate) fn addresses(&self, port: &LocalPort) -> Vec<Cidr> {
        let four = Cidr::new(port.address.into(), self.subnet.prefix().min(32));
        let six = self.ipv6.zip(port.address6).map(|(ipv6, address)| ipv6.with_prefix(address));
        let link_local = port.link_local.iter().map(|address| link_local(*address));
        [four.expect("a prefix of at most 32 fits IPv4")].into_iter().chain(six).chain(link_local).collect()
    }

    /// Why it cannot be made, as far as can be known without asking the kernel.
    pub(super) fn problem(&self) -> Option<String> {
        if let Some(mtu) = self.mtu.filter(|mtu| !MTU_RANGE.contains(mtu)) {
            return Some(format!("MTU {mtu} is outside {}-{}", MTU_RANGE.start(), MTU_RANGE.end()));
        }
        if let LocalDriver::Bridge { name: Some(name), .. } = &self.driver
            && let Some(problem) = bridge_name_problem(name)
        {
            return Some(problem);
        }
        if let Some(ParentLink { interface, vlan }) = self.driver.parent() {
            if !is_link_name(interface) {
                return Some(format!("{interface:?} is no name of an interface"));
            }
            if let Some(vlan) = vlan.filter(|vlan| !VLAN_IDS.contains(vlan)) {
                return Some(format!("VLAN {vlan} is outside {}-{}", VLAN_IDS.start(), VLAN_IDS.end()));
            }
        }
        Ipam::with_gateway(self.subnet, self.gateway)
            .err()
            .map(|error| error.to_string())
            .or_else(|| self.ipv6_problem())
    }

    fn ipv6_problem(&self) -> Option<String> {
        let Ipv6Range { subnet, gateway } = self.ipv6?;
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu < IPV6_LEAST_MTU) {
            return Some(format!("MTU {mtu} is too small for IPv6, which needs {IPV6_LEAST_MTU} at least"));
        }
        Ipam6::with_gateway(subnet, gateway).err().map(|error| error.to_string())
    }

    /// Why no endpoint can have this place; None where one can.
    pub(super) fn place_problem(&self, port: &LocalPort) -> Option<String> {
        let LocalPort { address, address6, link_local, mac, .. } = port;
        let name = &self.name;
        let ipam = Ipam::with_gateway(self.subnet, self.gateway);
        if !ipam.is_ok_and(|ipam| ipam.is_host_address(*address) && ipam.gateway() != *address) {
            return Some(format!("address {address} cannot be an endpoint's in {} of the network {name}", self.subnet));
        }
        if let Some(address) = address6.filter(|address| !self.ipv6.is_some_and(|ipv6| ipv6.can_be_endpoints(*address)))
        {
            return Some(match self.ipv6 {
                Some(ipv6) => {
                    format!("address {address} cannot be an endpoint's in {} of the network {name}", ipv6.subnet)
                }
                None => format!("address {address}: the network {name} has no IPv6"),
            });
        }
        if let Some(address) = link_local.iter().find(|address| !is_link_local(address)) {
            return Some(format!("{address} is no link-local address: those are of 169.254.0.0/16 or fe80::/10"));
        }
        (mac.bytes()[0] & 1 == 1).then(|| format!("MAC address {mac} is a group address"))
    }
}

/// Whether it is of the addresses that each link has for itself.
pub fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The address as an interface bears it.
pub(crate) fn link_local(address: IpAddr) -> Cidr {
    let (four, six) = LINK_LOCAL_PREFIX;
    Cidr::new(address, if address.is_ipv4() { four } else { six }).expect("both fit their families")
}

impl Ipv6Range {
    /// The address as an interface in this range bears it.
    pub(crate) fn with_prefix(&self, address: Ipv6Addr) -> Cidr {
        Cidr::new(address.into(), self.subnet.prefix().min(128)).expect("a prefix of at most 128 fits IPv6")
    }

    fn can_be_endpoints(&self, address: Ipv6Addr) -> bool {
        let ipam = Ipam6::with_gateway(self.subnet, self.gateway);
        ipam.is_ok_and(|ipam| ipam.is_host_address(address) && ipam.gateway() != address)
    }
}

impl ParentLink {
    /// `eth0`, or `eth0.50` for VLAN 50 on it, as users write it.
    pub fn parse(text: &str) -> Self {
        let tagged = text.rsplit_once('.').and_then(|(interface, tag)| Some((interface, tag.parse().ok()?)));
        match tagged {
            Some((interface, vlan)) => Self { interface: interface.to_owned(), vlan: Some(vlan) },
            None => Self { interface: text.to_owned(), vlan: None },
        }
    }

    /// As users write it, which is how a VLAN's interface is usually called.
    pub fn text(&self) -> String {
        match self.vlan {
            Some(vlan) => format!("{}.{vlan}", self.interface),
            None => self.interface.clone(),
        }
    }

    /// The interface that we make for a VLAN where the host has none of the usual name.
    pub(crate) fn vlan_name(&self) -> Option<String> {
        let mut name = format!("{VLAN_PREFIX}{}-{}", self.vlan?, hash(&self.text()));
        name.truncate(LINK_NAME_MAX);
        Some(name)
    }
}

impl NetworkPlan {
    /// Whether something that the endpoint sends to the world can get there.
    pub(crate) fn has_way_out(&self, endpoint: &EndpointPlan) -> bool {
        let leads_out = |port: &LocalPort| self.locals.get(&port.network).is_some_and(|network| !network.internal);
        endpoint.bridge.is_some() || endpoint.locals.iter().any(leads_out)
    }

    /// The network that its default route leads through; None: the host's bridge, or none at all. The first of those with
    /// the highest priority. What it publishes leads over the host's bridge, and so must its answers.
    pub(crate) fn default_way(&self, endpoint: &EndpointPlan) -> Option<NetworkId> {
        let locals = self.ways_out(endpoint, |_, _| true);
        let bridge = endpoint.bridge.map(|_| (endpoint.bridge_priority, None));
        if bridge.is_some() && !endpoint.ports.is_empty() {
            return None;
        }
        let ways = bridge.into_iter().chain(locals.map(|(priority, port)| (priority, Some(port.network))));
        first_of_highest(ways).flatten()
    }

    /// The place through which it reaches the world over IPv6, and is reached from there.
    pub(crate) fn default_way6<'a>(&'a self, endpoint: &'a EndpointPlan) -> Option<&'a LocalPort> {
        // A place in the ingress network with IPv6 has its own default route.
        let mesh = self.mesh.as_ref().filter(|mesh| mesh.has_ipv6()).map(|mesh| mesh.network);
        if endpoint.overlays.iter().any(|port| Some(port.network) == mesh) {
            return None;
        }
        first_of_highest(self.ways_out(endpoint, |network, port| network.way_out6(port).is_some()))
    }

    /// Where what it publishes is reached over IPv6, past the host's bridge, which has none. This host is no neighbour of
    /// interfaces on its own links.
    pub(crate) fn published6(&self, endpoint: &EndpointPlan) -> Option<(NetworkId, Ipv6Addr)> {
        let port = self.default_way6(endpoint).filter(|_| !endpoint.ports.is_empty())?;
        let is_bridge = self.locals.get(&port.network).is_some_and(|network| network.driver.parent().is_none());
        Some((port.network, port.address6.filter(|_| is_bridge)?))
    }

    fn ways_out<'a>(
        &'a self,
        endpoint: &'a EndpointPlan,
        fits: impl Fn(&LocalNetworkPlan, &LocalPort) -> bool + 'a,
    ) -> impl Iterator<Item = (i64, &'a LocalPort)> {
        endpoint.locals.iter().filter_map(move |port| {
            let network = self.locals.get(&port.network)?;
            let priority = endpoint.priorities.get(&port.network).copied().unwrap_or_default();
            (!network.internal && fits(network, port)).then_some((priority, port))
        })
    }

    /// The VLAN interfaces that endpoints need, by name, with the first network that needs each.
    pub(crate) fn vlans(&self) -> BTreeMap<String, (NetworkId, &ParentLink)> {
        let mut vlans = BTreeMap::new();
        for port in self.endpoints.values().flat_map(|endpoint| &endpoint.locals) {
            let Some(network) = self.locals.get(&port.network) else { continue };
            let Some(parent) = network.driver.parent() else { continue };
            if let Some(name) = parent.vlan_name() {
                vlans.entry(name).or_insert((port.network, parent));
            }
        }
        vlans
    }
}

fn first_of_highest<T>(ways: impl Iterator<Item = (i64, T)>) -> Option<T> {
    let higher = |best: Option<(i64, T)>, way: (i64, T)| match best {
        Some(best) if best.0 >= way.0 => Some(best),
        _ => Some(way),
    };
    ways.fold(None, higher).map(|(_, way)| way)
}

/// The bridge of a network: `rs-br` and 10 hexadecimal digits that depend on the id alone.
pub fn bridge_name(id: NetworkId) -> String {
    format!("{USER_BRIDGE_PREFIX}{}", &hash(&id.to_string())[..10])
}

/// Why a user's bridge cannot have this name.
pub fn bridge_name_problem(name: &str) -> Option<String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !is_link_name(name) || !plain || name.starts_with('.') || matches!(name, "all" | "default") {
        return Some(format!(
            "bridge name {name:?}: use 1 to {LINK_NAME_MAX} letters, digits, '-', '_' or '.', and neither all nor default"
        ));
    }
    let own = [VETH_PREFIX, BRIDGE_PREFIX].into_iter().find(|prefix| name.starts_with(prefix));
    own.map(|prefix| format!("bridge name {name:?}: names that begin with {prefix} are rswarm's own; choose another"))
}

fn is_link_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_graphic() && b != b'/';
    !name.is_empty() && name.len() <= LINK_NAME_MAX && name.bytes().all(is_part)
}

/// The host's end of an endpoint's veth pair into a local bridge.
pub fn local_veth_name(id: &EndpointId, network: NetworkId) -> String {
    format!("{VETH_PREFIX}{}", hash(&format!("{id}/{network}")))
}

/// 12 hexadecimal digits.
fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e17_a_parent_is_an_interface_or_a_vlan_on_one() {
        let parse = |text| (ParentLink::parse(text).interface, ParentLink::parse(text).vlan);
        assert_eq!(parse("eth0"), ("eth0".to_owned(), None));
        assert_eq!(parse("eth0.50"), ("eth0".to_owned(), Some(50)));
        assert_eq!(parse("bond.x"), ("bond.x".to_owned(), None));
        for parent in ["eth0.50", "enp0s31f6.4094"].map(ParentLink::parse) {
            let name = parent.vlan_name().expect("a VLAN");
            assert!(name.len() <= LINK_NAME_MAX && name.starts_with(VLAN_PREFIX), "{name}");
        }
        assert_ne!(ParentLink::parse("eth0.50").vlan_name(), ParentLink::parse("eth1.50").vlan_name());
        let id = NetworkId::from_random(1);
        assert!(bridge_name(id).len() <= LINK_NAME_MAX && bridge_name(id) != bridge_name(NetworkId::from_random(2)));
    }

    /// E-33: what the kernel would refuse, or change for all interfaces on the link.
    #[test]
    fn e33_a_link_bears_one_kind_and_mode() {
        let macvlan = |text| LocalDriver::Macvlan { parent: ParentLink::parse(text) };
        let ipvlan = |text, mode| LocalDriver::Ipvlan { parent: ParentLink::parse(text), mode };
        let l2 = ipvlan("eth0", IpvlanMode::L2);
        assert!(l2.excludes(&macvlan("eth0")) && macvlan("eth0").excludes(&l2));
        assert!(l2.excludes(&ipvlan("eth0", IpvlanMode::L3)));
        assert!(!l2.excludes(&ipvlan("eth0", IpvlanMode::L2)) && !macvlan("eth0").excludes(&macvlan("eth0")));
        assert!(
            !l2.excludes(&macvlan("eth0.50"))
                && !l2.excludes(&LocalDriver::Bridge { masquerade: true, name: None, apart: false })
        );
        let bridge = LocalDriver::Bridge { masquerade: true, name: None, apart: false };
        assert!(!bridge.excludes(&bridge));
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let parent = ParentLink::parse("eth0");
        let good = LocalNetworkPlan {
            name: "lan".to_owned(),
            subnet: "192.0.2.0/24".parse().expect("subnet"),
            gateway: Ipv4Addr::new(192, 0, 2, 1),
            mtu: None,
            internal: false,
            driver: LocalDriver::Macvlan { parent },
            ipv6: None,
        };
        assert_eq!(good.problem(), None);
        let with = |text: &str| LocalNetworkPlan {
            driver: LocalDriver::Macvlan { parent: ParentLink::parse(text) },
            ..good.clone()
        };
        assert_eq!(with("eth0.4095").problem().expect("reserved"), "VLAN 4095 is outside 1-4094");
        assert_eq!(with("a/b").problem().expect("no name"), "\"a/b\" is no name of an interface");
        let six = |subnet: &str, mtu| {
            let gateway = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
            let ipv6 = Some(Ipv6Range { subnet: subnet.parse().expect("subnet"), gateway });
            LocalNetworkPlan { ipv6, mtu, ..good.clone() }.problem()
        };
        assert_eq!(six("fd00::/64", Some(1280)), None);
        assert!(six("fd00::/64", Some(1279)).expect("too small").contains("which needs 1280 at least"));
        assert!(six("fd01::/64", None).expect("outside").starts_with("the gateway fd00::1 is not a host address"));
        let far = LocalNetworkPlan { gateway: Ipv4Addr::new(192, 0, 3, 1), ..good };
        assert!(far.problem().expect("outside").starts_with("the gateway 192.0.3.1 is not a host address"));
    }
}
