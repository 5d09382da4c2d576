//! The user's networks of this host alone: bridges of their own, and places on the host's own links (macvlan, ipvlan).
//! Plain data and the names of what is made of it; read by `diff`, `nft` and `dns`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use types::{IpvlanMode, NetworkId};

use super::{EndpointId, LINK_NAME_MAX, LocalBridge, MTU_RANGE, NetworkPlan, VETH_PREFIX};
use crate::{Cidr, Ipam, Ipam6, MacAddress, Stacked, WayOut};

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
    /// For messages, and among several ways out of an endpoint.
    pub name: String,
    /// None: IPv6 alone.
    #[serde(flatten)]
    pub ipv4: Option<Ipv4Range>,
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

/// What of a network is IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4Range {
    pub subnet: Cidr,
    /// Of the endpoints' default route; a bridge bears it.
    pub gateway: Ipv4Addr,
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
    Bridge(LocalBridge),
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
    /// If the network has IPv4.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
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
        self.address.map(IpAddr::V4).into_iter().chain(self.address6.map(IpAddr::V6)).collect()
    }
}

impl LocalDriver {
    /// The link that interfaces are put on; None for a bridge.
    pub fn parent(&self) -> Option<&ParentLink> {
        match self {
            Self::Bridge(_) => None,
            Self::Macvlan { parent } | Self::Ipvlan { parent, .. } => Some(parent),
        }
    }

    /// What an endpoint's interface on that link is.
    pub(crate) fn stacked(&self, mac: MacAddress) -> Option<Stacked> {
        match self {
            Self::Bridge(_) => None,
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
            Self::Bridge(_) => "a bridge".to_owned(),
            Self::Macvlan { .. } => "macvlan interfaces".to_owned(),
            Self::Ipvlan { mode, .. } => format!("ipvlan interfaces of mode {}", mode.text()),
        }
    }
}

impl LocalNetworkPlan {
    /// Where an endpoint sends what is for no neighbour over IPv4; None for one that has no address there.
    pub(crate) fn way_out(&self, port: &LocalPort) -> Option<WayOut> {
        self.ipv4.filter(|_| port.address.is_some()).map(|ipv4| self.way_by(ipv4.gateway.into()))
    }

    /// The same over IPv6.
    pub(crate) fn way_out6(&self, port: &LocalPort) -> Option<WayOut> {
        self.ipv6.filter(|_| port.address6.is_some()).map(|ipv6| self.way_by(ipv6.gateway.into()))
    }

    /// The host routes for those of an ipvlan network that is not L2.
    fn way_by(&self, gateway: IpAddr) -> WayOut {
        match self.driver {
            LocalDriver::Ipvlan { mode: IpvlanMode::L3 | IpvlanMode::L3s, .. } => WayOut::Link,
            _ => WayOut::Gateway(gateway),
        }
    }

    /// Its ranges with their gateways, IPv4 before IPv6.
    pub fn ranges(&self) -> Vec<(Cidr, IpAddr)> {
        let six = self.ipv6.map(|ipv6| (ipv6.subnet, ipv6.gateway.into()));
        let four = self.ipv4.map(|ipv4| (ipv4.subnet, ipv4.gateway.into()));
        four.into_iter().chain(six).collect()
    }

    /// The endpoint's addresses as its interface in this network bears them.
    pub(crate) fn addresses(&self, port: &LocalPort) -> Vec<Cidr> {
        let four = self.ipv4.zip(port.address).map(|(ipv4, address)| ipv4.with_prefix(address));
        let six = self.ipv6.zip(port.address6).map(|(ipv6, address)| ipv6.with_prefix(address));
        let link_local = port.link_local.iter().map(|address| link_local(*address));
        four.into_iter().chain(six).chain(link_local).collect()
    }

