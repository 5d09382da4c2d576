//! `rswarm stack`: Compose files deployed, changed, pruned and removed; docker sees the same stacks (parity K-01 to K-08, P11, P18).

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, rswarm_binary, until};
use lab::StateDir;

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
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Compose files, and programs that speak to the first host.
pub(crate) struct Stack<'a> {
    t: &'a ClusterUnderTest,
    files: tempfile::TempDir,
}

impl<'a> Stack<'a> {
    pub(crate) fn new(t: &'a ClusterUnderTest) -> Result<Self> {
        Ok(Self { t, files: tempfile::tempdir()? })
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.files.path().join(name), text)?)
    }

    pub(crate) fn say(&self, program: &Path, line: &str) -> Result<Said> {
        let socket = format!("unix://{}", self.t.lab().socket("h1")?.display());
        let mut command = Command::new(program);
        command.args(["-H", &socket]).args(line.split_whitespace()).env("DOCKER_CONFIG", "/nonexistent");
        let output = command.current_dir(self.files.path()).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) })
    }

    /// `rswarm stack …`
    pub(crate) fn own(&self, line: &str) -> Result<Said> {
        self.say(&rswarm_binary()?, &format!("stack {line}"))
    }

    pub(crate) fn ok(&self, line: &str) -> Result<String> {
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
    let s = Stack::new(&t)?;
    refusals(&s)?;
    s.file("compose.yaml", SHOP)?;
    s.file("password", "hunter2")?;
    s.file(".env", &format!("APP_IMAGE={IMAGE}\nCOLOUR=red\n"))?;
    ensure!(s.own("diff shop")?.out.contains("+ service shop_web"));
    let deploy = "deploy --resolve-image never --prune shop";
    let said = s.ok(deploy)?;
    in_order(&said, &["network shop_back", "secret shop_password", "service shop_db", "Creating service shop_web"])?;
    until("web says what it waits for", DEADLINE, || {
        let all = t.tasks("shop_web")?;
        ensure!(
            all.len() == 2 && all.iter().all(|task| task.error == "waits for service shop_db to be healthy"),
            "{all:?}"
        );
        Ok(())
    })?;
    t.running("shop_web", 2)?;
    ensure!(t.tasks("shop_migrate")?.iter().all(|task| task.state == "complete"), "no failed run of the migration");

    ensure!(s.docker("stack ls --format {{.Name}}={{.Services}}")? == "shop=4");
    let names = s.docker("stack services --format {{.Name}}={{.Replicas}} shop")?;
    let wanted = ["shop_cache=1/1", "shop_db=1/1", "shop_migrate=0/1 (1/1 completed)", "shop_web=2/2"];
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
    power_cut(&t)?;
    ensure!(s.own("ps nothing")?.err.contains("nothing found in stack: nothing"));
    let said = s.ok("rm shop")?;
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
    ensure!(s.ok(deploy)?.contains("nothing to do (revision 2)"));
    let said = s.ok("rollback shop")?;
    ensure!(said.contains("Updating service shop_web") && said.contains("Creating service shop_cache"), "{said}");
    holds(t, "colour=red")?;
    ensure!(s.docker("service inspect --format {{.Spec.Mode.Replicated.Replicas}} shop_web")? == "2");
    t.running("shop_cache", 1)?;
    ensure!(t.running("shop_db", 1)?.0[0].id == before[0].id, "a service that is the same runs on");
    let history = s.ok("history --no-trunc shop")?;
    in_order(&history, &["3 (present)", "back to 1: + service shop_cache", "config shop_site has other data", "\n2 "])?;
    ensure!(s.ok("inspect --format {{.Revision}} shop")? == "3");
    Ok(())
}

