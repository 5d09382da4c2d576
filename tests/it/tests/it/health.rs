//! Health checks: a task is what its container's check says it is (parity S-58, N-20, E-41).

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, TaskRow, until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::can_make_hosts;

/// Runs a command with a file of a task's container, on the host that has it.
fn on_file(t: &ClusterUnderTest, row: &TaskRow, command: &[&str], path: &str) -> Result<()> {
    let hosts = t.cluster.hosts();
    let host = hosts.iter().find(|host| t.node_id(host).is_ok_and(|id| id == row.node)).context("a node's host")?;
    let path = format!("/proc/{}/root{path}", row.pid);
    t.lab().run(host, &[command, &[path.as_str()]].concat()).map(drop)?;
    Ok(())
}

/// The texts of `docker ps`'s STATUS column on a host.
fn statuses(t: &ClusterUnderTest, host: &str) -> Result<Vec<String>> {
    let containers = t.api(host)?.get("/containers/json?all=1")?;
    let status = |c: &Value| c["Status"].as_str().unwrap_or_default().to_owned();
    Ok(containers.as_array().into_iter().flatten().map(status).collect())
}

/// A task is STARTING, and says why, until its check succeeds for the first time.
#[test]
fn cluster_s_58_running_only_when_healthy() -> Result<()> {
    if !can_make_hosts("cluster_s_58_running_only_when_healthy") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("health", 1, 0)?;
    let check = "test -e /tmp/well || { echo not yet; exit 1; }";
    t.create("slow", 1, &["--health-cmd", check, "--health-interval", "200ms", "--health-retries", "100000"])?;
    let (waiting, _) = until("the check has failed", DEADLINE, || {
        let tasks = t.tasks("slow")?;
        let task = tasks.first().context("one task")?;
        ensure!(task.state == "starting" && task.pid > 0, "{task:#?}");
        ensure!(task.message.contains("waiting for the first health check"), "{task:#?}");
        ensure!(task.error.contains("exit code 1: not yet"), "{task:#?}");
        Ok(task.clone())
    })?;
    let ps = statuses(&t, "h1")?;
    ensure!(ps.iter().any(|s| s.starts_with("Up ") && s.ends_with("(health: starting)")), "{ps:?}");
    on_file(&t, &waiting, &["touch"], "/tmp/well")?;
    let (running, _) = t.running("slow", 1)?;
    ensure!(running[0].id == waiting.id && running[0].pid == waiting.pid, "the same container: {running:#?}");
    let ps = statuses(&t, "h1")?;
    ensure!(ps.iter().any(|s| s.ends_with("(healthy)")), "{ps:?}");

    // One that never gets well is given up after its retries, and its successor waits like it.
    t.create("never", 1, &["--health-cmd", "false", "--health-interval", "100ms", "--health-retries", "2"])?;
    until("it failed for its health", DEADLINE, || {
        let tasks = t.tasks("never")?;
        let failed = tasks.iter().find(|r| r.state == "failed").with_context(|| format!("{tasks:#?}"))?;
        ensure!(failed.error.contains("unhealthy container: health check failed 2 times in a row"), "{failed:#?}");
        ensure!(tasks.iter().all(|r| r.state != "running"), "it was never well: {tasks:#?}");
        Ok(())
    })?;
    Ok(())
}

/// An unhealthy replica is replaced, alone, also by a daemon that found its containers running.
#[test]
fn cluster_s_58_unhealthy_replica_is_replaced() -> Result<()> {
    if !can_make_hosts("cluster_s_58_unhealthy_replica_is_replaced") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("sick", 1, 1)?;
    let check = "test ! -e /tmp/sick || { echo lost its database; exit 7; }";
    let times = ["--health-interval", "300ms", "--health-timeout", "20s", "--health-retries", "2"];
    t.create("web", 3, &[&["--health-cmd", check, "--stop-grace-period", "1s"], &times[..]].concat())?;
    let (before, _) = t.running("web", 3)?;
    let replaced = |victim: &TaskRow, before: &[TaskRow]| {
        on_file(&t, victim, &["touch"], "/tmp/sick")?;
        until("the sick one is replaced", DEADLINE, || {
            let (now, _) = t.running("web", 3)?;
            let ids = |rows: &[TaskRow]| rows.iter().map(|r| r.container.clone()).collect::<BTreeSet<_>>();
            let kept: BTreeSet<_> = ids(&now).intersection(&ids(before)).cloned().collect();
            ensure!(kept.len() == 2 && !kept.contains(&victim.container), "the others stay: {now:#?}");
            let tasks = t.tasks("web")?;
            let failed = tasks.iter().find(|r| r.id == victim.id).context("its history")?;
            let why = "unhealthy container: health check failed 2 times in a row, last: exit code 7: lost its database";
            ensure!(failed.state == "failed" && failed.error.contains(why), "{failed:#?}");
            Ok(now)
        })
    };
    let (after, _) = replaced(&before[0], &before)?;

    let worker = t.node_id("h2")?;
    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    t.cluster.start_daemon("h2")?;
    until("ready again", DEADLINE, || {
        let nodes = t.cli("h1", &["node", "ls"])?;
        ensure!(nodes.matches("Ready").count() == 2, "{nodes}");
        Ok(())
    })?;
    let (found, _) = t.running("web", 3)?;
    let same = |r: &TaskRow| after.iter().any(|old| old.container == r.container && old.pid == r.pid);
    ensure!(found.iter().all(same), "a restarted daemon restarts nothing: {found:#?}");
    let victim = found.iter().find(|r| r.node == worker).context("one runs on the worker")?;
    replaced(victim, &found)?;
    t.cli("h1", &["service", "rm", "web"])?;
    until("no container left", DEADLINE, || t.no_containers())?;
    Ok(())
}

/// E-41: the flags reach the API as Docker's, and a check can be changed and switched off.
#[test]
fn cluster_e_41_health_flags() -> Result<()> {
    if !can_make_hosts("cluster_e_41_health_flags") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("flags", 1, 0)?;
    let flags = ["--health-cmd", "true", "--health-interval", "1s", "--health-timeout", "2s", "--health-retries", "4"];
    t.create("web", 1, &[&flags[..], &["--health-start-period", "3s", "--health-start-interval", "500ms"]].concat())?;
    t.running("web", 1)?;
    let check = || {
        Ok::<_, anyhow::Error>(
            t.first()?.get("/services/web")?["Spec"]["TaskTemplate"]["ContainerSpec"]["Healthcheck"].clone(),
        )
    };
    let want = serde_json::json!({
        "Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Timeout": 2_000_000_000, "Retries": 4,
        "StartPeriod": 3_000_000_000_u64, "StartInterval": 500_000_000,
    });
    ensure!(check()? == want, "{}", check()?);
    t.cli("h1", &["service", "update", "-d", "--no-healthcheck", "web"])?;
    ensure!(check()? == serde_json::json!({ "Test": ["NONE"] }), "{}", check()?);
    until("it runs without a check", DEADLINE, || {
        t.running("web", 1)?;
        let ps = statuses(&t, "h1")?;
        ensure!(ps.iter().any(|s| s.starts_with("Up ") && !s.contains('(')), "{ps:?}");
        Ok(())
    })?;
    let both = t.cli_fails("h1", &["service", "update", "--no-healthcheck", "--health-cmd", "true", "web"])?;
    ensure!(both.contains("--no-healthcheck conflicts with --health-* options"), "{both}");
    Ok(())
}
