//! What happens where connections enter: PROXY protocol headers for who asks for them, and ports that processes of the
//! host have.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::{ExecOptions, Spawned};
use nix::sys::signal::Signal;

use crate::{
    can_make_hosts,
    hosts::{SERVER, answer, members, troubles},
};

const OUTSIDE: &str = "h3";

/// Reads a header of version 2 over IPv4, says whom it names, and echoes.
const HEADER_SERVER: &str = "
import socket, struct, threading
def serve(c):
    head = c.recv(28, socket.MSG_WAITALL)
    assert head[:14] == b'\\r\\n\\r\\n\\0\\r\\nQUIT\\n\\x21\\x11', head
    client, dialled = (socket.inet_ntoa(head[at:at + 4]) for at in (16, 20))
    c.sendall(f'{client} {dialled} {struct.unpack(\"!H\", head[26:])[0]}\\n'.encode())
    while data := c.recv(4096): c.sendall(data)
    c.close()
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', 90)); s.listen(64)
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
";
/// One connection with a message every tenth of a second until it is told to stop; says what came first, and how many.
const HEADER_CLIENT: &str = "
import os, socket, sys, time
c = socket.create_connection((sys.argv[1], 9090), 5); c.settimeout(10)
f = c.makefile('rb')
print(f.readline().decode().strip(), flush=True)
count = 0
while not os.path.exists('/tmp/stop'):
    c.sendall(b'%08d\\n' % count)
    assert f.readline() == b'%08d\\n' % count
    count += 1
    time.sleep(0.1)
print('done', count)
";

fn address(t: &ClusterUnderTest, host: &str) -> Result<String> {
    let listed = t.lab().run(host, &["busybox", "ip", "-4", "-o", "addr"])?;
    let mut words = listed.split_whitespace().filter_map(|word| word.split_once('/'));
    Ok(words.find(|(address, _)| address.starts_with("10.98.")).context("an address")?.0.to_owned())
}

fn ask(t: &ClusterUnderTest, from: &str, to: &str, port: u16) -> Result<String> {
    let url = format!("http://{to}:{port}/cgi-bin/who");
    let ask = ["busybox", "timeout", "2", "wget", "-q", "-O", "-", &url];
    let output = t.lab().exec(from, &ask, &ExecOptions::default())?;
    ensure!(output.success(), "{url}: {}{}", output.stdout, output.stderr);
    Ok(answer(&output.stdout).with_context(|| format!("{url} said {:?}", output.stdout))?.0)
}

/// P01, P24: a connection whose header names its client outlives the daemon and netd of the host where it came in.
#[test]
fn p01_a_header_for_who_asks_for_one() -> Result<()> {
    if !can_make_hosts("p01_a_header_for_who_asks_for_one") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_bare("header", 1, 1, 1)?;
    let refused = t.cli_fails(
        "h1",
        &["service", "create", "-d", "--publish", "published=53,target=53,protocol=udp,proxy_protocol=v2", IMAGE],
    )?;
    ensure!(refused.contains("only connections over tcp have a beginning"), "{refused}");
    let head = ["service", "create", "--detach", "--name", "web", "--constraint", "node.hostname==h1"];
    let publish = ["--publish", "published=9090,target=90,proxy_protocol=v2", "--publish", "8080:80"];
    t.cli("h1", &[&head[..], &publish, &[IMAGE, "sh", "-c", SERVER]].concat())?;
    let task = members(&t, "web", 1)?.remove(0);
    let pid = task.task.pid.to_string();
    t.lab().spawn("h1", "server", &["nsenter", "-t", &pid, "-n", "python3", "-c", HEADER_SERVER], &[])?;
    let (entry, own) = (address(&t, "h2")?, address(&t, OUTSIDE)?);
    until("the other port is open, without a header", DEADLINE, || {
        ensure!(ask(&t, OUTSIDE, &entry, 8080)? == own);
        Ok(())
    })?;
    let (client, _) = until("a connection", DEADLINE, || {
        let client = t.lab().spawn(OUTSIDE, "client", &["python3", "-c", HEADER_CLIENT, &entry], &[])?;
        thread::sleep(Duration::from_millis(500));
        let said = fs::read_to_string(&client.log)?;
        ensure!(said.starts_with(&format!("{own} {entry} 9090")), "{said}");
        Ok(client)
    })?;
    restart(&t, "h2")?;
    until("the port answers again", DEADLINE, || ask(&t, OUTSIDE, &entry, 8080).map(drop))?;
    thread::sleep(Duration::from_secs(1));
    let said = stop(&t, &client)?;
    let count: u32 =
        said.lines().last().and_then(|line| line.strip_prefix("done ")?.parse().ok()).context("a count")?;
    ensure!(count > 10, "{said}");
    Ok(())
}

