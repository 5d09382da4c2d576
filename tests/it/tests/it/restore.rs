//! What becomes of a cluster that lost its managers: it goes on with the one that is left, or comes back from a backup on
//! another host (parity C-08, C-42; P58).

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, until};
use lab::ExecOptions;
use nix::sys::signal::Signal;

use crate::can_make_hosts;

const BACKUP: &str = "/tmp/cluster.backup";
const KEY: &str = "/tmp/key";

/// Runs a command of a shell on a host; gives what it printed.
fn shell(t: &ClusterUnderTest, host: &str, line: &str) -> Result<String> {
    Ok(t.lab().run(host, &["sh", "-c", line])?)
}

/// Carries a file from one host to another, as an operator would.
fn carry(t: &ClusterUnderTest, from: &str, to: &str, path: &str) -> Result<()> {
    let text = shell(t, from, &format!("base64 -w0 {path}"))?;
    let options = ExecOptions { stdin: text.into_bytes(), ..ExecOptions::default() };
    let put = t.lab().exec(to, &["sh", "-c", &format!("base64 -d > {path}")], &options)?;
    ensure!(put.success(), "{}", put.stderr);
    Ok(())
}

fn states(t: &ClusterUnderTest, through: &str) -> Result<String> {
    t.cli(through, &["node", "ls"])
}

fn is_sealed(t: &ClusterUnderTest, host: &str) -> Result<()> {
    let begin = t.lab().run(host, &["head", "-c", "13", "/var/lib/rswarm/cluster/node.pem"])?;
    ensure!(begin == "RSWARM-SEALED", "{host} has its keys plain");
    Ok(())
}

/// The node of a host is there with its agent connected.
fn is_ready(t: &ClusterUnderTest, through: &str, host: &str) -> Result<()> {
    let id = t.node_id(host)?;
    until(&format!("{host} is ready for {through}"), DEADLINE, || {
        let node = t.api(through)?.get(&format!("/nodes/{id}"))?;
        ensure!(node["Status"]["State"] == "ready", "{node}");
        Ok(())
    })?;
    Ok(())
}

