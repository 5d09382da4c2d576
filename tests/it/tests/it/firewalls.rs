//! Published ports beside the firewalls that people have on their hosts: their rules and ours stand side by side, and
//! where theirs close our ports, `network doctor` says what to run.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, until};
use lab::ExecOptions;

use crate::{
    can_make_hosts,
    hosts::{self, answer, members},
};

/// The host with the firewall, and the one outside of the cluster.
const WALLED: &str = "h2";
const OUTSIDE: &str = "h3";

/// A system bus of its own, firewalld on it, and copies of what it writes.
const FIREWALLD: &str = "
cp -a /etc/firewalld /tmp/firewalld && mount --bind /tmp/firewalld /etc/firewalld &&
dbus-daemon --session --address=unix:path=/tmp/bus --fork --nopidfile &&
exec firewalld --nofork --nopid
";
const ON_BUS: &str = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/tmp/bus";
/// The cluster's own ports: with VXLAN and probes a worker is open enough.
const OWN_PORTS: [&str; 2] = ["4789/udp", "7946/udp"];

struct Scene {
    t: ClusterUnderTest,
    address: String,
}

impl Scene {
    fn sh(&self, script: &str) -> Result<String> {
        Ok(self.t.lab().run(WALLED, &["sh", "-c", script])?)
    }

    fn has(&self, program: &str) -> bool {
        self.sh(&format!("command -v {program}")).is_ok()
    }

    fn ask(&self) -> Result<String> {
        let url = format!("http://{}:8080/cgi-bin/who", self.address);
        let ask = ["busybox", "timeout", "2", "wget", "-q", "-O", "-", &url];
        let output = self.t.lab().exec(OUTSIDE, &ask, &ExecOptions::default())?;
        ensure!(output.success(), "{url}: {}{}", output.stdout, output.stderr);
        Ok(answer(&output.stdout).context("an answer")?.0)
    }

    fn opens(&self, when: &str) -> Result<()> {
        until(&format!("the port is open {when}"), DEADLINE, || self.ask().map(drop)).map(drop)
    }

    /// What the doctor says to run; runs it.
    fn obey_the_doctor(&self) -> Result<String> {
        let said = hosts::troubles(&self.t, WALLED)?;
        let mut commands = Vec::new();
        for line in said.lines().filter(|line| line.contains("policy drop and no rule for")) {
            commands.push(line.split('`').nth(1).context("a command")?.to_owned());
        }
        ensure!(!commands.is_empty(), "the doctor sees no firewall: {said}");
        for command in &commands {
            self.sh(command)?;
        }
        Ok(said)
    }

    /// Our rules as they are, without numbers that the kernel gives.
    fn ours(&self) -> Result<String> {
        self.sh("nft --stateless list table inet rswarm-ports; nft --stateless list table inet rswarm")
    }

    fn iptables(&self) -> Result<String> {
        self.sh("iptables-save | grep -v '^#' | sed 's/\\[.*//'; ip6tables-save | grep -v '^#' | sed 's/\\[.*//'")
    }
}

fn scene() -> Result<Scene> {
    let t = ClusterUnderTest::with_bare("firewalls", 1, 1, 1)?;
    let on_first = ["--publish", "8080:80", "--constraint", "node.hostname==h1"];
    hosts::create(&t, "web", "1", &on_first)?;
    members(&t, "web", 1)?;
    let listed = t.lab().run(WALLED, &["busybox", "ip", "-4", "-o", "addr"])?;
    let mut words = listed.split_whitespace().filter_map(|word| word.split_once('/'));
    let address = words.find(|(address, _)| address.starts_with("10.98.")).context("an address")?.0.to_owned();
    let scene = Scene { t, address };
    scene.opens("without a firewall")?;
    Ok(scene)
}

