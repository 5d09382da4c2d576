//! Published ports as the value has them: numbers, refusals, both command lines, and the ingress network replaced.
//! What arrives at the ports is the data plane's matter and not looked at here.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use serde_json::Value;

use crate::can_make_hosts;

/// Whether docker did it, and what it said; `None` where there is no docker.
fn docker(t: &ClusterUnderTest, arguments: &[&str]) -> Result<Option<(bool, String)>> {
    let socket = format!("unix://{}", t.lab().socket("h1")?.display());
    let mut command = Command::new("docker");
    match command.args(["-H", &socket]).args(arguments).env("DOCKER_CONFIG", "/nonexistent").output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("run docker"),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Ok(Some((output.status.success(), String::from_utf8_lossy(&said).into_owned())))
        }
    }
}

fn service(t: &ClusterUnderTest, name: &str) -> Result<Value> {
    t.first()?.get(&format!("/services/{name}"))
}

/// `8080->80/tcp`, as the service's endpoint shows its ports.
fn endpoint_ports(t: &ClusterUnderTest, name: &str) -> Result<Vec<String>> {
    let service = service(t, name)?;
    let ports = service["Endpoint"]["Ports"].as_array().into_iter().flatten();
    let port = |port: &Value| {
        let protocol = port["Protocol"].as_str().unwrap_or_default();
        format!("{}->{}/{protocol}", port["PublishedPort"], port["TargetPort"])
    };
    Ok(ports.map(port).collect())
}

/// The addresses of the one running task of a service, with the task's id.
fn task(t: &ClusterUnderTest, name: &str) -> Result<(String, Vec<String>)> {
    let (tasks, _) = t.running(name, 1)?;
    let shown = t.first()?.get(&format!("/tasks/{}", tasks[0].id))?;
    let places = shown["NetworksAttachments"].as_array().into_iter().flatten();
    let addresses = places.flat_map(|place| place["Addresses"].as_array().into_iter().flatten());
    Ok((tasks[0].id.clone(), addresses.filter_map(|a| a.as_str().map(str::to_owned)).collect()))
}

/// S-72 to S-74, N-07, N-16, P32: one cluster, its ports and its ingress network through both command lines.
#[test]
fn s_72_ports_are_numbered_refused_kept_and_freed() -> Result<()> {
    if !can_make_hosts("s_72_ports_are_numbered_refused_kept_and_freed") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("publish", 1, 1)?;
    let networks = t.cli("h1", &["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"])?;
    ensure!(networks.contains("ingress overlay swarm"), "{networks}");
    let ingress = t.first()?.get("/networks/ingress")?;
    ensure!(ingress["Ingress"] == true && ingress["IPAM"]["Config"][0]["Subnet"] == "10.255.0.0/16", "{ingress}");

    t.create("web", 1, &["--publish", "8080:80", "--publish", "127.0.0.1:53:53/udp", "--mesh-policy", "local-first"])?;
    t.create("any", 1, &["--publish", "80"])?;
    ensure!(endpoint_ports(&t, "web")? == ["8080->80/tcp", "53->53/udp"]);
    let given = endpoint_ports(&t, "any")?;
    let number: u16 = given[0].split("->").next().context("a number")?.parse().context("a number")?;
    ensure!((30_000..=32_767).contains(&number), "{given:?}");
    let refused = t.cli_fails("h1", &["service", "create", "-d", "--name", "two", "-p", "8080:1", IMAGE])?;
    ensure!(refused.contains("service web publishes 8080/tcp"), "{refused}");
    let refused = t.cli_fails("h1", &["service", "create", "-d", "--network", "ingress", "-p", "81:1", IMAGE])?;
    ensure!(refused.contains("gets into it by publishing a port"), "{refused}");
    t.create("near", 1, &["--publish", "192.0.2.1:53:53/udp"])?;
    let listed = t.cli("h1", &["service", "ls", "--format", "{{.Name}} {{.Ports}}"])?;
    ensure!(listed.contains("web *:8080->80/tcp, 127.0.0.1:53->53/udp"), "{listed}");
    let pretty = t.cli("h1", &["service", "inspect", "--pretty", "web"])?;
    ensure!(pretty.contains("local-first, affinity none"), "{pretty}");

    // docker changes one port, and what it knows nothing of stays
    if let Some((ok, said)) = docker(&t, &["service", "update", "-d", "--publish-add", "9000:90", "web"])? {
        ensure!(ok, "{said}");
        ensure!(endpoint_ports(&t, "web")?.len() == 3);
        let spec = service(&t, "web")?["Spec"]["EndpointSpec"].clone();
        ensure!(spec["Ports"].to_string().contains("127.0.0.1") && spec["Mesh"]["Policy"] == "local-first", "{spec}");
        let (ok, said) = docker(&t, &["service", "create", "-d", "-p", "9000:1", IMAGE])?.context("docker is there")?;
        ensure!(!ok && said.contains("service web publishes 9000/tcp"), "{said}");
    }

    // the number of a port is no task's matter; numbers outlive a manager's restart
    let (before, addresses) = task(&t, "web")?;
    ensure!(addresses.iter().any(|address| address.starts_with("10.255.")), "{addresses:?}");
    t.cli("h1", &["service", "update", "-d", "--publish-rm", "80", "--publish-add", "8081:80", "web"])?;
    t.cluster.stop_daemon("h1", nix::sys::signal::Signal::SIGKILL)?;
    t.cluster.start_daemon("h1")?;
    until("the manager is back with all numbers", DEADLINE, || {
        ensure!(endpoint_ports(&t, "any")? == given && endpoint_ports(&t, "web")?.contains(&"8081->80/tcp".to_owned()));
        Ok(())
    })?;
    ensure!(task(&t, "web")?.0 == before, "the task was replaced");
    t.create("two", 1, &["--publish", "8080:80"])?;
    Ok(())
}

/// N-07: the ingress network goes when nobody publishes, another takes its place, and tasks follow.
#[test]
fn n_07_the_ingress_network_is_replaced() -> Result<()> {
    if !can_make_hosts("n_07_the_ingress_network_is_replaced") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("ingress", 1, 1)?;
    t.create("web", 1, &["--publish", "8080:80"])?;
    let (first, _) = task(&t, "web")?;
    let refused = t.cli_fails("h1", &["network", "rm", "ingress"])?;
    ensure!(refused.contains("in use by service web"), "{refused}");
    t.cli("h1", &["service", "update", "-d", "--publish-rm", "8080:80", "web"])?;
    until("a task without a place in the mesh", DEADLINE, || {
        let (id, addresses) = task(&t, "web")?;
        ensure!(id != first && !addresses.iter().any(|address| address.starts_with("10.255.")), "{addresses:?}");
        Ok(())
    })?;
    until("the ingress network goes", DEADLINE, || t.cli("h1", &["network", "rm", "ingress"]).map(drop))?;
    let refused = t.cli_fails("h1", &["service", "update", "-d", "--publish-add", "8080:80", "web"])?;
    ensure!(refused.contains("there is no ingress network"), "{refused}");
    let create = ["network", "create", "-d", "overlay", "--ingress", "--subnet", "10.12.0.0/16", "--opt", "encrypted"];
    t.cli("h1", &[&create[..], &["--opt", "mtu=1300", "mesh"]].concat())?;
    t.cli("h1", &["service", "update", "-d", "--publish-add", "8080:80", "web"])?;
    until("a task in the new network", DEADLINE, || {
        let (_, addresses) = task(&t, "web")?;
        ensure!(addresses.iter().any(|address| address.starts_with("10.12.")), "{addresses:?}");
        Ok(())
    })?;
    Ok(())
}