/// C-08: of two managers one is lost for good; docker's command line makes the other go on alone. C-42, P58: that one's
/// backup then makes a bare host the manager of the same cluster, with its secrets and tasks; the worker is told where it is.
#[test]
fn c_08_c_42_p58_a_cluster_survives_its_managers() -> Result<()> {
    if !can_make_hosts("c_08_c_42_p58_a_cluster_survives_its_managers") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_bare("restore", 2, 1, 1)?;
    let d = Docker::new(&t, "h1");
    shell(&t, "h1", "printf s3cret > /tmp/s; printf 'correct horse battery\\n' > /tmp/key")?;
    t.cli("h1", &["secret", "create", "s", "/tmp/s"])?;
    t.create("web", 1, &["--constraint", "node.hostname==h3", "--secret", "s", "--stop-grace-period", "1s"])?;
    let (tasks, _) = t.running("web", 1)?;
    let token = t.cli("h1", &["join-token", "-q", "worker"])?;
    // what lies on the disks is sealed: both ways of going on have the key
    t.cli("h1", &["swarm", "update", "--autolock"])?;
    let unlock_key = t.cli("h1", &["swarm", "unlock-key", "-q"])?;
    until("the keys of h1 are sealed", DEADLINE, || is_sealed(&t, "h1"))?;

    // h2 is gone: no majority, so no writes; a backup has what the manager that is left has
    t.lab().kill("h2")?;
    t.cli("h1", &["backup", "create", "--passphrase-file", KEY, "/tmp/without-a-leader"])?;
    let refused = Docker::new(&t, "h3").run(&["swarm", "init", "--force-new-cluster"])?.2;
    ensure!(refused.contains("this node is a worker"), "{refused}");
    let said = d.ok("swarm init --force-new-cluster")?;
    ensure!(said.contains("is now a manager"), "{said}");
    ensure!(t.cli("h1", &["join-token", "-q", "worker"])? == token, "it is the same cluster");
    is_ready(&t, "h1", "h3")?;
    t.create("after", 1, &["--constraint", "node.hostname==h3"])?;
    ensure!(t.running("web", 1)?.0 == tasks, "the worker's tasks were not touched");
    let nodes = states(&t, "h1")?;
    ensure!(nodes.matches("Leader").count() == 1 && !nodes.contains("Unreachable"), "{nodes}");
    until("the lost manager is a worker that is down", DEADLINE, || t.cli("h1", &["node", "rm", "h2"]))?;

    // a backup while the cluster works, and what the file says
    let root = t.cli("h1", &["swarm", "ca"])?;
    t.cli("h1", &["backup", "create", "--passphrase-file", KEY, BACKUP])?;
    let mode = shell(&t, "h1", &format!("stat -c %a {BACKUP}"))?;
    ensure!(mode.trim() == "600", "{mode}");
    carry(&t, "h1", "h4", BACKUP)?;
    carry(&t, "h1", "h4", KEY)?;
    let shown = t.cli("h4", &["backup", "inspect", "--passphrase-file", KEY, BACKUP])?;
    ensure!(shown.contains("Secrets:      1\n") && shown.contains("opens it"), "{shown}");
    t.cluster.start_daemon("h4")?;
    broken_backups(&t)?;

    // the last manager's host burns down
    t.lab().kill("h1")?;
    let address = t.lab().address("h4")?.to_string();
    let said =
        t.cli("h4", &["init", "--from-backup", BACKUP, "--passphrase-file", KEY, "--advertise-addr", &address])?;
    ensure!(said.contains("is now its only manager") && said.contains("rswarm swarm managers"), "{said}");
    ensure!(t.cli("h4", &["join-token", "-q", "worker"])? == token && t.cli("h4", &["swarm", "ca"])? == root);
    let wrong = t.cli_fails("h3", &["swarm", "managers", &format!("{}:2377", t.lab().address("h3")?)])?;
    ensure!(wrong.contains("no manager of this node's cluster was found"), "{wrong}");
    t.cli("h3", &["swarm", "managers", &address])?;
    is_ready(&t, "h4", "h3")?;
    let api = t.api("h4")?;
    ensure!(t.running_through(&api, "web", 1)?.0 == tasks, "the same task goes on");
    let names = t.cli("h4", &["secret", "ls"])?;
    ensure!(names.contains('s'), "{names}");
    t.cli("h4", &["service", "scale", "--detach", "after=2"])?;
    t.running_through(&api, "after", 2)?;
    // the secret itself is there too: a new task of the worker gets it
    t.cli("h4", &["service", "update", "--force", "--detach", "web"])?;
    let (fresh, _) = until("a new task", DEADLINE, || {
        let fresh = t.running_through(&api, "web", 1)?.0;
        ensure!(fresh != tasks, "the old one still");
        Ok(fresh)
    })?;
    let pid = fresh.first().context("a task")?.pid.to_string();
    ensure!(shell(&t, "h3", &format!("cat /proc/{pid}/root/run/secrets/s"))? == "s3cret");
    t.cluster.stop_daemon("h4", Signal::SIGKILL)?;
    t.cluster.start_daemon("h4")?;
    is_sealed(&t, "h4")?;
    let options = ExecOptions { stdin: unlock_key.into_bytes(), ..ExecOptions::default() };
    let unlocked = t.lab().exec("h4", &["rswarm", "swarm", "unlock"], &options)?;
    ensure!(unlocked.success(), "{}", unlocked.stderr);
    is_ready(&t, "h4", "h3")
}

/// Refused in words, and the host stays what it was.
fn broken_backups(t: &ClusterUnderTest) -> Result<()> {
    shell(t, "h4", "head -c 200 /tmp/cluster.backup > /tmp/cut; printf 'another passphrase\\n' > /tmp/other")?;
    shell(t, "h4", "(cat /tmp/cluster.backup; printf x) > /tmp/longer; echo hello > /tmp/foreign")?;
    for (file, key, why) in [
        ("cut", "key", "damaged or was cut off"),
        ("longer", "key", "damaged or was cut off"),
        ("foreign", "key", "no backup of rswarm"),
        ("cluster.backup", "other", "not the passphrase"),
    ] {
        let (file, key) = (format!("/tmp/{file}"), format!("/tmp/{key}"));
        let said = t.cli_fails("h4", &["backup", "inspect", "--passphrase-file", &key, &file])?;
        ensure!(said.contains(why), "{said}");
        let said = t.cli_fails("h4", &["init", "--from-backup", &file, "--passphrase-file", &key])?;
        ensure!(said.contains(why), "{said}");
        ensure!(t.api("h4")?.get("/info")?["Swarm"]["LocalNodeState"] == "inactive");
        shell(t, "h4", "test ! -e /var/lib/rswarm/cluster/node.pem")?;
    }
    Ok(())
}
