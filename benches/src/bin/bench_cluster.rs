//! Start, failover and memory of a real cluster on this machine, as one JSON object on stdout.
//!
//! Five hosts as namespaces: three managers, two workers, one daemon each that is manager and
//! worker in one. Everything is measured from outside, through the API that users have.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use benches::{processes, pss_mib, round, rss_mib, summary};
use it::{Api, ClusterUnderTest, DEADLINE, IMAGE, until};
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

/// Between two looks at the cluster.
const LOOK: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    let (leader_rounds, host_rounds) = rounds()?;
    let idle = idle_rss()?;
    let t = ClusterUnderTest::up("bench", 3, 2)?;
    let mut running = Map::new();
    let mut tasks_100 = 0.0;
    let mut shim = 0.0;
    for replicas in [3, 10, 50, 100] {
        let took = create_to_running(&t, replicas)?;
        eprintln!("{replicas} replicas running after {took:?}");
        running.insert(replicas.to_string(), json!(round(took.as_secs_f64())));
        if replicas == 100 {
            tasks_100 = leader_rss(&t)?;
            shim = mean(&processes("rswarm-shim")?.into_iter().map(pss_mib).collect::<Result<Vec<_>>>()?);
        }
        remove(&t)?;
    }
    let host = host_lost(&t, host_rounds)?;
    let leader = leader_killed(&t, leader_rounds)?;
    let figures = json!({
        "running_s": running, "leader_s": leader, "host_s": host,
        "rss_mib": { "idle": idle, "tasks_100": tasks_100 }, "shim_pss_mib": round(shim),
    });
    println!("{figures}");
    Ok(())
}

/// `--leader-rounds N` and `--host-rounds N`, by default 30 and 20.
fn rounds() -> Result<(usize, usize)> {
    let (mut leader, mut host) = (30, 20);
    let arguments: Vec<String> = env::args().skip(1).collect();
    for pair in arguments.chunks(2) {
        match pair {
            [flag, value] if flag == "--leader-rounds" => leader = value.parse().context("--leader-rounds")?,
            [flag, value] if flag == "--host-rounds" => host = value.parse().context("--host-rounds")?,
            _ => bail!("usage: bench-cluster [--leader-rounds N] [--host-rounds N]"),
        }
    }
    Ok((leader, host))
}

/// Manager and worker in one, nothing to do, half a minute after it was made.
fn idle_rss() -> Result<f64> {
    let t = ClusterUnderTest::up("bench-idle", 1, 0)?;
    thread::sleep(Duration::from_secs(30));
    rss_mib(t.cluster.daemon("h1")?.context("the daemon runs")?.pid)
}

