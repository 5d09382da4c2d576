//! How tasks are spread, moved and given room by labels that any client can set (P19, P49, S-30).

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::StateDir;

use crate::{can_make_hosts, docker_cli::docker};

/// A fresh node gets tasks after ten seconds, and the next five seconds after the one before proved itself.
const EVENED_OUT: Duration = Duration::from_secs(60);

/// How many running tasks of a service each host has.
fn spread(t: &ClusterUnderTest, service: &str) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for task in t.tasks(service)?.iter().filter(|task| task.state == "running" && task.desired == "running") {
        let host = t.cluster.hosts().into_iter().find(|host| t.node_id(host).is_ok_and(|id| id == task.node));
        *counts.entry(host.unwrap_or_default()).or_default() += 1;
    }
    Ok(counts)
}

/// A node that comes back gets its share of the service that asks for it, and of no other; wishes and neighbours are
/// followed; the higher priority gets the room.
#[test]
fn cluster_p19_tasks_move_to_a_node_that_comes_back() -> Result<()> {
    if !can_make_hosts("cluster_p19_tasks_move_to_a_node_that_comes_back") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("steering", 1, 1)?;
    docker(&t, "h1", &["node", "update", "--availability", "drain", "h2"])?;
    t.create("moves", 4, &["--rebalance", "on", "--update-order", "start-first", "--update-monitor", "1s"])?;
    t.create("stays", 4, &[])?;
    let (before, _) = t.running("stays", 4)?;
    t.running("moves", 4)?;
    docker(&t, "h1", &["node", "update", "--availability", "active", "h2"])?;
    until("the service is spread", EVENED_OUT, || {
        let found = spread(&t, "moves")?;
        ensure!(found.values().all(|count| *count == 2) && found.len() == 2, "{found:?}");
        Ok(())
    })?;
    let ids = |tasks: &[it::TaskRow]| tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>();
    ensure!(ids(&t.running("stays", 4)?.0) == ids(&before), "a service that did not ask was moved");

    // beside the one and apart from the other, from the docker CLI
    let create = |name: &str, flags: &[&str]| {
        let begin = ["service", "create", "--detach", "--no-resolve-image", "--name", name];
        docker(&t, "h1", &[&begin[..], flags, &[IMAGE, "sleep", "1000"]].concat())
    };
    create("db", &["--constraint", "node.hostname==h2"])?;
    t.running("db", 1)?;
    create("near", &["--replicas", "2", "--constraint", "service==db"])?;
    create("far", &["--replicas", "2", "--constraint", "service!=db", "--constraint", "~node.labels.none exists"])?;
    t.running("near", 2)?;
    t.running("far", 2)?;
    ensure!(spread(&t, "near")?.into_keys().eq(["h2"]), "{:?}", spread(&t, "near")?);
    ensure!(spread(&t, "far")?.into_keys().eq(["h1"]), "{:?}", spread(&t, "far")?);

    // all of h2's processors, while a lower one has half of them
    let cpus = docker(&t, "h1", &["node", "inspect", "h2", "--format", "{{.Description.Resources.NanoCPUs}}"])?;
    let all = cpus.trim().parse::<f64>()? / 1e9;
    let here = ["--constraint", "node.hostname==h2", "--reserve-cpu"];
    create("low", &[&here[..], &[format!("{}", all / 2.0).as_str(), "--label", "rswarm.priority=-1"]].concat())?;
    t.running("low", 1)?;
    create("high", &[&here[..], &[format!("{all}").as_str()]].concat())?;
    t.running("high", 1)?;
    until("the lower one waits", DEADLINE, || {
        let tasks = t.tasks("low")?;
        ensure!(tasks.iter().any(|task| task.state == "pending" && task.error.contains("lacks CPUs")), "{tasks:#?}");
        Ok(())
    })?;
    let bad = create("bad", &["--label", "rswarm.rebalance=sometimes"]).expect_err("an unknown word").to_string();
    ensure!(bad.contains("is no rebalance policy; use off, on-join or continuous"), "{bad}");
    Ok(())
}

/// P19: a node that was away gets nothing by itself. What would move is shown, and done when asked for: not more at once than the
/// budget, and nothing of a service that takes no part.
#[test]
fn cluster_p19_tasks_move_when_somebody_asks() -> Result<()> {
    if !can_make_hosts("cluster_p19_tasks_move_when_somebody_asks") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("rebalance", 1, 2)?;
    t.lab().kill("h3")?;
    until("h3 is down", DEADLINE, || {
        let found = t.cli("h1", &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        ensure!(found.contains("h3 Down"), "{found}");
        Ok(())
    })?;
    let quick = ["--update-order", "start-first", "--update-monitor", "1s", "--update-parallelism", "2"];
    t.create("web", 6, &quick)?;
    t.create("out", 4, &[&quick[..], &["--rebalance", "off"]].concat())?;
    t.create("data", 2, &[&quick[..], &["--mount", "type=volume,source=kept,target=/kept"]].concat())?;
    let before: Vec<_> = ["web", "out", "data"]
        .into_iter()
        .zip([6, 4, 2])
        .map(|(name, count)| t.running(name, count))
        .collect::<Result<_>>()?;
    t.lab().start("h3", StateDir::Keep)?;
    t.cluster.start_daemon("h3")?;
    until("h3 is back", DEADLINE, || {
        let found = t.cli("h1", &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        ensure!(found.contains("h3 Ready"), "{found}");
        Ok(())
    })?;
    let shown = t.cli("h1", &["rebalance", "--dry-run"])?;
    ensure!(shown.matches("\nweb.").count() == 2 && shown.contains("of its tasks, h3 0"), "{shown}");
    ensure!(shown.contains("out stays: it takes no part"), "{shown}");
    let ids = |tasks: &[it::TaskRow]| tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>();
    ensure!(ids(&t.running("web", 6)?.0) == ids(&before[0].0), "nothing moves by itself or by looking");
    let refused = t.cli_fails("h1", &["rebalance", "--service", "web", "--service", "nobody"])?;
    ensure!(refused.contains("service nobody not found"), "{refused}");
    let refused = t.cli_fails("h1", &["rebalance", "--service", "out"])?;
    ensure!(refused.contains("service out is not evened out: it takes no part"), "{refused}");

    let done = t.cli("h1", &["rebalance", "--budget", "2", "--wait"])?;
    ensure!(done.matches(" to h3\n").count() == 2 && done.contains("2 tasks moved."), "{done}");
    let found = spread(&t, "web")?;
    ensure!(found.len() == 3 && found.values().all(|count| *count == 2), "{found:?}");
    ensure!(ids(&t.running("out", 4)?.0) == ids(&before[1].0), "a service that takes no part was moved");
    ensure!(ids(&t.running("data", 2)?.0) == ids(&before[2].0), "tasks were moved away from their data");
    let again = t.cli("h1", &["rebalance", "--wait"])?;
    ensure!(again.contains("Nothing to move.") && again.contains("0 tasks moved."), "{again}");
    Ok(())
}
