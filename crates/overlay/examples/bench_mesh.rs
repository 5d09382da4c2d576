//! Measures new connections and requests per second through a published port: a server on the host itself, the mesh with the
//! backend on the host that was asked and on another one, a small user-space proxy as container engines have them, and
//! HAProxy where that is installed. Then one change and new connections with 1 and with 1,000 services of five
//! backends. Hosts are namespaces of this machine. Needs root; prints one line of JSON.
//!
//! `cargo run -p overlay --example bench_mesh [seconds]`; lives here and not in `benches`, so that it is built without the daemon.
#![allow(clippy::print_stdout)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{setsockopt, sockopt},
};
use serde_json::{Value, json};
use support::{daemons::Daemon, in_host, ingress::*, run};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream as AsyncStream},
};
use types::PortProtocol;

/// Clients that ask at the same time: as many as a small machine keeps busy.
const CLIENTS: usize = 4;
const SERVER: u16 = 80;
const PUBLISHED: u16 = 8080;
const PROXY: u16 = 8081;
const HAPROXY: u16 = 8082;
const SERVICES: u16 = 1000;
const ROUNDS: u32 = 5;
/// Enough that the median does not hang on what else the machine does.
const CHANGES: usize = 100;

fn main() {
    // Started again as a data plane process.
    support::netd_process();
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let time = Duration::from_secs(seconds);
    in_host(move || async move {
        let backends: Vec<(String, &str)> = (1..=5).map(|n| (format!("w{n}"), "b")).collect();
        let backends: Vec<(&str, &str)> = backends.iter().map(|(id, host)| (id.as_str(), *host)).collect();
        let names: Vec<&str> = backends.iter().map(|(id, _)| *id).collect();
        let mut ingress = Ingress::new(&["a", "b"], &backends);
        ingress.ports.push(publish(PortProtocol::Tcp, PUBLISHED, SERVER, &["w1"]));
        let daemons = ["a", "b"].map(Daemon::start);
        for daemon in &daemons {
            daemon.apply(&ingress.plan(&daemon.host)).await;
        }
        for name in ["ip_local_port_range=1024 65000", "tcp_max_tw_buckets=100"] {
            let (key, value) = name.split_once('=').expect("a setting");
            inside("x".as_ref(), move || std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).expect(key))
                .join()
                .expect("set");
        }
        serve(&PathBuf::from("/run/netns/b"), SERVER);
        for id in &names {
            serve(&namespace_of("b", id), SERVER);
        }
        let [a, b] = ["a", "b"].map(|host| ingress.addresses(host)[0]);
        proxy(&PathBuf::from("/run/netns/b"), PROXY, (ingress.on_bridge("b", "w1"), SERVER).into());
        let container = container_beside("b", b);
        let haproxy = haproxy((ingress.on_bridge("b", "w1"), SERVER).into());
        let mut targets = vec![
            ("direct", b, SERVER),
            ("direct_container", container, SERVER),
            ("mesh_same_host", b, PUBLISHED),
            ("mesh_other_host", a, PUBLISHED),
        ];
        targets.push(("user_space_proxy", b, PROXY));
        targets.extend(haproxy.as_ref().map(|_| ("haproxy", b, HAPROXY)));
        let measured = measure_all(&targets, time);
        let scale = scale(&mut ingress, &daemons[0], &names, a, time).await;
        let ratio = |of: &str, to: &str| {
            let rate = |name: &str| measured[name]["connections_per_second"].as_f64();
            Some((rate(of)? / rate(to)? * 1000.0).round() / 1000.0)
        };
        let ratios = json!({
            "mesh_same_host_to_direct": ratio("mesh_same_host", "direct"),
            "mesh_other_host_to_direct": ratio("mesh_other_host", "direct"),
            "mesh_same_host_to_user_space_proxy": ratio("mesh_same_host", "user_space_proxy"),
            "mesh_same_host_to_haproxy": ratio("mesh_same_host", "haproxy"),
        });
        let said = json!({ "targets": measured, "services": scale, "ratios": ratios });
        println!("{said}");
        drop((daemons, haproxy));
        // Servers are threads: they end with this.
        std::process::exit(0);
    });
}

