//! Published ports of a host: a map from port to chain, and a chain for each that picks a backend. Pure.
//!
//! A packet is looked up once, when its connection begins: hash tables for single ports, one search tree
//! for ranges, so a range of ten thousand ports is one element. What is bound to an address or an
//! interface is looked up before what is open everywhere, and of that what is open in one family alone first.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use types::{MeshAffinity, PortBind, PortProtocol};

use super::{
    RELAY_MARK, RELAY_MASK,
    chain::{Chain, INFALLIBLE, short_digest},
    spread::{SLOTS, slots, turns},
};
use crate::{MeshPlan, NetworkPlan, ProxyPorts, WayIn, mac::mixed};

/// Goes into every digest; raised when the same plan is to give other rules than before.
const VERSION: u32 = 3;
/// Of the hash of clients' addresses: the same on every host.
const HASH_SEED: u32 = 0x7273;

/// Where the chains of ports without a backend end: at once, not after the client's patience.
pub const NOBODY: &str = "nobody";

/// Where what stays with processes of this host ends: it goes where it would without us.
pub const SPARED: &str = "spared";

/// Each map's name and the type of its keys; those of ranges hold intervals.
pub const MAPS: [(&str, &str); 16] = [
    ("ports", "inet_proto . inet_service"),
    ("port-ranges", "inet_proto . inet_service"),
    ("ports4", "ipv4_addr . inet_proto . inet_service"),
    ("port-ranges4", "ipv4_addr . inet_proto . inet_service"),
    ("ports6", "ipv6_addr . inet_proto . inet_service"),
    ("port-ranges6", "ipv6_addr . inet_proto . inet_service"),
    ("ports-on", "ifname . inet_proto . inet_service"),
    ("port-ranges-on", "ifname . inet_proto . inet_service"),
    ("own-ports4", "ipv4_addr . inet_proto . inet_service"),
    ("own-port-ranges4", "ipv4_addr . inet_proto . inet_service"),
    ("own-ports6", "ipv6_addr . inet_proto . inet_service"),
    ("own-port-ranges6", "ipv6_addr . inet_proto . inet_service"),
    ("all-ports4", "inet_proto . inet_service"),
    ("all-port-ranges4", "inet_proto . inet_service"),
    ("all-ports6", "inet_proto . inet_service"),
    ("all-port-ranges6", "inet_proto . inet_service"),
];

/// Successive published ports and where they lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) bind: PortBind,
    pub(super) protocol: PortProtocol,
    pub(super) published: (u16, u16),
    pub(super) target: u16,
    /// Shared with the plan: what did not change is known by its place in memory.
    pub(super) backends: Arc<BTreeMap<IpAddr, u16>>,
    pub(super) affinity: MeshAffinity,
    pub(super) header: Header,
}

/// What a chain does that leads to its backends in turn: little enough to be told the kernel without a program in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InTurn {
    pub protocol: PortProtocol,
    /// None: the same as was dialled.
    pub port: Option<u16>,
    /// One round of the backends of each family that has some, IPv4 before IPv6.
    pub rounds: Vec<Vec<IpAddr>>,
}

/// Addresses and ports that stay with processes of the host.
pub type Spared = BTreeSet<(IpAddr, PortProtocol, u16)>;

/// Whether connections get a header of the PROXY protocol before they reach a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    None,
    /// The process that writes it listens on this port of the host; None: it does not run, and nothing may pass without.
    From(Option<u16>),
    /// None; but what comes over IPv6 and cannot go to a backend as it is ends at this port of the same process, which sends
    /// it on over IPv4.
    Relayed(u16),
    /// None; but replies to ::1 do not find back, so what comes from there ends at this port of the same process, which sends it
    /// on from another address. None: it is refused.
    Straight(Option<u16>),
}

/// Whether IPv6 leads to such a port by way of a process, where nothing behind it has IPv6.
pub fn is_relayed(bind: &PortBind, protocol: PortProtocol) -> bool {
    !matches!(bind, PortBind::Address(IpAddr::V4(_))) && protocol != PortProtocol::Sctp
}

