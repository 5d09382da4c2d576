//! Ports published through the routing mesh, asked from a host outside of the cluster: every host answers, and the
//! application sees who really asks.

use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::{ExecOptions, Spawned};
use nix::sys::signal::Signal;

use crate::{
    can_make_hosts,
    hosts::{Member, SERVER, answer, members},
};

/// The host that belongs to no cluster.
const OUTSIDE: &str = "h4";

/// Answers datagrams at one port, on a socket bound to no address, with the sender's address.
const UDP_SERVER: &str = "
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(('::', 53))
while True:
    data, client = s.recvfrom(2048)
    s.sendto((client[0].replace('::ffff:', '') + ' ' + socket.gethostname()).encode(), client)
";
/// Sends one datagram and prints the answer; only one from the address that was asked counts.
const UDP_CLIENT: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
s.connect((sys.argv[1], int(sys.argv[2])))
s.send(b'who')
print(s.recv(2048).decode())
";
/// Sends back what it gets, to each client as long as it stays.
const ECHO_SERVER: &str = "
import socket, threading
def serve(c):
    while True:
        data = c.recv(4096)
        if not data: return
        c.sendall(data)
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', 9000)); s.listen(64)
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
";
/// One connection, ten messages a second, until told to stop: says how many came back and the longest wait.
const ECHO_CLIENT: &str = "
import os, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)
s.settimeout(10)
count, longest = 0, 0.0
while not os.path.exists('/tmp/stop'):
    begin = time.time()
    s.sendall(b'%08d' % count)
    got = b''
    while len(got) < 8:
        more = s.recv(8 - len(got))
        assert more, 'the connection was closed'
        got += more
    assert got == b'%08d' % count
    longest = max(longest, time.time() - begin)
    count += 1
    time.sleep(0.1)
print('done', count, longest)
";
/// New connections to all hosts in turn until told to stop: prints each failure with its time, and the counts.
const REQUESTS: &str = "
import os, socket, sys, time
ok = bad = 0
while not os.path.exists('/tmp/stop'):
    for host in sys.argv[1:]:
        try:
            s = socket.create_connection((host, 8080), 3)
            s.settimeout(3)
            s.sendall(b'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n')
            said = b''
            while True:
                more = s.recv(4096)
                if not more: break
                said += more
            s.close()
            assert b' 200 ' in said.split(b'\\r\\n')[0], said
            ok += 1
        except Exception as error:
            bad += 1
            print('failed', time.time(), host, repr(error), flush=True)
    time.sleep(0.005)
print('done', ok, bad, flush=True)
";

/// A host's addresses on the cable between the hosts: IPv4 and IPv6.
fn addresses(t: &ClusterUnderTest, host: &str) -> Result<[String; 2]> {
    let listed = t.lab().run(host, &["busybox", "ip", "-o", "addr"])?;
    let find = |prefix: &str| {
        let words = listed.split_whitespace().filter_map(|word| word.split_once('/'));
        let mut found = words.map(|(address, _)| address).filter(|address| address.starts_with(prefix));
        found.next().map(str::to_owned).with_context(|| format!("{host} has no address {prefix}…: {listed}"))
    };
    Ok([find("10.98.")?, find("fd98:")?])
}

fn url(address: &str) -> String {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("http://{host}:8080/cgi-bin/who")
}

/// What the service says to a host that asks by TCP: client and server.
fn ask(t: &ClusterUnderTest, from: &str, address: &str) -> Result<(String, String)> {
    let url = url(address);
    let output =
        t.lab().exec(from, &["busybox", "timeout", "3", "wget", "-q", "-O", "-", &url], &ExecOptions::default())?;
    ensure!(output.success(), "{url} asked from {from}: {}{}", output.stdout, output.stderr);
    answer(&output.stdout).with_context(|| format!("{url} said {:?}", output.stdout))
}

fn ask_udp(t: &ClusterUnderTest, from: &str, address: &str) -> Result<(String, String)> {
    let said = t.lab().run(from, &["python3", "-c", UDP_CLIENT, address, "5353"])?;
    answer(&said).with_context(|| format!("{address} said {said:?}"))
}

/// Runs a server of the test in a task's network.
fn serve(t: &ClusterUnderTest, member: &Member, program: &str) -> Result<Spawned> {
    let pid = member.task.pid.to_string();
    let command = ["nsenter", "-t", &pid, "-n", "-u", "python3", "-c", program];
    Ok(t.lab().spawn(&member.host, "server", &command, &[])?)
}