/// K-08: the order holds too when the whole cluster comes back from a power cut.
fn power_cut(t: &ClusterUnderTest) -> Result<()> {
    t.running("shop_web", 2)?;
    t.lab().kill("h1")?;
    t.lab().start("h1", StateDir::Keep)?;
    t.cluster.start_daemon("h1")?;
    let began = |service: &str, count: usize| -> Result<String> {
        let all = t.running(service, count)?.0;
        let task = t.first()?.get(&format!("/tasks/{}", all[0].id))?;
        // seconds: the database takes two of them to be ready
        Ok(task["Status"]["Timestamp"].as_str().unwrap_or_default().chars().take(19).collect())
    };
    // what the value says before the node has spoken is of before
    until("the node leaves what is ordered to the managers", DEADLINE, || {
        for service in ["shop_db", "shop_web"] {
            let is_left =
                |task: &it::TaskRow| task.state == "shutdown" && task.message.contains("its host was restarted");
            ensure!(t.tasks(service)?.iter().any(is_left), "{service} goes on as it was");
        }
        Ok(())
    })?;
    let (web, database) = (began("shop_web", 2)?, began("shop_db", 1)?);
    ensure!(web >= database, "web ran at {web}, before the database was healthy at {database}");
    ensure!(
        t.tasks("shop_migrate")?.iter().any(|task| task.state == "complete"),
        "what has completed is not done again"
    );
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

const PAIR: &str = r#"
services:
  a: {image: "app:1", command: sleep 100000, stop_signal: SIGKILL, networks: [one], depends_on: [b]}
  b: {image: "app:1", command: sleep 100000, stop_signal: SIGKILL, networks: [one, two]}
  c: {image: "app:1", command: sleep 100000, stop_signal: SIGKILL, networks: [two]}
networks: {one: {}, two: {}}
"#;

/// P33: a stack is removed and deployed again at once, ten times, and nothing is left in the end.
#[test]
fn p33_ten_rounds_of_deploy_and_rm_leave_nothing() -> Result<()> {
    if !can_make_hosts("p33_ten_rounds_of_deploy_and_rm_leave_nothing") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("rounds", 1, 0)?;
    let s = Stack::new(&t)?;
    let overlays = || t.lab().run("h1", &["sh", "-c", "ls /run/rswarm/overlay 2>/dev/null || true"]);
    let before = overlays()?;
    s.file("compose.yaml", PAIR)?;
    for round in 0..10 {
        s.ok("deploy --resolve-image never pair").with_context(|| format!("round {round}"))?;
        // now and then its tasks run, and now and then they are still on their way
        if round % 3 == 0 {
            t.running("pair_a", 1)?;
        }
        let flags = if round % 2 == 0 { "rm --detach" } else { "rm" };
        s.ok(&format!("{flags} pair")).with_context(|| format!("round {round}"))?;
    }
    ensure!(s.own("rm pair")?.err == "Nothing found in stack: pair", "the last rm has waited");
    ensure!(s.docker("service ls -q")?.is_empty() && s.docker("stack ls --format {{.Name}}")?.is_empty());
    ensure!(s.docker("network ls --filter driver=overlay --format {{.Name}}")? == "ingress");
    until("nothing of the networks is left on the host", DEADLINE, || {
        let left = overlays()?;
        ensure!(left == before, "{left}");
        Ok(())
    })?;
    // what docker deploys is a stack here too
    s.file("plain.yaml", &format!("version: \"3.8\"{PAIR}"))?;
    s.docker("stack deploy --detach=true --resolve-image never -c plain.yaml pair")?;
    ensure!(s.ok("ls --format {{.Name}}={{.Services}}/{{.Revision}}")? == "pair=3/0");
    ensure!(s.own("rollback pair")?.err.contains("was deployed object by object"));
    s.ok("deploy --resolve-image never pair")?;
    ensure!(s.ok("ls --format {{.Name}}={{.Revision}}")? == "pair=1");
    s.docker("stack rm pair")?;
    until("docker's rm leaves no stack either", DEADLINE, || {
        let left = s.ok("ls")?;
        ensure!(!left.contains("pair"), "{left}");
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
