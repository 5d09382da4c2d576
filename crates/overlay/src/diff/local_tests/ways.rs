//! Where what endpoints send leads out, and where what they publish leads in.

use super::*;
use crate::{BridgePort, HostPorts, OverlayPort};

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
    let text = port_rules(&plan, &observed).expect("rules").load_over(None).expect("not there yet").ruleset;
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
    let closed = port_rules(&without, &observed).expect("rules").load_over(None).expect("there").ruleset;
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
        port_rules(plan, observed).expect("rules").load_over(None).expect("not there yet").ruleset
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
