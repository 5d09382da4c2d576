//! The root of a cluster is replaced while it works (parity C-18), through docker's command line and ours.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::can_make_hosts;

/// Between two writes of the client that must not notice anything.
const BETWEEN_WRITES: Duration = Duration::from_millis(20);

/// The name of every node whose certificate is of the root that signs now.
fn renewed(t: &ClusterUnderTest, through: &str) -> Result<Vec<String>> {
    let wanted = t.api(through)?.get("/swarm")?["TLSInfo"]["CertIssuerPublicKey"].clone();
    let nodes = t.api(through)?.get("/nodes")?;
    let has = |node: &&Value| node["Description"]["TLSInfo"]["CertIssuerPublicKey"] == wanted;
    let name = |node: &Value| node["Description"]["Hostname"].as_str().unwrap_or_default().to_owned();
    let mut names: Vec<String> = nodes.as_array().into_iter().flatten().filter(has).map(name).collect();
    names.sort();
    Ok(names)
}

fn comes_to_be_renewed(t: &ClusterUnderTest, through: &str, hosts: &[&str]) -> Result<Duration> {
    let mut hosts = hosts.to_vec();
    hosts.sort_unstable();
    let (_, took) = until(&format!("{hosts:?} have new certificates"), DEADLINE, || {
        let found = renewed(t, through)?;
        ensure!(found == hosts, "{found:?}");
        Ok(())
    })?;
    Ok(took)
}

fn is_rotating(t: &ClusterUnderTest, through: &str) -> Result<bool> {
    Ok(t.api(through)?.get("/swarm")?["RootRotationInProgress"] == json!(true))
}

/// All nodes trust the present root and no other.
fn comes_to_rest(t: &ClusterUnderTest, through: &str) -> Result<Duration> {
    let (_, took) = until("the old root is out of trust", DEADLINE, || {
        ensure!(!is_rotating(t, through)?, "a root is on its way in");
        let root = t.api(through)?.get("/swarm")?["TLSInfo"]["TrustRoot"].clone();
        for node in t.api(through)?.get("/nodes")?.as_array().context("a list")? {
            ensure!(node["Description"]["TLSInfo"]["TrustRoot"] == root, "{} trusts another", node["ID"]);
        }
        Ok(())
    })?;
    Ok(took)
}

/// Writes without a pause until `stop`; how many there were.
fn write_on(t: &ClusterUnderTest, host: &str, stop: &AtomicBool, written: &AtomicUsize) -> Result<()> {
    let api = t.api(host)?;
    while !stop.load(Ordering::Relaxed) {
        let number = written.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "Name": format!("c{number}"), "Data": "eA==" });
        api.post("/configs/create", &body).with_context(|| format!("write {number}"))?;
        thread::sleep(BETWEEN_WRITES);
    }
    Ok(())
}

