//! Overlays, in the text form of steps of the tests beside.

use std::net::IpAddr;

use expect_test::expect;
use types::{NetworkId, NodeId};

use super::tests::check;
use crate::{
    DataPath, EndpointId, EndpointPlan, Inside, InsideLink, Link, LoadedVips, MacAddress, Namespace, NetworkPlan,
    Observed, OverlayInside, OverlayNamespace, OverlayPlan, OverlayPort, PortRole, Remote, Vxlan, plan::veth_name, vip,
};

pub(crate) fn network() -> NetworkId {
    NetworkId::from_random(7)
}

pub(crate) fn mac(last: u8) -> MacAddress {
    MacAddress::from_bytes([2, 0x42, 10, 0, 0, last])
}

pub(crate) fn remote(last: u8, host: [u8; 4]) -> (MacAddress, Remote) {
    let addresses = vec![IpAddr::from([10, 0, 0, last])];
    (mac(last), Remote { addresses, node: NodeId::from_random(1), host: host.into() })
}

/// A host at 192.0.2.1 with endpoint `a` at 10.0.0.2, one remote at 10.0.0.9 and one service of both.
pub(crate) fn plan() -> NetworkPlan {
    let data_path = Some(DataPath { address: [192, 0, 2, 1].into(), port: 4789, encryption: None, least_mtu: None });
    let overlay = OverlayPlan {
        name: "web".to_owned(),
        vni: 4097,
        subnets: vec!["10.0.0.0/24".parse().expect("subnet")],
        mtu: None,
        encrypted: false,
        remotes: [remote(9, [192, 0, 2, 2])].into(),
        services: [([10, 0, 0, 100].into(), [[10, 0, 0, 2].into(), [10, 0, 0, 9].into()].into())].into(),
        names: Default::default(),
        reverse: Default::default(),
    };
    let port = OverlayPort { network: network(), addresses: vec![[10, 0, 0, 2].into()], mac: mac(2) };
    let endpoint = EndpointPlan { overlays: vec![port], hostname: "a".to_owned(), ..EndpointPlan::default() };
    NetworkPlan {
        data_path,
        overlays: [(network(), overlay)].into(),
        endpoints: [("a".parse().expect("id"), endpoint)].into(),
        ..NetworkPlan::default()
    }
}

/// What the kernel has once `plan` is applied on an underlay of this MTU.
pub(crate) fn applied(plan: &NetworkPlan, underlay: u32) -> Observed {
    let mut observed = Observed { underlay: [([192, 0, 2, 1].into(), underlay)].into(), ..Observed::default() };
    let Some(overlay) = plan.overlays.get(&network()) else { return observed };
    let mtu = underlay - 50;
    let id: EndpointId = "a".parse().expect("id");
    let link = |index, kind: &str, controller, port| {
        let kind = kind.to_owned();
        Link { index, kind, up: true, mtu, controller, port, ..Link::default() }
    };
    let vxlan = Vxlan { vni: overlay.vni, local: Some([192, 0, 2, 1].into()), port: 4789, learns: false };
    let uplink = Link { vxlan: Some(vxlan), ..link(2, "vxlan", Some(3), Some(PortRole::Uplink)) };
    let veth = Link { peer: Some(2), ..link(4, "veth", Some(3), Some(PortRole::Endpoint)) };
    let mut inside = OverlayInside::default();
    inside.links.insert("vxlan0".to_owned(), uplink);
    inside.links.insert("br0".to_owned(), link(3, "bridge", None, None));
    inside.links.insert(veth_name(&id), veth);
    inside.ports.insert(mac(2), veth_name(&id));
    for (mac, remote) in &overlay.remotes {
        inside.hosts.insert(*mac, remote.host);
        inside.ports.insert(*mac, "vxlan0".to_owned());
        inside.neighbours.extend(remote.addresses.iter().map(|address| (*address, *mac)));
    }
    observed.overlays.insert(network(), OverlayNamespace::Alive(inside));
    let interface = InsideLink {
        index: 2,
        up: true,
        mtu,
        mac: Some(mac(2)),
        peer: Some(4),
        stacked: None,
        routes: Vec::new(),
        addresses: vec!["10.0.0.2/24".parse().expect("address")],
        link_local: Vec::new(),
        ipv6_off: true,
    };
    let vips = Some(LoadedVips { generation: 5, digests: vip::digests(&overlay.services) });
    let interfaces = [("eth0".to_owned(), interface)].into();
    let inside = Inside { loopback_up: true, interfaces, vips, ..Inside::default() };
    observed.namespaces.insert(id, Namespace::Alive(inside));
    observed
}

