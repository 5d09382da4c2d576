//! The kernel as witness: how the world and a user's bridge reach each other, mode by mode (parity E-31), in namespaces of
//! each test's own.

mod support;

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use overlay::{
    BridgeGateway, EndpointPlan, LocalBridge, LocalDriver, LocalNetworkPlan, NetworkPlan, OpenPorts, plan::bridge_name,
};
use support::{locals::*, *};
use types::{GatewayMode, NetworkId, PortProtocol};

const OUTSIDE: &str = "/run/netns/outside";

/// A bridge of both families that are reached in this mode.
fn with_mode(number: u8, mode: GatewayMode) -> (NetworkId, LocalNetworkPlan) {
    let gateway = BridgeGateway { mode, ..BridgeGateway::default() };
    let driver = LocalDriver::Bridge(LocalBridge { gateway4: gateway, gateway6: gateway, ..LocalBridge::default() });
    let (id, plan) = bridge6(number, mode == GatewayMode::Isolated);
    (id, LocalNetworkPlan { driver, ..plan })
}

/// The first of each bridge is `1-2`, of the second network `2-2`, and so on.
fn plan(networks: Vec<(NetworkId, LocalNetworkPlan)>, ports: &[(u8, u8)]) -> NetworkPlan {
    let endpoint = |(number, last): &(u8, u8)| {
        let id = format!("{number}-{last}");
        let endpoint =
            EndpointPlan { locals: vec![port6(*number, *last, &id)], hostname: id.clone(), ..EndpointPlan::default() };
        (id.parse().expect("id"), endpoint)
    };
    let endpoints = ports.iter().map(endpoint).collect();
    NetworkPlan { locals: networks.into_iter().collect(), endpoints, ..support::plan(&[]) }
}

