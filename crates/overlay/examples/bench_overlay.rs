//! Measures one TCP stream, eight, datagrams of 1200 bytes, the round trip and the cost in processor time between two hosts
//! (namespaces of this machine): raw veth, VXLAN made by hand between the hosts and between containers, an overlay of ours,
//! an encrypted one, and VXLAN over `wireguard-go` and `boringtun-cli` where `scripts/peers` has been. Needs root; prints one line of JSON with ratios.
//!
//! `cargo run --release -p overlay --example bench_overlay [seconds]`; lives here and not in `benches`, so that it is
//! built without the daemon. CPU seconds are those of the machine, so nothing else should run.
#![allow(clippy::print_stdout)]

#[path = "../tests/support/mesh.rs"]
mod mesh;
#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mesh::*;
use overlay::{EndpointPlan, MacAddress, OverlayPlan, OverlayPort, Remote, wireguard::generate_key_pair};
use serde_json::{Value, json};
use support::{KillAtEnd, in_host, ip, output};
use types::NetworkId;

/// In place of figures.
const ABSENT: &str = "not on this machine: scripts/peers brings it";

fn main() {
    // Started again as a data plane process.
    support::netd_process();
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let time = Duration::from_secs(seconds);
    in_host(move || async move {
        let hosts = mesh(&[1, 2]).await;
        plain_overlay(&hosts).await;
        vxlan_by_hand();
        vxlan_between_containers_by_hand();
        let (here, there) = (host_namespace(1), host_namespace(2));
        let raw = measure(&here, &there, underlay(2), time);
        let vxlan = measure(&here, &there, [10, 8, 0, 2].into(), time);
        let bridged = measure(&hand_made(1), &hand_made(2), [10, 9, 0, 2].into(), time);
        let plain = measure(&plain_endpoint(1), &plain_endpoint(2), plain_address(2).into(), time);
        let encrypted = measure(&endpoint(1), &endpoint(2), inside(2), time);
        let of_go = vxlan_over(&WIREGUARD_GO, time);
        let of_boringtun = vxlan_over(&BORINGTUN, time);
        let ratios = json!({
            "vxlan_to_veth": ratios(&vxlan, &raw),
            "plain_to_vxlan": ratios(&plain, &vxlan),
            "plain_to_vxlan_between_containers": ratios(&plain, &bridged),
            "encrypted_to_vxlan": ratios(&encrypted, &vxlan),
            "encrypted_to_wireguard_go_with_vxlan": ratios(&encrypted, &of_go),
            "encrypted_to_boringtun_cli_with_vxlan": ratios(&encrypted, &of_boringtun),
        });
        println!(
            "{}",
            json!({ "veth": raw, "vxlan": vxlan, "vxlan_between_containers": bridged, "plain": plain, "encrypted": encrypted,
                "wireguard_go_with_vxlan": of_go, "boringtun_cli_with_vxlan": of_boringtun, "ratios": ratios })
        );
    });
}

/// Each figure of one divided by that of the other; for a peer that is absent, how to bring it.
fn ratios(of: &Value, to: &Value) -> Value {
    let (Some(of), Some(to)) = (of.as_object(), to.as_object()) else { return json!(ABSENT) };
    let rounded = |ratio: f64| (ratio * 1000.0).round() / 1000.0;
    of.iter()
        .filter_map(|(name, of)| Some((name.clone(), json!(rounded(of.as_f64()? / to.get(name)?.as_f64()?)))))
        .collect()
}

