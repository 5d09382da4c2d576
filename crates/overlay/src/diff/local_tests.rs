//! Local networks as steps: what is made, what is kept, and what goes with its last user.

use std::net::{IpAddr, Ipv4Addr};

use expect_test::expect;
use types::{GatewayMode, IpvlanMode, NetworkId};

use super::{tests::check, *};
use crate::{
    BridgeGateway, BridgePlan, BridgePort, EndpointId, EndpointPlan, HostPorts, Inside, InsideLink, Ipv4Range,
    Ipv6Range, LocalBridge, LocalDriver, LocalNetworkPlan, LocalPort, MacAddress, Namespace, Observed, OpenPorts,
    OverlayPort, Parent, ParentLink, Stacked, WayOut, plan::local_veth_name,
};

fn network() -> NetworkId {
    NetworkId::from_random(7)
}

fn id() -> EndpointId {
    "a".parse().expect("id")
}

fn four(second: u8) -> Option<Ipv4Range> {
    let subnet = format!("10.{second}.0.0/24").parse().expect("subnet");
    Some(Ipv4Range { subnet, gateway: Ipv4Addr::new(10, second, 0, 1) })
}

fn plan(driver: LocalDriver) -> NetworkPlan {
    let address = Ipv4Addr::new(10, 5, 0, 2);
    let port = LocalPort {
        network: network(),
        address: Some(address),
        address6: None,
        link_local: Vec::new(),
        mac: MacAddress::for_ipv4(address),
        names: vec!["a".to_owned()],
    };
    let local =
        LocalNetworkPlan { name: "lan".to_owned(), ipv4: four(5), mtu: None, internal: false, driver, ipv6: None };
    let endpoint = EndpointPlan { locals: vec![port], ..EndpointPlan::default() };
    NetworkPlan { locals: [(network(), local)].into(), endpoints: [(id(), endpoint)].into(), ..NetworkPlan::default() }
}

fn macvlan(parent: &str) -> NetworkPlan {
    plan(LocalDriver::Macvlan { parent: ParentLink::parse(parent) })
}

fn host() -> Observed {
    let parents = [("eth0".to_owned(), Parent { index: 2, mtu: 1450 })].into();
    Observed { ip_forward: true, parents, ..Observed::default() }
}

fn with_rules(plan: &NetworkPlan, mut observed: Observed) -> Observed {
    observed.nft = NftTable::Loaded { digest: nft::digest(&nft::render(plan).expect("rules")) };
    observed
}

#[test]
fn e31_a_users_bridge_comes_before_its_endpoints() {
    let plan = plan(LocalDriver::Bridge(LocalBridge::default()));
    check(
        &plan,
        &host(),
        &expect![[r#"
            LoadNft
            Local { id: 0000000000000000000000007, steps: [CreateBridge { name: "rs-brff86ba62a7", mac: MacAddress([2, 66, 10, 5, 0, 1]), mtu: 1500 }, DisableIpv6 { link: "rs-brff86ba62a7" }, AddAddress { link: "rs-brff86ba62a7", address: Cidr { address: 10.5.0.1, prefix: 24 } }] }
            a: CreateNamespace
            a: LoopbackUp
            a: CreateVeth { at: Host, name: "rs-274f1103c069", inside: "eth0", mac: MacAddress([2, 66, 10, 5, 0, 2]), mtu: 1500 }
            a: Attach { name: "rs-274f1103c069", bridge: "rs-brff86ba62a7", mtu: 1500 }
            a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), InterfaceUp, DefaultRoute(Gateway(10.5.0.1))] }
        "#]],
    );
}

