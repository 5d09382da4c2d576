//! The way between two hosts breaks for containers' packets only: it is seen, said with direction and port, and
//! traffic goes where it still arrives.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, until};

use crate::{
    can_make_hosts,
    hosts::{Member, create, encrypted_pair, members, tear_down, wall},
};

/// P03 wants this within 15 s; a machine that builds besides gets the rest.
const SEEN: Duration = Duration::from_secs(40);

/// Changes two bytes deep inside such packets on their way into a host, where a probe's authentication lies.
fn spoil(t: &ClusterUnderTest, host: &str, look: &str) -> Result<()> {
    // outer UDP 8, VXLAN 8, Ethernet 14, IPv4 20, UDP 8, and 64 bytes of the probe
    let chain = "type filter hook prerouting priority -300";
    let rules = format!("table inet wall {{ chain input {{ {chain}; {look} @th,976,16 set 0xdead; }}; }}");
    Ok(t.lab().run(host, &["nft", &rules]).map(drop)?)
}

/// Waits until `node ls` shows the host in this state; gives the time it took.
fn shows(t: &ClusterUnderTest, host: &str, state: &str) -> Result<Duration> {
    let (_, took) = until(&format!("{host} is {state}"), SEEN, || {
        let nodes = t.cli("h1", &["node", "ls", "--format", "{{.Hostname}} {{.Status}}"])?;
        ensure!(nodes.lines().any(|line| line == format!("{host} {state}")), "{nodes}");
        Ok(())
    })?;
    Ok(took)
}

/// The hosts' replicas that answer 40 requests to the virtual address; none may fail.
fn answering(t: &ClusterUnderTest, client: &Member) -> Result<std::collections::BTreeSet<String>> {
    (0..40).map(|_| Ok(client.ask(t, "web")?.1)).collect()
}

/// The name that the replica on this host bears.
fn replica_on(t: &ClusterUnderTest, web: &[Member], host: &str) -> Result<String> {
    let member = web.iter().find(|member| member.host == host).with_context(|| format!("no replica on {host}"))?;
    Ok(member.run(t, &["busybox", "hostname"])?.trim().to_owned())
}

fn pretty(t: &ClusterUnderTest, host: &str) -> Result<String> {
    t.cli("h1", &["node", "inspect", "--pretty", host])
}

/// P03: the data path's port is blocked in one direction between two hosts, whose probe ports still answer.
#[test]
fn path_p_03_a_blocked_data_path_is_said_and_routed_around() -> Result<()> {
    if !can_make_hosts("path_p_03_a_blocked_data_path_is_said_and_routed_around") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("path", 1, 2)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "red"])?;
    create(&t, "web", "3", &["--network", "red"])?;
    create(&t, "client", "1", &["--network", "red", "--constraint", "node.hostname==h2"])?;
    let (web, client) = (members(&t, "web", 3)?, members(&t, "client", 1)?.remove(0));
    until("all replicas answer", DEADLINE, || {
        ensure!(answering(&t, &client)?.len() == 3);
        Ok(())
    })?;
    for host in ["h2", "h3"] {
        shows(&t, host, "Ready")?;
    }
    let (from, to) = (t.lab().address("h2")?, t.lab().address("h3")?);

    wall(&t, "h3", &format!("ip saddr {from} udp dport 4789"))?;
    let seen = shows(&t, "h3", "Degraded")?;
    let way = format!("{from} -> {to} UDP port 4789 (VXLAN): nothing gets through");
    until("node inspect names peer, direction and port", SEEN, || {
        let said = pretty(&t, "h3")?;
        ensure!(said.contains(&way), "{said}");
        Ok(())
    })?;
    let other = pretty(&t, "h2")?;
    ensure!(other.contains(&format!("{to} <-> {from} UDP port 4789 (VXLAN): no answer")), "the other end: {other}");
    shows(&t, "h1", "Ready")?;
    let lost = replica_on(&t, &web, "h3")?;
    let (_, routed) = until("traffic goes where it arrives", SEEN, || {
        let names = answering(&t, &client)?;
        ensure!(names.len() == 2 && !names.contains(&lost), "{names:?}");
        Ok(())
    })?;
    ensure!(t.cluster.cli("h2", &["network", "doctor"])?.code == 0, "what is balanced is what is wanted here");

    tear_down(&t, "h3")?;
    let cleared = shows(&t, "h3", "Ready")?;
    shows(&t, "h2", "Ready")?;
    let (_, back) = until("the replica is sent to again", SEEN, || {
        ensure!(answering(&t, &client)?.len() == 3);
        Ok(())
    })?;
    eprintln!(
        "degraded after {seen:?}, routed around {routed:?} later, ready after {cleared:?}, used again after {back:?}"
    );

    // P52: packets arrive, with two bytes of their inside changed on the way
    spoil(&t, "h3", &format!("ip saddr {from} udp dport 4789"))?;
    shows(&t, "h3", "Degraded")?;
    let spoilt = format!("{to} <-> {from} UDP port 4789 (VXLAN): packets arrive, but spoilt inside");
    until("spoilt packets are told from lost ones", SEEN, || {
        let said = pretty(&t, "h2")?;
        ensure!(said.contains(&spoilt), "{said}");
        Ok(())
    })?;
    tear_down(&t, "h3")?;
    shows(&t, "h3", "Ready")?;
    shows(&t, "h2", "Ready")?;

    // small packets pass, large ones do not
    wall(&t, "h3", &format!("ip saddr {from} udp dport 4789 meta length > 1400"))?;
    let seen = shows(&t, "h3", "Degraded")?;
    let said = pretty(&t, "h3")?;
    ensure!(said.contains("UDP port 4789 (VXLAN): small packets pass, those of 1450 bytes do not"), "{said}");
    tear_down(&t, "h3")?;
    let cleared = shows(&t, "h3", "Ready")?;
    eprintln!("large packets lost: degraded after {seen:?}, ready {cleared:?} after they pass");
    Ok(())
}

/// P03 in an encrypted network: the port is WireGuard's. With the last backend behind the wall it stays in place:
/// a wrong word of the probes must not take it away.
#[test]
fn path_p_03_the_encrypted_path_has_its_own_port() -> Result<()> {
    if !can_make_hosts("path_p_03_the_encrypted_path_has_its_own_port") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("sealedpath", 1, 1)?;
    let client = encrypted_pair(&t)?;
    shows(&t, "h2", "Ready")?;
    wall(&t, "h2", "udp dport 51820")?;
    let seen = shows(&t, "h2", "Degraded")?;
    let said = pretty(&t, "h2")?;
    ensure!(said.contains("UDP port 51820 (WireGuard)") && !said.contains("(VXLAN)"), "{said}");
    tear_down(&t, "h2")?;
    let cleared = shows(&t, "h2", "Ready")?;
    // the tunnel may have to shake hands anew first
    until("the last backend is still there", DEADLINE, || client.ask(&t, "web").map(drop))?;
    eprintln!("encrypted: degraded after {seen:?}, ready {cleared:?} after the wall is gone");
    Ok(())
}
