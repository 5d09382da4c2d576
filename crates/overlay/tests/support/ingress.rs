//! Hosts with a routing mesh, backends behind it and clients before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use overlay::{BridgePlan, BridgePort, EntryHost, MacAddress, MeshPlan, NetworkPlan, PublishedPorts};
use types::{MeshAffinity, NodeId, PortBind, PortProtocol};

use super::{eventually, ip, lab::*, run};

pub const NETWORK: &str = "ingress";
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// Hosts of a cluster, and an outsider `x` on the same wire. All speak IPv4 and IPv6.
pub struct Ingress {
    pub lab: Lab,
    pub cluster: Cluster,
    pub hosts: Vec<String>,
    /// Without backends: those are asked for at each plan.
    pub ports: Vec<Publish>,
    /// What processes of the hosts keep.
    pub spared: BTreeSet<(IpAddr, PortProtocol, u16)>,
    /// Endpoints that have no place on their host's bridge.
    pub internal: BTreeSet<String>,
}

/// A published port, whose backends are endpoints by name, with their weights.
#[derive(Clone)]
pub struct Publish {
    pub bind: PortBind,
    pub protocol: PortProtocol,
    pub published: (u16, u16),
    pub target: u16,
    pub backends: Vec<(String, u16)>,
    pub affinity: MeshAffinity,
    pub proxy: bool,
}

pub fn publish(protocol: PortProtocol, published: u16, target: u16, backends: &[&str]) -> Publish {
    let backends = backends.iter().map(|id| (id.to_string(), 1)).collect();
    let (bind, published, affinity) = (PortBind::All, (published, published), MeshAffinity::None);
    Publish { bind, protocol, published, target, backends, affinity, proxy: false }
}

impl Ingress {
    /// Endpoints, each with its host, in the ingress network.
    pub fn new(hosts: &[&str], endpoints: &[(&str, &str)]) -> Self {
        let lab = Lab::new(&[hosts, &["x"]].concat(), Underlay::Ipv4);
        for host in hosts.iter().chain(&["x"]) {
            ip(&format!("-n {host} addr add {}/64 dev up0 nodad", underlay6(lab.number(host))));
        }
        let mut cluster = Cluster::default();
        cluster.network(NETWORK, 4096);
        for (id, host) in endpoints {
            cluster.endpoint(NETWORK, id, host);
        }
        let hosts = hosts.iter().map(ToString::to_string).collect();
        Self { lab, cluster, hosts, ports: Vec::new(), spared: BTreeSet::new(), internal: BTreeSet::new() }
    }

    /// A host's addresses in the underlay.
    pub fn addresses(&self, host: &str) -> [IpAddr; 2] {
        [self.lab.address(host), underlay6(self.lab.number(host)).into()]
    }

    /// Every host's plan is applied, and a second look finds nothing to do.
    pub async fn converge(&self) {
        for host in &self.hosts {
            self.lab.apply(host, &self.plan(host)).await;
        }
    }

    pub fn plan(&self, host: &str) -> NetworkPlan {
        let mut plan = self.lab.plan(&self.cluster, host);
        let (network, overlay) = self.lab.network(&self.cluster, host, NETWORK);
        plan.overlays.insert(network, overlay);
        plan.bridge = Some(BridgePlan::new("172.17.0.0/16".parse().expect("subnet")).expect("bridge"));
        let mut place = 1;
        for (id, endpoint) in plan.endpoints.iter_mut().filter(|(id, _)| !self.internal.contains(id.as_str())) {
            place += 1;
            assert!(place < 250, "{id}: one byte of places");
            endpoint.bridge = Some(bridge_port(place));
        }
        let others = self.hosts.iter().filter(|other| *other != host);
        let entry =
            |other: &String| (self.mac(other), EntryHost { node: self.node(other), host: self.lab.address(other) });
        plan.mesh = Some(MeshPlan {
            spared: self.spared.clone(),
            network,
            mac: self.mac(host),
            addresses: self.cluster.vip(NETWORK, 1).to_vec(),
            entries: others.map(entry).collect(),
            ports: self.ports.iter().map(|port| self.published(port)).collect(),
        });
        plan
    }

    fn published(&self, port: &Publish) -> PublishedPorts {
        let Publish { bind, protocol, published, target, backends, affinity, proxy: proxy_protocol } = port.clone();
        let of = |(id, weight): &(String, u16)| self.cluster.addresses(id).map(|address| (address, *weight));
        let backends: BTreeMap<IpAddr, u16> = backends.iter().flat_map(of).collect();
        let backends = backends.into();
        PublishedPorts { bind, protocol, published, target, backends, affinity, proxy_protocol }
    }