/// An overlay of ours that is not encrypted, with an endpoint on each host: all of it made by the data plane process.
async fn plain_overlay(hosts: &[Host]) {
    let keys: Vec<_> = hosts.iter().map(|host| (host.n, host.public())).collect();
    let id = NetworkId::from_random(78);
    for host in hosts {
        let mut plan = plan_of(host, &keys);
        let remote = |n: u8| Remote { addresses: vec![plain_address(n).into()], node: node(n), host: underlay(n) };
        let others = hosts.iter().filter(|other| other.n != host.n);
        let overlay = OverlayPlan {
            name: "plain".to_owned(),
            vni: VNI + 1,
            subnets: vec!["10.11.0.0/24".parse().expect("subnet")],
            mtu: None,
            encrypted: false,
            remotes: others.map(|other| (MacAddress::for_ipv4(plain_address(other.n)), remote(other.n))).collect(),
            ..plan.overlays[&network()].clone()
        };
        plan.overlays.insert(id, overlay);
        let address = plain_address(host.n);
        let port = OverlayPort { network: id, addresses: vec![address.into()], mac: MacAddress::for_ipv4(address) };
        let endpoint = EndpointPlan { overlays: vec![port], hostname: "p".to_owned(), ..EndpointPlan::default() };
        plan.endpoints.insert(format!("p{}", host.n).parse().expect("id"), endpoint);
        let applied = host.apply(&plan).await;
        assert_eq!(applied.errors, Vec::<String>::new());
    }
}

fn plain_address(n: u8) -> Ipv4Addr {
    [10, 11, 0, n].into()
}

fn plain_endpoint(n: u8) -> PathBuf {
    format!("/run/h{n}/netns/p{n}").into()
}

fn vxlan_by_hand() {
    for (own, other) in [(1, 2), (2, 1)] {
        let (from, to) = (underlay(own), underlay(other));
        ip(&format!("-n h{own} link add vx0 type vxlan id 9 local {from} remote {to} dstport 4790 dev eth0"));
        ip(&format!("-n h{own} addr add 10.8.0.{own}/24 dev vx0"));
        ip(&format!("-n h{own} link set vx0 up"));
    }
}

/// The least that leads from container to container: a namespace on each host, in a bridge with the VXLAN interface.
fn vxlan_between_containers_by_hand() {
    for (own, other) in [(1, 2), (2, 1)] {
        let (from, to) = (underlay(own), underlay(other));
        let host = |command: String| ip(&format!("-n h{own} {command}"));
        let inside = |command: String| ip(&format!("-n hand{own} {command}"));
        ip(&format!("netns add hand{own}"));
        host("link add hbr0 type bridge".to_owned());
        host(format!("link add vx1 type vxlan id 10 local {from} remote {to} dstport 4791 dev eth0"));
        host(format!("link add hv0 type veth peer name eth0 netns hand{own}"));
        for link in ["vx1", "hv0"] {
            host(format!("link set {link} mtu 1450 master hbr0 up"));
        }
        host("link set hbr0 up".to_owned());
        inside(format!("addr add 10.9.0.{own}/24 dev eth0"));
        inside("link set eth0 mtu 1450 up".to_owned());
    }
}

fn hand_made(n: u8) -> PathBuf {
    format!("/run/netns/hand{n}").into()
}

/// A WireGuard in user space that is told by a socket of WireGuard's own cross-platform form what to do.
struct Program {
    command: &'static [&'static str],
    /// Tells the interfaces, ports and networks of one from those of the other.
    number: u16,
}

const WIREGUARD_GO: Program = Program { command: &["wireguard-go", "-f"], number: 1 };
const BORINGTUN: Program = Program { command: &["boringtun-cli", "-f", "--disable-drop-privileges"], number: 2 };

