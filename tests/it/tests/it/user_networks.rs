//! Networks of users on one host: where their containers' ports lead, who is kept apart, and by which names they are found
//! (parity E-14, E-17, E-31, N-17).

use anyhow::{Result, ensure};
use it::{DEADLINE, IMAGE, until};

use crate::{can_make_hosts, containers::Docker};

const SERVE: &str = "mkdir -p /w; echo hello > /w/index.html; httpd -f -p 80 -h /w";

/// E-14, E-31: what a container of a user's network publishes leads into that network; it has no second place on the
/// default bridge, where all others could reach it.
#[test]
fn docker_e_14_ports_of_users_networks() -> Result<()> {
    if !can_make_hosts("docker_e_14_ports_of_users_networks") {
        return Ok(());
    }
    let d = Docker::up("usernets")?;
    for name in ["na", "nb"] {
        d.ok(&["network", "create", name])?;
    }
    d.ok(&["run", "-d", "--name", "aa", "--network", "na", "-p", "8181:80", IMAGE, "sh", "-c", SERVE])?;
    d.sleeper("bb", &["--network", "nb", "-p", "8182:80"])?;
    let links = d.inside("aa", &["ip", "-o", "link"])?;
    ensure!(links.lines().filter(|line| line.contains("eth")).count() == 1, "{links}");
    let address = d.field("aa", "{{.NetworkSettings.Networks.na.IPAddress}}")?;
    let gateway = d.field("aa", "{{.NetworkSettings.Networks.na.Gateway}}")?;
    ensure!(d.inside("aa", &["ip", "-4", "-o", "addr", "show", "eth0"])?.contains(&address));
    ensure!(d.inside("aa", &["ip", "route"])?.starts_with(&format!("default via {gateway} dev eth0")));

    let ask = |at: &str| {
        let line = format!("busybox timeout 2 wget -q -O - http://{at}/ 2>&1 || true");
        d.t.lab().run("h1", &["sh", "-c", &line])
    };
    until("the published port answers on every way", DEADLINE, || {
        for at in ["127.0.0.1:8181", "[::1]:8181", &format!("{gateway}:8181")] {
            let got = ask(at)?;
            ensure!(got.trim() == "hello", "{at}: {got}");
        }
        Ok(())
    })?;
    let from =
        |name: &str, at: &str| d.inside(name, &["timeout", "2", "wget", "-q", "-O", "-", &format!("http://{at}/")]);
    ensure!(from("aa", &format!("{gateway}:8181"))?.trim() == "hello", "its own published port");
    let other = d.field("bb", "{{.NetworkSettings.Networks.nb.Gateway}}")?;
    ensure!(from("bb", &format!("{other}:8181"))?.trim() == "hello", "from another network by the published port");
    ensure!(from("bb", &address).is_err(), "and by nothing else");

    // On a second network with a higher priority its way out and its ports move there, and back.
    d.ok(&["network", "connect", "--gw-priority", "5", "nb", "aa"])?;
    until("it answers by the other network", DEADLINE, || {
        ensure!(d.inside("aa", &["ip", "route"])?.contains(&format!("default via {other} ")));
        ensure!(ask("127.0.0.1:8181")?.trim() == "hello");
        Ok(())
    })?;
    d.ok(&["network", "disconnect", "nb", "aa"])?;
    until("it answers by its first network", DEADLINE, || {
        ensure!(ask("127.0.0.1:8181")?.trim() == "hello");
        Ok(())
    })?;

    // Where all networks are internal, ports are dropped with a word, as with Docker.
    d.ok(&["network", "create", "--internal", "inner"])?;
    let said = d.say(&["run", "-d", "--name", "cc", "--network", "inner", "-p", "8181:80", IMAGE, "sleep", "99"])?;
    ensure!(said.code == 0 && said.err.contains("Published ports are discarded"), "{} {}", said.code, said.err);
    ensure!(d.ok(&["port", "cc"])?.is_empty());
    // E-17: there is no container whose addresses cannot be
    let part = "only when connecting to networks with user configured subnets";
    d.no(1, part, &["create", "--name", "no", "--network", "na", "--ip", "172.18.0.9", IMAGE, "true"])?;
    d.no(1, part, &["network", "connect", "--ip", "172.19.0.9", "nb", "aa"])?;
    ensure!(d.say(&["inspect", "no"])?.code != 0, "nothing was made");
    inner_gateway(&d)?;
    out_of_none(&d)
}

