//! Ports that tasks publish on their own hosts, and what happens to their clients when a task goes
//! (parity S-34, N-20; pains P05, P31).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::can_make_hosts;

/// Published and target port of each of a task's ports, as its node reported them.
fn reported(t: &ClusterUnderTest, task: &str) -> Result<Vec<(u64, u64)>> {
    let task = t.first()?.get(&format!("/tasks/{task}"))?;
    let number = |port: &Value, name: &str| port[name].as_u64().unwrap_or(0);
    let ports = task["Status"]["PortStatus"]["Ports"].as_array().into_iter().flatten();
    Ok(ports.map(|port| (number(port, "PublishedPort"), number(port, "TargetPort"))).collect())
}

/// S-34, P31: a fixed and a dynamic port are reported; what somebody else holds is refused by name.
#[test]
fn cluster_s_34_host_ports_are_reported_and_never_taken_from_others() -> Result<()> {
    if !can_make_hosts("cluster_s_34_host_ports_are_reported_and_never_taken_from_others") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("hostports", 1, 0)?;
    t.create("web", 1, &["--publish", "mode=host,published=8080,target=80", "--publish", "mode=host,target=81"])?;
    let (web, _) = t.running("web", 1)?;
    let ports = reported(&t, &web[0].id)?;
    ensure!(ports.len() == 2 && ports[0] == (8080, 80) && ports[1].1 == 81, "{ports:?}");
    let dynamic = ports[1].0;
    ensure!((32768..=60999).contains(&dynamic), "{ports:?}");
    let ps = t.cli("h1", &["service", "ps", "web"])?;
    ensure!(ps.contains(&format!("*:8080->80/tcp,*:{dynamic}->81/tcp")), "{ps}");

    // A daemon that starts again knows what its containers hold.
    t.cluster.stop_daemon("h1", Signal::SIGKILL)?;
    t.cluster.start_daemon("h1")?;
    until("the same ports again", DEADLINE, || {
        let (again, _) = t.running("web", 1)?;
        ensure!(again[0].container == web[0].container && reported(&t, &web[0].id)? == ports, "{again:#?}");
        Ok(())
    })?;

    let httpd = t.lab().spawn("h1", "httpd", &["busybox", "httpd", "-f", "-p", "9090"], &[])?;
    until("it listens", DEADLINE, || {
        let sockets = t.lab().run("h1", &["cat", "/proc/net/tcp", "/proc/net/tcp6"])?;
        ensure!(sockets.contains(":2382 0000"), "no socket at port 9090 (hexadecimal 2382): {sockets}");
        Ok(())
    })?;
    let publish = ["--publish", "mode=host,published=9090,target=80"];
    t.create("late", 1, &publish)?;
    let (pid, _) = until("rejected, with the owner's name", DEADLINE, || {
        let tasks = t.tasks("late")?;
        let task = tasks.iter().find(|r| r.state == "rejected").with_context(|| format!("{tasks:#?}"))?;
        ensure!(task.error.contains("port 9090/tcp of this host is held by busybox (pid "), "{task:#?}");
        let pid = task.error.split("(pid ").nth(1).and_then(|rest| rest.split(')').next()).unwrap_or_default();
        Ok(pid.to_owned())
    })?;
    let comm = t.lab().run("h1", &["cat", &format!("/proc/{pid}/comm")])?;
    ensure!(comm.trim() == "busybox", "process {pid} is {comm}");
    t.lab().signal("h1", httpd.process, Signal::SIGKILL)?;
    t.running("late", 1)?;
    Ok(())
}

/// P05, N-20: what others send to stops a moment after it was told to; by then they know.
#[test]
fn cluster_n_20_a_served_task_drains_before_it_is_stopped() -> Result<()> {
    if !can_make_hosts("cluster_n_20_a_served_task_drains_before_it_is_stopped") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("drains", 1, 1)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "net"])?;
    let quits = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let arguments = ["service", "create", "-d", "--name", "web", "--replicas", "2", "--network", "net"];
    t.cli("h1", &[&arguments[..], &[IMAGE, "sh", "-c", quits]].concat())?;
    let (two, _) = t.running("web", 2)?;
    let told = Instant::now();
    t.cli("h1", &["service", "scale", "-d", "web=1"])?;
    until("one is gone", DEADLINE, || {
        let tasks = t.tasks("web")?;
        let ended = two.iter().any(|r| tasks.iter().all(|now| now.id != r.id || now.state == "shutdown"));
        ensure!(ended, "{tasks:#?}");
        Ok(())
    })?;
    // Its shell would end at once: the rest is the time that the others were given.
    ensure!(told.elapsed() >= Duration::from_secs(2), "stopped after {:?}", told.elapsed());
    Ok(())
}