/// A server in a namespace of its own behind a veth pair of a host, as bare as a container can be, with a route to it on the outsider.
fn container_beside(host: &str, through: IpAddr) -> IpAddr {
    let to = IpAddr::from([192, 168, 77, 2]);
    run("ip netns add beside");
    run(&format!("ip -n {host} link add beside0 type veth peer name eth0 netns beside"));
    run(&format!("ip -n {host} addr add 192.168.77.1/24 dev beside0"));
    run(&format!("ip -n {host} link set beside0 up"));
    run(&format!("ip -n beside addr add {to}/24 dev eth0"));
    run("ip -n beside link set eth0 up");
    run("ip -n beside route add default via 192.168.77.1");
    run(&format!("ip -n x route add {to} via {through}"));
    serve(Path::new("/run/netns/beside"), SERVER);
    to
}

/// One change of one service among few and among many, and new connections to it.
async fn scale(ingress: &mut Ingress, daemon: &Daemon, names: &[&str], to: IpAddr, time: Duration) -> Value {
    let mut scales = Vec::new();
    for count in [1, SERVICES] {
        let publish = |n: u16| publish(PortProtocol::Tcp, PUBLISHED + n, SERVER, names);
        ingress.ports = (0..count).map(publish).collect();
        let plan = ingress.plan("a");
        let start = Instant::now();
        daemon.apply(&plan).await;
        let load = start.elapsed();
        // The look that follows own changes is over by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut changes = Vec::new();
        for change in 0..CHANGES {
            let service = &mut ingress.ports[usize::from(count / 2)];
            service.backends =
                names.iter().take(if change % 2 == 0 { 4 } else { 5 }).map(|id| ((*id).to_owned(), 1)).collect();
            let plan = ingress.plan("a");
            let start = Instant::now();
            assert_eq!(daemon.apply(&plan).await, 1, "one step");
            changes.push(start.elapsed());
        }
        changes.sort();
        scales.push(json!({
            "services": count,
            "all_loaded_ms": milliseconds(load),
            "one_change_ms": milliseconds(changes[changes.len() / 2]),
            "one_change_worst_ms": milliseconds(changes[changes.len() - 1]),
            "connections_per_second": connections(to, PUBLISHED, time)["per_second"],
        }));
    }
    Value::from(scales)
}

/// All in turn, several rounds, and the median of each figure: whatever else the machine does meets them all.
fn measure_all(targets: &[(&str, IpAddr, u16)], time: Duration) -> Value {
    let mut rounds: Vec<Vec<[Value; 2]>> = vec![Vec::new(); targets.len()];
    for _ in 0..ROUNDS {
        for ((_, to, port), rounds) in targets.iter().zip(&mut rounds) {
            rounds.push([connections(*to, *port, time / ROUNDS), requests(*to, *port, time / ROUNDS)]);
        }
    }
    let figures = |rounds: &[[Value; 2]]| {
        let median = |kind: usize, name: &str| {
            let mut found: Vec<f64> = rounds.iter().filter_map(|round| round[kind][name].as_f64()).collect();
            found.sort_by(f64::total_cmp);
            found[found.len() / 2]
        };
        let slowest = rounds.iter().filter_map(|round| round[0]["worst_us"].as_u64()).max();
        json!({
            "connections_per_second": median(0, "per_second"), "connection_p50_us": median(0, "p50_us"),
            "connection_p99_us": median(0, "p99_us"), "connection_worst_us": slowest,
            "requests_per_second": median(1, "per_second"), "request_p50_us": median(1, "p50_us"),
            "request_p99_us": median(1, "p99_us"),
        })
    };
    targets.iter().zip(&rounds).map(|((name, ..), rounds)| ((*name).to_owned(), figures(rounds))).collect()
}

/// A connection, one request on it, its end; again and again.
fn connections(to: IpAddr, port: u16, time: Duration) -> Value {
    rate(time, move || move || exchange(&mut connect(to, port)))
}

/// Requests one after the other on a connection that stays.
fn requests(to: IpAddr, port: u16, time: Duration) -> Value {
    rate(time, move || {
        let mut stream = connect(to, port);
        move || exchange(&mut stream)
    })
}

