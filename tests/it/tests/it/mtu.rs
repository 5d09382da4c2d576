//! Packets of full size: what containers may send follows from the underlay, exactly, and follows it when it changes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, until};

use crate::{
    can_make_hosts,
    hosts::{Member, create, members},
};

/// Bytes fetched each way.
const BIG: usize = 1 << 20;
/// P08 wants a changed underlay followed within this; the machine may be busy besides.
const FOLLOWED: Duration = Duration::from_secs(30);

fn set_underlay(t: &ClusterUnderTest, mtu: u32) -> Result<()> {
    for host in t.cluster.hosts() {
        t.lab().run(&host, &["ip", "link", "set", "eth0", "mtu", &mtu.to_string()])?;
    }
    Ok(())
}

/// The MTU of a container's place in its overlay, which comes after the one on its host's bridge.
fn mtu_of(t: &ClusterUnderTest, member: &Member) -> Result<u32> {
    let link = member.run(t, &["busybox", "ip", "-o", "link", "show", "eth1"])?;
    let after = link.split(" mtu ").nth(1).and_then(|rest| rest.split_whitespace().next());
    after.and_then(|mtu| mtu.parse().ok()).with_context(|| format!("no MTU in {link:?}"))
}

fn expect_mtu(t: &ClusterUnderTest, service: &[Member], mtu: u32) -> Result<Duration> {
    let (_, took) = until(&format!("an MTU of {mtu}"), FOLLOWED, || {
        for member in service {
            let found = mtu_of(t, member)?;
            ensure!(found == mtu, "{} on {}: {found}", member.task.id, member.host);
        }
        Ok(())
    })?;
    Ok(took)
}

/// Each replica fetches a file from the other, which is on another host.
fn exchange(t: &ClusterUnderTest, service: &str, replicas: &[Member]) -> Result<()> {
    for (from, to) in [(0, 2), (1, 1)] {
        let fetch = format!("timeout 20 wget -q -O - http://{service}.{to}/big | wc -c");
        until("a large file comes whole", DEADLINE, || {
            let got = replicas[from].run(t, &["busybox", "sh", "-c", &fetch])?;
            ensure!(got.trim() == BIG.to_string(), "{got} of {BIG} bytes from {service}.{to}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Packets that a host has cut, or put together again, so far.
fn fragments(t: &ClusterUnderTest) -> Result<u64> {
    let mut sum = 0;
    for host in t.cluster.hosts() {
        let text = t.lab().run(&host, &["cat", "/proc/net/snmp"])?;
        let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
            if matches!(name, "FragCreates" | "ReasmReqds") {
                sum += value.parse::<u64>().unwrap_or(0);
            }
        }
    }
    Ok(sum)
}

/// P08: where hosts differ, all have the smallest: of one host alone the underlay shrinks, and grows again.
#[test]
fn mtu_p_08_the_smallest_underlay_counts_for_all() -> Result<()> {
    if !can_make_hosts("mtu_p_08_the_smallest_underlay_counts_for_all") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("mtumixed", 1, 1)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "plain"])?;
    create(&t, "p", "2", &["--network", "plain", "--replicas-max-per-node", "1"])?;
    let replicas = members(&t, "p", 2)?;
    let mut followed = Vec::new();
    for underlay in [1500, 1400, 1500] {
        t.lab().run("h2", &["ip", "link", "set", "eth0", "mtu", &underlay.to_string()])?;
        followed.push((underlay, expect_mtu(&t, &replicas, underlay - 50)?));
    }
    eprintln!("underlay of one host and time until all containers had what it carries: {followed:?}");
    Ok(())
}

/// P08: on underlays of 9000, 1500 and 1450 bytes containers of plain and encrypted networks get what the path
/// carries, files come whole both ways, and no packet between the hosts is cut. An underlay that
/// shrinks while everything runs is followed.
#[test]
fn mtu_p_08_containers_follow_the_underlay() -> Result<()> {
    if !can_make_hosts("mtu_p_08_containers_follow_the_underlay") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_mtu("mtu", 1, 1, 9000)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "plain"])?;
    t.cli("h1", &["network", "create", "-d", "overlay", "--opt", "encrypted", "sealed"])?;
    let mut services = Vec::new();
    for (service, network) in [("p", "plain"), ("s", "sealed")] {
        create(&t, service, "2", &["--network", network, "--replicas-max-per-node", "1"])?;
        let replicas = members(&t, service, 2)?;
        for member in &replicas {
            let make = format!("mkdir -p /var/www; dd if=/dev/zero of=/var/www/big bs={BIG} count=1 2>/dev/null");
            member.run(&t, &["busybox", "sh", "-c", &make])?;
        }
        services.push((service, replicas));
    }
    let mut followed = Vec::new();
    for underlay in [9000, 1500, 1450, 1500, 1400] {
        set_underlay(&t, underlay)?;
        let took = expect_mtu(&t, &services[0].1, underlay - 50)?;
        expect_mtu(&t, &services[1].1, underlay - 110)?;
        followed.push((underlay, took));
        let before = fragments(&t)?;
        for (service, replicas) in &services {
            exchange(&t, service, replicas).with_context(|| format!("underlay {underlay}, {service}"))?;
        }
        let cut = fragments(&t)? - before;
        ensure!(cut == 0, "{cut} packets were cut or put together on an underlay of {underlay}");
        // packets of exactly this size pass there and back: the probes take the containers' way
        let passes = format!("UDP port 4789 answers, packets of {} bytes pass both ways", underlay - 50);
        until("packets of full size pass", DEADLINE, || {
            let said = t.cluster.cli("h1", &["doctor"])?.stdout;
            ensure!(said.contains(&passes), "{said}");
            Ok(())
        })?;
    }
    eprintln!("underlay and time until the containers had what it carries: {followed:?}");
    Ok(())
}
