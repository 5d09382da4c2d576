//! Secrets and configs, driven by the docker CLI and by our own (parity X-01 to X-05, S-63, K-02, P12).

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, TaskRow, until};
use lab::ExecOptions;
use nix::sys::signal::Signal;

use crate::can_make_hosts;

/// So unlike anything else that finding it anywhere means something.
const VALUE: &str = "correct-horse-battery-staple";

/// Docker against the first host, with files of this test.
struct Docker<'a> {
    t: &'a ClusterUnderTest,
    files: tempfile::TempDir,
}

impl<'a> Docker<'a> {
    fn new(t: &'a ClusterUnderTest) -> Result<Self> {
        Ok(Self { t, files: tempfile::tempdir()? })
    }

    fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.files.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    fn run(&self, line: &str) -> Result<(bool, String, String)> {
        let socket = format!("unix://{}", self.t.lab().socket("h1")?.display());
        let mut command = Command::new("docker");
        command.args(["-H", &socket]).args(line.split_whitespace()).env("DOCKER_CONFIG", "/nonexistent");
        let output = command.current_dir(self.files.path()).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    }

    fn ok(&self, line: &str) -> Result<String> {
        let (success, out, err) = self.run(line)?;
        ensure!(success, "docker {line}: {err}");
        Ok(out)
    }

    fn says(&self, line: &str, wanted: &str) -> Result<()> {
        let out = self.ok(line)?;
        ensure!(out == wanted, "docker {line}: {out:?}, not {wanted:?}");
        Ok(())
    }

    fn fails(&self, line: &str, part: &str) -> Result<()> {
        let (success, out, err) = self.run(line)?;
        ensure!(!success && err.contains(part), "docker {line}: {out:?} {err:?} has no {part:?}");
        Ok(())
    }
}

/// What a file in a task's container holds, seen from its host.
fn read(t: &ClusterUnderTest, host: &str, task: &TaskRow, path: &str) -> Result<String> {
    Ok(t.lab().run(host, &["cat", &format!("/proc/{}/root{path}", task.pid)])?)
}

/// Owner, group and permissions.
fn stat(t: &ClusterUnderTest, host: &str, task: &TaskRow, path: &str) -> Result<String> {
    let found = t.lab().run(host, &["stat", "-c", "%u:%g:%a", &format!("/proc/{}/root{path}", task.pid)])?;
    Ok(found.trim().to_owned())
}

/// Mounts of a host for the files of its tasks.
fn kept(t: &ClusterUnderTest, host: &str) -> Result<usize> {
    let mounts = t.lab().run(host, &["cat", "/proc/self/mounts"])?;
    Ok(mounts.lines().filter(|line| line.contains("/run/rswarm/dependencies/")).count())
}

/// X-02: on no disk, of no host.
fn is_on_no_disk(t: &ClusterUnderTest) -> Result<()> {
    for host in t.cluster.hosts() {
        let look = format!("find /var/lib/rswarm /run/rswarm -xdev -type f -exec grep -l -a {VALUE} {{}} + || true");
        let found = t.lab().run(&host, &["sh", "-c", &look])?;
        ensure!(found.trim().is_empty(), "{host} has the secret in clear: {found}");
    }
    Ok(())
}

fn one(t: &ClusterUnderTest, service: &str) -> Result<TaskRow> {
    Ok(t.running(service, 1)?.0.remove(0))
}

/// `rswarm KIND VERB… NAME -`, with the data on its standard input.
fn put(t: &ClusterUnderTest, kind: &str, verb: &[&str], name: &str, text: &str) -> Result<()> {
    let argv = [&["rswarm", kind][..], verb, &[name, "-"]].concat();
    let options = ExecOptions { stdin: text.into(), timeout: Some(DEADLINE), ..ExecOptions::default() };
    let output = t.lab().exec("h1", &argv, &options)?;
    ensure!(output.success(), "{}: {}", argv.join(" "), output.stderr);
    Ok(())
}

/// The host of a task.
fn host_of(t: &ClusterUnderTest, task: &TaskRow) -> Result<String> {
    let hosts = t.cluster.hosts();
    let is_it = |host: &&String| t.node_id(host).is_ok_and(|id| id == task.node);
    hosts.iter().find(is_it).cloned().context("the task's host")
}

