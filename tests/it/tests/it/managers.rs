//! Managers that die, are cut off, come and go: no acknowledged write is lost, writes go on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, until};
use lab::StateDir;
use nix::sys::signal::Signal;

use crate::can_make_hosts;

fn names(services: &serde_json::Value) -> Vec<String> {
    let name = |s: &serde_json::Value| s["Spec"]["Name"].as_str().unwrap_or_default().to_owned();
    services.as_array().into_iter().flatten().map(name).collect()
}

/// C-31: the leader's host is killed; the next write is accepted, on either survivor.
#[test]
fn cluster_c_31_leader_killed_writes_go_on() -> Result<()> {
    if !can_make_hosts("cluster_c_31_leader_killed_writes_go_on") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("leader", 3, 0)?;
    t.create("before", 1, &[])?;
    let leader = t.leader("h1")?;
    let survivor = t.cluster.managers().iter().find(|h| **h != leader).context("there are three")?.clone();
    let daemon = t.cluster.daemon(&leader)?.context("it runs")?;
    t.lab().signal(&leader, daemon, Signal::SIGKILL)?;
    let begin = Instant::now();
    let (_, took) = until("a write is accepted", DEADLINE, || {
        t.cli(&survivor, &["service", "create", "-d", "--name", "after", it::IMAGE, "sleep", "1000"])
    })?;
    eprintln!("leader killed: next write accepted after {took:?}");
    ensure!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let services = names(&t.api(&survivor)?.get("/services")?);
    ensure!(services.contains(&"before".to_owned()) && services.contains(&"after".to_owned()), "{services:?}");
    t.cluster.start_daemon(&leader)?;
    until("the old leader follows and knows both", DEADLINE, || {
        let services = names(&t.api(&leader)?.get("/services")?);
        ensure!(services.len() == 2, "{services:?}");
        Ok(())
    })?;
    Ok(())
}

/// A minority that is cut off refuses writes and still reads; the majority goes on; after healing
/// nothing that was acknowledged is missing.
#[test]
fn cluster_c_35_minority_refuses_majority_goes_on() -> Result<()> {
    if !can_make_hosts("cluster_c_35_minority_refuses_majority_goes_on") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("minority", 3, 0)?;
    t.create("one", 1, &[])?;
    let leader = t.leader("h1")?;
    t.lab().cut(&leader)?;
    let survivor = t.cluster.managers().iter().find(|h| **h != leader).context("there are three")?.clone();
    until("the majority writes", DEADLINE, || {
        t.cli(&survivor, &["service", "create", "-d", "--name", "two", it::IMAGE, "sleep", "1000"])
    })?;
    let refused = t.cli_fails(&leader, &["service", "create", "-d", "--name", "lost", it::IMAGE, "sleep", "1000"])?;
    ensure!(refused.contains("leader") || refused.contains("majority"), "says why: {refused}");
    let read = names(&t.api(&leader)?.get("/services")?);
    ensure!(read.contains(&"one".to_owned()), "reads go on from local state: {read:?}");
    t.lab().heal(&leader)?;
    for host in t.cluster.managers() {
        until("all managers agree", DEADLINE, || {
            let mut services = names(&t.api(host)?.get("/services")?);
            services.sort();
            ensure!(services == ["one", "two"], "{host}: {services:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// C-21: promote and demote, also of the leader; C-12: leave and rm.
#[test]
fn cluster_c_21_promote_demote_leave() -> Result<()> {
    if !can_make_hosts("cluster_c_21_promote_demote_leave") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("roles", 1, 2)?;
    let managers = |count: usize| {
        until(&format!("{count} reachable managers"), DEADLINE, || {
            let nodes = t.cli("h3", &["node", "ls"]).or_else(|_| t.cli("h2", &["node", "ls"]))?;
            let found = nodes.matches("Reachable").count() + nodes.matches("Leader").count();
            ensure!(found == count && !nodes.contains("Unreachable"), "{nodes}");
            Ok(())
        })
    };
    t.cli("h1", &["node", "promote", "h2", "h3"])?;
    managers(3)?;
    t.cli("h2", &["service", "create", "-d", "--name", "web", "--replicas", "3", it::IMAGE, "sleep", "1000"])?;
    t.running("web", 3)?;

    // the leader demotes itself: it hands over first
    let leader = t.leader("h2")?;
    t.cli("h3", &["node", "demote", &leader])?;
    until("the cluster goes on with two managers", DEADLINE, || {
        let through = if leader == "h2" { "h3" } else { "h2" };
        let nodes = t.cli(through, &["node", "ls"])?;
        let found = nodes.matches("Reachable").count() + nodes.matches("Leader").count();
        ensure!(found == 2, "{nodes}");
        ensure!(t.api(&leader)?.get("/info")?["Swarm"]["ControlAvailable"] == false, "{leader} still has a manager");
        Ok(())
    })?;
    let refused = t.cli_fails(&leader, &["node", "ls"])?;
    ensure!(refused.contains("manager"), "{refused}");

    t.cli(&leader, &["leave"])?;
    let through = if leader == "h2" { "h3" } else { "h2" };
    until("the node that left is down", DEADLINE, || {
        let nodes = t.cli(through, &["node", "ls"])?;
        ensure!(nodes.contains("Down"), "{nodes}");
        Ok(())
    })?;
    t.cli(through, &["node", "rm", &leader])?;
    ensure!(!t.cli(through, &["node", "ls"])?.contains("Down"));
    ensure!(t.api(&leader)?.get("/info")?["Swarm"]["LocalNodeState"] == "inactive");
    Ok(())
}

/// P54: a manager whose host vanished for good is removed by force and replaced; writes go on.
#[test]
fn cluster_p54_dead_manager_is_replaced() -> Result<()> {
    if !can_make_hosts("cluster_p54_dead_manager_is_replaced") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("ghost", 3, 0)?;
    let leader = t.leader("h1")?;
    let dead = t.cluster.managers().iter().find(|h| **h != leader).context("there are three")?.clone();
    let id = t.node_id(&dead)?;
    t.lab().kill(&dead)?;
    for through in t.cluster.managers().iter().filter(|host| **host != dead) {
        let (node, _) = until("it is down", DEADLINE, || {
            let node = t.api(through)?.get(&format!("/nodes/{id}"))?;
            ensure!(node["Status"]["State"] == "down", "{node}");
            Ok(node)
        })?;
        // whoever calls it down must not call it a reachable manager in the same breath
        ensure!(node["ManagerStatus"]["Reachability"] == "unreachable", "{through} says {node}");
    }
    t.cli(&leader, &["node", "rm", "--force", &dead])?;
    t.lab().start(&dead, StateDir::Fresh)?;
    t.cluster.start_daemon(&dead)?;
    let token = t.cli(&leader, &["join-token", "-q", "manager"])?;
    let address = format!("{}:2377", t.lab().address(&leader)?);
    t.cli(&dead, &["join", "--token", token.trim(), &address])?;
    until("three managers again, nobody down", DEADLINE, || {
        let nodes = t.cli(&leader, &["node", "ls"])?;
        let found = nodes.matches("Reachable").count() + nodes.matches("Leader").count();
        ensure!(found == 3 && !nodes.contains("Down") && !nodes.contains("Unreachable"), "{nodes}");
        Ok(())
    })?;
    t.cli(&dead, &["service", "create", "-d", "--name", "web", it::IMAGE, "sleep", "1000"])?;
    Ok(())
}