fn inside(observed: &mut Observed) -> &mut OverlayInside {
    match observed.overlays.get_mut(&network()) {
        Some(OverlayNamespace::Alive(inside)) => inside,
        other => panic!("{other:?}"),
    }
}

fn overlay(plan: &mut NetworkPlan) -> &mut OverlayPlan {
    plan.overlays.get_mut(&network()).expect("overlay")
}

#[test]
fn nothing_to_do_when_all_is_as_wanted() {
    check(&plan(), &applied(&plan(), 1500), &expect![""]);
}

#[test]
fn a_first_endpoint_in_an_overlay() {
    check(
        &plan(),
        &applied(&NetworkPlan::default(), 1500),
        &expect![[r#"
        Overlay { id: 0000000000000000000000007, steps: [CreateNamespace, CreateBridge { mac: MacAddress([2, 114, 115, 0, 16, 1]), mtu: 1450 }, CreateVxlan { vni: 4097, local: 192.0.2.1, port: 4789, mtu: 1450 }, PlugUplink { name: "vxlan0", udp_port: Some(4789), mtu: 1450 }, AddHost { mac: MacAddress([2, 66, 10, 0, 0, 9]), host: 192.0.2.2 }, AddPort { mac: MacAddress([2, 66, 10, 0, 0, 9]), link: "vxlan0" }, AddNeighbour { address: 10.0.0.9, mac: MacAddress([2, 66, 10, 0, 0, 9]) }] }
        a: CreateNamespace
        a: LoopbackUp
        a: CreateVeth { at: Overlay(0000000000000000000000007), name: "rs-ca978112ca1b", inside: "eth0", mac: MacAddress([2, 66, 10, 0, 0, 2]), mtu: 1450 }
        a: Plug { network: 0000000000000000000000007, name: "rs-ca978112ca1b", mac: MacAddress([2, 66, 10, 0, 0, 2]), mtu: 1450 }
        a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.0.0.2, prefix: 24 }), InterfaceUp] }
        a: SetVips { onto: None, ruleset: "table inet rswarm\ndelete table inet rswarm\ntable inet rswarm {\n\tmap vip4 {\n\t\ttype ipv4_addr : verdict\n\t}\n\tmap vip6 {\n\t\ttype ipv6_addr : verdict\n\t}\n\tchain balance {\n\t\ttype nat hook output priority -100; policy accept;\n\t\tip daddr vmap @vip4\n\t\tip6 daddr vmap @vip6\n\t}\n}\nadd chain inet rswarm vip-0a000064\nflush chain inet rswarm vip-0a000064\nadd rule inet rswarm vip-0a000064 dnat ip to numgen inc mod 2 map { 0 : 10.0.0.2, 1 : 10.0.0.9 }\nadd element inet rswarm vip4 { 10.0.0.100 : goto vip-0a000064 }\n", digests: {10.0.0.100: "8e65322870d1a88a"} }
    "#]],
    );
}

