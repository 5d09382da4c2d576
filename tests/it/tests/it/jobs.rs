//! Jobs, driven by the docker CLI: how often what ran is counted where it left its traces (parity S-04 to S-06, S-15,
//! pain P26).

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::StateDir;
use serde_json::Value;

use crate::{can_make_hosts, docker_cli::docker};

/// A directory of each host, seen from here too: each run of a container leaves a file in it.
const TRACES: &str = "traces";
const MOUNT: &str = "type=bind,source=/var/lib/traces,target=/out";

fn make_traces(t: &ClusterUnderTest) -> Result<()> {
    for host in t.cluster.hosts() {
        fs::create_dir_all(t.lab().var_lib(&host)?.join(TRACES)).context("make a directory for traces")?;
    }
    Ok(())
}

/// What the files of all hosts that begin so are called, and what is in them.
fn traces(t: &ClusterUnderTest, prefix: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for host in t.cluster.hosts() {
        for entry in fs::read_dir(t.lab().var_lib(&host)?.join(TRACES)).context("read the traces")? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(prefix) {
                found.insert(format!("{name}@{host}"), fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
    Ok(found)
}

/// How many of these ran at the same time at most; each trace says from when to when, in seconds.
fn most_at_once(traces: &BTreeMap<String, String>) -> Result<usize> {
    let mut moments = Vec::new();
    for text in traces.values() {
        let times: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [begin, end] = times[..] else { anyhow::bail!("{text:?} are no two times") };
        moments.extend([(begin, 1), (end, -1)]);
    }
    moments.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let counts = moments.iter().scan(0, |now, (_, step)| {
        *now += step;
        Some(*now)
    });
    Ok(counts.max().unwrap_or(0).try_into()?)
}

/// `docker service create` of a job that runs a script, with flags.
fn create(t: &ClusterUnderTest, flags: &[&str], script: &str) -> Result<String> {
    let mut arguments = vec!["service", "create", "--no-resolve-image", "--mount", MOUNT];
    arguments.extend(flags);
    arguments.extend([IMAGE, "sh", "-c", script]);
    docker(t, "h1", &arguments)
}

fn replicas(t: &ClusterUnderTest, host: &str, name: &str) -> Result<String> {
    let filter = format!("name={name}");
    let arguments = ["service", "ls", "--filter", filter.as_str(), "--format", "{{.Mode}} {{.Replicas}}"];
    docker(t, host, &arguments).map(|text| text.trim().to_owned())
}

fn waits_for(t: &ClusterUnderTest, host: &str, name: &str, wanted: &str) -> Result<()> {
    until(&format!("{name} is {wanted}"), DEADLINE, || {
        let shown = replicas(t, host, name)?;
        ensure!(shown == wanted, "{shown}");
        Ok(())
    })
    .map(drop)
}

fn inspect(t: &ClusterUnderTest, name: &str) -> Result<Value> {
    t.first()?.get(&format!("/services/{name}"))
}

/// S-04, S-06, S-15, S-16: counts, concurrency, retries, iterations, and what docker shows of them.
#[test]
fn cluster_s04_docker_runs_replicated_jobs() -> Result<()> {
    if !can_make_hosts("cluster_s04_docker_runs_replicated_jobs") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("jobs", 1, 2)?;
    make_traces(&t)?;
    let now = "cut -d' ' -f1 /proc/uptime";
    let script =
        format!("n=$(hostname); {now} > /out/part-$n; sleep 1; {now} >> /out/part-$n; mv /out/part-$n /out/done-$n");
    let flags = ["--name", "five", "--mode", "replicated-job", "--replicas", "5", "--max-concurrent", "2"];
    // without --detach docker waits until it is complete
    let shown = create(&t, &flags, &script)?;
    ensure!(shown.contains("job complete"), "{shown}");
    ensure!(traces(&t, "done-")?.len() == 5, "{:?}", traces(&t, "done-")?);
    let most = most_at_once(&traces(&t, "done-")?)?;
    ensure!((1..=2).contains(&most), "{most} ran at once: {:?}", traces(&t, "done-")?);
    ensure!(replicas(&t, "h1", "five")? == "replicated job 0/2 (5/5 completed)", "{}", replicas(&t, "h1", "five")?);
    let listed = t.cli("h1", &["service", "ls"])?;
    ensure!(listed.contains("replicated job") && listed.contains("0/2 (5/5 completed)"), "{listed}");
    let ps = docker(&t, "h1", &["service", "ps", "five", "--format", "{{.DesiredState}} {{.CurrentState}}"])?;
    ensure!(ps.lines().filter(|line| line.starts_with("Complete Complete")).count() == 5, "{ps}");
    let own = t.cli("h1", &["service", "ps", "five", "--format", "{{.Name}}"])?;
    ensure!(own.lines().eq(["five.0", "five.1", "five.2", "five.3", "five.4"]), "{own}");

    // a forced update is one more iteration; the docker CLI waits for it as for the first
    let shown = docker(&t, "h1", &["service", "update", "--no-resolve-image", "--force", "five"])?;
    ensure!(shown.contains("job complete"), "{shown}");
    ensure!(traces(&t, "done-")?.len() == 10, "{:?}", traces(&t, "done-")?);
    ensure!(inspect(&t, "five")?["JobStatus"]["JobIteration"]["Index"] == 1, "{}", inspect(&t, "five")?);
    let pretty = t.cli("h1", &["service", "inspect", "--pretty", "five"])?;
    ensure!(pretty.contains("ReplicatedJob") && pretty.contains("Iteration:"), "{pretty}");

    // what fails is retried, what is done is not done again
    let script = "if mkdir /out/first; then exit 3; fi; touch /out/retried-$(hostname)";
    create(&t, &["--name", "again", "--mode", "replicated-job", "--replicas", "3"], script)?;
    ensure!(traces(&t, "retried-")?.len() == 3, "{:?}", traces(&t, "retried-")?);
    let failed = t.tasks("again")?.into_iter().filter(|task| task.state == "failed").count();
    // the first on each of the hosts that had one
    ensure!((1..=3).contains(&failed), "{:#?}", t.tasks("again")?);

    // one that gives up says so, and does not hold up our command line for ever
    let gives_up = ["service", "create", "--name", "never", "--mode", "replicated-job", "--restart-condition", "none"];
    let why = t.cli_fails("h1", &[&gives_up[..], &[IMAGE, "false"]].concat())?;
    ensure!(why.contains("job failed: 1 of 1 tasks failed"), "{why}");
    let arguments = ["service", "create", "--detach", "--mode", "global-job", "--update-parallelism", "2", IMAGE];
    let refused = t.cli_fails("h1", &arguments)?;
    ensure!(refused.contains("update and rollback configuration is not supported for jobs"), "{refused}");
    Ok(())
}

/// S-05: once on every node, also on one that joins later.
#[test]
fn cluster_s05_a_global_job_runs_on_nodes_that_come_later() -> Result<()> {
    if !can_make_hosts("cluster_s05_a_global_job_runs_on_nodes_that_come_later") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("globaljob", 1, 2)?;
    make_traces(&t)?;
    let token = docker(&t, "h1", &["swarm", "join-token", "-q", "worker"])?;
    docker(&t, "h3", &["swarm", "leave"])?;
    until("h3 is down", DEADLINE, || {
        ensure!(docker(&t, "h1", &["node", "ls", "--format", "{{.Status}}"])?.contains("Down"));
        Ok(())
    })?;
    let script = "touch /out/done-$(hostname)";
    let shown = create(&t, &["--name", "all", "--mode", "global-job"], script)?;
    ensure!(shown.contains("job complete"), "{shown}");
    ensure!(replicas(&t, "h1", "all")? == "global job 0/0 (2/2 completed)", "{}", replicas(&t, "h1", "all")?);
    let manager = t.lab().address("h1")?;
    t.cli("h3", &["join", "--token", token.trim(), &format!("{manager}:2377")])?;
    waits_for(&t, "h1", "all", "global job 0/0 (3/3 completed)")?;
    ensure!(traces(&t, "done-")?.len() == 3, "{:?}", traces(&t, "done-")?);
    Ok(())
}

/// S-04: the leader's host dies in the middle; every slot completes, and none twice.
#[test]
fn cluster_s04_a_job_completes_exactly_though_its_leader_dies() -> Result<()> {
    if !can_make_hosts("cluster_s04_a_job_completes_exactly_though_its_leader_dies") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("jobleader", 3, 0)?;
    make_traces(&t)?;
    let leader = t.leader("h1")?;
    let other = t.cluster.managers().iter().find(|host| **host != leader).context("three managers")?.clone();
    // only a run that was not killed leaves a trace
    let script = "sleep 2; touch /out/done-$SLOT-$(hostname)";
    let mut arguments = vec!["service", "create", "--detach", "--no-resolve-image", "--name", "job"];
    arguments.extend(["--mode", "replicated-job", "--replicas", "9", "--max-concurrent", "3"]);
    arguments.extend(["--env", "SLOT={{.Task.Slot}}", "--mount", MOUNT, IMAGE, "sh", "-c", script]);
    docker(&t, &other, &arguments)?;
    until("some are done", DEADLINE, || {
        ensure!(traces(&t, "done-")?.len() >= 2);
        Ok(())
    })?;
    t.lab().kill(&leader)?;
    waits_for(&t, &other, "job", "replicated job 0/3 (9/9 completed)")?;
    let done = traces(&t, "done-")?;
    for slot in 0..9 {
        ensure!(done.keys().any(|name| name.starts_with(&format!("done-{slot}-"))), "slot {slot} of {done:?}");
    }
    // those of the dead host that had ended and could not say so run once more, no others
    ensure!(done.len() <= 9 + 3, "{done:?}");
    let tasks = ClusterUnderTest::tasks_through(&t.api(&other)?, "job")?;
    let complete = tasks.iter().filter(|task| task.state == "complete").count();
    ensure!(complete == 9, "{tasks:#?}");
    t.lab().start(&leader, StateDir::Keep)?;
    t.cluster.start_daemon(&leader)?;
    std::thread::sleep(Duration::from_secs(3));
    ensure!(traces(&t, "done-")?.len() == done.len(), "something ran again: {:?}", traces(&t, "done-")?);
    Ok(())
}

/// P26: a schedule set by labels, as docker and stack files can; each due time is one run, and a stack deploys jobs.
#[test]
fn cluster_p26_schedules_run_jobs_and_stacks_deploy_them() -> Result<()> {
    if !can_make_hosts("cluster_p26_schedules_run_jobs_and_stacks_deploy_them") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("cron", 1, 0)?;
    make_traces(&t)?;
    let stack = format!(
        "services:\n  nightly:\n    image: {IMAGE}\n    command: touch /out/nightly\n    volumes: ['/var/lib/traces:/out']\n    \
         deploy:\n      mode: replicated-job\n      labels:\n        rswarm.schedule: '* * * * *'\n        \
         rswarm.schedule.timezone: Europe/Berlin\n  once:\n    image: {IMAGE}\n    command: touch /out/once\n    \
         volumes: ['/var/lib/traces:/out']\n    deploy:\n      mode: replicated-job\n      replicas: 2\n"
    );
    let place = tempfile::tempdir()?;
    let file = place.path().join("stack.yml");
    fs::write(&file, stack)?;
    let file = file.display().to_string();
    docker(&t, "h1", &["stack", "deploy", "--resolve-image", "never", "--detach=true", "-c", &file, "s"])?;
    waits_for(&t, "h1", "s_once", "replicated job 0/2 (2/2 completed)")?;
    let before = inspect(&t, "s_nightly")?["JobStatus"].clone();
    let next = before["NextRun"].as_str().context("a next run")?.to_owned();
    ensure!(before["LastExecution"] == "0001-01-01T00:00:00Z" || traces(&t, "nightly")?.len() == 1, "{before}");
    let pretty = t.cli("h1", &["service", "inspect", "--pretty", "s_nightly"])?;
    ensure!(pretty.contains("Next Run:") && pretty.contains("Europe/Berlin"), "{pretty}");

    until("its time has come", Duration::from_secs(90), || {
        ensure!(traces(&t, "nightly")?.len() == 1);
        let job = inspect(&t, "s_nightly")?["JobStatus"].clone();
        ensure!(job["NextRun"] != next.as_str(), "{job}");
        Ok(())
    })?;
    waits_for(&t, "h1", "s_nightly", "replicated job 0/1 (1/1 completed)")?;

    // our own command line does not wait for the night
    let arguments = ["service", "create", "--name", "later", "--mode", "replicated-job", "--schedule", "0 3 * * *"];
    let shown = t.cli("h1", &[&arguments[..], &["--schedule-timezone", "Asia/Kolkata", IMAGE, "true"]].concat())?;
    ensure!(shown.contains("its schedule is due at") && shown.contains("T21:30:00Z"), "{shown}");
    ensure!(t.tasks("later")?.is_empty(), "{:#?}", t.tasks("later")?);
    t.cli("h1", &["service", "update", "--force", "--quiet", "later"])?;
    waits_for(&t, "h1", "later", "replicated job 0/1 (1/1 completed)")?;
    Ok(())
}

/// S-30 and beyond: constraints with lists, existence and numbers place tasks, and a refusal names the part.
#[test]
fn cluster_s30_constraints_beyond_equality() -> Result<()> {
    if !can_make_hosts("cluster_s30_constraints_beyond_equality") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("constraints", 1, 2)?;
    docker(&t, "h1", &["node", "update", "--label-add", "disks=2", "--label-add", "zone=a", "h1"])?;
    docker(&t, "h1", &["node", "update", "--label-add", "disks=10", "--label-add", "zone=b", "h2"])?;
    let on = |name: &str, constraint: &str| -> Result<Vec<String>> {
        let flags = ["--name", name, "--mode", "global-job", "--constraint", constraint, "--no-resolve-image"];
        docker(&t, "h1", &[&["service", "create", "--detach"], &flags[..], &[IMAGE, "true"]].concat())?;
        let (hosts, _) = until(&format!("{constraint} has run"), DEADLINE, || {
            let tasks = t.tasks(name)?;
            ensure!(!tasks.is_empty() && tasks.iter().all(|task| task.state == "complete"), "{tasks:#?}");
            Ok(tasks)
        })?;
        let host = |node: &str| t.cluster.hosts().into_iter().find(|host| t.node_id(host).is_ok_and(|id| id == node));
        let mut hosts: Vec<String> = hosts.iter().filter_map(|task| host(&task.node)).collect();
        hosts.sort();
        Ok(hosts)
    };
    ensure!(on("in", "node.labels.zone in (b,c)")? == ["h2"]);
    ensure!(on("notin", "node.labels.zone not in (b, c)")? == ["h1", "h3"]);
    ensure!(on("exists", "node.labels.disks exists")? == ["h1", "h2"]);
    ensure!(on("missing", "node.labels.disks not exists")? == ["h3"]);
    ensure!(on("many", "node.labels.disks>=9.5")? == ["h2"], "10 is more than 9.5 as a number, not as a text");
    let bad = docker(&t, "h1", &["service", "create", "--detach", "--constraint", "node.ip>4", IMAGE]);
    let bad = bad.expect_err("addresses are no numbers").to_string();
    ensure!(bad.contains("uses \">\" on node.ip"), "{bad}");
    Ok(())
}
