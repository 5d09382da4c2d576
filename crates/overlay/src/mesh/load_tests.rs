//! Of loads of the published ports, as text and in few words.

use std::net::{Ipv4Addr, Ipv6Addr};

use expect_test::expect;
use proptest::prelude::*;
use types::MeshAffinity;

use super::{
    super::ports::{Header, NOBODY},
    *,
};

/// What the kernel has once these are loaded.
fn loaded(skeleton: &[Chain], entries: &[Entry]) -> PortTable {
    rules(skeleton, entries).table()
}

fn rules(skeleton: &[Chain], entries: &[Entry]) -> PortRules {
    PortRules { skeleton: skeleton.to_vec(), entries: entries.to_vec(), ..PortRules::default() }
}

/// What is loaded over a listing.
fn over(entries: &[Entry], had: Option<&PortTable>) -> String {
    rules(&skeleton(), entries).load_over(had).expect("rules").ruleset
}

fn entry(bind: &PortBind, protocol: PortProtocol, published: (u16, u16), target: u16, to: &[&str]) -> Entry {
    let backends: BTreeMap<IpAddr, u16> = to.iter().map(|address| (address.parse().expect(address), 1)).collect();
    Entry {
        bind: bind.clone(),
        protocol,
        published,
        target,
        backends: backends.into(),
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
        add map inet rswarm-ports own-ports4 { type ipv4_addr . inet_proto . inet_service : verdict; }
        add map inet rswarm-ports own-port-ranges4 { type ipv4_addr . inet_proto . inet_service : verdict; flags interval; }
        add map inet rswarm-ports own-ports6 { type ipv6_addr . inet_proto . inet_service : verdict; }
        add map inet rswarm-ports own-port-ranges6 { type ipv6_addr . inet_proto . inet_service : verdict; flags interval; }
        add map inet rswarm-ports all-ports4 { type inet_proto . inet_service : verdict; }
        add map inet rswarm-ports all-port-ranges4 { type inet_proto . inet_service : verdict; flags interval; }
        add map inet rswarm-ports all-ports6 { type inet_proto . inet_service : verdict; }
        add map inet rswarm-ports all-port-ranges6 { type inet_proto . inet_service : verdict; flags interval; }
        add chain inet rswarm-ports nobody
        flush chain inet rswarm-ports nobody
        add rule inet rswarm-ports nobody drop comment "d90ee9ccf6bea1d2 1/1"
        add chain inet rswarm-ports tcp-8080
        flush chain inet rswarm-ports tcp-8080
        add rule inet rswarm-ports tcp-8080 meta l4proto tcp dnat ip to numgen inc mod 2 map { 0 : 10.255.0.3 . 80, 1 : 10.255.0.2 . 80 } comment "2620a0c0018970cf 1/3"
        add rule inet rswarm-ports tcp-8080 meta l4proto tcp dnat ip6 to numgen inc mod 1 map { 0 : fd00::2 . 80 } comment "2620a0c0018970cf 2/3"
        add rule inet rswarm-ports tcp-8080 goto nobody comment "2620a0c0018970cf 3/3"
        add chain inet rswarm-ports udp-5000-14999
        flush chain inet rswarm-ports udp-5000-14999
        add rule inet rswarm-ports udp-5000-14999 meta l4proto udp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.2 } comment "95ecd79ce43052e6 1/2"
        add rule inet rswarm-ports udp-5000-14999 goto nobody comment "95ecd79ce43052e6 2/2"
        add chain inet rswarm-ports tcp-443-192.0.2.1
        flush chain inet rswarm-ports tcp-443-192.0.2.1
        add rule inet rswarm-ports tcp-443-192.0.2.1 meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.2 } comment "f9086083a23892de 1/2"
        add rule inet rswarm-ports tcp-443-192.0.2.1 goto nobody comment "f9086083a23892de 2/2"
        add chain inet rswarm-ports sctp-443-444-20010db8000000000000000000000001
        flush chain inet rswarm-ports sctp-443-444-20010db8000000000000000000000001
        add rule inet rswarm-ports sctp-443-444-20010db8000000000000000000000001 meta l4proto sctp dnat ip6 to numgen inc mod 1 map { 0 : fd00::2 } : th dport map { 443 : 1443, 444 : 1444 } comment "8f6460169eb3e7b5 1/2"
        add rule inet rswarm-ports sctp-443-444-20010db8000000000000000000000001 goto nobody comment "8f6460169eb3e7b5 2/2"
        add chain inet rswarm-ports tcp-22-eth0
        flush chain inet rswarm-ports tcp-22-eth0
        add rule inet rswarm-ports tcp-22-eth0 goto nobody comment "d9a95de2bc23d0e4 1/1"
        add element inet rswarm-ports port-ranges { udp . 5000-14999 : goto udp-5000-14999 }
        add element inet rswarm-ports port-ranges6 { 2001:db8::1 . sctp . 443-444 : goto sctp-443-444-20010db8000000000000000000000001 }
        add element inet rswarm-ports ports { tcp . 8080 : goto tcp-8080 }
        add element inet rswarm-ports ports-on { "eth0" . tcp . 22 : goto tcp-22-eth0 }
        add element inet rswarm-ports ports4 { 192.0.2.1 . tcp . 443 : goto tcp-443-192.0.2.1 }
    "#]]
    .assert_eq(&over(&entries, None));
}