/// A TUN interface on each host and the kernel's VXLAN over it; a word instead when the program is not there.
fn vxlan_over(program: &Program, time: Duration) -> Value {
    let number = program.number;
    let keys: Vec<_> = (0..2).map(|_| generate_key_pair().expect("key")).collect();
    let mut running = Vec::new();
    for (own, other) in [(1, 2), (2, 1)] {
        // that the program is missing shows by its socket, which never comes
        let mut command = Command::new("nsenter");
        command
            .env("PATH", with_peers())
            .arg(format!("--net=/run/netns/h{own}"))
            .args(program.command)
            .arg(format!("wg{number}b{own}"));
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            return json!(ABSENT);
        };
        running.push(KillAtEnd(child.id()));
        let path = format!("/var/run/wireguard/wg{number}b{own}.sock");
        let deadline = Instant::now() + Duration::from_secs(3);
        let mut socket = loop {
            match UnixStream::connect(&path) {
                Ok(socket) => break socket,
                Err(_) if Instant::now() > deadline => return json!(ABSENT),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let (private, public) = (&keys[own - 1].0, &keys[other - 1].1);
        let port = 51990 + number;
        let said = format!(
            "set=1\nprivate_key={}\nlisten_port={port}\npublic_key={}\nendpoint=10.1.0.{other}:{port}\nallowed_ip=10.7.{number}.{other}/32\n\n",
            hex(private.bytes()),
            hex(public)
        );
        socket.write_all(said.as_bytes()).expect("configure");
        let mut answer = [0; 64];
        let _ = socket.read(&mut answer);
        let (link, vxlan) = (format!("wg{number}b{own}"), format!("vxw{number}"));
        ip(&format!("-n h{own} addr add 10.7.{number}.{own}/24 dev {link}"));
        ip(&format!("-n h{own} link set {link} mtu 1440 up"));
        ip(&format!(
            "-n h{own} link add {vxlan} type vxlan id {number} local 10.7.{number}.{own} remote 10.7.{number}.{other} \
             dstport {}",
            4790 + number
        ));
        ip(&format!("-n h{own} addr add 10.6.{number}.{own}/24 dev {vxlan}"));
        ip(&format!("-n h{own} link set {vxlan} mtu 1390 up"));
    }
    let number = u8::try_from(number).expect("a small number");
    measure(&host_namespace(1), &host_namespace(2), [10, 6, number, 2].into(), time)
}

/// Where `scripts/peers` puts what it brings, before everything else.
fn with_peers() -> String {
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    let peers = std::env::var("RSWARM_PEERS").unwrap_or_else(|_| format!("{home}/.cache/rswarm/peers"));
    format!("{peers}/usr/bin:{peers}/bin:{}", std::env::var("PATH").unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn measure(from: &Path, to: &Path, target: IpAddr, time: Duration) -> Value {
    let mut port = 6000;
    let mut rate = |streams| {
        port += 1;
        let before = busy_seconds();
        let rate = throughput(from, to, SocketAddr::new(target, port), streams, time);
        (rate, (busy_seconds() - before) / (rate * time.as_secs_f64() / 8.0))
    };
    let (one, cost) = rate(1);
    let (eight, _) = rate(8);
    let datagrams = datagrams(from, to, SocketAddr::new(target, 6000), time);
    let ping = output(&format!("nsenter --net={} ping -q -c 200 -i 0.002 {target}", from.display()));
    let said = String::from_utf8_lossy(&ping.stdout).into_owned();
    let average = said.rsplit(" = ").next().and_then(|text| text.split('/').nth(1)?.parse::<f64>().ok());
    json!({
        "one_stream_gbit": (one * 100.0).round() / 100.0,
        "eight_streams_gbit": (eight * 100.0).round() / 100.0,
        "datagrams_per_second": datagrams.round(),
        "cpu_seconds_per_gb": (cost * 1000.0).round() / 1000.0,
        "round_trip_ms": average,
    })
}

/// How many datagrams of 1200 bytes arrive in a second, when one sender sends as many as it can.
fn datagrams(from: &Path, to: &Path, target: SocketAddr, time: Duration) -> f64 {
    /// After the last one: whoever waits longer waits for nothing.
    const SILENCE: Duration = Duration::from_millis(300);
    let bind = |namespace: &Path, address: SocketAddr| {
        inside_namespace(namespace, move || UdpSocket::bind(address).expect("a socket")).join().expect("a socket")
    };
    let receiver = bind(to, target);
    let sender = bind(from, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
    sender.connect(target).expect("a way there");
    receiver.set_read_timeout(Some(SILENCE)).expect("a time limit");
    let counting = std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| receiver.recv(&mut buffer).ok()).count()
    });
    let start = Instant::now();
    while start.elapsed() < time {
        // a full queue is no error of the measurement: what arrives is counted
        let _ = sender.send(&[7; 1200]);
    }
    let sent_for = start.elapsed().as_secs_f64();
    counting.join().expect("counted") as f64 / sent_for
}

/// Of all processors since the machine's start, but for idle time.
fn busy_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    (ticks.iter().take(8).sum::<f64>() - idle) / 100.0
}