fn publish(t: &ClusterUnderTest, replicas: &str, more: &[&str]) -> Result<()> {
    let head = ["service", "create", "--detach", "--name", "web", "--replicas", replicas, "--publish", "8080:80"];
    t.cli("h1", &[&head[..], more, &[IMAGE, "sh", "-c", SERVER]].concat()).map(drop)
}

/// Starts a program of the test outside; it ends when `/tmp/stop` is there.
fn begin(t: &ClusterUnderTest, program: &str, arguments: &[&str]) -> Result<Spawned> {
    t.lab().run(OUTSIDE, &["rm", "-f", "/tmp/stop"])?;
    Ok(t.lab().spawn(OUTSIDE, "client", &[&["python3", "-c", program][..], arguments].concat(), &[])?)
}

/// Ends it; gives its last line's words after `done`, and the lines before.
fn end(t: &ClusterUnderTest, program: &Spawned) -> Result<(Vec<f64>, Vec<String>)> {
    t.lab().run(OUTSIDE, &["touch", "/tmp/stop"])?;
    let code = program.wait(DEADLINE);
    let log = fs::read_to_string(&program.log)?;
    ensure!(code == Some(0), "the client ended with {code:?}: {log}");
    let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
    let last = lines.pop().unwrap_or_default();
    let numbers = last.strip_prefix("done").with_context(|| format!("the client said {log}"))?;
    Ok((numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect(), lines))
}

/// P01, P23, N-08, N-16: one task; through each of three hosts, by TCP and UDP, IPv4 and IPv6, it sees the client's
/// own address and the client gets its answer from the address it asked; the same after the task moved.
#[test]
fn net_n_16_the_client_is_seen_through_every_host() -> Result<()> {
    if !can_make_hosts("net_n_16_the_client_is_seen_through_every_host") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_bare("mesh", 1, 2, 1)?;
    publish(&t, "1", &["--publish", "published=5353,target=53,protocol=udp"])?;
    let own = addresses(&t, OUTSIDE)?;
    for round in 0..2 {
        let task = members(&t, "web", 1)?.remove(0);
        let server = serve(&t, &task, UDP_SERVER)?;
        for host in t.cluster.hosts() {
            for (address, own) in addresses(&t, &host)?.iter().zip(&own) {
                let what = format!("round {round}: {address} leads to the task on {}", task.host);
                until(&what, DEADLINE, || {
                    let (seen, _) = ask(&t, OUTSIDE, address)?;
                    ensure!(seen.trim_start_matches('[') == own, "TCP: it sees {seen}, the client is {own}");
                    let (seen, _) = ask_udp(&t, OUTSIDE, address)?;
                    ensure!(seen == *own, "UDP: it sees {seen}, the client is {own}");
                    Ok(())
                })?;
            }
        }
        t.lab().signal(&task.host, server.process, Signal::SIGKILL)?;
        t.cli("h1", &["node", "update", "--availability", "drain", &task.host])?;
        until("the task has moved", DEADLINE, || {
            let moved = members(&t, "web", 1)?.remove(0);
            ensure!(moved.host != task.host, "still on {}", task.host);
            Ok(())
        })?;
    }
    Ok(())
}

/// N-16, P36: requests through each host spread evenly over all tasks; the host itself, by its own address and by
/// 127.0.0.1 and ::1, and a container on it are clients as good as any.
#[test]
fn net_n_16_spread_and_local_clients() -> Result<()> {
    if !can_make_hosts("net_n_16_spread_and_local_clients") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_bare("spread", 1, 2, 1)?;
    publish(&t, "5", &[])?;
    let tasks = members(&t, "web", 5)?;
    for host in t.cluster.hosts() {
        let [address, _] = addresses(&t, &host)?;
        until(&format!("{host} knows five tasks"), DEADLINE, || {
            let mut seen = BTreeMap::new();
            for _ in 0..15 {
                *seen.entry(ask(&t, OUTSIDE, &address)?.1).or_insert(0) += 1;
            }
            ensure!(seen.len() == 5 && seen.values().all(|n| *n == 3), "{seen:?}");
            Ok(())
        })?;
        ask(&t, &host, &address).context("from the host itself")?;
        ask(&t, &host, "127.0.0.1").context("from the host itself")?;
        ask(&t, &host, "::1").context("from the host itself")?;
    }
    for task in &tasks {
        let [address, _] = addresses(&t, &task.host)?;
        let said = task.run(&t, &["busybox", "timeout", "3", "wget", "-q", "-O", "-", &url(&address)]);
        answer(&said.with_context(|| format!("a container on {} asks its own host", task.host))?)
            .context("no answer")?;
    }
    t.cli("h1", &["service", "rm", "web"])?;
    let [address, _] = addresses(&t, "h1")?;
    until("the port is closed", DEADLINE, || {
        ensure!(ask(&t, OUTSIDE, &address).is_err(), "it still answers");
        Ok(())
    })?;
    Ok(())
}

