//! The ingress routing mesh with the kernel as witness: hosts, backends on some of them, and clients outside.

mod support;

use std::net::IpAddr;

use types::PortProtocol;

use support::{in_host, ingress::*, run};

const BOTH: [PortProtocol; 2] = [PortProtocol::Tcp, PortProtocol::Udp];

/// P01, P23, N-16: through each host, to a backend there or elsewhere, TCP and UDP, IPv4 and IPv6: the backend sees the
/// client's own address, and the answer comes from the address that was asked.
#[test]
fn p01_backends_see_the_client_through_every_host() {
    in_host(|| async {
        let backends = [("w1", "b"), ("w2", "c")];
        let mut ingress = Ingress::new(&["a", "b", "c"], &backends);
        for protocol in BOTH {
            ingress.ports.push(publish(protocol, 8080, 80, &["w1"]));
            ingress.ports.push(publish(protocol, 8090, 80, &["w2"]));
        }
        ingress.converge().await;
        let _servers = ingress.serve(&backends).await;
        for host in ["a", "b", "c"] {
            for (family, to) in ingress.addresses(host).into_iter().enumerate() {
                let own = ingress.addresses("x")[family];
                for protocol in BOTH {
                    for (port, backend) in [(8080, "w1"), (8090, "w2")] {
                        let heard = ingress.ask("x", protocol, (to, port), 1);
                        assert_eq!(heard, [format!("{backend} {own}")], "{protocol:?} to {to} port {port}");
                    }
                }
            }
        }
    });
}

