//! Clients of other people, unchanged, against our socket: docker-py, docker-compose 1.29, testcontainers for Python and
//! bollard.

mod bollard;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, IMAGE};
use lab::{ExecOptions, Stdio};

use crate::can_make_hosts;

/// A scenario takes ten seconds; ten times that is one that hangs.
const PATIENCE: Duration = Duration::from_secs(100);

/// Runs a program on the host, whose own loopback the published ports are on, with files that the host sees too.
fn on_host(t: &ClusterUnderTest, argv: &[&str], env: &[(&str, &str)]) -> Result<String> {
    with_input(t, argv, env, Vec::new())
}

fn with_input(t: &ClusterUnderTest, argv: &[&str], env: &[(&str, &str)], stdin: Vec<u8>) -> Result<String> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options = ExecOptions { env, stdin, stdio: Stdio::Capture, timeout: Some(PATIENCE) };
    let output = t.lab().exec("h1", argv, &options)?;
    ensure!(output.success(), "{}: exit code {}: {}{}", argv.join(" "), output.code, output.stdout, output.stderr);
    Ok(output.stdout)
}

fn scenario(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// Where scripts/setup puts clients in Python.
fn clients() -> Result<PathBuf> {
    let home = std::env::var("HOME").context("HOME")?;
    Ok(std::env::var("RSWARM_CLIENTS").unwrap_or(format!("{home}/.cache/rswarm/clients")).into())
}

/// Runs a scenario in Python, which comes as input: the host has a /tmp of its own, and a checkout may lie there.
fn in_python(t: &ClusterUnderTest, python: &Path, name: &str) -> Result<String> {
    let python = python.display().to_string();
    let script = std::fs::read(scenario(name)).with_context(|| format!("read {name}"))?;
    with_input(t, &[&python, "-", "/run/rswarm/rswarm.sock", IMAGE], &[], script)
}

/// E-13 to E-42, N-11: a web application and its neighbour by docker-py (PyPI's `docker`), from nothing to nothing.
#[test]
fn clients_e_13_docker_py() -> Result<()> {
    if !can_make_hosts("clients_e_13_docker_py") {
        return Ok(());
    }
    // without PyPI, the docker-py that came with docker-compose
    let own = clients()?.join("bin/python3");
    let python = if own.exists() { own } else { PathBuf::from("/usr/bin/python3") };
    let t = ClusterUnderTest::up("dockerpy", 1, 0)?;
    let said = in_python(&t, &python, "docker_py.py")?;
    ensure!(said.lines().count() == 10 && said.lines().all(|line| line.starts_with("ok: ")), "{said}");
    t.no_containers()
}

/// E-13 to E-42, N-11: containers as testcontainers for Python makes them for other people's tests.
#[test]
fn clients_e_13_testcontainers() -> Result<()> {
    const TEST: &str = "clients_e_13_testcontainers";
    if !can_make_hosts(TEST) {
        return Ok(());
    }
    let python = clients()?.join("bin/python3");
    let is_there = || std::process::Command::new(&python).args(["-c", "import testcontainers"]).output();
    if !is_there().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED {TEST}: no testcontainers in {}; scripts/setup gets it from PyPI", python.display());
        return Ok(());
    }
    let t = ClusterUnderTest::up("testcont", 1, 0)?;
    let said = in_python(&t, &python, "testcontainers_py.py")?;
    ensure!(said.lines().count() == 6 && said.lines().all(|line| line.starts_with("ok: ")), "{said}");
    t.no_containers()
}

/// E-46: docker-compose 1.29 makes, shows, scales, restarts and removes an application of two services.
#[test]
fn clients_e_46_docker_compose() -> Result<()> {
    if !can_make_hosts("clients_e_46_docker_compose") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("compose", 1, 0)?;
    let file = scenario("compose/docker-compose.yml").display().to_string();
    let socket = [("DOCKER_HOST", "unix:///run/rswarm/rswarm.sock"), ("IMAGE", IMAGE)];
    let compose =
        |words: &[&str]| on_host(&t, &[&["docker-compose", "-f", &file, "-p", "shop"][..], words].concat(), &socket);
    compose(&["up", "-d"])?;
    let shown = compose(&["ps"])?;
    ensure!(shown.contains("shop_db_1") && shown.contains("127.0.0.1:8085->80/tcp"), "{shown}");
    let page = || on_host(&t, &["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8085/"], &[]);
    let (body, _) = it::until("the page is there", it::DEADLINE, page)?;
    ensure!(body == "hello from compose\n", "{body}");
    let rows = || compose(&["exec", "-T", "web", "nc", "db", "5432"]);
    let (first, _) = it::until("the neighbour answers by name", it::DEADLINE, rows)?;
    ensure!(first.trim() == "1", "{first}");
    compose(&["restart", "-t", "1", "db"])?;
    let again = || {
        let rows = rows()?;
        ensure!(rows.trim() == "2", "{rows}");
        Ok(())
    };
    it::until("its volume outlived the restart", it::DEADLINE, again)?;
    compose(&["up", "-d", "--scale", "db=2"])?;
    ensure!(compose(&["ps", "-q", "db"])?.lines().count() == 2);
    ensure!(compose(&["top", "web"])?.contains("httpd"));
    compose(&["down", "-v", "-t", "1"])?;
    let api = t.api("h1")?;
    let volumes = api.get("/volumes")?;
    ensure!(volumes["Volumes"].as_array().is_none_or(Vec::is_empty), "{volumes}");
    t.no_containers()
}
