//! Forged packets from processes of a host: nothing of them reaches a container of an encrypted network.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, until};
use lab::ExecOptions;

use crate::{
    can_make_hosts,
    hosts::{Member, create, members},
};

/// What the forged frames carry.
const MARKER: &str = "forged-by-a-local-process";
/// Time for a forged frame to arrive, and for the capture to begin.
const SOON: Duration = Duration::from_secs(1);

/// Sends one VXLAN datagram (RFC 7348) with a UDP packet for a container in it. Arguments: identifier, the
/// container's address, `socket` or `raw:SOURCE` (a forged source needs CAP_NET_RAW), then the hosts to send to.
const FORGE: &str = r#"
import socket, struct, sys
vni, inside, how, targets = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
def total(data):
    data += b"\0" * (len(data) % 2)
    words = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while words >> 16: words = (words & 0xffff) + (words >> 16)
    return ~words & 0xffff
def udp(port, payload): return struct.pack("!HHHH", 4242, port, 8 + len(payload), 0) + payload
def ip(source, target, payload):
    head = lambda check: struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, 17, check) \
        + socket.inet_aton(source) + socket.inet_aton(target)
    return head(total(head(0))) + payload
address = socket.inet_aton(inside)
frame = b"\x02\x42" + address + b"\x02\x42\x0a\x00\x00\xfe\x08\x00" + ip("10.0.0.254", inside, udp(9999, b"MARKER"))
payload = struct.pack("!II", 0x08000000, vni << 8) + frame
for target in targets:
    for port in (4789, 51820):
        try:
            if how == "socket":
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(payload, (target, port))
            else:
                raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
                raw.sendto(ip(how[4:], target, udp(port, payload)), (target, 0))
        except OSError as error:
            print(target, port, error)
print("sent")
"#;

/// Frames with the marker that arrive at a container while `forge` runs.
fn arriving(t: &ClusterUnderTest, victim: &Member, forge: impl Fn() -> Result<()>) -> Result<usize> {
    let pid = victim.task.pid.to_string();
    let capture =
        ["timeout", "6", "nsenter", "-t", &pid, "-n", "tcpdump", "-i", "any", "-n", "-A", "-l", "udp port 9999"];
    let seen = std::thread::scope(|scope| {
        let watching = scope.spawn(|| t.lab().exec(&victim.host, &capture, &ExecOptions::default()));
        std::thread::sleep(2 * SOON);
        let forged = forge();
        let output = watching.join().expect("the capture does not panic")?;
        ensure!(output.stderr.contains("listening on"), "tcpdump: {}", output.stderr);
        forged.map(|()| output.stdout)
    })?;
    Ok(seen.matches(MARKER).count())
}

/// Forges from a host: as nobody through a socket, and with nothing but CAP_NET_RAW under each source that the
/// receivers could believe.
fn forge(t: &ClusterUnderTest, host: &str, vni: &str, inside: &str) -> Result<()> {
    let script = FORGE.replace("MARKER", MARKER);
    let mut targets = BTreeSet::from(["127.0.0.1".to_owned()]);
    for host in t.cluster.hosts() {
        targets.insert(t.lab().address(&host)?.to_string());
    }
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let run = |user: &[&str], how: &str| {
        let program = ["/usr/bin/python3", "-c", &script, vni, inside, how];
        let output = t.lab().run(host, &[user, &program[..], &targets[..]].concat())?;
        ensure!(output.contains("sent"), "{output}");
        Ok(())
    };
    run(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs"], "socket")?;
    let raw = ["setpriv", "--inh-caps", "-all,+net_raw", "--bounding-set", "-all,+net_raw"];
    for source in t.cluster.hosts() {
        run(&raw, &format!("raw:{}", t.lab().address(&source)?))?;
    }
    Ok(())
}

/// P15 (c), CVE-2026-92542: forged VXLAN for a live identifier, sent by unprivileged processes and by processes with
/// CAP_NET_RAW on every host, to every host. None reaches a container of an encrypted network; in a plain one, which
/// promises nothing, the same frames do, so the forgery is a good one.
#[test]
fn inject_p_15_nothing_forged_reaches_an_encrypted_network() -> Result<()> {
    if !can_make_hosts("inject_p_15_nothing_forged_reaches_an_encrypted_network") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("inject", 1, 1)?;
    let option = "com.docker.network.driver.overlay.vxlanid_list";
    let mut victims = Vec::new();
    for (network, vni, encrypted) in [("plain", "5001", false), ("vault", "5002", true)] {
        let identifier = format!("{option}={vni}");
        let mut arguments = vec!["network", "create", "-d", "overlay", "--opt", &identifier];
        arguments.extend(if encrypted { vec!["--opt", "encrypted"] } else { Vec::new() });
        arguments.push(network);
        t.cli("h1", &arguments)?;
        let (near, far) = (format!("near-{network}"), format!("far-{network}"));
        create(&t, &near, "1", &["--network", network, "--constraint", "node.hostname==h1"])?;
        create(&t, &far, "1", &["--network", network, "--constraint", "node.hostname==h2"])?;
        let (near, victim) = (members(&t, &near, 1)?.remove(0), members(&t, &far, 1)?.remove(0));
        until("the two reach each other", DEADLINE, || near.ask(&t, &far).map(drop))?;
        let addresses = victim.addresses(&t)?;
        let inside = addresses.into_iter().find(|a| a.starts_with("10.0.")).context("an address in the overlay")?;
        victims.push((vni, victim, inside));
    }
    for host in t.cluster.hosts() {
        for (vni, victim, inside) in &victims {
            let seen = arriving(&t, victim, || forge(&t, &host, vni, inside))?;
            if *vni == "5001" {
                ensure!(seen > 0, "not even a plain network takes the forged frames: is the forgery right?");
            } else {
                ensure!(seen == 0, "{seen} forged frames from {host} reached a container of the encrypted network");
            }
        }
    }
    Ok(())
}
