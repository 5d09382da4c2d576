//! Overlay networks: containers reach each other by name and virtual address, and only where they share one.
//!
//! The containers are asked, by commands in their own namespaces, and the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::ExecOptions;
use nix::sys::signal::Signal;

use crate::{
    can_make_hosts,
    hosts::{answer, create, encrypted_pair, members},
};

/// N-01, N-14, N-17, S-70, P02: by name inside one network, over hosts; never across networks.
#[test]
fn net_n_01_names_and_isolation() -> Result<()> {
    if !can_make_hosts("net_n_01_names_and_isolation") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("net", 1, 2)?;
    for network in ["red", "blue"] {
        t.cli("h1", &["network", "create", "-d", "overlay", network])?;
    }
    create(&t, "web", "3", &["--network", "red"])?;
    create(&t, "client", "3", &["--network", "red"])?;
    create(&t, "other", "3", &["--network", "blue"])?;
    let (web, client, other) = (members(&t, "web", 3)?, members(&t, "client", 3)?, members(&t, "other", 3)?);
    ensure!(web.iter().map(|m| &m.host).collect::<BTreeSet<_>>().len() == 3, "three replicas on three hosts");

    until("every client reaches every replica by name", DEADLINE, || {
        for from in &client {
            ensure!(from.resolve(&t, "tasks.web")?.len() == 3, "tasks.web: {:?}", from.resolve(&t, "tasks.web")?);
            let own = from.addresses(&t)?;
            for to in 1..=3 {
                let (seen, _) = from.ask(&t, &format!("web.{to}"))?;
                ensure!(own.contains(&seen), "web.{to} sees {seen}, the client has {own:?}");
            }
        }
        Ok(())
    })?;
    let virtual_ip = client[0].resolve(&t, "web")?;
    ensure!(virtual_ip.len() == 1, "one virtual address: {virtual_ip:?}");
    for from in &other {
        ensure!(from.resolve(&t, "web").is_err(), "a name of another network is not known");
        for to in &web {
            for address in to.addresses(&t)?.iter().filter(|a| a.starts_with("10.0.")).chain(&virtual_ip) {
                ensure!(from.ask(&t, address).is_err(), "{address} is reached from another network");
            }
        }
    }
    Ok(())
}

/// N-14, P01's inside: 1,000 requests through a virtual address spread within 5 % over 5 backends, and each
/// backend sees the client's own address.
#[test]
fn net_n_14_virtual_address_spreads_and_keeps_the_source() -> Result<()> {
    if !can_make_hosts("net_n_14_virtual_address_spreads_and_keeps_the_source") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("vip", 1, 2)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "red"])?;
    create(&t, "web", "5", &["--network", "red"])?;
    create(&t, "client", "1", &["--network", "red"])?;
    members(&t, "web", 5)?;
    let client = members(&t, "client", 1)?.remove(0);
    let own = client.addresses(&t)?;
    until("five backends", DEADLINE, || {
        ensure!(client.resolve(&t, "tasks.web")?.len() == 5);
        client.ask(&t, "web").map(drop)
    })?;
    let script =
        "i=0; while [ $i -lt 1000 ]; do timeout 5 wget -q -O - http://web/cgi-bin/who || echo failed; i=$((i+1)); done";
    let said = client.run(&t, &["busybox", "sh", "-c", script])?;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        let (seen, server) = answer(line).with_context(|| format!("a request failed: {line}"))?;
        ensure!(own.contains(&seen), "the backend sees {seen}, the client has {own:?}");
        *counts.entry(server).or_default() += 1;
    }
    ensure!(counts.len() == 5 && counts.values().sum::<u32>() == 1000, "{counts:?}");
    ensure!(counts.values().all(|n| (190..=210).contains(n)), "spread over five within 5 %: {counts:?}");
    Ok(())
}

