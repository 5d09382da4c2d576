//! How the world and a network of one host reach each other, as its gateway's mode says, and networks of IPv6 alone; driven
//! by the docker CLI, with another host as the world.

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::ExecOptions;

use crate::{
    can_make_hosts,
    containers::Docker,
    hosts::{SERVER, answer},
};

const MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const GATEWAYS: &str = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}};{{end}}";

/// A host's own address on the link between hosts.
fn address(t: &ClusterUnderTest, host: &str, family: &str) -> Result<String> {
    let listed = t.lab().run(host, &["busybox", "ip", family, "-o", "addr", "show", "dev", "eth0"])?;
    let words = listed.split_whitespace().filter_map(|word| word.split_once('/'));
    let is_own = |address: &&str| !address.starts_with("fe80:");
    Ok(words.map(|(address, _)| address).find(is_own).context("an address of the lab")?.to_owned())
}

/// Whom a server at this place sees as its client.
fn asked(t: &ClusterUnderTest, from: &str, at: &str) -> Result<String> {
    let url = format!("http://{at}/cgi-bin/who");
    let ask = ["busybox", "timeout", "2", "wget", "-q", "-O", "-", &url];
    let output = t.lab().exec(from, &ask, &ExecOptions::default())?;
    ensure!(output.success(), "{url}: {}{}", output.stdout, output.stderr);
    let (client, _) = answer(&output.stdout).with_context(|| format!("{url} said {:?}", output.stdout))?;
    Ok(client.trim_matches(['[', ']']).trim_start_matches("::ffff:").to_owned())
}

fn serve(d: &Docker, name: &str, flags: &[&str]) -> Result<()> {
    d.ok(&[&["run", "-d", "--name", name], flags, &[IMAGE, "sh", "-c", SERVER]].concat()).map(drop)
}

/// E-31: what is routed is open at its own address and on no port of the host, which stays free; what is not protected is
/// open altogether; what is isolated has neighbours alone.
#[test]
fn docker_e_31_gateway_modes() -> Result<()> {
    if !can_make_hosts("docker_e_31_gateway_modes") {
        return Ok(());
    }
    let d = Docker { t: ClusterUnderTest::up("modes", 1, 1)? };
    let (here, there) = (address(&d.t, "h1", "-4")?, address(&d.t, "h2", "-4")?);
    for (name, mode, subnet) in [
        ("routed", "routed", "172.31.41.0/24"),
        ("open", "nat-unprotected", "172.31.42.0/24"),
        ("usual", "nat", "172.31.43.0/24"),
    ] {
        d.ok(&["network", "create", "-o", &format!("{MODE4}={mode}"), "--subnet", subnet, name])?;
        d.t.lab().run("h2", &["busybox", "ip", "route", "add", subnet, "via", &here])?;
    }
    for (flags, part) in [
        ([MODE4, "isolated"], "gateway mode 'isolated' can only be used for an internal network: give --internal"),
        ([MODE6, "bridged"], "unknown gateway mode; bridge networks have nat, nat-unprotected, routed or isolated"),
    ] {
        d.no(1, part, &["network", "create", "-o", &flags.join("="), "bad"])?;
    }
    serve(&d, "rr", &["--network", "routed", "--ip", "172.31.41.9", "-p", "8080:80"])?;
    serve(&d, "shut", &["--network", "routed", "--ip", "172.31.41.8"])?;
    serve(&d, "oo", &["--network", "open", "--ip", "172.31.42.9"])?;
    serve(&d, "uu", &["--network", "usual", "--ip", "172.31.43.9", "-p", "8080:80"])?;
    let bound = r#"[{"HostIp":"0.0.0.0","HostPort":""}]"#;
    d.is("rr", "{{json (index .NetworkSettings.Ports \"80/tcp\")}}", bound)?;
    d.is("rr", "{{len .NetworkSettings.Networks}}", "1")?;
    let links = d.inside("rr", &["ip", "-o", "link"])?;
    ensure!(!links.contains("eth1"), "a place on the host's bridge that nobody needs: {links}");

    until("the servers answer", DEADLINE, || asked(&d.t, "h2", "172.31.41.9"))?;
    until("the servers answer", DEADLINE, || asked(&d.t, "h1", "172.31.43.9"))?;
    ensure!(asked(&d.t, "h2", "172.31.41.9")? == there && asked(&d.t, "h2", "172.31.42.9")? == there);
    ensure!(asked(&d.t, "h2", "172.31.41.8").is_err(), "it publishes nothing");
    ensure!(asked(&d.t, "h2", "172.31.43.9").is_err(), "nat is closed to whoever has a route");
    asked(&d.t, "h2", &format!("{here}:8080")).context("the port of the host is the other's")?;
    for (name, works) in [("uu", true), ("oo", true)] {
        let got = d.inside(name, &["timeout", "2", "wget", "-q", "-O", "-", "http://172.31.41.9/cgi-bin/who"]);
        ensure!(got.is_ok() == works, "{name}: {got:?}");
    }
    isolated(&d)
}