#[test]
fn macvlan_interfaces_stand_on_their_parent() {
    let plan = macvlan("eth0");
    check(
        &plan,
        &with_rules(&plan, host()),
        &expect![[r#"
            a: CreateNamespace
            a: LoopbackUp
            a: CreateStacked { network: "lan", parent: "eth0", inside: "eth0", kind: Macvlan { mac: MacAddress([2, 66, 10, 5, 0, 2]) }, mtu: 1450 }
            a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), InterfaceUp, DefaultRoute(Gateway(10.5.0.1))] }
        "#]],
    );
    let mut observed = with_rules(&plan, host());
    let interface = InsideLink {
        index: 5,
        up: true,
        mtu: 1450,
        mac: Some(MacAddress::for_ipv4([10, 5, 0, 2].into())),
        peer: Some(2),
        stacked: Some(Stacked::Macvlan { mac: MacAddress::for_ipv4([10, 5, 0, 2].into()) }),
        addresses: vec!["10.5.0.2/24".parse().expect("address")],
        link_local: Vec::new(),
        routes: Vec::new(),
        ipv6_off: true,
    };
    let interfaces = [("eth0".to_owned(), interface)].into();
    let default_route = Some(WayOut::Gateway([10, 5, 0, 1].into()));
    let vips = Some(crate::LoadedVips { generation: 1, digests: Default::default() });
    let inside = Inside { loopback_up: true, interfaces, default_route, vips, ..Inside::default() };
    observed.namespaces.insert(id(), Namespace::Alive(inside));
    check(&plan, &observed, &expect![""]);
    let without = NetworkPlan { endpoints: Default::default(), ..plan.clone() };
    check(
        &without,
        &observed,
        &expect![[r#"
            a: RemoveInterface { name: "eth0" }
            a: RemoveNamespace
        "#]],
    );
    // the parent was made anew under its name: the old interface went with it, or is on a stranger
    observed.parents.insert("eth0".to_owned(), Parent { index: 9, mtu: 1450 });
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: RemoveInterface { name: "eth0" }
            a: CreateStacked { network: "lan", parent: "eth0", inside: "eth0", kind: Macvlan { mac: MacAddress([2, 66, 10, 5, 0, 2]) }, mtu: 1450 }
            a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), InterfaceUp, DefaultRoute(Gateway(10.5.0.1))] }
        "#]],
    );
}

/// E-33: by mode, under the parent's own address; on a VLAN as on the link itself.
#[test]
fn e33_ipvlan_interfaces_stand_on_their_parent() {
    let ipvlan = |parent: &str, mode| plan(LocalDriver::Ipvlan { parent: ParentLink::parse(parent), mode });
    let routed = ipvlan("eth0", IpvlanMode::L3);
    check(
        &routed,
        &with_rules(&routed, host()),
        &expect![[r#"
        a: CreateNamespace
        a: LoopbackUp
        a: CreateStacked { network: "lan", parent: "eth0", inside: "eth0", kind: Ipvlan { mode: L3 }, mtu: 1450 }
        a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), InterfaceUp, DefaultRoute(Link)] }
    "#]],
    );
    let tagged = ipvlan("eth0.50", IpvlanMode::L2);
    check(
        &tagged,
        &with_rules(&tagged, host()),
        &expect![[r#"
        Local { id: 0000000000000000000000007, steps: [CreateVlan { name: "rs-v50-a05764d0", parent: "eth0", tag: 50 }] }
        a: CreateNamespace
        a: LoopbackUp
        a: CreateStacked { network: "lan", parent: "rs-v50-a05764d0", inside: "eth0", kind: Ipvlan { mode: L2 }, mtu: 1450 }
        a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), InterfaceUp, DefaultRoute(Gateway(10.5.0.1))] }
    "#]],
    );
    let mut observed = with_rules(&routed, host());
    let interface = InsideLink {
        index: 5,
        up: true,
        mtu: 1450,
        mac: Some(MacAddress::for_ipv4([10, 9, 9, 9].into())),
        peer: Some(2),
        stacked: Some(Stacked::Ipvlan { mode: IpvlanMode::L3 }),
        addresses: vec!["10.5.0.2/24".parse().expect("address")],
        link_local: Vec::new(),
        routes: Vec::new(),
        ipv6_off: true,
    };
    let inside = Inside {
        loopback_up: true,
        interfaces: [("eth0".to_owned(), interface)].into(),
        default_route: Some(WayOut::Link),
        vips: Some(crate::LoadedVips { generation: 1, digests: Default::default() }),
        ..Inside::default()
    };
    observed.namespaces.insert(id(), Namespace::Alive(inside));
    check(&routed, &observed, &expect![""]);
    // somebody changed the mode, which is that of all on the link
    let Some(Namespace::Alive(inside)) = observed.namespaces.get_mut(&id()) else { panic!("it is there") };
    let link = inside.interfaces.get_mut("eth0").expect("it has one");
    link.stacked = Some(Stacked::Ipvlan { mode: IpvlanMode::L2 });
    check(
        &routed,
        &observed,
        &expect![[r#"
        a: RemoveInterface { name: "eth0" }
        a: CreateStacked { network: "lan", parent: "eth0", inside: "eth0", kind: Ipvlan { mode: L3 }, mtu: 1450 }
        a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), InterfaceUp, DefaultRoute(Link)] }
    "#]],
    );
}

