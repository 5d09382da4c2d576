//! Networks while everything changes: endpoints come and go by hundreds, hosts are cut off and come back. What
//! every host knows afterwards is what the value says; the doctor compares entry by entry, and the tests ask the
//! managers' list of tasks and the containers' resolvers besides.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, until};
use lab::ExecOptions;

use crate::{
    can_make_hosts,
    hosts::{Member, create, members},
};

/// Replaced at least, so that the test means something on a machine that is busy besides.
const LEAST_REPLACED: usize = 60;
/// The number wanted, and the time for it.
const REPLACED: usize = 200;
const CHURN: Duration = Duration::from_secs(70);

/// Numbers that look random and are the same each time (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        usize::try_from((mixed ^ (mixed >> 27)) % bound as u64).unwrap_or(0)
    }
}

/// What the doctor of a host does not like; empty when all is well.
fn complaints(t: &ClusterUnderTest, host: &str) -> Result<String> {
    let output = t.cluster.cli(host, &["network", "doctor"])?;
    ensure!(output.stderr.is_empty(), "network doctor on {host}: {}", output.stderr);
    Ok(if output.code == 0 { String::new() } else { output.stdout })
}

/// Waits until the doctors of all hosts are content; gives the time it took.
fn equal_everywhere(t: &ClusterUnderTest, what: &str) -> Result<Duration> {
    let begin = Instant::now();
    for host in t.cluster.hosts() {
        until(what, DEADLINE, || {
            let complaints = complaints(t, &host)?;
            ensure!(complaints.is_empty(), "{host}: {complaints}");
            Ok(())
        })?;
    }
    Ok(begin.elapsed())
}

/// The addresses of a service's running tasks, as the managers list them.
fn running_addresses(t: &ClusterUnderTest, service: &str) -> Result<BTreeSet<String>> {
    let tasks = t.first()?.get("/tasks")?;
    let id = t.first()?.get(&format!("/services/{service}"))?["ID"].clone();
    let running = tasks.as_array().into_iter().flatten().filter(|task| {
        task["ServiceID"] == id && task["Status"]["State"] == "running" && task["DesiredState"] == "running"
    });
    let addresses = running.flat_map(|task| task["NetworksAttachments"].as_array().cloned().unwrap_or_default());
    let addresses = addresses.flat_map(|place| place["Addresses"].as_array().cloned().unwrap_or_default());
    let text = |address: serde_json::Value| Some(address.as_str()?.split('/').next()?.to_owned());
    Ok(addresses.filter_map(text).collect())
}

/// Waits until a container's resolver names exactly the running tasks of the services.
fn resolves_what_runs(t: &ClusterUnderTest, from: &Member, services: &[&str]) -> Result<Duration> {
    let (_, took) = until("names lead to the running tasks", DEADLINE, || {
        for service in services {
            let (wanted, found) =
                (running_addresses(t, service)?, from.resolve(t, &format!("tasks.{service}")).unwrap_or_default());
            ensure!(
                !wanted.is_empty() && found == wanted,
                "tasks.{service} on {}: {found:?}, running {wanted:?}",
                from.host
            );
        }
        Ok(())
    })?;
    Ok(took)
}

fn is_ready(t: &ClusterUnderTest, id: &str) -> Result<()> {
    let node = t.first()?.get(&format!("/nodes/{id}"))?;
    ensure!(node["Status"]["State"] == "ready", "{}", node["Status"]);
    Ok(())
}

/// One change of the services, of a random kind.
fn disturb(t: &ClusterUnderTest, chance: &mut Chance) -> Result<()> {
    let service = ["web", "api", "db"][chance.below(3)];
    match chance.below(4) {
        0 => {
            let scale = format!("{service}={}", 9 + chance.below(5));
            t.cli("h1", &["service", "scale", "--detach", &scale]).map(drop)
        }
        1 | 2 => t.cli("h1", &["service", "update", "--detach", "--force", service]).map(drop),
        _ => {
            let running: Vec<_> = t.tasks(service)?.into_iter().filter(|task| task.state == "running").collect();
            for _ in 0..3.min(running.len()) {
                let chosen = &running[chance.below(running.len())];
                let pid = chosen.pid.to_string();
                for host in t.cluster.hosts() {
                    if t.node_id(&host)? == chosen.node {
                        // the container may have ended by itself meanwhile
                        let _ = t.lab().exec(&host, &["kill", "-9", &pid], &ExecOptions::default());
                    }
                }
            }
            Ok(())
        }
    }
}

/// Requests of a container to a service's virtual address, one after the other, until told to stop; for five minutes at most.
const REQUESTS: &str = "rm -f /tmp/stop; ok=0; bad=0; end=$(($(date +%s)+300)); while [ ! -e /tmp/stop ] && [ $(date +%s) -lt $end ]; do \
    if timeout 3 wget -q -O - http://web/cgi-bin/who >/dev/null 2>&1; then ok=$((ok+1)); else bad=$((bad+1)); fi; \
    done; echo $ok $bad";

