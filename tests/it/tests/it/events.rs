//! Events of the cluster on any manager: complete, in order, resumable (C-36, C-39, P39).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    process::{Child, Command},
};

use anyhow::{Context as _, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, until};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::can_make_hosts;

/// The docker CLI that watches in the background.
struct Watching {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Watching {
    fn begin(t: &ClusterUnderTest, host: &str) -> Result<Self> {
        let socket = format!("unix://{}", t.lab().socket(host)?.display());
        let file = tempfile::NamedTempFile::new()?;
        let out: File = file.reopen()?;
        let mut command = Command::new("docker");
        command.args(["-H", &socket, "events", "--filter", "scope=swarm", "--format", "json"]).stdout(out);
        Ok(Self { child: command.env("DOCKER_CONFIG", "/nonexistent").spawn().context("docker events")?, file })
    }

    fn events(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.file.path())?;
        // the last line may not be there whole
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    fn wait_for(&self, what: &str, wanted: &[(&str, &str)]) -> Result<Value> {
        let found = until(what, DEADLINE, || {
            let events = self.events()?;
            let fits = |event: &Value| wanted.iter().all(|(key, value)| said(event, key) == *value);
            events
                .iter()
                .find(|event| fits(event))
                .cloned()
                .with_context(|| format!("not among {} events", events.len()))
        });
        found.map(|(event, _)| event)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field of an event, or one of its attributes.
fn said<'a>(event: &'a Value, key: &str) -> &'a str {
    let own = match key {
        "Type" | "Action" | "scope" => &event[key],
        key => &event["Actor"]["Attributes"][key],
    };
    own.as_str().unwrap_or_default()
}

fn index(event: &Value) -> u64 {
    said(event, "index").parse().unwrap_or(0)
}

/// Each task is created once and goes from state to state without a gap; the last state of each.
fn check_tasks(events: &[Value]) -> Result<BTreeMap<String, String>> {
    let mut states = BTreeMap::<String, String>::new();
    for event in events.iter().filter(|event| said(event, "Type") == "task") {
        let id = event["Actor"]["ID"].as_str().unwrap_or_default().to_owned();
        let (old, new) = (said(event, "state.old"), said(event, "state.new"));
        if said(event, "Action") == "create" {
            ensure!(states.insert(id, said(event, "state").to_owned()).is_none(), "created twice: {event}");
        } else if !new.is_empty() {
            let before = states.insert(id, new.to_owned());
            ensure!(before.as_deref() == Some(old), "{event} after {before:?}");
        }
    }
    Ok(states)
}

/// 100 tasks, watched on a follower: each transition once and in order. Then a client goes on from an index on another
/// manager, and the leader is lost.
#[test]
fn p39_c_39_every_transition_of_100_tasks_on_a_follower_and_going_on_from_an_index() {
    if !can_make_hosts("p39_c_39_every_transition_of_100_tasks_on_a_follower_and_going_on_from_an_index") {
        return;
    }
    let t = ClusterUnderTest::up("events", 3, 0).unwrap();
    let managers = t.cluster.managers();
    let leader = t.leader(&managers[0]).unwrap();
    let follower = managers.iter().find(|host| **host != leader).unwrap();
    let other = managers.iter().find(|host| **host != leader && *host != follower).unwrap();
    let docker = Docker::new(&t, &leader);
    let watching = Watching::begin(&t, follower).unwrap();
    // the stream has begun once it shows something
    until("the stream has begun", DEADLINE, || {
        docker.ok(&format!("node update --label-add seen=yes {leader}"))?;
        ensure!(!watching.events()?.is_empty(), "nothing yet");
        docker.ok(&format!("node update --label-rm seen {leader}")).map(drop)
    })
    .unwrap();

    docker.ok("network create --driver overlay n1").unwrap();
    t.cli(&leader, &["config", "create", "c1", "/etc/hostname"]).unwrap();
    t.cli(&leader, &["secret", "create", "s1", "/etc/hostname"]).unwrap();
    t.create("web", 100, &["--label", "tier=front"]).unwrap();
    t.running("web", 100).unwrap();
    docker.ok("service scale --detach web=90").unwrap();
    docker.ok("secret rm s1").unwrap();
    let other_id = t.node_id(other).unwrap();
    docker.ok(&format!("node update --availability pause {other_id}")).unwrap();

    let kinds = [("network", "n1"), ("config", "c1"), ("secret", "s1"), ("service", "web")];
    for (kind, name) in kinds {
        watching.wait_for(kind, &[("Type", kind), ("Action", "create"), ("name", name), ("scope", "swarm")]).unwrap();
    }
    let scaled = [("Type", "service"), ("Action", "update"), ("replicas.old", "100"), ("replicas.new", "90")];
    let scaled = watching.wait_for("the new number of replicas", &scaled).unwrap();
    assert_eq!(said(&scaled, "tier"), "front", "labels are attributes");
    watching.wait_for("the secret's removal", &[("Type", "secret"), ("Action", "remove"), ("name", "s1")]).unwrap();
    let paused = [("Type", "node"), ("availability.old", "active"), ("availability.new", "pause")];
    watching.wait_for("availability", &paused).unwrap();

    let (live, _) = until("90 of 100 tasks run on", DEADLINE, || {
        let events = watching.events()?;
        let states = check_tasks(&events)?;
        let running = states.values().filter(|state| *state == "running").count();
        ensure!(states.len() == 100 && running == 90, "{running} of {} run", states.len());
        Ok(events)
    })
    .unwrap();
    // who leads and who is reachable is no step of the value
    let steps: Vec<u64> = live.iter().map(index).filter(|at| *at > 0).collect();
    assert!(steps.is_sorted(), "in the order of the steps");

    // another manager, from the middle
    let from = steps[steps.len() / 2];
    let api = t.api(other).unwrap();
    let path =
        |from: u64| format!("/events?fromIndex={from}&until=0s&filters=%7B%22type%22%3A%7B%22task%22%3Atrue%7D%7D");
    let wanted = live.iter().filter(|event| said(event, "Type") == "task" && index(event) > from);
    let short = |event: &Value| (index(event), event["Actor"]["ID"].clone(), said(event, "state.new").to_owned());
    let wanted: Vec<_> = wanted.map(short).collect();
    let (rest, _) = until("the other manager has as much", DEADLINE, || {
        let answer = api.request("GET", &path(from), "application/json", b"")?;
        ensure!(answer.status == 200, "{}", answer.text());
        let rest: Vec<Value> = answer.text().lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        ensure!(rest.len() >= wanted.len(), "{} of {}", rest.len(), wanted.len());
        Ok(rest)
    })
    .unwrap();
    assert_eq!(rest.iter().map(short).take(wanted.len()).collect::<Vec<_>>(), wanted, "what came after the index");
    let from = from.to_string();
    let own = ["events", "--from-index", &from, "--until", "0s", "--filter", "task=web.1", "--format", "{{.Type}}"];
    assert!(t.cli(other, &own).unwrap().lines().all(|line| line == "task"));
    let far = api.request("GET", "/events?fromIndex=x", "application/json", b"").unwrap();
    assert_eq!((far.status, far.text().contains("a number")), (400, true), "{}", far.text());

    t.cluster.stop_daemon(&leader, Signal::SIGKILL).unwrap();
    let next = watching.wait_for("the next leader", &[("Type", "node"), ("leader.new", "true")]).unwrap();
    assert_ne!(said(&next, "name"), leader);
    watching
        .wait_for("the lost manager", &[("Type", "node"), ("name", &leader), ("state.new", "disconnected")])
        .unwrap();
    t.cli(follower, &["service", "rm", "web"]).unwrap();
    watching.wait_for("the stream goes on", &[("Type", "service"), ("Action", "remove"), ("name", "web")]).unwrap();
    check_tasks(&watching.events().unwrap()).unwrap();
}

/// P35: clients that go without a word leave nothing open, however many they are; all the while nothing happens that would
/// be written to them.
#[test]
fn p35_streams_that_clients_leave_are_closed() -> Result<()> {
    if !can_make_hosts("p35_streams_that_clients_leave_are_closed") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("leftstreams", 1, 0)?;
    let pid = t.cluster.daemon("h1")?.context("the daemon runs")?.pid;
    let open = || Ok::<_, anyhow::Error>(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count());
    let before = open()?;
    let socket = t.lab().socket("h1")?;
    for _ in 0..1_500 {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"GET /v1.45/events HTTP/1.1\r\nHost: d\r\n\r\n")?;
        ensure!(stream.read(&mut [0; 64])? > 0, "the head of the answer");
    }
    until("the daemon has closed them", DEADLINE, || {
        let now = open()?;
        ensure!(now < before + 50, "{before} descriptors before, {now} now");
        Ok(())
    })?;
    Ok(())
}