fn connect(to: IpAddr, port: u16) -> TcpStream {
    let stream = TcpStream::connect_timeout(&(to, port).into(), Duration::from_secs(5)).expect("connect");
    stream.set_nodelay(true).expect("no delay");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("patience");
    // Ended by a reset: else ports wait for a minute, and there are not as many as connections.
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).expect("linger");
    stream
}

fn exchange(stream: &mut TcpStream) {
    let mut answer = [0; 64];
    stream.write_all(&[7; 64]).expect("ask");
    stream.read_exact(&mut answer).expect("answer");
}

/// Clients on the outsider, each doing what `make` makes over and over.
fn rate<F: FnMut()>(time: Duration, make: impl Fn() -> F + Send + Copy + 'static) -> Value {
    let start = Instant::now();
    let body = move || {
        let mut work = make();
        let mut took = Vec::new();
        while start.elapsed() < time {
            let begun = Instant::now();
            work();
            took.push(begun.elapsed());
        }
        took
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| inside(Path::new("x"), body)).collect();
    let mut took: Vec<Duration> = clients.into_iter().flat_map(|client| client.join().expect("client")).collect();
    let seconds = start.elapsed().as_secs_f64();
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_micros() as u64;
    json!({ "per_second": (took.len() as f64 / seconds).round(), "p50_us": at(0.5), "p99_us": at(0.99), "worst_us": at(1.0) })
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Echoes, in this namespace.
fn serve(namespace: &Path, port: u16) {
    in_runtime(namespace, move || async move {
        let listener = listen(port).await;
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
}

/// What a container engine starts for each published port: one more connection for each, and every byte copied twice.
fn proxy(namespace: &Path, port: u16, to: SocketAddr) {
    in_runtime(namespace, move || async move {
        let listener = listen(port).await;
        loop {
            let Ok((mut client, _)) = listener.accept().await else { continue };
            tokio::spawn(async move {
                let Ok(mut server) = AsyncStream::connect(to).await else { return };
                let _ = client.set_nodelay(true).and(server.set_nodelay(true));
                let mut buffers = [vec![0; 16 * 1024], vec![0; 16 * 1024]];
                let [forth, back] = &mut buffers;
                let ((mut client_in, mut client_out), (mut server_in, mut server_out)) =
                    (client.split(), server.split());
                let pump = async |from: &mut tokio::net::tcp::ReadHalf<'_>,
                                  to: &mut tokio::net::tcp::WriteHalf<'_>,
                                  buffer: &mut Vec<u8>| {
                    while let Ok(count @ 1..) = from.read(buffer).await {
                        if to.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    () = pump(&mut client_in, &mut server_out, forth) => {}
                    () = pump(&mut server_in, &mut client_out, back) => {}
                }
            });
        }
    });
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind((IpAddr::from([0, 0, 0, 0]), port)).await.expect("listen")
}

/// None where it is not installed.
fn haproxy(to: SocketAddr) -> Option<Running> {
    let text = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         listen mesh\n bind 0.0.0.0:{HAPROXY}\n server one {to}\n"
    );
    std::fs::write("/run/haproxy.cfg", text).expect("configuration");
    let mut command = Command::new("nsenter");
    command.args(["--net=/run/netns/b", "haproxy", "-db", "-f", "/run/haproxy.cfg"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    std::thread::sleep(Duration::from_millis(500));
    matches!(child.try_wait(), Ok(None)).then_some(Running(child))
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn in_runtime<F: Future<Output = ()>>(namespace: &Path, work: impl FnOnce() -> F + Send + 'static) {
    let _running = inside(namespace, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(work());
    });
}

/// Runs this on a thread inside a namespace: a path, or the name of a host.
fn inside<T: Send + 'static>(namespace: &Path, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let namespace = File::open(Path::new("/run/netns").join(namespace)).expect("namespace");
    std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("enter");
        work()
    })
}

fn namespace_of(host: &str, id: &str) -> PathBuf {
    let path = PathBuf::from(format!("/run/rswarm/{host}/netns/{id}"));
    run(&format!("test -e {}", path.display()));
    path
}
