//! Single containers in attachable overlay networks (parity N-12, E-34): on any host, by name from every side.
//!
//! The containers are those of a service that is in no network of the test: for the network they are single ones.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{
    can_make_hosts,
    hosts::{Member, create, members},
};

/// By when everybody has forgotten a container that went (P02).
const FORGOTTEN: Duration = Duration::from_secs(1);

/// Connects or disconnects a container; gives the status and what was said.
fn ask(t: &ClusterUnderTest, member: &Member, verb: &str, network: &str, config: &Value) -> Result<(u16, String)> {
    let mut body = json!({ "Container": member.task.container });
    if verb == "connect" {
        body["EndpointConfig"] = config.clone();
    }
    let body = body.to_string();
    let path = format!("/networks/{network}/{verb}");
    let answer = t.api(&member.host)?.request("POST", &path, "application/json", body.as_bytes())?;
    Ok((answer.status, answer.text()))
}

fn done(t: &ClusterUnderTest, member: &Member, verb: &str, network: &str, config: &Value) -> Result<()> {
    let (status, said) = ask(t, member, verb, network, config)?;
    ensure!(status == 200, "{verb} {network}: {status} {said}");
    Ok(())
}

fn on(t: &ClusterUnderTest, service: &str, host: &str, more: &[&str]) -> Result<Member> {
    let constraint = format!("node.hostname=={host}");
    create(t, service, "1", &[&["--constraint", &constraint], more].concat())?;
    Ok(members(t, service, 1)?.remove(0))
}

/// `busybox ping` once.
fn pings(t: &ClusterUnderTest, from: &Member, to: &str) -> Result<()> {
    from.run(t, &["busybox", "ping", "-c", "1", "-W", "2", to]).map(drop)
}

/// The container's place, as `network inspect` on its host shows it.
fn inspected(t: &ClusterUnderTest, host: &str, network: &str, member: &Member) -> Result<Value> {
    let shown = t.api(host)?.get(&format!("/networks/{network}"))?;
    Ok(shown["Containers"][&member.task.container].clone())
}

/// N-12, E-34, N-21, P02: containers on a manager and on a worker join, are found and find, and leave.
#[test]
fn net_n_12_single_containers_in_an_overlay() -> Result<()> {
    if !can_make_hosts("net_n_12_single_containers_in_an_overlay") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("attach", 1, 2)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "--attachable", "open"])?;
    t.cli("h1", &["network", "create", "-d", "overlay", "closed"])?;
    // every container is in some network of its own, so that its resolv.conf names the embedded DNS
    t.cli("h1", &["network", "create", "-d", "overlay", "other"])?;
    let web = on(&t, "web", "h3", &["--network", "open"])?;
    let (near, far) = (on(&t, "near", "h1", &["--network", "other"])?, on(&t, "far", "h2", &["--network", "other"])?);

    let (status, said) = ask(&t, &near, "connect", "open", &json!({ "MacAddress": "02:42:00:00:00:99" }))?;
    ensure!(status == 400 && said.contains("MAC address 02:42:00:00:00:99 cannot be had"), "{status} {said}");
    done(&t, &near, "connect", "open", &json!({ "Aliases": ["by-the-manager"] }))?;
    // at once, with no time to settle: the answer comes when the names of the others are known here
    ensure!(near.resolve(&t, "web")?.len() == 1, "the service's virtual address");
    near.ask(&t, "web").context("the service, by its virtual address")?;
    let addresses = t.api("h1")?.get("/networks/open")?["IPAM"]["Config"][0]["Subnet"].clone();
    let range = addresses.as_str().context("a subnet")?.trim_end_matches("0/24").to_owned();
    let wanted = format!("{range}77");
    done(&t, &far, "connect", "open", &json!({ "IPAMConfig": { "IPv4Address": wanted }, "Aliases": ["by-a-worker"] }))?;
    ensure!(far.addresses(&t)?.contains(&wanted), "the address it asked for: {:?}", far.addresses(&t)?);

    until("all find all", DEADLINE, || {
        for from in [&web, &near] {
            ensure!(from.resolve(&t, "by-a-worker")? == [wanted.clone()].into(), "on {}", from.host);
            ensure!(from.resolve(&t, &far.task.container[..12])? == [wanted.clone()].into(), "by the id");
            pings(&t, from, "by-a-worker")?;
            from.ask(&t, "by-a-worker")?;
        }
        for from in [&web, &far] {
            pings(&t, from, "by-the-manager")?;
        }
        far.ask(&t, "web").map(drop)
    })?;
    let name = format!("far.1.{}", far.task.id);
    ensure!(web.resolve(&t, &name)? == [wanted.clone()].into(), "by the container's name");
    ensure!(near.resolve(&t, "web")?.len() == 1 && near.ask(&t, "web")?.1 != near.task.container[..12], "balanced");
    let shown = inspected(&t, "h1", "open", &near)?;
    ensure!(shown["Name"] == json!(format!("near.1.{}", near.task.id)), "{shown}");
    ensure!(shown["IPv4Address"].as_str().is_some_and(|a| a.starts_with(&range) && a.ends_with("/24")), "{shown}");

    let (status, said) = ask(&t, &near, "connect", "open", &json!({}))?;
    ensure!(status == 403 && said.contains("in network open already"), "{status} {said}");
    let (status, said) = ask(&t, &near, "connect", "closed", &json!({}))?;
    ensure!(status == 403 && said.contains("desc = network closed not manually attachable"), "{status} {said}");
    let (status, said) = ask(&t, &web, "disconnect", "open", &json!({}))?;
    ensure!(status == 403 && said.contains("is a task's"), "{status} {said}");
    t.cli("h1", &["service", "rm", "web"])?;
    until("only single containers are left", DEADLINE, || {
        let refused = t.cli_fails("h1", &["network", "rm", "open"])?;
        ensure!(refused.contains("network open has active endpoints ("), "{refused}");
        ensure!(refused.contains("near.1.") && refused.contains("far.1.") && !refused.contains("web"), "{refused}");
        Ok(())
    })?;

    done(&t, &far, "disconnect", "open", &json!({}))?;
    let left = Instant::now();
    until("it is forgotten", DEADLINE, || {
        ensure!(near.resolve(&t, "by-a-worker").is_err(), "still known");
        Ok(())
    })?;
    ensure!(left.elapsed() <= FORGOTTEN, "known for {:?}", left.elapsed());
    ensure!(!far.addresses(&t)?.contains(&wanted), "its interface is gone");
    far.ask(&t, "near").context("the network of its service is as it was")?;
    done(&t, &near, "disconnect", "open", &json!({}))?;
    t.cli("h1", &["network", "rm", "open"]).map(drop)
}

