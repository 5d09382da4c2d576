//! Networks that end at a host: host, none, bridges and macvlan, for services and for the host itself. The kernel
//! of each host is the witness.

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, TaskRow, until};
use lab::ExecOptions;
use serde_json::json;

use crate::can_make_hosts;

/// Runs a command on a host; gives what it printed.
fn on(t: &ClusterUnderTest, host: &str, command: &[&str]) -> Result<String> {
    let output = t.lab().exec(host, command, &ExecOptions::default())?;
    ensure!(output.success(), "{command:?} on {host}: {}{}", output.stdout, output.stderr);
    Ok(output.stdout)
}

/// Runs a command inside a task's container.
fn inside(t: &ClusterUnderTest, host: &str, task: &TaskRow, command: &[&str]) -> Result<String> {
    let pid = task.pid.to_string();
    on(t, host, &[&["nsenter", "-t", &pid, "-n", "-m", "-u"], command].concat())
}

fn on_host(t: &ClusterUnderTest, service: &str, host: &str, more: &[&str]) -> Result<TaskRow> {
    let constraint = format!("node.hostname=={host}");
    t.create(service, 1, &[&["--constraint", &constraint], more].concat())?;
    Ok(t.running(service, 1)?.0.remove(0))
}

/// The container's first IPv4 address but for loopback.
fn address(t: &ClusterUnderTest, host: &str, task: &TaskRow) -> Result<String> {
    let listed = inside(t, host, task, &["busybox", "ip", "-4", "-o", "addr"])?;
    let addresses = listed.lines().filter_map(|line| line.split_whitespace().nth(3));
    let address = addresses.filter_map(|word| Some(word.split_once('/')?.0)).find(|a| !a.starts_with("127."));
    address.map(str::to_owned).with_context(|| format!("no address: {listed}"))
}

fn pings(t: &ClusterUnderTest, host: &str, task: &TaskRow, to: &str) -> bool {
    inside(t, host, task, &["busybox", "ping", "-c", "1", "-W", "1", to]).is_ok()
}

/// N-11, E-17: `host` is the host's own namespace, name and files; `none` a loopback; `bridge` the host's bridge.
#[test]
fn net_n_11_predefined_networks() -> Result<()> {
    if !can_make_hosts("net_n_11_predefined_networks") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("predefined", 1, 1)?;
    let shared = on_host(&t, "shared", "h2", &["--network", "host"])?;
    let of_host = on(&t, "h2", &["readlink", "/proc/self/ns/net"])?;
    ensure!(on(&t, "h2", &["readlink", &format!("/proc/{}/ns/net", shared.pid)])? == of_host, "the host's namespace");
    let name = |task: &TaskRow| inside(&t, "h2", task, &["busybox", "hostname"]);
    ensure!(name(&shared)?.trim() == "h2", "the host's name: {}", name(&shared)?);
    let resolv_conf = inside(&t, "h2", &shared, &["busybox", "cat", "/etc/resolv.conf"])?;
    ensure!(resolv_conf == on(&t, "h2", &["cat", "/etc/resolv.conf"])?, "the host's resolvers: {resolv_conf}");

    let alone = on_host(&t, "alone", "h2", &["--network", "none"])?;
    let links = inside(&t, "h2", &alone, &["busybox", "ip", "-o", "link"])?;
    ensure!(links.lines().count() == 1 && links.contains("lo:") && links.contains("UP"), "loopback alone: {links}");

    let bridged = on_host(&t, "bridged", "h2", &["--network", "bridge"])?;
    let own = address(&t, "h2", &bridged)?;
    let shown = t.api("h2")?.get("/networks/bridge")?;
    let there = &shown["Containers"][&bridged.container];
    ensure!(there["IPv4Address"].as_str().is_some_and(|a| a.starts_with(&format!("{own}/"))), "{shown}");

    let host_and = t.cli_fails("h1", &["service", "create", "-d", "--network", "host", "--network", "none", IMAGE])?;
    ensure!(host_and.contains("can join no other network"), "{host_and}");
    let port = "published=80,target=80,mode=host";
    let with_port = t.cli_fails("h1", &["service", "create", "-d", "--network", "host", "-p", port, IMAGE])?;
    ensure!(with_port.contains("publishes port 80 and asks for network host"), "{with_port}");
    Ok(())
}

