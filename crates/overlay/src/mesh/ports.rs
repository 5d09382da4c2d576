//! Published ports of a host: a map from port to chain, and a chain for each that picks a backend. Pure.
//!
//! A packet is looked up once, when its connection begins: hash tables for single ports, one search tree
//! for ranges, so a range of ten thousand ports is one element. What is bound to an address or an
//! interface is looked up before what is open everywhere.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::IpAddr,
};

use types::{MeshAffinity, PortBind, PortProtocol};

use super::{
    PortTable, RELAY_MARK, RELAY_MASK, TABLE,
    chain::{Chain, INFALLIBLE, short_digest},
    spread::{SLOTS, slots, turns},
};
use crate::NetworkPlan;

/// Goes into every digest; raised when the same plan is to give other rules than before.
const VERSION: u32 = 2;
/// Of the hash of clients' addresses: the same on every host.
const HASH_SEED: u32 = 0x7273;

/// Where the chains of ports without a backend end: at once, not after the client's patience.
pub const NOBODY: &str = "nobody";

/// Where what stays with processes of this host ends: it goes where it would without us.
pub const SPARED: &str = "spared";

/// Each map's name and the type of its keys; those of ranges hold intervals.
pub const MAPS: [(&str, &str); 8] = [
    ("ports", "inet_proto . inet_service"),
    ("port-ranges", "inet_proto . inet_service"),
    ("ports4", "ipv4_addr . inet_proto . inet_service"),
    ("port-ranges4", "ipv4_addr . inet_proto . inet_service"),
    ("ports6", "ipv6_addr . inet_proto . inet_service"),
    ("port-ranges6", "ipv6_addr . inet_proto . inet_service"),
    ("ports-on", "ifname . inet_proto . inet_service"),
    ("port-ranges-on", "ifname . inet_proto . inet_service"),
];

/// Successive published ports and where they lead.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub bind: &'a PortBind,
    pub protocol: PortProtocol,
    pub published: (u16, u16),
    target: u16,
    backends: Cow<'a, BTreeMap<IpAddr, u16>>,
    affinity: MeshAffinity,
    header: Header,
}

/// Addresses and ports that stay with processes of the host.
pub type Spared = BTreeSet<(IpAddr, PortProtocol, u16)>;

/// Whether connections get a header of the PROXY protocol before they reach a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    None,
    /// The process that writes it listens on this port of the host; None: it does not run, and nothing may pass without.
    From(Option<u16>),
}