    pub fn node(&self, host: &str) -> NodeId {
        NodeId::from_random(self.lab.number(host).into())
    }

    pub fn mac(&self, host: &str) -> MacAddress {
        MacAddress::for_node(self.node(host))
    }

    /// Where the endpoint is on its host's bridge.
    pub fn on_bridge(&self, host: &str, id: &str) -> Ipv4Addr {
        self.plan(host).endpoints[&id.parse().expect("id")].bridge.expect("a place").address
    }

    /// Servers in these endpoints: each says its name and the client's address and echoes then; a datagram is answered
    /// with the same. Port 80 is every address's, 81 that of IPv4 alone, 82 and 83 those of one address: in the
    /// ingress network, and on the bridge.
    pub async fn serve(&self, endpoints: &[(&str, &str)]) -> Vec<Program> {
        let mut programs = Vec::new();
        for (id, host) in endpoints {
            let [four, six] = self.cluster.addresses(id);
            let bridge = if self.internal.contains(*id) { four } else { self.on_bridge(host, id).into() };
            let places = format!("[('::',80),('0.0.0.0',81),('{four}',82),('{six}',82),('{bridge}',83)]");
            programs.push(self.lab.serve(&self.cluster, id, &server(id, &places)));
        }
        for (id, _) in endpoints {
            let listens = self.lab.line(&self.cluster, id, "ss -Hltn sport = :83");
            eventually("it listens", LISTENS_WITHIN, async || !run(&listens).is_empty()).await;
        }
        programs
    }

    /// Python on a host, to its end.
    pub fn python(&self, host: &str, code: &str) -> String {
        python(&format!("/run/netns/{host}"), code)
    }

    /// Greetings of `count` new connections, or answers to as many datagrams from new sockets: `name client`.
    pub fn ask(&self, from: &str, protocol: PortProtocol, (to, port): (IpAddr, u16), count: usize) -> Vec<String> {
        let answers = self.python(from, &client(protocol, (to, port), count));
        answers.lines().map(str::to_owned).collect()
    }
}

/// 2001:db8::N
pub fn underlay6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into())
}

pub fn bridge_port(place: u8) -> BridgePort {
    let address = Ipv4Addr::new(172, 17, 0, place);
    BridgePort { address, mac: MacAddress::for_ipv4(address) }
}

/// Python in a namespace, to its end.
pub fn python(namespace: &str, code: &str) -> String {
    let net = format!("--net={namespace}");
    let output = std::process::Command::new("nsenter").args([&net, "python3", "-c", code]).output().expect("python");
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{namespace}: {code}\n{said}{error}");
    said.trim().to_owned()
}

/// Asks and prints `name client`; what could not be asked is printed as the error's name.
pub fn client(protocol: PortProtocol, (to, port): (IpAddr, u16), count: usize) -> String {
    let family = if to.is_ipv4() { "AF_INET" } else { "AF_INET6" };
    let kind = if protocol == PortProtocol::Tcp { "SOCK_STREAM" } else { "SOCK_DGRAM" };
    format!(
        "
import socket
for _ in range({count}):
    s = socket.socket(socket.{family}, socket.{kind}); s.settimeout(4)
    try:
        s.connect(('{to}', {port}))
        if s.type == socket.SOCK_DGRAM: s.send(b'hello')
        print(s.recv(200).decode().strip())
    except OSError as e: print(type(e).__name__)
    s.close()
"
    )
}

fn server(name: &str, places: &str) -> String {
    format!(
        "
import socket, socketserver, threading
def said(client): return ('{name} %s\\n' % client[0].replace('::ffff:', '')).encode()
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(said(self.client_address))
        try:
            while data := self.request.recv(100): self.request.sendall(data)
        except OSError: pass
class Udp(socketserver.BaseRequestHandler):
    def handle(self): self.request[1].sendto(said(self.client_address), self.client_address)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 1024
class Datagrams(socketserver.UDPServer): pass
for place in {places}:
    for server, handler in (Datagrams, Udp), (Server, Tcp):
        kind = type('of', (server,), dict(address_family=socket.AF_INET6 if ':' in place[0] else socket.AF_INET))
        threading.Thread(target=kind(place, handler).serve_forever).start()
"
    )
}
