//! What lets a backend reply through the host that a connection came by, in the backend's own namespace. Pure.
//!
//! The frame that begins a connection has the entry host's address as its source. Four bytes of it become
//! the connection's mark, the mark of its replies leads them to the mesh's interface (one rule, one route),
//! and on the way out the same four bytes become the frame's destination. Nothing here depends on how many
//! hosts there are, and nothing changes when one comes or goes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use serde::{Deserialize, Serialize};

use super::{
    BACKEND_TABLE, MAC_PREFIX, MARK_BIT,
    chain::{Chain, short_digest},
};
use crate::MacAddress;

/// The chain of the family `netdev`.
pub const EGRESS: &str = "to-host";
/// Goes into its digest, with the interface.
const EGRESS_VERSION: u32 = 1;

/// What a namespace needs, or has, to reply through the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Backend {
    /// Its interface in the ingress network.
    pub interface: String,
    /// Chains of both tables, with their digests.
    pub chains: BTreeMap<String, String>,
    /// The mesh's own addresses, IPv4 before IPv6. Replies of this family are routed to it, under an address
    /// that the way out completes.
    pub next_hops: Vec<IpAddr>,
    /// Whether the main table's way out for IPv6 is the mesh: a datagram socket bound to no address takes its
    /// source from there, before a mark could lead it.
    pub leads_ipv6: bool,
    /// Whether sources are accepted that no route leads back to, and accepted connections keep their mark.
    pub is_prepared: bool,
}

/// The mesh's side of an endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub interface: &'a str,
    /// The mesh's own addresses in the network.
    pub next_hops: &'a [IpAddr],
    /// The address that its default route uses, if it has one on a bridge.
    pub way_out: Option<Ipv4Addr>,
}

/// What the neighbour entry of the next hop says: the way out writes the rest of the address.
pub const fn next_hop_mac() -> MacAddress {
    let [a, b] = MAC_PREFIX;
    MacAddress::from_bytes([a, b, 0, 0, 0, 0])
}

impl Backend {
    pub fn wanted(place: &Place<'_>) -> Self {
        let mut chains: BTreeMap<String, String> =
            chains(place).iter().map(|chain| (chain.name.clone(), chain.digest())).collect();
        chains.insert(EGRESS.to_owned(), egress_digest(place.interface));
        Self {
            interface: place.interface.to_owned(),
            chains,
            next_hops: place.next_hops.to_vec(),
            leads_ipv6: place.next_hops.iter().any(IpAddr::is_ipv6),
            is_prepared: true,
        }
    }
}

/// The chain on the way out, which only `kernel::mesh` can write, depends on nothing else.
pub fn egress_digest(interface: &str) -> String {
    short_digest(format!("{EGRESS_VERSION} {interface}"))
}

/// The table of family `inet`, in place of whatever is there.
pub fn ruleset(place: &Place<'_>) -> String {
    let mut text =
        format!("table inet {BACKEND_TABLE}\ndelete table inet {BACKEND_TABLE}\nadd table inet {BACKEND_TABLE}\n");
    for chain in chains(place) {
        chain.write(&mut text, BACKEND_TABLE, &chain.digest());
    }
    text
}

/// Rules that every packet meets ask for an interface's name as late as they can: to compare it, the kernel copies it.
fn chains(place: &Place<'_>) -> Vec<Chain> {
    let Place { interface, way_out, .. } = place;
    let [a, b] = MAC_PREFIX;
    let prefix = u16::from_be_bytes([a, b]);
    let marked = format!("ct mark & {MARK_BIT:#x} != 0");
    let mut chains = vec![
        // Two hosts may lead the same client and port here. A zone each keeps them apart on the way in; on the
        // way out there is one, so the second gets another source port (see `distinct`).
        Chain::new(
            "from-hosts",
            Some("filter hook prerouting priority raw"),
            vec![
                format!("iifname != \"{interface}\" accept"),
                format!("@ll,48,16 != {prefix:#x} drop"),
                "ct original zone set @ll,80,16".to_owned(),
            ],
        ),
        Chain::new(
            "remember",
            Some("filter hook prerouting priority mangle"),
            vec![
                format!("ct state new iifname \"{interface}\" ct mark set @ll,64,32"),
                format!("ct direction reply {marked} iifname != \"{interface}\" meta mark set ct mark"),
            ],
        ),
        // After routing: an accepted connection takes the mark for its own and is routed by it from then on. Only
        // what came from a host has a mark and a zone, so its direction says as much as its interface would.
        Chain::new(
            "arrived",
            Some("filter hook input priority mangle"),
            vec![format!("ct direction original {marked} meta mark set ct mark")],
        ),
        Chain::new("distinct", Some("nat hook input priority 100"), vec!["continue".to_owned()]),
        Chain::new(
            "replies",
            Some("route hook output priority mangle"),
            vec![format!("ct direction reply {marked} meta mark set ct mark")],
        ),
        Chain::new(
            "leave",
            None,
            vec![
                format!("ct direction reply {marked} accept"),
                "ct state untracked accept".to_owned(),
                "meta l4proto tcp reject with tcp reset".to_owned(),
                "reject with icmpx admin-prohibited".to_owned(),
            ],
        ),
        Chain::new(
            "output",
            Some("filter hook output priority filter"),
            vec![format!("ct direction reply {marked} accept"), format!("oifname \"{interface}\" goto leave")],
        ),
        Chain::new(
            "forward",
            Some("filter hook forward priority filter"),
            vec![format!("oifname \"{interface}\" goto leave")],
        ),
    ];
    chains.extend(way_out.map(|address| to_way_out(place, address)));
    chains
}

/// A datagram socket bound to no address replies with the source of the main table's route. What arrives for
/// nobody in particular goes to that very address, so that the reply belongs to its connection. To the mesh's own
/// address, which is that of its host's loopback, the main table leads through the mesh anyway.
fn to_way_out(Place { interface, next_hops, .. }: &Place<'_>, address: Ipv4Addr) -> Chain {
    let mut rules = vec![
        format!("iifname != \"{interface}\" accept"),
        "meta l4proto udp socket wildcard 0 accept".to_owned(),
        // One look for a socket, whatever it is bound to.
        "meta l4proto tcp socket wildcard { 0, 1 } accept".to_owned(),
    ];
    let near = next_hops.iter().filter(|hop| hop.is_ipv4());
    rules.extend(near.map(|hop| format!("ip saddr {hop} socket wildcard 1 accept")));
    rules.push(format!("meta l4proto {{ tcp, udp }} dnat ip to {address}"));
    Chain::new("to-way-out", Some("nat hook prerouting priority dstnat"), rules)
}