/// Whether ::1 leads to such a port by way of a process, where what is behind it has IPv6 alone: that looks for the port at
/// another address of the host.
pub fn is_past_loopback(bind: &PortBind, protocol: PortProtocol) -> bool {
    let is_at_all = match bind {
        PortBind::All => true,
        PortBind::Address(at) => at.is_ipv6() && at.is_unspecified(),
        PortBind::Interface(_) => false,
    };
    is_at_all && protocol != PortProtocol::Sctp
}

/// Of this host's own address `at` the one in 127.64.0.0/10 where that process finds the same port over IPv4. Two of a host's
/// addresses have the same one with a probability of one in four million.
pub fn over_ipv4(at: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c] = (mixed(at) >> 96).to_be_bytes();
    Ipv4Addr::new(127, 64 | (a & 63), b, c)
}

/// All of a plan: those of the mesh, then those of single endpoints. `port_proxy` is where [`crate::proxy`] listens.
pub fn entries(plan: &NetworkPlan, port_proxy: Option<ProxyPorts>) -> Vec<Entry> {
    let relays = port_proxy.filter(|_| !plan.without_relay);
    let (relay, past_loopback) = (relays.and_then(|of| of.over_ipv4), relays.and_then(|of| of.past_loopback));
    let relayed = |bind: &PortBind, protocol| match relay.filter(|_| is_relayed(bind, protocol)) {
        Some(port) => Header::Relayed(port),
        None => Header::None,
    };
    let has_ipv6 = plan.mesh.as_ref().is_some_and(MeshPlan::has_ipv6);
    let of_mesh = plan.mesh.iter().flat_map(|mesh| &mesh.ports).map(|ports| Entry {
        bind: ports.bind.clone(),
        protocol: ports.protocol,
        published: ports.published,
        target: ports.target,
        backends: Arc::clone(&ports.backends),
        affinity: ports.affinity,
        header: match ports.proxy_protocol {
            true => Header::From(port_proxy.map(|ports| ports.headers)),
            false if has_ipv6 => Header::None,
            false => relayed(&ports.bind, ports.protocol),
        },
    });
    let of_endpoints = plan.endpoints.values().filter(|endpoint| !endpoint.ports.is_empty()).map(|endpoint| {
        let four = plan.published4(endpoint).map(|(_, address)| IpAddr::V4(address));
        let six = plan.published6(endpoint).map(|(_, address)| IpAddr::V6(address));
        let backends: BTreeMap<IpAddr, u16> = four.into_iter().chain(six).map(|address| (address, 1)).collect();
        // The process leads to IPv4, and nothing of the host to what is routed.
        let is_relayed = four.is_some() && plan.ways_in(endpoint)[1] == WayIn::Published;
        (Arc::new(backends), is_relayed, &endpoint.ports)
    });
    let of_endpoints = of_endpoints.flat_map(|(backends, is_relayed, ports)| {
        ports.iter().map(move |ports| (Arc::clone(&backends), is_relayed, ports))
    });
    let of_endpoints = of_endpoints.map(|(backends, is_relayed, ports)| Entry {
        bind: ports.bind.clone(),
        protocol: ports.protocol,
        published: ports.published,
        target: ports.target,
        backends,
        affinity: MeshAffinity::None,
        header: match is_relayed {
            true => relayed(&ports.bind, ports.protocol),
            false => Header::Straight(past_loopback.filter(|_| is_past_loopback(&ports.bind, ports.protocol))),
        },
    });
    of_mesh.chain(of_endpoints).collect()
}

