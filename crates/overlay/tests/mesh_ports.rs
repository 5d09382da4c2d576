//! How ports are published: spread over backends, ranges, binds, host ports; the kernel and the servers are witnesses.

mod support;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use overlay::{HostPorts, NetworkPlan};
use types::{MeshAffinity, PortBind, PortProtocol};

use support::{in_host, ingress::*, ip, json, run};

const BOTH: [PortProtocol; 2] = [PortProtocol::Tcp, PortProtocol::Udp];

fn shares(heard: &[String]) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for line in heard {
        *shares.entry(line.split(' ').next().expect("a name").to_owned()).or_default() += 1;
    }
    shares
}

/// P43: in turn, so exactly even; by weights, so exactly in proportion; by the client's address, so always the same.
/// Without a backend the refusal comes at once.
#[test]
fn p43_connections_are_spread_as_asked() {
    in_host(|| async {
        let backends = [("w1", "a"), ("w2", "b"), ("w3", "b"), ("w4", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        let all = ["w1", "w2", "w3", "w4"];
        ingress.ports.extend(BOTH.map(|protocol| publish(protocol, 8080, 80, &all)));
        let mut weighted = publish(PortProtocol::Tcp, 8081, 80, &["w1", "w2"]);
        weighted.backends[1].1 = 3;
        let mut sticky = publish(PortProtocol::Tcp, 8082, 80, &all);
        sticky.affinity = MeshAffinity::Source;
        ingress.ports.extend([weighted, sticky]);
        ingress.ports.extend(BOTH.map(|protocol| publish(protocol, 8083, 80, &[])));
        ingress.converge().await;
        let _servers = ingress.serve(&backends).await;
        for to in ingress.addresses("a") {
            for protocol in BOTH {
                let even = shares(&ingress.ask("x", protocol, (to, 8080), 400));
                // A datagram socket may get a port whose last flow still stands: that goes on.
                let strays = if protocol == PortProtocol::Tcp { 0 } else { 8 };
                let is_even = even.values().all(|count| count.abs_diff(100) <= strays);
                assert!(even.len() == 4 && is_even, "{protocol:?} {to}: {even:?}");
            }
            let weighted = shares(&ingress.ask("x", PortProtocol::Tcp, (to, 8081), 400));
            assert_eq!(weighted, [("w1".to_owned(), 100), ("w2".to_owned(), 300)].into(), "{to}");
            assert_eq!(
                shares(&ingress.ask("x", PortProtocol::Tcp, (to, 8082), 50)).len(),
                1,
                "{to}: one client, one backend"
            );
            for protocol in BOTH {
                let start = Instant::now();
                let refused = ingress.ask("x", protocol, (to, 8083), 2);
                assert_eq!(refused, ["ConnectionRefusedError"; 2], "{protocol:?} {to}");
                assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
            }
        }
        // Many clients: other addresses of x.
        let clients: Vec<String> = (1..=120u8).map(|n| format!("198.51.100.{n}")).collect();
        clients.iter().for_each(|client| drop(ip(&format!("-n x addr add {client}/32 dev up0"))));
        run(&format!("nsenter --net=/run/netns/a ip route add 198.51.100.0/24 via {}", ingress.addresses("x")[0]));
        let to = ingress.addresses("a")[0];
        let code = format!(
            "
import socket
for client in {clients:?}:
    s = socket.create_connection(('{to}', 8082), 5, (client, 0)); print(s.recv(99).decode().strip()); s.close()"
        );
        let by_client = || {
            let heard = ingress.python("x", &code);
            let pair =
                |line: &str| line.split_once(' ').map(|(backend, client)| (client.to_owned(), backend.to_owned()));
            heard.lines().filter_map(pair).collect::<BTreeMap<_, _>>()
        };
        let before = by_client();
        assert_eq!(before.len(), clients.len(), "each client is seen as itself");
        let spread = shares(&before.values().cloned().collect::<Vec<_>>());
        assert!(spread.len() == 4 && spread.values().all(|count| (12..60).contains(count)), "{spread:?}");
        assert_eq!(by_client(), before, "they stay");
        ingress.ports[3].backends.retain(|(id, _)| id != "w2");
        ingress.lab.apply("a", &ingress.plan("a")).await;
        let after = ingress.python("x", &code);
        for line in after.lines() {
            let (backend, client) = line.split_once(' ').expect("two words");
            let had = &before[client];
            assert!(backend == had || had == "w2", "{client} moved from {had} to {backend}");
            assert_ne!(backend, "w2");
        }
    });
}

/// P53: ten thousand ports are one element of a map and a rule; the first, a middle and the last one work, with the
/// client's address, from outside, by 127.0.0.1 and from a container. A range may lead to other ports.
#[test]
fn p53_ten_thousand_ports_are_one_rule() {
    in_host(|| async {
        let backends = [("w1", "b"), ("w2", "a")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.converge().await;
        let count = || {
            let listed = json("nsenter --net=/run/netns/a nft -j list table inet rswarm-ports");
            listed["nftables"].as_array().expect("list").iter().filter(|item| item["rule"].is_object()).count()
        };
        let before = count();
        let mut range = publish(PortProtocol::Udp, 0, 20_000, &["w1"]);
        range.published = (20_000, 29_999);
        ingress.ports.push(range.clone());
        let plan = ingress.plan("a");
        let start = Instant::now();
        assert_eq!(ingress.lab.apply("a", &plan).await, 1);
        eprintln!(
            "10,000 ports are published in {:?} with all looks at the kernel, by {} rules",
            start.elapsed(),
            count() - before
        );
        assert!(count() - before <= 5);
        (range.published, range.target) = ((30_000, 30_999), 20_000);
        ingress.ports.push(range);
        ingress.lab.apply("a", &ingress.plan("a")).await;
        let echo = "
import socket, threading
def serve(port):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', port))
    while True:
        _, client = s.recvfrom(99); s.sendto(('%d %s' % (port, client[0].replace('::ffff:', ''))).encode(), client)
for port in (20000, 20999, 25000, 29999): threading.Thread(target=serve, args=(port,)).start()";
        let _server = ingress.lab.serve(&ingress.cluster, "w1", echo);
        let listens = ingress.lab.line(&ingress.cluster, "w1", "ss -Hlun sport = :29999");
        support::eventually("it listens", Duration::from_secs(10), async || !run(&listens).is_empty()).await;
        for (published, target) in
            [(20_000, 20_000), (25_000, 25_000), (29_999, 29_999), (30_000, 20_000), (30_999, 20_999)]
        {
            for (family, to) in ingress.addresses("a").into_iter().enumerate() {
                let own = ingress.addresses("x")[family];
                let heard = ingress.ask("x", PortProtocol::Udp, (to, published), 1);
                assert_eq!(heard, [format!("{target} {own}")], "{to} port {published}");
            }
            let heard = ingress.ask("a", PortProtocol::Udp, ([127, 0, 0, 1].into(), published), 1);
            assert!(heard[0].starts_with(&format!("{target} ")), "{heard:?}");
            let to = ingress.addresses("a")[0];
            let heard = ingress.lab.python(&ingress.cluster, "w2", &client(PortProtocol::Udp, (to, published), 1));
            assert_eq!(heard, format!("{target} {to}"), "from a container");
        }
        assert_eq!(
            ingress.ask("x", PortProtocol::Udp, (ingress.addresses("a")[0], 19_999), 1),
            ["ConnectionRefusedError"]
        );
    });
}

/// P32: one port at two addresses for two services; what is bound is closed elsewhere and comes before what is open
/// everywhere; a port bound to an interface follows its addresses; one bound to 127.0.0.1 is closed from outside.
#[test]
fn p32_ports_are_bound_to_addresses_and_interfaces() {
    in_host(|| async {
        let backends = [("w1", "b"), ("w2", "b"), ("w3", "a")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ip("-n a addr add 192.0.2.101/24 dev up0");
        let [four, six] = ingress.addresses("a");
        let second: IpAddr = [192, 0, 2, 101].into();
        let bound = |bind: PortBind, published, backend| {
            let mut port = publish(PortProtocol::Tcp, published, 80, &[backend]);
            port.bind = bind;
            port
        };
        ingress.ports = vec![
            bound(PortBind::Address(four), 443, "w1"),
            bound(PortBind::Address(second), 443, "w2"),
            bound(PortBind::Address(six), 443, "w3"),
            bound(PortBind::Address(four), 444, "w1"),
            bound(PortBind::Interface("up0".to_owned()), 445, "w2"),
            bound(PortBind::Interface("up1".to_owned()), 446, "w2"),
            bound(PortBind::Address([127, 0, 0, 1].into()), 447, "w1"),
            bound(PortBind::Interface("lo".to_owned()), 448, "w1"),
            bound(PortBind::Address(four), 80, "w1"),
            bound(PortBind::All, 80, "w3"),
        ];
        let mut range = bound(PortBind::Address(second), 9000, "w2");
        (range.published, range.target) = ((9000, 9010), 80);
        ingress.ports.push(range);
        ingress.converge().await;
        let _servers = ingress.serve(&backends).await;
        let opens = |from: &str, to: IpAddr, port| {
            let heard = ingress.ask(from, PortProtocol::Tcp, (to, port), 1).remove(0);
            heard.split(' ').next().expect("a word").to_owned()
        };
        let closed = "ConnectionRefusedError";
        for (to, port, wanted) in [
            (four, 443, "w1"),
            (second, 443, "w2"),
            (six, 443, "w3"),
            (four, 444, "w1"),
            (second, 444, closed),
            (six, 444, closed),
            (four, 445, "w2"),
            (six, 445, "w2"),
            (four, 446, closed),
            (four, 447, closed),
            (four, 448, closed),
            (four, 80, "w1"),
            (second, 80, "w3"),
            (six, 80, "w3"),
            (second, 9000, "w2"),
            (four, 9000, closed),
        ] {
            assert_eq!(opens("x", to, port), wanted, "{to} port {port}");
        }
        assert_eq!(opens("a", [127, 0, 0, 1].into(), 447), "w1");
        assert_eq!(opens("a", [127, 0, 0, 1].into(), 448), "w1");
        for (to, port, wanted) in [(four, 445, "w2"), (second, 445, "w2"), (six, 445, "w2"), (four, 446, closed)] {
            assert_eq!(opens("a", to, port), wanted, "of the host itself, {to} port {port}");
        }
        assert_eq!(opens("a", [127, 0, 0, 1].into(), 445), closed);
        ip("-n a addr add 192.0.2.102/24 dev up0");
        let third = [192, 0, 2, 102].into();
        assert_eq!(opens("x", third, 445), "w2", "the interface's new address, without any change");
        ingress.converge().await;
        assert_eq!(opens("a", third, 445), "w2", "and of the host itself once it has been seen");
    });
}

/// E-14, P01: a port of one endpoint on its host, in host mode: the client's address from outside, and open from
/// everywhere on the host.
#[test]
fn e_14_host_ports_lead_to_their_endpoint() {
    in_host(|| async {
        let endpoints = [("web", "a"), ("other", "a")];
        let ingress = Ingress::new(&["a"], &endpoints);
        let _servers = {
            ingress.converge().await;
            ingress.serve(&endpoints).await
        };
        let mut plan = ingress.plan("a");
        // Without a mesh as well.
        plan.mesh = None;
        let web = plan.endpoints.get_mut(&"web".parse().expect("id")).expect("endpoint");
        web.ports = BOTH
            .map(|protocol| HostPorts { bind: PortBind::All, protocol, published: (8080, 8080), target: 80 })
            .to_vec();
        assert_eq!(plan.problems(), Default::default());
        ingress.lab.apply("a", &plan).await;
        let [four, _] = ingress.addresses("a");
        let bridge = "172.17.0.1";
        for protocol in BOTH {
            let outside = ingress.ask("x", protocol, (four, 8080), 1);
            assert_eq!(outside, [format!("web {}", ingress.addresses("x")[0])]);
            assert_eq!(ingress.ask("a", protocol, (four, 8080), 1), [format!("web {four}")]);
            assert_eq!(ingress.ask("a", protocol, ([127, 0, 0, 1].into(), 8080), 1), [format!("web {bridge}")]);
            for from in ["web", "other"] {
                let heard = ingress.lab.python(&ingress.cluster, from, &client(protocol, (four, 8080), 1));
                assert_eq!(heard, format!("web {bridge}"), "{protocol:?} from {from}");
            }
        }
        ingress.lab.apply("a", &NetworkPlan::default()).await;
        assert_eq!(run("nsenter --net=/run/netns/a nft list ruleset"), "");
    });
}

/// P36: one more backend for one of a thousand services is one change of one chain, and hardly takes longer than with ten.
#[test]
fn p36_a_change_costs_its_own_service() {
    in_host(|| async {
        let mut ingress = Ingress::new(&["a"], &[("w1", "a"), ("w2", "a")]);
        let mut took = Vec::new();
        for count in [10, 1000] {
            ingress.ports = (0..count).map(|n| publish(PortProtocol::Tcp, 10_000 + n, 80, &["w1"])).collect();
            let start = Instant::now();
            ingress.lab.apply("a", &ingress.plan("a")).await;
            let whole = start.elapsed();
            ingress.ports[7].backends.push(("w2".to_owned(), 1));
            let plan = ingress.plan("a");
            let start = Instant::now();
            assert_eq!(ingress.lab.apply("a", &plan).await, 1);
            took.push(start.elapsed());
            eprintln!(
                "{count} services: loaded in {whole:?}, one more backend with two looks in {:?}",
                took[took.len() - 1]
            );
        }
        assert!(took[1] < took[0] * 20, "{took:?}");
    });
}
