//! What the kernel has of our objects, as plain data. Written by `kernel::observe`, read by `diff`.
//!
//! Only what bears one of our names is listed; foreign interfaces, tables and namespaces never appear
//! here, so nothing that compares and removes can touch them.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{Cidr, EndpointId, MacAddress};

/// The state of this host's network, as far as it is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// Host links with our name prefixes, by name.
    pub links: BTreeMap<String, Link>,
    /// One for each file in the directory of namespaces.
    pub namespaces: BTreeMap<EndpointId, Namespace>,
    pub nft: NftTable,
    /// `net.ipv4.ip_forward` of the host's namespace.
    pub ip_forward: bool,
    /// Destinations of the host's other routes and networks of its other addresses: input of `choose_subnet`.
    pub host_routes: Vec<Cidr>,
}

/// An interface in the host's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub index: u32,
    /// `bridge`, `veth`, …; empty when the kernel names none.
    pub kind: String,
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    /// Index of the bridge it is a port of.
    pub controller: Option<u32>,
    /// IPv4 addresses, with their prefix.
    pub addresses: Vec<Cidr>,
    /// Whether IPv6 is off on it; looked at for bridges only.
    pub ipv6_off: bool,
}

/// What stands under a name in the directory of namespaces.
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
    pub interface: Option<InsideLink>,
    /// Gateway of the default route, if there is one.
    pub default_route: Option<Ipv4Addr>,
}

/// `eth0` of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InsideLink {
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<MacAddress>,
    /// Index of its other end in the host's namespace.
    pub peer: Option<u32>,
    pub addresses: Vec<Cidr>,
    /// Whether IPv6 is off on it: an endpoint without an IPv6 address must not listen to router advertisements.
    pub ipv6_off: bool,
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