/// P01: whatever a server is bound to. Ports 80 and 81 are bound to no address, 82 to the one in the ingress network, 83 to
/// the one on the bridge; an endpoint without a way out of its own has its mesh address there.
#[test]
fn p01_servers_may_be_bound_to_any_of_their_addresses() {
    in_host(|| async {
        let backends = [("open", "b"), ("closed", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.internal.insert("closed".to_owned());
        let mut published = 8000;
        let mut wanted = Vec::new();
        for (backend, _) in backends {
            for target in [80, 81, 82, 83] {
                published += 1;
                ingress.ports.extend(BOTH.map(|protocol| publish(protocol, published, target, &[backend])));
                wanted.push((backend, target, published));
            }
        }
        ingress.converge().await;
        let _servers = ingress.serve(&backends).await;
        for (backend, target, published) in wanted {
            for (family, to) in ingress.addresses("a").into_iter().enumerate() {
                if to.is_ipv6() && [81, 83].contains(&target) {
                    continue;
                }
                let own = ingress.addresses("x")[family];
                for protocol in BOTH {
                    let heard = ingress.ask("x", protocol, (to, published), 1);
                    assert_eq!(heard, [format!("{backend} {own}")], "{protocol:?} to {to}, {backend} port {target}");
                }
            }
        }
        // A datagram larger than a packet, there and back. No router cuts those of IPv6: the first may only tell the
        // client the size.
        for to in ingress.addresses("a") {
            let family = if to.is_ipv4() { "AF_INET" } else { "AF_INET6" };
            let code = format!(
                "
import socket
s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.settimeout(2); s.connect(('{to}', 8001))
for _ in range(3):
    try: s.send(b'x' * 4000); print(s.recv(9000).decode().split()[0]); break
    except OSError: pass"
            );
            assert_eq!(ingress.python("x", &code), "open", "{to}");
        }
    });
}

/// N-16: connections of the host itself and of containers on its bridge, by every address of the host; a container
/// that is the backend reaches itself.
#[test]
fn n_16_a_published_port_is_open_from_within() {
    in_host(|| async {
        let backends = [("near", "a"), ("far", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        for protocol in BOTH {
            ingress.ports.push(publish(protocol, 8080, 80, &["near"]));
            ingress.ports.push(publish(protocol, 8090, 80, &["far"]));
        }
        ingress.converge().await;
        let _servers = ingress.serve(&backends).await;
        let own = ingress.addresses("a");
        let [gateway, gateway6] = ingress.cluster.vip(NETWORK, 1);
        let loopbacks: [IpAddr; 2] = [[127, 0, 0, 1].into(), [127, 1, 2, 3].into()];
        for (port, backend) in [(8080, "near"), (8090, "far")] {
            for protocol in BOTH {
                for to in own {
                    assert_eq!(ingress.ask("a", protocol, (to, port), 1), [format!("{backend} {to}")], "own {to}");
                }
                for to in loopbacks {
                    let heard = ingress.ask("a", protocol, (to, port), 1);
                    assert_eq!(heard, [format!("{backend} {gateway}")], "{protocol:?} {to} port {port}");
                }
                let heard = ingress.ask("a", protocol, ("::1".parse().expect("address"), port), 1);
                assert_eq!(heard, [format!("{backend} {gateway6}")], "{protocol:?} ::1 port {port}");
                // From a container: the host's address, the bridge's, and another host's.
                for to in [own[0], [172, 17, 0, 1].into()] {
                    let code = client(protocol, (to, port), 1);
                    let heard = ingress.lab.python(&ingress.cluster, "near", &code);
                    assert_eq!(heard, format!("{backend} {}", own[0]), "{protocol:?} {to} port {port}");
                }
                let code = client(protocol, (ingress.addresses("b")[0], port), 1);
                let heard = ingress.lab.python(&ingress.cluster, "near", &code);
                assert_eq!(heard, format!("{backend} {}", own[0]), "{protocol:?} through b, port {port}");
            }
        }
    });
}

/// The ingress network is no way from anywhere to anywhere: not between containers, not from one to its host, not from
/// outside past a published port, and the loopback network stays inside.
#[test]
fn the_ingress_network_leads_only_from_published_ports_to_backends() {
    in_host(|| async {
        let endpoints = [("one", "a"), ("two", "a"), ("three", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &endpoints);
        ingress.ports.push(publish(PortProtocol::Tcp, 8080, 80, &["one"]));
        ingress.converge().await;
        let _servers = ingress.serve(&endpoints).await;
        let _service = ingress.lab.spawn(
            "a",
            "import socket; socket.create_server(('::', 22), family=socket.AF_INET6, dualstack_ipv6=True).accept()",
        );
        for (family, gateway) in ingress.cluster.vip(NETWORK, 1).into_iter().enumerate() {
            let refused = |from: &str, to, port| {
                let heard = ingress.lab.python(&ingress.cluster, from, &client(PortProtocol::Tcp, (to, port), 1));
                assert!(
                    ["ConnectionRefusedError", "PermissionError", "OSError"].contains(&heard.as_str()),
                    "{from} to {to}: {heard}"
                );
            };
            for other in ["two", "three"] {
                refused("one", ingress.cluster.addresses(other)[family], 80);
            }
            refused("one", gateway, 22);
            // A neighbour of the host that has a route to the network.
            let backend = ingress.cluster.addresses("one")[family];
            let via = ingress.addresses("a")[family];
            run(&format!("nsenter --net=/run/netns/x ip route add {backend} via {via}"));
            assert_eq!(ingress.ask("x", PortProtocol::Tcp, (backend, 80), 1), ["TimeoutError"], "{backend}");
        }
        run("nsenter --net=/run/netns/x ip addr del 127.0.0.1/8 dev lo");
        run(&format!("nsenter --net=/run/netns/x ip route add 127.0.0.0/8 via {}", ingress.addresses("a")[0]));
        assert_ne!(
            ingress.ask("x", PortProtocol::Tcp, ([127, 0, 0, 1].into(), 8080), 1)[0],
            "one",
            "the loopback network"
        );
        let to = ingress.addresses("a")[0];
        assert_eq!(
            ingress.ask("x", PortProtocol::Tcp, (to, 8080), 1)[0].split(' ').next(),
            Some("one"),
            "all that stands"
        );
    });
}

/// P01: the same client and port through two hosts at the same time, to one backend, are two connections.
#[test]
fn p01_one_client_port_through_two_hosts() {
    in_host(|| async {
        let backends = [("w1", "b")];
        let mut ingress = Ingress::new(&["a", "b", "c"], &backends);
        ingress.ports.extend(BOTH.map(|protocol| publish(protocol, 8080, 80, &["w1"])));
        ingress.converge().await;
        let _servers = ingress.serve(&backends).await;
        for family in 0..2 {
            let hosts = ["a", "b", "c"].map(|host| ingress.addresses(host)[family].to_string());
            let af = ["AF_INET", "AF_INET6"][family];
            let code = format!(
                "
import socket
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    socks = []
    for to in {hosts:?}:
        s = socket.socket(socket.{af}, kind); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.settimeout(4); s.bind(('', 40000)); s.connect((to, 8080)); socks.append(s)
    for n in range(2):
        for s in socks:
            if n or kind == socket.SOCK_DGRAM: s.send(b'x')
        for s in socks: print(s.recv(100).decode().split()[0])
"
            );
            let heard = ingress.python("x", &code);
            let wanted = ["w1", "w1", "w1", "x", "x", "x", "w1", "w1", "w1", "w1", "w1", "w1"];
            assert_eq!(heard.lines().collect::<Vec<_>>(), wanted);
        }
    });
}

/// P08, P01: much data both ways through a host whose ingress network has a smaller MTU than its wire.
#[test]
fn large_transfers_pass_the_smaller_mtu() {
    in_host(|| async {
        let backends = [("w1", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports.push(publish(PortProtocol::Tcp, 8080, 80, &["w1"]));
        ingress.converge().await;
        let _servers = ingress.serve(&backends).await;
        for to in ingress.addresses("a") {
            let code = format!(
                "
import socket, threading
s = socket.create_connection(('{to}', 8080), 5); s.settimeout(20)
greeting = len(s.makefile('rb', 0).readline())
data = bytes(range(256)) * 16384
threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
got = b''
while part := s.recv(65536): got += part
print(got == data)"
            );
            assert_eq!(ingress.python("x", &code), "True", "{to}");
        }
    });
}
