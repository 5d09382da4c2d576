//! Hosts and daemons that stop, stall or vanish: what must happen, and above all what must not.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, TaskRow, until};
use lab::StateDir;
use nix::sys::signal::Signal;

use crate::can_make_hosts;

fn identities(rows: &[TaskRow]) -> Vec<(String, u64)> {
    rows.iter().map(|r| (r.container.clone(), r.pid)).collect()
}

/// A lost host: its tasks run elsewhere, and when it returns the service has its count again.
#[test]
fn cluster_p04_lost_host_is_replaced_at_once() -> Result<()> {
    if !can_make_hosts("cluster_p04_lost_host_is_replaced_at_once") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("lost", 3, 2)?;
    t.create("web", 5, &[])?;
    let (before, _) = t.running("web", 5)?;
    let victim = "h5";
    let id = t.node_id(victim)?;
    ensure!(before.iter().any(|r| r.node == id), "five tasks on five nodes: {before:#?}");
    t.lab().kill(victim)?;
    let (_, took) = until("tasks of the killed host run elsewhere", DEADLINE, || {
        let (now, _) = t.running("web", 5)?;
        ensure!(now.iter().all(|r| r.node != id), "{now:#?}");
        Ok(())
    })?;
    eprintln!("killed host: all its tasks running elsewhere after {took:?}");
    let (after, _) = t.running("web", 5)?;
    for row in before.iter().filter(|r| r.node != id) {
        ensure!(after.iter().any(|r| r.container == row.container), "{row:?} was restarted for nothing");
    }
    ensure!(t.cli("h1", &["node", "ls"])?.contains("Down"), "node ls names the lost node");

    t.lab().start(victim, StateDir::Keep)?;
    t.cluster.start_daemon(victim)?;
    until("the host is back under its old id", DEADLINE, || {
        ensure!(t.node_id(victim)? == id);
        let nodes = t.cli("h1", &["node", "ls"])?;
        ensure!(!nodes.contains("Down"), "{nodes}");
        Ok(())
    })?;
    t.running("web", 5)?;
    Ok(())
}

/// P04 (a): a daemon that stands still for 20 s costs no container its life, on one node and on many.
#[test]
fn cluster_p04_stalled_daemon_restarts_nothing() -> Result<()> {
    if !can_make_hosts("cluster_p04_stalled_daemon_restarts_nothing") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("stall", 3, 2)?;
    t.create("web", 5, &[])?;
    let (before, _) = t.running("web", 5)?;
    let host = "h4";
    let daemon = t.cluster.daemon(host)?.context("its daemon runs")?;
    t.lab().pause(host, daemon)?;
    until("the node is unreachable", DEADLINE, || {
        let node = t.first()?.get(&format!("/nodes/{}", before_node(&t, host, &before)?))?;
        ensure!(node["Status"]["State"] != "ready", "{}", node["Status"]);
        Ok(())
    })?;
    thread::sleep(Duration::from_secs(20));
    let stalled = identities(&t.running("web", 5)?.0);
    t.lab().resume(host, daemon)?;
    until("the node is ready again", DEADLINE, || {
        ensure!(!t.cli("h1", &["node", "ls"])?.contains("Down"));
        let id = t.node_id(host)?;
        let node = t.first()?.get(&format!("/nodes/{id}"))?;
        ensure!(node["Status"]["State"] == "ready", "{}", node["Status"]);
        Ok(())
    })?;
    thread::sleep(Duration::from_secs(2));
    let (after, _) = t.running("web", 5)?;
    ensure!(identities(&before) == stalled, "containers were replaced while the daemon stood still");
    ensure!(identities(&before) == identities(&after), "containers were replaced when it went on");
    Ok(())
}

/// The id of a host that cannot be asked: the node among `rows` that no other host has.
fn before_node(t: &ClusterUnderTest, host: &str, rows: &[TaskRow]) -> Result<String> {
    let others: Vec<String> =
        t.cluster.hosts().iter().filter(|h| *h != host).map(|h| t.node_id(h)).collect::<Result<_>>()?;
    let found = rows.iter().find(|r| !others.contains(&r.node)).context("one task runs there")?;
    Ok(found.node.clone())
}

