//! Places of single containers in networks as they are asked for, driven by the docker CLI (parity E-17, E-31, E-35).

use anyhow::{Result, ensure};
use it::{DEADLINE, IMAGE, until};

use crate::{can_make_hosts, containers::Docker};

fn asks(d: &Docker, from: &str, name: &str) -> Result<String> {
    d.inside(from, &["nslookup", "-type=a", name, "127.0.0.11"])
}

/// E-35, E-17: the priority chooses the way out; links, link-local addresses and options come and go with the place, and are
/// there again after a restart.
#[test]
fn docker_e_35_a_place_as_it_is_asked_for() -> Result<()> {
    if !can_make_hosts("docker_e_35_a_place_as_it_is_asked_for") {
        return Ok(());
    }
    let d = Docker::up("places")?;
    d.ok(&["network", "create", "--subnet", "172.31.1.0/24", "first"])?;
    d.ok(&["network", "create", "--subnet", "172.31.2.0/24", "second"])?;
    d.sleeper("one", &["--network", "name=first,mac-address=02:42:11:22:33:55"])?;
    d.is("one", "{{.NetworkSettings.Networks.first.MacAddress}}", "02:42:11:22:33:55")?;
    d.sleeper("two", &["--network", "second"])?;
    let place = ["--link", "one:eins", "--link-local-ip", "169.254.9.9", "--driver-opt", "a=b", "--gw-priority", "5"];
    d.ok(&[&["network", "connect"], &place[..], &["first", "two"]].concat())?;
    let given = || {
        let format = "{{with .NetworkSettings.Networks.first}}{{.Links}} {{.IPAMConfig.LinkLocalIPs}} {{.DriverOpts}} {{.GwPriority}}{{end}}";
        d.is("two", format, "[one:eins] [169.254.9.9] map[a:b] 5")?;
        let routes = d.inside("two", &["ip", "route"])?;
        ensure!(routes.contains("default via 172.31.1.1 dev eth1"), "{routes}");
        let addresses = d.inside("two", &["ip", "-4", "-o", "addr", "show", "dev", "eth1"])?;
        ensure!(addresses.contains("169.254.9.9/16"), "{addresses}");
        let at = d.field("one", "{{.NetworkSettings.Networks.first.IPAddress}}")?;
        ensure!(asks(&d, "two", "eins")?.contains(&at));
        Ok(())
    };
    until("the place is as it was asked for", DEADLINE, given)?;
    d.ok(&["restart", "-t", "0", "two"])?;
    until("the same after a restart", DEADLINE, given)?;
    d.ok(&["network", "disconnect", "first", "two"])?;
    ensure!(d.inside("two", &["ip", "route"])?.contains("default via 172.31.2.1 dev eth0"));
    ensure!(asks(&d, "two", "eins").is_err(), "the name went with the place");
    d.ok(&["network", "connect", "--gw-priority", "-1", "first", "two"])?;
    ensure!(d.inside("two", &["ip", "route"])?.contains("default via 172.31.2.1 dev eth0"), "the other is higher");
    d.sleeper("three", &["--network", "second", "--network", "first"])?;
    let routes = d.inside("three", &["ip", "route"])?;
    ensure!(routes.contains("default via 172.31.1.1 dev eth1"), "the first by name, whatever its interface: {routes}");

    let bad = |part: &str, flags: &[&str]| d.no(1, part, &[&["network", "connect"], flags, &["first", "one"]].concat());
    d.ok(&["network", "disconnect", "first", "one"])?;
    bad("is not of 169.254.0.0/16 or fe80::/10", &["--link-local-ip", "10.1.1.1"])?;
    bad("it has no IPv6", &["--ip6", "fd00::5"])?;
    d.is("one", "{{len .NetworkSettings.Networks}}", "0")?;
    Ok(())
}

/// E-17: interfaces have the names and settings that their places and networks ask for, also after restarts; what is no setting
/// of an interface is refused before anything is made. Older versions of the API show more aliases (E-28).
#[test]
fn docker_e_17_names_and_settings_of_interfaces() -> Result<()> {
    if !can_make_hosts("docker_e_17_names_and_settings_of_interfaces") {
        return Ok(());
    }
    let d = Docker::up("ifnames")?;
    d.ok(&["network", "create", "first"])?;
    let prefix = "com.docker.network.container_iface_prefix=wan";
    d.ok(&["network", "create", "--subnet", "172.31.9.0/24", "--opt", prefix, "second"])?;
    d.no(1, "interface name", &["network", "create", "--opt", "com.docker.network.container_iface_prefix=a/b", "bad"])?;
    let place = |name: &str, setting: &str| {
        let option = "driver-opt=com.docker.network.endpoint";
        format!("name=first,{option}.ifname={name},{option}.sysctls={setting}")
    };
    let martians = "net.ipv4.conf.IFNAME.log_martians=1";
    d.sleeper("named", &["--network", &place("lan", martians), "--network", "second"])?;
    let stands = || {
        let links = d.inside("named", &["ip", "-o", "link"])?;
        let of = |name: &str| links.contains(&format!(" {name}@"));
        ensure!(of("lan") && of("wan0") && !of("eth0"), "{links}");
        let found = d.inside("named", &["cat", "/proc/sys/net/ipv4/conf/lan/log_martians"])?;
        ensure!(found.trim() == "1", "log_martians is {found}");
        Ok(())
    };
    stands()?;
    d.ok(&["restart", "-t", "0", "named"])?;
    until("the same after a restart", DEADLINE, stands)?;
    d.t.cluster.stop_daemon("h1", nix::sys::signal::Signal::SIGKILL)?;
    d.t.cluster.start_daemon("h1")?;
    until("the same under another daemon", DEADLINE, stands)?;
    d.ok(&["network", "disconnect", "second", "named"])?;
    let option = "com.docker.network.endpoint.ifname=dmz";
    d.ok(&["network", "connect", "--driver-opt", option, "second", "named"])?;
    ensure!(d.inside("named", &["ip", "-o", "link"])?.contains(" dmz@"));
    d.ok(&["network", "disconnect", "second", "named"])?;
    let taken = "com.docker.network.endpoint.ifname=lan";
    d.no(1, "interface name lan", &["network", "connect", "--driver-opt", taken, "second", "named"])?;
    let run = |place: &str| ["run", "--rm", "--network", place, IMAGE, "true"].map(str::to_owned);
    for (bad, part) in [
        (place("lan", "net.ipv4.ip_forward=1"), "unrecognised network interface sysctl"),
        (place("a/b", martians), "interface name \"a/b\""),
        (place("lan", "net.ipv4.conf.IFNAME.no_such=1"), "no_such"),
    ] {
        let words = run(&bad);
        d.no(125, part, &words.each_ref().map(String::as_str))?;
    }

    let aliases = |version: &str| {
        let shown = d.t.first()?.get(&format!("/{version}/containers/named/json"))?;
        Ok::<_, anyhow::Error>(shown["NetworkSettings"]["Networks"]["first"]["Aliases"].clone())
    };
    let id: String = d.field("named", "{{.Id}}")?.chars().take(12).collect();
    ensure!(aliases("v1.45")?.is_null() && aliases("v1.44")? == serde_json::json!([id]), "{}", aliases("v1.44")?);
    Ok(())
}

