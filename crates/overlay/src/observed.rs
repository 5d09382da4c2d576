//! What the kernel has of our objects, as plain data. Written by `kernel::observe`, read by `diff`.
//!
//! What can be removed is listed only if it bears one of our names; foreign tables and namespaces never
//! appear here, foreign interfaces only as `parents`, so nothing that compares and removes can touch them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use types::{IpvlanMode, NetworkId};

use crate::{Cidr, EndpointId, HostMesh, MacAddress, mesh::backend::Backend, tunnel::TunnelNamespace};

/// The state of this host's network, as far as it is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// Host links with our name prefixes, by name.
    pub links: BTreeMap<String, Link>,
    /// One for each file in the directory of endpoint namespaces.
    pub namespaces: BTreeMap<EndpointId, Namespace>,
    /// One for each file in the directory of overlay namespaces.
    pub overlays: BTreeMap<NetworkId, OverlayNamespace>,
    /// None: there is no file of its name.
    #[serde(default)]
    pub tunnel: Option<TunnelNamespace>,
    pub nft: NftTable,
    /// `net.ipv4.ip_forward` of the host's namespace.
    pub ip_forward: bool,
    /// How many neighbours all namespaces of this kernel may know together; None where it cannot be set,
    /// which is everywhere but in the kernel's first namespace.
    #[serde(default)]
    pub neighbour_limit: Option<u32>,
    /// Destinations of the host's other routes and networks of its other addresses: input of `choose_subnet`.
    pub host_routes: Vec<Cidr>,
    #[serde(default)]
    pub mesh: HostMesh,
    /// The host's other interfaces, by name: what macvlan and ipvlan interfaces can be put on.
    #[serde(default)]
    pub parents: BTreeMap<String, Parent>,
    /// The host's other addresses, and the MTU of the interface that bears each.
    pub underlay: BTreeMap<IpAddr, u32>,
    /// The same by interface, but for the loopback's.
    #[serde(default)]
    pub addresses: BTreeMap<String, BTreeSet<IpAddr>>,
}

/// An interface of the host that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub index: u32,
    /// In bytes.
    pub mtu: u32,
}

/// An interface in the host's or an overlay's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Link {
    pub index: u32,
    /// `bridge`, `veth`, …; empty when the kernel names none.
    pub kind: String,
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
    /// Of a veth: index of its other end.
    pub peer: Option<u32>,
    /// With their prefix, without IPv6's link-local ones; looked at in the host's namespace only.
    pub addresses: Vec<Cidr>,
    /// Whether IPv6 is off on it; looked at for the host's bridges only.
    pub ipv6_off: bool,
    /// How its bridge treats it; looked at in an overlay's namespace only.
    pub port: Option<PortRole>,
    pub vxlan: Option<Vxlan>,
    /// Whether its bridge sends back to it what came from it.
    #[serde(default)]
    pub hairpin: bool,
    /// Whether its bridge forwards nothing between it and other such ports.
    #[serde(default)]
    pub isolated: bool,
}

/// What a bridge does for one of its ports, as far as it differs between those of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortRole {
    /// Learns nothing and sends nothing there for want of a better idea; broadcast and multicast reach it.
    Endpoint,
    /// The same, but broadcast and multicast stay here: questions for neighbours are answered by the bridge.
    Uplink,
    Other,
}

/// Where a VXLAN interface sends to and from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    pub vni: u32,
    pub local: Option<IpAddr>,
    pub port: u16,
    pub learns: bool,
}

/// What stands under a name in the directory of endpoint namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A file without a namespace behind it: left by a crash between two steps.
    Stale,
    Alive(Inside),
}

/// The inside of an endpoint's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inside {
    pub loopback_up: bool,
    /// `eth0`, `eth1`, …, and what users named.
    pub interfaces: BTreeMap<String, InsideLink>,
    /// The default route, if there is one.
    pub default_route: Option<WayOut>,
    /// The same of IPv6.
    #[serde(default)]
    pub default_route6: Option<WayOut>,
    /// The virtual addresses that are balanced there; None when that is not known: then all are loaded again.
    pub vips: Option<LoadedVips>,
    /// What is there of the mesh's rules for replies, if anything is.
    #[serde(default)]
    pub mesh: Option<Backend>,
}

/// An interface of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InsideLink {
    pub index: u32,
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    /// Index of its other end in the host's or the overlay's namespace; of one on a link: of that link.
    pub peer: Option<u32>,
    /// None: the end of a veth pair.
    #[serde(default)]
    pub stacked: Option<Stacked>,
    /// Without IPv6's link-local ones: the kernel gives some by itself.
    pub addresses: Vec<Cidr>,
    /// Those.
    #[serde(default)]
    pub link_local: Vec<Cidr>,
    /// Ranges that are on its link beside those of its addresses: of those that we told it.
    #[serde(default)]
    pub routes: Vec<Cidr>,
    /// Whether IPv6 is off on it: an endpoint without an IPv6 address must not listen to router advertisements.
    pub ipv6_off: bool,
}

/// An interface of an endpoint on a link of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stacked {
    Macvlan {
        mac: MacAddress,
    },
    /// With the link's MAC address.
    Ipvlan {
        mode: IpvlanMode,
    },
}

impl Stacked {
    /// The kernel's word for it, and the name of its module.
    pub fn driver(self) -> &'static str {
        match self {
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan { .. } => "ipvlan",
        }
    }
}

/// By which an endpoint sends what is for no neighbour of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WayOut {
    Gateway(IpAddr),
    /// The link takes everything, and knows where to.
    Link,
}

impl fmt::Display for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(gateway) => write!(f, "via {gateway}"),
            Self::Link => f.write_str("without a gateway"),
        }
    }
}

/// The table of virtual addresses in an endpoint's namespace, which nobody has changed since it was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedVips {
    /// The ruleset's number in the kernel (`NFTA_GEN_ID`): each change of any rule raises it.
    pub generation: u32,
    /// For each address the digest of its rules.
    pub digests: BTreeMap<IpAddr, String>,
}

/// What stands under a name in the directory of overlay namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlayNamespace {
    /// A file without a namespace behind it: left by a crash between two steps.
    Stale,
    Alive(OverlayInside),
}

/// The inside of an overlay's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OverlayInside {
    /// All but the loopback.
    pub links: BTreeMap<String, Link>,
    /// To which host the VXLAN interface sends what is for a MAC address.
    pub hosts: BTreeMap<MacAddress, IpAddr>,
    /// Through which link the bridge sends what is for a MAC address; without the links' own addresses.
    pub ports: BTreeMap<MacAddress, String>,
    /// With which the bridge answers questions for neighbours.
    pub neighbours: BTreeMap<IpAddr, MacAddress>,
}

/// Our nftables table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NftTable {
    #[default]
    Absent,
    /// It still is exactly what was loaded; the text of `nft::render` had this digest.
    Loaded { digest: String },
    /// It was changed by somebody else, or loaded by a version that left no record.
    Unknown,
}