/// N-21: a container without a network gets one once it has left `none`, and has it after its next start too.
fn out_of_none(d: &Docker) -> Result<()> {
    d.sleeper("lone", &["--network", "none"])?;
    d.no(1, "networks in private (none) mode", &["network", "connect", "na", "lone"])?;
    d.ok(&["network", "disconnect", "none", "lone"])?;
    d.no(1, "is not connected to network none", &["network", "disconnect", "none", "lone"])?;
    d.is("lone", "{{len .NetworkSettings.Networks}}", "0")?;
    d.ok(&["network", "connect", "--alias", "late", "na", "lone"])?;
    for _ in 0..2 {
        let own = d.field("lone", "{{.NetworkSettings.Networks.na.IPAddress}}")?;
        ensure!(d.inside("lone", &["ip", "-4", "-o", "addr"])?.contains(&format!(" {own}/")), "{own}");
        d.inside("aa", &["ping", "-c", "1", "-W", "1", "late"])?;
        d.ok(&["restart", "-t", "0", "lone"])?;
    }
    Ok(())
}

/// N-06: the host has an address in an internal network, which is shown of the network, and of no container as a way out.
fn inner_gateway(d: &Docker) -> Result<()> {
    let gateway = d.ok(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", "inner"])?;
    ensure!(
        d.t.lab().run("h1", &["busybox", "ip", "-4", "-o", "addr"])?.contains(&format!(" {gateway}/")),
        "{gateway}"
    );
    d.inside("cc", &["ping", "-c", "1", "-W", "1", &gateway])?;
    d.is("cc", "{{.NetworkSettings.Networks.inner.Gateway}}", "")?;
    ensure!(!d.inside("cc", &["ip", "route"])?.contains("default"));
    Ok(())
}

/// E-17, N-17: host names and NAME.NETWORK are names; who shares a network has its host name; /etc/hosts has all networks.
#[test]
fn docker_n_17_names_of_users_networks() -> Result<()> {
    if !can_make_hosts("docker_n_17_names_of_users_networks") {
        return Ok(());
    }
    let d = Docker::up("usernames")?;
    for name in ["shop", "back"] {
        d.ok(&["network", "create", name])?;
    }
    d.sleeper(
        "web",
        &["--network", "shop", "--hostname", "front", "--domainname", "example.test", "--network-alias", "www"],
    )?;
    d.sleeper("db", &["--network", "shop", "--network", "back"])?;
    let address = d.field("web", "{{.NetworkSettings.Networks.shop.IPAddress}}")?;
    for name in ["web", "www", "front", "front.example.test", "web.shop", "front.shop"] {
        until("it is found", DEADLINE, || {
            let found = d.inside("db", &["nslookup", "-type=a", name])?;
            ensure!(found.contains(&address), "{name}: {found}");
            Ok(())
        })?;
    }
    ensure!(d.inside("db", &["nslookup", "-type=a", "web.back"]).is_err(), "it is not in that network");
    let names = d.field("web", "{{json .NetworkSettings.Networks.shop.DNSNames}}")?;
    ensure!(names.starts_with(r#"["web","www",""#) && names.ends_with(r#","front.example.test","front"]"#), "{names}");

    let hosts = d.inside("db", &["cat", "/etc/hosts"])?;
    for network in ["shop", "back"] {
        let address = d.field("db", &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))?;
        ensure!(hosts.contains(&format!("{address}\t")), "{network}: {hosts}");
    }
    d.sleeper("same", &["--network", "container:web"])?;
    ensure!(d.inside("same", &["hostname"])?.trim() == "front");
    let id = d.field("web", "{{.Id}}")?;
    d.is("same", "{{.HostConfig.NetworkMode}}", &format!("container:{id}"))?;
    Ok(())
}

/// E-31: the default bridge has an id, its options, and is found by its id.
#[test]
fn docker_e_31_the_default_bridge_as_a_network() -> Result<()> {
    if !can_make_hosts("docker_e_31_the_default_bridge_as_a_network") {
        return Ok(());
    }
    let d = Docker::up("defaultnet")?;
    let id = d.ok(&["network", "inspect", "bridge", "--format", "{{.Id}}"])?;
    ensure!(id.len() == 64 && d.ok(&["network", "inspect", &id, "--format", "{{.Name}}"])? == "bridge");
    let name = "{{index .Options \"com.docker.network.bridge.name\"}}";
    ensure!(d.ok(&["network", "inspect", "bridge", "--format", name])? == "rswarm0");
    ensure!(d.ok(&["network", "ls", "-q", "--no-trunc", "--filter", "name=bridge"])? == id);
    d.sleeper("one", &["--network", &id])?;
    d.is("one", "{{.NetworkSettings.Networks.bridge.NetworkID}}", &id)?;
    let own = d.ok(&["network", "create", "--ipam-opt", "a=b", "opts"])?;
    ensure!(d.ok(&["network", "inspect", "opts", "--format", "{{.IPAM.Options}}"])? == "map[a:b]");
    // a user's network has an id of the same form, and its bridge is called by it
    ensure!(own.len() == 64 && d.ok(&["network", "inspect", &own[..8], "--format", "{{.Id}}"])? == own, "{own}");
    d.t.lab().run("h1", &["busybox", "ip", "link", "show", &format!("br-{}", &own[..12])])?;
    ensure!(d.ok(&["network", "ls", "-q", "--no-trunc", "--filter", &format!("id={}", &own[..12])])? == own);
    Ok(())
}