/// X-01, X-02, X-05, S-63: from making a secret to the file in a container and back.
#[test]
fn x01_docker_cli_drives_secrets_and_configs() -> Result<()> {
    if !can_make_hosts("x01_docker_cli_drives_secrets_and_configs") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("secrets", 1, 1)?;
    let d = Docker::new(&t)?;
    d.file("pw", VALUE)?;
    d.file("conf", "colour=red")?;
    let id = d.ok("secret create --label tier=db db.pw pw")?;
    d.ok("secret create other conf")?;
    d.ok("config create app.conf conf")?;
    d.fails("secret create db.pw pw", "already exists")?;
    d.fails("secret create .bad pw", "invalid name")?;
    d.fails("secret create --driver vault v", "plugins are not supported")?;
    d.says("secret ls --filter name=db --format {{.ID}}:{{.Name}}:{{.Labels}}", &format!("{id}:db.pw:tier=db"))?;
    d.says("secret ls -q --filter label=tier=web", "")?;
    let shown = d.ok("secret inspect db.pw")?;
    ensure!(shown.contains(&id) && !shown.contains("Data") && !shown.contains(VALUE), "{shown}");
    ensure!(d.ok("config inspect --pretty app.conf")?.contains("colour=red"));

    let secret = "--secret db.pw --secret source=db.pw,target=/etc/keys/pw,uid=7,gid=8,mode=0400";
    let config = "--config app.conf --config source=app.conf,target=/etc/app/conf,mode=0440";
    let on_worker = "--detach --no-resolve-image --constraint node.hostname==h2";
    d.ok(&format!("service create --name web {on_worker} {secret} {config} {IMAGE} sleep 100000"))?;
    let task = one(&t, "web")?;
    ensure!(read(&t, "h2", &task, "/run/secrets/db.pw")? == VALUE);
    ensure!(read(&t, "h2", &task, "/etc/keys/pw")? == VALUE);
    ensure!(read(&t, "h2", &task, "/app.conf")? == "colour=red");
    ensure!(read(&t, "h2", &task, "/etc/app/conf")? == "colour=red");
    let owners = ["/run/secrets/db.pw", "/etc/keys/pw", "/app.conf", "/etc/app/conf"];
    let owners = owners.iter().map(|path| stat(&t, "h2", &task, path)).collect::<Result<Vec<_>>>()?;
    ensure!(owners == ["0:0:444", "7:8:400", "0:0:444", "0:0:440"], "{owners:?}");
    let mounts = t.lab().run("h2", &["cat", &format!("/proc/{}/mounts", task.pid)])?;
    let mount = mounts.lines().find(|line| line.contains(" /run/secrets/db.pw ")).context("no mount of the secret")?;
    ensure!(mount.starts_with("tmpfs ") && mount.contains(" tmpfs ro,"), "{mount}");
    ensure!((kept(&t, "h1")?, kept(&t, "h2")?) == (0, 1), "only the host of the task has it");
    is_on_no_disk(&t)?;
    d.fails("secret rm db.pw", "secret 'db.pw' is in use by the following service: web")?;
    d.fails("config rm app.conf", "config 'app.conf' is in use by the following service: web")?;

    // the agent's daemon dies: the container and its files do not
    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    t.cluster.start_daemon("h2")?;
    let again = one(&t, "web")?;
    ensure!((&again.container, again.pid) == (&task.container, task.pid), "{again:?}");
    ensure!(read(&t, "h2", &task, "/run/secrets/db.pw")? == VALUE);
    is_on_no_disk(&t)?;

    d.ok("service update -d --no-resolve-image --secret-rm db.pw --secret-add other --config-rm app.conf web")?;
    until("the task with the other secret", DEADLINE, || {
        let task = one(&t, "web")?;
        ensure!(task.container != again.container, "not replaced yet");
        ensure!(read(&t, "h2", &task, "/run/secrets/other")? == "colour=red");
        ensure!(read(&t, "h2", &task, "/run/secrets/db.pw").is_err() && read(&t, "h2", &task, "/app.conf").is_err());
        Ok(())
    })?;
    d.ok("secret rm db.pw")?;
    d.ok("service rm web")?;
    d.ok("secret rm other")?;
    d.ok("config rm app.conf")?;
    d.says("secret ls -q", "")?;
    d.fails("secret inspect db.pw", "db.pw")?;
    until("no files left on the worker", DEADLINE, || {
        let left = kept(&t, "h2")?;
        ensure!(left == 0, "{left} mounts");
        Ok(())
    })?;
    d.fails(&format!("service create --name web -d --secret nope {IMAGE}"), "secret not found: nope")
}

