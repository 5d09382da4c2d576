//! The docker CLI, unchanged, against our socket.

use std::process::Command;

use anyhow::{Result, bail, ensure};
use it::{ClusterUnderTest, DEADLINE, until};

use crate::can_make_hosts;

pub(crate) fn docker(t: &ClusterUnderTest, host: &str, arguments: &[&str]) -> Result<String> {
    let socket = format!("unix://{}", t.lab().socket(host)?.display());
    let output =
        Command::new("docker").args(["-H", &socket]).args(arguments).env("DOCKER_CONFIG", "/nonexistent").output()?;
    if !output.status.success() {
        bail!("docker {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// C-01, C-09, C-11, C-24, S-01, S-17: the main job again, driven by docker itself.
#[test]
fn docker_cli_drives_the_main_job() -> Result<()> {
    if !can_make_hosts("docker_cli_drives_the_main_job") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("dockercli", 1, 1)?;
    ensure!(docker(&t, "h1", &["version"])?.contains("rswarm"));
    ensure!(
        docker(&t, "h1", &["info", "--format", "{{.Swarm.LocalNodeState}} {{.Swarm.Nodes}}"])?.trim() == "active 2"
    );
    let nodes = docker(
        &t,
        "h1",
        &["node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}"],
    )?;
    ensure!(nodes.contains("h1 Ready Active Leader") && nodes.contains("h2 Ready Active"), "{nodes}");
    ensure!(docker(&t, "h1", &["swarm", "join-token", "worker"])?.contains("SWMTKN-1-"));
    ensure!(docker(&t, "h1", &["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])?.contains(it::IMAGE));

    docker(
        &t,
        "h1",
        &[
            "service",
            "create",
            "-q",
            "--name",
            "web",
            "--replicas",
            "3",
            "--no-resolve-image",
            it::IMAGE,
            "sleep",
            "10000",
        ],
    )?;
    let services = docker(&t, "h1", &["service", "ls", "--format", "{{.Name}} {{.Replicas}} {{.Mode}}"])?;
    ensure!(services.trim() == "web 3/3 replicated", "{services}");
    let ps = docker(&t, "h1", &["service", "ps", "web", "--format", "{{.Name}} {{.DesiredState}} {{.CurrentState}}"])?;
    ensure!(ps.lines().filter(|l| l.contains("Running Running")).count() == 3, "{ps}");
    docker(&t, "h1", &["service", "scale", "-d", "web=1"])?;
    t.running("web", 1)?;
    docker(&t, "h1", &["service", "update", "-d", "--no-resolve-image", "--env-add", "A=b", "web"])?;
    let env =
        docker(&t, "h1", &["service", "inspect", "web", "--format", "{{json .Spec.TaskTemplate.ContainerSpec.Env}}"])?;
    ensure!(env.trim() == "[\"A=b\"]", "{env}");
    ensure!(docker(&t, "h1", &["service", "inspect", "--pretty", "web"])?.contains("Replicated"));
    docker(&t, "h1", &["node", "update", "--availability", "drain", "h2"])?;
    ensure!(docker(&t, "h1", &["node", "inspect", "h2", "--format", "{{.Spec.Availability}}"])?.trim() == "drain");
    docker(&t, "h1", &["service", "rm", "web"])?;
    until("service gone", DEADLINE, || {
        ensure!(docker(&t, "h1", &["service", "ls", "-q"])?.is_empty());
        Ok(())
    })?;
    let refused = docker(&t, "h2", &["node", "ls"]).expect_err("a worker has no cluster API").to_string();
    ensure!(refused.contains("This node is not a swarm manager"), "{refused}");
    Ok(())
}
