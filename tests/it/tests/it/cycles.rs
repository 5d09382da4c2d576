//! What must not grow and what must not be lost: containers made and removed again and again, and a daemon that is killed
//! under its work (parity E-13, E-26, E-39; pains of leaks).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use it::{Api, ClusterUnderTest, DEADLINE, IMAGE, apart, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::can_make_hosts;

/// Cycles of a run of all tests; `RSWARM_CYCLES=10000` is for a night.
const CYCLES: usize = 300;
/// Cycles before the first count: caches fill, the first bridge is made.
const WARM_UP: usize = 6;
/// Descriptors that come and go with connections and files that are being written.
const LOOSE_DESCRIPTORS: i64 = 8;
/// Kills of a run of all tests; `RSWARM_KILLS=100` is for a night.
const KILLS: usize = 10;
/// The longest wait before a kill.
const KILL_WITHIN_MS: u64 = 700;
/// What each short container writes.
const LINES: usize = 40;
/// Containers that run throughout.
const LASTING: usize = 3;

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Counts by name, as the host itself has them.
fn count(t: &ClusterUnderTest) -> Result<BTreeMap<&'static str, i64>> {
    const WHAT: [(&str, &str); 9] = [
        ("processes", "pgrep -c ."),
        ("shims", "pgrep -cx rswarm-shim"),
        ("descriptors", "for p in $(pgrep -x rswarm); do ls /proc/$p/fd; done | wc -l"),
        ("mounts", "for p in $(pgrep -x rswarm); do cat /proc/$p/mountinfo; done | wc -l"),
        ("namespaces", "readlink /proc/[0-9]*/ns/* 2>/dev/null | sort -u | wc -l"),
        ("cgroups", "find /sys/fs/cgroup -type d -path '*/rswarm/*' | wc -l"),
        ("interfaces", "ip -o link | wc -l"),
        ("rules", "nft list ruleset | wc -l"),
        ("files", "find /run/rswarm /var/lib/rswarm/containers /var/lib/rswarm/volumes /var/lib/rswarm/images | wc -l"),
    ];
    let mut counts = BTreeMap::new();
    for (name, script) in WHAT {
        // pgrep says 1 when there is none
        let said = t.lab().run("h1", &["sh", "-c", &format!("{script} || true")])?;
        counts.insert(name, said.trim().parse().with_context(|| format!("count {name}: {said:?}"))?);
    }
    Ok(counts)
}

fn one_cycle(api: &Api, at: usize) -> Result<()> {
    let host = match at % 3 {
        0 => json!({}),
        1 => json!({ "PortBindings": { "80/tcp": [{ "HostPort": "0" }] }, "NetworkMode": "own" }),
        _ => json!({ "Binds": ["kept:/x"], "Tmpfs": { "/fast": "" }, "Memory": 32 << 20 }),
    };
    let body = json!({ "Image": IMAGE, "Cmd": ["sleep", "1000"], "Volumes": { "/own": {} }, "HostConfig": host });
    let made = api.post("/containers/create", &body)?;
    let id = made["Id"].as_str().context("an id")?;
    api.post(&format!("/containers/{id}/start"), &Value::Null)?;
    api.delete(&format!("/containers/{id}?force=1&v=1"))
}

/// E-26: after hundreds of containers a host is as it was.
#[test]
fn cycles_e_26_nothing_grows() -> Result<()> {
    if !can_make_hosts("cycles_e_26_nothing_grows") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("cycles", 1, 0)?;
    let api = t.first()?;
    api.post("/networks/create", &json!({ "Name": "own", "Driver": "bridge" }))?;
    for at in 0..WARM_UP {
        one_cycle(&api, at)?;
    }
    thread::sleep(Duration::from_secs(1)); // what the last one left goes
    let before = count(&t)?;
    api.post("/containers/create?name=seen", &json!({ "Image": IMAGE, "Cmd": ["sleep", "1000"] }))?;
    api.post("/containers/seen/start", &Value::Null)?;
    let meanwhile = count(&t)?;
    for name in ["processes", "shims", "mounts", "namespaces", "cgroups", "interfaces", "files"] {
        ensure!(meanwhile[name] > before[name], "one container more, and as many {name}: {meanwhile:?}");
    }
    api.delete("/containers/seen?force=1")?;
    let cycles = number("RSWARM_CYCLES", CYCLES);
    for at in 0..cycles {
        one_cycle(&api, at).with_context(|| format!("cycle {at}"))?;
    }
    let (after, _) = until("the host is as it was", DEADLINE, || {
        let after = count(&t)?;
        for (name, was) in &before {
            let loose = if *name == "descriptors" { LOOSE_DESCRIPTORS } else { 0 };
            ensure!(after[name] <= was + loose, "{name}: {was} before {cycles} cycles, {} after", after[name]);
        }
        Ok(after)
    })?;
    eprintln!("{cycles} cycles: before {before:?}, after {after:?}");
    t.no_containers()
}

/// What a short container does: its lines, then its own exit code.
fn short(at: usize) -> (String, i64, Value) {
    let code = i64::try_from(at % 100 + 1).unwrap_or(1);
    let script = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; sleep 0.02; done; exit {code}");
    (format!("short-{at}"), code, json!({ "Image": IMAGE, "Cmd": ["sh", "-c", script] }))
}

