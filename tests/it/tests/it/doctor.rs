//! `rswarm doctor` and `rswarm network doctor`: a host where all is well is called well; a firewall, a missing process
//! and every entry that somebody changed behind the data plane's back are named.

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, until};
use lab::ExecOptions;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    can_make_hosts,
    hosts::{Member, create, members, tear_down, wall},
};

/// What `network doctor` on a host says, and whether it says that all is well.
fn doctor(t: &ClusterUnderTest, host: &str) -> Result<(String, bool)> {
    let output = t.cluster.cli(host, &["network", "doctor"])?;
    ensure!(output.stderr.is_empty(), "network doctor on {host}: {}", output.stderr);
    Ok((output.stdout, output.code == 0))
}

/// Waits until the doctor of every host is content.
fn all_well(t: &ClusterUnderTest, what: &str) -> Result<()> {
    for host in t.cluster.hosts() {
        until(what, DEADLINE, || {
            let (said, is_well) = doctor(t, &host)?;
            ensure!(is_well, "{host}: {said}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Runs a command in the namespace that a network has on a host.
fn in_overlay(t: &ClusterUnderTest, host: &str, network: &str, command: &[&str]) -> Result<String> {
    let id = t.cli("h1", &["network", "inspect", "--format", "{{.Id}}", network])?;
    let namespace = format!("--net=/run/rswarm/overlay/{}", id.trim());
    Ok(t.lab().run(host, &[&["nsenter", namespace.as_str()][..], command].concat())?)
}

/// The data plane process of a host, as that host numbers it.
fn netd(t: &ClusterUnderTest, host: &str) -> Result<String> {
    Ok(t.lab().run(host, &["pgrep", "-o", "-f", "rswarm netd"])?.trim().to_owned())
}

fn signal(t: &ClusterUnderTest, host: &str, pid: &str, signal: Signal) -> Result<()> {
    Ok(t.lab().run(host, &["kill", "-s", signal.as_str().trim_start_matches("SIG"), pid]).map(drop)?)
}

/// P02: forwarding entries, neighbours, virtual addresses and DNS are compared with the value one by one, and
/// what differs is said in a line with its place, what was expected and what was found.
#[test]
fn doctor_p_02_names_every_entry_that_differs() -> Result<()> {
    if !can_make_hosts("doctor_p_02_names_every_entry_that_differs") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("doctor", 1, 1)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "red"])?;
    create(&t, "web", "4", &["--network", "red"])?;
    let web = members(&t, "web", 4)?;
    all_well(&t, "a new network is well everywhere")?;
    let (said, _) = doctor(&t, "h1")?;
    ensure!(said.starts_with("red: ok (2 endpoints here, 2 on other hosts, 1 virtual address,"), "{said}");
    let json: Value = serde_json::from_str(&t.cli("h1", &["network", "doctor", "--format", "json", "red"])?)?;
    ensure!(json["Networks"][0]["Questions"].as_u64().is_some_and(|n| n >= 20), "{json}");
    let unknown = t.cli_fails("h1", &["network", "doctor", "blue"])?;
    ensure!(unknown.contains("network blue has no endpoint on this host"), "{unknown}");

    // The data plane stands still, so that nothing is mended while the doctor looks. It holds the resolvers too.
    let pid = netd(&t, "h1")?;
    signal(&t, "h1", &pid, Signal::SIGSTOP)?;
    let damaged = damage(&t, &web);
    let said = damaged.and_then(|lost| Ok((lost, doctor(&t, "h1")?)));
    signal(&t, "h1", &pid, Signal::SIGCONT)?;
    let (lost, (said, is_well)) = said?;
    ensure!(!is_well, "{said}");
    for part in [
        format!("red: fdb {lost} (overlay namespace, vxlan0): expected {}, found nothing", t.lab().address("h2")?),
        "found 02:ff:00:00:00:01".to_owned(),
        "red: virtual address ".to_owned(),
        "red: name tasks.web (A) (DNS of ".to_owned(),
        "host: rswarm netd (process): expected an answer, found no answer within 5 s".to_owned(),
    ] {
        ensure!(said.contains(&part), "{part:?} is not in:\n{said}");
    }
    until("the data plane mends what was changed", DEADLINE, || {
        let (said, is_well) = doctor(&t, "h1")?;
        ensure!(is_well, "{said}");
        Ok(())
    })?;
    every_node(&t)
}

/// A manager asks all nodes: what one has changed behind its back is in its lines, and who does not answer is one.
fn every_node(t: &ClusterUnderTest) -> Result<()> {
    let all = || -> Result<(String, i32)> {
        let output = t.cluster.cli("h1", &["network", "doctor", "--all"])?;
        Ok((output.stdout, output.code))
    };
    let (said, code) = all()?;
    ensure!(code == 0 && said.contains("h1: red: ok (2 ") && said.contains("h2: red: ok (2 "), "{code}: {said}");
    let worker = t.cli_fails("h2", &["network", "doctor", "--all"])?;
    ensure!(worker.contains("not a swarm manager"), "{worker}");
    let pid = netd(t, "h2")?;
    signal(t, "h2", &pid, Signal::SIGSTOP)?;
    let said = all();
    signal(t, "h2", &pid, Signal::SIGCONT)?;
    let (said, code) = said?;
    ensure!(code == 1 && said.contains("h2: host: rswarm netd (process): expected an answer"), "{code}: {said}");
    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    let (said, code) = all()?;
    ensure!(code == 1 && said.contains("h2: does not say what it finds"), "{code}: {said}");
    ensure!(said.contains("h1: red: ok"), "{said}");
    Ok(())
}

/// Takes a forwarding entry away, adds a neighbour, and empties the virtual addresses of one container; gives
/// the MAC address whose entry is gone.
fn damage(t: &ClusterUnderTest, web: &[Member]) -> Result<String> {
    let entries = in_overlay(t, "h1", "red", &["bridge", "fdb", "show", "dev", "vxlan0"])?;
    let remote = entries.lines().find(|line| line.contains(" dst ")).context("no entry leads to another host")?;
    let mac = remote.split_whitespace().next().unwrap_or_default().to_owned();
    in_overlay(t, "h1", "red", &["bridge", "fdb", "del", &mac, "dev", "vxlan0", "self"])?;
    in_overlay(t, "h1", "red", &["ip", "neigh", "add", "10.0.0.99", "lladdr", "02:ff:00:00:00:01", "dev", "br0"])?;
    let here = web.iter().find(|member| member.host == "h1").context("a replica runs on h1")?;
    let flush = ["nsenter", "-t", &here.task.pid.to_string(), "-n", "nft", "flush", "map", "inet", "rswarm", "vip4"];
    let output = t.lab().exec("h1", &flush, &ExecOptions::default())?;
    ensure!(output.success(), "nft: {}", output.stderr);
    Ok(mac)
}

/// Waits until `rswarm doctor` of a host says this; gives all it said. Its exit code is 1 when a line fails.
fn checked(t: &ClusterUnderTest, host: &str, wanted: &str) -> Result<String> {
    let (said, _) = until("rswarm doctor finds it", DEADLINE, || {
        let output = t.cluster.cli(host, &["doctor"])?;
        let fails = output.stdout.lines().any(|line| line.starts_with("FAIL"));
        ensure!(fails == (output.code == 1), "exit code {}: {}{}", output.code, output.stdout, output.stderr);
        ensure!(output.stdout.contains(wanted), "{}{}", output.stdout, output.stderr);
        Ok(output.stdout)
    })?;
    Ok(said)
}

/// Takes h2 out of the cluster and joins it again; gives what `join` said. It succeeds whatever the ports do.
fn join_again(t: &ClusterUnderTest) -> Result<String> {
    t.cli("h2", &["leave"])?;
    let token = t.cli("h1", &["join-token", "-q", "worker"])?;
    t.cli("h2", &["join", "--token", token.trim(), &format!("{}:2377", t.lab().address("h1")?)])
}

/// P03, P51: kernel, processes, control port, probe port and data path of each peer have a line each, before there is
/// any network; what is blocked fails with the remedy, also right after joining.
#[test]
fn doctor_p_03_has_a_line_for_each_port_and_feature() -> Result<()> {
    if !can_make_hosts("doctor_p_03_has_a_line_for_each_port_and_feature") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("ports", 1, 1)?;
    let (first, second) = (t.lab().address("h1")?, t.lab().address("h2")?);
    let answers = format!("PASS  data path port of {second}: UDP port 4789 answers");
    let said = checked(&t, "h1", &answers)?;
    for part in [
        "PASS  kernel: vxlan: yes".to_owned(),
        "PASS  kernel: overlayfs: yes".to_owned(),
        "PASS  kernel: control groups: version ".to_owned(),
        "PASS  rswarm netd: runs, version ".to_owned(),
        "PASS  rswarm daemon: runs, version ".to_owned(),
        format!("PASS  control port of {first}:2377: answers"),
        format!("PASS  clock against {first}:2377: agrees"),
        format!("PASS  probe port of {second}: UDP port 7946 answers"),
    ] {
        ensure!(said.contains(&part), "{part:?} is not in:\n{said}");
    }
    wall(&t, "h2", &format!("ip saddr {first} udp dport 4789"))?;
    let blocked =
        format!("FAIL  data path port of {second}: {first} -> {second} UDP port 4789 (VXLAN): nothing gets through");
    checked(&t, "h1", &blocked)?;
    tear_down(&t, "h2")?;
    checked(&t, "h1", &answers)?;

    let joined = join_again(&t)?;
    for part in [
        "This node joined a swarm as a worker.",
        "PASS  control port of ",
        "PASS  probe port of ",
        "PASS  data path port of ",
    ] {
        ensure!(joined.contains(part), "{part:?} is not in:\n{joined}");
    }
    wall(&t, "h2", "udp dport 4789")?;
    let joined = join_again(&t)?;
    ensure!(joined.contains(&format!("FAIL  data path port of {first}: ")), "{joined}");
    ensure!(joined.contains("PASS  probe port of ") && joined.contains("open UDP port 4789"), "{joined}");
    t.node_id("h2").context("it has joined all the same")?;
    tear_down(&t, "h2")?;

    let strict = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }";
    t.lab().run("h2", &["nft", strict])?;
    checked(&t, "h2", "WARN  firewall: chain FORWARD of table ip filter drops what is forwarded")?;
    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    let said = checked(&t, "h2", "FAIL  rswarm daemon: cannot reach the daemon")?;
    ensure!(said.contains("PASS  rswarm netd: runs"), "the data plane outlives the daemon: {said}");
    Ok(())
}
