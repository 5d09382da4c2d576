//! The cluster's credentials for registries.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, TaskRow, until};

use crate::can_make_hosts;

/// `me`, `opensesame`.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuQbLfdQZSxZ9gjhA5V9o8Tyc6aQRO0Qi";
/// `me`, `second`: what the helper gives later, when the first is worth nothing any more.
const RENEWED: &str = "me:$2y$05$abcdefghijklmnopqrstuuKbPhTOR7Pvo59BRa0eQ090CMHpax.C6";
const HELPER: &str = "#!/bin/sh\nread -r server\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"me\",\"Secret\":\"%s\"}' \
                      \"$server\" \"$(cat /tmp/secret)\"\n";
/// Lets everybody in, on h1 alone.
const OPEN: &str = "127.0.0.1:1388";
const PORT: u16 = 1389;

/// P17: the cluster logs in to a registry once; services made without credentials run on all nodes, also when their tasks
/// move later; wrong credentials name the registry; nobody gets them back.
#[test]
fn p17_the_cluster_has_credentials_for_a_registry() -> Result<()> {
    if !can_make_hosts("p17_the_cluster_has_credentials_for_a_registry") {
        return Ok(());
    }
    if !Path::new("/usr/bin/docker-registry").exists() {
        eprintln!("SKIPPED p17_the_cluster_has_credentials_for_a_registry: install docker-registry");
        return Ok(());
    }
    let t = ClusterUnderTest::up("registries", 1, 1)?;
    let registry = format!("{}:{PORT}", t.lab().address("h1")?);
    start(&t, &registry)?;
    for host in ["h1", "h2"] {
        t.restart_with(host, &["--insecure-registry", &registry])?;
    }
    let image = format!("{registry}/team/app:1");
    fill(&t, &image)?;

    let d = Docker::new(&t, "h1");
    let create = |name: &str| d.run(&["service", "create", "-d", "--name", name, &image, "sleep", "100000"]);
    ensure!(create("early")?.0 == 0);
    until("a task without credentials says why it does not run", DEADLINE, || {
        d.shows("service ps early --no-trunc --format {{.Error}}", &format!("unauthorized: registry {registry}"))
    })?;

    let login = |password: &str| {
        ["registry", "login", "--username", "me", "--password", password, &registry].map(str::to_owned)
    };
    let wrong = login("wrong");
    let wrong = t.cli_fails("h1", &wrong.each_ref().map(String::as_str))?;
    ensure!(wrong.contains("unauthorized") && wrong.contains(&registry), "{wrong}");
    let right = login("opensesame");
    t.cli("h1", &right.each_ref().map(String::as_str))?;
    let listed = t.cli("h1", &["registry", "ls"])?;
    ensure!(listed.contains(&registry) && listed.contains("me") && !listed.contains("opensesame"), "{listed}");
    t.running("early", 1)?;
    let made = d.run(&["service", "create", "-d", "--name", "late", "--mode", "global", &image, "sleep", "100000"])?;
    ensure!(made.0 == 0 && !made.2.contains("could not be accessed"), "the manager asks the registry too: {made:?}");
    t.running("late", 2)?;
    let shown = t.first()?.get("/services")?.to_string() + &t.first()?.get("/swarm")?.to_string();
    ensure!(!shown.contains("opensesame"), "{shown}");

    t.cli("h1", &["registry", "logout", &registry])?;
    ensure!(t.cli_fails("h1", &["registry", "logout", &registry])?.contains(&registry));
    t.running("late", 2)?;
    Ok(())
}