/// N-10, E-31: bridges of the cluster are each host's own: names inside, the world outside, nothing between two.
#[test]
fn net_n_10_bridges_are_apart() -> Result<()> {
    if !can_make_hosts("net_n_10_bridges_are_apart") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("bridges", 1, 1)?;
    let bridge = ["network", "create", "-d", "bridge", "--scope", "swarm"];
    t.cli("h1", &[&bridge[..], &["--subnet", "172.30.5.0/24", "one"]].concat())?;
    t.cli("h1", &[&bridge[..], &["two"]].concat())?;
    let web = on_host(&t, "web", "h2", &["--network", "one"])?;
    let near = on_host(&t, "near", "h2", &["--network", "name=one,alias=neighbour"])?;
    let far = on_host(&t, "far", "h2", &["--network", "two"])?;
    let (at_web, at_near, at_far) = (address(&t, "h2", &web)?, address(&t, "h2", &near)?, address(&t, "h2", &far)?);
    ensure!(at_web.starts_with("172.30.5.") && at_near.starts_with("172.30.5."), "{at_web} {at_near}");
    until("names lead to neighbours", DEADLINE, || {
        for name in ["near", "tasks.near", "near.1", "neighbour"] {
            let found = inside(&t, "h2", &web, &["busybox", "nslookup", "-type=a", name, "127.0.0.11"])?;
            ensure!(found.contains(&at_near), "{name}: {found}");
        }
        Ok(())
    })?;
    ensure!(pings(&t, "h2", &web, "near"), "by name");
    for (from, to) in [(&web, &at_far), (&far, &at_web)] {
        ensure!(!pings(&t, "h2", from, to), "{to} is reached from the other bridge");
    }
    let own = on(&t, "h2", &["sh", "-c", "ip -4 -o addr show dev eth0 | awk '{print $4}' | cut -d/ -f1"])?;
    ensure!(pings(&t, "h2", &web, own.trim()), "the host itself at {own}");
    let first = on(&t, "h1", &["sh", "-c", "ip -4 -o addr show dev eth0 | awk '{print $4}' | cut -d/ -f1"])?;
    ensure!(pings(&t, "h2", &web, first.trim()), "another host at {first}, which has no route back");
    let on_h2 = on(&t, "h2", &["sh", "-c", "ip -o link show type bridge | grep -c rs-br"])?;
    ensure!(on_h2.trim() == "2", "a bridge for each network: {on_h2}");
    t.cli("h1", &["service", "rm", "web", "near", "far"])?;
    until("the bridges go with their last containers", DEADLINE, || {
        let left = on(&t, "h2", &["ip", "-o", "link", "show", "type", "bridge"])?;
        ensure!(!left.contains("rs-br"), "{left}");
        Ok(())
    })?;
    t.cli("h1", &["network", "rm", "one", "two"]).map(drop)
}

/// N-10: macvlan over two hosts: neighbours on the hosts' wire. Once with the cluster's own addresses, once with
/// each node's own configuration; a node without one says so.
#[test]
fn net_n_10_macvlan_on_the_hosts_wire() -> Result<()> {
    if !can_make_hosts("net_n_10_macvlan_on_the_hosts_wire") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("macvlan", 1, 1)?;
    let macvlan = ["network", "create", "-d", "macvlan", "--scope", "swarm"];
    t.cli("h1", &[&macvlan[..], &["--subnet", "198.51.100.0/24", "-o", "parent=eth0", "wire"]].concat())?;
    let here = on_host(&t, "here", "h1", &["--network", "wire"])?;
    let there = on_host(&t, "there", "h2", &["--network", "wire"])?;
    let far = address(&t, "h2", &there)?;
    ensure!(far.starts_with("198.51.100.") && far != address(&t, "h1", &here)?, "{far}");
    until("the hosts' wire carries it", DEADLINE, || {
        ensure!(pings(&t, "h1", &here, &far), "no answer from {far}");
        Ok(())
    })?;
    let seen = inside(&t, "h1", &here, &["busybox", "ip", "neigh", "show", &far])?;
    ensure!(seen.contains("02:42:c6:33:64"), "under a MAC address of its own: {seen}");

    t.cli("h1", &[&macvlan[..], &["--config-from", "conf", "own"]].concat())?;
    t.create("late", 1, &["--network", "own", "--constraint", "node.hostname==h2"])?;
    until("a node without the configuration says so", DEADLINE, || {
        let tasks = t.tasks("late")?;
        ensure!(
            tasks.iter().any(|task| {
                let said = format!("{} {}", task.error, task.message);
                said.contains("configuration network conf not found on this host")
            }),
            "{tasks:#?}"
        );
        Ok(())
    })?;
    let config = ["network", "create", "--config-only", "--subnet", "203.0.113.0/24", "--ip-range", "203.0.113.32/28"];
    t.cli("h2", &[&config[..], &["-o", "parent=eth0", "conf"]].concat())?;
    let (tasks, _) = t.running("late", 1)?;
    ensure!(address(&t, "h2", &tasks[0])?.starts_with("203.0.113."), "of the node's own configuration");

    let absent = t.cli_fails(
        "h2",
        &["network", "create", "-d", "macvlan", "--subnet", "192.0.2.0/24", "-o", "parent=nope0", "x"],
    )?;
    ensure!(absent.contains("this host has no interface nope0"), "{absent}");
    Ok(())
}

