//! What a host has besides CPUs and memory, and what the cluster sets for all tasks, through real daemons.

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, TaskRow, until};
use lab::ExecOptions;
use serde_json::json;

use crate::can_make_hosts;

/// C-27, S-41, S-43: the daemon's flag is seen, tasks get what they reserve and are told, one too many waits and says
/// why, and what a task gives back is given again.
#[test]
fn s_41_tasks_get_what_hosts_have() -> Result<()> {
    if !can_make_hosts("s_41_tasks_get_what_hosts_have") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("resources", 1, 1)?;
    let own = ["--node-generic-resource", "GPU=A1", "--node-generic-resource", "GPU=A2"];
    t.restart_with("h2", &[&own[..], &["--node-generic-resource", "SSD=3"]].concat())?;
    let docker = Docker::new(&t, "h1");
    until("the node tells what it has", DEADLINE, || {
        let shown =
            docker.run(&["node", "inspect", "h2", "--format", "{{json .Description.Resources.GenericResources}}"])?.1;
        ensure!(["A1", "A2", "SSD"].iter().all(|word| shown.contains(word)), "{shown}");
        Ok(())
    })?;
    let service = |name: &str, more: &str| {
        docker.ok(&format!(
            "service create -d --name {name} --stop-grace-period 100ms --generic-resource GPU=1 {more} {IMAGE} sleep 600"
        ))
    };
    service("one", "--generic-resource SSD=1")?;
    docker.ok("service scale -d one=2")?;
    let (running, _) = t.running("one", 2)?;
    let mut given: Vec<String> = running.iter().map(|task| variable(&t, task)).collect::<Result<_>>()?;
    given.sort();
    ensure!(given == ["A1 1", "A2 1"], "each its own: {given:?}");
    docker.ok("service scale -d one=3")?;
    until("the third says why it waits", DEADLINE, || {
        let waiting = t.tasks("one")?.into_iter().find(|task| task.state == "pending").context("none waits")?;
        ensure!(waiting.error.contains("GPU"), "{waiting:?}");
        Ok(())
    })?;
    docker.ok("service scale -d one=1")?;
    service("two", "")?;
    let next = t.running("two", 1)?.0.remove(0);
    let kept = t.running("one", 1)?.0.remove(0);
    let both = [variable(&t, &next)?, variable(&t, &kept)?];
    ensure!(both[0][..2] != both[1][..2], "one name, one task: {both:?}");
    Ok(())
}

/// The names of its GPU and its count of SSDs, as its first process sees them.
fn variable(t: &ClusterUnderTest, task: &TaskRow) -> Result<String> {
    let read = format!("tr '\\0' '\\n' < /proc/{}/environ", task.pid);
    let output = t.lab().exec("h2", &["sh", "-c", &read], &ExecOptions::default())?;
    let of = |name: &str| {
        let name = format!("DOCKER_RESOURCE_{name}=");
        output.stdout.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default().to_owned()
    };
    Ok(format!("{} {}", of("GPU"), of("SSD")).trim_end().to_owned())
}

/// C-43: tasks without a log driver of their own have the cluster's, from the setting on.
#[test]
fn c_43_the_clusters_log_driver_is_that_of_tasks() -> Result<()> {
    if !can_make_hosts("c_43_the_clusters_log_driver_is_that_of_tasks") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("defaultlog", 1, 0)?;
    let api = t.first()?;
    let cluster = api.get("/swarm")?;
    let mut spec = cluster["Spec"].clone();
    spec["TaskDefaults"] = json!({ "LogDriver": { "Name": "local", "Options": { "max-size": "5m" } } });
    api.post(&format!("/swarm/update?version={}", cluster["Version"]["Index"]), &spec)?;
    t.create("follows", 1, &[])?;
    t.create("own", 1, &["--log-driver", "json-file"])?;
    for (service, driver, size) in [("follows", "local", json!("5m")), ("own", "json-file", json!(null))] {
        let task = t.running(service, 1)?.0.remove(0);
        let log = api.get(&format!("/containers/{}/json", task.container))?["HostConfig"]["LogConfig"].clone();
        ensure!(log["Type"] == driver && log["Config"]["max-size"] == size, "{service}: {log}");
    }
    Ok(())
}