/// P14: iptables with a closed FORWARD, ufw and firewalld: the doctor's command opens published ports again, reloads of
/// theirs take nothing of ours, and a deploy takes nothing of theirs.
#[test]
fn p14_firewalls_side_by_side() -> Result<()> {
    if !can_make_hosts("p14_firewalls_side_by_side") {
        return Ok(());
    }
    let scene = scene()?;
    for (program, test) in [("iptables", iptables as fn(&Scene) -> Result<()>), ("ufw", ufw), ("firewalld", firewalld)]
    {
        if scene.has(program) {
            test(&scene).with_context(|| program.to_owned())?;
            scene.opens(&format!("after {program}"))?;
        } else {
            eprintln!("SKIPPED a part of p14_firewalls_side_by_side: {program} is not installed");
        }
    }
    Ok(())
}

fn iptables(scene: &Scene) -> Result<()> {
    scene.sh("iptables -P FORWARD DROP && iptables -A INPUT -s 203.0.113.0/24 -j DROP")?;
    let ours = scene.ours()?;
    ensure!(scene.ask().is_err(), "a closed FORWARD closes published ports");
    let said = scene.obey_the_doctor()?;
    ensure!(said.contains("iptables -I FORWARD -i rs-ingress -j ACCEPT"), "{said}");
    scene.opens("once the doctor's command has run")?;
    scene.t.cli(WALLED, &["network", "doctor"]).context("the doctor is content")?;
    let theirs = scene.iptables()?;
    ensure!(theirs.contains("203.0.113.0/24") && theirs.contains(":FORWARD DROP"), "{theirs}");
    hosts::create(&scene.t, "more", "2", &["--publish", "8090:80"])?;
    members(&scene.t, "more", 2)?;
    scene.t.cli("h1", &["service", "rm", "more"])?;
    until("our rules are what they were", DEADLINE, || {
        ensure!(scene.ours()? == ours, "{}", scene.ours()?);
        Ok(())
    })?;
    ensure!(scene.iptables()? == theirs, "their rules are untouched by a deploy");
    scene.sh("iptables -F && iptables -P FORWARD ACCEPT").map(drop)
}

fn ufw(scene: &Scene) -> Result<()> {
    scene.sh("cp -a /etc/ufw /tmp/ufw && mount --bind /tmp/ufw /etc/ufw")?;
    for port in OWN_PORTS {
        scene.sh(&format!("ufw allow {port}"))?;
    }
    scene.sh("ufw --force enable")?;
    let ours = scene.ours()?;
    ensure!(scene.ask().is_err(), "ufw routes nothing by itself");
    let said = scene.obey_the_doctor()?;
    ensure!(said.contains("ufw route allow in on rs-ingress"), "{said}");
    scene.opens("once the doctor's command has run")?;
    scene.sh("ufw reload")?;
    scene.opens("after a reload")?;
    ensure!(scene.ours()? == ours, "a reload of ufw takes nothing of ours");
    scene.sh("ufw --force disable && nft flush ruleset")?;
    until("our rules are back", DEADLINE, || {
        ensure!(scene.ours()? == ours, "not yet");
        Ok(())
    })
    .map(drop)
}

fn firewalld(scene: &Scene) -> Result<()> {
    let command = ["env", ON_BUS, "sh", "-c", FIREWALLD];
    let daemon = scene.t.lab().spawn(WALLED, "firewalld", &command, &[])?;
    let client = |words: &str| scene.sh(&format!("{ON_BUS} firewall-cmd {words}"));
    until("firewalld runs", DEADLINE, || client("--state").map(drop))?;
    for port in OWN_PORTS {
        client(&format!("--permanent --add-port={port}"))?;
    }
    let ours = scene.ours()?;
    for reload in ["--reload", "--complete-reload"] {
        client(reload)?;
        scene.opens(&format!("beside firewalld, after {reload}"))?;
        ensure!(scene.ours()? == ours, "{reload} takes nothing of ours");
        ensure!(scene.sh("nft list tables")?.contains("inet firewalld"), "theirs stand");
    }
    scene.t.cli(WALLED, &["network", "doctor"]).context("the doctor is content")?;
    scene.t.lab().signal(WALLED, daemon.process, nix::sys::signal::Signal::SIGTERM)?;
    thread::sleep(Duration::from_secs(1));
    scene.sh("nft delete table inet firewalld || true").map(drop)
}