/// C-18: one manager and the worker are down when it begins, the leader dies in the middle of it, a client goes on writing.
#[test]
fn c_18_a_root_is_replaced_under_way() -> Result<()> {
    if !can_make_hosts("c_18_a_root_is_replaced_under_way") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_bare("roots", 3, 1, 1)?;
    t.create("web", 3, &["--constraint", "node.role==manager"])?;
    let (tasks, _) = t.running("web", 3)?;
    let leader = t.leader("h1")?;
    let others: Vec<&str> = ["h1", "h2", "h3"].into_iter().filter(|host| *host != leader).collect();
    let [writer, sleeper] = others[..] else { anyhow::bail!("three managers: {leader}, {others:?}") };
    let d = Docker::new(&t, writer);
    let old_root = d.ok("swarm ca")?;
    let old_token = t.cli(writer, &["join-token", "-q", "worker"])?;

    t.cluster.stop_daemon(sleeper, Signal::SIGTERM)?;
    t.cluster.stop_daemon("h4", Signal::SIGTERM)?;
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| -> Result<()> {
        let writing = scope.spawn(|| write_on(&t, writer, &stop, &written));
        let steps = || -> Result<()> {
            d.ok("swarm ca --rotate -d")?;
            comes_to_be_renewed(&t, writer, &[writer, &leader])?;
            ensure!(is_rotating(&t, writer)? && d.ok("swarm ca")? == old_root, "two nodes are waited for");
            ensure!(
                t.cli(writer, &["join-token", "-q", "worker"])? == old_token,
                "tokens are of the old root until the end"
            );
            // one that slept through the beginning comes back, and may lead from now on
            t.cluster.start_daemon(sleeper)?;
            comes_to_be_renewed(&t, writer, &[writer, &leader, sleeper])?;
            let daemon = t.cluster.daemon(&leader)?.context("it runs")?;
            t.lab().signal(&leader, daemon, Signal::SIGKILL)?;
            until("another one leads", DEADLINE, || {
                ensure!(t.leader(writer)? != leader);
                Ok(())
            })?;
            ensure!(is_rotating(&t, writer)?);
            t.cluster.start_daemon(&leader)?;
            t.cluster.start_daemon("h4")?;
            comes_to_rest(&t, writer).map(drop)
        };
        let result = steps();
        stop.store(true, Ordering::Relaxed);
        let writing = writing.join().map_err(|_| anyhow::anyhow!("the writing client panicked"))?;
        result.and(writing)
    })?;
    let written = written.into_inner();
    ensure!(written > 5, "{written} writes");
    let configs = t.api(writer)?.get("/configs")?.as_array().map_or(0, Vec::len);
    ensure!(configs == written, "{configs} of {written} writes are there");
    ensure!(t.running("web", 3)?.0 == tasks, "the tasks are the same processes");

    let new_root = d.ok("swarm ca")?;
    ensure!(new_root != old_root && new_root.contains("BEGIN CERTIFICATE"));
    ensure!(t.cli(&leader, &["swarm", "ca"])?.trim() == new_root.trim(), "one root, whoever asks");
    let address = format!("{}:2377", t.lab().address(writer)?);
    t.cluster.start_daemon("h5")?;
    let refused = t.cli_fails("h5", &["join", "--token", old_token.trim(), &address])?;
    ensure!(refused.contains("was made before its root"), "{refused}");
    let token = t.cli(writer, &["join-token", "-q", "worker"])?;
    t.cli("h5", &["join", "--detach", "--token", token.trim(), &address])?;
    comes_to_be_renewed(&t, writer, &["h1", "h2", "h3", "h4", "h5"])?;
    rotations_that_are_waited_for(&t, writer)
}

/// Both programs wait for all nodes, and show the root that they trust then.
fn rotations_that_are_waited_for(t: &ClusterUnderTest, host: &str) -> Result<()> {
    let d = Docker::new(t, host);
    let before = d.ok("swarm ca")?;
    let began = Instant::now();
    let ours = t.cli(host, &["swarm", "ca", "--rotate"])?;
    eprintln!("rswarm swarm ca --rotate of 5 nodes: {:?}", began.elapsed());
    ensure!(ours.trim() == d.ok("swarm ca")?.trim() && ours.trim() != before.trim(), "{ours}");
    comes_to_rest(t, host)?;
    let began = Instant::now();
    let docker = d.ok("swarm ca --rotate")?;
    eprintln!("docker swarm ca --rotate of 5 nodes: {:?}", began.elapsed());
    let present = d.ok("swarm ca")?;
    ensure!(docker.trim().ends_with(present.trim()) && present.trim() != ours.trim(), "{docker}");
    comes_to_rest(t, host)?;
    d.fails("swarm ca --rotate --external-ca protocol=cfssl,url=https://192.0.2.1", "--ca-cert")?;
    let refused =
        t.cli_fails(host, &["swarm", "ca", "--rotate", "--external-ca", "protocol=cfssl,url=https://192.0.2.1"])?;
    ensure!(refused.contains("external CAs are not supported"), "{refused}");
    Ok(())
}
