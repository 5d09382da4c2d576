//! Ports in, ports out; `8080:80/tcp` is published:target, `*` a dynamic one.

use std::net::IpAddr;

use types::{PublishMode, TaskId};

use super::*;

fn port(text: &str) -> PortConfig {
    let (numbers, protocol) = text.split_once('/').expect("a protocol");
    let (published, target) = numbers.split_once(':').expect("two numbers");
    let protocol = if protocol == "udp" { PortProtocol::Udp } else { PortProtocol::Tcp };
    let published = (published != "*").then(|| published.parse().expect("a port"));
    PortConfig::new(protocol, target.parse().expect("a port"), published, PublishMode::Host)
}

fn ports(text: &str) -> Vec<PortConfig> {
    text.split_whitespace().map(port).collect()
}

fn written(ports: &[PortConfig]) -> String {
    let one = |p: &PortConfig| {
        let protocol = if p.protocol == PortProtocol::Udp { "udp" } else { "tcp" };
        format!("{}:{}/{protocol}", p.published.expect("chosen"), p.target)
    };
    ports.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn socket(protocol: PortProtocol, address: &str, port: u16, is_listening: bool) -> HostSocket {
    let address: IpAddr = address.parse().expect("an address");
    HostSocket { protocol, address, port, inode: u64::from(port), is_listening }
}

fn asked(ports: &[PortConfig]) -> Vec<WantedPort> {
    ports.iter().cloned().map(WantedPort::from).collect()
}

fn choose(wanted: &[PortConfig], held: Held<'_>, random: u64) -> Result<Vec<PortConfig>, Conflict> {
    super::choose(&asked(wanted), held, random)
}

fn of_host(wanted: &[PortConfig], ways: [WayIn; 2]) -> Vec<PortConfig> {
    super::of_host(&asked(wanted), ways).into_iter().map(|wanted| wanted.port).collect()
}

fn routed(wanted: &[PortConfig], is_ipv4: bool) -> (Vec<OpenPorts>, Vec<PortConfig>) {
    super::routed(&asked(wanted), is_ipv4)
}

const NOTHING: Held<'_> = Held { sockets: &[], endpoints: &[], own: &[] };

#[test]
fn p53_runs_of_ports_become_ranges() {
    let check = |text: &str, want: &str| {
        let one = |r: &HostPorts| format!("{}-{}>{}", r.published.0, r.published.1, r.target);
        assert_eq!(ranges(&ports(text)).iter().map(one).collect::<Vec<_>>().join(" "), want);
    };
    check("8002:82/tcp 8000:80/tcp 8001:81/tcp", "8000-8002>80");
    check("8000:80/tcp 8001:80/tcp", "8000-8000>80 8001-8001>80");
    check("8000:80/tcp 8001:81/udp 8002:82/tcp", "8000-8000>80 8002-8002>82 8001-8001>81");
    check("65535:65535/tcp 1:1/tcp", "1-1>1 65535-65535>65535");
    let many: Vec<PortConfig> = (10_000..20_000).map(|n| port(&format!("{n}:{n}/udp"))).collect();
    assert_eq!(ranges(&many).len(), 1);
}

/// E-31: what is routed is open at the container's own address, whatever port of the host it names, and no port of the host
/// is taken for it; one that is bound to an address is of that family alone.
#[test]
fn e_31_what_is_routed_is_on_no_port_of_the_host() {
    let mut wanted = ports("8080:80/tcp *:81/tcp 8053:53/udp 8082:80/tcp");
    let six = PortBind::Address(IpAddr::V6(Ipv6Addr::LOCALHOST));
    wanted.push(PortConfig { bind: six, ..port("8443:443/tcp") });
    let (open, shown) = routed(&wanted, true);
    let open: Vec<_> = open.iter().map(|open| (open.protocol, open.ports)).collect();
    assert_eq!(open, [(PortProtocol::Tcp, (80, 81)), (PortProtocol::Udp, (53, 53))]);
    let any = PortBind::Address(Ipv4Addr::UNSPECIFIED.into());
    assert!(shown.len() == 3 && shown.iter().all(|port| port.published.is_none() && port.bind == any), "{shown:?}");
    assert_eq!(routed(&wanted, false).0[1].ports, (443, 443));
    let count = |four, six| of_host(&wanted, [four, six]).len();
    assert_eq!(count(WayIn::Routed, WayIn::Routed), 0);
    assert_eq!(count(WayIn::Published, WayIn::Routed), 4, "but for what is bound to an address of IPv6");
    assert_eq!(count(WayIn::Routed, WayIn::Published), 5);
    assert_eq!(count(WayIn::None, WayIn::None), 0);
}

/// E-31, E-14: a port of one family takes nothing of the other, from containers and processes neither; a number stays when
/// the families change.
#[test]
fn e_14_a_port_of_one_family_leaves_the_other() {
    let bound = |at: &str| PortBind::Address(at.parse().expect("an address"));
    let wanted = ports("8080:80/tcp *:81/tcp");
    let four = of_host(&wanted, [WayIn::Published, WayIn::Routed]);
    assert!(four.iter().all(|port| port.bind == bound("0.0.0.0")), "{four:?}");
    let six = of_host(&wanted, [WayIn::None, WayIn::Published]);
    assert!(six.iter().all(|port| port.bind == bound("::")), "{six:?}");
    let (other, held_by_other) = (EndpointId::from(TaskId::from_random(1)), ranges(&six[..1]));
    let endpoints = [(&other, &held_by_other[0])];
    let sockets = [socket(PortProtocol::Tcp, "::1", 8080, true)];
    let held = Held { sockets: &sockets, endpoints: &endpoints, own: &[] };
    let chosen = choose(&four, held, 0).expect("nobody has it over IPv4");
    assert_eq!(written(&chosen), "8080:80/tcp 32768:81/tcp");
    assert!(choose(&wanted, held, 0).is_err() && choose(&six, held, 0).is_err(), "over IPv6 somebody has");
    let own = ranges(&chosen);
    let both = choose(&ports("*:81/tcp"), Held { own: &own, ..held }, 7).expect("free");
    assert_eq!(written(&both), "32768:81/tcp");
    assert_eq!(written(&resolved(&ports("*:81/tcp"), &own)), "32768:81/tcp");
    let taken = [socket(PortProtocol::Tcp, "::1", 32_768, true)];
    let moved = choose(&ports("*:81/tcp"), Held { sockets: &taken, own: &own, ..NOTHING }, 0).expect("another one");
    assert_eq!(written(&moved), "32769:81/tcp", "over IPv6 it is another's");
    for (at, is_held) in [("0.0.0.0", true), ("192.0.2.1", true), ("::", true), ("::1", false), ("fd00::1", false)] {
        assert_eq!(meets(&bound("0.0.0.0"), &socket(PortProtocol::Tcp, at, 1, true)), is_held, "{at}");
    }
    assert!(!meets(&bound("::"), &socket(PortProtocol::Tcp, "0.0.0.0", 1, true)));
}

#[test]
fn s_34_a_port_that_a_process_or_a_container_holds_is_not_taken_from_it() {
    let other = EndpointId::from(TaskId::from_random(1));
    let held_by_other = ranges(&ports("8080:80/tcp"));
    let sockets = [
        socket(PortProtocol::Tcp, "127.0.0.1", 53, true),
        socket(PortProtocol::Tcp, "0.0.0.0", 40_000, false),
        socket(PortProtocol::Udp, "::", 514, true),
    ];
    let endpoints: Vec<_> = held_by_other.iter().map(|range| (&other, range)).collect();
    let held = Held { sockets: &sockets, endpoints: &endpoints, own: &[] };
    let protocol = PortProtocol::Tcp;
    let refused = |text: &str| choose(&ports(text), held, 0).expect_err("held by somebody");
    assert_eq!(refused("8080:1/tcp"), Conflict::Endpoint { protocol, port: 8080, endpoint: other.clone() });
    assert_eq!(refused("1:1/tcp 53:53/tcp"), Conflict::Process { protocol, port: 53, inode: 53 });
    assert!(matches!(refused("514:514/udp"), Conflict::Process { .. }));
    // the other protocol, a connection of a client, another address
    let fine = choose(&ports("8080:80/udp 53:53/udp 40000:1/tcp"), held, 0).expect("free");
    assert_eq!(written(&fine), "8080:80/udp 53:53/udp 40000:1/tcp");
    let elsewhere = PortConfig { bind: PortBind::Address([192, 0, 2, 1].into()), ..port("53:53/tcp") };
    assert!(choose(&[elsewhere], held, 0).is_ok());
    let everywhere = PortConfig { bind: PortBind::Address([192, 0, 2, 1].into()), ..port("514:53/udp") };
    assert!(choose(&[everywhere], held, 0).is_err());
}

#[test]
fn s_34_a_dynamic_port_is_free_and_stays_what_it_was() {
    let sockets =
        [socket(PortProtocol::Tcp, "0.0.0.0", 32_768, true), socket(PortProtocol::Tcp, "10.0.0.1", 32_769, false)];
    let held = Held { sockets: &sockets, ..NOTHING };
    let wanted = ports("*:80/tcp *:443/tcp 32770:1/tcp");
    let chosen = choose(&wanted, held, 0).expect("free");
    assert_eq!(written(&chosen), "32771:80/tcp 32772:443/tcp 32770:1/tcp");
    let own = ranges(&chosen);
    let now = [&sockets[..], &[socket(PortProtocol::Tcp, "0.0.0.0", 32_771, true)]].concat();
    let again = choose(&wanted, Held { sockets: &now, own: &own, ..NOTHING }, 7).expect("its own");
    assert_eq!((written(&again), written(&resolved(&wanted, &own))), (written(&chosen), written(&chosen)));
    assert_eq!(choose(&ports("*:80/tcp"), NOTHING, 28_231).expect("the last")[0].published, Some(60_999));
    let all: Vec<_> = (DYNAMIC.0..=DYNAMIC.1).map(|n| socket(PortProtocol::Tcp, "0.0.0.0", n, true)).collect();
    let full = choose(&ports("*:80/tcp"), Held { sockets: &all, ..NOTHING }, 5).expect_err("none left");
    assert_eq!(full, Conflict::NoneFree { protocol: PortProtocol::Tcp });
}

/// E-14: of a range the first free number is taken, and kept while it can be; what is not free is said in Docker's words.
#[test]
fn e_14_a_range_gives_the_first_free_number() {
    let up_to = |text: &str, last| WantedPort { last: Some(last), ..port(text).into() };
    let sockets = [socket(PortProtocol::Tcp, "0.0.0.0", 8000, true)];
    let held = Held { sockets: &sockets, ..NOTHING };
    let wanted = [up_to("8000:80/tcp", 8002), up_to("8000:81/tcp", 8002)];
    let chosen = super::choose(&wanted, held, 0).expect("two are free");
    assert_eq!(written(&chosen), "8001:80/tcp 8002:81/tcp");
    let own = ranges(&chosen[1..]);
    let again = super::choose(&wanted[1..], Held { own: &own, ..NOTHING }, 0).expect("its own");
    assert_eq!(written(&again), "8002:81/tcp");
    let three = [&wanted[..], &[up_to("8000:82/tcp", 8002)]].concat();
    let refused = super::choose(&three, held, 0).expect_err("none is left");
    assert_eq!(refusal(&refused, &three), "Bind for 0.0.0.0:8002 failed: port is already allocated");
    let bound =
        |at: &str| PortConfig { bind: PortBind::Address(at.parse().expect("an address")), ..port("8000:80/tcp") };
    let refused = choose(&[bound("192.0.2.1")], held, 0).expect_err("a process has it");
    let said = refusal(&refused, &asked(&[bound("192.0.2.1")]));
    assert_eq!(said, "Bind for 192.0.2.1:8000 failed: port is already allocated");
    assert!(choose(&[bound("0.0.0.0"), bound("::")], NOTHING, 0).is_ok(), "one in each family");
    let twice = choose(&[port("8000:80/tcp"), bound("::1")], NOTHING, 0).expect_err("at ::1 there are two");
    assert_eq!(twice, Conflict::Twice { protocol: PortProtocol::Tcp, port: 8000 });
}

#[test]
fn p53_ports_that_follow_one_another_are_one_run() {
    let port =
        |published: u16, target: u16| PortConfig::new(PortProtocol::Tcp, target, Some(published), PublishMode::Ingress);
    let bound = PortConfig { bind: PortBind::Interface("lan".into()), ..port(8003, 83) };
    let udp = PortConfig { protocol: PortProtocol::Udp, ..port(8002, 82) };
    let ports = [port(8001, 81), port(8000, 80), udp, port(8003, 83), bound, port(8004, 90), port(65535, 1)];
    let found: Vec<_> = runs(&ports).into_iter().map(|(first, last, port)| (first, last, port.target)).collect();
    let expected =
        [(8000, 8001, 80), (8003, 8003, 83), (8004, 8004, 90), (65535, 65535, 1), (8002, 8002, 82), (8003, 8003, 83)];
    assert_eq!(found, expected);
    let many: Vec<PortConfig> = (10_000..20_000).map(|number| port(number, number)).collect();
    assert_eq!(runs(&many).len(), 1);
}
