//! IPv6 in networks of one host, driven by the docker CLI; the kernel of the host and the other host are the witnesses.

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::ExecOptions;
use nix::sys::signal::Signal;

use crate::{
    can_make_hosts,
    containers::Docker,
    hosts::{SERVER, answer},
};

const NETWORK: [&str; 7] =
    ["--ipv6", "--subnet", "fd00:31::/64", "--gateway", "fd00:31::a", "--subnet", "172.31.31.0/24"];
/// A container's own addresses of the outer link, as `{{…}}` of `docker inspect`.
const SIX: &str =
    "{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}/{{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}}{{end}}";

/// The host's own IPv6 address on the link between hosts.
fn address(t: &ClusterUnderTest, host: &str) -> Result<String> {
    let listed = t.lab().run(host, &["busybox", "ip", "-6", "-o", "addr", "show", "dev", "eth0"])?;
    let mut words = listed.split_whitespace().filter_map(|word| word.split_once('/'));
    Ok(words.find(|(address, _)| address.starts_with("fd98:")).context("an IPv6 address of the lab")?.0.to_owned())
}

fn pings(d: &Docker, name: &str, to: &str) -> Result<()> {
    d.inside(name, &["ping", "-6", "-c", "1", "-W", "1", to]).map(drop)
}

/// Whom a server at this place sees as its client.
fn asked(t: &ClusterUnderTest, from: &str, at: &str) -> Result<String> {
    let url = format!("http://{at}/cgi-bin/who");
    let ask = ["busybox", "timeout", "2", "wget", "-q", "-O", "-", &url];
    let output = t.lab().exec(from, &ask, &ExecOptions::default())?;
    ensure!(output.success(), "{url}: {}{}", output.stdout, output.stderr);
    let (client, _) = answer(&output.stdout).with_context(|| format!("{url} said {:?}", output.stdout))?;
    Ok(client.trim_matches(['[', ']']).to_owned())
}

fn create(d: &Docker, name: &str, more: &[&str]) -> Result<String> {
    d.ok(&[&["network", "create"], more, &[name]].concat())
}

/// E-31, E-17, E-36: what a network with IPv6 is, and what a container in it has: addresses, routes, names.
#[test]
fn docker_e_31_a_network_with_ipv6() -> Result<()> {
    if !can_make_hosts("docker_e_31_a_network_with_ipv6") {
        return Ok(());
    }
    let d = Docker::up("six")?;
    create(&d, "six", &NETWORK)?;
    let config = "{{.EnableIPv4}} {{.EnableIPv6}}{{range .IPAM.Config}} {{.Subnet}} {{.Gateway}}{{end}}";
    let shown = d.ok(&["network", "inspect", "--format", config, "six"])?;
    ensure!(shown == "true true 172.31.31.0/24  fd00:31::/64 fd00:31::a", "{shown}");
    create(&d, "chosen", &["-o", "com.docker.network.enable_ipv6=true"])?;
    let shown = d.ok(&["network", "inspect", "--format", config, "chosen"])?;
    ensure!(shown.starts_with("true true 172.") && shown.contains(" fd") && shown.contains("::/64 fd"), "{shown}");
    refusals(&d)?;

    d.sleeper("one", &["--network", "six", "--ip6", "fd00:31::9", "--network-alias", "uno"])?;
    d.is("one", SIX, "fd00:31::9/64 fd00:31::a")?;
    d.is("one", "{{.NetworkSettings.Networks.six.IPAMConfig.IPv6Address}}", "fd00:31::9")?;
    d.sleeper("two", &["--network", "six"])?;
    d.sleeper("plain", &[])?;
    kernel(&d)?;
    names(&d)?;
    let of_two = d.field("two", SIX)?;
    let listed = d.ok(&["network", "inspect", "--format", "{{range .Containers}}{{.IPv6Address}} {{end}}", "six"])?;
    ensure!(listed.contains("fd00:31::9/64") && listed.contains(of_two.split(' ').next().context("one")?), "{listed}");
    d.no(125, "already in use", &["run", "-d", "--network", "six", "--ip6", "fd00:31::9", IMAGE, "true"])?;
    d.no(125, "IP address fd00:32::9", &["run", "-d", "--network", "six", "--ip6", "fd00:32::9", IMAGE, "true"])?;

    d.ok(&["restart", "-t", "0", "one", "two"])?;
    d.is("one", SIX, "fd00:31::9/64 fd00:31::a")?;
    d.is("two", SIX, &of_two)?;
    pings(&d, "two", "one")?;
    d.t.cluster.stop_daemon("h1", Signal::SIGKILL)?;
    d.t.cluster.start_daemon("h1")?;
    d.is("two", SIX, &of_two)?;
    kernel(&d)?;
    pings(&d, "two", "one")?;
    connecting(&d)
}

