//! Networks and volumes that containers take and give back: told in dockerd's order, each once (parity E-42, E-29, N-21).

use anyhow::{Context as _, Result, ensure};
use it::{DEADLINE, IMAGE, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{can_make_hosts, containers::Docker, shown::in_seconds};

/// All that is told of a container, and of networks and volumes as far as it has them.
fn told(d: &Docker, id: &str, since: &str) -> Result<Vec<Value>> {
    let until = in_seconds(1)?;
    let lines =
        d.ok(&["events", "--since", since, "--until", &until, "--filter", "scope=local", "--format", "json"])?;
    let mut all = Vec::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if event["Actor"]["ID"] == id || event["Actor"]["Attributes"]["container"] == id {
            all.push(event);
        }
    }
    Ok(all)
}

/// `start` of the container itself, `connect NETWORK` and `mount VOLUME` of what it has.
fn steps(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let step = |event: &Value| {
        let action = text(&event["Action"]);
        match event["Type"].as_str() {
            Some("network") => format!("{action} {}", text(&event["Actor"]["Attributes"]["name"])),
            Some("volume") => format!("{action} {}", text(&event["Actor"]["ID"])),
            _ => action,
        }
    };
    events.iter().map(step).collect()
}

fn is_told(d: &Docker, id: &str, since: &str, wanted: &[&str]) -> Result<()> {
    let steps = steps(&told(d, id, since)?);
    ensure!(steps == wanted, "{steps:?} instead of {wanted:?}");
    Ok(())
}

/// E-42, E-29: what a run takes is told before its start, and what it gives back before its end, with dockerd's words.
#[test]
fn docker_e_42_a_run_tells_what_it_has() -> Result<()> {
    if !can_make_hosts("docker_e_42_a_run_tells_what_it_has") {
        return Ok(());
    }
    let d = Docker::up("tiesrun")?;
    let network = d.ok(&["network", "create", "back"])?;
    let since = in_seconds(0)?;
    let id = d.ok(&["create", "--rm", "-v", "data:/data:ro", "--network", "back", IMAGE, "true"])?;
    d.ok(&["start", "-a", &id])?;
    let events = until("it is gone", DEADLINE, || {
        let events = told(&d, &id, &since)?;
        ensure!(steps(&events).last().is_some_and(|last| last == "destroy"), "{events:?}");
        Ok(events)
    })?
    .0;
    let taken = ["create", "attach", "mount data", "connect back", "start"];
    let given = ["disconnect back", "unmount data", "die", "destroy"];
    ensure!(steps(&events) == [&taken[..], &given[..]].concat(), "{events:?}");
    let said = |at: usize| &events[at]["Actor"]["Attributes"];
    let mount = json!({ "driver": "local", "container": &id, "destination": "/data", "read/write": "false", "propagation": "" });
    ensure!(*said(2) == mount && *said(6) == json!({ "driver": "local", "container": &id }), "{events:?}");
    ensure!(events[3]["Actor"]["ID"] == network.as_str(), "{}", events[3]);
    let place = json!({ "container": &id, "name": "back", "type": "bridge" });
    ensure!(*said(3) == place && *said(5) == place, "{events:?}");
    d.ok(&["system", "prune", "-f"])?;
    let until = in_seconds(1)?;
    let format = "{{.Type}} {{.Actor.Attributes.reclaimed}}";
    let pruned = ["events", "--since", &since, "--until", &until, "--filter", "event=prune", "--format", format];
    let pruned = d.ok(&pruned)?;
    ensure!(
        ["container 0", "network 0", "image 0"].iter().all(|line| pruned.lines().any(|told| told == *line)),
        "{pruned}"
    );
    Ok(())
}

/// E-42, N-21: a place that a running container gets or loses is told when it does; of one that does not run, with its next
/// start. The host's network and none are told too, that of another container is not.
#[test]
fn docker_e_42_places_are_told_once() -> Result<()> {
    if !can_make_hosts("docker_e_42_places_are_told_once") {
        return Ok(());
    }
    let d = Docker::up("tiesplaces")?;
    d.ok(&["network", "create", "back"])?;
    d.ok(&["network", "create", "-d", "overlay", "--attachable", "open"])?;
    let since = in_seconds(0)?;
    let web = d.sleeper("web", &["--stop-signal", "KILL", "--network", "back"])?;
    d.ok(&["network", "connect", "bridge", "web"])?;
    d.ok(&["network", "disconnect", "bridge", "web"])?;
    d.ok(&["restart", "web"])?;
    d.ok(&["kill", "web"])?;
    d.ok(&["network", "connect", "open", "web"])?;
    d.ok(&["start", "web"])?;
    let run = ["create", "connect back", "start", "connect bridge", "disconnect bridge"];
    let restart = ["kill", "disconnect back", "die", "stop", "connect back", "start", "restart"];
    let again = ["kill", "disconnect back", "die", "connect back", "connect open", "start"];
    is_told(&d, &web, &since, &[&run[..], &restart, &again].concat())?;
    d.ok(&["kill", "web"])?;
    let events = told(&d, &web, &since)?;
    let end = ["kill", "disconnect back", "disconnect open", "die"];
    ensure!(steps(&events).ends_with(&end.map(str::to_owned)), "{events:?}");
    let open = &events[events.len() - 2]["Actor"]["Attributes"];
    ensure!(*open == json!({ "container": &web, "name": "open", "type": "overlay" }), "{open}");

    d.ok(&["start", "web"])?;
    for (mode, wanted) in [
        ("host", &["create", "connect host", "start"][..]),
        ("none", &["create", "connect none", "start"]),
        ("container:web", &["create", "start"]),
    ] {
        let id = d.ok(&["run", "-d", "--network", mode, IMAGE, "sleep", "10000"])?;
        is_told(&d, &id, &since, wanted)?;
    }
    Ok(())
}

