//! The ingress routing mesh and published ports, as rules in text. Pure; `kernel::mesh` loads them.
//!
//! On the host a table of its own leads what arrives at a published port to a backend, whose namespace
//! may be on any host, and leaves the client's address as it is ([`ports`], [`skeleton`], [`spread`]). In
//! each backend's namespace a second table remembers through which host a connection came and sends the
//! replies back that way ([`backend`]).
//!
//! Each rule bears in its comment what tells its chain from others and how many rules that has
//! ([`chain`]). So the kernel itself says what is loaded; no record could be out of date, whoever changed
//! what. A change touches the chains that differ, whatever their number ([`load`]).

pub mod backend;
pub mod chain;
pub mod load;
mod observed;
pub mod ports;
pub mod skeleton;
mod spread;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::NetworkPlan;

pub use observed::{HostMesh, PortTable, ProxyPorts};

/// This host's own port in the ingress network, and its other end in the network's namespace.
pub const INGRESS: &str = "rs-ingress";
/// The host's table of published ports, family `inet`.
pub const TABLE: &str = "rswarm-ports";
/// The operator's own table, family `inet`: never changed once it is there.
pub const USER_TABLE: &str = "rswarm-user";
/// Both tables in a backend's namespace, families `inet` and `netdev`.
pub const BACKEND_TABLE: &str = "rswarm-mesh";
/// What every mesh port's address begins with ([`crate::MacAddress::for_node`]).
pub const MAC_PREFIX: [u8; 2] = [0x02, 0xd2];
/// In the mark of a connection that came through the mesh, which is the rest of such an address in the
/// order of the wire: the bit that is set in all of them.
pub const MARK_BIT: u32 = u32::from_ne_bytes([0, 0, 0, 0x80]);
/// In a backend's namespace: the routes of replies, and the place of the rule that leads to them. "rs".
pub const ROUTES: u32 = 0x7273;
pub const RULE_PRIORITY: u32 = 99;

/// What the marks of connections have in common that [`crate::proxy`] makes; the rest says whose slot it is. "rs".
pub const RELAY_MARK: u32 = 0x7273_0000;
pub const RELAY_MASK: u32 = 0xffff_0000;

/// The mark of a connection that is made for this client.
pub fn relay_mark(client: IpAddr) -> u32 {
    RELAY_MARK | spread::slot_of(client)
}

/// Rules of both namespaces with every word that ours have, to find out what the kernel knows.
pub fn trial_ruleset(interface: &str) -> String {
    let skeleton = skeleton::chains(&NetworkPlan::default(), Some(1500));
    let rules = load::PortRules { skeleton, ..load::PortRules::default() };
    let mut text = rules.load_over(None).unwrap_or_default().ruleset;
    let next_hops = [IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)), Ipv6Addr::LOCALHOST.into()];
    let way_out = Some(Ipv4Addr::new(192, 0, 2, 2));
    text.push_str(&backend::ruleset(&backend::Place { interface, next_hops: &next_hops, way_out }));
    text
}

/// The chains of the operator's table.
pub const USER_CHAINS: [&str; 2] = ["prerouting", "forward"];

/// Makes what is missing of the operator's table. Its first chain sees a packet before any port is
/// translated, its second what is forwarded before anyone else drops it.
pub fn user_table() -> String {
    format!(
        "add table inet {USER_TABLE}\n\
         add chain inet {USER_TABLE} prerouting {{ type filter hook prerouting priority dstnat - 10; }}\n\
         add chain inet {USER_TABLE} forward {{ type filter hook forward priority filter - 10; }}\n"
    )
}
