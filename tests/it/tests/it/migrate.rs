//! The data of a local volume on its way to another node, with the task that has it (P41).

use anyhow::{Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, TaskRow, until};
use lab::ExecOptions;

use crate::can_make_hosts;

/// What makes two trees different, but for what busybox cannot tell: digests do that.
const LIST: &str =
    "cd /data && find . -exec stat -c '%n %a %u %g %Y %s' {} + | sort && find . -type f -exec sha256sum {} + | sort";
const FILL: &str = "cd /data && mkdir -p deep/er && seq 1 200000 > deep/rows && ln deep/rows twin && ln -s /nowhere link && \
                    chown 1234:56 deep/rows && chmod 2750 deep && touch -d '2001-02-03 04:05:06' deep/er && chown 99:98 .";

fn inside(t: &ClusterUnderTest, command: &str) -> Result<String> {
    t.cli("h1", &["exec", "db.1", "sh", "-c", command])
}

fn only_task(t: &ClusterUnderTest) -> Result<TaskRow> {
    Ok(t.running("db", 1)?.0[0].clone())
}

/// P41: the data comes over whole and the task with it, by one stop and one start; what cannot be is refused while the task runs on;
/// a daemon that dies on the way leaves the task where it was.
#[test]
fn cluster_p41_a_volume_moves_with_its_task() -> Result<()> {
    if !can_make_hosts("cluster_p41_a_volume_moves_with_its_task") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("migrate", 1, 2)?;
    let mount = "type=volume,source=data,target=/data,volume-label=keep=yes";
    let here = ["--mount", mount, "--constraint", "node.role==worker", "--constraint", "node.hostname!=h3"];
    t.create("db", 1, &here)?;
    let before = only_task(&t)?;
    inside(&t, FILL)?;
    let listed = inside(&t, LIST)?;
    let refused = |arguments: &[&str], part: &str| {
        let text = t.cli_fails("h1", &[&["volume", "migrate"], arguments].concat())?;
        ensure!(text.contains(part), "{arguments:?}: {text}");
        Ok(())
    };
    refused(&["data", "h2", "h3"], "does not run on node h3")?;
    t.cli("h1", &["service", "update", "--detach", "--constraint-rm", "node.hostname!=h3", "db"])?;
    refused(&["nothing", "h2", "h3"], "no service has data in a volume of this name")?;
    refused(&["data", "h3", "h2"], "it is on h2 (db.1)")?;
    refused(&["data", "h2", "h2"], "name two nodes")?;
    refused(&["data", "h2", "nowhere"], "node nowhere not found")?;
    refused(&["data", "h2", "h1"], "does not satisfy node.role==worker")?;
    t.cli("h3", &["run", "-v", "data:/data", IMAGE, "touch", "/data/other"])?;
    refused(&["data", "h2", "h3"], "is in use by")?;
    t.cli("h3", &["container", "prune", "-f"])?;
    refused(&["data", "h2", "h3"], "there is data in volume data on node h3 already")?;
    ensure!(only_task(&t)?.id == before.id, "the task ran on through all refusals");

    let said = t.cli("h1", &["volume", "migrate", "--overwrite", "data", "h2", "h3"])?;
    ensure!(said.contains("Moved volume data from h2 to h3 (sha256:") && said.contains("stays on h2"), "{said}");
    let after = only_task(&t)?;
    ensure!(after.node == t.node_id("h3")? && after.slot == before.slot, "{after:?}");
    ensure!(inside(&t, LIST)? == listed, "the data differs");
    let labels = t.cli("h3", &["volume", "inspect", "--format", "{{json .Labels}}", "data"])?;
    ensure!(labels.trim() == r#"{"keep":"yes"}"#, "{labels}");
    let history = t.tasks("db")?;
    ensure!(
        history.iter().filter(|task| !task.container.is_empty()).count() == 2,
        "one stop and one start: {history:#?}"
    );

    let said = t.cli("h1", &["volume", "migrate", "--overwrite", "--remove-source", "data", "h3", "h2"])?;
    ensure!(said.contains("the old data is removed"), "{said}");
    ensure!(only_task(&t)?.node == t.node_id("h2")? && inside(&t, LIST)? == listed, "it is back, as it was");
    ensure!(!t.cli("h3", &["volume", "ls", "-q"])?.contains("data"), "the old data is still on h3");
    interrupted(&t, &listed)
}

/// The node that gets the data loses its daemon while it comes.
fn interrupted(t: &ClusterUnderTest, listed: &str) -> Result<()> {
    inside(t, "dd if=/dev/urandom of=/data/large bs=1M count=100 2>/dev/null")?;
    let options = ExecOptions::default();
    let script = "rswarm volume migrate data h2 h3 > /tmp/said 2>&1; echo $? >> /tmp/said";
    t.lab().exec("h1", &["sh", "-c", &format!("({script}) > /dev/null 2>&1 &")], &options)?;
    until("data comes", DEADLINE, || {
        let found = t.lab().exec("h3", &["ls", "/var/lib/rswarm/volumes/data/_incoming"], &ExecOptions::default())?;
        ensure!(found.stdout.contains("large"), "{}", found.stderr);
        Ok(())
    })?;
    t.cluster.stop_daemon("h3", nix::sys::signal::Signal::SIGKILL)?;
    let (said, _) = until("the command ends", DEADLINE, || {
        let said = t.lab().exec("h1", &["cat", "/tmp/said"], &ExecOptions::default())?.stdout;
        ensure!(said.ends_with("1\n"), "{said}");
        Ok(said)
    })?;
    ensure!(said.contains("volume data stays on node h2, where its tasks go on"), "{said}");
    ensure!(only_task(t)?.node == t.node_id("h2")?, "the task is where its data is");
    inside(t, "rm /data/large")?;
    let data = |text: &str| text.lines().filter(|line| !line.starts_with(". ")).map(str::to_owned).collect::<Vec<_>>();
    ensure!(data(&inside(t, LIST)?) == data(listed), "the data is as it was");
    t.cluster.start_daemon("h3")?;
    until("half of it is gone", DEADLINE, || {
        let found = t.lab().exec("h3", &["ls", "/var/lib/rswarm/volumes"], &ExecOptions::default())?.stdout;
        ensure!(!found.contains("data"), "{found}");
        Ok(())
    })?;
    Ok(())
}
