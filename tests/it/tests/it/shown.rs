//! What clients and monitors read of a daemon, as dockerd 28 answers it (parity E-17 to E-44, S-30, S-75).

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use it::{DEADLINE, IMAGE, until};
use serde_json::{Value, json};

use crate::{can_make_hosts, containers::Docker};

/// Unix time as a client writes it.
pub(crate) fn in_seconds(ahead: u64) -> Result<String> {
    Ok((SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + ahead).to_string())
}

/// Action and attributes of all that happened to a container.
fn told(d: &Docker, name: &str, since: &str) -> Result<Vec<(String, Value)>> {
    let (filter, until) = (format!("container={name}"), in_seconds(1)?);
    // what no daemon knows is passed over
    let filters = ["--filter", &filter, "--filter", "colour=red", "--format", "json"];
    let lines = d.ok(&[&["events", "--since", since, "--until", &until], &filters[..]].concat())?;
    let read = |line: &str| {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let action = event["Action"].as_str().context("an action")?.to_owned();
        Ok((action, event["Actor"]["Attributes"].clone()))
    };
    lines.lines().map(read).collect()
}

fn signals(events: &[(String, Value)]) -> Vec<&Value> {
    events.iter().filter(|(action, _)| action == "kill").map(|(_, attributes)| &attributes["signal"]).collect()
}

/// E-25, E-42: a stop whose time runs out tells of both signals, and an end of how long the run was.
#[test]
fn docker_e_42_events_of_an_end() -> Result<()> {
    if !can_make_hosts("docker_e_42_events_of_an_end") {
        return Ok(());
    }
    let d = Docker::up("shownend")?;
    let since = in_seconds(0)?;
    d.ok(&["run", "-d", "--name", "deaf", IMAGE, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])?;
    until("the trap is set", DEADLINE, || {
        ensure!(d.ok(&["logs", "deaf"])? == "ready");
        Ok(())
    })?;
    d.ok(&["stop", "-t", "2", "deaf"])?;
    d.sleeper("hears", &["--stop-signal", "KILL"])?;
    d.ok(&["stop", "-t", "20", "hears"])?;
    let events = told(&d, "deaf", &since)?;
    ensure!(signals(&events) == ["15", "9"], "{events:?}");
    let (_, death) = events.iter().find(|(action, _)| action == "die").context("it died")?;
    let seconds: u64 = death["execDuration"].as_str().context("a duration")?.parse()?;
    ensure!((2..60).contains(&seconds), "{death}");
    let events = told(&d, "hears", &since)?;
    ensure!(signals(&events) == ["9"], "{events:?}");
    Ok(())
}

/// What became of a container, without the commands in it.
fn life(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(action, _)| action.as_str()).filter(|action| !action.starts_with("exec_")).collect()
}

/// Exit codes of the commands with these words that have ended, each told of as made, as started and at its end.
fn exits(events: &[(String, Value)], words: &str) -> Result<Vec<String>> {
    let (made, started) = (format!("exec_create: {words}"), format!("exec_start: {words}"));
    let mut codes = Vec::new();
    for (_, said) in events.iter().filter(|(action, _)| *action == made) {
        let of_it: Vec<_> = events.iter().filter(|(_, other)| other["execID"] == said["execID"]).collect();
        let actions: Vec<&str> = of_it.iter().map(|(action, _)| action.as_str()).collect();
        ensure!([made.as_str(), &started, "exec_die"].starts_with(&actions), "{actions:?}");
        codes.extend(of_it.get(2).and_then(|(_, end)| Some(end["exitCode"].as_str()?.to_owned())));
    }
    Ok(codes)
}