fn leader_rss(t: &ClusterUnderTest) -> Result<f64> {
    let leader = t.leader("h1")?;
    rss_mib(t.cluster.daemon(&leader)?.context("the leader's daemon runs")?.pid)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn service(name: &str, replicas: u64) -> Value {
    json!({
        "Name": name,
        "Mode": { "Replicated": { "Replicas": replicas } },
        "TaskTemplate": { "ContainerSpec": { "Image": IMAGE, "Args": ["sleep", "100000"] } },
    })
}

/// From the request until the API counts all as running.
fn create_to_running(t: &ClusterUnderTest, replicas: u64) -> Result<Duration> {
    let api = t.first()?;
    let begin = Instant::now();
    api.post("/services/create", &service("bench", replicas))?;
    wait_running(&api, replicas, begin)
}

fn wait_running(api: &Api, replicas: u64, begin: Instant) -> Result<Duration> {
    loop {
        let services = api.get("/services?status=true")?;
        let running = services[0]["ServiceStatus"]["RunningTasks"].as_u64();
        if running == Some(replicas) {
            return Ok(begin.elapsed());
        }
        ensure!(begin.elapsed() < DEADLINE * 2, "{running:?} of {replicas} run: {services}");
        thread::sleep(LOOK);
    }
}

/// Removes the service and waits until no host has a container.
fn remove(t: &ClusterUnderTest) -> Result<()> {
    t.cli("h1", &["service", "rm", "bench"])?;
    until("all containers gone", DEADLINE * 2, || t.no_containers()).map(drop)
}

/// From the pulled cable until every task of that host runs elsewhere.
fn host_lost(t: &ClusterUnderTest, rounds: usize) -> Result<Value> {
    t.first()?.post("/services/create", &service("bench", 10))?;
    t.running("bench", 10)?;
    let mut series = Vec::new();
    for round in 0..rounds {
        let host = t.cluster.workers()[round % 2].clone();
        let id = t.node_id(&host)?;
        let (before, _) = t.running("bench", 10)?;
        if !before.iter().any(|r| r.node == id) {
            bail!("no task on {host}, nothing to measure: {before:#?}");
        }
        let begin = Instant::now();
        t.lab().cut(&host)?;
        let api = t.first()?;
        loop {
            let tasks = ClusterUnderTest::tasks_through(&api, "bench")?;
            let good = tasks.iter().filter(|r| r.desired == "running" && r.state == "running" && r.node != id).count();
            if good == 10 {
                break;
            }
            ensure!(begin.elapsed() < DEADLINE, "{good} of 10 run off {host}: {tasks:#?}");
            thread::sleep(LOOK);
        }
        eprintln!("host {round}: {:?}", begin.elapsed());
        series.push(begin.elapsed());
        t.lab().heal(&host)?;
        settle(t)?;
        // the next round needs tasks on both workers: replaced tasks do not move back by themselves
        t.cli("h1", &["service", "update", "--detach", "--force", "--update-parallelism", "0", "bench"])?;
        settle(t)?;
    }
    remove(t)?;
    Ok(summary(&mut series))
}

/// From the killed leader until another manager accepts a write.
fn leader_killed(t: &ClusterUnderTest, rounds: usize) -> Result<Value> {
    let mut series = Vec::new();
    for round in 0..rounds {
        let leader = t.leader("h1")?;
        let survivor = t.cluster.managers().iter().find(|h| **h != leader).context("there are three")?;
        let api = t.api(survivor)?;
        let daemon = t.cluster.daemon(&leader)?.context("it runs")?;
        let name = format!("write-{round}");
        let begin = Instant::now();
        t.lab().signal(&leader, daemon, Signal::SIGKILL)?;
        while api.post("/services/create", &service(&name, 0)).is_err() {
            ensure!(begin.elapsed() < DEADLINE, "no write accepted");
            thread::sleep(LOOK);
        }
        eprintln!("leader {round}: {:?}", begin.elapsed());
        series.push(begin.elapsed());
        t.cluster.start_daemon(&leader)?;
        // Else the next round kills one of two that have the whole log, and measures how the third catches up.
        let restarted = t.api(&leader)?;
        until("the restarted manager has the last write", DEADLINE, || {
            restarted.get(&format!("/services/{name}")).map(drop)
        })?;
        settle(t)?;
    }
    Ok(summary(&mut series))
}

/// Waits until all nodes are ready, all managers reachable and all wanted tasks running.
fn settle(t: &ClusterUnderTest) -> Result<()> {
    until("the cluster has settled", DEADLINE, || {
        let nodes = t.first()?.get("/nodes")?;
        for node in nodes.as_array().into_iter().flatten() {
            ensure!(node["Status"]["State"] == "ready", "{}", node["Status"]);
            let manager = &node["ManagerStatus"]["Reachability"];
            ensure!(manager.is_null() || manager == "reachable", "{}", node["ManagerStatus"]);
        }
        let services = t.first()?.get("/services?status=true")?;
        for service in services.as_array().into_iter().flatten() {
            let status = &service["ServiceStatus"];
            ensure!(status["RunningTasks"] == status["DesiredTasks"], "{status}");
            let update = &service["UpdateStatus"]["State"];
            ensure!(update != "updating", "still updating");
        }
        Ok(())
    })
    .map(drop)
}