/// P17: credentials that expire come from a helper again and again, so that a task which moves when the first have long been worth
/// nothing finds its image; what runs does not notice.
#[test]
fn p17_credentials_that_expire_are_renewed() -> Result<()> {
    if !can_make_hosts("p17_credentials_that_expire_are_renewed") {
        return Ok(());
    }
    if !Path::new("/usr/bin/docker-registry").exists() {
        eprintln!("SKIPPED p17_credentials_that_expire_are_renewed: install docker-registry");
        return Ok(());
    }
    let t = ClusterUnderTest::up("renewal", 1, 1)?;
    let registry = format!("{}:{PORT}", t.lab().address("h1")?);
    start(&t, &registry)?;
    for host in ["h1", "h2"] {
        t.restart_with(host, &["--insecure-registry", &registry])?;
    }
    let image = format!("{registry}/team/app:1");
    fill(&t, &image)?;
    let put = |path: &str, text: &str| {
        let write = format!("cat > {path} <<'END'\n{text}\nEND\nchmod 755 {path}");
        t.lab().run("h1", &["sh", "-c", &write]).map(drop)
    };
    let login = ["registry", "login", "--helper", "lab", "--every", "10s", &registry];
    let missing = t.cli_fails("h1", &login)?;
    ensure!(missing.contains("docker-credential-lab") && missing.contains("on each manager"), "{missing}");
    put("/usr/local/bin/docker-credential-lab", HELPER)?;
    put("/tmp/secret", "opensesame")?;
    t.cli("h1", &login)?;
    let listed = t.cli("h1", &["registry", "ls"])?;
    ensure!(listed.contains("lab every 10s") && listed.contains("me"), "{listed}");

    // by its tag, so that the registry is asked and no other node
    let service =
        ["service", "create", "-d", "--no-resolve-image", "--name", "web", "--constraint", "node.hostname==h1"];
    let made = Docker::new(&t, "h1").run(&[&service[..], &[image.as_str(), "sleep", "100000"]].concat())?;
    ensure!(made.0 == 0, "{made:?}");
    let before = t.running("web", 1)?.0[0].clone();

    put("/tmp/htpasswd", RENEWED)?;
    put("/tmp/secret", "second")?;
    let renewed = || -> Result<String> {
        Ok(t.first()?.get("/registries")?[0]["Renewal"]["RenewedAt"].as_str().unwrap_or_default().to_owned())
    };
    let first = renewed()?;
    until("the helper is asked again", DEADLINE, || {
        ensure!(renewed()? != first, "{first}");
        Ok(())
    })?;
    ensure!(t.running("web", 1)?.0[0].id == before.id, "what runs does not notice");
    t.cli(
        "h1",
        &["service", "update", "--detach", "--no-resolve-image", "--constraint-rm", "node.hostname==h1", "web"],
    )?;
    t.cli("h1", &["node", "update", "--availability", "drain", "h1"])?;
    until("the task runs on the other node", DEADLINE, || {
        let tasks = t.running("web", 1)?.0;
        ensure!(tasks[0].node == t.node_id("h2")?, "{tasks:?}");
        Ok(())
    })?;
    Ok(())
}