/// E-41, E-42: each check of a container's health is told as the command that it is.
#[test]
fn docker_e_41_health_checks_are_told() -> Result<()> {
    if !can_make_hosts("docker_e_41_health_checks_are_told") {
        return Ok(());
    }
    let d = Docker::up("shownchecks")?;
    let since = in_seconds(0)?;
    for (name, check, timeout, code) in [("sick", "exit 3", "30s", "3"), ("slow", "sleep 100", "300ms", "137")] {
        let times = ["--health-interval", "200ms", "--health-timeout", timeout];
        d.sleeper(name, &[&times[..], &["--health-cmd", check]].concat())?;
        until("the checks are told", DEADLINE, || {
            let events = told(&d, name, &since)?;
            let codes = exits(&events, &format!("/bin/sh -c {check}"))?;
            ensure!(codes.len() > 2 && codes.iter().all(|told| told == code), "{codes:?}: {events:?}");
            ensure!(life(&events) == ["create", "start", "health_status: unhealthy"], "{events:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// E-28, E-41: a task's container shows how its last health checks went, as a single one does.
#[test]
fn docker_e_41_health_log_of_a_task() -> Result<()> {
    if !can_make_hosts("docker_e_41_health_log_of_a_task") {
        return Ok(());
    }
    let d = Docker::up("shownlog")?;
    let check = "echo looked; test -e /tmp/ready";
    d.t.create("web", 1, &["--health-cmd", check, "--health-interval", "200ms", "--health-retries", "1000"])?;
    let (container, _) = until("its container runs", DEADLINE, || {
        let listed = d.ok(&["ps", "-q", "--no-trunc", "--filter", "name=web.1"])?;
        ensure!(!listed.is_empty(), "none yet");
        Ok(listed)
    })?;
    let health = || Ok::<Value, anyhow::Error>(serde_json::from_str(&d.field(&container, "{{json .State.Health}}")?)?);
    until("its failures are shown, the last of them whole", DEADLINE, || {
        let health = health()?;
        let log = health["Log"].as_array().context("a log")?;
        ensure!(health["Status"] == "starting" && health["FailingStreak"].as_u64() > Some(5), "{health}");
        ensure!(log.len() == 5 && log.iter().all(|look| look["ExitCode"] == 1), "{health}");
        ensure!(log.iter().all(|look| look["Output"] == "looked\n"), "{health}");
        Ok(())
    })?;
    d.ok(&["exec", &container, "touch", "/tmp/ready"])?;
    until("it is healthy", DEADLINE, || {
        let health = health()?;
        ensure!(health["Status"] == "healthy" && health["FailingStreak"] == 0, "{health}");
        ensure!(health["Log"][4]["ExitCode"] == 0, "{health}");
        Ok(())
    })?;
    Ok(())
}

/// S-58, E-25: a task's container that stands still is not asked how it is, and lives on.
#[test]
fn docker_s_58_a_paused_task_is_not_asked() -> Result<()> {
    if !can_make_hosts("docker_s_58_a_paused_task_is_not_asked") {
        return Ok(());
    }
    let d = Docker::up("shownpaused")?;
    for name in ["still", "other"] {
        d.t.create(name, 1, &["--health-cmd", "true", "--health-interval", "100ms", "--health-retries", "1"])?;
    }
    let (still, other) = (d.t.running("still", 1)?.0[0].clone(), d.t.running("other", 1)?.0[0].clone());
    let since = in_seconds(0)?;
    d.ok(&["pause", &still.container])?;
    until("another one was asked ten times meanwhile", DEADLINE, || {
        let times = exits(&told(&d, &other.container, &since)?, "/bin/sh -c true")?.len();
        ensure!(times >= 10, "{times} times");
        Ok(())
    })?;
    let events = told(&d, &still.container, &since)?;
    let after = events.iter().map(|(action, _)| action.as_str()).skip_while(|action| *action != "pause");
    let after: Vec<&str> = after.filter(|action| *action != "exec_die").collect();
    ensure!(after == ["pause"], "{after:?}");
    d.ok(&["unpause", &still.container])?;
    let (found, _) = d.t.running("still", 1)?;
    ensure!(found[0].container == still.container, "the same container: {found:?}");
    Ok(())
}

/// E-42, S-58: a task's container tells on its host what a single one does, once, with all that says whose it is; a daemon
/// that finds it says nothing of what it was before.
#[test]
fn docker_e_42_events_of_a_tasks_container() -> Result<()> {
    if !can_make_hosts("docker_e_42_events_of_a_tasks_container") {
        return Ok(());
    }
    let d = Docker::up("showntold")?;
    let since = in_seconds(0)?;
    let health = ["--health-cmd", "test -e /tmp/ready", "--health-interval", "200ms"];
    let whole = ["service", "create", "-d", "-q", "--no-resolve-image", "--container-label", "tier=front"];
    let serve = "trap 'exit 3' TERM; touch /tmp/ready; while :; do sleep 0.1; done";
    d.ok(&[&whole[..], &health, &["--name", "web", IMAGE, "sh", "-c", serve]].concat())?;
    let row = d.t.running("web", 1)?.0[0].clone();
    let events = until("it is told to be healthy", DEADLINE, || {
        let events = told(&d, &row.container, &since)?;
        ensure!(life(&events) == ["create", "start", "health_status: healthy"], "{events:?}");
        Ok(events)
    })?
    .0;
    for (action, said) in &events {
        let name = format!("web.1.{}", row.id);
        ensure!(said["name"] == name.as_str() && said["image"] == IMAGE && said["tier"] == "front", "{action}: {said}");
        ensure!(said["com.docker.swarm.task.id"] == row.id.as_str(), "{action}: {said}");
        let ours = said.as_object().context("attributes")?.keys().find(|key| key.starts_with("rswarm."));
        ensure!(ours.is_none(), "{action}: {said}");
    }
    ensure!(exits(&events, "/bin/sh -c test -e /tmp/ready")?.contains(&"0".to_owned()), "{events:?}");
    d.no(4, "", &["exec", &row.container, "sh", "-c", "exit 4"])?;
    ensure!(exits(&told(&d, &row.container, &since)?, "sh -c exit 4")? == ["4"], "a command of a client");

    d.t.restart_with("h1", &[])?;
    let (found, _) = d.t.running("web", 1)?;
    ensure!(found[0].container == row.container, "the same container: {found:?}");
    d.ok(&["kill", "-s", "WINCH", &row.container])?;
    d.ok(&["service", "rm", "web"])?;
    let events = until("it is told to be gone", DEADLINE, || {
        let events = told(&d, &row.container, &since)?;
        ensure!(life(&events).last() == Some(&"destroy"), "{events:?}");
        Ok(events)
    })?
    .0;
    ensure!(life(&events) == ["kill", "kill", "die", "stop", "destroy"], "{events:?}");
    ensure!(signals(&events) == ["28", "15"], "{events:?}");
    let (_, death) = events.iter().find(|(action, _)| action == "die").context("it died")?;
    ensure!(death["exitCode"] == "3" && death["execDuration"].is_string(), "{death}");
    Ok(())
}

/// E-20, E-29, E-42, E-44: what monitors ask a daemon, and what is no driver of it.
#[test]
fn docker_e_42_what_monitors_ask() -> Result<()> {
    if !can_make_hosts("docker_e_42_what_monitors_ask") {
        return Ok(());
    }
    let d = Docker::up("shownmonitor")?;
    ensure!(d.ok(&["plugin", "ls", "-q"])?.is_empty());
    d.no(1, "plugins are not supported", &["plugin", "inspect", "any"])?;
    let api = d.api()?;
    let info = api.get("/info")?;
    for field in ["NFd", "NGoroutines"] {
        ensure!(info[field].as_u64() > Some(0), "{field}: {}", info[field]);
    }
    ensure!(info["SwapLimit"].is_boolean() && info["NEventsListener"].is_u64(), "{info}");
    d.sleeper("plain", &[])?;
    let runtime = d.field("plain", "{{.HostConfig.Runtime}}")?;
    ensure!(info["Runtimes"][&runtime].is_object() && info["DefaultRuntime"] == runtime.as_str(), "{info}");
    for (path, body) in [
        ("/volumes/create", json!({ "Name": "v", "Driver": "nope" })),
        ("/networks/create", json!({ "Name": "n", "Driver": "nope" })),
    ] {
        let answer = api.request("POST", path, "application/json", body.to_string().as_bytes())?;
        let text = answer.text();
        ensure!(answer.status == 404 && text.contains("plugin \\\"nope\\\" not found"), "{path}: {text}");
    }
    let bad = ["create", "--mac-address", "bad", IMAGE, "true"];
    let said = d.say(&bad)?;
    ensure!(said.code != 0 && said.err.to_lowercase().contains("mac address"), "{}", said.err);
    Ok(())
}

/// E-23, E-25, E-27: bounds that are none, lines without details, and names of images that mean another one now.
#[test]
fn docker_e_23_what_there_is_not() -> Result<()> {
    if !can_make_hosts("docker_e_23_what_there_is_not") {
        return Ok(());
    }
    let d = Docker::up("shownnot")?;
    d.ok(&["tag", IMAGE, "mine:1"])?;
    d.ok(&["run", "-d", "--name", "old", "mine:1", "sh", "-c", "echo out; sleep 10000"])?;
    until("a line", DEADLINE, || {
        // the place of the details is there
        ensure!(d.say(&["logs", "--details", "old"])?.out == " out");
        Ok(())
    })?;
    let api = d.api()?;
    let used = api.get("/containers/old/stats?stream=0&one-shot=1")?;
    let is_v1 = api.get("/info")?["CgroupVersion"] == "1";
    let limit = used["pids_stats"].get("limit");
    ensure!(if is_v1 { limit.is_none() } else { limit == Some(&json!(u64::MAX)) }, "{limit:?}");
    ensure!(used["blkio_stats"]["io_queue_recursive"].is_array() == is_v1, "{}", used["blkio_stats"]);
    for both in ["one-shot=1", "stream=bad&one-shot=1"] {
        let path = format!("/containers/old/stats?{both}");
        let both = api.request("GET", &path, "application/json", &[])?;
        let why = both.text();
        ensure!(both.status == 400 && why.contains("cannot have stream=true and one-shot=true"), "{path}: {why}");
    }
    // E-28: clients tell of their terminal without a look whether there is one
    api.post("/containers/old/resize?h=44&w=99", &Value::Null)?;
    // E-25: a command is listed from when it is made until it has ended
    let made = api.post("/containers/old/exec", &json!({ "Cmd": ["true"] }))?;
    ensure!(api.get("/containers/old/json")?["ExecIDs"] == json!([made["Id"]]), "{made}");
    api.post(&format!("/exec/{}/start", made["Id"].as_str().unwrap_or_default()), &json!({ "Detach": true }))?;
    until("nothing runs in it but itself", DEADLINE, || {
        ensure!(api.get("/containers/old/json")?["ExecIDs"].is_null());
        Ok(())
    })?;
    // E-35: nobody is found by a name on the host's bridge
    let alias =
        json!({ "Image": IMAGE, "NetworkingConfig": { "EndpointsConfig": { "bridge": { "Aliases": ["x"] } } } });
    let alias = api.request("POST", "/containers/create", "application/json", alias.to_string().as_bytes())?;
    ensure!(
        alias.status == 400 && alias.text().contains("only for containers in user defined networks"),
        "{}",
        alias.text()
    );

    let image = || d.ok(&["ps", "--no-trunc", "--filter", "name=old", "--format", "{{.Image}}"]);
    ensure!(image()? == "mine:1");
    d.ok(&["commit", "old", "mine:1"])?;
    let id = d.field("old", "{{.Image}}")?;
    ensure!(image()? == id, "the name means the new image");
    d.is("old", "{{.Config.Image}}", "mine:1")?;
    d.ok(&["tag", &id, "mine:1"])?;
    ensure!(image()? == "mine:1");
    Ok(())
}

/// E-17, E-23, E-29, E-31, E-41, E-42: names are looked for by regular expressions, what never ran is counted, containers on the host's
/// bridge are shown by their names, and a check that the image has is the container's.
#[test]
fn docker_e_23_what_scripts_ask_for() -> Result<()> {
    if !can_make_hosts("docker_e_23_what_scripts_ask_for") {
        return Ok(());
    }
    let d = Docker::up("shownscripts")?;
    for name in ["rx1", "rx12"] {
        d.ok(&["network", "create", name])?;
        d.ok(&["volume", "create", name])?;
        d.ok(&["create", "--name", name, IMAGE, "true"])?;
    }
    for (what, format) in [("network", "{{.Name}}"), ("volume", "{{.Name}}"), ("container", "{{.Names}}")] {
        let all: &[&str] = if what == "container" { &["-a"] } else { &[] };
        let found = |filter: &str| {
            let base = [what, "ls", "--format", format, "--filter", filter];
            d.ok(&[&base[..], all].concat()).map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        ensure!(found("name=^rx1$")? == ["rx1"], "{what}: {:?}", found("name=^rx1$")?);
        ensure!(found("name=rx.2")? == ["rx12"] && found("name=x1")?.len() == 2, "{what}: {:?}", found("name=rx.2")?);
    }
    let counts = d.ok(&["info", "--format", "{{.Containers}} {{.ContainersStopped}} {{.ContainersRunning}}"])?;
    ensure!(counts == "2 2 0", "{counts}");
    d.sleeper("named", &[])?;
    let names = ["network", "inspect", "bridge", "--format", "{{range .Containers}}{{.Name}} {{end}}"];
    ensure!(d.ok(&names)?.trim() == "named", "{}", d.ok(&names)?);
    // docker's command line cuts `0s` to whole seconds
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let until = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
    let only = ["--filter", "event=create", "--filter", "type=container", "--format", "{{.Type}}"];
    let created = d.ok(&[&["events", "--until", until.as_str()], &only[..]].concat())?;
    ensure!(created.lines().count() == 3, "an end alone means all before it: {created}");
    let check = "HEALTHCHECK --interval=2s --retries=3 CMD true";
    d.ok(&["commit", "--change", check, "rx1", "checked:1"])?;
    d.ok(&["run", "-d", "--name", "checked", "--health-retries", "7", "checked:1", "sleep", "10000"])?;
    let shown: serde_json::Value = serde_json::from_str(&d.field("checked", "{{json .Config.Healthcheck}}")?)?;
    ensure!(shown == json!({ "Test": ["CMD-SHELL", "true"], "Interval": 2_000_000_000, "Retries": 7 }), "{shown}");
    Ok(())
}

/// C-26, S-30, S-75: containers of tasks say whose they are and where; nodes say their machine in the kernel's words.
#[test]
fn docker_s_75_containers_of_tasks() -> Result<()> {
    if !can_make_hosts("docker_s_75_containers_of_tasks") {
        return Ok(());
    }
    let d = Docker::up("showntask")?;
    let machine = d.t.lab().run("h1", &["uname", "-m"])?.trim().to_owned();
    let node = d.ok(&["info", "--format", "{{.Swarm.NodeID}}"])?;
    let shown = d.ok(&["node", "inspect", "self", "--format", "{{.Description.Platform.Architecture}}"])?;
    ensure!(shown == machine, "{shown} instead of {machine}");
    d.ok(&["network", "create", "-d", "overlay", "--subnet", "10.88.3.0/24", "back"])?;
    let place = format!("node.platform.arch=={machine}");
    let whole = ["--network", "back", "--publish", "8188:80", "--constraint", &place];
    let more = ["--env", "ON={{.Node.Platform.Architecture}}", "--no-resolve-image", IMAGE, "sleep", "10000"];
    d.ok(&[&["service", "create", "-q", "--name", "web"], &whole[..], &more[..]].concat())?;
    let container = d.ok(&["ps", "-q", "--filter", "name=web.1"])?;
    let label = |name: &str| d.field(&container, &format!("{{{{index .Config.Labels \"{name}\"}}}}"));
    ensure!(label("com.docker.swarm.node.id")? == node);
    let labels: Value = serde_json::from_str(&d.field(&container, "{{json .Config.Labels}}")?)?;
    ensure!(labels["com.docker.swarm.task"] == "", "{labels}");
    ensure!(d.field(&container, "{{.Config.Env}}")?.contains(&format!("ON={machine}")));
    for network in ["back", "ingress"] {
        let of = format!("{{{{json (index .NetworkSettings.Networks \"{network}\")}}}}");
        let place: Value = serde_json::from_str(&d.field(&container, &of)?)?;
        ensure!(place["IPPrefixLen"].as_u64() > Some(0) && place["IPAddress"] != "", "{place}");
        ensure!(place["EndpointID"] != "" && place["MacAddress"] != "", "{place}");
        // N-22: the network tells the same of it, and who has the network
        let shown: Value = serde_json::from_str(&d.ok(&["network", "inspect", "--format", "{{json .}}", network])?)?;
        let inside = &shown["Containers"][d.field(&container, "{{.Id}}")?];
        for field in ["EndpointID", "MacAddress"] {
            ensure!(inside[field] == place[field], "{field}: {inside} and {place}");
        }
        ensure!(shown["Peers"].as_array().is_some_and(|peers| peers.len() == 1), "{shown}");
    }
    d.ok(&["service", "rm", "web"]).map(drop)
}

/// E-23, E-25, E-26, E-28: what a task's container listens on by its image is shown, as of any other; what may be done to it
/// by hand is done.
#[test]
fn docker_e_23_exposed_ports_of_tasks() -> Result<()> {
    if !can_make_hosts("docker_e_23_exposed_ports_of_tasks") {
        return Ok(());
    }
    let d = Docker::up("shownports")?;
    d.ok(&["create", "--name", "seed", IMAGE, "true"])?;
    d.ok(&[
        "commit",
        "-c",
        "EXPOSE 80",
        "-c",
        "CMD [\"sh\", \"-c\", \"echo here; exec sleep 10000\"]",
        "seed",
        "open:1",
    ])?;
    let quick = ["--restart-delay", "200ms", "--no-resolve-image", "--name", "web", "open:1"];
    d.ok(&[&["service", "create", "-d", "-q"], &quick[..]].concat())?;
    let container = d.t.running("web", 1)?.0[0].container.clone();
    let listed = d.ok(&["ps", "--filter", "expose=80", "--no-trunc", "--format", "{{.ID}} {{.Ports}}"])?;
    ensure!(listed == format!("{container} 80/tcp"), "{listed}");
    d.is(
        &container,
        "{{json .NetworkSettings.Ports}} {{json .Config.ExposedPorts}}",
        "{\"80/tcp\":null} {\"80/tcp\":{}}",
    )?;
    by_hand(&d, &container)
}

/// Renamed, bounded, removed while it runs, stopped and removed, pruned: each time another takes its place, and what they
/// wrote is still read.
fn by_hand(d: &Docker, first: &str) -> Result<()> {
    d.ok(&["rename", first, "shop"])?;
    d.is("shop", "{{.Id}} {{.Name}}", &format!("{first} /shop"))?;
    d.no(1, "is already in use by container", &["create", "--name", "shop", IMAGE, "true"])?;
    d.ok(&["update", "--memory", "64m", "--memory-swap", "128m", "shop"])?;
    d.is("shop", "{{.HostConfig.Memory}}", "67108864")?;
    d.no(1, "whose service decides", &["update", "--restart", "always", "shop"])?;
    d.no(1, "container is running: stop the container before removing or force remove", &["rm", "shop"])?;
    d.ok(&["rm", "-f", "shop"])?;
    d.no(1, "No such container: shop", &["port", "shop"])?;
    let other_than = |last: &str| {
        let found = until("another takes its place", DEADLINE, || {
            let now = d.ok(&["ps", "-q", "--no-trunc", "--filter", "is-task=true"])?;
            ensure!(!now.is_empty() && now != last, "{now:?}");
            Ok(now)
        });
        found.map(|(now, _)| now)
    };
    let second = other_than(first)?;
    let ended = d.ok(&["service", "ps", "web", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}"])?;
    ensure!(ended.contains("Failed ") && ended.contains("non-zero exit (137)"), "{ended}");
    d.ok(&["restart", "-t", "0", &second])?;
    d.ok(&["rm", &second])?;
    let third = other_than(&second)?;
    d.ok(&["stop", "-t", "0", &third])?;
    let pruned = d.ok(&["container", "prune", "-f"])?;
    ensure!(pruned.contains(&third), "{third} is not among {pruned}");
    other_than(&third)?;
    let said = d.ok(&["service", "logs", "--raw", "web"])?;
    ensure!(said.lines().filter(|line| *line == "here").count() >= 3, "{said}");
    Ok(())
}