/// Daemon and netd are killed, and the daemon is started again.
fn restart(t: &ClusterUnderTest, host: &str) -> Result<()> {
    let daemon = t.cluster.daemon(host)?.context("it runs")?;
    t.lab().signal(host, daemon, Signal::SIGKILL)?;
    let netd = t.lab().run(host, &["pgrep", "-o", "-f", "rswarm netd"])?;
    t.lab().run(host, &["kill", "-9", netd.trim()])?;
    thread::sleep(Duration::from_secs(2));
    Ok(t.cluster.start_daemon(host).map(drop)?)
}

fn stop(t: &ClusterUnderTest, client: &Spawned) -> Result<String> {
    t.lab().run(OUTSIDE, &["touch", "/tmp/stop"])?;
    let code = client.wait(DEADLINE);
    let said = fs::read_to_string(&client.log)?;
    ensure!(code == Some(0), "the client ended with {code:?}: {said}");
    Ok(said)
}

/// P32, bad input: a port that a process of one host has stays his there, and is the service's on the others; the node
/// and the doctor say who it is; when he goes the port is the service's there too. Who listens at one address keeps that.
#[test]
fn p32_a_port_that_a_process_has() -> Result<()> {
    if !can_make_hosts("p32_a_port_that_a_process_has") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_bare("taken", 1, 1, 1)?;
    let listen = |at: &str| {
        let (host, port) = at.split_once(':').context("a place")?;
        let code = format!(
            "
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('{host}', {port})); s.listen(8)
while True:
    c = s.accept()[0]; c.recv(999); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nprocess h2\\n'); c.close()
"
        );
        Ok::<_, anyhow::Error>(t.lab().spawn("h2", "process", &["python3", "-c", &code], &[])?)
    };
    let process = listen("0.0.0.0:8080")?;
    listen("127.0.0.1:8090")?;
    thread::sleep(Duration::from_millis(500));
    let head = ["service", "create", "--detach", "--name", "web", "--publish", "8080:80", "--publish", "8090:80"];
    t.cli("h1", &[&head[..], &[IMAGE, "sh", "-c", SERVER]].concat())?;
    members(&t, "web", 1)?;
    let (first, second) = (address(&t, "h1")?, address(&t, "h2")?);
    let own = address(&t, OUTSIDE)?;
    until("the ports are open", DEADLINE, || {
        ensure!(ask(&t, OUTSIDE, &first, 8080)? == own && ask(&t, OUTSIDE, &second, 8090)? == own);
        Ok(())
    })?;
    ensure!(ask(&t, OUTSIDE, &second, 8080)? == "process", "the process was there first");
    ensure!(ask(&t, "h2", "127.0.0.1", 8090)? == "process", "its address stays the process's");
    let sentence = "published port 8080/tcp is not open on this host: python3 (pid ";
    until("the node says so", DEADLINE, || {
        let node = t.cli("h1", &["node", "inspect", "h2"])?;
        ensure!(node.contains(sentence), "{node}");
        Ok(())
    })?;
    let said = troubles(&t, "h2")?;
    ensure!(said.contains(sentence) && said.contains("127.0.0.1:8090 over tcp stays with python3"), "{said}");

    t.lab().signal("h2", process.process, Signal::SIGKILL)?;
    until("the port is the service's", DEADLINE, || {
        ensure!(ask(&t, OUTSIDE, &second, 8080)? == own);
        Ok(())
    })?;
    let late = listen("0.0.0.0:8080")?;
    until("the one that came late is told", DEADLINE, || {
        let node = t.cli("h1", &["node", "inspect", "h2"])?;
        ensure!(node.contains("hears nothing there: port 8080/tcp was published before"), "{node}");
        Ok(())
    })?;
    ensure!(ask(&t, OUTSIDE, &second, 8080)? == own);
    t.lab().signal("h2", late.process, Signal::SIGKILL)?;
    until("nobody is in the way", DEADLINE, || {
        let node = t.cli("h1", &["node", "inspect", "h2"])?;
        ensure!(!node.contains("8080/tcp"), "{node}");
        Ok(())
    })?;
    Ok(())
}