/// P02, P09: two hundred endpoints are replaced at random within a minute, under traffic. Afterwards every
/// forwarding entry, virtual address and name on every host is what the value says.
#[test]
fn churn_p_02_nothing_is_stale_after_hundreds_of_changes() -> Result<()> {
    if !can_make_hosts("churn_p_02_nothing_is_stale_after_hundreds_of_changes") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("churn", 1, 2)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "red"])?;
    let quick = ["--network", "red", "--stop-grace-period", "1s", "--update-parallelism", "6", "--restart-delay", "0s"];
    for service in ["web", "api", "db"] {
        create(&t, service, "11", &quick)?;
    }
    create(&t, "client", "1", &["--network", "red", "--constraint", "node.hostname==h1"])?;
    for service in ["web", "api", "db"] {
        members(&t, service, 11)?;
    }
    let client = members(&t, "client", 1)?.remove(0);
    until("the virtual address works", DEADLINE, || client.ask(&t, "web").map(drop))?;

    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let mut chance = Chance(seed);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let begin = Instant::now();
    let counted = thread::scope(|scope| {
        let traffic = scope.spawn(|| client.run(&t, &["busybox", "sh", "-c", REQUESTS]));
        let churned = (|| {
            while begin.elapsed() < CHURN && seen.len() < REPLACED + 33 {
                disturb(&t, &mut chance)?;
                thread::sleep(Duration::from_millis(300));
                for service in ["web", "api", "db"] {
                    let tasks = t.tasks(service)?;
                    seen.extend(tasks.into_iter().filter(|task| !task.container.is_empty()).map(|task| task.id));
                }
            }
            Ok::<_, anyhow::Error>(())
        })();
        client.run(&t, &["busybox", "touch", "/tmp/stop"])?;
        let counted = traffic.join().expect("the client does not panic")?;
        churned.map(|()| counted)
    })?;
    let replaced = seen.len().saturating_sub(33);
    let mut counts = counted.split_whitespace().map(|word| word.parse::<u32>().unwrap_or(0));
    let (ok, bad) = (counts.next().unwrap_or(0), counts.next().unwrap_or(0));
    let took = begin.elapsed();
    for service in ["web", "api", "db"] {
        t.cli("h1", &["service", "scale", "--detach", &format!("{service}=11")])?;
        t.running(service, 11)?;
    }
    let equal = equal_everywhere(&t, "every host knows what the value says")?;
    resolves_what_runs(&t, &client, &["web", "api", "db"])?;
    eprintln!("{replaced} endpoints replaced in {took:?}; {ok} requests, {bad} failed; equal {equal:?} after the last");
    ensure!(replaced >= LEAST_REPLACED, "only {replaced} endpoints were replaced");
    ensure!(ok > 50 && bad * 10 < ok, "{ok} requests answered, {bad} failed");

    // a host away for half a minute, while its tasks run elsewhere
    let id = t.node_id("h3")?;
    t.lab().cut("h3")?;
    thread::sleep(Duration::from_secs(30));
    t.lab().heal("h3")?;
    let (_, back) = until("the host is ready again", DEADLINE, || is_ready(&t, &id))?;
    let equal = equal_everywhere(&t, "nothing is stale after the heal")?;
    for service in ["web", "api", "db"] {
        t.running(service, 11)?;
    }
    resolves_what_runs(&t, &client, &["web", "api", "db"])?;
    eprintln!("healed after 30 s: ready again after {back:?}, every host equal {equal:?} later");
    ensure!(equal < Duration::from_secs(15), "a busy machine has its excuses, but not {equal:?}");
    Ok(())
}

/// P02's round in small: a host is cut off and healed, five times; each time all hosts agree with the value soon
/// after, and what containers resolve on both sides is what runs.
#[test]
fn churn_p_02_five_rounds_of_cut_and_heal() -> Result<()> {
    if !can_make_hosts("churn_p_02_five_rounds_of_cut_and_heal") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("rounds", 1, 2)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "red"])?;
    for service in ["web", "api", "db"] {
        create(&t, service, "3", &["--network", "red", "--stop-grace-period", "1s"])?;
    }
    create(&t, "client", "1", &["--network", "red", "--constraint", "node.hostname==h1"])?;
    for service in ["web", "api", "db"] {
        members(&t, service, 3)?;
    }
    let client = members(&t, "client", 1)?.remove(0);
    equal_everywhere(&t, "before")?;
    let id = t.node_id("h3")?;
    let mut times = Vec::new();
    for round in 1..=5 {
        t.lab().cut("h3")?;
        // Some rounds are shorter than it takes to call a host lost, some longer.
        thread::sleep(Duration::from_millis(if round % 2 == 0 { 700 } else { 4000 }));
        t.lab().heal("h3")?;
        let (_, back) = until("the host is ready again", DEADLINE, || is_ready(&t, &id))?;
        let equal =
            equal_everywhere(&t, "every host agrees with the value").with_context(|| format!("round {round}"))?;
        for service in ["web", "api", "db"] {
            t.running(service, 3)?;
        }
        resolves_what_runs(&t, &client, &["web", "api", "db"])?;
        times.push((back, equal));
    }
    eprintln!("ready again, then equal everywhere: {times:?}");
    ensure!(times.iter().all(|(_, equal)| *equal < Duration::from_secs(15)), "{times:?}");
    Ok(())
}
