//! `rswarm stack`: Compose files deployed, changed, pruned and removed; docker sees the same stacks (parity K-01 to K-08, P11, P18).

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, rswarm_binary, until};

use crate::can_make_hosts;

const SHOP: &str = r#"
x-common: &common
  image: ${APP_IMAGE:?the image of all}
  command: sleep 100000
  stop_grace_period: 1s
services:
  web:
    <<: *common
    ports: ["${PORT:-8085}:80"]
    networks: [front, back]
    configs: [{source: site, target: /etc/site}]
    depends_on:
      db: {condition: service_healthy}
      migrate: {condition: service_completed_successfully}
    deploy: {replicas: 2, update_config: {monitor: 1s}}
  db:
    <<: *common
    command: sh -c 'sleep 2; touch /ready; exec sleep 100000'
    networks: {back: {aliases: [database]}}
    secrets: [password]
    volumes: ["data:/data"]
    healthcheck: {test: [CMD, test, -e, /ready], interval: 500ms, timeout: 5s, retries: 20, start_period: 10s}
  migrate:
    <<: *common
    command: sh -c 'test -e /run/secrets/password'
    networks: [back]
    secrets: [password]
    depends_on: {db: {condition: service_healthy}}
    deploy: {mode: replicated-job}
  cache: {<<: *common, networks: [back]}
networks: {front: {}, back: {attachable: true}}
volumes: {data: {}}
secrets: {password: {file: ./password}}
configs: {site: {content: "colour=${COLOUR}"}}
"#;

/// What a program said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

struct Stack<'a> {
    t: &'a ClusterUnderTest,
    files: tempfile::TempDir,
}

impl Stack<'_> {
    fn file(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.files.path().join(name), text)?)
    }

    fn say(&self, program: &Path, line: &str) -> Result<Said> {
        let socket = format!("unix://{}", self.t.lab().socket("h1")?.display());
        let mut command = Command::new(program);
        command.args(["-H", &socket]).args(line.split_whitespace()).env("DOCKER_CONFIG", "/nonexistent");
        let output = command.current_dir(self.files.path()).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) })
    }

    /// `rswarm stack …`
    fn own(&self, line: &str) -> Result<Said> {
        self.say(&rswarm_binary()?, &format!("stack {line}"))
    }

    fn ok(&self, line: &str) -> Result<String> {
        let said = self.own(line)?;
        ensure!(said.code == 0, "stack {line}: {}: {}", said.code, said.err);
        Ok(said.out)
    }

    fn docker(&self, line: &str) -> Result<String> {
        let said = self.say(Path::new("docker"), line)?;
        ensure!(said.code == 0, "docker {line}: {}", said.err);
        Ok(said.out)
    }
}

/// Sorted lines.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

/// K-01 to K-03, K-08, P11, P18: one stack from its first deploy to its removal.
#[test]
fn k_08_a_stack_from_deploy_to_removal() -> Result<()> {
    if !can_make_hosts("k_08_a_stack_from_deploy_to_removal") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("stacks", 1, 0)?;
    let s = Stack { t: &t, files: tempfile::tempdir()? };
    refusals(&s)?;
    s.file("compose.yaml", SHOP)?;
    s.file("password", "hunter2")?;
    s.file(".env", &format!("APP_IMAGE={IMAGE}\nCOLOUR=red\n"))?;
    ensure!(s.own("diff shop")?.out.contains("+ service shop_web"));
    let deploy = "deploy --resolve-image never --prune shop";
    let said = s.ok(deploy)?;
    in_order(
        &said,
        &[
            "network shop_back",
            "secret shop_password",
            "service shop_db",
            "shop_db to be healthy",
            "service shop_migrate",
        ],
    )?;
    in_order(&said, &["service shop_migrate", "shop_migrate to have completed", "Creating service shop_web"])?;
    t.running("shop_web", 2)?;
    ensure!(t.tasks("shop_migrate")?.iter().all(|task| task.state == "complete"), "no failed run of the migration");

    ensure!(s.docker("stack ls --format {{.Name}}={{.Services}}")? == "shop=4");
    let names = s.docker("stack services --format {{.Name}}={{.Replicas}} shop")?;
    let wanted = ["shop_cache=1/1", "shop_db=1/1", "shop_migrate=0/0 (1/1 completed)", "shop_web=2/2"];
    ensure!(sorted(&names) == wanted, "{names}");
    ensure!(s.ok("services --format {{.Name}}={{.Replicas}} shop")? == names);
    let tasks = "ps --filter desired-state=running --format {{.Name}}";
    let running = s.docker(&format!("stack {tasks} shop"))?;
    ensure!(
        running.contains("shop_web.2") && sorted(&running) == sorted(&s.ok(&format!("{tasks} shop"))?),
        "{running}"
    );
    ensure!(s.ok("ls")?.contains("shop"));
    let said = s.own("diff shop")?;
    ensure!(said.code == 0 && said.out.is_empty(), "nothing differs: {}", said.out);

    changes(&t, &s, deploy)?;
    ensure!(s.own("ps nothing")?.err.contains("nothing found in stack: nothing"));
    let said = s.ok("rm --detach=false shop")?;
    ensure!(said.contains("Removing service shop_web") && said.contains("Removing network shop_back"), "{said}");
    ensure!(
        s.docker("config ls -q")?.is_empty()
            && s.docker("secret ls -q")?.is_empty()
            && s.docker("service ls -q")?.is_empty()
    );
    ensure!(s.own("rm shop")?.err == "Nothing found in stack: shop");
    Ok(())
}