/// P04 (a), one node: it never kills because of itself.
#[test]
fn cluster_p04_one_node_never_kills_because_of_itself() -> Result<()> {
    if !can_make_hosts("cluster_p04_one_node_never_kills_because_of_itself") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("single", 1, 0)?;
    t.create("web", 3, &[])?;
    let (before, _) = t.running("web", 3)?;
    let daemon = t.cluster.daemon("h1")?.context("its daemon runs")?;
    t.lab().pause("h1", daemon)?;
    thread::sleep(Duration::from_secs(8));
    t.lab().resume("h1", daemon)?;
    thread::sleep(Duration::from_secs(3));
    ensure!(identities(&before) == identities(&t.running("web", 3)?.0));
    Ok(())
}

/// P44: a worker's daemon killed and started again finds the same containers, the same processes.
#[test]
fn cluster_p44_daemon_restart_touches_no_container() -> Result<()> {
    if !can_make_hosts("cluster_p44_daemon_restart_touches_no_container") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("reborn", 1, 1)?;
    t.create("web", 4, &[])?;
    let (before, _) = t.running("web", 4)?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        t.cluster.stop_daemon("h2", signal)?;
        for row in before.iter().filter(|r| t.node_id("h1").is_ok_and(|h1| r.node != h1)) {
            t.lab().run("h2", &["kill", "-0", &row.pid.to_string()]).context("the container must run on")?;
        }
        t.cluster.start_daemon("h2")?;
        until("ready again", DEADLINE, || {
            let nodes = t.cli("h1", &["node", "ls"])?;
            ensure!(nodes.matches("Ready").count() == 2, "{nodes}");
            Ok(())
        })?;
        ensure!(identities(&before) == identities(&t.running("web", 4)?.0), "after {signal}");
    }
    Ok(())
}

/// P44, P29: a container that ends while the daemon is away is noticed when it returns.
#[test]
fn cluster_p29_exit_while_the_daemon_was_away() -> Result<()> {
    if !can_make_hosts("cluster_p29_exit_while_the_daemon_was_away") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("away", 1, 1)?;
    t.create("web", 2, &[])?;
    let (before, _) = t.running("web", 2)?;
    let other = t.node_id("h2")?;
    let victim = before.iter().find(|r| r.node == other).context("one runs on h2")?.clone();
    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    t.lab().run("h2", &["kill", "-9", &victim.pid.to_string()])?;
    t.cluster.start_daemon("h2")?;
    until("the dead container is reported with its exit code and replaced", DEADLINE, || {
        let tasks = t.tasks("web")?;
        let dead = tasks.iter().find(|r| r.id == victim.id).context("it is in the history")?;
        ensure!(dead.state == "failed" && dead.error.contains("137"), "{dead:#?}");
        t.running("web", 2).map(drop)
    })?;
    Ok(())
}

/// All managers killed at once and started again: everything is back, no container stopped.
#[test]
fn cluster_p44_all_managers_killed_and_restarted() -> Result<()> {
    if !can_make_hosts("cluster_p44_all_managers_killed_and_restarted") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("allmgrs", 3, 1)?;
    t.create("web", 6, &[])?;
    let (before, _) = t.running("web", 6)?;
    for host in t.cluster.managers() {
        t.cluster.stop_daemon(host, Signal::SIGKILL)?;
    }
    for host in t.cluster.managers() {
        t.cluster.start_daemon(host)?;
    }
    until("all nodes ready", DEADLINE, || {
        let nodes = t.cli("h1", &["node", "ls"])?;
        ensure!(nodes.matches("Ready").count() == 4, "{nodes}");
        Ok(())
    })?;
    ensure!(identities(&before) == identities(&t.running("web", 6)?.0));
    t.cli("h1", &["service", "scale", "-d", "web=7"])?;
    t.running("web", 7)?;
    Ok(())
}
