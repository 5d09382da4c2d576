//! Waiting for a deploy: each end has its exit code, and the history says what became of it (P28).

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use serde_json::{Value, json};

use crate::{
    can_make_hosts,
    stacks::{Said, Stack},
};

/// A port of the host where a server has no images.
const EMPTY: &str = "127.0.0.1:1390";

const WAIT: &str = "deploy --resolve-image never --wait --wait-timeout 15s";

/// A service that is quickly told to be well or not.
fn compose(image: &str, command: &str, healthy: bool) -> String {
    let test = if healthy { "true" } else { "false" };
    format!(
        "services:
  web:
    image: {image}
    command: {command}
    stop_grace_period: 1s
    healthcheck: {{test: [CMD, \"{test}\"], interval: 200ms, timeout: 5s, retries: 2, start_period: 0s}}
    deploy:
      restart_policy: {{delay: 0s}}
      update_config: {{order: start-first, failure_action: rollback, monitor: 500ms}}
      rollback_config: {{monitor: 500ms}}
"
    )
}

fn ends(said: &Said, code: i32, part: &str) -> Result<()> {
    ensure!(said.code == code && said.err.contains(part), "{} instead of {code}: {} {}", said.code, said.err, said.out);
    Ok(())
}

/// P28: healthy 0, image missing 2, fails health 3 and back to what it was, one-shot 0, too late 4; with reasons.
#[test]
fn p28_waiting_ends_by_itself_and_its_code_says_how() -> Result<()> {
    if !can_make_hosts("p28_waiting_ends_by_itself_and_its_code_says_how") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("waits", 1, 0)?;
    let s = Stack::new(&t)?;
    s.file("good.yaml", &compose(IMAGE, "sleep 100000", true))?;
    ends(&s.own(&format!("{WAIT} -c good.yaml shop"))?, 0, "")?;
    let before = t.running("shop_web", 1)?.0;

    // what is not well goes back, and what ran goes on meanwhile
    s.file("sick.yaml", &compose(IMAGE, "sleep 200000", false))?;
    ends(
        &s.own(&format!("{WAIT} -c sick.yaml shop"))?,
        3,
        "service rolled back: rollback completed: the update was undone due to",
    )?;
    let after = t.running("shop_web", 1)?.0;
    ensure!(before == after, "the old task serves all the time: {before:?} {after:?}");
    let spec = &t.first()?.get("/services/shop_web")?["Spec"]["TaskTemplate"]["ContainerSpec"];
    ensure!(spec["Image"] == IMAGE && spec["Args"] == json!(["sleep", "100000"]), "{spec}");

    let serve = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "1390", "--directory", "/var/empty"];
    t.lab().run("h1", &["mkdir", "-p", "/var/empty"])?;
    t.lab().spawn("h1", "empty", &serve, &[])?;
    until("the empty registry listens", DEADLINE, || {
        t.lab().run("h1", &["sh", "-c", "grep -qi :056E /proc/net/tcp"]).map(drop).context("not yet")
    })?;
    s.file("lost.yaml", &compose(&format!("{EMPTY}/lost:1"), "sleep 1", true))?;
    ends(&s.own(&format!("{WAIT} -c lost.yaml shop"))?, 2, "No such image: ")?;
    ends(&s.own(&format!("{WAIT} -c lost.yaml new"))?, 2, "No such image: ")?;
    let made = ["service", "create", "--quiet", "--restart-delay", "0s", "--no-resolve-image", "--name", "lost"];
    let made = t.cluster.cli("h1", &[&made[..], &[&format!("{EMPTY}/lost:1")]].concat())?;
    ensure!(made.code == 2, "{made:?}");

    once_and_too_late(&s)?;
    history(&s)
}

fn once_and_too_late(s: &Stack<'_>) -> Result<()> {
    let once = |command: &str, policy: &str| {
        format!(
            "services:\n  once:\n    image: {IMAGE}\n    command: {command}\n    deploy: {{restart_policy: {policy}, update_config: {{monitor: 500ms}}}}\n"
        )
    };
    s.file("once.yaml", &once("\"true\"", "{condition: none}"))?;
    ends(&s.own(&format!("{WAIT} -c once.yaml once"))?, 0, "")?;
    s.file(
        "job.yaml",
        &format!("services: {{job: {{image: {IMAGE}, command: \"true\", deploy: {{mode: replicated-job}}}}}}"),
    )?;
    ends(&s.own(&format!("{WAIT} -c job.yaml job"))?, 0, "")?;
    s.file("crash.yaml", &once("\"false\"", "{condition: any, delay: 0s}"))?;
    ends(
        &s.own(&format!("{WAIT} -c crash.yaml crash"))?,
        3,
        "3 tasks failed one after the other: task: non-zero exit (1)",
    )?;
    s.file(
        "never.yaml",
        &format!("services: {{web: {{image: {IMAGE}, deploy: {{placement: {{constraints: [node.labels.x == y]}}}}}}}}"),
    )?;
    let late = format!("{} -c never.yaml never", WAIT.replace("15s", "1s"));
    ends(&s.own(&late)?, 4, "stack never has not converged in 1 seconds and goes on in the background")
}

/// What became of each revision, in the table and for programs.
fn history(s: &Stack<'_>) -> Result<()> {
    let line = |stack: &str| {
        s.ok(&format!(
            "history --no-trunc --format {{{{.Revision}}}}|{{{{.By}}}}|{{{{.Result}}}}|{{{{.Reason}}}} {stack}"
        ))
    };
    let shop = line("shop")?;
    let lines: Vec<&str> = shop.lines().collect();
    let is = |line: &str, begin: &str, part: &str| line.starts_with(begin) && line.contains(part);
    ensure!(
        lines.len() == 3
            && is(lines[0], "3 (present)|uid 0 on h1|rolled back|service shop_web: ", "No such image: ")
            && is(
                lines[1],
                "2|uid 0 on h1|rolled back|service shop_web: rollback completed: the update was undone",
                ""
            )
            && lines[2] == "1|uid 0 on h1|done|",
        "{shop}"
    );
    ensure!(
        line("never")?.starts_with(
            "1 (present)|uid 0 on h1|deploying|service never_web: 0 of 1 tasks run; last error: no suitable node"
        ),
        "{}",
        line("never")?
    );
    ensure!(line("once")? == "1 (present)|uid 0 on h1|done|" && line("job")? == line("once")?, "{}", line("once")?);
    let shown = s.ok("history shop")?;
    ensure!(shown.starts_with("REVISION") && shown.contains("RESULT"), "{shown}");
    events(s)
}

/// Stacks in the events of the cluster, for docker's client too (C-39).
fn events(s: &Stack<'_>) -> Result<()> {
    s.ok("rollback --to 1 shop")?;
    s.ok("rm shop")?;
    let line = "events --since 10m --until 0s --filter type=stack --filter stack=shop --format json";
    let said = s.say(Path::new("docker"), line)?;
    let all: Vec<Value> = said.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let told: Vec<&str> = all.iter().filter_map(|event| event["Action"].as_str()).collect();
    ensure!(told == ["create", "update", "update", "rollback", "remove"], "{}", said.out);
    let back = &all[3]["Actor"];
    ensure!(
        back["ID"] == "shop" && back["Attributes"]["backto"] == "1" && back["Attributes"]["by"] == "uid 0 on h1",
        "{back}"
    );
    Ok(())
}
