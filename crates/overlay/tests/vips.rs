//! Virtual addresses of services, as clients and backends see them.

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::IpAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use support::{lab::*, *};

const SOON: Duration = Duration::from_secs(5);

/// Says its name and the client's address, then echoes; datagrams are answered with its name.
fn server(name: &str) -> String {
    format!(
        "
import socket, socketserver, threading
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(('{name} %s\\n' % self.client_address[0]).encode())
        try:
            while data := self.request.recv(100): self.request.sendall(data)
        except OSError: pass
class Udp(socketserver.BaseRequestHandler):
    def handle(self): self.request[1].sendto(b'{name}', self.client_address)
class Server(socketserver.ThreadingTCPServer):
    address_family, allow_reuse_address, daemon_threads, request_queue_size = socket.AF_INET6, True, True, 512
class UdpServer(socketserver.UDPServer):
    address_family = socket.AF_INET6
threading.Thread(target=UdpServer(('::', 80), Udp).serve_forever).start()
Server(('::', 80), Tcp).serve_forever()
"
    )
}

/// A cluster of two hosts, a client on the first, and these backends that listen.
async fn served(lab: &Lab, cluster: &mut Cluster, backends: &[(&str, &str)]) -> Vec<Program> {
    cluster.network("red", 4097).endpoint("red", "client", "a");
    for (id, host) in backends {
        cluster.endpoint("red", id, host);
    }
    let ids: Vec<&str> = backends.iter().map(|(id, _)| *id).collect();
    cluster.service("red", 100, &ids);
    lab.converge(cluster).await;
    let servers: Vec<Program> = ids.iter().map(|id| lab.serve(cluster, id, &server(id))).collect();
    for id in ids {
        let listens = lab.line(cluster, id, "ss -Hltn sport = :80");
        eventually("it listens", SOON, async || !run(&listens).is_empty()).await;
    }
    servers
}

/// Greetings of so many connections, as `backend client-address`.
fn greetings(lab: &Lab, cluster: &Cluster, from: &str, vip: IpAddr, count: usize) -> Vec<String> {
    let code = format!(
        "
import socket
for _ in range({count}):
    c = socket.create_connection(('{vip}', 80), 5); print(c.recv(200).decode().strip()); c.close()
"
    );
    lab.python(cluster, from, &code).lines().map(str::to_owned).collect()
}

/// N-14: 1,000 connections over 5 backends within 5 %, each seeing the client's own address; TCP, UDP and ping.
#[test]
fn connections_spread_evenly_and_keep_their_source() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        let backends = [("b1", "a"), ("b2", "b"), ("b3", "a"), ("b4", "b"), ("b5", "b")];
        let _servers = served(&lab, &mut cluster, &backends).await;
        for (family, vip) in cluster.vip("red", 100).into_iter().enumerate() {
            let client = cluster.addresses("client")[family].to_string();
            let seen = greetings(&lab, &cluster, "client", vip, 1000);
            for (id, _) in backends {
                let count = seen.iter().filter(|line| line.split(' ').next() == Some(id)).count();
                assert!((190..=210).contains(&count), "{vip}: {id} got {count} of 1000");
            }
            let own = |line: &String| line.split(' ').nth(1).expect("address").trim_start_matches("::ffff:") == client;
            assert!(seen.iter().all(own), "{vip}: the backend sees the client: {:?}", seen.first());
            let datagrams = format!(
                "
import socket
names = set()
for _ in range(20):
    s = socket.socket(socket.{}, socket.SOCK_DGRAM); s.settimeout(3); s.connect(('{vip}', 80)); s.send(b'x')
    names.add(s.recv(99).decode())
print(len(names))
",
                if vip.is_ipv4() { "AF_INET" } else { "AF_INET6" }
            );
            assert_eq!(lab.python(&cluster, "client", &datagrams), "5", "{vip}: datagrams");
            assert!(lab.pings(&cluster, "client", &vip), "{vip}: ping");
        }
    });
}

/// N-14: a client that is the only backend reaches itself; without backends the refusal comes at once.
#[test]
fn a_backend_reaches_itself_and_nobody_is_refused_at_once() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        let _servers = served(&lab, &mut cluster, &[("self", "a")]).await;
        cluster.service("red", 101, &[]);
        lab.converge(&cluster).await;
        for (family, vip) in cluster.vip("red", 100).into_iter().enumerate() {
            let seen = greetings(&lab, &cluster, "self", vip, 3);
            let own = cluster.addresses("self")[family];
            assert!(seen.iter().all(|line| line.ends_with(&own.to_string())), "{seen:?}");
            assert!(lab.pings(&cluster, "self", &vip));
        }
        for vip in cluster.vip("red", 101) {
            let code = format!(
                "
import socket, time
start = time.time()
try: socket.create_connection(('{vip}', 80), 5)
except ConnectionRefusedError: print('refused')
s = socket.socket(socket.{}, socket.SOCK_DGRAM); s.settimeout(5); s.connect(('{vip}', 80))
try: s.send(b'x'); s.recv(9)
except (ConnectionRefusedError, PermissionError): print('refused')
assert time.time() - start < 1
",
                if vip.is_ipv4() { "AF_INET" } else { "AF_INET6" }
            );
            assert_eq!(lab.python(&cluster, "client", &code), "refused\nrefused", "{vip}");
        }
    });
}