/// P05: no request fails while a service is updated, either way round, scaled, and while a node is drained.
#[test]
fn p05_no_request_fails_while_tasks_come_and_go() -> Result<()> {
    if !can_make_hosts("p05_no_request_fails_while_tasks_come_and_go") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_bare("rolling", 1, 2, 1)?;
    publish(&t, "4", &["--update-parallelism", "2"])?;
    members(&t, "web", 4)?;
    let mut all = Vec::new();
    for host in t.cluster.hosts() {
        let [address, _] = addresses(&t, &host)?;
        until("the port is open", DEADLINE, || ask(&t, OUTSIDE, &address).map(drop))?;
        all.push(address);
    }
    let client = begin(&t, REQUESTS, &all.iter().map(String::as_str).collect::<Vec<_>>())?;
    let changes: [&[&str]; 5] = [
        &["service", "update", "--force", "--update-order", "stop-first", "web"],
        &["service", "update", "--force", "--update-order", "start-first", "web"],
        &["service", "scale", "web=2"],
        &["service", "scale", "web=6"],
        &["node", "update", "--availability", "drain", "h3"],
    ];
    for change in changes {
        t.cli("h1", change)?;
        thread::sleep(Duration::from_secs(3));
    }
    let (counts, failures) = end(&t, &client)?;
    println!("requests and failures: {counts:?}");
    ensure!(counts.len() == 2 && counts[0] > 200.0, "{counts:?}");
    ensure!(counts[1] == 0.0, "{counts:?}: {failures:#?}");
    Ok(())
}

/// P02, P10: a connection through the mesh outlives the daemon and the data plane process of its host of entry; and
/// a dead host's tasks get no more requests.
#[test]
fn p10_connections_outlive_processes_and_dead_hosts_are_left_out() -> Result<()> {
    if !can_make_hosts("p10_connections_outlive_processes_and_dead_hosts_are_left_out") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_bare("alive", 1, 2, 1)?;
    publish(&t, "3", &["--publish", "9000:9000"])?;
    for task in members(&t, "web", 3)? {
        serve(&t, &task, ECHO_SERVER)?;
    }
    let ([first, _], [second, _]) = (addresses(&t, "h1")?, addresses(&t, "h2")?);
    until("the ports are open", DEADLINE, || ask(&t, OUTSIDE, &second).map(drop))?;
    let client = begin(&t, ECHO_CLIENT, &[&second, "9000"])?;
    thread::sleep(Duration::from_secs(1));
    let daemon = t.cluster.daemon("h2")?.context("it runs")?;
    t.lab().signal("h2", daemon, Signal::SIGKILL)?;
    let netd = t.lab().run("h2", &["pgrep", "-o", "-f", "rswarm netd"])?;
    t.lab().run("h2", &["kill", "-9", netd.trim()])?;
    thread::sleep(Duration::from_secs(2));
    t.cluster.start_daemon("h2")?;
    until("the port answers again", DEADLINE, || ask(&t, OUTSIDE, &second).map(drop))?;
    thread::sleep(Duration::from_secs(1));
    let (counts, _) = end(&t, &client)?;
    println!("messages, longest wait in seconds: {counts:?}");
    ensure!(counts[0] > 20.0, "{counts:?}");

    let client = begin(&t, REQUESTS, &[&first, &second])?;
    thread::sleep(Duration::from_secs(1));
    let (killed, at) = (unix_seconds()?, Instant::now());
    t.lab().kill("h3")?;
    thread::sleep(Duration::from_secs(10).saturating_sub(at.elapsed()));
    let (counts, failures) = end(&t, &client)?;
    let late = failures.iter().filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    // a failure is noticed when its patience of three seconds is over
    let last = late.map(|at| at - killed).fold(0.0, f64::max);
    println!("requests and failures after the loss of a host: {counts:?}, the last {last:.1} s after it");
    ensure!(last < 6.0, "requests fail {last:.1} s after the host died: {failures:#?}");
    ensure!(counts[0] > 100.0, "{counts:?}");
    Ok(())
}

fn unix_seconds() -> Result<f64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64())
}