/// E-33: ipvlan where the kernel has none: said with what to do, to who makes a network of a host and of the task's failure.
/// Where it has, `tests/vm/run --ipvlan` shows it at work.
#[test]
fn net_e_33_ipvlan_needs_the_kernels_word() -> Result<()> {
    if !can_make_hosts("net_e_33_ipvlan_needs_the_kernels_word") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("ipvlan", 1, 0)?;
    if on(&t, "h1", &["ip", "link", "add", "trial", "link", "eth0", "type", "ipvlan"]).is_ok() {
        eprintln!("SKIPPED net_e_33_ipvlan_needs_the_kernels_word: this kernel has ipvlan");
        return Ok(());
    }
    let ipvlan = ["network", "create", "-d", "ipvlan", "--subnet", "198.51.100.0/24", "-o", "parent=eth0"];
    let said = t.cli_fails("h1", &[&ipvlan[..], &["x"]].concat())?;
    ensure!(said.contains("driver ipvlan: ipvlan networks do not work on this host: modprobe ipvlan"), "{said}");
    t.cli("h1", &[&ipvlan[..], &["--scope", "swarm", "-o", "ipvlan_mode=l3", "wire"]].concat())?;
    let macvlan = ["network", "create", "-d", "macvlan", "--scope", "swarm", "--subnet", "192.0.2.0/24"];
    let beside = t.cli_fails("h1", &[&macvlan[..], &["-o", "parent=eth0", "y"]].concat())?;
    ensure!(beside.contains("its parent eth0 is that of network wire too"), "{beside}");
    t.create("routed", 1, &["--network", "wire"])?;
    until("a task says what its host lacks", DEADLINE, || {
        let tasks = t.tasks("routed")?;
        let said = |task: &TaskRow| {
            format!("{} {}", task.error, task.message).contains("which this kernel lacks: modprobe ipvlan")
        };
        ensure!(tasks.iter().any(said), "{tasks:#?}");
        Ok(())
    })
    .map(drop)
}

/// E-31, P30, N-21: networks of a worker alone: made, listed beside what the cluster lets it join, kept over a
/// restart of the daemon, removed; and what cannot be connected.
#[test]
fn net_e_31_networks_of_a_worker() -> Result<()> {
    if !can_make_hosts("net_e_31_networks_of_a_worker") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("local", 1, 1)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "--attachable", "joinable"])?;
    t.cli("h1", &["network", "create", "-d", "overlay", "services-only"])?;
    t.cli("h2", &["network", "create", "-d", "bridge", "--subnet", "172.29.0.0/24", "mine"])?;
    let listed = |host: &str| t.cli(host, &["network", "ls"]);
    until("a worker lists what it may join", DEADLINE, || {
        let all = listed("h2")?;
        ensure!(all.contains("joinable") && all.contains("mine") && !all.contains("services-only"), "{all}");
        Ok(())
    })?;
    ensure!(!listed("h1")?.contains("mine"), "it is the worker's alone");
    let twice = t.cli_fails("h2", &["network", "create", "-d", "bridge", "mine"])?;
    ensure!(twice.contains("network with name mine already exists"), "{twice}");
    let clash = t.cli_fails("h2", &["network", "create", "-d", "bridge", "joinable"])?;
    ensure!(clash.contains("already exists in the cluster"), "{clash}");
    let overlap = t.cli_fails("h2", &["network", "create", "-d", "bridge", "--subnet", "172.29.0.0/16", "wide"])?;
    ensure!(overlap.contains("overlaps 172.29.0.0/24"), "{overlap}");
    let bridges = || on(&t, "h2", &["ip", "-o", "-4", "addr", "show", "type", "bridge"]);
    ensure!(bridges()?.contains("172.29.0.1/24"), "{}", bridges()?);

    t.cluster.stop_daemon("h2", nix::sys::signal::Signal::SIGKILL)?;
    t.cluster.start_daemon("h2")?;
    until("kept over a restart", DEADLINE, || {
        ensure!(listed("h2")?.contains("mine"), "{}", listed("h2")?);
        ensure!(listed("h2")?.contains("joinable"), "known without asking: {}", listed("h2")?);
        Ok(())
    })?;
    ensure!(bridges()?.contains("172.29.0.1/24"), "{}", bridges()?);

    let task = on_host(&t, "web", "h2", &[])?;
    let connect = |network: &str, container: &str| {
        let body = json!({ "Container": container }).to_string();
        let path = format!("/networks/{network}/connect");
        let answer = t.api("h2")?.request("POST", &path, "application/json", body.as_bytes())?;
        Ok::<_, anyhow::Error>((answer.status, answer.text()))
    };
    let (status, said) = connect("mine", &task.container)?;
    ensure!(status == 403 && said.contains("is a task's"), "{status} {said}");
    let (status, said) = connect("mine", "nobody")?;
    ensure!(status == 404 && said.contains("No such container: nobody"), "{status} {said}");
    t.cli("h2", &["network", "rm", "mine"])?;
    ensure!(!bridges()?.contains("172.29.0.1/24"), "{}", bridges()?);
    Ok(())
}
