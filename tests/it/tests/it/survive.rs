//! Processes of rswarm that are killed under traffic: the traffic goes on.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::ExecOptions;
use nix::sys::signal::Signal;

use crate::{
    can_make_hosts,
    hosts::{Member, members},
};

/// Between two looks at the receiver's counter.
const TICK: Duration = Duration::from_millis(100);
/// Looks of one run.
const TICKS: usize = 70;
/// A plain stream never stands still for as long as one line of iperf3's report.
const PLAIN_STALL: usize = 10;
/// P15: an encrypted one goes on within 2 s by itself; twice that for a machine that builds besides.
const SEALED_STALL: usize = 40;

/// Takes streams. Its own input never ends: else `nc` would end its direction at once, and the sender with it.
const SINK: &str = "busybox mkfifo /tmp/open; exec 3<>/tmp/open; while :; do nc -l -p 5001 <&3 >/dev/null; done";

fn create(t: &ClusterUnderTest, name: &str, network: &str, host: &str, command: &str) -> Result<Member> {
    let constraint = format!("node.hostname=={host}");
    let head = ["service", "create", "--detach", "--name", name, "--network", network, "--constraint", &constraint];
    t.cli("h1", &[&head[..], &[IMAGE, "sh", "-c", command]].concat())?;
    Ok(members(t, name, 1)?.remove(0))
}

/// Bytes received by a container's place in its overlay, look by look.
fn watch(t: &ClusterUnderTest, receiver: &Member) -> Result<Vec<u64>> {
    let script = format!(
        "i=0; while [ $i -lt {TICKS} ]; do grep eth1 /proc/net/dev; usleep {}; i=$((i+1)); done",
        TICK.as_micros()
    );
    let pid = receiver.task.pid.to_string();
    let command = ["nsenter", "-t", &pid, "-n", "busybox", "sh", "-c", &script];
    let output = t.lab().exec(&receiver.host, &command, &ExecOptions::default())?;
    let bytes = |line: &str| line.split_once(':')?.1.split_whitespace().next()?.parse().ok();
    let seen: Vec<u64> = output.stdout.lines().filter_map(bytes).collect();
    ensure!(seen.len() == TICKS, "{} of {TICKS} looks: {}", seen.len(), output.stderr);
    Ok(seen)
}

/// The longest run of looks without a byte.
fn longest_stall(seen: &[u64]) -> usize {
    let mut longest = 0;
    let mut run = 0;
    for pair in seen.windows(2) {
        run = if pair[0] == pair[1] { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// Kills what is to be killed on a host while the receiver is watched; gives the longest stall in looks.
fn stall(t: &ClusterUnderTest, receiver: &Member, kill: impl Fn() -> Result<()> + Sync) -> Result<usize> {
    let seen = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(t, receiver));
        thread::sleep(Duration::from_secs(2));
        let killed = kill();
        let seen = watching.join().expect("the watch does not panic");
        killed.and(seen)
    })?;
    let bytes = seen.last().context("looked")? - seen.first().context("looked")?;
    ensure!(bytes > 1 << 20, "only {bytes} bytes came in all");
    Ok(longest_stall(&seen))
}

fn kill_netd(t: &ClusterUnderTest, host: &str) -> Result<()> {
    let pid = t.lab().run(host, &["pgrep", "-o", "-f", "rswarm netd"])?;
    t.lab().run(host, &["kill", "-9", pid.trim()])?;
    until("netd runs again", DEADLINE, || {
        let now = t.lab().run(host, &["pgrep", "-o", "-f", "rswarm netd"])?;
        ensure!(now.trim() != pid.trim());
        Ok(())
    })?;
    Ok(())
}

/// P44, P15: netd and the daemon are killed on both hosts while a stream flows between two containers. In a plain
/// network the kernel carries it and nothing stops; in an encrypted one it goes on by itself.
#[test]
fn survive_p_44_streams_outlive_netd_and_the_daemon() -> Result<()> {
    if !can_make_hosts("survive_p_44_streams_outlive_netd_and_the_daemon") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("survive", 1, 1)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "plain"])?;
    t.cli("h1", &["network", "create", "-d", "overlay", "--opt", "encrypted", "sealed"])?;
    for (network, limit) in [("plain", PLAIN_STALL), ("sealed", SEALED_STALL)] {
        let (sink, source) = (format!("sink-{network}"), format!("source-{network}"));
        let receiver = create(&t, &sink, network, "h2", SINK)?;
        let send = format!("while :; do dd if=/dev/zero bs=64k 2>/dev/null | nc tasks.{sink} 5001; sleep 0.2; done");
        create(&t, &source, network, "h1", &send)?;
        until("the stream flows", DEADLINE, || {
            let pid = receiver.task.pid.to_string();
            let count = || t.lab().run("h2", &["nsenter", "-t", &pid, "-n", "grep", "eth1", "/proc/net/dev"]);
            let before = count()?;
            thread::sleep(Duration::from_millis(300));
            ensure!(before != count()?, "nothing comes: {before}");
            Ok(())
        })?;
        let mut stalls = Vec::new();
        for host in ["h1", "h2"] {
            stalls.push((format!("netd on {host}"), stall(&t, &receiver, || kill_netd(&t, host))?));
        }
        let restart = || {
            t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
            Ok(t.cluster.start_daemon("h2").map(drop)?)
        };
        stalls.push(("daemon on h2".to_owned(), stall(&t, &receiver, restart)?));
        eprintln!("{network}: longest stall in units of {TICK:?}: {stalls:?}");
        ensure!(stalls.iter().all(|(_, stall)| *stall < limit), "{network}: {stalls:?}");
        t.cli("h1", &["service", "rm", &sink, &source])?;
    }
    Ok(())
}