/// The world around this host, which has IPv6 too and knows the way to the first networks.
fn world_with_routes() {
    outside_world();
    ip("address add fd00:ff::1/64 dev up0 nodad");
    ip("-n outside address add fd00:ff::2/64 dev eth0 nodad");
    for number in 1..=3 {
        ip(&format!("-n outside route add 172.30.{number}.0/24 via 192.0.2.1"));
        ip(&format!("-n outside route add fd00:{number}::/64 via fd00:ff::1"));
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says to whoever connects, over both families at these ports, which address he has.
async fn serve(id: &str, ports: &[u16]) -> Server {
    serve_at(&namespace_of(id), ports).await
}

async fn serve_at(path: &Path, ports: &[u16]) -> Server {
    let code = format!(
        "
import socket, selectors
loop = selectors.DefaultSelector()
for port in {ports:?}:
    s = socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True)
    loop.register(s, selectors.EVENT_READ)
while True:
    for key, _ in loop.select():
        peer, client = key.fileobj.accept()
        peer.send(client[0].encode()); peer.close()"
    );
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", path.display())).args(["python3", "-c", &code]).stdin(Stdio::null());
    let server = Server(command.spawn().expect("a server"));
    eventually("the server listens", Duration::from_secs(10), async || asks(path, "127.0.0.1", ports[0]).is_some())
        .await;
    server
}

/// What the server at that address sees the client as; None where nobody answers.
fn asks(from: &Path, to: &str, port: u16) -> Option<String> {
    let code = format!(
        "import socket; s = socket.create_connection(('{to}', {port}), 1); print(s.recv(99).decode().replace('::ffff:', ''))"
    );
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", from.display())).args(["python3", "-c", &code]).stdin(Stdio::null());
    let output = command.output().expect("python3");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// E-31 `nat-unprotected`: whoever has a route reaches all ports of all endpoints, but for other networks of this host; out
/// it goes under the host's address, as ever.
#[test]
fn e_31_an_unprotected_bridge_lets_in_whoever_knows_the_way() {
    in_host(|| async {
        world_with_routes();
        let kernel = kernel();
        let networks = vec![with_mode(1, GatewayMode::NatUnprotected), with_mode(2, GatewayMode::Nat)];
        let mut plan = plan(networks, &[(1, 2), (2, 2)]);
        plan.endpoints.extend(support::plan(&[("on-bridge", [0, 2])]).endpoints);
        apply(&kernel, &plan).await;
        let (_open, _closed) = (serve("1-2", &[80]).await, serve("2-2", &[80]).await);
        let outside = Path::new(OUTSIDE);
        assert_eq!(asks(outside, "172.30.1.2", 80).as_deref(), Some("192.0.2.2"));
        assert_eq!(asks(outside, "fd00:1::2", 80).as_deref(), Some("fd00:ff::2"));
        assert!(pings(outside, "172.30.1.2") && pings(outside, "fd00:1::2"));
        assert_eq!(asks(outside, "172.30.2.2", 80), None, "its neighbour is closed as ever");
        for from in ["2-2", "on-bridge"] {
            assert_eq!(asks(&namespace_of(from), "172.30.1.2", 80), None, "{from} is in another network of this host");
        }
        assert_eq!(asks(&namespace_of("2-2"), "fd00:1::2", 80), None);
        // Without the way back an answer proves the masquerade.
        ip("-n outside route del 172.30.1.0/24");
        assert!(pings(&namespace_of("1-2"), "192.0.2.2"));
    });
}

/// E-31 `routed`: what is published is open at the endpoint's own address to whoever has a route, other networks of this
/// host included, pings besides, and nothing else is; nobody's address is translated on any way.
#[test]
fn e_31_a_routed_bridge_is_open_where_it_publishes() {
    in_host(|| async {
        world_with_routes();
        let kernel = kernel();
        let mut internal = with_mode(3, GatewayMode::Nat);
        internal.1.internal = true;
        let networks = vec![with_mode(1, GatewayMode::Routed), with_mode(2, GatewayMode::Nat), internal];
        let mut plan = plan(networks, &[(1, 2), (1, 3), (2, 2), (3, 2)]);
        let endpoint = plan.endpoints.get_mut(&"1-2".parse().expect("id")).expect("there");
        let open = [(80, 81), (81, 82)].map(|ports| OpenPorts { protocol: PortProtocol::Tcp, ports });
        (endpoint.open4, endpoint.open6) = (open.into(), open.into());
        apply(&kernel, &plan).await;
        let _server = serve("1-2", &[80, 82, 83]).await;
        let outside = Path::new(OUTSIDE);
        for port in [80, 82] {
            assert_eq!(asks(outside, "172.30.1.2", port).as_deref(), Some("192.0.2.2"));
            assert_eq!(asks(outside, "fd00:1::2", port).as_deref(), Some("fd00:ff::2"));
        }
        assert_eq!((asks(outside, "172.30.1.2", 83), asks(outside, "fd00:1::2", 83)), (None, None), "not published");
        assert!(pings(outside, "172.30.1.3") && pings(outside, "fd00:1::3"), "pings reach all of them");
        let beside = namespace_of("2-2");
        assert!(asks(&beside, "172.30.1.2", 80).is_some() && asks(&beside, "172.30.1.2", 83).is_none());
        let shut = namespace_of("3-2");
        run(&format!("nsenter --net={} ip route add default via 172.30.3.1", shut.display()));
        assert_eq!(asks(&shut, "172.30.1.2", 80), None, "an internal network has no way out, here neither");
        assert!(asks(&namespace_of("1-3"), "172.30.1.2", 83).is_some(), "neighbours reach all ports");
        // Under its own address, so it needs a way back.
        assert!(pings(&namespace_of("1-2"), "192.0.2.2") && pings(&namespace_of("1-2"), "fd00:ff::2"));
        ip("-n outside route del 172.30.1.0/24");
        assert!(!pings(&namespace_of("1-2"), "192.0.2.2"), "nothing is masqueraded");
        plan.endpoints.values_mut().for_each(|endpoint| endpoint.open6.clear());
        apply(&kernel, &plan).await;
        assert_eq!(asks(outside, "fd00:1::2", 80), None, "closed again");
    });
}

/// E-31 `isolated`: neighbours, and nobody else; not even this host, which has no address there.
#[test]
fn e_31_an_isolated_bridge_has_neighbours_alone() {
    in_host(|| async {
        world_with_routes();
        let kernel = kernel();
        let plan = plan(vec![with_mode(1, GatewayMode::Isolated)], &[(1, 2), (1, 3)]);
        apply(&kernel, &plan).await;
        let addresses = json(&format!("ip -j address show dev {}", bridge_name(network(1))));
        let own = addresses[0]["addr_info"].as_array().expect("list");
        assert!(own.iter().all(|address| address["scope"] == "link"), "{addresses}");
        let one = namespace_of("1-2");
        assert!(pings(&one, "172.30.1.3") && pings(&one, "fd00:1::3"));
        assert!(!pings(&one, "172.30.1.1") && !pings(&one, "192.0.2.2"));
        for family in ["-4", "-6"] {
            let routes = run(&format!("nsenter --net={} ip {family} route show default", one.display()));
            assert!(routes.trim().is_empty(), "{routes}");
        }
        run(&format!("ip address add 172.30.1.1/24 dev {}", bridge_name(network(1))));
        apply(&kernel, &plan).await;
        assert!(!pings(&one, "172.30.1.1"), "what somebody gave it is taken away again");
    });
}

/// E-31 `inhibit_ipv4`: the bridge has no IPv4 address; endpoints leave by the gateway that somebody else is there.
#[test]
fn e_31_an_inhibited_bridge_leaves_the_gateway_to_another() {
    in_host(|| async {
        let kernel = kernel();
        let mut net = with_mode(1, GatewayMode::Nat);
        let gateway4 = BridgeGateway { inhibited: true, ..BridgeGateway::default() };
        net.1.driver = LocalDriver::Bridge(LocalBridge { gateway4, ..LocalBridge::default() });
        let plan = plan(vec![net], &[(1, 2)]);
        apply(&kernel, &plan).await;
        let name = bridge_name(network(1));
        let addresses = run(&format!("ip -4 -o address show dev {name}"));
        assert!(addresses.trim().is_empty(), "{addresses}");
        assert!(run(&format!("ip -6 -o address show dev {name}")).contains("fd00:1::1/64"), "IPv6 is as ever");
        let one = namespace_of("1-2");
        assert!(!pings(&one, "172.30.1.1"), "nobody is there yet");
        // A router of the user's, on the same bridge.
        ip("netns add router");
        ip("link add to-router type veth peer name eth0 netns router");
        ip(&format!("link set to-router master {name} up"));
        ip("-n router address add 172.30.1.1/24 dev eth0");
        ip("-n router address add 198.51.100.1/32 dev eth0");
        ip("-n router link set eth0 up");
        eventually("the router answers", Duration::from_secs(10), async || pings(&one, "172.30.1.1")).await;
        assert!(pings(&one, "198.51.100.1"), "by the default route");
    });
}

/// E-31 `host_ipv4` and `host_ipv6`: what leaves bears the address that was asked for.
#[test]
fn e_31_what_leaves_bears_the_address_that_was_chosen() {
    in_host(|| async {
        world_with_routes();
        ip("address add 192.0.2.77/24 dev up0");
        ip("address add fd00:ff::77/64 dev up0 nodad");
        let kernel = kernel();
        let mut net = with_mode(4, GatewayMode::Nat);
        let [gateway4, gateway6] = ["192.0.2.77", "fd00:ff::77"]
            .map(|source| BridgeGateway { source: source.parse().ok(), ..BridgeGateway::default() });
        net.1.driver = LocalDriver::Bridge(LocalBridge { gateway4, gateway6, ..LocalBridge::default() });
        let plan = plan(vec![net, with_mode(5, GatewayMode::Nat)], &[(4, 2), (5, 2)]);
        apply(&kernel, &plan).await;
        let _server = serve_at(Path::new(OUTSIDE), &[80]).await;
        let sees = |from: &str, to: &str| asks(&namespace_of(from), to, 80);
        assert_eq!(sees("4-2", "192.0.2.2").as_deref(), Some("192.0.2.77"));
        assert_eq!(sees("4-2", "fd00:ff::2").as_deref(), Some("fd00:ff::77"));
        assert_eq!(sees("5-2", "192.0.2.2").as_deref(), Some("192.0.2.1"), "others bear what the way has");
    });
}
