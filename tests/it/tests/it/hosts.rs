//! Containers of a service and what can be asked of them: shared by the tests of networks.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, TaskRow, until};
use lab::ExecOptions;

/// A web server that answers with the address it sees the client under, and its own host name.
pub const SERVER: &str = "mkdir -p /var/www/cgi-bin; \
    printf '#!/bin/sh\\necho; echo $REMOTE_ADDR $(hostname)\\n' >/var/www/cgi-bin/who; \
    chmod +x /var/www/cgi-bin/who; exec httpd -f -p 80 -h /var/www";

/// A running task and the host it is on.
pub struct Member {
    pub host: String,
    pub task: TaskRow,
}

impl Member {
    /// Runs a command inside the task's container; gives what it printed, or why it failed.
    pub fn run(&self, t: &ClusterUnderTest, arguments: &[&str]) -> Result<String> {
        let pid = self.task.pid.to_string();
        let command = [&["nsenter", "-t", &pid, "-n", "-m", "-u"], arguments].concat();
        let output = t.lab().exec(&self.host, &command, &ExecOptions::default())?;
        ensure!(output.success(), "{arguments:?} in a container on {}: {}{}", self.host, output.stdout, output.stderr);
        Ok(output.stdout)
    }

    /// What the server behind `name` says: the client's address as it sees it, and its own host name.
    pub fn ask(&self, t: &ClusterUnderTest, name: &str) -> Result<(String, String)> {
        let url = format!("http://{name}/cgi-bin/who");
        // not wget's own -T: Debian's static busybox 1.35 crashes on it
        let said = self.run(t, &["busybox", "timeout", "3", "wget", "-q", "-O", "-", &url])?;
        answer(&said).with_context(|| format!("{url} said {said:?}"))
    }

    /// The IPv4 addresses of the container, but loopback.
    pub fn addresses(&self, t: &ClusterUnderTest) -> Result<BTreeSet<String>> {
        let listed = self.run(t, &["busybox", "ip", "-4", "-o", "addr"])?;
        let words = listed.lines().filter_map(|line| line.split_whitespace().nth(3));
        Ok(words.filter(|w| !w.starts_with("127.")).filter_map(|w| Some(w.split_once('/')?.0.to_owned())).collect())
    }

    /// What a name resolves to.
    pub fn resolve(&self, t: &ClusterUnderTest, name: &str) -> Result<BTreeSet<String>> {
        let said = self.run(t, &["busybox", "nslookup", "-type=a", name, "127.0.0.11"])?;
        let answers = said.split("Name:").skip(1).filter_map(|part| part.split("Address:").nth(1));
        Ok(answers.filter_map(|part| Some(part.split_whitespace().next()?.to_owned())).collect())
    }
}

/// Client and server of one answer. The server speaks IPv6 sockets and shows IPv4 clients as mapped addresses.
pub fn answer(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let client = words.next()?.trim_start_matches("[::ffff:").trim_end_matches(']');
    Some((client.to_owned(), words.next()?.to_owned()))
}

pub fn create(t: &ClusterUnderTest, name: &str, replicas: &str, more: &[&str]) -> Result<()> {
    let head = ["service", "create", "--detach", "--name", name, "--replicas", replicas];
    t.cli("h1", &[&head[..], more, &[IMAGE, "sh", "-c", SERVER]].concat()).map(drop)
}

pub fn members(t: &ClusterUnderTest, service: &str, count: usize) -> Result<Vec<Member>> {
    let (tasks, _) = t.running(service, count)?;
    let mut by_id = BTreeMap::new();
    for host in t.cluster.hosts() {
        by_id.insert(t.node_id(&host)?, host);
    }
    let member = |task: TaskRow| {
        let host = by_id.get(&task.node).with_context(|| format!("no host is node {}", task.node))?.clone();
        Ok(Member { host, task })
    };
    tasks.into_iter().map(member).collect()
}

/// A server `web` on the second host and a client on the first, which reach each other through the encrypted
/// network `vault`; gives the client.
pub fn encrypted_pair(t: &ClusterUnderTest) -> Result<Member> {
    t.cli("h1", &["network", "create", "-d", "overlay", "--opt", "encrypted", "vault"])?;
    create(t, "web", "1", &["--network", "vault", "--constraint", "node.hostname==h2"])?;
    create(t, "client", "1", &["--network", "vault", "--constraint", "node.hostname==h1"])?;
    members(t, "web", 1)?;
    let client = members(t, "client", 1)?.remove(0);
    until("the two reach each other", DEADLINE, || client.ask(t, "web").map(drop))?;
    Ok(client)
}

/// What `network doctor` finds on a host where something is not as it should be.
pub fn troubles(t: &ClusterUnderTest, host: &str) -> Result<String> {
    let output = t.cluster.cli(host, &["network", "doctor"])?;
    ensure!(!output.success(), "the doctor of {host} is content: {}", output.stdout);
    Ok(output.stdout)
}

/// Drops packets with this look on their way into a host.
pub fn wall(t: &ClusterUnderTest, host: &str, look: &str) -> Result<()> {
    let rules =
        format!("table inet wall {{ chain input {{ type filter hook prerouting priority -300; {look} drop; }}; }}");
    Ok(t.lab().run(host, &["nft", &rules]).map(drop)?)
}

/// Takes [`wall`] back.
pub fn tear_down(t: &ClusterUnderTest, host: &str) -> Result<()> {
    Ok(t.lab().run(host, &["nft", "delete", "table", "inet", "wall"]).map(drop)?)
}