/// X-02: a daemon that starts while there is no manager leaves what runs alone, though it has no secret of it.
#[test]
fn x02_a_host_without_managers_keeps_its_tasks() -> Result<()> {
    if !can_make_hosts("x02_a_host_without_managers_keeps_its_tasks") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("secretalone", 1, 1)?;
    let d = Docker::new(&t)?;
    d.file("pw", VALUE)?;
    d.ok("secret create pw pw")?;
    d.ok(&format!("service create --name web -d --no-resolve-image --constraint node.hostname==h2 --secret pw {IMAGE} sleep 100000"))?;
    let task = one(&t, "web")?;
    t.cluster.stop_daemon("h1", Signal::SIGKILL)?;
    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    t.cluster.start_daemon("h2")?;
    ensure!(read(&t, "h2", &task, "/run/secrets/pw")? == VALUE, "without a manager");
    t.cluster.start_daemon("h1")?;
    let again = one(&t, "web")?;
    ensure!((&again.container, again.pid) == (&task.container, task.pid), "{again:?}");
    // what ends is replaced, and the successor has the file
    t.lab().run("h2", &["kill", "-9", &task.pid.to_string()])?;
    until("a successor with its secret", DEADLINE, || {
        let next = one(&t, "web")?;
        ensure!(next.pid != task.pid, "not replaced yet");
        ensure!(read(&t, "h2", &next, "/run/secrets/pw")? == VALUE);
        Ok(())
    })?;
    is_on_no_disk(&t)
}