/// E-42, S-58: a task's container tells the same, also of a network that it was connected to by hand.
#[test]
fn docker_e_42_a_task_tells_what_it_has() -> Result<()> {
    if !can_make_hosts("docker_e_42_a_task_tells_what_it_has") {
        return Ok(());
    }
    let d = Docker::up("tiestask")?;
    for name in ["back", "open"] {
        d.ok(&["network", "create", "-d", "overlay", "--attachable", name])?;
    }
    let since = in_seconds(0)?;
    let volume = "type=volume,source=data,target=/data";
    d.t.create("web", 1, &["--stop-signal", "KILL", "--network", "back", "--mount", volume])?;
    d.t.create("plain", 1, &["--stop-signal", "KILL"])?;
    d.t.create("hosted", 1, &["--stop-signal", "KILL", "--network", "host"])?;
    let container = |service: &str| Ok::<_, anyhow::Error>(d.t.running(service, 1)?.0[0].container.clone());
    let (web, plain, hosted) = (container("web")?, container("plain")?, container("hosted")?);
    is_told(&d, &plain, &since, &["create", "connect bridge", "start"])?;
    is_told(&d, &hosted, &since, &["create", "connect host", "start"])?;
    d.ok(&["network", "connect", "open", &web])?;
    let taken = ["create", "mount data", "connect back", "start", "connect open"];
    is_told(&d, &web, &since, &taken)?;

    d.ok(&["service", "rm", "web", "plain", "hosted"])?;
    let given = ["kill", "disconnect back", "disconnect open", "unmount data", "die", "stop", "destroy"];
    let (of_plain, of_hosted) = (["connect bridge", "disconnect bridge"], ["connect host", "disconnect host"]);
    until("all are gone", DEADLINE, || {
        is_told(&d, &web, &since, &[&taken[..], &given].concat())?;
        for (id, [taken, given]) in [(&plain, of_plain), (&hosted, of_hosted)] {
            is_told(&d, id, &since, &["create", taken, "start", "kill", given, "die", "stop", "destroy"])?;
        }
        Ok(())
    })?;
    Ok(())
}

/// E-39, E-42: what ended while no daemon ran is noted without a word, as by dockerd; what comes after it is told.
#[test]
fn docker_e_42_past_ends_are_no_news() -> Result<()> {
    if !can_make_hosts("docker_e_42_past_ends_are_no_news") {
        return Ok(());
    }
    let d = Docker::up("tiespast")?;
    let since = in_seconds(0)?;
    let single = d.sleeper("single", &[])?;
    let pid = d.field("single", "{{.State.Pid}}")?;
    d.t.create("web", 1, &[])?;
    let old = d.t.running("web", 1)?.0[0].clone();
    d.t.cluster.stop_daemon("h1", Signal::SIGKILL)?;
    let shell = |line: &str| d.t.lab().run("h1", &["sh", "-c", line]);
    shell(&format!("kill -9 {pid} {}", old.pid))?;
    until("both have ended", DEADLINE, || {
        let left = shell(&format!("ls -d /proc/{pid} /proc/{} 2>/dev/null; true", old.pid))?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })?;
    d.t.cluster.start_daemon("h1")?;
    d.becomes("single", "{{.State.Status}} {{.State.ExitCode}}", "exited 137")?;
    let (next, _) = until("a task in its place", DEADLINE, || {
        let row = d.t.running("web", 1)?.0[0].clone();
        ensure!(row.container != old.container, "{row:?}");
        Ok(row)
    })?;
    is_told(&d, &single, &since, &[])?;
    is_told(&d, &old.container, &since, &[])?;
    is_told(&d, &next.container, &since, &["create", "connect bridge", "start"])?;
    d.ok(&["start", "single"])?;
    is_told(&d, &single, &since, &["connect bridge", "start"])
}