/// P48: what a tag means is found out once, for all tasks. While the registry is away nothing falls back to a tag; a newer image
/// is told of and taken when it is asked for; and who says so runs what the nodes have.
#[test]
fn p48_a_tag_is_looked_up_once_and_anew_when_asked() -> Result<()> {
    if !can_make_hosts("p48_a_tag_is_looked_up_once_and_anew_when_asked") {
        return Ok(());
    }
    if !Path::new("/usr/bin/docker-registry").exists() {
        eprintln!("SKIPPED p48_a_tag_is_looked_up_once_and_anew_when_asked: install docker-registry");
        return Ok(());
    }
    let t = ClusterUnderTest::up("pinned", 1, 1)?;
    let registry = format!("{}:{PORT}", t.lab().address("h1")?);
    start(&t, &registry)?;
    for host in ["h1", "h2"] {
        t.restart_with(host, &["--insecure-registry", &registry])?;
    }
    let image = format!("{registry}/team/app:1");
    fill(&t, &image)?;
    t.cli("h1", &["registry", "login", "--username", "me", "--password", "opensesame", &registry])?;
    let create = |more: &[&str], image: &str| {
        t.cli("h1", &[&["service", "create", "--detach"], more, &[image, "sleep", "100000"]].concat())
    };
    create(&["--name", "web", "--mode", "global"], &image)?;
    let pinned = || -> Result<String> {
        let service = t.first()?.get("/services/web")?;
        Ok(service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"].as_str().unwrap_or_default().to_owned())
    };
    let first = pinned()?;
    ensure!(first.starts_with(&format!("{image}@sha256:")), "{first}");
    let before = t.running("web", 2)?.0;
    let checked = t.cli("h1", &["service", "check-update"])?;
    ensure!(checked.contains(&image) && checked.contains("up to date"), "{checked}");

    let away = format!(
        "nft add table inet away && nft 'add chain inet away in {{ type filter hook input priority 0; }}' && \
         nft add rule inet away in tcp dport {PORT} reject with tcp reset"
    );
    t.lab().run("h1", &["sh", "-c", &away])?;
    let refused = t.cli_fails("h1", &["service", "update", "--detach", "--image", &image, "web"])?;
    ensure!(refused.contains("was not found at its registry") && refused.contains(&first), "{refused}");
    let unknown = t.cli_fails("h1", &["service", "check-update", "web"])?;
    ensure!(unknown.contains("was not looked up"), "{unknown}");
    ensure!(pinned()? == first, "{}", pinned()?);
    let ids = |tasks: &[TaskRow]| tasks.iter().map(|task| task.id.clone()).collect::<Vec<_>>();
    ensure!(ids(&t.running("web", 2)?.0) == ids(&before), "what runs goes on");
    t.lab().run("h1", &["nft", "delete", "table", "inet", "away"])?;

    let (d, through) = (Docker::new(&t, "h1"), format!("{OPEN}/team/app:1"));
    d.ok(&format!("pull {through}"))?;
    d.ok(&format!("run --name changed {through} touch /newer"))?;
    d.ok(&format!("commit changed {through}"))?;
    d.ok(&format!("push {through}"))?;
    ensure!(t.cli("h1", &["service", "check-update", "-q"])?.trim() == "web");
    t.cli("h1", &["service", "update", "--detach", "--pull", "always", "web"])?;
    let second = pinned()?;
    ensure!(second.starts_with(&format!("{image}@sha256:")) && second != first, "{second}");
    until("all tasks have the newer image", DEADLINE, || {
        let tasks = t.running("web", 2)?.0;
        ensure!(tasks.iter().all(|task| !ids(&before).contains(&task.id)), "{tasks:?}");
        Ok(())
    })?;
    for host in ["h1", "h2"] {
        Docker::new(&t, host).ok(&format!("image inspect {second}"))?;
    }

    create(&["--name", "own", "--pull", "never", "--constraint", "node.hostname==h1"], &through)?;
    t.running("own", 1)?;
    create(&["--name", "none", "--pull", "never"], &format!("{registry}/team/app:2"))?;
    until("a task says that no registry is asked", DEADLINE, || {
        d.shows(
            "service ps none --no-trunc --format {{.Error}}",
            "no registry is asked (label rswarm.image.pull=never)",
        )
    })?;
    let wrong = t.cli_fails("h1", &["service", "update", "--detach", "--pull", "daily", "web"])?;
    ensure!(wrong.contains("use missing, always or never"), "{wrong}");
    Ok(())
}

/// Two doors to the same images, the second with a password. They end with their host.
fn start(t: &ClusterUnderTest, registry: &str) -> Result<()> {
    let auth = "auth:\n  htpasswd:\n    realm: test\n    path: /tmp/htpasswd\n";
    for (name, address, auth) in [("open", OPEN, ""), ("locked", registry, auth)] {
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: /tmp/registry\nhttp:\n  addr: {address}\n{auth}"
        );
        let write = format!("cat > /tmp/{name}.yml <<'END'\n{config}END\ncat > /tmp/htpasswd <<'END'\n{HTPASSWD}\nEND");
        t.lab().run("h1", &["sh", "-c", &write])?;
        t.lab().spawn("h1", name, &["/usr/bin/docker-registry", "serve", &format!("/tmp/{name}.yml")], &[])?;
        let port = address.rsplit(':').next().unwrap_or_default();
        until("the registry listens", DEADLINE, || {
            let listens = format!("grep -qi :{:04X} /proc/net/tcp /proc/net/tcp6", port.parse::<u16>()?);
            t.lab().run("h1", &["sh", "-c", &listens]).map(drop).context("not yet")
        })?;
    }
    Ok(())
}

/// Puts the image into the registry and takes it from the hosts: who runs it has to pull.
fn fill(t: &ClusterUnderTest, image: &str) -> Result<()> {
    let (first, through) = (Docker::new(t, "h1"), format!("{OPEN}/team/app:1"));
    first.ok(&format!("tag {IMAGE} {through}"))?;
    first.ok(&format!("push {through}"))?;
    for host in ["h1", "h2"] {
        let d = Docker::new(t, host);
        if host == "h1" {
            d.ok(&format!("rmi {through}"))?;
        }
        d.ok(&format!("rmi {IMAGE}"))?;
        d.fails(&format!("image inspect {image}"), "No such image")?;
    }
    Ok(())
}
