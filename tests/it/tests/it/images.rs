//! Images in a cluster: from node to node, pinned to a digest, with credentials for a registry.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, until};
use serde_json::Value;

use crate::can_make_hosts;

/// The same on every host: loopback needs no TLS.
const REGISTRY: &str = "127.0.0.1:5000";
/// bcrypt of `opensesame`.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuQbLfdQZSxZ9gjhA5V9o8Tyc6aQRO0Qi";
const PASSWORD: &str = "opensesame";
/// base64 of `me:opensesame`.
const LOGIN: &str = "bWU6b3BlbnNlc2FtZQ==";

/// P16, S-20: an image that was loaded on one host runs on all, with no registry.
#[test]
fn p16_s20_an_image_of_one_node_runs_on_all() -> Result<()> {
    if !can_make_hosts("p16_s20_an_image_of_one_node_runs_on_all") {
        return Ok(());
    }
    let t = ClusterUnderTest::without_image("peerimages", 1, 1)?;
    t.api("h2")?.post_tar("/images/load", &image::busybox_archive(IMAGE)?)?;
    let d = Docker::new(&t, "h1");
    let made = d.run(&["service", "create", "-d", "--name", "web", "--mode", "global", IMAGE, "sleep", "100000"])?;
    ensure!(made.0 == 0 && made.2.contains("could not be accessed on a registry to record"), "{made:?}");
    let (_, time) = t.running("web", 2)?;
    eprintln!("from another node, the registry's silence included: {time:?}");
    let id = |host: &str| Docker::new(&t, host).ok(&format!("image inspect {IMAGE} --format {{{{.Id}}}}"));
    ensure!(id("h1")? == id("h2")?, "another image");
    d.says("service inspect web --format {{.Spec.TaskTemplate.ContainerSpec.Image}}", IMAGE)?;

    let missing = ["service", "create", "-d", "--no-resolve-image", "--name", "no", "nowhere:1"];
    ensure!(d.run(&missing)?.0 == 0);
    until("the task says what was tried", DEADLINE, || {
        d.shows(
            "service ps no --no-trunc --format {{.Error}}",
            "from other nodes: the one that was asked does not have it",
        )
    })?;
    Ok(())
}