/// P32: where nothing behind a port has IPv6, what comes over it goes to a process, which finds the same chain by an
/// address over IPv4 that stands for the bound one.
#[test]
fn p32_ports_of_ipv4_are_relayed_from_ipv6() {
    let relayed = |bind: PortBind, port: u16| Entry {
        header: Header::Relayed(7274),
        ..entry(&bind, PortProtocol::Tcp, (port, port), 80, &["172.17.0.2"])
    };
    let six: IpAddr = "2001:db8::1".parse().expect("address");
    let entries = [
        relayed(PortBind::All, 8080),
        relayed(PortBind::Address(six), 8090),
        relayed(PortBind::Interface("eth0".to_owned()), 8095),
        relayed(PortBind::Address([192, 0, 2, 1].into()), 8099),
        relayed(PortBind::Address(Ipv6Addr::UNSPECIFIED.into()), 8097),
    ];
    let own = BTreeMap::from([("eth0".to_owned(), BTreeSet::from([six, [192, 0, 2, 1].into()]))]);
    let rules = PortRules { own, ..rules(&[], &entries) };
    let text = rules.load_over(Some(&PortTable::default())).expect("rules").ruleset;
    let told = |line: &&str| line.contains("element") || line.contains("redirect");
    let told: Vec<&str> = text.lines().filter(told).map(|line| line.split(" comment").next().unwrap_or(line)).collect();
    expect![[r#"
        add rule inet rswarm-ports tcp-8080 meta nfproto ipv6 meta l4proto tcp redirect to :7274
        add rule inet rswarm-ports tcp-8090-20010db8000000000000000000000001 meta nfproto ipv6 meta l4proto tcp redirect to :7274
        add rule inet rswarm-ports tcp-8095-eth0 meta nfproto ipv6 meta l4proto tcp redirect to :7274
        add rule inet rswarm-ports tcp-8099-192.0.2.1 meta nfproto ipv6 meta l4proto tcp redirect to :7274
        add rule inet rswarm-ports tcp-8097-00000000000000000000000000000000 meta nfproto ipv6 meta l4proto tcp redirect to :7274
        add element inet rswarm-ports all-ports6 { tcp . 8097 : goto tcp-8097-00000000000000000000000000000000 }
        add element inet rswarm-ports own-ports4 { 127.94.233.160 . tcp . 8090 : goto tcp-8090-20010db8000000000000000000000001 }
        add element inet rswarm-ports own-ports4 { 127.94.233.160 . tcp . 8095 : goto tcp-8095-eth0 }
        add element inet rswarm-ports own-ports4 { 192.0.2.1 . tcp . 8095 : goto tcp-8095-eth0 }
        add element inet rswarm-ports own-ports6 { 2001:db8::1 . tcp . 8095 : goto tcp-8095-eth0 }
        add element inet rswarm-ports ports { tcp . 8080 : goto tcp-8080 }
        add element inet rswarm-ports ports-on { "eth0" . tcp . 8095 : goto tcp-8095-eth0 }
        add element inet rswarm-ports ports4 { 192.0.2.1 . tcp . 8099 : goto tcp-8099-192.0.2.1 }
        add element inet rswarm-ports ports6 { 2001:db8::1 . tcp . 8090 : goto tcp-8090-20010db8000000000000000000000001 }
    "#]]
    .assert_eq(&format!("{}\n", told.join("\n")));
}

/// E-14: what is open in one family leaves the same number in the other one to somebody else.
#[test]
fn e_14_ports_of_one_family_have_maps_of_their_own() {
    let [four, six] = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()].map(PortBind::Address);
    let entries = [
        entry(&four, PortProtocol::Tcp, (8080, 8080), 80, &["172.17.0.2"]),
        entry(&six, PortProtocol::Tcp, (8080, 8080), 80, &["fd00::2"]),
        entry(&four, PortProtocol::Udp, (50, 60), 50, &["172.17.0.2"]),
    ];
    let table = loaded(&[], &entries);
    let all =
        table.elements.iter().flat_map(|(map, keys)| keys.iter().map(move |(key, to)| format!("{map} {key} {to}")));
    let wanted = [
        "all-port-ranges4 udp . 50-60 udp-50-60-0.0.0.0",
        "all-ports4 tcp . 8080 tcp-8080-0.0.0.0",
        "all-ports6 tcp . 8080 tcp-8080-00000000000000000000000000000000",
    ];
    assert_eq!(all.collect::<Vec<_>>(), wanted);
}

/// P36: what one change loads does not depend on how many services there are.
#[test]
fn p36_a_change_touches_its_own_port_only() {
    let all = PortBind::All;
    let port = |port: u16, to: &[&str]| entry(&all, PortProtocol::Tcp, (port, port), 80, to);
    let before: Vec<_> = (0..1000).map(|n| port(10_000 + n, &["10.255.0.2"])).collect();
    let had = loaded(&skeleton(), &before);
    assert_eq!(rules(&skeleton(), &before).load_over(Some(&had)), None);
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
        add rule inet rswarm-ports tcp-10007 meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.3 . 80 } comment "47499d22ee83a382 1/2"
        add rule inet rswarm-ports tcp-10007 goto nobody comment "47499d22ee83a382 2/2"
        add chain inet rswarm-ports tcp-443
        flush chain inet rswarm-ports tcp-443
        add rule inet rswarm-ports tcp-443 meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.2 . 80 } comment "e25bad227a482e3b 1/2"
        add rule inet rswarm-ports tcp-443 goto nobody comment "e25bad227a482e3b 2/2"
        add element inet rswarm-ports ports { tcp . 443 : goto tcp-443 }
    "#]].assert_eq(&over(&after, Some(&had)));
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
        add rule inet rswarm-ports tcp-8080 meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.2 } comment "a162cedc58c05127 1/2"
        add rule inet rswarm-ports tcp-8080 goto nobody comment "a162cedc58c05127 2/2"
        add element inet rswarm-ports ports { tcp . 8081 : goto tcp-8081 }
    "#]].assert_eq(&over(&entries, Some(&had)));
}