/// All of a plan: those of the mesh, then those of single endpoints. `port_proxy` is where [`crate::proxy`] listens.
pub fn entries(plan: &NetworkPlan, port_proxy: Option<u16>) -> Vec<Entry<'_>> {
    let of_mesh = plan.mesh.iter().flat_map(|mesh| &mesh.ports).map(|ports| Entry {
        bind: &ports.bind,
        protocol: ports.protocol,
        published: ports.published,
        target: ports.target,
        backends: Cow::Borrowed(&*ports.backends),
        affinity: ports.affinity,
        header: if ports.proxy_protocol { Header::From(port_proxy) } else { Header::None },
    });
    let of_endpoints = plan.endpoints.values().filter_map(|endpoint| Some((endpoint.bridge?, &endpoint.ports)));
    let of_endpoints = of_endpoints.flat_map(|(port, ports)| ports.iter().map(move |ports| (port.address, ports)));
    let of_endpoints = of_endpoints.map(|(address, ports)| Entry {
        bind: &ports.bind,
        protocol: ports.protocol,
        published: ports.published,
        target: ports.target,
        backends: Cow::Owned(BTreeMap::from([(IpAddr::V4(address), 1)])),
        affinity: MeshAffinity::None,
        header: Header::None,
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

impl Entry<'_> {
    /// The map it is an element of, and its key there.
    fn element(&self) -> (&'static str, String) {
        let key = key(self.protocol.as_str(), self.published);
        let is_range = self.published.0 != self.published.1;
        let of = |single, range| if is_range { range } else { single };
        match self.bind {
            PortBind::All => (of("ports", "port-ranges"), key),
            PortBind::Address(at @ IpAddr::V4(_)) => (of("ports4", "port-ranges4"), format!("{at} . {key}")),
            PortBind::Address(at) => (of("ports6", "port-ranges6"), format!("{at} . {key}")),
            PortBind::Interface(name) => (of("ports-on", "port-ranges-on"), format!("\"{name}\" . {key}")),
        }
    }

    /// Colons have no place in a chain's name.
    fn chain_name(&self) -> String {
        let name = format!("{}-{}", self.protocol.as_str(), span(self.published));
        match self.bind {
            PortBind::All => name,
            PortBind::Address(IpAddr::V4(at)) => format!("{name}-{at}"),
            PortBind::Address(IpAddr::V6(at)) => format!("{name}-{:032x}", u128::from(*at)),
            PortBind::Interface(interface) => format!("{name}-{interface}"),
        }
    }

    /// Cheap, where writing the rules may not be.
    fn digest(&self, salt: u64) -> String {
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

    fn chain(&self, salt: u64) -> Chain {
        let mut rules: Vec<String> = [true, false].into_iter().filter_map(|is_v4| self.rule(is_v4, salt)).collect();
        match self.header {
            Header::None => {}
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

    /// Rewrites the destination to a backend of this family; None without one.
    fn rule(&self, is_v4: bool, salt: u64) -> Option<String> {
        let of_family = self.backends.iter().filter(|(address, _)| address.is_ipv4() == is_v4);
        let backends: Vec<(IpAddr, u16)> = of_family.map(|(address, weight)| (*address, *weight)).collect();
        if backends.is_empty() {
            return None;
        }
        let family = if is_v4 { "ip" } else { "ip6" };
        let (pick, order) = match self.affinity {
            MeshAffinity::None => {
                let turns = turns(&backends, salt ^ u64::from(self.published.0));
                (format!("numgen inc mod {}", turns.len()), turns)
            }
            // The source is this host; the client's slot is in the mark.
            MeshAffinity::Source if self.header != Header::None => {
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

/// What turns the table that is there into the wanted one, and what that has; None when it is that already.
///
/// `skeleton` are the chains that do not depend on ports, each before those that lead to it. What is loaded is
/// what differs. `salt` is this host's: hosts do not all begin with the same backend.
pub fn plan_load(
    skeleton: &[Chain],
    entries: &[Entry<'_>],
    spared: &Spared,
    salt: u64,
    had: Option<&PortTable>,
) -> Option<(String, PortTable)> {
    let nothing = PortTable::default();
    let has = had.unwrap_or(&nothing);
    let wanted = table(skeleton, entries, spared, salt);
    if had == Some(&wanted) {
        return None;
    }
    let mut text = String::new();
    let out = &mut text;
    for (map, key, _) in not_in(has, &wanted) {
        writeln!(out, "delete element inet {TABLE} {map} {{ {key} }}").expect(INFALLIBLE);
    }
    let is_loaded = |name: &str| has.chains.get(name).is_some_and(|loaded| wanted.chains.get(name) == Some(loaded));
    if had.is_none() || skeleton.iter().any(|chain| !is_loaded(&chain.name)) {
        write_skeleton(out, skeleton, |chain| is_loaded(&chain.name));
    }
    for name in has.chains.keys().filter(|name| !wanted.chains.contains_key(*name)) {
        writeln!(out, "flush chain inet {TABLE} {name}\ndelete chain inet {TABLE} {name}").expect(INFALLIBLE);
    }
    for entry in entries {
        let name = entry.chain_name();
        if !is_loaded(&name) {
            entry.chain(salt).write(out, TABLE, &wanted.chains[&name]);
        }
    }
    for (map, key, chain) in not_in(&wanted, has) {
        writeln!(out, "add element inet {TABLE} {map} {{ {key} : goto {chain} }}").expect(INFALLIBLE);
    }
    (!text.is_empty()).then_some((text, wanted))
}

/// Map, key and chain of the elements of one table that the other does not have like that.
fn not_in<'a>(one: &'a PortTable, other: &'a PortTable) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
    one.elements.iter().flat_map(|(map, keys)| {
        let others = other.elements.get(map);
        let differs = move |(key, chain): &(&String, &String)| others.and_then(|keys| keys.get(*key)) != Some(*chain);
        keys.iter().filter(differs).map(|(key, chain)| (map.as_str(), key.as_str(), chain.as_str()))
    })
}

/// The table as it shall be.
fn table(skeleton: &[Chain], entries: &[Entry<'_>], spared: &Spared, salt: u64) -> PortTable {
    let mut table = PortTable::default();
    table.chains.extend(skeleton.iter().map(|chain| (chain.name.clone(), chain.digest())));
    let mut lead = |map: &str, key: String, to: &str| {
        // Who published at this very address was there before whom it would be spared for.
        table.elements.entry(map.to_owned()).or_default().entry(key).or_insert_with(|| to.to_owned());
    };
    for entry in entries {
        let (map, key) = entry.element();
        let name = entry.chain_name();
        lead(map, key, &name);
        table.chains.insert(name, entry.digest(salt));
    }
    for (address, protocol, port) in spared {
        let map = if address.is_ipv4() { "ports4" } else { "ports6" };
        lead(map, format!("{address} . {}", key(protocol.as_str(), (*port, *port))), SPARED);
    }
    table
}

fn write_skeleton(out: &mut String, skeleton: &[Chain], is_loaded: impl Fn(&Chain) -> bool) {
    writeln!(out, "add table inet {TABLE}").expect(INFALLIBLE);
    for (name, key) in MAPS {
        let flags = if name.contains("ranges") { " flags interval;" } else { "" };
        writeln!(out, "add map inet {TABLE} {name} {{ type {key} : verdict;{flags} }}").expect(INFALLIBLE);
    }
    for chain in skeleton.iter().filter(|chain| !is_loaded(chain)) {
        chain.write(out, TABLE, &chain.digest());
    }
}

/// The UDP ports that are to be published and are not yet: flows of theirs may already be on their way elsewhere.
pub fn fresh_datagram_ports(entries: &[Entry<'_>], had: Option<&PortTable>) -> BTreeSet<(u16, u16)> {
    let is_fresh = |entry: &&Entry<'_>| {
        let (map, key) = entry.element();
        let known = had.and_then(|had| had.elements.get(map)).is_some_and(|keys| keys.contains_key(&key));
        entry.protocol == PortProtocol::Udp && !known
    };
    entries.iter().filter(is_fresh).map(|entry| entry.published).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// What the kernel has once these are loaded.
    fn loaded(skeleton: &[Chain], entries: &[Entry<'_>]) -> PortTable {
        table(skeleton, entries, &Spared::new(), 0)
    }

    fn entry<'a>(
        bind: &'a PortBind,
        protocol: PortProtocol,
        published: (u16, u16),
        target: u16,
        to: &[&str],
    ) -> Entry<'a> {
        let backends = to.iter().map(|address| (address.parse().expect(address), 1)).collect();
        Entry {
            bind,
            protocol,
            published,
            target,
            backends: Cow::Owned(backends),
            affinity: MeshAffinity::None,
            header: Header::None,
        }
    }

    fn skeleton() -> Vec<Chain> {
        vec![Chain::new(NOBODY, None, vec!["drop".to_owned()])]
    }

    #[test]
    fn every_kind_of_port_as_text() {
        let (all, four, six) = (
            PortBind::All,
            PortBind::Address([192, 0, 2, 1].into()),
            PortBind::Address("2001:db8::1".parse().expect("address")),
        );
        let on = PortBind::Interface("eth0".to_owned());
        let entries = [
            entry(&all, PortProtocol::Tcp, (8080, 8080), 80, &["10.255.0.2", "10.255.0.3", "fd00::2"]),
            entry(&all, PortProtocol::Udp, (5000, 14999), 5000, &["10.255.0.2"]),
            entry(&four, PortProtocol::Tcp, (443, 443), 443, &["10.255.0.2"]),
            entry(&six, PortProtocol::Sctp, (443, 444), 1443, &["fd00::2"]),
            entry(&on, PortProtocol::Tcp, (22, 22), 22, &[]),
        ];
        expect![[r#"
            add table inet rswarm-ports
            add map inet rswarm-ports ports { type inet_proto . inet_service : verdict; }
            add map inet rswarm-ports port-ranges { type inet_proto . inet_service : verdict; flags interval; }
            add map inet rswarm-ports ports4 { type ipv4_addr . inet_proto . inet_service : verdict; }
            add map inet rswarm-ports port-ranges4 { type ipv4_addr . inet_proto . inet_service : verdict; flags interval; }
            add map inet rswarm-ports ports6 { type ipv6_addr . inet_proto . inet_service : verdict; }
            add map inet rswarm-ports port-ranges6 { type ipv6_addr . inet_proto . inet_service : verdict; flags interval; }
            add map inet rswarm-ports ports-on { type ifname . inet_proto . inet_service : verdict; }
            add map inet rswarm-ports port-ranges-on { type ifname . inet_proto . inet_service : verdict; flags interval; }
            add chain inet rswarm-ports nobody
            flush chain inet rswarm-ports nobody
            add rule inet rswarm-ports nobody drop comment "d90ee9ccf6bea1d2 1/1"
            add chain inet rswarm-ports tcp-8080
            flush chain inet rswarm-ports tcp-8080
            add rule inet rswarm-ports tcp-8080 meta l4proto tcp dnat ip to numgen inc mod 2 map { 0 : 10.255.0.3 . 80, 1 : 10.255.0.2 . 80 } comment "088b9fb4700307aa 1/3"
            add rule inet rswarm-ports tcp-8080 meta l4proto tcp dnat ip6 to numgen inc mod 1 map { 0 : fd00::2 . 80 } comment "088b9fb4700307aa 2/3"
            add rule inet rswarm-ports tcp-8080 goto nobody comment "088b9fb4700307aa 3/3"
            add chain inet rswarm-ports udp-5000-14999
            flush chain inet rswarm-ports udp-5000-14999
            add rule inet rswarm-ports udp-5000-14999 meta l4proto udp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.2 } comment "aced2daed5940128 1/2"
            add rule inet rswarm-ports udp-5000-14999 goto nobody comment "aced2daed5940128 2/2"
            add chain inet rswarm-ports tcp-443-192.0.2.1
            flush chain inet rswarm-ports tcp-443-192.0.2.1
            add rule inet rswarm-ports tcp-443-192.0.2.1 meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.2 } comment "8c4ce975669df071 1/2"
            add rule inet rswarm-ports tcp-443-192.0.2.1 goto nobody comment "8c4ce975669df071 2/2"
            add chain inet rswarm-ports sctp-443-444-20010db8000000000000000000000001
            flush chain inet rswarm-ports sctp-443-444-20010db8000000000000000000000001
            add rule inet rswarm-ports sctp-443-444-20010db8000000000000000000000001 meta l4proto sctp dnat ip6 to numgen inc mod 1 map { 0 : fd00::2 } : th dport map { 443 : 1443, 444 : 1444 } comment "861a344f37477807 1/2"
            add rule inet rswarm-ports sctp-443-444-20010db8000000000000000000000001 goto nobody comment "861a344f37477807 2/2"
            add chain inet rswarm-ports tcp-22-eth0
            flush chain inet rswarm-ports tcp-22-eth0
            add rule inet rswarm-ports tcp-22-eth0 goto nobody comment "d133f4ad007466f4 1/1"
            add element inet rswarm-ports port-ranges { udp . 5000-14999 : goto udp-5000-14999 }
            add element inet rswarm-ports port-ranges6 { 2001:db8::1 . sctp . 443-444 : goto sctp-443-444-20010db8000000000000000000000001 }
            add element inet rswarm-ports ports { tcp . 8080 : goto tcp-8080 }
            add element inet rswarm-ports ports-on { "eth0" . tcp . 22 : goto tcp-22-eth0 }
            add element inet rswarm-ports ports4 { 192.0.2.1 . tcp . 443 : goto tcp-443-192.0.2.1 }
        "#]]
        .assert_eq(&plan_load(&skeleton(), &entries, &Spared::new(), 0, None).expect("rules").0);
    }

    /// P36: what one change loads does not depend on how many services there are.
    #[test]
    fn p36_a_change_touches_its_own_port_only() {
        let all = PortBind::All;
        let port = |port: u16, to: &[&str]| entry(&all, PortProtocol::Tcp, (port, port), 80, to);
        let before: Vec<_> = (0..1000).map(|n| port(10_000 + n, &["10.255.0.2"])).collect();
        let had = loaded(&skeleton(), &before);
        assert_eq!(plan_load(&skeleton(), &before, &Spared::new(), 0, Some(&had)), None);
        let mut after = before.clone();
        after[7] = port(10_007, &["10.255.0.3"]);
        after.remove(0);
        after.push(port(443, &["10.255.0.2"]));
        expect![[r#"
            delete element inet rswarm-ports ports { tcp . 10000 }
            flush chain inet rswarm-ports tcp-10000
            delete chain inet rswarm-ports tcp-10000
            add chain inet rswarm-ports tcp-10007
            flush chain inet rswarm-ports tcp-10007
            add rule inet rswarm-ports tcp-10007 meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.3 . 80 } comment "58884b4de0f456bc 1/2"
            add rule inet rswarm-ports tcp-10007 goto nobody comment "58884b4de0f456bc 2/2"
            add chain inet rswarm-ports tcp-443
            flush chain inet rswarm-ports tcp-443
            add rule inet rswarm-ports tcp-443 meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.2 . 80 } comment "43320678fa827b04 1/2"
            add rule inet rswarm-ports tcp-443 goto nobody comment "43320678fa827b04 2/2"
            add element inet rswarm-ports ports { tcp . 443 : goto tcp-443 }
        "#]].assert_eq(&plan_load(&skeleton(), &after, &Spared::new(), 0, Some(&had)).expect("rules").0);
    }

    /// P14: what somebody else removed comes back, and nothing else is loaded.
    #[test]
    fn p14_only_what_was_touched_is_loaded_again() {
        let all = PortBind::All;
        let entries = [8080, 8081].map(|port| entry(&all, PortProtocol::Tcp, (port, port), port, &["10.255.0.2"]));
        let mut had = loaded(&skeleton(), &entries);
        had.elements.get_mut("ports").expect("map").remove("tcp . 8081");
        had.chains.insert("tcp-8080".to_owned(), String::new());
        had.chains.insert("foreign".to_owned(), String::new());
        expect![[r#"
            flush chain inet rswarm-ports foreign
            delete chain inet rswarm-ports foreign
            add chain inet rswarm-ports tcp-8080
            flush chain inet rswarm-ports tcp-8080
            add rule inet rswarm-ports tcp-8080 meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.2 } comment "1754b271d8db51b9 1/2"
            add rule inet rswarm-ports tcp-8080 goto nobody comment "1754b271d8db51b9 2/2"
            add element inet rswarm-ports ports { tcp . 8081 : goto tcp-8081 }
        "#]].assert_eq(&plan_load(&skeleton(), &entries, &Spared::new(), 0, Some(&had)).expect("rules").0);
    }

    /// P37: only what was not published before.
    #[test]
    fn p37_fresh_ports_are_those_of_datagrams() {
        let all = PortBind::All;
        let known = entry(&all, PortProtocol::Udp, (53, 53), 53, &["10.255.0.2"]);
        let fresh = entry(&all, PortProtocol::Udp, (514, 520), 514, &["10.255.0.2"]);
        let stream = entry(&all, PortProtocol::Tcp, (80, 80), 80, &["10.255.0.2"]);
        let had = loaded(&skeleton(), std::slice::from_ref(&known));
        let ports = fresh_datagram_ports(&[known, fresh, stream], Some(&had));
        assert_eq!(ports, [(514, 520)].into());
    }
}
