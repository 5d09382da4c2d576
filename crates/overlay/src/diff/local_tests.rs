//! Local networks as steps: what is made, what is kept, and what goes with its last user.

mod ways;

use std::net::{IpAddr, Ipv4Addr};

use expect_test::expect;
use types::{GatewayMode, IpvlanMode, NetworkId};

use super::{tests::check, *};
use crate::{
    BridgeGateway, BridgePlan, EndpointId, EndpointPlan, Inside, InsideLink, Ipv4Range, Ipv6Range, LocalBridge,
    LocalDriver, LocalNetworkPlan, LocalPort, MacAddress, Namespace, Observed, OpenPorts, Parent, ParentLink, Stacked,
    WayOut, plan::local_veth_name,
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