/// Nothing of these is half made.
fn refusals(d: &Docker) -> Result<()> {
    let before = d.ok(&["network", "ls", "-q"])?;
    let links = d.t.lab().run("h1", &["busybox", "ip", "-o", "link"])?;
    for (flags, part) in [
        (&["--ipv6", "--subnet", "fd00:31::/80"][..], "overlaps fd00:31::/64"),
        (&["--ipv6", "--subnet", "fd98::/16"], "overlaps fd98:"),
        (&["--subnet", "fd00:32::/64"], "the network has no IPv6; give --ipv6 too"),
        (&["--ipv6", "--subnet", "fe80::/64"], "addresses that are each link's own"),
        (&["--ipv6", "--subnet", "fd00:32::/64", "--subnet", "fd00:33::/64"], "has one IPv6 subnet"),
        (&["--ipv6", "--opt", "com.docker.network.driver.mtu=1200"], "MTU 1200"),
        (&["--ipv4=false"], "IPv4 or IPv6 must be enabled: give --ipv6 too"),
        (&["-o", "com.docker.network.enable_ipv6=perhaps"], "is not a valid bool"),
    ] {
        d.no(1, part, &[&["network", "create"], flags, &["bad"]].concat())?;
    }
    ensure!(d.ok(&["network", "ls", "-q"])? == before, "no network more");
    let after = d.t.lab().run("h1", &["busybox", "ip", "-o", "link"])?;
    ensure!(after.lines().count() == links.lines().count(), "no link more: {after}");
    Ok(())
}

/// Addresses are there at once, the way out leads over the bridge, and who has no IPv6 has it off.
fn kernel(d: &Docker) -> Result<()> {
    let addresses = d.inside("one", &["ip", "-6", "-o", "addr", "show", "dev", "eth0"])?;
    ensure!(addresses.contains("fd00:31::9/64") && addresses.contains("fe80::"), "{addresses}");
    ensure!(!addresses.contains("tentative") && !addresses.contains("dadfailed"), "{addresses}");
    let routes = d.inside("one", &["ip", "-6", "route"])?;
    ensure!(routes.contains("default via fd00:31::a dev eth0"), "{routes}");
    let off = |name: &str| d.inside(name, &["cat", "/proc/sys/net/ipv6/conf/eth0/disable_ipv6"]);
    ensure!(off("one")?.trim() == "0" && off("plain")?.trim() == "1");
    let listens = d.inside("one", &["cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"])?;
    ensure!(listens.trim() == "0", "deaf to router advertisements");
    let bridge = d.t.lab().run("h1", &["busybox", "ip", "-6", "-o", "addr"])?;
    ensure!(bridge.contains("fd00:31::a/64"), "{bridge}");
    let forwards = d.t.lab().run("h1", &["cat", "/proc/sys/net/ipv6/conf/all/forwarding"])?;
    ensure!(forwards.trim() == "1");
    Ok(())
}

fn names(d: &Docker) -> Result<()> {
    let own = d.field("one", "{{slice .Id 0 12}}")?;
    let hosts = d.inside("one", &["cat", "/etc/hosts"])?;
    ensure!(hosts.contains(&format!("fd00:31::9\t{own}\n")), "{hosts}");
    for name in ["one", "uno", &own] {
        let found = d.inside("two", &["nslookup", "-type=aaaa", name, "127.0.0.11"])?;
        ensure!(found.contains("fd00:31::9"), "{name}: {found}");
        pings(d, "two", name)?;
    }
    let found = d.inside("two", &["nslookup", "fd00:31::9", "127.0.0.11"])?;
    ensure!(found.contains("one"), "{found}");
    Ok(())
}

/// E-35: a place in it comes and goes while the container runs.
fn connecting(d: &Docker) -> Result<()> {
    d.no(1, "already in use", &["network", "connect", "--ip6", "fd00:31::9", "six", "plain"])?;
    d.no(1, "cannot be a container's", &["network", "connect", "--ip6", "fd00:31::a", "six", "plain"])?;
    d.is("plain", "{{len .NetworkSettings.Networks}}", "1")?;
    d.ok(&["network", "connect", "--ip6", "fd00:31::77", "--alias", "late", "six", "plain"])?;
    d.is("plain", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}}", "fd00:31::77")?;
    pings(d, "two", "late")?;
    pings(d, "plain", "one")?;
    ensure!(d.inside("plain", &["ip", "-6", "route"])?.contains("default via fd00:31::a dev eth1"));
    d.ok(&["network", "disconnect", "six", "plain"])?;
    ensure!(d.inside("plain", &["ip", "-6", "route"])?.trim().is_empty());
    create(d, "four", &[])?;
    d.no(1, "it has no IPv6", &["network", "connect", "--ip6", "fd00:31::77", "four", "plain"])?;
    for name in ["one", "two", "plain"] {
        d.ok(&["rm", "-f", name])?;
    }
    d.ok(&["network", "prune", "-f"])?;
    let left = d.t.lab().run("h1", &["busybox", "ip", "-o", "link"])?;
    ensure!(!left.contains("br-"), "{left}");
    Ok(())
}

