//! What a service may have of its host, and which of its specs it has (P13, P28, S-13).

use anyhow::{Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};

use crate::{can_make_hosts, docker_cli::docker};

/// Devices, shared memory and the host's processes, all seen from inside; ten revisions, and a rollout that is stopped
/// and goes on; one that cannot run is taken back by itself.
#[test]
fn cluster_p13_s_13_what_services_have_of_their_host_and_their_revisions() -> Result<()> {
    if !can_make_hosts("cluster_p13_s_13_what_services_have_of_their_host_and_their_revisions") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("revisions", 1, 0)?;
    let host = [
        "--device",
        "/dev/null:/dev/nothing",
        "--shm-size",
        "8m",
        "--pid",
        "host",
        "--ipc",
        "host",
        "--cpuset-cpus",
        "0",
    ];
    let look = "test -c /dev/nothing && echo device; test -d /proc/$PPID && grep -c . /proc/1/cmdline; df -k /dev/shm | tail -1; \
                grep Cpus_allowed_list /proc/self/status; sleep 1000";
    let create = ["service", "create", "--name", "has"];
    t.cli("h1", &[&create[..], &host, &[IMAGE, "sh", "-c", look]].concat())?;
    let (tasks, _) = t.running("has", 1)?;
    let logs = || docker(&t, "h1", &["service", "logs", "--raw", "has"]);
    until("it has looked", DEADLINE, || {
        let found = logs()?;
        ensure!(found.contains("device") && found.contains("Cpus_allowed_list:\t0\n"), "{found}");
        Ok(())
    })?;
    let seen = docker(&t, "h1", &["inspect", &tasks[0].container, "--format", "{{json .HostConfig}}"])?;
    for part in
        [r#""PidMode":"host""#, r#""IpcMode":"host""#, r#""CpusetCpus":"0""#, "/dev/nothing", r#""ShmSize":8388608"#]
    {
        ensure!(seen.contains(part), "{part}: {seen}");
    }
    let own = std::fs::read_link("/proc/self/ns/ipc")?;
    ensure!(std::fs::read_link(format!("/proc/{}/ns/ipc", tasks[0].pid))? == own, "the host's IPC namespace");
    let all = [
        "service",
        "create",
        "--name",
        "all",
        "--privileged",
        IMAGE,
        "sh",
        "-c",
        "grep CapEff /proc/self/status; sleep 1000",
    ];
    t.cli("h1", &all)?;
    until("it may do all", DEADLINE, || {
        let found = docker(&t, "h1", &["service", "logs", "--raw", "all"])?;
        let mask = found.trim().rsplit('\t').next().unwrap_or_default().to_owned();
        let mine = std::fs::read_to_string("/proc/self/status")?;
        let wanted = mine.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap_or_default().to_owned();
        ensure!(mask == wanted, "{mask} of {wanted}");
        Ok(())
    })?;
    let bad = t.cli_fails("h1", &[&create[..], &["--pid", "container:x", IMAGE]].concat())?;
    ensure!(bad.contains("use host or private"), "{bad}");

    // revisions, from both command lines
    t.create("web", 2, &["--env", "A=1", "--update-monitor", "1s"])?;
    for value in ["A=2", "A=3"] {
        t.cli("h1", &["service", "update", "--quiet", "--env-add", value, "web"])?;
    }
    let history = t.cli("h1", &["service", "history", "web"])?;
    ensure!(history.contains("3 (present)") && history.contains("Env: + \"A=3\""), "{history}");
    t.cli("h1", &["service", "rollback", "--quiet", "--to", "1", "web"])?;
    let env = || {
        docker(&t, "h1", &["service", "inspect", "web", "--format", "{{json .Spec.TaskTemplate.ContainerSpec.Env}}"])
    };
    ensure!(env()?.contains("A=1"), "{}", env()?);
    let gone = t.cli_fails("h1", &["service", "rollback", "--to", "1", "web"])?;
    ensure!(gone.contains("no earlier revision 1: present is 4, kept are 2, 3"), "{gone}");

    // stopped in the middle, and on
    t.cli("h1", &["service", "update", "--detach", "--env-add", "A=4", "--update-delay", "2s", "web"])?;
    t.cli("h1", &["service", "pause", "web"])?;
    let state = || {
        docker(
            &t,
            "h1",
            &["service", "inspect", "web", "--format", "{{.UpdateStatus.State}}: {{.UpdateStatus.Message}}"],
        )
    };
    ensure!(state()?.trim() == "paused: update paused by request", "{}", state()?);
    let twice = t.cli_fails("h1", &["service", "pause", "web"])?;
    ensure!(twice.contains("there is nothing to pause"), "{twice}");
    t.cli("h1", &["service", "resume", "web"])?;
    let ends = |wanted: &str| {
        until(wanted, DEADLINE, || {
            ensure!(state()?.starts_with(wanted), "{}", state()?);
            Ok(())
        })
    };
    ends("completed")?;

    // what cannot run does not stop the service for ever
    let update = ["service", "update", "--detach", "--constraint-add", "node.labels.none exists"];
    let flags = ["--update-progress-deadline", "2s", "--update-failure-action", "rollback", "web"];
    t.cli("h1", &[&update[..], &flags].concat())?;
    ends("rollback_completed: rollback completed")?;
    t.running("web", 2)?;
    Ok(())
}
