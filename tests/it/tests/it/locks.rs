//! Managers that are locked: what a restart costs them, what it leaves alone, and who opens them (parity C-14). Through
//! our command line and docker's.

use std::{io::Write as _, process};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, TaskRow, until};
use lab::ExecOptions;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::can_make_hosts;

const LOCKED: &str = "Swarm is encrypted and needs to be unlocked before it can be used";
const WRONG: &str = "swarm could not be unlocked: invalid key provided";
const NODE_FILE: &str = "/var/lib/rswarm/cluster/node.pem";
const KEY_FILES: [&str; 2] = [NODE_FILE, "/var/lib/rswarm/cluster/raft/data.key"];
const LOCK_FILE: &str = "/var/lib/rswarm/cluster/lock.key";

/// The key in what a command printed.
fn key_in(text: &str) -> Result<String> {
    let key = text.split_whitespace().find(|word| word.starts_with("SWMKEY-1-"));
    key.map(str::to_owned).with_context(|| format!("no key in {text:?}"))
}

fn is_sealed(t: &ClusterUnderTest, host: &str, file: &str) -> Result<bool> {
    Ok(t.lab().run(host, &["head", "-c", "13", file])?.starts_with("RSWARM-SEALED"))
}

/// Waits until a host's keys lie on its disk this way.
fn comes_to_be(t: &ClusterUnderTest, host: &str, files: &[&str], sealed: bool) -> Result<()> {
    until(&format!("the keys of {host} are sealed: {sealed}"), DEADLINE, || {
        for file in files {
            ensure!(is_sealed(t, host, file)? == sealed, "{file}");
        }
        Ok(())
    })?;
    Ok(())
}

fn restart(t: &ClusterUnderTest, signal: Signal) -> Result<()> {
    t.cluster.stop_daemon("h1", signal)?;
    t.cluster.start_daemon("h1")?;
    Ok(())
}

/// `rswarm swarm unlock` with a key on its input: what it complained, empty when it did not.
fn unlock(t: &ClusterUnderTest, key: &str) -> Result<String> {
    let options = ExecOptions { stdin: format!("{key}\n").into_bytes(), ..ExecOptions::default() };
    let said = t.lab().exec("h1", &["rswarm", "swarm", "unlock"], &options)?;
    ensure!(said.success() == said.stderr.is_empty(), "exit code {}: {}", said.code, said.stderr);
    Ok(said.stderr)
}