/// E-14, E-30, E-37: masquerading, isolation and published ports are of both families.
#[test]
fn docker_e_14_ports_and_isolation_over_ipv6() -> Result<()> {
    if !can_make_hosts("docker_e_14_ports_and_isolation_over_ipv6") {
        return Ok(());
    }
    let d = Docker { t: ClusterUnderTest::up("sixports", 1, 1)? };
    let (here, there) = (address(&d.t, "h1")?, address(&d.t, "h2")?);
    create(&d, "six", &NETWORK)?;
    create(&d, "other", &["--ipv6", "--subnet", "fd00:32::/64"])?;
    create(&d, "inner", &["--ipv6", "--subnet", "fd00:33::/64", "--internal"])?;
    d.sleeper("one", &["--network", "six", "--ip6", "fd00:31::9"])?;
    d.sleeper("far", &["--network", "other", "--ip6", "fd00:32::9"])?;
    d.sleeper("in", &["--network", "inner", "--ip6", "fd00:33::9"])?;
    d.sleeper("in2", &["--network", "inner"])?;

    // h2 has no route to the container: the answer comes to the host's own address
    until("the world is reached", DEADLINE, || pings(&d, "one", &there))?;
    pings(&d, "in2", "in")?;
    ensure!(pings(&d, "in", &there).is_err(), "out of an internal network");
    ensure!(d.inside("in", &["ip", "-6", "route"])?.lines().all(|route| !route.starts_with("default")));
    ensure!(pings(&d, "one", "fd00:32::9").is_err() && pings(&d, "far", "fd00:31::9").is_err(), "between bridges");
    ensure!(pings(&d, "one", "fd00:33::9").is_err() && pings(&d, "in", "fd00:31::9").is_err(), "of an internal one");
    d.t.lab().run("h2", &["busybox", "ip", "-6", "route", "add", "fd00:31::/64", "via", &here])?;
    let ping = ["busybox", "ping", "-6", "-c", "1", "-W", "1", "fd00:31::9"];
    ensure!(d.t.lab().run("h2", &ping).is_err(), "whoever has a route begins nothing in it");
    let rules = d.t.lab().run("h1", &["nft", "list", "chain", "inet", "rswarm", "bridges"])?;
    for subnet in ["fd00:31::/64", "fd00:32::/64"] {
        ensure!(rules.contains(&format!("ip6 saddr {subnet} ip6 daddr != {subnet}")), "{rules}");
    }
    ensure!(!rules.contains("fd00:33"), "{rules}");

    ports(&d, &here, &there)
}

fn ports(d: &Docker, here: &str, there: &str) -> Result<()> {
    let own = format!("[{here}]:8082:80");
    let web = ["run", "-d", "--name", "web", "--network", "six", "-p", "8080:80", "-p", "[::1]:8081:80", "-p", &own];
    d.ok(&[&web[..], &[IMAGE, "sh", "-c", SERVER]].concat())?;
    let four = ["run", "-d", "--name", "four", "-p", "8090:80", IMAGE, "sh", "-c", SERVER];
    d.ok(&four)?;
    let shown = d.ok(&["port", "web"])?;
    for line in ["0.0.0.0:8080", "[::]:8080", "[::1]:8081", &own[..own.len() - 3]] {
        ensure!(shown.contains(&format!("80/tcp -> {line}")), "{line}: {shown}");
    }
    let both = r#"[{"HostIp":"0.0.0.0","HostPort":"8090"},{"HostIp":"::","HostPort":"8090"}]"#;
    d.is("four", "{{json (index .NetworkSettings.Ports \"80/tcp\")}}", both)?;
    ensure!(d.ok(&["ps", "--format", "{{.Ports}}"])?.contains("[::]:8090->80/tcp"));

    let t = &d.t;
    let at = |port: u16| format!("[{here}]:{port}");
    until("the server answers", DEADLINE, || asked(t, "h1", "127.0.0.1:8080"))?;
    // straight to the container, which sees the client itself
    for port in [8080, 8082] {
        let seen = asked(t, "h2", &at(port))?;
        ensure!(seen == *there, "port {port} sees {seen} instead of {there}");
    }
    for at in ["[::1]:8080", "[::1]:8081", &at(8080), &at(8082)] {
        asked(t, "h1", at)?;
    }
    ensure!(asked(t, "h2", &at(8081)).is_err(), "bound to the loopback");
    // itself and its neighbours, over the host's address
    for name in ["web", "one", "far"] {
        d.inside(name, &["timeout", "2", "wget", "-q", "-O", "-", &format!("http://{}/cgi-bin/who", at(8080))])?;
    }
    // who has no IPv6 is reached over it all the same
    asked(t, "h2", &at(8090))?;
    asked(t, "h1", "[::1]:8090")?;
    d.ok(&["rm", "-f", "web"])?;
    ensure!(asked(t, "h2", &at(8080)).is_err(), "it is gone");
    Ok(())
}