/// `8080` or `8000-8010`.
pub fn span((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// `tcp . 8080`: the end of every key, as nft writes it.
pub fn key(protocol: &str, published: (u16, u16)) -> String {
    format!("{protocol} . {}", span(published))
}

impl Entry {
    /// The map it is an element of, and its key there.
    pub(super) fn element(&self) -> (&'static str, String) {
        let key = key(self.protocol.as_str(), self.published);
        let is_range = self.published.0 != self.published.1;
        let of = |single, range| if is_range { range } else { single };
        match &self.bind {
            PortBind::All => (of("ports", "port-ranges"), key),
            PortBind::Address(at) if at.is_unspecified() => match at {
                IpAddr::V4(_) => (of("all-ports4", "all-port-ranges4"), key),
                IpAddr::V6(_) => (of("all-ports6", "all-port-ranges6"), key),
            },
            PortBind::Address(at @ IpAddr::V4(_)) => (of("ports4", "port-ranges4"), format!("{at} . {key}")),
            PortBind::Address(at) => (of("ports6", "port-ranges6"), format!("{at} . {key}")),
            PortBind::Interface(name) => (of("ports-on", "port-ranges-on"), format!("\"{name}\" . {key}")),
        }
    }

    /// The interface it is bound to, if it is.
    pub fn interface(&self) -> Option<&str> {
        match &self.bind {
            PortBind::Interface(name) => Some(name),
            _ => None,
        }
    }

    /// What is dialled from this very host at an address of the interface that it is bound to: the packet comes by no
    /// interface, and leaves by the loopback. The map for those, and the key there.
    pub(super) fn own_element(&self, address: IpAddr) -> (&'static str, String) {
        let key = format!("{address} . {}", key(self.protocol.as_str(), self.published));
        let map = match (address.is_ipv4(), self.published.0 == self.published.1) {
            (true, true) => "own-ports4",
            (true, false) => "own-port-ranges4",
            (false, true) => "own-ports6",
            (false, false) => "own-port-ranges6",
        };
        (map, key)
    }

    /// Where else, beside its own element, the process looks for it that leads there from IPv6: what is open at all addresses,
    /// or at all of IPv6, it finds anyway. `own` are the addresses of the interface that it is bound to.
    pub(super) fn over_ipv4(&self, own: Option<&BTreeSet<IpAddr>>) -> Vec<(&'static str, String)> {
        let Header::Relayed(_) = self.header else { return Vec::new() };
        let bound: Vec<&IpAddr> = match &self.bind {
            PortBind::All => Vec::new(),
            PortBind::Address(at) if at.is_unspecified() => Vec::new(),
            PortBind::Address(at) => vec![at],
            PortBind::Interface(_) => own.into_iter().flatten().collect(),
        };
        let six = bound.into_iter().filter_map(|address| match address {
            IpAddr::V6(at) => Some(*at),
            IpAddr::V4(_) => None,
        });
        six.map(|at| self.own_element(over_ipv4(at).into())).collect()
    }

    /// Colons have no place in a chain's name.
    pub(super) fn chain_name(&self) -> String {
        let name = format!("{}-{}", self.protocol.as_str(), span(self.published));
        match &self.bind {
            PortBind::All => name,
            PortBind::Address(IpAddr::V4(at)) => format!("{name}-{at}"),
            PortBind::Address(IpAddr::V6(at)) => format!("{name}-{:032x}", u128::from(*at)),
            PortBind::Interface(interface) => format!("{name}-{interface}"),
        }
    }

    /// Cheap, where writing the rules may not be.
    pub(super) fn digest(&self, salt: u64) -> String {
        let Self { target, affinity, backends, header, .. } = self;
        let mut text = format!("{VERSION} {salt} {target} {affinity:?} {header:?}").into_bytes();
        for (address, weight) in &**backends {
            match address {
                IpAddr::V4(address) => text.extend(address.octets()),
                IpAddr::V6(address) => text.extend(address.octets()),
            }
            text.extend(weight.to_be_bytes());
        }
        short_digest(&text)
    }

    pub(super) fn chain(&self, salt: u64) -> Chain {
        let mut rules: Vec<String> = [true, false].into_iter().filter_map(|is_v4| self.rule(is_v4, salt)).collect();
        match self.header {
            Header::None => {}
            Header::Relayed(_) if rules.is_empty() => {}
            // No reply from elsewhere finds its way to ::1.
            Header::Relayed(port) if self.backends.keys().any(IpAddr::is_ipv6) => {
                rules.insert(0, format!("ip6 saddr ::1 meta l4proto {} redirect to :{port}", self.protocol.as_str()));
            }
            Header::Relayed(port) => {
                rules.push(format!("meta nfproto ipv6 meta l4proto {} redirect to :{port}", self.protocol.as_str()));
            }
            Header::Straight(_) if rules.is_empty() => {}
            Header::Straight(None) => rules.insert(0, format!("ip6 saddr ::1 goto {NOBODY}")),
            Header::Straight(Some(port)) => {
                rules.insert(0, format!("ip6 saddr ::1 meta l4proto {} redirect to :{port}", self.protocol.as_str()));
            }
            Header::From(None) => rules.clear(),
            Header::From(Some(_)) if rules.is_empty() => {}
            // It comes back with the mark.
            Header::From(Some(port)) => {
                rules.insert(
                    0,
                    format!("meta l4proto tcp meta mark & {RELAY_MASK:#x} != {RELAY_MARK:#x} redirect to :{port}"),
                );
            }
        }
        rules.push(format!("goto {NOBODY}"));
        Chain::new(&self.chain_name(), None, rules)
    }

    /// The chain's rules but the last, in few words; None where they need more.
    pub(super) fn in_turn(&self, salt: u64) -> Option<InTurn> {
        let (first, last) = self.published;
        let moves = self.target != first;
        if self.affinity != MeshAffinity::None || self.header != Header::None || (moves && first != last) {
            return None;
        }
        let families = [true, false].map(|is_v4| self.of_family(is_v4)).into_iter().filter(|of| !of.is_empty());
        let rounds = families.map(|backends| turns(&backends, self.turn_salt(salt))).collect();
        Some(InTurn { protocol: self.protocol, port: moves.then_some(self.target), rounds })
    }

    fn of_family(&self, is_v4: bool) -> Vec<(IpAddr, u16)> {
        let of_family = self.backends.iter().filter(|(address, _)| address.is_ipv4() == is_v4);
        of_family.map(|(address, weight)| (*address, *weight)).collect()
    }

    /// Not every port of a host begins with the same backend.
    fn turn_salt(&self, salt: u64) -> u64 {
        salt ^ u64::from(self.published.0)
    }

    /// Rewrites the destination to a backend of this family; None without one.
    fn rule(&self, is_v4: bool, salt: u64) -> Option<String> {
        let backends = self.of_family(is_v4);
        if backends.is_empty() {
            return None;
        }
        let family = if is_v4 { "ip" } else { "ip6" };
        let (pick, order) = match self.affinity {
            MeshAffinity::None => {
                let turns = turns(&backends, self.turn_salt(salt));
                (format!("numgen inc mod {}", turns.len()), turns)
            }
            // The source is this host; the client's slot is in the mark.
            MeshAffinity::Source if matches!(self.header, Header::From(_)) => {
                (format!("meta mark & {:#x}", SLOTS - 1), slots(&backends))
            }
            MeshAffinity::Source => (format!("jhash {family} saddr mod {SLOTS} seed {HASH_SEED:#x}"), slots(&backends)),
        };
        let (first, last) = self.published;
        let moves = self.target != first;
        // A backend's port follows from the published one; the same one needs no word.
        let with_port = |address: &IpAddr| {
            if moves && first == last { format!("{address} . {}", self.target) } else { address.to_string() }
        };
        let map: Vec<String> =
            order.iter().enumerate().map(|(turn, to)| format!("{turn} : {}", with_port(to))).collect();
        let mut rule =
            format!("meta l4proto {} dnat {family} to {pick} map {{ {} }}", self.protocol.as_str(), map.join(", "));
        if moves && first != last {
            let targets: Vec<String> =
                (first..=last).zip(self.target..).map(|(from, to)| format!("{from} : {to}")).collect();
            write!(rule, " : th dport map {{ {} }}", targets.join(", ")).expect(INFALLIBLE);
        }
        Some(rule)
    }
}