/// N-12, P30: over a daemon that is killed a container keeps its place; one that ended meanwhile gives it back, and so
/// does a host that is removed.
#[test]
fn net_n_12_places_follow_containers_and_hosts() -> Result<()> {
    if !can_make_hosts("net_n_12_places_follow_containers_and_hosts") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("attachlife", 1, 2)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "--attachable", "--subnet", "10.77.0.0/29", "open"])?;
    let used = || {
        let shown = t.api("h1")?.get("/networks/open")?;
        let used = &shown["Status"]["IPAM"]["Subnets"]["10.77.0.0/29"]["IPsInUse"];
        used.as_u64().with_context(|| format!("{shown}"))
    };
    let here = on(&t, "here", "h1", &[])?;
    let (stays, ends) = (on(&t, "stays", "h2", &[])?, on(&t, "ends", "h2", &[])?);
    let lost = on(&t, "lost", "h3", &[])?;
    for (member, alias) in [(&here, "here"), (&stays, "stays"), (&ends, "ends"), (&lost, "lost")] {
        done(&t, member, "connect", "open", &json!({ "Aliases": [alias] }))?;
    }
    ensure!(used()? == 5, "gateway and four: {}", used()?);
    until("found", DEADLINE, || pings(&t, &here, "stays"))?;
    let before = here.resolve(&t, "stays")?;

    t.cluster.stop_daemon("h2", Signal::SIGKILL)?;
    pings(&t, &here, &before.first().context("an address")?.clone())?;
    t.lab().run("h2", &["kill", "-9", &ends.task.pid.to_string()])?;
    t.cluster.start_daemon("h2")?;
    until("what ended gave its place back", DEADLINE, || {
        ensure!(here.resolve(&t, "ends").is_err() && used()? == 4, "{} in use", used()?);
        Ok(())
    })?;
    ensure!(here.resolve(&t, "stays")? == before, "what runs kept its own");
    pings(&t, &here, "stays")?;

    t.cluster.stop_daemon("h3", Signal::SIGKILL)?;
    t.cli("h1", &["node", "rm", "--force", &lost.task.node])?;
    until("the host's places went with it", DEADLINE, || {
        ensure!(here.resolve(&t, "lost").is_err() && used()? == 3, "{} in use", used()?);
        Ok(())
    })
    .map(drop)
}

/// N-23, P09: the addresses of a small subnet are all used; one task more waits and says why, and comes with the first
/// address that is given back, whoever leads.
#[test]
fn net_n_23_a_full_network() -> Result<()> {
    if !can_make_hosts("net_n_23_a_full_network") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("full", 3, 0)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "--attachable", "--subnet", "10.78.0.0/29", "small"])?;
    create(&t, "web", "4", &["--network", "small"])?;
    t.running("web", 4)?;
    let single = on(&t, "single", "h2", &[])?;
    let (status, said) = ask(&t, &single, "connect", "small", &json!({}))?;
    let full = "network small: all 6 addresses of 10.78.0.0/29 are in use";
    ensure!(status == 403 && said.contains(full), "{status} {said}");
    t.cli("h1", &["service", "scale", "--detach", "web=5"])?;
    let waits = |through: &str| {
        until("one more waits and says why", DEADLINE, || {
            let tasks = ClusterUnderTest::tasks_through(&t.api(through)?, "web")?;
            ensure!(tasks.iter().any(|task| task.state == "pending" && task.error.contains(full)), "{tasks:#?}");
            Ok(())
        })
    };
    waits("h1")?;
    let leader = t.leader("h1")?;
    t.cluster.stop_daemon(&leader, Signal::SIGKILL)?;
    let through = if leader == "h1" { "h2" } else { "h1" };
    waits(through)?;
    let scale = |count: &str| t.cli(through, &["service", "scale", "--detach", count]);
    until("a new leader scales down", DEADLINE, || scale("web=3").map(drop))?;
    t.cluster.start_daemon(&leader)?;
    until("three are left", DEADLINE, || {
        let tasks = ClusterUnderTest::tasks_through(&t.api(through)?, "web")?;
        ensure!(tasks.iter().filter(|task| task.state == "running" && task.desired == "running").count() == 3);
        ensure!(!tasks.iter().any(|task| task.state == "pending"), "{tasks:#?}");
        Ok(())
    })?;
    until("an address is free again", DEADLINE, || done(&t, &single, "connect", "small", &json!({})))?;
    scale("web=4")?;
    waits(through)?;
    done(&t, &single, "disconnect", "small", &json!({}))?;
    t.running_through(&t.api(through)?, "web", 4).map(drop)
}
