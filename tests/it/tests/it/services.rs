//! The main job: services run, change, and are explained.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use it::{ClusterUnderTest, DEADLINE, until};

use crate::can_make_hosts;

/// S-01, S-02, S-07, S-18: create, scale both ways, update the arguments, remove.
#[test]
fn cluster_s_02_create_scale_update_remove() -> Result<()> {
    if !can_make_hosts("cluster_s_02_create_scale_update_remove") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("services", 3, 2)?;
    t.create("web", 3, &[])?;
    let (three, _) = t.running("web", 3)?;
    let nodes: BTreeSet<_> = three.iter().map(|r| &r.node).collect();
    ensure!(nodes.len() == 3, "three replicas on five idle nodes share no node: {three:#?}");

    t.cli("h1", &["service", "scale", "--detach", "web=8"])?;
    let (eight, _) = t.running("web", 8)?;
    let kept: BTreeSet<_> = eight.iter().map(|r| r.container.clone()).collect();
    ensure!(three.iter().all(|r| kept.contains(&r.container)), "scaling up must not touch what runs");

    t.cli("h1", &["service", "scale", "--detach", "web=2"])?;
    let (two, _) = t.running("web", 2)?;
    ensure!(two.iter().all(|r| kept.contains(&r.container)), "scaling down must not restart what stays");

    t.cli("h1", &["service", "update", "--detach", "--args", "sleep 99999", "web"])?;
    until("both replaced", DEADLINE, || {
        let (now, _) = t.running("web", 2)?;
        ensure!(now.iter().all(|r| two.iter().all(|old| old.container != r.container)), "{now:#?}");
        Ok(())
    })?;

    t.cli("h1", &["service", "rm", "web"])?;
    until("no task left", DEADLINE, || {
        let services = t.first()?.get("/services")?;
        ensure!(services.as_array().is_some_and(Vec::is_empty), "{services}");
        t.no_containers()?;
        Ok(())
    })?;
    Ok(())
}

/// S-03, C-22: one task per node; drain empties a node, pause keeps it, active fills it again.
#[test]
fn cluster_c_22_global_drain_pause_active() -> Result<()> {
    if !can_make_hosts("cluster_c_22_global_drain_pause_active") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("drain", 1, 2)?;
    t.cli("h1", &["service", "create", "-d", "--name", "all", "--mode", "global", it::IMAGE, "sleep", "100000"])?;
    t.create("web", 4, &[])?;
    let (all, _) = t.running("all", 3)?;
    ensure!(all.iter().map(|r| &r.node).collect::<BTreeSet<_>>().len() == 3, "{all:#?}");
    t.running("web", 4)?;
    let drained = t.node_id("h3")?;

    t.cli("h1", &["node", "update", "--availability", "drain", "h3"])?;
    t.running("all", 2)?;
    until("web left the drained node", DEADLINE, || {
        let (web, _) = t.running("web", 4)?;
        ensure!(web.iter().all(|r| r.node != drained), "{web:#?}");
        Ok(())
    })?;
    let (before, _) = t.running("web", 4)?;

    t.cli("h1", &["node", "update", "--availability", "pause", "h2"])?;
    t.cli("h1", &["service", "scale", "-d", "web=6"])?;
    let (after, _) = t.running("web", 6)?;
    let paused = t.node_id("h2")?;
    let count = |rows: &[it::TaskRow]| rows.iter().filter(|r| r.node == paused).count();
    ensure!(count(&before) == count(&after), "a paused node keeps what it has and gets nothing new: {after:#?}");

    t.cli("h1", &["node", "update", "--availability", "active", "h3"])?;
    t.running("all", 3)?;
    Ok(())
}