#[test]
fn a_vlan_is_made_once_and_goes_with_its_last_user() {
    let plan = macvlan("eth0.50");
    check(
        &plan,
        &with_rules(&plan, host()),
        &expect![[r#"
            Local { id: 0000000000000000000000007, steps: [CreateVlan { name: "rs-v50-a05764d0", parent: "eth0", tag: 50 }] }
            a: CreateNamespace
            a: LoopbackUp
            a: CreateStacked { network: "lan", parent: "rs-v50-a05764d0", inside: "eth0", kind: Macvlan { mac: MacAddress([2, 66, 10, 5, 0, 2]) }, mtu: 1450 }
            a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), InterfaceUp, DefaultRoute(Gateway(10.5.0.1))] }
        "#]],
    );
    let mut observed = with_rules(&plan, host());
    let name = ParentLink::parse("eth0.50").vlan_name().expect("a VLAN");
    let link = Link { index: 8, kind: "vlan".to_owned(), up: true, mtu: 1450, peer: Some(2), ..Link::default() };
    observed.links.insert(name, link);
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: CreateNamespace
            a: LoopbackUp
            a: CreateStacked { network: "lan", parent: "rs-v50-a05764d0", inside: "eth0", kind: Macvlan { mac: MacAddress([2, 66, 10, 5, 0, 2]) }, mtu: 1450 }
            a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), InterfaceUp, DefaultRoute(Gateway(10.5.0.1))] }
        "#]],
    );
    let without = NetworkPlan { endpoints: Default::default(), ..plan.clone() };
    check(
        &without,
        &observed,
        &expect![[r#"
        RemoveLink { name: "rs-v50-a05764d0" }
    "#]],
    );
    // one that the host has by itself is used and never touched
    observed = with_rules(&plan, host());
    observed.parents.insert("eth0.50".to_owned(), Parent { index: 4, mtu: 1400 });
    check(
        &plan,
        &observed,
        &expect![[r#"
            a: CreateNamespace
            a: LoopbackUp
            a: CreateStacked { network: "lan", parent: "eth0.50", inside: "eth0", kind: Macvlan { mac: MacAddress([2, 66, 10, 5, 0, 2]) }, mtu: 1400 }
            a: Inside { interface: "eth0", steps: [DisableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), InterfaceUp, DefaultRoute(Gateway(10.5.0.1))] }
        "#]],
    );
}

fn six(last: u16) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::new(0xfd00, 5, 0, 0, 0, 0, 0, last)
}

/// A bridge network with IPv6, and an endpoint in it that publishes a port.
fn with_ipv6() -> NetworkPlan {
    let mut plan = plan(LocalDriver::Bridge(LocalBridge::default()));
    let local = plan.locals.get_mut(&network()).expect("it is there");
    local.ipv6 = Some(Ipv6Range { subnet: "fd00:5::/64".parse().expect("subnet"), gateway: six(1) });
    let endpoint = plan.endpoints.get_mut(&id()).expect("it is there");
    endpoint.locals[0].address6 = Some(six(2));
    plan
}

/// E-31: the bridge speaks IPv6 before it bears an address of it, and so does the endpoint's interface; addresses that the
/// kernel gives by itself are left alone, those that were asked for are not missed.
#[test]
fn e31_a_bridge_with_ipv6() {
    let mut plan = with_ipv6();
    plan.endpoints.get_mut(&id()).expect("there").locals[0].link_local =
        vec!["fe80::9".parse::<IpAddr>().expect("one")];
    check(
        &plan,
        &with_rules(&plan, host()),
        &expect![[r#"
            Mesh(EnableIpv6Forwarding)
            Local { id: 0000000000000000000000007, steps: [CreateBridge { name: "rs-brff86ba62a7", mac: MacAddress([2, 66, 10, 5, 0, 1]), mtu: 1500 }, EnableIpv6 { link: "rs-brff86ba62a7" }, AddAddress { link: "rs-brff86ba62a7", address: Cidr { address: 10.5.0.1, prefix: 24 } }, AddAddress { link: "rs-brff86ba62a7", address: Cidr { address: fd00:5::1, prefix: 64 } }] }
            a: CreateNamespace
            a: LoopbackUp
            a: CreateVeth { at: Host, name: "rs-274f1103c069", inside: "eth0", mac: MacAddress([2, 66, 10, 5, 0, 2]), mtu: 1500 }
            a: Attach { name: "rs-274f1103c069", bridge: "rs-brff86ba62a7", mtu: 1500 }
            a: Inside { interface: "eth0", steps: [EnableIpv6, AddAddress(Cidr { address: 10.5.0.2, prefix: 24 }), AddAddress(Cidr { address: fd00:5::2, prefix: 64 }), AddAddress(Cidr { address: fe80::9, prefix: 64 }), InterfaceUp, DefaultRoute(Gateway(10.5.0.1)), DefaultRoute6(Gateway(fd00:5::1))] }
        "#]],
    );
    let mut observed = with_rules(&plan, host());
    observed.mesh.ipv6_forward = true;
    let bridge = plan.locals[&network()].link(network()).expect("a bridge");
    let (kind, mtu) = ("bridge".to_owned(), 1500);
    let link = Link { index: 10, kind, up: true, mtu, addresses: bridge.addresses, ..Link::default() };
    observed.links.insert(bridge.name.clone(), link);
    let veth = Link {
        index: 20,
        kind: "veth".to_owned(),
        up: true,
        mtu,
        controller: Some(10),
        peer: Some(2),
        ..Link::default()
    };
    observed.links.insert(local_veth_name(&id(), network()), veth);
    let interface = InsideLink {
        index: 2,
        up: true,
        mtu,
        mac: Some(MacAddress::for_ipv4([10, 5, 0, 2].into())),
        peer: Some(20),
        stacked: None,
        addresses: ["10.5.0.2/24", "fd00:5::2/64"].map(|text| text.parse().expect("address")).into(),
        link_local: ["fe80::42:aff:fe05:2/64", "fe80::9/64"].map(|text| text.parse().expect("address")).into(),
        routes: Vec::new(),
        ipv6_off: false,
    };
    let inside = Inside {
        loopback_up: true,
        interfaces: [("eth0".to_owned(), interface)].into(),
        default_route: Some(WayOut::Gateway([10, 5, 0, 1].into())),
        default_route6: Some(WayOut::Gateway(six(1).into())),
        vips: Some(crate::LoadedVips { generation: 1, digests: Default::default() }),
        mesh: None,
    };
    observed.namespaces.insert(id(), Namespace::Alive(inside));
    check(&plan, &observed, &expect![""]);
    let Some(Namespace::Alive(inside)) = observed.namespaces.get_mut(&id()) else { panic!("it is there") };
    inside.default_route6 = None;
    observed.links.get_mut(&bridge.name).expect("there").addresses.pop();
    check(
        &plan,
        &observed,
        &expect![[r#"
            Local { id: 0000000000000000000000007, steps: [AddAddress { link: "rs-brff86ba62a7", address: Cidr { address: fd00:5::1, prefix: 64 } }] }
            a: Inside { interface: "eth0", steps: [DefaultRoute6(Gateway(fd00:5::1))] }
        "#]],
    );
}

/// E-14: over IPv6 a published port leads straight to the endpoint, but for what comes from ::1, whose replies would not
/// come back. Over IPv4 it leads over the host's bridge, which is preferred there.
#[test]
fn e14_a_port_is_published_over_ipv6() {
    let mut plan = with_ipv6();
    plan.bridge = Some(BridgePlan::new("172.17.0.0/16".parse().expect("subnet")).expect("bridge"));
    let endpoint = plan.endpoints.get_mut(&id()).expect("there");
    let address = Ipv4Addr::new(172, 17, 0, 2);
    endpoint.bridge = Some(BridgePort { address, mac: MacAddress::for_ipv4(address) });
    endpoint.bridge_priority = 1;
    let (bind, protocol) = (types::PortBind::All, types::PortProtocol::Tcp);
    endpoint.ports = vec![HostPorts { bind, protocol, published: (8080, 8080), target: 80 }];
    let mut observed = host();
    let (over_ipv4, past_loopback) = (Some(7274), Some(7275));
    observed.mesh.port_proxy = Some(crate::ProxyPorts { headers: 7273, over_ipv4, past_loopback });
    let text = super::port_rules(&plan, &observed).expect("rules").load_over(None).expect("not there yet").ruleset;
    let line = |part: &str| text.lines().position(|line| line.contains(part));
    let (relayed, straight) =
        (line("tcp-8080 ip6 saddr ::1 meta l4proto tcp redirect to :7274"), line("fd00:5::2 . 80"));
    assert!(relayed.is_some() && relayed < straight, "{text}");
    assert!(line("172.17.0.2 . 80").is_some(), "{text}");
    let own = "oifname \"rs-brff86ba62a7\" ct status dnat ip6 saddr fd00:5::/64 masquerade";
    assert!(line(own).is_some(), "{text}");
    assert!(plan.needs_port_proxy());
    let without = NetworkPlan { without_relay: true, ..plan.clone() };
    assert!(!without.needs_port_proxy());
    let closed = super::port_rules(&without, &observed).expect("rules").load_over(None).expect("there").ruleset;
    assert!(!closed.contains("redirect to :7274") && closed.contains("172.17.0.2 . 80"), "{closed}");
    let networks = endpoint::Networks::new(&plan, &observed);
    let steps = endpoint::steps(&id(), &plan.endpoints[&id()], &networks);
    let hairpins = steps.iter().filter(|step| matches!(step, EndpointStep::Hairpin { .. })).count();
    assert_eq!(hairpins, 2, "it reaches its own port over both families");
    assert_eq!(plan.problems(), crate::plan::Problems::default());
}

/// E-35: the highest priority leads out; of several with the same what has both families, then the first by name, whatever
/// the order. An internal network never does, and what is published is answered where it leads in.
#[test]
fn e35_the_priority_chooses_the_way_out() {
    let mut plan = with_ipv6();
    let other = NetworkId::from_random(8);
    let local = LocalNetworkPlan { name: "wan".to_owned(), ipv4: four(6), ..plan.locals[&network()].clone() };
    plan.locals.insert(other, local);
    let way = |change: &dyn Fn(&mut NetworkPlan)| {
        let mut plan = plan.clone();
        let endpoint = plan.endpoints.get_mut(&id()).expect("there");
        let second = LocalPort { network: other, address: Some([10, 6, 0, 2].into()), ..endpoint.locals[0].clone() };
        endpoint.locals.push(second);
        change(&mut plan);
        let endpoint = &plan.endpoints[&id()];
        (plan.default_way(endpoint), plan.default_way6(endpoint).map(|port| port.network))
    };
    fn set(plan: &mut NetworkPlan, network: NetworkId, priority: i64) {
        plan.endpoints.get_mut(&id()).expect("there").priorities.insert(network, priority);
    }
    let (first, second) = ((Some(network()), Some(network())), (Some(other), Some(other)));
    let of = |plan: &mut NetworkPlan, network: NetworkId, change: fn(&mut LocalNetworkPlan)| {
        change(plan.locals.get_mut(&network).expect("there"));
    };
    assert_eq!(way(&|_| {}), first, "lan before wan");
    assert_eq!(way(&|plan| of(plan, other, |local| local.name = "a".to_owned())), second);
    assert_eq!(way(&|plan| of(plan, network(), |local| local.ipv6 = None)), second, "it has both families");
    assert_eq!(way(&|plan| set(plan, other, 1)), second);
    assert_eq!(way(&|plan| set(plan, network(), -1)), second);
    assert_eq!(way(&|plan| set(plan, network(), 1)), first);
    let internal = |plan: &mut NetworkPlan| {
        set(plan, other, 9);
        of(plan, other, |local| local.internal = true);
    };
    assert_eq!(way(&internal), first);
    let on_bridge = |plan: &mut NetworkPlan| {
        let address = Ipv4Addr::new(172, 17, 0, 2);
        let bridge = Some(BridgePort { address, mac: MacAddress::for_ipv4(address) });
        plan.endpoints.get_mut(&id()).expect("there").bridge = bridge;
    };
    assert_eq!(way(&on_bridge), first, "which has both families");
    let four_alone = |plan: &mut NetworkPlan| {
        on_bridge(plan);
        plan.locals.values_mut().for_each(|local| local.ipv6 = None);
    };
    assert_eq!(way(&four_alone), (None, None), "bridge before lan");
    let stands_in = |plan: &mut NetworkPlan| {
        four_alone(plan);
        let mac = MacAddress::for_ipv4([10, 0, 0, 2].into());
        let overlay = OverlayPort { network: NetworkId::from_random(9), addresses: vec![[10, 0, 0, 2].into()], mac };
        plan.endpoints.get_mut(&id()).expect("there").overlays.push(overlay);
    };
    assert_eq!(way(&stands_in), (first.0, None), "the bridge is there for the overlay alone");
    let higher = |plan: &mut NetworkPlan| {
        on_bridge(plan);
        set(plan, other, 1);
    };
    assert_eq!(way(&higher), second);
    let publish = |plan: &mut NetworkPlan| {
        let (bind, protocol) = (types::PortBind::All, types::PortProtocol::Tcp);
        let ports = vec![HostPorts { bind, protocol, published: (80, 80), target: 80 }];
        plan.endpoints.get_mut(&id()).expect("there").ports = ports;
    };
    let publishes = |plan: &mut NetworkPlan| {
        higher(plan);
        publish(plan);
    };
    assert_eq!(way(&publishes), second, "ports lead in where its answers lead out");
    let on_parent = |plan: &mut NetworkPlan| {
        publishes(plan);
        of(plan, other, |local| local.driver = LocalDriver::Macvlan { parent: ParentLink::parse("eth0") });
    };
    assert_eq!(way(&on_parent).0, first.0, "the host is no neighbour there");
}

/// E-14: ports of a container in a user's network lead into that, and the default bridge knows nothing of it.
#[test]
fn e_14_ports_lead_into_the_users_network() {
    let mut plan = with_ipv6();
    let endpoint = plan.endpoints.get_mut(&id()).expect("there");
    let (bind, protocol) = (types::PortBind::All, types::PortProtocol::Tcp);
    endpoint.ports = vec![HostPorts { bind, protocol, published: (80, 80), target: 80 }];
    let endpoint = plan.endpoints[&id()].clone();
    let address = endpoint.locals[0].address.expect("it has IPv4");
    assert_eq!(plan.published4(&endpoint), Some((Some(network()), address)));
    assert!(endpoint.bridge.is_none() && !plan.needs_bridge(&endpoint));
    let links = crate::mesh::skeleton::localnet_links(&plan);
    assert_eq!(links, [crate::plan::bridge_name(network())]);
    plan.locals.get_mut(&network()).expect("there").driver = LocalDriver::Macvlan { parent: ParentLink::parse("eth0") };
    assert!(plan.needs_bridge(&endpoint) && plan.published4(&endpoint).is_none());
}

/// The rules as text: nothing begins in a bridge from elsewhere, nothing of an internal one leaves.
#[test]
fn isolation_is_in_the_rules() {
    let mut plan = with_ipv6();
    let mut second = plan.locals[&network()].clone();
    (second.internal, second.ipv4) = (true, four(6));
    plan.locals.insert(NetworkId::from_random(8), second);
    expect![[r#"
        table inet rswarm
        delete table inet rswarm
        table inet rswarm {
        	chain isolation {
        		type filter hook forward priority filter - 1; policy accept;
        		ct state established,related accept
        		ct status dnat accept
        		iifname "rs-brff86ba62a7" oifname "rs-brff86ba62a7" accept
        		oifname "rs-brff86ba62a7" drop
        		iifname "rs-br883326e448" oifname "rs-br883326e448" accept
        		oifname "rs-br883326e448" drop
        		iifname "rs-br883326e448" drop
        	}
        	chain bridges {
        		type nat hook postrouting priority srcnat; policy accept;
        		ip saddr 10.5.0.0/24 ip daddr != 10.5.0.0/24 oifname != "rs-brff86ba62a7" masquerade
        		ip6 saddr fd00:5::/64 ip6 daddr != fd00:5::/64 oifname != "rs-brff86ba62a7" masquerade
        	}
        }
    "#]]
    .assert_eq(&nft::render(&plan).expect("rules"));
}

/// The usual network with a gateway of this mode over IPv4 and of that over IPv6.
fn with_modes(four: GatewayMode, six: GatewayMode) -> NetworkPlan {
    let mut plan = with_ipv6();
    let [gateway4, gateway6] = [four, six].map(|mode| BridgeGateway { mode, ..BridgeGateway::default() });
    let bridge = LocalBridge { gateway4, gateway6, ..LocalBridge::default() };
    plan.locals.get_mut(&network()).expect("there").driver = LocalDriver::Bridge(bridge);
    plan
}

fn rules(plan: &NetworkPlan) -> String {
    let text = nft::render(plan).expect("rules");
    let own = text.lines().filter(|line| line.starts_with("\t\t") && !line.contains(" hook "));
    own.fold(String::new(), |text, line| text + line.trim_start() + "\n").replace("rs-brff86ba62a7", "ours")
}

/// E-31: what is routed is open where it is published, overlaps made one, to pings besides, and keeps its address; the
/// families have modes of their own; what another network of ours has no business with is dropped all the same.
#[test]
fn e31_the_modes_are_in_the_rules() {
    let mut plan = with_modes(GatewayMode::Routed, GatewayMode::NatUnprotected);
    let open = |ports| OpenPorts { protocol: types::PortProtocol::Tcp, ports };
    let endpoint = plan.endpoints.get_mut(&id()).expect("there");
    endpoint.open4 = vec![open((80, 90)), open((85, 95)), open((443, 443))];
    plan.bridge = Some(BridgePlan::new("172.17.0.0/16".parse().expect("subnet")).expect("bridge"));
    let all = rules(&plan);
    let own = all.split_once("iifname \"ours\"").expect("there").1;
    expect![[r#"
         oifname "ours" accept
        meta nfproto ipv4 meta l4proto icmp oifname "ours" accept
        ip daddr . meta l4proto . th dport { 10.5.0.2 . tcp . 80-95, 10.5.0.2 . tcp . 443 } oifname "ours" accept
        meta nfproto ipv4 oifname "ours" drop
        meta nfproto ipv6 iifname { "rswarm0" } oifname "ours" drop
        ip6 saddr fd00:5::/64 ip6 daddr != fd00:5::/64 oifname != "ours" masquerade
    "#]]
    .assert_eq(own);
    assert_eq!(plan.problems(), crate::plan::Problems::default());
    plan.locals.get_mut(&network()).expect("there").internal = true;
    let closed = rules(&plan);
    assert!(closed.contains("oifname \"ours\" drop\niifname \"ours\" drop\n") && !closed.contains("icmp"), "{closed}");
}

/// E-31: an isolated bridge has no address of that family, and no other.
#[test]
fn e31_an_isolated_bridge_has_no_address() {
    let mut plan = with_modes(GatewayMode::Isolated, GatewayMode::Nat);
    assert!(!plan.problems().overlays.is_empty(), "it is not internal");
    plan.locals.get_mut(&network()).expect("there").internal = true;
    assert_eq!(plan.problems(), crate::plan::Problems::default());
    let link = plan.locals[&network()].link(network()).expect("a bridge");
    assert_eq!(link.addresses, ["fd00:5::1/64".parse::<crate::Cidr>().expect("address")]);
}

/// E-31: where what is published leads to, and that what is routed needs no place on the host's bridge.
#[test]
fn e31_ways_in_follow_the_modes() {
    use crate::WayIn::{Published, Routed};
    let ways = |plan: &NetworkPlan| plan.ways_in(&plan.endpoints[&id()]);
    let (nat, routed) = (GatewayMode::Nat, GatewayMode::Routed);
    assert_eq!(ways(&with_modes(nat, nat)), [Published; 2]);
    assert_eq!(ways(&with_modes(routed, nat)), [Routed, Published]);
    assert_eq!(ways(&with_modes(nat, routed)), [Published, Routed]);
    let mut plan = with_modes(routed, routed);
    assert_eq!(ways(&plan), [Routed; 2]);
    let address = Ipv4Addr::new(172, 17, 0, 2);
    let endpoint = plan.endpoints.get_mut(&id()).expect("there");
    endpoint.bridge = Some(BridgePort { address, mac: MacAddress::for_ipv4(address) });
    assert_eq!(ways(&plan), [Routed; 2], "it has both families there");
    plan.endpoints.get_mut(&id()).expect("there").bridge_priority = 1;
    assert_eq!(ways(&plan), [Published, Routed], "by the host's bridge over IPv4");
    let ports = vec![HostPorts {
        bind: types::PortBind::All,
        protocol: types::PortProtocol::Tcp,
        published: (80, 80),
        target: 80,
    }];
    plan.endpoints.get_mut(&id()).expect("there").ports = ports;
    assert_eq!(plan.published6(&plan.endpoints[&id()]), None, "no port of this host leads to what is routed");
}

/// E-31: where there is no IPv4 the bridge and its endpoints have none; what is published leads there over IPv6 alone,
/// without a place on the host's bridge.
#[test]
fn e31_a_bridge_of_ipv6_alone() {
    let mut plan = with_ipv6();
    plan.locals.get_mut(&network()).expect("there").ipv4 = None;
    let endpoint = plan.endpoints.get_mut(&id()).expect("there");
    (endpoint.locals[0].address, endpoint.locals[0].mac) = (None, MacAddress::for_ipv6(six(2)));
    let link = plan.locals[&network()].link(network()).expect("a bridge");
    assert_eq!(link.addresses, ["fd00:5::1/64".parse::<crate::Cidr>().expect("address")]);
    let text = rules(&plan);
    assert!(text.contains("ip6 saddr fd00:5::/64") && !text.contains("ip saddr"), "{text}");
    let observed = with_rules(&plan, host());
    let networks = endpoint::Networks::new(&plan, &observed);
    let steps = format!("{:?}", endpoint::steps(&id(), &plan.endpoints[&id()], &networks));
    assert!(steps.contains("DefaultRoute6(Gateway(fd00:5::1))") && !steps.contains("DefaultRoute("), "{steps}");
    assert_eq!(plan.ways_in(&plan.endpoints[&id()]), [crate::WayIn::None, crate::WayIn::Published]);
    let (bind, protocol) = (types::PortBind::All, types::PortProtocol::Tcp);
    let ports = vec![HostPorts { bind, protocol, published: (8080, 8080), target: 80 }];
    plan.endpoints.get_mut(&id()).expect("there").ports = ports;
    assert_eq!(plan.problems(), crate::plan::Problems::default());
    let mut observed = host();
    let text = |plan: &NetworkPlan, observed: &Observed| {
        super::port_rules(plan, observed).expect("rules").load_over(None).expect("not there yet").ruleset
    };
    let refuses = "ip6 saddr ::1 goto nobody";
    let early = text(&plan, &observed);
    assert!(early.contains(refuses) && early.contains("fd00:5::2 . 80") && !early.contains("dnat ip to"), "{early}");
    assert!(plan.needs_port_proxy(), "by which ::1 leads there");
    let (over_ipv4, past_loopback) = (Some(7274), Some(7275));
    observed.mesh.port_proxy = Some(crate::ProxyPorts { headers: 7273, over_ipv4, past_loopback });
    let led = text(&plan, &observed);
    assert!(led.contains("ip6 saddr ::1 meta l4proto tcp redirect to :7275") && !led.contains(":7274"), "{led}");
    let without = NetworkPlan { without_relay: true, ..plan.clone() };
    assert!(text(&without, &observed).contains(refuses) && !without.needs_port_proxy());
    let at = types::PortBind::Address(std::net::Ipv6Addr::LOCALHOST.into());
    plan.endpoints.get_mut(&id()).expect("there").ports[0].bind = at;
    assert!(text(&plan, &observed).contains(refuses) && !plan.needs_port_proxy(), "another address has no such port");
}

/// E-31: what leaves bears the address that was asked for, by family; a bridge that shall have no IPv4 address has none, and
/// its endpoints leave by the gateway all the same.
#[test]
fn e31_the_source_is_in_the_rules() {
    let mut plan = with_ipv6();
    let gateway4 = BridgeGateway { source: "192.0.2.77".parse().ok(), inhibited: true, ..BridgeGateway::default() };
    let bridge = LocalBridge { gateway4, ..LocalBridge::default() };
    plan.locals.get_mut(&network()).expect("there").driver = LocalDriver::Bridge(bridge);
    let text = rules(&plan);
    assert!(text.contains("ip daddr != 10.5.0.0/24 oifname != \"ours\" snat ip to 192.0.2.77\n"), "{text}");
    assert!(text.contains("ip6 daddr != fd00:5::/64 oifname != \"ours\" masquerade\n"), "{text}");
    let link = plan.locals[&network()].link(network()).expect("a bridge");
    assert_eq!(link.addresses, ["fd00:5::1/64".parse::<crate::Cidr>().expect("address")]);
    let observed = with_rules(&plan, host());
    let networks = endpoint::Networks::new(&plan, &observed);
    let steps = format!("{:?}", endpoint::steps(&id(), &plan.endpoints[&id()], &networks));
    assert!(steps.contains("DefaultRoute(Gateway(10.5.0.1))"), "{steps}");
}