/// P02, P42: a host cut off and back: what every container resolves and reaches is what the value says.
#[test]
fn net_p_02_a_host_cut_off_and_back_leaves_nothing_stale() -> Result<()> {
    if !can_make_hosts("net_p_02_a_host_cut_off_and_back_leaves_nothing_stale") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("cutnet", 1, 2)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "red"])?;
    create(&t, "web", "3", &["--network", "red"])?;
    create(&t, "client", "1", &["--network", "red", "--constraint", "node.hostname==h1"])?;
    members(&t, "web", 3)?;
    let client = members(&t, "client", 1)?.remove(0);
    let agrees = |what: &str| {
        until(what, DEADLINE, || {
            let web = members(&t, "web", 3)?;
            let mut wanted = BTreeSet::new();
            for member in &web {
                wanted.extend(member.addresses(&t)?.into_iter().filter(|a| a.starts_with("10.0.")));
            }
            let resolved = client.resolve(&t, "tasks.web")?;
            ensure!(resolved == wanted, "resolved {resolved:?}, running {wanted:?}");
            for slot in 1..=3 {
                client.ask(&t, &format!("web.{slot}"))?;
            }
            client.ask(&t, "web").map(drop)
        })
    };
    agrees("before")?;
    t.lab().cut("h3")?;
    agrees("while a host is away")?;
    t.lab().heal("h3")?;
    agrees("after it is back")?;
    Ok(())
}

/// N-04, P15 (a): of an encrypted network only WireGuard is seen between the hosts, and it works by name.
#[test]
fn net_n_04_an_encrypted_network_shows_nothing_to_the_underlay() -> Result<()> {
    if !can_make_hosts("net_n_04_an_encrypted_network_shows_nothing_to_the_underlay") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("sealed", 1, 1)?;
    let client = encrypted_pair(&t)?;
    // not for a time, which is over before it has begun where the machine is busy: until it has seen what was sent
    let watching = t.lab().spawn(
        "h1",
        "capture",
        &["tcpdump", "-l", "-i", "any", "-n", "-A", "-s", "0", "udp or tcp port 80"],
        &[],
    )?;
    let seen = || Ok::<_, anyhow::Error>(String::from_utf8_lossy(&fs::read(&watching.log)?).into_owned());
    until("the capture has begun", DEADLINE, || {
        ensure!(seen()?.contains("listening on"), "{}", seen()?);
        Ok(())
    })?;
    let script =
        "i=0; while [ $i -lt 50 ]; do wget -q -O - http://web/cgi-bin/who?marker-in-the-clear; i=$((i+1)); done";
    let asked = client.run(&t, &["busybox", "sh", "-c", script])?;
    ensure!(asked.lines().filter(|line| answer(line).is_some()).count() == 50, "{asked}");
    let (seen, _) = until("WireGuard is on the wire", DEADLINE, || {
        let seen = seen()?;
        ensure!(seen.matches(".51820 > ").count() > 50, "{} bytes seen", seen.len());
        Ok(seen)
    })?;
    t.lab().signal("h1", watching.process, Signal::SIGTERM)?;
    ensure!(!seen.contains("marker-in-the-clear"), "a marker is on the wire in the clear");
    // but for the probes of the data path, which have an identifier of their own and carry nothing of anybody
    let mut plain = seen.lines().filter(|line| line.contains(".4789 >") || line.contains(".4789:"));
    ensure!(plain.all(|line| line.contains("vni 4094")), "VXLAN is on the wire in the clear");
    Ok(())
}

/// P44, P02: names, virtual addresses and open connections outlive a daemon that is killed and started again.
#[test]
fn net_p_44_a_daemon_restart_keeps_the_network() -> Result<()> {
    if !can_make_hosts("net_p_44_a_daemon_restart_keeps_the_network") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("netreborn", 1, 1)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "red"])?;
    create(&t, "web", "2", &["--network", "red"])?;
    create(&t, "client", "1", &["--network", "red", "--constraint", "node.hostname==h2"])?;
    members(&t, "web", 2)?;
    let client = members(&t, "client", 1)?.remove(0);
    let works = || {
        ensure!(client.resolve(&t, "tasks.web")?.len() == 2);
        client.ask(&t, "web.1")?;
        client.ask(&t, "web.2")?;
        client.ask(&t, "web").map(drop)
    };
    until("both replicas answer", DEADLINE, works)?;
    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    works().context("without a daemon")?;
    t.cluster.start_daemon("h2")?;
    works().context("while the daemon starts")?;
    until("ready again", DEADLINE, || {
        ensure!(t.cli("h1", &["node", "ls"])?.matches("Ready").count() == 2);
        Ok(())
    })?;
    works().context("with the new daemon")?;
    t.cli("h1", &["service", "scale", "--detach", "web=4"])?;
    members(&t, "web", 4)?;
    until("the new daemon tells of new replicas", DEADLINE, || {
        ensure!(client.resolve(&t, "tasks.web")?.len() == 4);
        client.ask(&t, "web.4").map(drop)
    })?;
    let network = t.cli("h1", &["network", "inspect", "--format", "{{.Id}}", "red"])?;
    t.cli("h1", &["service", "rm", "web", "client"])?;
    until("nothing of the network is left on the hosts", DEADLINE, || {
        for host in ["h1", "h2"] {
            let left = t.lab().exec(host, &["ls", "/run/rswarm/overlay"], &ExecOptions::default())?.stdout;
            ensure!(!left.contains(network.trim()), "{host}: {left}");
        }
        Ok(())
    })?;
    t.cli("h1", &["network", "rm", "red"]).map(drop)
}

