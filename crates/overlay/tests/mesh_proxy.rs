//! Published ports whose connections begin with a PROXY protocol header: what the backend reads, and what becomes of
//! connections when backends, netd and the writer of the headers itself come and go.

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    net::IpAddr,
    process::{ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use overlay::{HostPorts, LocalNetworkPlan, LocalPort, NetworkPlan};
use types::{MeshAffinity, PortBind, PortProtocol};

use support::{
    daemons::*,
    eventually, in_host,
    ingress::*,
    lab::Program,
    locals::{bridge6, port6},
    output, run,
};

const SOON: Duration = Duration::from_secs(5);
const BOTH: [PortProtocol; 2] = [PortProtocol::Tcp, PortProtocol::Udp];

#[test]
fn netd_process() {
    support::netd_process();
}

/// Reads the header, says `NAME SOURCE PORT DESTINATION PORT`, echoes to the end of the client's words, and says `end`.
fn server(name: &str) -> String {
    format!(
        "
import socket, socketserver, struct
class Handler(socketserver.BaseRequestHandler):
    def take(self, count):
        got = b''
        while len(got) < count:
            more = self.request.recv(count - len(got))
            if not more: raise OSError('cut off')
            got += more
        return got
    def handle(self):
        try:
            head = self.take(16)
            assert head[:14] in (b'\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x11', b'\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x21'), head
            rest = self.take(struct.unpack('!H', head[14:])[0])
            family, size = (socket.AF_INET, 4) if head[13] == 0x11 else (socket.AF_INET6, 16)
            source, destination = (socket.inet_ntop(family, rest[at:at + size]) for at in (0, size))
            ports = struct.unpack('!HH', rest[2 * size:])
            self.request.sendall(f'{name} {{source}} {{ports[0]}} {{destination}} {{ports[1]}}\\n'.encode())
            while data := self.request.recv(65536): self.request.sendall(data)
            self.request.sendall(b'end')
        except OSError: pass
class Server(socketserver.ThreadingTCPServer):
    address_family, allow_reuse_address, daemon_threads, request_queue_size = socket.AF_INET6, True, True, 1024
Server(('::', 90), Handler).serve_forever()
"
    )
}

/// Connects `count` times from a host; for each: what the backend said, with `me` for the client's own port.
fn ask(ingress: &Ingress, from: &str, (to, port): (IpAddr, u16), count: usize) -> Vec<String> {
    let code = format!(
        "
import socket
for _ in range({count}):
    try:
        c = socket.create_connection(('{to}', {port}), 5)
        said = c.makefile().readline().split()
        if said: said[2] = 'me' if int(said[2]) == c.getsockname()[1] else said[2]
        print(' '.join(said) or 'nothing')
        c.close()
    except OSError as e: print(type(e).__name__)
"
    );
    ingress.python(from, &code).lines().map(str::to_owned).collect()
}

fn with_header(port: u16, backends: &[&str]) -> Publish {
    Publish { proxy: true, ..publish(PortProtocol::Tcp, port, 90, backends) }
}

async fn start(ingress: &Ingress, backends: &[(&str, &str)], daemons: &[Daemon]) -> Vec<Program> {
    for daemon in daemons {
        daemon.apply(&ingress.plan(&daemon.host)).await;
    }
    let mut programs: Vec<Program> = Vec::new();
    for (id, _) in backends {
        programs.push(ingress.lab.serve(&ingress.cluster, id, &server(id)));
        let listens = ingress.lab.line(&ingress.cluster, id, "ss -Hltn sport = :90");
        eventually("it listens", SOON, async || !run(&listens).is_empty()).await;
    }
    programs
}

/// Ports of endpoints of a daemon's host on that host alone, over TCP and UDP.
async fn publish_on_host(ingress: &Ingress, daemon: &Daemon, binds: &[(&str, PortBind, (u16, u16))]) {
    let mut plan = ingress.plan(&daemon.host);
    plan.mesh = None;
    for (id, bind, published) in binds {
        // Behind port 81 is nothing but 0.0.0.0.
        let port = |protocol| HostPorts { bind: bind.clone(), protocol, published: *published, target: 81 };
        plan.endpoints.get_mut(&id.parse().expect("id")).expect("endpoint").ports = BOTH.map(port).to_vec();
    }
    assert_eq!(plan.problems(), Default::default());
    daemon.apply(&plan).await;
}

/// A connection from outside that stays: the backend's name, and what answers to a line.
struct Talk {
    program: Program,
    output: BufReader<ChildStdout>,
}

impl Talk {
    fn to(to: IpAddr, port: u16) -> (Self, String) {
        let code = format!(
            "
import socket, sys
c = socket.create_connection(('{to}', {port}), 5); c.settimeout(20)
print(c.recv(200).decode().split()[0])
while sys.stdin.readline():
    try: c.sendall(b'still'); print(c.recv(9).decode() or 'closed')
    except OSError as e: print(type(e).__name__)
"
        );
        let mut command = Command::new("nsenter");
        command.args(["--net=/run/netns/x", "python3", "-u", "-c", &code]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("client");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut talk = Self { program: Program(child), output };
        let backend = talk.line();
        (talk, backend)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }

    fn says(&mut self) -> String {
        self.program.0.stdin.as_mut().expect("piped").write_all(b"\n").expect("go on");
        self.line()
    }
}

fn standing(host: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(format!("/run/rswarm/{host}/port-proxy.json")).expect("standing");
    serde_json::from_str(&text).expect("JSON")
}

/// P01: the first bytes bear the client and the address that it dialled, IPv4 and IPv6, from outside, from the host itself
/// and from a container, whichever host the backend is on; other ports have no header.
#[test]
fn p01_the_backend_reads_who_dialled_what() {
    in_host(|| async {
        let backends = [("w1", "a"), ("w2", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports = vec![with_header(8080, &["w1"]), with_header(8090, &["w2"]), with_header(8070, &[])];
        ingress.ports.push(publish(PortProtocol::Tcp, 8000, 80, &["w2"]));
        ingress.ports.push(Publish { published: (8100, 8110), target: 90, ..with_header(8100, &["w2"]) });
        let daemons = ["a", "b"].map(Daemon::start);
        let _servers = start(&ingress, &backends, &daemons).await;
        let _others = ingress.serve(&backends).await;
        for (family, to) in ingress.addresses("a").into_iter().enumerate() {
            let [outside, inside] = ["x", "a"].map(|host| ingress.addresses(host)[family]);
            for (port, backend) in [(8080, "w1"), (8090, "w2"), (8100, "w2")] {
                let heard = ask(&ingress, "x", (to, port), 2);
                assert_eq!(heard, vec![format!("{backend} {outside} me {to} {port}"); 2]);
                assert_eq!(ask(&ingress, "a", (to, port), 1), [format!("{backend} {inside} me {to} {port}")]);
            }
            assert_eq!(ask(&ingress, "x", (to, 8070), 1), ["ConnectionRefusedError"], "nobody is behind it");
            assert_eq!(ingress.ask("x", PortProtocol::Tcp, (to, 8000), 1), [format!("w2 {outside}")]);
        }
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(ask(&ingress, "a", (loopback, 8090), 1), ["w2 127.0.0.1 me 127.0.0.1 8090"]);
        // Past the published ports nobody gets anywhere.
        let port = u16::try_from(standing("a")["port"].as_u64().expect("port")).expect("port");
        let past = ask(&ingress, "x", (ingress.addresses("a")[0], port), 1);
        assert!(past == ["ConnectionResetError"] || past == ["nothing"], "{past:?}");
    });
}

/// P32: a port of a container that is there in IPv4 only is open at ::1 too for programs of its host, over TCP and UDP, as with
/// a container engine; and again after the process that leads there was killed. Nobody gets in from outside by that.
#[test]
fn p32_the_loopback_of_ipv6_leads_to_ports_of_ipv4() {
    in_host(|| async {
        let backends = [("w1", "a")];
        let ingress = Ingress::new(&["a"], &backends);
        let daemons = ["a"].map(Daemon::start);
        let mut plan = ingress.plan("a");
        plan.mesh = None;
        // Behind port 81 is nothing but 0.0.0.0.
        let port = |protocol| HostPorts { bind: PortBind::All, protocol, published: (8080, 8080), target: 81 };
        plan.endpoints.get_mut(&"w1".parse().expect("id")).expect("endpoint").ports = BOTH.map(port).to_vec();
        daemons[0].apply(&plan).await;
        let _servers = ingress.serve(&backends).await;
        let own = ingress.addresses("a");
        let loopback: IpAddr = "::1".parse().expect("address");
        let opens = || BOTH.map(|protocol| ingress.ask("a", protocol, (loopback, 8080), 2));
        let wanted = || ["w1 172.17.0.1".to_owned(), "w1 172.17.0.1".to_owned()];
        assert_eq!(opens(), [wanted(), wanted()]);
        // One socket, many datagrams, there and back.
        let code = "
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(4); s.connect(('::1', 8080))
for _ in range(100):
    s.send(b'x' * 1000); s.recv(2000)
print('all')";
        assert_eq!(ingress.python("a", code), "all");
        assert_eq!(ingress.ask("a", PortProtocol::Tcp, (loopback, 8081), 1), ["ConnectionRefusedError"]);
        let at = standing("a")["over_ipv4"].as_u64().expect("port");
        let at = u16::try_from(at).expect("port");
        // Past the published ports it serves nobody.
        for (to, said) in own.into_iter().zip(["ConnectionRefusedError", "ConnectionResetError"]) {
            assert_eq!(ingress.ask("x", PortProtocol::Tcp, (to, at), 1), [said], "{to}");
        }
        run(&format!("kill -9 {}", standing("a")["pid"]));
        eventually("it is there again", SOON, async || opens() == [wanted(), wanted()]).await;
        plan.endpoints.clear();
        daemons[0].apply(&plan).await;
        eventually("it ends with the last port", SOON, async || {
            !std::path::Path::new(&format!("/proc/{}", standing("a")["pid"])).exists()
        })
        .await;
    });
}

/// P32, P23: from outside too, by whatever address of IPv6 the host has; what is bound to one address, or to an interface, is open
/// there and nowhere else, and each of several containers with one number at several addresses has its own clients.
#[test]
fn p32_host_ports_are_open_over_ipv6() {
    in_host(|| async {
        let endpoints = [("all", "a"), ("one", "a"), ("two", "a"), ("wire", "a")];
        let ingress = Ingress::new(&["a"], &endpoints);
        let second: IpAddr = "fd77::5".parse().expect("address");
        run("ip -n a addr add fd77::5/64 dev up0 nodad");
        run("ip -n x addr add fd77::9/64 dev up0 nodad");
        let daemons = ["a"].map(Daemon::start);
        let [four, six] = ingress.addresses("a");
        let binds = [
            ("all", PortBind::All, (8080, 8081)),
            ("one", PortBind::Address(six), (8090, 8090)),
            ("two", PortBind::Address(second), (8090, 8090)),
            ("wire", PortBind::Interface("up0".to_owned()), (8095, 8095)),
        ];
        publish_on_host(&ingress, &daemons[0], &binds).await;
        let _servers = ingress.serve(&endpoints).await;
        let loopback: IpAddr = "::1".parse().expect("address");
        let link_local = |from: &str| {
            let line = format!("nsenter --net=/run/netns/{from} ip -6 -o addr show dev up0 scope link");
            let said = run(&line);
            said.split_whitespace().find_map(|word| word.strip_suffix("/64")).expect("an address").to_owned()
        };
        for protocol in BOTH {
            let heard = |from: &str, to: IpAddr, port: u16| ingress.ask(from, protocol, (to, port), 1).concat();
            for (from, to) in [("x", six), ("x", second), ("a", six), ("a", second), ("a", loopback)] {
                assert_eq!(heard(from, to, 8080), "all 172.17.0.1", "{protocol:?} from {from} to {to}");
            }
            for from in ["x", "a"] {
                assert_eq!(heard(from, six, 8090), "one 172.17.0.1", "{protocol:?} from {from}");
                assert_eq!(heard(from, second, 8090), "two 172.17.0.1", "{protocol:?} from {from}");
                assert_eq!(heard(from, six, 8095), "wire 172.17.0.1", "{protocol:?} from {from}");
            }
            for (from, to) in [("x", four), ("a", loopback), ("a", [127, 0, 0, 1].into())] {
                let said = heard(from, to, 8090);
                assert!(["ConnectionRefusedError", "TimeoutError"].contains(&said.as_str()), "{to}: {said}");
            }
            // Over IPv4 the client is seen as ever.
            assert_eq!(heard("x", four, 8080), format!("all {}", ingress.addresses("x")[0]));
        }
        // By the wire's own addresses, which name an interface.
        let code = format!(
            "
import socket
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(socket.AF_INET6, kind); s.settimeout(4)
    s.connect(('{}', 8080, 0, socket.if_nametoindex('up0')))
    if kind == socket.SOCK_DGRAM: s.send(b'x')
    print(s.recv(99).decode().split()[0])",
            link_local("a")
        );
        assert_eq!(ingress.python("x", &code), "all\nall");
        // Many clients at once, by one socket each, in datagrams that must not be mixed.
        let code = format!(
            "
import socket
all = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(50)]
for n, s in enumerate(all): s.settimeout(4); s.connect((['{six}', '{second}'][n % 2], 8090)); s.send(b'x')
print(''.join(s.recv(99).decode()[0] for s in all) == 'ot' * 25)"
        );
        assert_eq!(ingress.python("x", &code), "True");
        daemons[0].apply(&NetworkPlan::default()).await;
        assert_eq!(run("nsenter --net=/run/netns/a nft list ruleset"), "");
    });
}

/// E-14: one number may be one container's over IPv4 and another's over IPv6; what is open in one family leaves the other to
/// processes of the host.
#[test]
fn e_14_one_number_in_each_family() {
    in_host(|| async {
        let endpoints = [("four", "a"), ("six", "a"), ("half", "a")];
        let ingress = Ingress::new(&["a"], &endpoints);
        let daemons = ["a"].map(Daemon::start);
        let [four, six] = ingress.addresses("a");
        let all_of = |family: &str| PortBind::Address(family.parse().expect("address"));
        let binds = [
            ("four", all_of("0.0.0.0"), (8080, 8081)),
            ("six", all_of("::"), (8080, 8080)),
            ("half", all_of("::"), (8090, 8091)),
        ];
        publish_on_host(&ingress, &daemons[0], &binds).await;
        let _servers = ingress.serve(&endpoints).await;
        let heard = |from: &str, protocol, to: IpAddr, port: u16| ingress.ask(from, protocol, (to, port), 1).concat();
        for protocol in BOTH {
            for from in ["x", "a"] {
                let said = heard(from, protocol, four, 8080);
                assert!(said.starts_with("four "), "{protocol:?} from {from}: {said}");
                assert_eq!(heard(from, protocol, six, 8080), "six 172.17.0.1", "{protocol:?} from {from}");
                assert_eq!(heard(from, protocol, six, 8090), "half 172.17.0.1", "{protocol:?} from {from}");
            }
            let [loopback4, loopback6] = ["127.0.0.1", "::1"].map(|text| text.parse().expect("address"));
            assert!(heard("a", protocol, loopback4, 8080).starts_with("four "), "{protocol:?}");
            assert_eq!(heard("a", protocol, loopback6, 8080), "six 172.17.0.1", "{protocol:?}");
            assert_eq!(heard("a", protocol, loopback6, 8090), "half 172.17.0.1", "{protocol:?}");
        }
        let code = "
import socket
s = socket.create_server(('0.0.0.0', 8090))
while True: c, _ = s.accept(); c.send(b'own'); c.close()";
        let _own = ingress.lab.spawn("a", code);
        let tcp = PortProtocol::Tcp;
        eventually("the host's own has it over IPv4", SOON, async || heard("x", tcp, four, 8090) == "own").await;
        assert_eq!(heard("x", tcp, six, 8090), "half 172.17.0.1");
    });
}

/// E-14, E-31: a port of a container that is there in IPv6 only is open at ::1 too, over TCP and UDP; whoever else dials it is
/// seen by the container as he is.
#[test]
fn e_14_the_loopback_of_ipv6_leads_to_ports_of_ipv6() {
    in_host(|| async {
        let backends = [("w1", "a")];
        let mut ingress = Ingress::new(&["a"], &backends);
        ingress.internal.insert("w1".to_owned());
        let daemons = ["a"].map(Daemon::start);
        let mut plan = ingress.plan("a");
        plan.mesh = None;
        let (network, local) = bridge6(7, false);
        plan.locals.insert(network, LocalNetworkPlan { ipv4: None, ..local });
        let endpoint = plan.endpoints.get_mut(&"w1".parse().expect("id")).expect("endpoint");
        endpoint.locals.push(LocalPort { address: None, ..port6(7, 2, "w1") });
        let bind = PortBind::Address("::".parse().expect("address"));
        let port = |protocol| HostPorts { bind: bind.clone(), protocol, published: (8080, 8080), target: 80 };
        endpoint.ports = BOTH.map(port).to_vec();
        assert_eq!(plan.problems(), Default::default());
        daemons[0].apply(&plan).await;
        let _servers = ingress.serve(&backends).await;
        let ([_, own], [_, outside]) = (ingress.addresses("a"), ingress.addresses("x"));
        let loopback: IpAddr = "::1".parse().expect("address");
        for protocol in BOTH {
            let said = ingress.ask("a", protocol, (loopback, 8080), 3);
            let is_led = |line: &String| line.starts_with("w1 ") && line != "w1 ::1";
            assert!(said.len() == 3 && said.iter().all(is_led), "{protocol:?}: {said:?}");
            assert_eq!(ingress.ask("x", protocol, (own, 8080), 1), [format!("w1 {outside}")], "{protocol:?}");
        }
        let at = u16::try_from(standing("a")["past_loopback"].as_u64().expect("port")).expect("port");
        for from in ["a", "x"] {
            let said = ingress.ask(from, PortProtocol::Tcp, (own, at), 1);
            assert_eq!(said, ["ConnectionRefusedError"], "from {from}: it is at ::1 alone");
        }
        assert_eq!(ingress.ask("a", PortProtocol::Tcp, (loopback, at), 1), ["ConnectionResetError"], "past the ports");
    });
}

/// Bytes arrive as they were sent, both ways and many; the end of one direction is not the end of the other; what one side
/// breaks off is broken off on the other.
#[test]
fn p01_bytes_ends_and_resets_are_passed_on() {
    in_host(|| async {
        let backends = [("w1", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports = vec![with_header(8080, &["w1"])];
        let daemons = ["a", "b"].map(Daemon::start);
        let _servers = start(&ingress, &backends, &daemons).await;
        let to = ingress.addresses("a")[0];
        let code = format!(
            "
import hashlib, os, socket, threading
c = socket.create_connection(('{to}', 8080), 5); c.settimeout(20)
f = c.makefile('rb'); f.readline()
block = os.urandom(1 << 20)
def send():
    for _ in range(40): c.sendall(block)
    c.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
got = f.read()
print(got == block * 40 + b'end')
"
        );
        assert_eq!(ingress.python("x", &code), "True");
        let (mut talk, _) = Talk::to(to, 8080);
        assert_eq!(talk.says(), "still");
        // The backend's side is broken off.
        run(&ingress.lab.line(&ingress.cluster, "w1", "ss -K state established sport = :90"));
        assert_eq!(talk.says(), "ConnectionResetError");
        // And the client's: the backend hears of it.
        let code = format!(
            "
import socket, struct
c = socket.create_connection(('{to}', 8080), 5); c.recv(100)
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); c.close()
"
        );
        ingress.python("x", &code);
        let open = ingress.lab.line(&ingress.cluster, "w1", "ss -Htn state established sport = :90");
        eventually("no connection is left", SOON, async || run(&open).is_empty()).await;
    });
}

/// P05, P24: connections outlive netd and a writer of another version; a writer that is killed is back at once; a backend
/// that drains keeps its connections and gets no new ones; one that is gone ends them within a second.
#[test]
fn p05_connections_outlive_what_is_replaced() {
    in_host(|| async {
        let backends = [("w1", "b"), ("w2", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports = vec![with_header(8080, &["w1"])];
        let mut daemons = ["a", "b"].map(Daemon::start);
        let _servers = start(&ingress, &backends, &daemons).await;
        let to = ingress.addresses("a")[0];
        let (mut talk, backend) = Talk::to(to, 8080);
        assert_eq!(backend, "w1");
        let first = standing("a");

        daemons[0].kill();
        assert_eq!((talk.says(), ask(&ingress, "x", (to, 8080), 1).len()), ("still".to_owned(), 1));
        daemons[0].resume_as("2");
        let plan = ingress.plan("a");
        daemons[0].client.apply(&plan).await.expect("applied");
        let second = standing("a");
        assert_eq!((&second["version"], &second["port"]), (&serde_json::json!("2"), &first["port"]));
        assert_eq!(talk.says(), "still", "the old one carries its connection to its end");
        assert!(ask(&ingress, "x", (to, 8080), 20).iter().all(|said| said.starts_with("w1 ")));

        ingress.ports[0].backends = vec![("w2".to_owned(), 1)];
        daemons[0].apply(&ingress.plan("a")).await;
        assert!(ask(&ingress, "x", (to, 8080), 5).iter().all(|said| said.starts_with("w2 ")));
        assert_eq!(talk.says(), "still", "w1 drains");

        let before = Instant::now();
        let mut gone = ingress.plan("a");
        let of_w1 = ingress.cluster.addresses("w1");
        gone.overlays.values_mut().for_each(|o| o.remotes.retain(|_, remote| remote.addresses != of_w1));
        daemons[0].apply(&gone).await;
        assert!(["ConnectionResetError", "closed"].contains(&talk.says().as_str()));
        assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());

        run(&format!("kill -9 {}", standing("a")["pid"]));
        eventually("it is back", SOON, async || ask(&ingress, "x", (to, 8080), 1)[0].starts_with("w2 ")).await;
        ingress.ports.clear();
        daemons[0].apply(&ingress.plan("a")).await;
        let pid = standing("a")["pid"].to_string();
        eventually("it ends", SOON, async || !output(&format!("kill -0 {pid}")).status.success()).await;
    });
}

/// P43: weights and a client's own backend hold as they do without a header.
#[test]
fn p43_weights_and_affinity_with_a_header() {
    in_host(|| async {
        let backends = [("w1", "a"), ("w2", "b"), ("w3", "b")];
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        let mut weighted = with_header(8080, &["w1", "w2"]);
        weighted.backends[1].1 = 3;
        let sticky = Publish { affinity: MeshAffinity::Source, ..with_header(8090, &["w1", "w2", "w3"]) };
        ingress.ports = vec![weighted, sticky];
        let daemons = ["a", "b"].map(Daemon::start);
        let _servers = start(&ingress, &backends, &daemons).await;
        let to = ingress.addresses("a")[0];
        let heard = ask(&ingress, "x", (to, 8080), 40);
        assert_eq!(heard.iter().filter(|said| said.starts_with("w1 ")).count(), 10, "{heard:?}");
        let names = |to: IpAddr| {
            let heard = ask(&ingress, "x", (to, 8090), 10);
            heard.iter().map(|said| said.split(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        let first = names(to);
        assert!(first.iter().all(|name| *name == first[0]) && first[0].starts_with('w'), "{first:?}");
        assert_eq!(names(ingress.addresses("b")[0]), first, "the same through every host");
    });
}
