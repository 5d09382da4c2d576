//! Measures one TCP stream, eight, and the round trip between two hosts (namespaces of this machine): raw veth,
//! VXLAN made by hand, an encrypted overlay, and VXLAN over `wireguard-go` and `boringtun-cli` where they are on the PATH.
//! Needs root; prints one line of JSON with ratios.
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
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mesh::*;
use overlay::wireguard::generate_key_pair;
use serde_json::{Value, json};
use support::{KillAtEnd, in_host, ip, output};

fn main() {
    // Started again as a data plane process.
    support::netd_process();
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let time = Duration::from_secs(seconds);
    in_host(move || async move {
        let _hosts = mesh(&[1, 2]).await;
        let raw = measure(&host_namespace(1), &host_namespace(2), underlay(2), time);
        vxlan_by_hand();
        let vxlan = measure(&host_namespace(1), &host_namespace(2), [10, 8, 0, 2].into(), time);
        let encrypted = measure(&endpoint(1), &endpoint(2), inside(2), time);
        let of_go = vxlan_over(&WIREGUARD_GO, time);
        let of_boringtun = vxlan_over(&BORINGTUN, time);
        let ratio =
            |of: &Value, to: &Value| of.as_f64().zip(to.as_f64()).map(|(of, to)| (of / to * 1000.0).round() / 1000.0);
        let ratios = json!({
            "vxlan_to_veth": ratio(&vxlan["one_stream_gbit"], &raw["one_stream_gbit"]),
            "encrypted_to_vxlan": ratio(&encrypted["one_stream_gbit"], &vxlan["one_stream_gbit"]),
            "encrypted_to_wireguard_go_with_vxlan": ratio(&encrypted["one_stream_gbit"], &of_go["one_stream_gbit"]),
            "encrypted_to_boringtun_cli_with_vxlan":
                ratio(&encrypted["one_stream_gbit"], &of_boringtun["one_stream_gbit"]),
        });
        println!(
            "{}",
            json!({ "veth": raw, "vxlan": vxlan, "encrypted": encrypted, "wireguard_go_with_vxlan": of_go,
                "boringtun_cli_with_vxlan": of_boringtun, "ratios": ratios })
        );
    });
}

fn vxlan_by_hand() {
    for (own, other) in [(1, 2), (2, 1)] {
        let (from, to) = (underlay(own), underlay(other));
        ip(&format!("-n h{own} link add vx0 type vxlan id 9 local {from} remote {to} dstport 4790 dev eth0"));
        ip(&format!("-n h{own} addr add 10.8.0.{own}/24 dev vx0"));
        ip(&format!("-n h{own} link set vx0 up"));
    }
}

/// A WireGuard in user space that is told by a socket of WireGuard's own cross-platform form what to do.
struct Program {
    command: &'static [&'static str],
    /// Tells the interfaces, ports and networks of one from those of the other.
    number: u16,
}

const WIREGUARD_GO: Program = Program { command: &["wireguard-go", "-f"], number: 1 };
const BORINGTUN: Program = Program { command: &["boringtun-cli", "-f", "--disable-drop-privileges"], number: 2 };

/// A TUN interface on each host and the kernel's VXLAN over it; null when the program is not there.
fn vxlan_over(program: &Program, time: Duration) -> Value {
    let number = program.number;
    let keys: Vec<_> = (0..2).map(|_| generate_key_pair().expect("key")).collect();
    let mut running = Vec::new();
    for (own, other) in [(1, 2), (2, 1)] {
        // that the program is missing shows by its socket, which never comes
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/h{own}")).args(program.command).arg(format!("wg{number}b{own}"));
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            return Value::Null;
        };
        running.push(KillAtEnd(child.id()));
        let path = format!("/var/run/wireguard/wg{number}b{own}.sock");
        let deadline = Instant::now() + Duration::from_secs(3);
        let mut socket = loop {
            match UnixStream::connect(&path) {
                Ok(socket) => break socket,
                Err(_) if Instant::now() > deadline => return Value::Null,
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
    let ping = output(&format!("nsenter --net={} ping -q -c 200 -i 0.002 {target}", from.display()));
    let said = String::from_utf8_lossy(&ping.stdout).into_owned();
    let average = said.rsplit(" = ").next().and_then(|text| text.split('/').nth(1)?.parse::<f64>().ok());
    json!({
        "one_stream_gbit": (one * 100.0).round() / 100.0,
        "eight_streams_gbit": (eight * 100.0).round() / 100.0,
        "cpu_seconds_per_gb": (cost * 1000.0).round() / 1000.0,
        "round_trip_ms": average,
    })
}

/// Of all processors since the machine's start, but for idle time.
fn busy_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<f64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    (ticks.iter().take(8).sum::<f64>() - idle) / 100.0
}