/// S-16, P45: a killed container comes back; a crash loop backs off and is called by its name.
#[test]
fn cluster_p45_restart_and_backoff() -> Result<()> {
    if !can_make_hosts("cluster_p45_restart_and_backoff") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("restart", 1, 1)?;
    t.create("web", 2, &[])?;
    let (two, _) = t.running("web", 2)?;
    let victim = &two[0];
    let host = if victim.node == t.node_id("h1")? { "h1" } else { "h2" };
    t.lab().run(host, &["kill", "-9", &victim.pid.to_string()])?;
    until("killed container replaced", DEADLINE, || {
        let (now, _) = t.running("web", 2)?;
        ensure!(now.iter().all(|r| r.container != victim.container), "{now:#?}");
        ensure!(now.iter().any(|r| r.container == two[1].container), "the other one must not be touched: {now:#?}");
        Ok(())
    })?;
    let failed = t.tasks("web")?.into_iter().find(|r| r.id == victim.id).expect("history keeps the failed task");
    ensure!(failed.state == "failed" && failed.error.contains("137"), "{failed:#?}");

    t.cli("h1", &["service", "create", "-d", "--name", "bad", it::IMAGE, "sh", "-c", "exit 3"])?;
    let (_, took) = until("five starts", DEADLINE, || {
        let starts = t.tasks("bad")?.iter().filter(|r| r.state == "failed").count();
        ensure!(starts >= 4, "{starts} failures");
        Ok(())
    })?;
    ensure!(took > Duration::from_secs(3), "four failures in {took:?}: no backoff");
    // what cannot even be started backs off just the same
    t.cli("h1", &["service", "create", "-d", "--name", "wrong", it::IMAGE, "no-such-command"])?;
    let (_, took) = until("four rejections", DEADLINE, || {
        let rejected = t.tasks("wrong")?.iter().filter(|r| r.state == "rejected").count();
        ensure!(rejected >= 4, "{rejected} rejections");
        Ok(())
    })?;
    ensure!(took > Duration::from_secs(3), "four rejections in {took:?}: no backoff");
    until("crash loop is named", DEADLINE, || {
        let tasks = t.tasks("bad")?;
        ensure!(tasks.iter().any(|r| r.message.contains("crash loop")), "{tasks:#?}");
        ensure!(tasks.iter().any(|r| r.error.contains("exit") && r.error.contains('3')), "{tasks:#?}");
        Ok(())
    })?;
    Ok(())
}

/// P06, S-30, S-41: an unplaceable task is PENDING and says why; once the cause is gone it runs.
#[test]
fn cluster_p06_pending_is_explained_and_ends() -> Result<()> {
    if !can_make_hosts("cluster_p06_pending_is_explained_and_ends") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("pending", 1, 1)?;
    let explained = |service: &str, words: &[&str]| {
        until(&format!("{service} is explained"), DEADLINE, || {
            let tasks = t.tasks(service)?;
            let task = tasks.iter().find(|r| r.state == "pending" && r.desired == "running");
            let text = task.map(|r| format!("{} {}", r.message, r.error)).unwrap_or_default();
            ensure!(words.iter().all(|w| text.contains(w)), "want {words:?}: {tasks:#?}");
            let ps = t.cli("h1", &["service", "ps", "--no-trunc", service])?;
            ensure!(words.iter().all(|w| ps.contains(w)), "service ps hides it: {ps}");
            Ok(())
        })
    };
    t.create("zone", 1, &["--constraint", "node.labels.zone==a"])?;
    explained("zone", &["no suitable node", "node.labels.zone==a"])?;
    t.cli("h1", &["node", "update", "--label-add", "zone=a", "h2"])?;
    let (zone, _) = t.running("zone", 1)?;
    ensure!(zone[0].node == t.node_id("h2")?, "{zone:#?}");

    t.create("big", 1, &["--reserve-memory", "500g"])?;
    explained("big", &["no suitable node", "memory"])?;
    t.cli("h1", &["service", "update", "-d", "--reserve-memory", "16m", "big"])?;
    t.running("big", 1)?;

    t.cli("h1", &["service", "create", "-d", "--name", "ghost", "127.0.0.1:1/no/such:image"])?;
    until("a missing image is REJECTED with the reason", DEADLINE, || {
        let tasks = t.tasks("ghost")?;
        let rejected = tasks.iter().find(|r| r.state == "rejected");
        ensure!(rejected.is_some_and(|r| r.error.contains("127.0.0.1:1/no/such:image")), "{tasks:#?}");
        Ok(())
    })?;
    Ok(())
}

/// S-19: the lines of all tasks, from any manager.
#[test]
fn cluster_s_19_service_logs() -> Result<()> {
    if !can_make_hosts("cluster_s_19_service_logs") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("logs", 1, 1)?;
    let script = "for i in 1 2 3; do echo line-$i; echo err-$i >&2; done; sleep 100000";
    t.cli("h1", &["service", "create", "-d", "--name", "talk", "--replicas", "2", it::IMAGE, "sh", "-c", script])?;
    t.running("talk", 2)?;
    until("all lines", DEADLINE, || {
        let logs = t.cli("h1", &["service", "logs", "--raw", "talk"])?;
        for line in ["line-1", "line-2", "line-3"] {
            ensure!(logs.matches(line).count() == 2, "{line} must be there twice: {logs}");
        }
        Ok(())
    })?;
    let tail = t.cli("h1", &["service", "logs", "--raw", "--tail", "1", "talk"])?;
    ensure!(!tail.contains("line-1"), "{tail}");
    Ok(())
}
