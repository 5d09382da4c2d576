//! What the kernel has of the mesh in the host's namespace, as plain data. Written by `kernel::mesh`, read by `diff`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::load::PortRules;
use crate::MacAddress;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostMesh {
    /// `net.ipv6.conf.all.forwarding`; true where the kernel has no IPv6.
    pub ipv6_forward: bool,
    /// Links of ours through which addresses of 127.0.0.0/8 may be routed.
    pub localnet: BTreeSet<String>,
    /// Whether IPv6 is off on [`super::INGRESS`].
    pub ipv6_off: bool,
    /// What was set on [`super::INGRESS`].
    pub neighbours: BTreeMap<IpAddr, MacAddress>,
    /// The ruleset's number in the kernel when the next three were read; each change of any rule raises it by one.
    #[serde(skip)]
    pub generation: Option<u32>,
    /// As the kernel lists it. None: there is no such table, or `loaded` says what it has.
    pub ports: Option<PortTable>,
    /// From what the table was made that is there: known of what this process has loaded, or compared, itself.
    #[serde(skip)]
    pub loaded: Option<Arc<PortRules>>,
    /// Where the process listens that does for published ports what the kernel cannot ([`crate::proxy`]); None: it does not run.
    pub port_proxy: Option<ProxyPorts>,
    /// Whether a reply to ::1 that comes through [`super::INGRESS`] is this host's.
    pub leads_loopback: bool,
    /// Chains of the operator's table; None: there is no such table.
    pub user_chains: Option<BTreeSet<String>>,
    /// Whether that has chains of ours alone, and no rule and no set.
    pub user_is_empty: bool,
}

/// Ports of this host that published ones are led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyPorts {
    /// For connections that get a PROXY protocol header.
    pub headers: u16,
    /// Over TCP and UDP, for what comes over IPv6 and is sent on over IPv4; None: this host has no IPv6.
    #[serde(default)]
    pub over_ipv4: Option<u16>,
    /// The same at ::1 alone, for what comes from there and is sent on from another address.
    #[serde(default)]
    pub past_loopback: Option<u16>,
}

/// [`super::TABLE`] as it is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortTable {
    /// Chains that have a rule, with their digests ([`super::chain::digest_of`]).
    pub chains: BTreeMap<String, String>,
    /// For each map its keys, as nft writes them, and the chains they lead to.
    pub elements: BTreeMap<String, BTreeMap<String, String>>,
}