/// The same with the docker CLI.
fn docker_unlock(t: &ClusterUnderTest, key: &str) -> Result<()> {
    let socket = format!("unix://{}", t.lab().socket("h1")?.display());
    let mut docker = process::Command::new("docker")
        .args(["-H", &socket, "swarm", "unlock"])
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .stderr(process::Stdio::piped())
        .spawn()?;
    docker.stdin.take().context("a pipe")?.write_all(format!("{key}\n").as_bytes())?;
    let said = docker.wait_with_output()?;
    ensure!(said.status.success(), "docker swarm unlock: {}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

fn post_unlock(t: &ClusterUnderTest, key: &str) -> Result<u16> {
    let body = serde_json::to_vec(&json!({ "UnlockKey": key }))?;
    Ok(t.api("h1")?.request("POST", "/swarm/unlock", "application/json", &body)?.status)
}

/// Locked, and all that runs on this host is left alone.
fn is_locked(t: &ClusterUnderTest, tasks: &[&TaskRow]) -> Result<()> {
    let d = Docker::new(t, "h1");
    d.comes_to_say("info --format {{.Swarm.LocalNodeState}}/{{.Swarm.ControlAvailable}}", "locked/false")?;
    d.shows("info", "Swarm: locked")?;
    for command in ["service ls", "node ls", "swarm unlock-key", "swarm join-token worker", "secret ls"] {
        d.fails(command, LOCKED)?;
    }
    ensure!(t.cli_fails("h1", &["service", "ls"])?.contains(LOCKED));
    ensure!(t.api("h1")?.request("GET", "/services", "application/json", b"")?.status == 503);
    for task in tasks {
        t.lab().run("h1", &["kill", "-0", &task.pid.to_string()])?;
    }
    d.ok("restart -t 0 single")?;
    d.says("inspect --format {{.State.Status}} single", "running")
}

/// C-14.
#[test]
fn c_14_a_restarted_manager_waits_for_its_key() -> Result<()> {
    if !can_make_hosts("c_14_a_restarted_manager_waits_for_its_key") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("locks", 1, 1)?;
    let d = Docker::new(&t, "h1");
    t.create("web", 2, &[])?;
    let (tasks, _) = t.running("web", 2)?;
    let h1 = t.node_id("h1")?;
    let own: Vec<&TaskRow> = tasks.iter().filter(|task| task.node == h1).collect();
    ensure!(own.len() == 1, "one on each host: {tasks:?}");
    d.ok(&format!("run -d --name single {IMAGE} sleep 100000"))?;
    d.fails("swarm unlock", "swarm is not locked")?;
    ensure!(post_unlock(&t, "x")? == 409);
    d.fails("swarm unlock-key", "no unlock key is set")?;
    comes_to_be(&t, "h1", &KEY_FILES, false)?;

    // the lock reaches every manager, and leaves with the role
    let key = key_in(&d.ok("swarm update --autolock=true")?)?;
    d.says("swarm unlock-key -q", &key)?;
    ensure!(t.cli("h1", &["swarm", "unlock-key", "-q"])?.trim() == key);
    ensure!(t.cli("h1", &["swarm", "ca"])?.trim() == d.ok("swarm ca")?.trim(), "one root, whoever asks");
    comes_to_be(&t, "h1", &KEY_FILES, true)?;
    ensure!(!is_sealed(&t, "h2", NODE_FILE)?, "workers are not locked");
    d.ok("node promote h2")?;
    comes_to_be(&t, "h2", &KEY_FILES, true)?;
    until("h2 is demoted", DEADLINE, || d.shows("node demote h2", "demoted"))?;
    comes_to_be(&t, "h2", &[NODE_FILE], false)?;

    restart(&t, Signal::SIGKILL)?;
    is_locked(&t, &own)?;
    d.fails("swarm leave", "Swarm is encrypted and locked")?;
    d.fails("swarm init", "This node is already part of a swarm")?;
    let other = format!("SWMKEY-1-{}", "A".repeat(43));
    ensure!(unlock(&t, &other)?.contains(WRONG));
    ensure!((post_unlock(&t, &other)?, post_unlock(&t, "hello")?) == (401, 400));
    is_locked(&t, &own)?;
    ensure!(unlock(&t, &key)?.is_empty());
    ensure!(t.running("web", 2)?.0 == tasks, "the tasks are the same processes");

    // a new key takes the old one's place
    let before = t.lab().run("h1", &["sha256sum", LOCK_FILE])?;
    let fresh = key_in(&d.ok("swarm unlock-key --rotate")?)?;
    ensure!(fresh != key);
    until("the new key is in use", DEADLINE, || {
        ensure!(t.lab().run("h1", &["sha256sum", LOCK_FILE])? != before);
        Ok(())
    })?;
    restart(&t, Signal::SIGTERM)?;
    ensure!(post_unlock(&t, &key)? == 401);
    docker_unlock(&t, &fresh)?;
    ensure!(t.running("web", 2)?.0 == tasks);
    let log = t.lab().logs("h1")?;
    for (path, _) in &log {
        let text = std::fs::read_to_string(path)?;
        ensure!(!text.contains(&fresh) && !text.contains(&key), "a key is in {}", path.display());
    }

    t.cli("h1", &["swarm", "update", "--autolock=false"])?;
    comes_to_be(&t, "h1", &KEY_FILES, false)?;
    restart(&t, Signal::SIGKILL)?;
    d.comes_to_say("info --format {{.Swarm.LocalNodeState}}", "active")?;
    ensure!(t.running("web", 2)?.0 == tasks);

    // who has lost the key gives the membership up
    key_in(&t.cli("h1", &["swarm", "update", "--autolock"])?)?;
    comes_to_be(&t, "h1", &KEY_FILES, true)?;
    restart(&t, Signal::SIGKILL)?;
    d.ok("rm -f single")?;
    d.ok("swarm leave --force")?;
    d.says("info --format {{.Swarm.LocalNodeState}}", "inactive")?;
    let shims = t.lab().exec("h1", &["pgrep", "-x", "rswarm-shim"], &ExecOptions::default())?.stdout;
    ensure!(shims.trim().is_empty(), "tasks of the cluster that was left still run: {shims}");
    // founded anew, behind an address that leads here from elsewhere alone (C-03)
    let founded = t.cli("h1", &["init", "--autolock", "--advertise-addr", "198.51.100.7"])?;
    t.create("behind", 1, &[])?;
    t.running("behind", 1)?;
    ensure!(key_in(&founded)? == key_in(&d.ok("swarm unlock-key")?)?);
    comes_to_be(&t, "h1", &KEY_FILES, true)
}