/// P12, X-04: new data under the old name, by our own command line; a rollback finds the old; templates.
#[test]
fn p12_services_follow_new_data_and_templates_are_filled_in() -> Result<()> {
    if !can_make_hosts("p12_services_follow_new_data_and_templates_are_filled_in") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("configversions", 1, 0)?;
    let put = |kind: &str, verb: &[&str], name: &str, text: &str| put(&t, kind, verb, name, text);
    put("secret", &["create", "-l", "tier=db"], "pw", VALUE)?;
    put("config", &["create"], "plain", "one")?;
    put(
        "config",
        &["create", "--template-driver", "golang"],
        "tmpl",
        "{{secret \"pw\"}}@{{.Service.Name}}.{{.Task.Slot}} {{env \"TIER\"}} {{config \"plain\"}}",
    )?;
    ensure!(t.cli("h1", &["config", "ls", "--format", "{{.Name}}"])? == "plain\ntmpl\n");
    ensure!(t.cli("h1", &["secret", "inspect", "--pretty", "pw"])?.contains("tier=db"));
    t.create(
        "web",
        1,
        &[
            "--secret",
            "pw",
            "--config",
            "source=plain,target=plain",
            "--config",
            "source=tmpl,target=/etc/t,mode=0400",
            "-e",
            "TIER=base",
        ],
    )?;
    let pretty = t.cli("h1", &["service", "inspect", "--pretty", "web"])?;
    ensure!(pretty.contains("pw at pw") && pretty.contains("plain at plain"), "{pretty}");
    let task = one(&t, "web")?;
    ensure!(read(&t, "h1", &task, "/etc/t")? == format!("{VALUE}@web.1 base one"));
    let holds = |wanted: &str| {
        until(&format!("a task with {wanted:?}"), DEADLINE, || {
            let found = read(&t, "h1", &one(&t, "web")?, "/plain")?;
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
    };
    holds("one")?;
    put("config", &["update"], "plain", "two")?;
    holds("two")?;
    ensure!(t.cli("h1", &["config", "ls", "-q"])?.lines().count() == 2, "one of each name");
    t.cli("h1", &["service", "rollback", "-d", "web"])?;
    holds("one")?;
    ensure!(t.cli_fails("h1", &["config", "rm", "plain"])?.contains("is in use by the following service: web"));
    t.cli(
        "h1",
        &["service", "update", "-d", "--config-rm", "plain", "--config-rm", "tmpl", "--secret-rm", "pw", "web"],
    )?;
    t.cli("h1", &["config", "rm", "plain", "tmpl"])?;
    t.cli("h1", &["secret", "rm", "pw"])?;
    Ok(())
}

/// Says what it has read, at its start and whenever it is told to read again.
const READER: &str = "trap 'echo again $(cat /conf)' HUP; echo first $(cat /conf); while :; do sleep 1 & wait $!; done";
/// From the request to the file in the container and the signal to its process (P12).
const SOON: Duration = Duration::from_secs(5);

/// Two tasks of a service that reads a config whenever it gets SIGHUP, with a secret and a template beside it.
fn readers(t: &ClusterUnderTest) -> Result<Vec<TaskRow>> {
    put(t, "secret", &["create"], "pw", VALUE)?;
    put(t, "config", &["create"], "conf", "one")?;
    put(t, "config", &["create", "--template-driver", "golang"], "tmpl", "slot {{.Task.Slot}} {{config \"conf\"}}")?;
    let service = ["service", "create", "-d", "--name", "web", "--replicas", "2", "--refresh", "signal:HUP"];
    let files =
        ["--secret", "pw", "--config", "source=conf,target=/conf", "--config", "source=tmpl,target=/etc/t,mode=0400"];
    t.cli("h1", &[&service[..], &files, &[IMAGE, "sh", "-c", READER]].concat())?;
    Ok(t.running("web", 2)?.0)
}

/// A template that cannot be filled in: its tasks say so, run on, and have the next version that can.
fn says_what_cannot_be_written(t: &ClusterUnderTest, task: &TaskRow, host: &str) -> Result<()> {
    put(t, "config", &["update"], "tmpl", "{{.Task.Colour}}")?;
    until("both tasks say what is wrong", DEADLINE, || {
        for task in t.running("web", 2)?.0 {
            ensure!(task.error.contains("config tmpl is a template that cannot be filled in"), "{task:?}");
        }
        Ok(())
    })?;
    put(t, "config", &["update"], "tmpl", "good")?;
    until("the file that can be written, and no more complaint", DEADLINE, || {
        let found = read(t, host, task, "/etc/t")?;
        ensure!(found == "good", "{found:?}");
        let complains = t.running("web", 2)?.0.into_iter().find(|task| !task.error.is_empty());
        ensure!(complains.is_none(), "{complains:?}");
        Ok(())
    })?;
    Ok(())
}

/// P12: with `--refresh signal:HUP` the files of running containers change and their processes are told, on all hosts and
/// within five seconds; the containers stay. Back again too, and when the host's daemon comes back later.
#[test]
fn p12_files_of_running_containers_change_and_they_are_signalled() -> Result<()> {
    if !can_make_hosts("p12_files_of_running_containers_change_and_they_are_signalled") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("refresh", 1, 1)?;
    let tasks = readers(&t)?;
    let hosts = tasks.iter().map(|task| host_of(&t, task)).collect::<Result<Vec<_>>>()?;
    ensure!(hosts[0] != hosts[1], "one on each host: {hosts:?}");
    let said = |line: &str, count: usize| {
        let logs = t.cli("h1", &["service", "logs", "--raw", "web"])?;
        let found = logs.lines().filter(|said| *said == line).count();
        ensure!(found == count, "{line:?} {found} times, not {count}: {logs}");
        Ok(())
    };
    let hold = |path: &str, wanted: &dyn Fn(&TaskRow) -> String| {
        for (task, host) in tasks.iter().zip(&hosts) {
            let found = read(&t, host, task, path)?;
            ensure!(found == wanted(task), "{host} has {found:?} at {path}");
        }
        Ok(())
    };
    until("both have read the file", DEADLINE, || said("first one", 2))?;

    put(&t, "config", &["update"], "conf", "two")?;
    until("both have and read the new file", SOON, || {
        hold("/conf", &|_| "two".to_owned())?;
        hold("/etc/t", &|task| format!("slot {} two", task.slot))?;
        said("again two", 2)
    })?;
    ensure!(stat(&t, &hosts[0], &tasks[0], "/etc/t")? == "0:0:400");
    let long = VALUE.repeat(10_000);
    put(&t, "secret", &["update"], "pw", &long)?;
    until("the longer secret", SOON, || hold("/run/secrets/pw", &|_| long.clone()))?;
    is_on_no_disk(&t)?;
    t.cli("h1", &["service", "rollback", "-d", "web"])?;
    until("the secret from before", SOON, || hold("/run/secrets/pw", &|_| VALUE.to_owned()))?;
    hold("/conf", &|_| "two".to_owned())?;

    // the value has the new version at once, a host without a daemon when it is back
    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    put(&t, "config", &["update"], "conf", "three")?;
    let here = hosts.iter().position(|host| host == "h1").context("a task on the manager")?;
    let has_three = |at: usize| {
        let found = read(&t, &hosts[at], &tasks[at], "/conf")?;
        ensure!(found == "three", "{found:?}");
        Ok(())
    };
    until("the file on the manager", SOON, || has_three(here))?;
    has_three(1 - here).expect_err("nobody writes it there");
    t.cluster.start_daemon("h2")?;
    until("the file on the worker", DEADLINE, || has_three(1 - here))?;
    until("both have read it", DEADLINE, || said("again three", 2))?;
    until("a completed update", DEADLINE, || {
        let state = t.first()?.get("/services/web")?["UpdateStatus"]["State"].clone();
        ensure!(state == "completed", "{state}");
        Ok(())
    })?;

    says_what_cannot_be_written(&t, &tasks[0], &hosts[0])?;
    let seen = |task: &TaskRow| (task.id.clone(), task.container.clone(), task.pid);
    let before: Vec<_> = tasks.iter().map(seen).collect();
    let after: Vec<_> = t.running("web", 2)?.0.iter().map(seen).collect();
    ensure!(before == after, "the same containers all the time: {before:?}, {after:?}");
    ensure!(t.tasks("web")?.len() == 2, "and no others");
    ensure!(t.cli_fails("h1", &["service", "update", "-d", "--refresh", "often", "web"])?.contains("use signal:NAME"));
    Ok(())
}

const SHOP: &str = r#"version: "3.8"
services:
  web:
    image: IMAGE
    command: sleep 100000
    secrets:
      - pw
      - source: outside
        target: key
        uid: "7"
        gid: "8"
        mode: 0440
    configs:
      - source: conf
        target: /etc/app.conf
    deploy:
      replicas: 2
  other:
    image: IMAGE
    command: sleep 100000
secrets:
  pw:
    file: ./pw
  outside:
    external: true
configs:
  conf:
    file: ./app.conf
"#;

/// K-01 to K-03, P12: `docker stack deploy` with secrets and configs from files and from outside, and once more after a
/// file has changed.
#[test]
fn k02_docker_deploys_a_stack_with_secrets_and_configs() -> Result<()> {
    if !can_make_hosts("k02_docker_deploys_a_stack_with_secrets_and_configs") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("secretstack", 1, 1)?;
    let d = Docker::new(&t)?;
    d.file("pw", VALUE)?;
    d.file("app.conf", "colour=red")?;
    d.file("shop.yml", &SHOP.replace("IMAGE", IMAGE))?;
    d.ok("secret create outside app.conf")?;
    let deploy = "stack deploy --detach=true --resolve-image never -c shop.yml shop";
    d.ok(deploy)?;
    let hold = |wanted: &str| {
        until(&format!("two tasks with {wanted:?}"), DEADLINE, || {
            for task in t.running("shop_web", 2)?.0 {
                let host = host_of(&t, &task)?;
                let found = read(&t, &host, &task, "/etc/app.conf")?;
                ensure!(found == wanted, "{found:?}");
                ensure!(read(&t, &host, &task, "/run/secrets/pw")? == VALUE);
                ensure!(stat(&t, &host, &task, "/run/secrets/key")? == "7:8:440");
            }
            Ok(())
        })
    };
    hold("colour=red")?;
    let other = one(&t, "shop_other")?;
    d.says("config ls --filter label=com.docker.stack.namespace=shop --format {{.Name}}", "shop_conf")?;
    d.file("app.conf", "colour=blue")?;
    d.ok(deploy)?;
    hold("colour=blue")?;
    ensure!(one(&t, "shop_other")?.id == other.id, "only what uses the config is replaced");
    // the network goes when the tasks have
    // K-03: once is enough, although the network still has tasks when it is asked to go
    d.ok("stack rm --detach=true shop")?;
    d.says("secret ls --format {{.Name}}", "outside")?;
    d.says("config ls -q", "")
}