/// S-20, S-21, S-33, P48: pinned when it is made, pulled with the credentials that came along, from nodes once the
/// registry is gone.
#[test]
fn s20_s21_s33_services_are_pinned_and_bring_credentials() -> Result<()> {
    if !can_make_hosts("s20_s21_s33_services_are_pinned_and_bring_credentials") {
        return Ok(());
    }
    if !Path::new("/usr/bin/docker-registry").exists() {
        eprintln!("SKIPPED s20_s21_s33_services_are_pinned_and_bring_credentials: install docker-registry");
        return Ok(());
    }
    // the one place that all hosts of a lab may write and see
    let shared = tempfile::tempdir_in("/dev/shm")?;
    let t = ClusterUnderTest::up("pinned", 1, 1)?;
    let registries = ["h1", "h2"]
        .map(|host| Ok((host, start_registry(&t, host, shared.path())?)))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    std::fs::write(shared.path().join("config.json"), format!(r#"{{"auths":{{"{REGISTRY}":{{"auth":"{LOGIN}"}}}}}}"#))?;
    let docker = |line: &str| as_me(&t, shared.path(), line);
    let name = format!("{REGISTRY}/team/app:1");
    docker(&format!("tag {IMAGE} {name}"))?;
    docker(&format!("push {name}"))?;
    docker(&format!("rmi {name}"))?;

    let on_worker = "--constraint node.hostname==h2 --restart-max-attempts 1 --detach";
    let (_, warned) = docker(&format!("service create --name bare {on_worker} {name} sleep 100000"))?;
    ensure!(warned.contains("could not be accessed on a registry"), "{warned}");
    until("the worker is not let in", DEADLINE, || {
        let errors = docker("service ps bare --no-trunc --format {{.Error}}")?.0;
        ensure!(errors.contains("unauthorized: registry 127.0.0.1:5000"), "{errors}");
        Ok(())
    })?;
    docker("service rm bare")?;

    let (_, warned) =
        docker(&format!("service create --name web --with-registry-auth {on_worker} {name} sleep 100000"))?;
    ensure!(!warned.contains("could not be accessed"), "{warned}");
    t.running("web", 1)?;
    let spec = t.first()?.get("/services/web")?["Spec"]["TaskTemplate"].clone();
    let pinned = spec["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned();
    ensure!(pinned.starts_with(&format!("{name}@sha256:")), "{pinned}");
    ensure!(spec["Placement"]["Platforms"][0]["OS"] == "linux", "{spec}");
    ensure!(docker("service ls --format {{.Image}}")?.0.trim() == name, "as docker shows it");
    ensure!(docker("service ps web --format {{.Image}}")?.0.trim() == name, "as docker shows it");
    is_nowhere(&t)?;
    new_content(&t, &docker, &name, &pinned)?;
    for (host, registry) in registries {
        t.lab().signal(host, registry.process, nix::sys::signal::Signal::SIGKILL)?;
    }
    without_registry(&t, &docker)
}

/// The same tag with other content: an update brings it, through our command line and its stored credentials.
fn new_content(
    t: &ClusterUnderTest,
    docker: &impl Fn(&str) -> Result<(String, String)>,
    name: &str,
    pinned: &str,
) -> Result<()> {
    let made = docker(&format!("create --name changed {IMAGE}"))?.0;
    docker(&format!("commit -c LABEL~new=yes changed {name}"))?;
    docker(&format!("push {name}"))?;
    docker(&format!("rmi {name}"))?;
    docker(&format!("rm {}", made.trim()))?;
    t.cli("h1", &["service", "update", "--detach", "--image", name, "web"])?;
    let image = |service: &Value| service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].clone();
    let now = image(&t.first()?.get("/services/web")?);
    let now = now.as_str().unwrap_or_default();
    ensure!(now.starts_with(&format!("{name}@sha256:")) && now != pinned, "{pinned} became {now}");
    until("the new content runs", DEADLINE, || {
        let tasks = t.first()?.get("/tasks")?;
        let runs = tasks.as_array().into_iter().flatten().any(|task| {
            task["Status"]["State"] == "running" && task["Spec"]["ContainerSpec"]["Image"].as_str() == Some(now)
        });
        ensure!(runs, "{tasks}");
        Ok(())
    })?;
    // credentials alone restart nothing
    let before = t.running("web", 1)?.0.remove(0);
    docker("service update -d --with-registry-auth --no-resolve-image web")?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(t.running("web", 1)?.0.remove(0).id == before.id, "it was replaced for its credentials");
    Ok(())
}

/// With no registry left the other node has what is pinned.
fn without_registry(t: &ClusterUnderTest, docker: &impl Fn(&str) -> Result<(String, String)>) -> Result<()> {
    docker("service update -d --constraint-rm node.hostname==h2 --replicas 2 --replicas-max-per-node 1 web")?;
    let (tasks, time) = t.running("web", 2)?;
    eprintln!("pinned, from another node: {time:?}");
    ensure!(tasks[0].node != tasks[1].node, "{tasks:?}");
    Ok(())
}

/// The password and what stands for it are in no file of a daemon, and no answer has them.
fn is_nowhere(t: &ClusterUnderTest) -> Result<()> {
    for host in ["h1", "h2"] {
        let look = format!("grep -rla {PASSWORD} /var/lib/rswarm /run/rswarm 2>/dev/null || true");
        let found = t.lab().run(host, &["sh", "-c", &look])?;
        ensure!(found.trim().is_empty(), "{host} has the password in clear: {found}");
    }
    for path in ["/services", "/services/web", "/tasks", "/events?since=0&until=1"] {
        let answer = t.first()?.request("GET", path, "application/json", b"")?.text();
        ensure!(!answer.contains(PASSWORD) && !answer.contains(LOGIN), "{path}: {answer}");
    }
    Ok(())
}

/// Docker's command line on the first host, logged in at the registry; gives both outputs.
fn as_me(t: &ClusterUnderTest, config: &Path, line: &str) -> Result<(String, String)> {
    let socket = format!("unix://{}", t.lab().socket("h1")?.display());
    let words = line.split(' ').map(|word| word.replace('~', " "));
    let output = Command::new("docker").args(["-H", &socket]).args(words).env("DOCKER_CONFIG", config).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(output.status.success(), "docker {line}: {}", text(&output.stderr));
    Ok((text(&output.stdout), text(&output.stderr)))
}

/// Ends with its host.
fn start_registry(t: &ClusterUnderTest, host: &str, shared: &Path) -> Result<lab::Spawned> {
    let shared = shared.display();
    let config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {shared}/data\n\
         auth:\n  htpasswd:\n    realm: test\n    path: {shared}/htpasswd\nhttp:\n  addr: {REGISTRY}\n"
    );
    std::fs::write(format!("{shared}/htpasswd"), format!("{HTPASSWD}\n"))?;
    std::fs::write(format!("{shared}/registry.yml"), config)?;
    let serve = ["/usr/bin/docker-registry", "serve", &format!("{shared}/registry.yml")];
    let registry = t.lab().spawn(host, "registry", &serve, &[])?;
    until("the registry listens", DEADLINE, || {
        t.lab().run(host, &["sh", "-c", "grep -q :1388 /proc/net/tcp"]).map(drop).context("not yet")
    })?;
    Ok(registry)
}