/// A client that connects, says to whom, and then does what `then` says with the connection `c`.
fn connected(
    lab: &Lab,
    cluster: &Cluster,
    vip: IpAddr,
    then: &str,
) -> (Program, BufReader<std::process::ChildStdout>, String) {
    let code = format!(
        "
import socket, sys
c = socket.create_connection(('{vip}', 80), 5); c.settimeout(20)
print(c.recv(200).decode().split()[0], flush=True)
sys.stdin.readline()
{then}
"
    );
    let line = lab.line(cluster, "client", "python3 -c");
    let mut words: Vec<&str> = line.split(' ').collect();
    words.push(&code);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child: Child = command.spawn().expect("client");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut backend = String::new();
    output.read_line(&mut backend).expect("greeting");
    (Program(child), output, backend.trim().to_owned())
}

/// P10, P02: a draining backend keeps its connections and gets no new ones; one that is gone ends them at once,
/// although it says nothing any more.
#[test]
fn draining_keeps_connections_and_death_ends_them() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        let _servers = served(&lab, &mut cluster, &[("b1", "b"), ("b2", "b")]).await;
        for vip in cluster.vip("red", 100) {
            cluster.service("red", 100, &["b1", "b2"]);
            lab.converge(&cluster).await;
            let echo = "c.sendall(b'still'); print(c.recv(9).decode(), flush=True)\n\
                try: print(c.recv(9))\nexcept OSError as e: print(type(e).__name__)";
            let (mut program, mut output, backend) = connected(&lab, &cluster, vip, echo);
            let other = if backend == "b1" { "b2" } else { "b1" };

            cluster.service("red", 100, &[other]);
            lab.converge(&cluster).await;
            assert!(greetings(&lab, &cluster, "client", vip, 20).iter().all(|line| line.starts_with(other)));
            // Only now the client speaks on its old connection.
            drop(program.0.stdin.take());
            let mut line = String::new();
            output.read_line(&mut line).expect("echo");
            assert_eq!(line, "still\n", "{vip}");

            // To the client's host the backend is gone; the backend itself knows nothing of it.
            let mut without = lab.plan(&cluster, "a");
            let mac = cluster.mac(&backend);
            without.overlays.values_mut().for_each(|overlay| drop(overlay.remotes.remove(&mac)));
            let start = Instant::now();
            lab.apply("a", &without).await;
            let mut rest = String::new();
            output.read_to_string(&mut rest).expect("the client ends");
            assert_eq!(rest, "ConnectionAbortedError\n", "{vip}");
            assert!(start.elapsed() < Duration::from_secs(1), "{vip}: {:?}", start.elapsed());
        }
    });
}

/// P02: a datagram socket that spoke to a backend which is gone finds another one, without the client's doing.
#[test]
fn datagrams_move_from_a_dead_backend() {
    in_host(|| async {
        let lab = Lab::new(&["a", "b"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        let _servers = served(&lab, &mut cluster, &[("b1", "b"), ("b2", "b")]).await;
        let vip = cluster.vip("red", 100)[0];
        let then = format!(
            "
u = socket.socket(type=socket.SOCK_DGRAM); u.settimeout(2); u.connect(('{vip}', 80))
u.send(b'x'); print(u.recv(9).decode(), flush=True)
sys.stdin.readline()
u.send(b'x'); print(u.recv(9).decode(), flush=True)"
        );
        let (mut program, mut output, _) = connected(&lab, &cluster, vip, &then);
        let mut input = program.0.stdin.take().expect("piped");
        input.write_all(b"\n").expect("go on");
        let mut first = String::new();
        output.read_line(&mut first).expect("an answer");
        let dead = first.trim();
        let other = if dead == "b1" { "b2" } else { "b1" };
        cluster.service("red", 100, &[other]);
        let mut without = lab.plan(&cluster, "a");
        without.overlays.values_mut().for_each(|overlay| drop(overlay.remotes.remove(&cluster.mac(dead))));
        lab.apply("a", &without).await;
        input.write_all(b"\n").expect("go on");
        let mut second = String::new();
        output.read_line(&mut second).expect("an answer");
        assert_eq!(second.trim(), other);
    });
}

/// P36: the rules of one service are all that one change loads, and with a hundred times as many services it
/// does not take a hundred times as long.
#[test]
fn a_change_costs_its_own_service() {
    in_host(|| async {
        let lab = Lab::new(&["a"], Underlay::Ipv4);
        let mut cluster = Cluster::default();
        cluster.network("red", 4097).endpoint("red", "client", "a");
        let mut took = Vec::new();
        for count in [10, 1000] {
            let mut plan = lab.plan(&cluster, "a");
            let overlay = plan.overlays.values_mut().next().expect("overlay");
            for n in 0..count {
                let backends = [[10, 1, 0, 1], [10, 1, 0, 2], [10, 1, 0, 3]].map(IpAddr::from);
                overlay.services.insert(IpAddr::from([10, 0, 2 + (n >> 8) as u8, n as u8]), backends.into());
            }
            let start = Instant::now();
            lab.apply("a", &plan).await;
            let whole = start.elapsed();
            let overlay = plan.overlays.values_mut().next().expect("overlay");
            overlay.services.values_mut().next().expect("service").insert([10, 1, 0, 4].into());
            let start = Instant::now();
            assert_eq!(lab.apply("a", &plan).await, 1);
            took.push(start.elapsed());
            eprintln!("{count} services: loaded in {whole:?}, one more backend in {:?}", took[took.len() - 1]);
        }
        assert!(took[1] < took[0] * 20, "{took:?}");
    });
}