/// A changed file: `diff` says what, only what has changed is replaced, and what is left over goes.
fn changes(t: &ClusterUnderTest, s: &Stack<'_>, deploy: &str) -> Result<()> {
    let before = t.running("shop_db", 1)?.0;
    let without_cache = SHOP.replace("  cache: {<<: *common, networks: [back]}\n", "");
    s.file("compose.yaml", &without_cache.replace("replicas: 2", "replicas: 1"))?;
    s.file(".env", &format!("APP_IMAGE={IMAGE}\nCOLOUR=blue\n"))?;
    let said = s.own("diff shop")?;
    let wanted = [
        "~ config shop_site",
        "Data: another version",
        "~ service shop_web",
        "Replicas: 2 -> 1",
        "- service shop_cache",
    ];
    ensure!(said.code == 1 && wanted.iter().all(|part| said.out.contains(part)), "{}", said.out);
    let out = s.ok(deploy)?;
    ensure!(out.contains("Removing service shop_cache") && out.contains("Updating service shop_web"), "{out}");
    holds(t, "colour=blue")?;
    ensure!(t.running("shop_db", 1)?.0[0].id == before[0].id, "what has not changed runs on");
    s.ok("rollback shop")?;
    until("rolled back", DEADLINE, || {
        ensure!(s.docker("service inspect --format {{.Spec.Mode.Replicated.Replicas}} shop_web")? == "2");
        Ok(())
    })?;
    Ok(())
}

fn holds(t: &ClusterUnderTest, wanted: &str) -> Result<()> {
    until(&format!("the task has {wanted:?}"), DEADLINE, || {
        let task = t.running("shop_web", 1)?.0.remove(0);
        let found = t.lab().run("h1", &["cat", &format!("/proc/{}/root/etc/site", task.pid)])?;
        ensure!(found.trim() == wanted, "{found:?}");
        Ok(())
    })
    .map(drop)
}

/// K-08: a file that is wrong in several places is refused as a whole, and nothing is made.
fn refusals(s: &Stack<'_>) -> Result<()> {
    s.file(
        "bad.yaml",
        "services:\n  a: {image: x, depends_on: [b], networks: [gone], comand: y}\n  b: {image: x, depends_on: [a]}\nnetworks: {gone: {external: true}}\n",
    )?;
    let said = s.own("deploy -c bad.yaml bad")?;
    let wanted = [
        "bad.yaml:2:52: service a: comand: unknown key; do you mean \"command\"?",
        "depends_on runs in a circle: a -> b -> a",
    ];
    ensure!(said.code == 1 && wanted.iter().all(|part| said.err.contains(part)), "{}", said.err);
    s.file("away.yaml", "services:\n  a: {image: x, secrets: [s]}\nsecrets: {s: {external: true}}\n")?;
    let said = s.own("deploy -c away.yaml bad")?;
    ensure!(
        said.code == 1 && said.err.contains("away.yaml:3:14: secret \"s\" is declared as external"),
        "{}",
        said.err
    );
    ensure!(s.own("diff -c away.yaml bad")?.code == 2);
    ensure!(
        s.docker("service ls -q")?.is_empty()
            && s.docker("network ls --filter driver=overlay --format {{.Name}}")? == "ingress"
    );
    Ok(())
}

fn in_order(text: &str, parts: &[&str]) -> Result<()> {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).with_context(|| format!("{part:?} is not there, or too early: {text}"))?;
        rest = &rest[at + part.len()..];
    }
    Ok(())
}