    /// Why it cannot be made, as far as can be known without asking the kernel.
    pub(super) fn problem(&self) -> Option<String> {
        if let Some(mtu) = self.mtu.filter(|mtu| !MTU_RANGE.contains(mtu)) {
            return Some(format!("MTU {mtu} is outside {}-{}", MTU_RANGE.start(), MTU_RANGE.end()));
        }
        if let Some(problem) = self.bridge().and_then(|bridge| bridge.problem(self.internal)) {
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
        if self.ranges().is_empty() {
            return Some("it has neither IPv4 nor IPv6".to_owned());
        }
        let four = self.ipv4.and_then(|ipv4| Ipam::with_gateway(ipv4.subnet, ipv4.gateway).err());
        four.map(|error| error.to_string()).or_else(|| self.ipv6_problem())
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
        let strange = |address: IpAddr, subnet: Option<Cidr>, family: &str| match subnet {
            Some(subnet) => format!("address {address} cannot be an endpoint's in {subnet} of the network {name}"),
            None => format!("address {address}: the network {name} has no {family}"),
        };
        let not_ours = |address: &Ipv4Addr| !self.ipv4.is_some_and(|ipv4| ipv4.can_be_endpoints(*address));
        if let Some(address) = address.filter(not_ours) {
            return Some(strange(address.into(), self.ipv4.map(|ipv4| ipv4.subnet), "IPv4"));
        }
        let not_ours = |address: &Ipv6Addr| !self.ipv6.is_some_and(|ipv6| ipv6.can_be_endpoints(*address));
        if let Some(address) = address6.filter(not_ours) {
            return Some(strange(address.into(), self.ipv6.map(|ipv6| ipv6.subnet), "IPv6"));
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

impl Ipv4Range {
    /// The address as an interface in this range bears it.
    pub(crate) fn with_prefix(&self, address: Ipv4Addr) -> Cidr {
        Cidr::new(address.into(), self.subnet.prefix().min(32)).expect("a prefix of at most 32 fits IPv4")
    }

    fn can_be_endpoints(&self, address: Ipv4Addr) -> bool {
        let ipam = Ipam::with_gateway(self.subnet, self.gateway);
        ipam.is_ok_and(|ipam| ipam.is_host_address(address) && ipam.gateway() != address)
    }
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

pub(super) fn is_link_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_graphic() && b != b'/';
    !name.is_empty() && name.len() <= LINK_NAME_MAX && name.bytes().all(is_part)
}

/// The host's end of an endpoint's veth pair into a local bridge.
pub fn local_veth_name(id: &EndpointId, network: NetworkId) -> String {
    format!("{VETH_PREFIX}{}", hash(&format!("{id}/{network}")))
}

/// 12 hexadecimal digits.
pub(super) fn hash(text: &str) -> String {
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
        assert!(!l2.excludes(&macvlan("eth0.50")) && !l2.excludes(&LocalDriver::Bridge(LocalBridge::default())));
        let bridge = LocalDriver::Bridge(LocalBridge::default());
        assert!(!bridge.excludes(&bridge));
    }

    #[test]
    fn what_cannot_be_made_is_said() {
        let parent = ParentLink::parse("eth0");
        let good = LocalNetworkPlan {
            name: "lan".to_owned(),
            ipv4: Some(Ipv4Range {
                subnet: "192.0.2.0/24".parse().expect("subnet"),
                gateway: Ipv4Addr::new(192, 0, 2, 1),
            }),
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
        let far = good.ipv4.map(|ipv4| Ipv4Range { gateway: Ipv4Addr::new(192, 0, 3, 1), ..ipv4 });
        let far = LocalNetworkPlan { ipv4: far, ..good.clone() };
        assert!(far.problem().expect("outside").starts_with("the gateway 192.0.3.1 is not a host address"));
    }

    /// E-31: a plan from before IPv4 could be left out is read as it was meant, and one without it says so.
    #[test]
    fn e31_a_network_of_ipv6_alone() {
        let text = r#"{"name":"net","subnet":"10.1.0.0/24","gateway":"10.1.0.1","internal":false,
            "driver":{"bridge":{"masquerade":true}},"ipv6":{"subnet":"fd00:1::/64","gateway":"fd00:1::1"}}"#;
        let before: LocalNetworkPlan = serde_json::from_str(text).expect("a plan of before");
        assert_eq!(before.ipv4.map(|ipv4| ipv4.gateway), Some(Ipv4Addr::new(10, 1, 0, 1)));
        let alone = LocalNetworkPlan { ipv4: None, ..before.clone() };
        for plan in [&before, &alone] {
            let text = serde_json::to_string(plan).expect("encode");
            assert_eq!(serde_json::from_str::<LocalNetworkPlan>(&text).expect("decode"), *plan);
            assert_eq!(plan.problem(), None);
        }
        assert_eq!(
            LocalNetworkPlan { ipv6: None, ..alone.clone() }.problem().as_deref(),
            Some("it has neither IPv4 nor IPv6")
        );
        let port = |text: &str| serde_json::from_str::<LocalPort>(text).expect("a place");
        let network = NetworkId::from_random(1);
        let both = port(&format!(r#"{{"network":"{network}","address":"10.1.0.2","mac":"02:42:0a:01:00:02"}}"#));
        assert_eq!((both.address, before.place_problem(&both)), (Some([10, 1, 0, 2].into()), None));
        let said = alone.place_problem(&both).expect("it has no IPv4");
        assert_eq!(said, "address 10.1.0.2: the network net has no IPv4");
        let six = LocalPort { address: None, address6: "fd00:1::2".parse().ok(), ..both };
        assert_eq!((alone.place_problem(&six), alone.way_out(&six)), (None, None));
        assert_eq!(alone.addresses(&six), ["fd00:1::2/64".parse::<Cidr>().expect("address")]);
    }
}