/// E-31: a network of one host may be called almost anything.
#[test]
fn docker_e_31_names_of_networks() -> Result<()> {
    if !can_make_hosts("docker_e_31_names_of_networks") {
        return Ok(());
    }
    let d = Docker::up("netnames")?;
    for name in ["my net", "a.b", "-", "Größe"] {
        d.ok(&["network", "create", "--", name])?;
        ensure!(d.ok(&["network", "inspect", "--format", "{{.Name}}", "--", name])? == name);
    }
    d.no(1, "Name: name must not be blank", &["network", "create", " "])?;
    d.no(1, "DNS name component", &["network", "create", "-d", "overlay", "a.c"])?;
    d.sleeper("in", &["--network", "a.b"])?;
    d.t.cluster.stop_daemon("h1", nix::sys::signal::Signal::SIGKILL)?;
    d.t.cluster.start_daemon("h1")?;
    ensure!(!d.field("in", "{{(index .NetworkSettings.Networks \"a.b\").IPAddress}}")?.is_empty());
    d.ok(&["rm", "-f", "in"])?;
    d.ok(&["network", "rm", "--", "my net", "a.b", "-", "Größe"])?;
    Ok(())
}

/// E-31, E-16: a bridge has the name that its user gave it, keeps its containers apart and its ports to an address where that is
/// asked for; a network is found by the beginning of its id, and its container's namespace by the key that inspect shows.
#[test]
fn docker_e_31_options_of_bridges() -> Result<()> {
    if !can_make_hosts("docker_e_31_options_of_bridges") {
        return Ok(());
    }
    let d = Docker::up("bridgeopts")?;
    let named = |name: &str| format!("com.docker.network.bridge.name={name}");
    let create = |name: &str, options: &[&str]| {
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", option]).collect();
        d.ok(&[&["network", "create"], &options[..], &[name]].concat())
    };
    let (icc, binding) =
        ("com.docker.network.bridge.enable_icc=false", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1");
    let id = create("mine", &[&named("br-mine"), icc, binding])?;
    let host = |script: &str| d.t.lab().run("h1", &["sh", "-c", script]);
    let index = host("cat /sys/class/net/br-mine/ifindex")?;
    d.no(1, "network mine has it", &["network", "create", "-o", &named("br-mine"), "other"])?;
    d.no(1, "this host has an interface of that name", &["network", "create", "-o", &named("eth0"), "other"])?;
    d.no(1, "names that begin with rswarm are rswarm's own", &["network", "create", "-o", &named("rswarm0"), "other"])?;

    d.sleeper("one", &["--network", &id[..12], "-p", "80"])?;
    d.sleeper("two", &["--network", &id])?;
    let address = |name: &str| d.field(name, "{{.NetworkSettings.Networks.mine.IPAddress}}");
    let ping = |to: &str| d.inside("one", &["ping", "-c", "1", "-W", "1", to]);
    ensure!(ping(&address("two")?).is_err(), "it is kept apart");
    ping(&d.ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "mine"])?)?;
    let ports = d.ok(&["port", "one"])?;
    ensure!(ports.starts_with("80/tcp -> 127.0.0.1:") && ports.lines().count() == 1, "{ports}");
    let inside = host(&format!("nsenter --net={} ip addr", d.field("one", "{{.NetworkSettings.SandboxKey}}")?))?;
    ensure!(inside.contains(&address("one")?), "{inside}");

    d.t.cluster.stop_daemon("h1", nix::sys::signal::Signal::SIGKILL)?;
    d.t.cluster.start_daemon("h1")?;
    until("the network is known again", DEADLINE, || d.ok(&["network", "inspect", "mine"]).map(drop))?;
    ensure!(host("cat /sys/class/net/br-mine/ifindex")? == index, "the bridge was made anew");
    d.ok(&["rm", "-f", "one", "two"])?;
    d.ok(&["network", "rm", &id[..8]])?;
    ensure!(!host("ls /sys/class/net")?.contains("br-mine"));
    Ok(())
}