/// P37: only what was not published before.
#[test]
fn p37_fresh_ports_are_those_of_datagrams() {
    let all = PortBind::All;
    let known = entry(&all, PortProtocol::Udp, (53, 53), 53, &["10.255.0.2"]);
    let fresh = entry(&all, PortProtocol::Udp, (514, 520), 514, &["10.255.0.2"]);
    let stream = entry(&all, PortProtocol::Tcp, (80, 80), 80, &["10.255.0.2"]);
    let had = loaded(&skeleton(), std::slice::from_ref(&known));
    let ports = rules(&skeleton(), &[known, fresh, stream]).fresh(&had);
    assert_eq!(ports, [(514, 520)].into());
}

/// P36: what one change of one port among many is told the kernel, as text and in few words.
#[test]
fn p36_a_change_of_one_port_takes_few_words() {
    let all = PortBind::All;
    let port = |port: u16, to: &[&str]| entry(&all, PortProtocol::Tcp, (port, port), 80, to);
    let before: Vec<_> = (0..1000).map(|n| port(10_000 + n, &["10.255.0.2"])).collect();
    let mut after = before.clone();
    after[7] = port(10_007, &["10.255.0.3", "fd00::3"]);
    let (before, after) = (rules(&skeleton(), &before), rules(&skeleton(), &after));
    let load = after.load_after(&before).expect("a load");
    expect![[r#"
        add chain inet rswarm-ports tcp-10007
        flush chain inet rswarm-ports tcp-10007
        add rule inet rswarm-ports tcp-10007 meta l4proto tcp dnat ip to numgen inc mod 1 map { 0 : 10.255.0.3 . 80 } comment "e9dd784feafe812d 1/3"
        add rule inet rswarm-ports tcp-10007 meta l4proto tcp dnat ip6 to numgen inc mod 1 map { 0 : fd00::3 . 80 } comment "e9dd784feafe812d 2/3"
        add rule inet rswarm-ports tcp-10007 goto nobody comment "e9dd784feafe812d 3/3"
    "#]]
    .assert_eq(&load.ruleset);
    expect![[r#"
        [
            SetChain {
                name: "tcp-10007",
                digest: "e9dd784feafe812d",
                rules: InTurn {
                    protocol: Tcp,
                    port: Some(
                        80,
                    ),
                    rounds: [
                        [
                            10.255.0.3,
                        ],
                        [
                            fd00::3,
                        ],
                    ],
                },
            },
        ]
    "#]]
    .assert_eq(&format!("{:#?}\n", load.changes));
    assert_eq!(before.load_after(&before), None);
    let swapped = PortRules { salt: 5, ..after.clone() };
    assert!(swapped.load_after(&after).is_some_and(|load| load.changes.is_empty()), "all of them");
}

/// Some ports of few numbers, so that they clash, come and go; each bound, balanced and led in one of the ways there are.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let one = (0..6_u16, 0..3_u16, 0..3_u8, 0..2_u16, 0..3_usize, 0..5_u8);
    prop::collection::btree_map(0..24_u16, one, 0..8).prop_map(|entries| {
        let entry = |(number, (_, width, bind, moves, backends, kind)): (u16, _)| {
            let bind = match bind {
                0 | 1 => PortBind::All,
                _ => PortBind::Address([192, 0, 2, 1].into()),
            };
            let protocol = if number % 2 == 0 { PortProtocol::Tcp } else { PortProtocol::Udp };
            let first = 1000 + number * 10;
            let to = [&["10.255.0.2"][..], &["10.255.0.2", "fd00::2"], &[]][backends];
            let made = self::entry(&bind, protocol, (first, first + width / 2), first + moves, to);
            let affinity = if kind == 0 { MeshAffinity::Source } else { MeshAffinity::None };
            Entry { affinity, ..made }
        };
        entries.into_iter().map(entry).collect()
    })
}

proptest! {
    /// P36: what is looked at alone gives what a look at all gives; and few words say of every chain what the text does.
    #[test]
    fn p36_a_load_after_another_is_what_a_listing_would_give((before, now) in (entries(), entries())) {
        let (before, now) = (rules(&skeleton(), &before), rules(&skeleton(), &now));
        let (quick, whole) = (now.load_after(&before), now.load_over(Some(&before.table())));
        let text = |load: &Option<PortLoad>| load.as_ref().map(|load| (load.ruleset.clone(), load.fresh.clone()));
        prop_assert_eq!(text(&quick), text(&whole));
        let load = quick.unwrap_or_default();
        if !load.changes.is_empty() {
            let count = |word: &str| load.ruleset.lines().filter(|line| line.starts_with(word)).count();
            let told = |of: fn(&ChainChange) -> bool| load.changes.iter().filter(|change| of(change)).count();
            prop_assert_eq!(told(|c| matches!(c, ChainChange::SetChain { .. })), count("add chain"));
            prop_assert_eq!(told(|c| matches!(c, ChainChange::DeleteChain { .. })), count("delete chain"));
            prop_assert_eq!(told(|c| matches!(c, ChainChange::AddElement { .. })), count("add element"));
            prop_assert_eq!(told(|c| matches!(c, ChainChange::DeleteElement { .. })), count("delete element"));
        }
    }
}