fn isolated(d: &Docker) -> Result<()> {
    let subnet = ["--subnet", "172.31.44.0/24"];
    d.ok(&[&["network", "create", "--internal", "-o", &format!("{MODE4}=isolated")], &subnet[..], &["alone"]].concat())?;
    let shown = d.ok(&["network", "inspect", "--format", GATEWAYS, "alone"])?;
    ensure!(shown == "172.31.44.0/24 ;", "{shown}");
    d.sleeper("one", &["--network", "alone", "--ip", "172.31.44.8"])?;
    d.sleeper("two", &["--network", "alone"])?;
    d.inside("two", &["ping", "-c", "1", "-W", "1", "one"])?;
    d.is("one", "{{.NetworkSettings.Networks.alone.Gateway}}", "")?;
    let addresses = d.t.lab().run("h1", &["busybox", "ip", "-4", "-o", "addr"])?;
    ensure!(!addresses.contains("172.31.44."), "{addresses}");
    ensure!(
        d.t.lab().run("h1", &["busybox", "ping", "-c", "1", "-W", "1", "172.31.44.8"]).is_err(),
        "not even the host"
    );
    Ok(())
}

/// E-14, E-31: where one family is routed the host's port is taken in the other one alone, and what is bound to `0.0.0.0` leaves
/// IPv6 to others.
#[test]
fn docker_e_14_ports_of_one_family() -> Result<()> {
    if !can_make_hosts("docker_e_14_ports_of_one_family") {
        return Ok(());
    }
    let d = Docker { t: ClusterUnderTest::up("onefamily", 1, 1)? };
    let (here, here6) = (address(&d.t, "h1", "-4")?, address(&d.t, "h1", "-6")?);
    let subnets = ["--ipv6", "--subnet", "172.31.47.0/24", "--subnet", "fd00:47::/64"];
    d.ok(&[&["network", "create", "-o", &format!("{MODE4}=routed")], &subnets[..], &["half"]].concat())?;
    serve(&d, "six", &["--network", "half", "--hostname", "six", "-p", "8080:80"])?;
    let ports = "{{json (index .NetworkSettings.Ports \"80/tcp\")}}";
    d.is("six", ports, r#"[{"HostIp":"::","HostPort":"8080"},{"HostIp":"0.0.0.0","HostPort":""}]"#)?;
    d.no(125, "port is already allocated", &["run", "-d", "-p", "8080:80", IMAGE, "true"])?;
    serve(&d, "four", &["--hostname", "four", "-p", "0.0.0.0:8080:80"])?;
    d.is("four", ports, r#"[{"HostIp":"0.0.0.0","HostPort":"8080"}]"#)?;
    let server = |from: &str, at: &str| {
        let url = format!("http://{at}/cgi-bin/who");
        let ask = ["busybox", "timeout", "2", "wget", "-q", "-O", "-", &url];
        let said = d.t.lab().run(from, &ask)?;
        Ok::<_, anyhow::Error>(answer(&said).with_context(|| format!("{at} said {said:?}"))?.1)
    };
    for (name, at) in [("four", format!("{here}:8080")), ("six", format!("[{here6}]:8080"))] {
        until("both answer", DEADLINE, || {
            let said = server("h2", &at)?;
            ensure!(said == name, "{at}: {said}");
            Ok(())
        })?;
    }
    ensure!(server("h1", "127.0.0.1:8080")? == "four");
    Ok(())
}

/// N-21, E-35, E-14: the ports of a container that runs follow its networks at once: from ports of the host to its own address and
/// back, to nowhere where all its networks are internal; what somebody else has by then it does not get.
#[test]
fn docker_n_21_ports_follow_the_networks_of_a_container() -> Result<()> {
    if !can_make_hosts("docker_n_21_ports_follow_the_networks_of_a_container") {
        return Ok(());
    }
    let d = Docker { t: ClusterUnderTest::up("portsfollow", 1, 1)? };
    let here = address(&d.t, "h1", "-4")?;
    let subnet = "172.31.48.0/24";
    d.ok(&["network", "create", "usual"])?;
    d.ok(&["network", "create", "--internal", "inner"])?;
    d.ok(&["network", "create", "-o", &format!("{MODE4}=routed"), "--subnet", subnet, "routed"])?;
    d.t.lab().run("h2", &["busybox", "ip", "route", "add", subnet, "via", &here])?;
    serve(&d, "web", &["--network", "usual", "-p", "8080:80"])?;
    let on_host = || asked(&d.t, "h2", &format!("{here}:8080"));
    until("the port of the host answers", DEADLINE, on_host)?;

    d.ok(&["network", "connect", "--gw-priority", "1", "--ip", "172.31.48.9", "routed", "web"])?;
    until("its own address answers", DEADLINE, || asked(&d.t, "h2", "172.31.48.9"))?;
    ensure!(on_host().is_err(), "what is routed is on no port of the host");
    let routed = r#"[{"HostIp":"0.0.0.0","HostPort":""}]"#;
    d.is("web", "{{json (index .NetworkSettings.Ports \"80/tcp\")}}", routed)?;
    d.ok(&["network", "disconnect", "routed", "web"])?;
    until("the port of the host answers again", DEADLINE, on_host)?;
    ensure!(d.ok(&["port", "web", "80"])?.starts_with("0.0.0.0:8080"));

    d.ok(&["network", "connect", "inner", "web"])?;
    on_host().context("an internal network takes no port away")?;
    d.ok(&["network", "disconnect", "usual", "web"])?;
    ensure!(d.ok(&["port", "web"])?.is_empty() && on_host().is_err(), "all its networks are internal");
    d.ok(&["network", "connect", "usual", "web"])?;
    until("the port of the host answers once more", DEADLINE, on_host)?;

    d.ok(&["network", "disconnect", "usual", "web"])?;
    d.sleeper("taker", &["-p", "8080:80"])?;
    d.no(1, "Bind for 0.0.0.0:8080 failed: port is already allocated", &["network", "connect", "usual", "web"])?;
    d.is("web", "{{len .NetworkSettings.Networks}}", "1")?;
    Ok(())
}

/// E-31, E-14: a network of IPv6 alone: what it is, what its containers have, their names, and their ports over IPv6.
#[test]
fn docker_e_31_a_network_of_ipv6_alone() -> Result<()> {
    if !can_make_hosts("docker_e_31_a_network_of_ipv6_alone") {
        return Ok(());
    }
    let d = Docker { t: ClusterUnderTest::up("sixalone", 1, 1)? };
    let (here, there) = (address(&d.t, "h1", "-6")?, address(&d.t, "h2", "-6")?);
    d.no(1, "IPv4 or IPv6 must be enabled: give --ipv6 too", &["network", "create", "--ipv4=false", "neither"])?;
    let four = ["network", "create", "--ipv4=false", "--ipv6", "--subnet", "10.99.0.0/24", "four"];
    d.no(1, "the network has no IPv4", &four)?;
    d.ok(&["network", "create", "--ipv4=false", "--ipv6", "--subnet", "fd00:45::/64", "six"])?;
    let shown = d.ok(&["network", "inspect", "--format", "{{.EnableIPv4}} {{.EnableIPv6}} ", "six"])?;
    ensure!(shown.trim() == "false true", "{shown}");
    let shown = d.ok(&["network", "inspect", "--format", GATEWAYS, "six"])?;
    ensure!(shown == "fd00:45::/64 ;", "{shown}");
    d.no(125, "it has no IPv4", &["run", "-d", "--network", "six", "--ip", "10.99.0.9", IMAGE, "true"])?;

    serve(&d, "web", &["--network", "six", "--ip6", "fd00:45::9", "-p", "8080:80"])?;
    d.sleeper("one", &["--network", "six"])?;
    let of_place = |what: &str| format!("{{{{with .NetworkSettings.Networks.six}}}}{what}{{{{end}}}}");
    d.is("web", &of_place("{{.IPAddress}}/{{.IPPrefixLen}}-{{.Gateway}}"), "/0-")?;
    d.is("web", &of_place("{{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}}"), "fd00:45::9/64")?;
    let listed = d.ok(&["network", "inspect", "--format", "{{range .Containers}}<{{.IPv4Address}}>{{end}}", "six"])?;
    ensure!(listed == "<><>", "{listed}");
    let bound = r#"[{"HostIp":"::","HostPort":"8080"}]"#;
    d.is("web", "{{json (index .NetworkSettings.Ports \"80/tcp\")}}", bound)?;
    let addresses = d.inside("web", &["ip", "-4", "-o", "addr"])?;
    ensure!(addresses.lines().all(|line| line.contains("127.0.0.1")), "{addresses}");
    let hosts = d.inside("web", &["cat", "/etc/hosts"])?;
    ensure!(hosts.matches("fd00:45::9").count() == 1, "{hosts}");
    let found = d.inside("one", &["nslookup", "-type=aaaa", "web", "127.0.0.11"])?;
    ensure!(found.contains("fd00:45::9"), "{found}");
    d.inside("one", &["ping", "-6", "-c", "1", "-W", "1", "web"])?;

    let at = format!("[{here}]:8080");
    until("the server answers", DEADLINE, || asked(&d.t, "h2", &at))?;
    ensure!(asked(&d.t, "h2", &at)? == there, "it sees the client itself");
    until("it answers at ::1 too", DEADLINE, || asked(&d.t, "h1", "[::1]:8080"))?;
    until("the world is reached", DEADLINE, || d.inside("one", &["ping", "-6", "-c", "1", "-W", "1", &there]))?;
    d.ok(&["restart", "-t", "0", "web"])?;
    d.is("web", &of_place("{{.GlobalIPv6Address}}"), "fd00:45::9")?;
    until("the server answers again", DEADLINE, || asked(&d.t, "h2", &at))?;
    Ok(())
}

/// E-31: under whose address the world sees what leaves, and a bridge without an IPv4 address.
#[test]
fn docker_e_31_sources_and_bridges_without_an_address() -> Result<()> {
    if !can_make_hosts("docker_e_31_sources_and_bridges_without_an_address") {
        return Ok(());
    }
    let d = Docker { t: ClusterUnderTest::up("sources", 1, 1)? };
    let there = address(&d.t, "h2", "-4")?;
    let own = "198.51.100.7";
    d.t.lab().run("h1", &["busybox", "ip", "addr", "add", &format!("{own}/32"), "dev", "lo"])?;
    let here = address(&d.t, "h1", "-4")?;
    d.t.lab().run("h2", &["busybox", "ip", "route", "add", &format!("{own}/32"), "via", &here])?;
    d.ok(&["network", "create", "-o", &format!("com.docker.network.host_ipv4={own}"), "seen"])?;
    d.no(1, "is no IPv4 address", &["network", "create", "-o", "com.docker.network.host_ipv4=fd00::1", "bad"])?;
    d.sleeper("one", &["--network", "seen"])?;
    d.inside("one", &["ping", "-c", "1", "-W", "1", &there])?;
    let rules = d.t.lab().run("h1", &["nft", "list", "chain", "inet", "rswarm", "bridges"])?;
    ensure!(rules.contains(&format!("snat ip to {own}")), "{rules}");

    let inhibit = ["-o", "com.docker.network.bridge.inhibit_ipv4=true", "--subnet", "172.31.46.0/24"];
    d.ok(&[&["network", "create"], &inhibit[..], &["bare"]].concat())?;
    d.sleeper("two", &["--network", "bare"])?;
    d.is("two", "{{.NetworkSettings.Networks.bare.Gateway}}", "172.31.46.1")?;
    ensure!(d.inside("two", &["ip", "route"])?.contains("default via 172.31.46.1"));
    let addresses = d.t.lab().run("h1", &["busybox", "ip", "-4", "-o", "addr"])?;
    ensure!(!addresses.contains("172.31.46."), "{addresses}");
    Ok(())
}