/// P09, P06, N-07: a full network is said on the task and ends when something is freed; what is in use stays.
#[test]
fn net_p_09_a_full_network_is_explained() -> Result<()> {
    if !can_make_hosts("net_p_09_a_full_network_is_explained") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("full", 1, 1)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "--subnet", "10.77.0.0/29", "tiny"])?;
    let refused = t.cli_fails("h1", &["network", "create", "-d", "overlay", "--subnet", "10.77.0.0/16", "wide"])?;
    ensure!(refused.contains("tiny"), "an overlap names the other network: {refused}");
    // six addresses: the gateway, the virtual address and four tasks
    t.create("web", 5, &["--network", "tiny"])?;
    until("the fifth task says why it waits", DEADLINE, || {
        let tasks = t.tasks("web")?;
        let running = tasks.iter().filter(|task| task.state == "running").count();
        let waiting = tasks.iter().find(|task| task.state == "pending").context("none waits")?;
        ensure!(running == 4 && waiting.error.contains("network tiny: all 6 addresses"), "{tasks:#?}");
        Ok(())
    })?;
    let refused = t.cli_fails("h1", &["network", "rm", "tiny"])?;
    ensure!(refused.contains("in use by service web"), "{refused}");
    t.cli("h1", &["service", "scale", "--detach", "web=4"])?;
    t.running("web", 4)?;
    let unknown = t.cli_fails("h1", &["service", "create", "-d", "--network", "nope", IMAGE])?;
    ensure!(unknown.contains("network nope not found"), "{unknown}");
    Ok(())
}

