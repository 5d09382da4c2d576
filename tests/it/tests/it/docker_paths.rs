//! What looks at Docker's own places on a host: docker that is told no host, stacks that mount these places, and monitors and
//! collectors of logs, which read there as they do beside Docker.

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, TaskRow, until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Everything at Docker's places on the host, which has places of its own.
const AT_DOCKERS: &str = "find /run /var/lib -maxdepth 1 -name 'docker*' | sort | xargs";

/// E-50, E-27, E-38, E-39: all of it, on a host with a daemon. Leaves the daemon running.
pub(crate) fn lead_here(t: &ClusterUnderTest) -> Result<()> {
    if !run(t, "command -v dockerd || true")?.is_empty() {
        eprintln!("SKIPPED docker_paths: Docker is installed here, and has its places for itself");
        return Ok(());
    }
    let d = Docker::new(t, "h1");
    says(t, AT_DOCKERS, "/run/docker.pid /run/docker.sock /var/lib/docker")?;
    says(t, "DOCKER_CONFIG=/nonexistent docker version --format '{{.Server.Os}}'", "linux")?;
    d.ok("volume create kept")?;
    let mounts = "--mount type=bind,source=/var/run/docker.sock,target=/docker.sock,readonly \
                  --mount type=bind,source=/var/lib/docker/volumes,target=/volumes";
    d.ok(&format!("service create -d --name agent {mounts} {IMAGE} sh -c echo~hello;sleep~100000"))?;
    let task = t.running("agent", 1)?.0.remove(0);
    what_monitors_read(t, &d, &task)?;
    the_socket_in_the_container(t, &task)?;
    d.ok("service rm agent")?;
    while_the_daemon_runs(t)
}

fn run(t: &ClusterUnderTest, script: &str) -> Result<String> {
    Ok(t.lab().run("h1", &["sh", "-c", script])?.trim().to_owned())
}

fn says(t: &ClusterUnderTest, script: &str, wanted: &str) -> Result<()> {
    let said = run(t, script)?;
    ensure!(said == wanted, "{script}: {said:?}, not {wanted:?}");
    Ok(())
}

/// Logs as Filebeat and Promtail tail them; the layer as cAdvisor looks for it and measures it; volumes; the control group.
fn what_monitors_read(t: &ClusterUnderTest, d: &Docker<'_>, task: &TaskRow) -> Result<()> {
    let id = &task.container;
    let log = format!("containers/{id}/{id}-json.log");
    let (line, _) = until("the line is in the log", DEADLINE, || {
        let text = run(t, &format!("cat /var/lib/docker/{log}"))?;
        text.lines().next().map(str::to_owned).context("no line yet")
    })?;
    let line: Value = serde_json::from_str(&line)?;
    ensure!(line["log"] == "hello\n" && line["stream"] == "stdout" && line["time"].is_string(), "{line}");
    d.says(&format!("inspect --format {{{{.LogPath}}}} {id}"), &format!("/var/lib/rswarm/{log}"))?;
    says(t, &format!("cat /var/lib/docker/image/overlay2/layerdb/mounts/{id}/mount-id"), id)?;
    let layer = format!("/var/lib/docker/overlay2/{id}/diff");
    says(t, &format!("test ! -L {layer} && test -d {layer} && echo measured"), "measured")?;
    says(t, "ls -d /var/lib/docker/volumes/kept/_data", "/var/lib/docker/volumes/kept/_data")?;
    says(t, &format!("ls -d /proc/{}/root/volumes/kept | wc -l", task.pid), "1")?;
    let groups = run(t, &format!("cat /proc/{}/cgroup", task.pid))?;
    ensure!(groups.lines().any(|group| group.ends_with(&format!("/{id}"))), "the last part is the id: {groups}");

    // who collects logs keeps its own out by such a driver
    d.ok(&format!("run -d --name quiet --log-driver local {IMAGE} echo mine"))?;
    d.comes_to_say("logs quiet", "mine")?;
    d.says("inspect --format {{.LogPath}} quiet", "")?;
    let quiet = d.ok("inspect --format {{.Id}} quiet")?;
    says(t, &format!("ls /var/lib/docker/containers/{} | grep -c 'log$' || true", quiet.trim()), "0")?;
    d.ok("rm quiet").map(drop)
}

/// A proxy or an agent that runs on while the daemon is killed and started again asks the new one.
fn the_socket_in_the_container(t: &ClusterUnderTest, task: &TaskRow) -> Result<()> {
    let pid = task.pid;
    let ask = format!("docker -H unix:///proc/{pid}/root/docker.sock version --format '{{{{.Server.Os}}}}'");
    let ask = format!("DOCKER_CONFIG=/nonexistent {ask}");
    says(t, &ask, "linux")?;
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        t.cluster.stop_daemon("h1", signal)?;
        t.cluster.start_daemon("h1")?;
        says(t, &ask, "linux").with_context(|| format!("after {signal}"))?;
        says(t, AT_DOCKERS, "/run/docker.pid /run/docker.sock /var/lib/docker")?;
        let mounts = run(t, &format!("grep -c ' /docker.sock ro' /proc/{pid}/mountinfo || true"))?;
        ensure!(mounts == "1", "one mount, which is still read-only: {mounts}");
    }
    ensure!(t.running("agent", 1)?.0[0].pid == pid, "it ran on");
    Ok(())
}

/// No longer, and not where it is switched off.
fn while_the_daemon_runs(t: &ClusterUnderTest) -> Result<()> {
    t.cluster.stop_daemon("h1", Signal::SIGTERM)?;
    says(t, AT_DOCKERS, "")?;
    t.cluster.start_daemon_with("h1", &["--docker-paths", "false"])?;
    says(t, AT_DOCKERS, "")?;
    t.cluster.stop_daemon("h1", Signal::SIGTERM)?;
    // what a stopped Docker leaves is Docker's
    run(t, "mkdir /var/lib/docker && echo theirs > /run/docker.sock")?;
    t.cluster.start_daemon("h1")?;
    says(t, "cat /run/docker.sock; ls -d /run/docker.pid 2>/dev/null || true", "theirs")?;
    let doctor = t.cluster.cli("h1", &["doctor"])?.stdout;
    ensure!(doctor.contains("Docker's places: no links there: Docker is on this host"), "{doctor}");
    Ok(())
}
