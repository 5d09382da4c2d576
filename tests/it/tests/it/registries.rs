//! The cluster's credentials for registries.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, Docker, IMAGE, until};

use crate::can_make_hosts;

/// `me`, `opensesame`.
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuQbLfdQZSxZ9gjhA5V9o8Tyc6aQRO0Qi";
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