/// Makes and starts a container, whatever happens to the daemon meanwhile: asked again, each request has been done or not.
fn insist(api: &Api, name: &str, body: &Value) -> Result<()> {
    let body = serde_json::to_vec(body)?;
    let ask = |path: &str, body: &[u8], good: &[u16]| {
        until(path, DEADLINE, || match api.request("POST", path, "application/json", body) {
            Ok(answer) if good.contains(&answer.status) => Ok(()),
            Ok(answer) => bail!("{} {}", answer.status, answer.text()),
            Err(error) => Err(error), // there is no daemon now
        })
        .map(drop)
    };
    ask(&format!("/containers/create?name={name}"), &body, &[201, 409])?;
    ask(&format!("/containers/{name}/start"), b"", &[204, 304])
}

fn lines_of(api: &Api, name: &str) -> Result<Vec<String>> {
    let answer = api.request("GET", &format!("/containers/{name}/logs?stdout=1&stderr=1"), "application/json", b"")?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
    let (stdout, stderr) = apart(&answer.body)?;
    ensure!(stderr.is_empty(), "{name}: {}", String::from_utf8_lossy(&stderr));
    Ok(String::from_utf8(stdout)?.lines().map(str::to_owned).collect())
}

/// From the first on, each once.
fn are_all_there(name: &str, lines: &[String]) -> Result<()> {
    for (at, line) in lines.iter().enumerate() {
        ensure!(line == &format!("line {}", at + 1), "{name}: line {} is {line:?}", at + 1);
    }
    Ok(())
}

/// E-39: killed at any moment, a daemon loses no container, no exit code and no line of a log.
#[test]
fn cycles_e_39_killed_at_any_moment() -> Result<()> {
    if !can_make_hosts("cycles_e_39_killed_at_any_moment") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("killed", 1, 0)?;
    let api = t.first()?;
    let endless = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done";
    let mut processes = BTreeMap::new();
    for at in 0..LASTING {
        let name = format!("lasting-{at}");
        insist(&api, &name, &json!({ "Image": IMAGE, "Cmd": ["sh", "-c", endless] }))?;
        processes.insert(name.clone(), api.get(&format!("/containers/{name}/json"))?["State"]["Pid"].clone());
    }
    let is_over = AtomicBool::new(false);
    let made = thread::scope(|scope| -> Result<usize> {
        let working = scope.spawn(|| -> Result<usize> {
            let mut at = 0;
            while !is_over.load(Ordering::Relaxed) {
                let (name, _, body) = short(at);
                insist(&api, &name, &body).with_context(|| name)?;
                at += 1;
            }
            Ok(at)
        });
        let killed = kill_again_and_again(&t);
        is_over.store(true, Ordering::Relaxed);
        let made = working.join().map_err(|_| anyhow::anyhow!("the worker panicked"))?;
        killed?;
        made
    })?;
    ensure!(made > 0, "nothing was made");
    for at in 0..made {
        let (name, code, _) = short(at);
        until(&format!("{name} has ended"), DEADLINE, || {
            let state = api.get(&format!("/containers/{name}/json"))?["State"].clone();
            ensure!(state["Status"] == "exited" && state["ExitCode"] == code, "{state}");
            Ok(())
        })?;
        let lines = lines_of(&api, &name)?;
        are_all_there(&name, &lines)?;
        ensure!(lines.len() == LINES, "{name}: {} lines", lines.len());
    }
    for (name, pid) in &processes {
        let shown = api.get(&format!("/containers/{name}/json"))?;
        ensure!(&shown["State"]["Pid"] == pid && shown["RestartCount"] == 0, "{name}: {}", shown["State"]);
        are_all_there(name, &lines_of(&api, name)?)?;
    }
    let listed = api.get("/containers/json?all=1")?;
    let names: BTreeSet<&str> =
        listed.as_array().into_iter().flatten().filter_map(|one| one["Names"][0].as_str()).collect();
    ensure!(names.len() == made + LASTING, "{} containers instead of {made} and {LASTING}: {names:?}", names.len());
    for name in &names {
        api.delete(&format!("/containers{name}?force=1"))?;
    }
    eprintln!("{} kills, {made} containers", number("RSWARM_KILLS", KILLS));
    t.no_containers()?;
    let left = t.lab().run("h1", &["sh", "-c", "ls /var/lib/rswarm/containers | wc -l"])?;
    ensure!(left.trim() == "0", "{left} records left");
    Ok(())
}

fn kill_again_and_again(t: &ClusterUnderTest) -> Result<()> {
    let mut random = crate::hostile::Random(crate::hostile::seed());
    for kill in 0..number("RSWARM_KILLS", KILLS) {
        thread::sleep(Duration::from_millis(random.next() % KILL_WITHIN_MS));
        t.cluster.stop_daemon("h1", Signal::SIGKILL)?;
        t.cluster.start_daemon("h1").with_context(|| format!("after kill {kill}"))?;
    }
    Ok(())
}