#[test]
fn an_overlay_nobody_wants_goes_with_its_identifier_first() {
    check(
        &NetworkPlan::default(),
        &applied(&plan(), 1500),
        &expect![[r#"
        a: RemoveVeth { at: Overlay(0000000000000000000000007), name: "rs-ca978112ca1b" }
        a: RemoveNamespace
        Overlay { id: 0000000000000000000000007, steps: [RemoveLink { name: "vxlan0" }, RemoveNamespace] }
    "#]],
    );
}

/// N-19: a remote that moves is led to its new host; one that is gone is forgotten after its connections ended.
#[test]
fn remotes_come_move_and_go() {
    let mut after = plan();
    overlay(&mut after).remotes = [remote(9, [192, 0, 2, 3]), remote(8, [192, 0, 2, 2])].into();
    check(
        &after,
        &applied(&plan(), 1500),
        &expect![[r#"
        Overlay { id: 0000000000000000000000007, steps: [AddHost { mac: MacAddress([2, 66, 10, 0, 0, 8]), host: 192.0.2.2 }, AddHost { mac: MacAddress([2, 66, 10, 0, 0, 9]), host: 192.0.2.3 }, AddPort { mac: MacAddress([2, 66, 10, 0, 0, 8]), link: "vxlan0" }, AddNeighbour { address: 10.0.0.8, mac: MacAddress([2, 66, 10, 0, 0, 8]) }] }
    "#]],
    );
    overlay(&mut after).remotes.clear();
    overlay(&mut after).services = [([10, 0, 0, 100].into(), [[10, 0, 0, 2].into()].into())].into();
    check(
        &after,
        &applied(&plan(), 1500),
        &expect![[r#"
        a: SetVips { onto: Some(5), ruleset: "add chain inet rswarm vip-0a000064\nflush chain inet rswarm vip-0a000064\nadd rule inet rswarm vip-0a000064 dnat ip to numgen inc mod 1 map { 0 : 10.0.0.2 }\nadd element inet rswarm vip4 { 10.0.0.100 : goto vip-0a000064 }\n", digests: {10.0.0.100: "e94a07aabc9e9405"} }
        a: EndFlows { to: {10.0.0.9} }
        Overlay { id: 0000000000000000000000007, steps: [RemoveHost { mac: MacAddress([2, 66, 10, 0, 0, 9]) }, RemovePort { mac: MacAddress([2, 66, 10, 0, 0, 9]), link: "vxlan0" }, RemoveNeighbour { address: 10.0.0.9 }] }
    "#]],
    );
}

/// A draining backend gets no new connections and keeps the old ones.
/// P09: a subnet that the network gets is a route in who is there, in its own family alone; it comes again with the
/// interface.
#[test]
fn p09_an_added_subnet_is_a_route() {
    let mut plan = plan();
    let mut observed = applied(&plan, 1500);
    overlay(&mut plan).subnets.push("10.3.0.0/24".parse().expect("subnet"));
    overlay(&mut plan).subnets.push("fd03::/64".parse().expect("subnet"));
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: Inside { interface: "eth0", steps: [AddRoute(Cidr { address: 10.3.0.0, prefix: 24 })] }
        "#]],
    );
    let route = |observed: &mut Observed, change: fn(&mut InsideLink)| match observed.namespaces.values_mut().next() {
        Some(Namespace::Alive(inside)) => inside.interfaces.values_mut().for_each(change),
        other => panic!("{other:?}"),
    };
    route(&mut observed, |link| link.routes = vec!["10.3.0.0/24".parse().expect("range")]);
    check(&plan, &observed, &expect![""]);
    route(&mut observed, |link| link.routes.push("10.4.0.0/24".parse().expect("range")));
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: Inside { interface: "eth0", steps: [RemoveRoute(Cidr { address: 10.4.0.0, prefix: 24 })] }
        "#]],
    );
    route(&mut observed, |link| (link.up, link.routes) = (false, Vec::new()));
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: Inside { interface: "eth0", steps: [InterfaceUp, AddRoute(Cidr { address: 10.3.0.0, prefix: 24 })] }
        "#]],
    );
}

#[test]
fn a_draining_backend_loses_no_connection() {
    let mut after = plan();
    overlay(&mut after).services = [([10, 0, 0, 100].into(), [[10, 0, 0, 2].into()].into())].into();
    check(
        &after,
        &applied(&plan(), 1500),
        &expect![[r#"
        a: SetVips { onto: Some(5), ruleset: "add chain inet rswarm vip-0a000064\nflush chain inet rswarm vip-0a000064\nadd rule inet rswarm vip-0a000064 dnat ip to numgen inc mod 1 map { 0 : 10.0.0.2 }\nadd element inet rswarm vip4 { 10.0.0.100 : goto vip-0a000064 }\n", digests: {10.0.0.100: "e94a07aabc9e9405"} }
    "#]],
    );
}

/// P08: the underlay's MTU is followed, and a wish never exceeds it.
#[test]
fn a_changed_underlay_changes_every_mtu() {
    let mut observed = applied(&plan(), 1500);
    observed.underlay.insert([192, 0, 2, 1].into(), 1400);
    check(
        &plan(),
        &observed,
        &expect![[r#"
        Overlay { id: 0000000000000000000000007, steps: [SetBridge { mtu: 1350 }, PlugUplink { name: "vxlan0", udp_port: Some(4789), mtu: 1350 }] }
        a: Plug { network: 0000000000000000000000007, name: "rs-ca978112ca1b", mac: MacAddress([2, 66, 10, 0, 0, 2]), mtu: 1350 }
        a: Inside { interface: "eth0", steps: [SetMtu(1350)] }
    "#]],
    );
    let mut wishful = plan();
    overlay(&mut wishful).mtu = Some(9000);
    check(&wishful, &applied(&plan(), 1500), &expect![""]);
    observed.underlay.clear();
    check(&plan(), &observed, &expect![""]);
}

/// Fail closed: no VXLAN where everything must be encrypted, and no other way out either.
#[test]
fn an_encrypted_overlay_has_no_vxlan() {
    let mut secret = plan();
    overlay(&mut secret).encrypted = true;
    check(
        &secret,
        &applied(&plan(), 1500),
        &expect![[r#"
        Overlay { id: 0000000000000000000000007, steps: [RemoveLink { name: "vxlan0" }, SetBridge { mtu: 1390 }] }
        a: Plug { network: 0000000000000000000000007, name: "rs-ca978112ca1b", mac: MacAddress([2, 66, 10, 0, 0, 2]), mtu: 1390 }
        a: Inside { interface: "eth0", steps: [SetMtu(1390)] }
    "#]],
    );
    let mut observed = applied(&plan(), 1500);
    inside(&mut observed).links.remove("vxlan0");
    let tap = Link { index: 9, kind: "tun".to_owned(), up: true, mtu: 1500, ..Link::default() };
    inside(&mut observed).links.insert("tap0".to_owned(), tap);
    check(
        &secret,
        &observed,
        &expect![[r#"
        Overlay { id: 0000000000000000000000007, steps: [SetBridge { mtu: 1390 }, PlugUplink { name: "tap0", udp_port: None, mtu: 1390 }, AddPort { mac: MacAddress([2, 66, 10, 0, 0, 9]), link: "tap0" }] }
        a: Plug { network: 0000000000000000000000007, name: "rs-ca978112ca1b", mac: MacAddress([2, 66, 10, 0, 0, 2]), mtu: 1390 }
        a: Inside { interface: "eth0", steps: [SetMtu(1390)] }
    "#]],
    );
}

/// P29: what a crash or somebody else left is adopted or replaced.
#[test]
fn damage_is_repaired() {
    let mut observed = applied(&plan(), 1500);
    inside(&mut observed).links.get_mut("vxlan0").expect("vxlan").vxlan.as_mut().expect("facts").vni = 4098;
    check(
        &plan(),
        &observed,
        &expect![[r#"
        Overlay { id: 0000000000000000000000007, steps: [RemoveLink { name: "vxlan0" }, CreateVxlan { vni: 4097, local: 192.0.2.1, port: 4789, mtu: 1450 }, PlugUplink { name: "vxlan0", udp_port: Some(4789), mtu: 1450 }, AddHost { mac: MacAddress([2, 66, 10, 0, 0, 9]), host: 192.0.2.2 }, AddPort { mac: MacAddress([2, 66, 10, 0, 0, 9]), link: "vxlan0" }] }
    "#]],
    );
    let mut observed = applied(&plan(), 1500);
    inside(&mut observed).links.remove("br0");
    check(
        &plan(),
        &observed,
        &expect![[r#"
        Overlay { id: 0000000000000000000000007, steps: [CreateBridge { mac: MacAddress([2, 114, 115, 0, 16, 1]), mtu: 1450 }, PlugUplink { name: "vxlan0", udp_port: Some(4789), mtu: 1450 }, AddPort { mac: MacAddress([2, 66, 10, 0, 0, 9]), link: "vxlan0" }, AddNeighbour { address: 10.0.0.9, mac: MacAddress([2, 66, 10, 0, 0, 9]) }] }
        a: Plug { network: 0000000000000000000000007, name: "rs-ca978112ca1b", mac: MacAddress([2, 66, 10, 0, 0, 2]), mtu: 1450 }
    "#]],
    );
    let mut observed = applied(&plan(), 1500);
    inside(&mut observed).links.insert("rs-0123456789ab".to_owned(), Link::default());
    inside(&mut observed).ports.remove(&mac(2));
    check(
        &plan(),
        &observed,
        &expect![[r#"
        Overlay { id: 0000000000000000000000007, steps: [RemoveLink { name: "rs-0123456789ab" }] }
        a: Plug { network: 0000000000000000000000007, name: "rs-ca978112ca1b", mac: MacAddress([2, 66, 10, 0, 0, 2]), mtu: 1450 }
    "#]],
    );
    let mut observed = applied(&plan(), 1500);
    observed.overlays.insert(network(), OverlayNamespace::Stale);
    check(
        &plan(),
        &observed,
        &expect![[r#"
        Overlay { id: 0000000000000000000000007, steps: [RemoveNamespace, CreateNamespace, CreateBridge { mac: MacAddress([2, 114, 115, 0, 16, 1]), mtu: 1450 }, CreateVxlan { vni: 4097, local: 192.0.2.1, port: 4789, mtu: 1450 }, PlugUplink { name: "vxlan0", udp_port: Some(4789), mtu: 1450 }, AddHost { mac: MacAddress([2, 66, 10, 0, 0, 9]), host: 192.0.2.2 }, AddPort { mac: MacAddress([2, 66, 10, 0, 0, 9]), link: "vxlan0" }, AddNeighbour { address: 10.0.0.9, mac: MacAddress([2, 66, 10, 0, 0, 9]) }] }
        a: RemoveInterface { name: "eth0" }
        a: CreateVeth { at: Overlay(0000000000000000000000007), name: "rs-ca978112ca1b", inside: "eth0", mac: MacAddress([2, 66, 10, 0, 0, 2]), mtu: 1450 }
        a: Plug { network: 0000000000000000000000007, name: "rs-ca978112ca1b", mac: MacAddress([2, 66, 10, 0, 0, 2]), mtu: 1450 }
        a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.0.0.2, prefix: 24 }), InterfaceUp] }
    "#]],
    );
}

/// P36: the kernel's limit is raised where there are overlays, and never lowered.
#[test]
fn neighbours_have_room() {
    let mut observed = applied(&plan(), 1500);
    observed.neighbour_limit = Some(1024);
    check(
        &plan(),
        &observed,
        &expect![[r#"
        RaiseNeighbourLimit(65536)
    "#]],
    );
    observed.neighbour_limit = Some(100_000);
    check(&plan(), &observed, &expect![""]);
    let bare = Observed { neighbour_limit: Some(1024), ..Observed::default() };
    check(&NetworkPlan::default(), &bare, &expect![""]);
}

#[test]
fn bad_overlays_are_named_and_the_others_stand() {
    let mut bad = plan();
    let problems = |plan: &NetworkPlan| {
        let problems = plan.problems();
        let overlays = problems.overlays.values().map(|why| format!("overlay: {why}\n"));
        let endpoints = problems.endpoints.iter().map(|(id, why)| format!("{id}: {why}\n"));
        overlays.chain(endpoints).collect::<String>()
    };
    overlay(&mut bad).vni = 1 << 24;
    let mut said = problems(&bad);
    bad = plan();
    bad.endpoints.values_mut().for_each(|endpoint| endpoint.overlays[0].addresses = vec![[10, 1, 0, 2].into()]);
    said += &problems(&bad);
    bad.overlays.clear();
    said += &problems(&bad);
    bad = plan();
    bad.data_path = None;
    said += &problems(&bad);
    expect![[r#"
        overlay: VXLAN network identifier 16777216 is outside 1-16777215
        a: overlay network web: VXLAN network identifier 16777216 is outside 1-16777215
        a: address 10.1.0.2 is in no subnet of the overlay network web
        a: the plan does not name the overlay network 0000000000000000000000007 that it is in
        overlay: this host has no data path address, so it cannot speak to the others
        a: overlay network web: this host has no data path address, so it cannot speak to the others
    "#]]
    .assert_eq(&said);
}