/// P09: a full network gets another subnet. What waited runs within 5 s; who was there goes on as it was and reaches who
/// came, and the other way round, by address, by name and by a virtual address of the new subnet; so do published ports
/// where the ingress network grows. The doctor finds nothing, and sees a route that is gone.
#[test]
fn net_p_09_a_subnet_is_added_to_a_full_network() -> Result<()> {
    if !can_make_hosts("net_p_09_a_subnet_is_added_to_a_full_network") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("grown", 1, 1)?;
    t.cli("h1", &["network", "create", "--subnet", "10.76.0.0/29", "front"])?;
    t.cli("h1", &["network", "create", "--attachable", "--subnet", "10.77.0.0/29", "tiny"])?;
    // six addresses: the gateway, the virtual address and four tasks
    create(&t, "web", "4", &["--network", "tiny", "--publish", "8080:80"])?;
    let first = members(&t, "web", 4)?;
    t.cli("h1", &["service", "scale", "--detach", "web=7"])?;
    until("those that wait say what to do", DEADLINE, || {
        let tasks = t.tasks("web")?;
        let said = "give it more: rswarm network update --subnet-add SUBNET tiny";
        ensure!(
            tasks.iter().filter(|task| task.state == "pending" && task.error.contains(said)).count() == 3,
            "{tasks:#?}"
        );
        Ok(())
    })?;
    let entry = t.lab().address("h1")?;
    let [a, b, c, _] = entry.octets();
    let wire = format!("{a}.{b}.{c}.0/24");
    for (subnet, why) in [
        ("10.77.0.4/30", "overlaps 10.77.0.0/29 of network tiny"),
        ("10.76.0.0/24", "overlaps 10.76.0.0/29 of network front"),
        (wire.as_str(), "has an address in or a route to"),
        ("fd09::/64", "is of a family that its endpoints have no address of"),
        ("10.79.0.9", "10.79.0.9"),
    ] {
        let refused = t.cli_fails("h1", &["network", "update", "--subnet-add", subnet, "tiny"])?;
        ensure!(refused.contains(why), "{subnet}: {refused}");
    }
    let missing = t.cli_fails("h1", &["network", "update", "--subnet-add", "10.79.0.0/24", "nope"])?;
    ensure!(missing.contains("network nope not found"), "{missing}");

    t.cli("h1", &["network", "update", "--subnet-add", "10.79.0.0/28", "tiny"])?;
    let ingress = t.cli_fails("h1", &["network", "update", "--subnet-add", "10.75.0.0/28", "ingress"])?;
    ensure!(ingress.contains("make a larger one with --ingress"), "{ingress}");
    let (tasks, took) = t.running("web", 7)?;
    println!("those that waited run after {took:?}");
    ensure!(first.iter().all(|old| tasks.iter().any(|task| task.pid == old.task.pid)), "those that were there go on");
    create(&t, "late", "2", &["--network", "tiny"])?;
    let (all, late) = (members(&t, "web", 7)?, members(&t, "late", 2)?);
    let in_new = |member: &crate::hosts::Member| {
        Ok::<_, anyhow::Error>(member.addresses(&t)?.iter().any(|address| address.starts_with("10.79.0.")))
    };
    let new: Vec<_> = all.iter().chain(&late).filter(|member| in_new(member).is_ok_and(|new| new)).collect();
    ensure!(new.len() == 5, "three of web and both of late have addresses of the new subnet: {}", new.len());
    until("everybody reaches everybody", DEADLINE, || {
        for from in first.iter().chain(new.iter().copied()) {
            ensure!(from.resolve(&t, "tasks.web")?.len() == 7 && from.resolve(&t, "late")?.len() == 1);
            for slot in 1..=7 {
                from.ask(&t, &format!("web.{slot}"))?;
            }
            from.ask(&t, "late")?;
        }
        Ok(())
    })?;
    let virtual_ip = first[0].resolve(&t, "late")?;
    ensure!(virtual_ip.iter().all(|address| address.starts_with("10.79.0.")), "{virtual_ip:?}");

    until("the mesh leads to all of them", DEADLINE, || {
        let ask =
            format!("for i in $(seq 40); do busybox timeout 3 wget -q -O - http://{entry}:8080/cgi-bin/who; done");
        let said = t.lab().run("h2", &["sh", "-c", &ask])?;
        let servers: BTreeSet<String> = said.lines().filter_map(|line| Some(answer(line)?.1)).collect();
        ensure!(servers.len() == 7 && said.lines().count() == 40, "{} answers of {servers:?}", said.lines().count());
        Ok(())
    })?;

    for host in ["h1", "h2"] {
        t.cli(host, &["network", "doctor"])?;
    }
    let shown = t.first()?.get("/networks/tiny")?;
    let ranges: Vec<_> =
        shown["IPAM"]["Config"].as_array().into_iter().flatten().map(|c| c["Subnet"].clone()).collect();
    ensure!(ranges == ["10.77.0.0/29", "10.79.0.0/28"], "{shown}");
    until("the doctor names a route that somebody took away", DEADLINE, || {
        // the data plane may have put it back before the doctor looks
        first[0].run(&t, &["busybox", "ip", "route", "del", "10.79.0.0/28"])?;
        let troubles = crate::hosts::troubles(&t, &first[0].host)?;
        ensure!(troubles.contains("expected a route to 10.79.0.0/28, found 10.77.0."), "{troubles}");
        Ok(())
    })?;

    t.cluster.stop_daemon("h1", Signal::SIGKILL)?;
    t.cluster.start_daemon("h1")?;
    until("the manager is back with both subnets, and the route is back", DEADLINE, || {
        ensure!(t.first()?.get("/networks/tiny")?["IPAM"]["Config"][1]["Subnet"] == "10.79.0.0/28");
        ensure!(members(&t, "web", 7)?.iter().all(|now| all.iter().any(|was| was.task.pid == now.task.pid)));
        t.cli(&first[0].host, &["network", "doctor"]).map(drop)
    })?;
    Ok(())
}
