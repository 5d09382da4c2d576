//! Published ports under load by `wrk`, with connections that stay and with a new one for each request, while tasks,
//! nodes and processes come and go: no request fails.

use std::{
    fs, thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, TaskRow, until};
use lab::Spawned;
use nix::sys::signal::Signal;

use crate::{can_make_hosts, hosts::members};

/// Outside of the cluster, and where all requests enter.
const OUTSIDE: &str = "h6";
const ENTRY: &str = "h2";
/// Of each phase; `cargo xtask bench mesh --faults` says 60.
const SECONDS: &str = "RSWARM_WRK_SECONDS";
const SHORT: u64 = 5;
/// A request that begins later after the death of a host does not fail, in seconds.
const FAILS_WITHIN: f64 = 1.0;
/// How long a task that is to stop gets requests at the least, and how long it waits for slow hosts (docs/design/007).
const DRAINS: Duration = Duration::from_secs(2);
const WAITS: Duration = Duration::from_secs(10);

/// One answer for each connection.
const CLOSES: &str = "mkdir -p /var/www; echo ok >/var/www/index.html; trap 'exit 0' TERM; \
    httpd -f -p 80 -h /var/www & wait";
/// Connections that stay. A server that is told to stop says so in its next answer and closes, as good ones do.
const STAYS: &str = r"cat >/serve <<'END'
#!/bin/sh
while read -r line; do
    [ ${#line} -gt 1 ] && continue
    if [ -e /stopping ]; then
        printf 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok'
        exit
    fi
    printf 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'
done
END
chmod +x /serve; trap 'touch /stopping; sleep 2; exit 0' TERM; nc -ll -p 80 -e /serve & wait";

/// A task gets requests when it listens, not when its process has begun.
const LISTENS: [&str; 4] = ["--health-cmd", "wget -q -O /dev/null http://127.0.0.1/", "--health-interval", "500ms"];

/// Four clients with a new connection for each request, until told to stop: when those began that failed, and how many did not.
const DATED: &str = "
import os, socket, sys, threading, time
ok = [0] * 4
def run(which):
    while not os.path.exists('/tmp/stop'):
        begin = time.time()
        try:
            with socket.create_connection((sys.argv[1], 8080), 5) as s:
                s.settimeout(5)
                s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
                said = b''
                while more := s.recv(4096): said += more
            assert b' 200 ' in said.split(b'\\r\\n')[0], said
            ok[which] += 1
        except Exception as error: print('failed', begin, time.time(), repr(error), flush=True)
        time.sleep(.005)
threads = [threading.Thread(target=run, args=(which,)) for which in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print('done', sum(ok), flush=True)
";

struct Load {
    t: ClusterUnderTest,
    address: String,
    seconds: u64,
}

impl Load {
    fn begin(&self, name: &str, port: u16, seconds: u64, more: &[&str]) -> Result<Spawned> {
        let (time, url) = (format!("{seconds}s"), format!("http://{}:{port}/", self.address));
        let head = ["wrk", "-t1", "-c4", "--timeout", "10s", "-d", &time];
        Ok(self.t.lab().spawn(OUTSIDE, name, &[&head[..], more, &[&url]].concat(), &[])?)
    }

    /// How many requests were answered; any that was not is an error.
    fn end(&self, wrk: &Spawned) -> Result<u64> {
        let code = wrk.wait(Duration::from_secs(2 * self.seconds) + DEADLINE);
        let said = fs::read_to_string(&wrk.log)?;
        ensure!(code == Some(0), "wrk ended with {code:?}: {said}");
        ensure!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
        let count = said.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
        count.with_context(|| format!("wrk said {said}"))
    }

    /// Both kinds of clients for so long, and what happens meanwhile.
    fn phase(&self, what: &str, seconds: u64, happens: impl FnOnce(&ClusterUnderTest) -> Result<()>) -> Result<()> {
        let stay = self.begin("stay", 8081, seconds, &[])?;
        let close = self.begin("close", 8080, seconds, &["-H", "Connection: close"])?;
        thread::sleep(Duration::from_secs(1));
        happens(&self.t).with_context(|| what.to_owned())?;
        let stay = self.end(&stay).with_context(|| format!("{what}: connections that stay"))?;
        let close = self.end(&close).with_context(|| format!("{what}: a connection for each request"))?;
        eprintln!("{what}: {stay} requests on connections that stay, {close} on new ones, none failed");
        ensure!(stay > 100 && close > 100, "{what}: {stay} and {close} requests are no load");
        Ok(())
    }

    /// What one phase began is over before the next.
    fn settled(&self, count: usize) -> Result<()> {
        for name in ["close", "stay"] {
            self.t.running(name, count)?;
            until("the update is over", DEADLINE, || {
                let state = self.t.first()?.get(&format!("/services/{name}"))?["UpdateStatus"]["State"].clone();
                ensure!(state.is_null() || state == "completed", "{name}: {state}");
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Four clients of the port 8080 at one address.
struct Dated<'a> {
    t: &'a ClusterUnderTest,
    host: &'static str,
    client: Spawned,
}

/// What became of their requests.
struct Outcome {
    answered: u64,
    /// When each one began and ended that failed, in seconds since 1970.
    failed: Vec<(f64, f64)>,
    said: String,
}

impl<'a> Dated<'a> {
    fn begin(t: &'a ClusterUnderTest, address: &str) -> Result<Self> {
        Self::begin_in(t, OUTSIDE, &[], address)
    }

    /// `enter` leads from that host to where the clients are.
    fn begin_in(t: &'a ClusterUnderTest, host: &'static str, enter: &[&str], address: &str) -> Result<Self> {
        t.lab().run(host, &["rm", "-f", "/tmp/stop"])?;
        let client = t.lab().spawn(host, "dated", &[enter, &["python3", "-c", DATED, address]].concat(), &[])?;
        Ok(Self { t, host, client })
    }

    fn end(self) -> Result<Outcome> {
        self.t.lab().run(self.host, &["touch", "/tmp/stop"])?;
        let code = self.client.wait(DEADLINE);
        let said = fs::read_to_string(&self.client.log)?;
        ensure!(code == Some(0), "the client ended with {code:?}: {said}");
        let times = said.lines().filter_map(|line| {
            let mut words = line.strip_prefix("failed ")?.split(' ').map(str::parse::<f64>);
            Some((words.next()?.ok()?, words.next()?.ok()?))
        });
        let failed = times.collect();
        let answered = said.lines().find_map(|line| line.strip_prefix("done ")?.parse::<u64>().ok()).unwrap_or(0);
        ensure!(answered > 100, "{answered} requests are no load: {said}");
        Ok(Outcome { answered, failed, said })
    }
}

/// A host of backends dies without a word: requests fail only if they began within the first second, and afterwards none does,
/// whichever kind.
fn a_host_dies(load: &Load, host: &str) -> Result<()> {
    let clients = Dated::begin(&load.t, &load.address)?;
    // Long enough for each client to use a port again that it had at that time.
    fails_within_the_first_second(clients, host, || load.phase("after a host died", 2 * load.seconds, |_| Ok(())))
}

fn fails_within_the_first_second(clients: Dated<'_>, host: &str, then: impl FnOnce() -> Result<()>) -> Result<()> {
    thread::sleep(Duration::from_secs(1));
    clients.t.lab().kill(host)?;
    let died = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    thread::sleep(Duration::from_secs_f64(FAILS_WITHIN));
    let phase = then();
    let Outcome { answered, failed, said } = clients.end()?;
    let [last, over] = [|(begun, _): &(f64, f64)| *begun, |(_, ended): &(f64, f64)| *ended]
        .map(|time| failed.iter().map(time).fold(died, f64::max) - died);
    eprintln!(
        "a host died: {} of {} requests failed, the last that did began {last:.2} s after it, and {over:.2} s after it all had",
        failed.len(),
        answered + failed.len() as u64,
    );
    phase?;
    ensure!(last <= FAILS_WITHIN, "a request that began {last:.2} s after a host died failed: {said}");
    Ok(())
}

fn load() -> Result<Load> {
    let t = ClusterUnderTest::with_bare("load", 1, 4, 1)?;
    for (name, port, program) in [("close", "8080:80", CLOSES), ("stay", "8081:80", STAYS)] {
        let head = ["service", "create", "--detach", "--name", name, "--replicas", "5", "--publish", port];
        t.cli("h1", &[&head[..], &LISTENS, &["--update-parallelism", "3", IMAGE, "sh", "-c", program]].concat())?;
    }
    let address = address_of(&t, ENTRY)?;
    for (name, port) in [("close", 8080), ("stay", 8081)] {
        members(&t, name, 5)?;
        port_is_open(&t, &address, port)?;
    }
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(SHORT);
    Ok(Load { t, address, seconds })
}

fn address_of(t: &ClusterUnderTest, host: &str) -> Result<String> {
    let listed = t.lab().run(host, &["busybox", "ip", "-4", "-o", "addr"])?;
    let mut words = listed.split_whitespace().filter_map(|word| word.split_once('/'));
    Ok(words.find(|(address, _)| address.starts_with("10.98.")).context("an address")?.0.to_owned())
}

fn port_is_open(t: &ClusterUnderTest, address: &str, port: u16) -> Result<()> {
    let url = format!("http://{address}:{port}/");
    until("the port is open", DEADLINE, || {
        Ok(t.lab().run(OUTSIDE, &["busybox", "timeout", "3", "wget", "-q", "-O", "-", &url]).map(drop)?)
    })
    .map(drop)
}

fn both(t: &ClusterUnderTest, words: &[&str], before_name: &str, after_name: &str) -> Result<()> {
    for name in ["close", "stay"] {
        let last = format!("{before_name}{name}{after_name}");
        t.cli("h1", &[words, &[&last]].concat())?;
    }
    Ok(())
}

/// P05, P24, P36: 0 failed requests, whichever kind, in rolling updates of both orders, scaling down and up, a drain, and
/// while daemon and netd of the host of entry are killed; when a host of backends dies, only what began within the first second.
#[test]
fn p05_no_request_of_wrk_fails() -> Result<()> {
    if !can_make_hosts("p05_no_request_of_wrk_fails") {
        return Ok(());
    }
    let load = load()?;
    if load.t.lab().run(OUTSIDE, &["sh", "-c", "command -v wrk"]).is_err() {
        eprintln!("SKIPPED p05_no_request_of_wrk_fails: wrk is not installed");
        return Ok(());
    }
    for order in ["start-first", "stop-first"] {
        let words = ["service", "update", "--detach", "--force", "--update-order", order];
        load.phase(&format!("an update, {order}"), 2 * load.seconds, |t| both(t, &words, "", ""))?;
        load.settled(5)?;
    }
    let scale = ["service", "scale", "--detach"];
    load.phase("from 5 tasks to 2", load.seconds, |t| both(t, &scale, "", "=2"))?;
    load.settled(2)?;
    load.phase("from 2 tasks to 8", load.seconds, |t| both(t, &scale, "", "=8"))?;
    load.settled(8)?;
    let drain = ["node", "update", "--availability", "drain", "h5"];
    load.phase("a node is drained", load.seconds, |t| t.cli("h1", &drain).map(drop))?;
    load.settled(8)?;
    load.phase("daemon and netd of the entry are killed", load.seconds, |t| {
        let daemon = t.cluster.daemon(ENTRY)?.context("it runs")?;
        t.lab().signal(ENTRY, daemon, Signal::SIGKILL)?;
        t.lab().run(ENTRY, &["kill", "-9", &process_of_entry(t, "netd")?])?;
        thread::sleep(Duration::from_secs(1));
        Ok(t.cluster.start_daemon(ENTRY).map(drop)?)
    })?;
    a_host_dies(&load, "h4")
}

/// P05, P10: through a virtual address of an encrypted network, whose packets a process carries, no later than through a port.
#[test]
fn p05_an_encrypted_network_forgets_a_dead_host_within_a_second() -> Result<()> {
    if !can_make_hosts("p05_an_encrypted_network_forgets_a_dead_host_within_a_second") {
        return Ok(());
    }
    let t = ClusterUnderTest::up("sealed", 1, 3)?;
    t.cli("h1", &["network", "create", "-d", "overlay", "--opt", "encrypted", "vault"])?;
    let listens = CLOSES.replace("-p 80 ", "-p 8080 ");
    let head = ["service", "create", "--detach", "--name", "close", "--network", "vault", "--replicas", "3"];
    let place = ["--replicas-max-per-node", "1", "--constraint", "node.hostname!=h1"];
    t.cli("h1", &[&head[..], &place, &[IMAGE, "sh", "-c", &listens]].concat())?;
    let head = ["service", "create", "--detach", "--name", "client", "--network", "vault"];
    t.cli("h1", &[&head[..], &["--constraint", "node.hostname==h1", IMAGE, "sleep", "100000"]].concat())?;
    members(&t, "close", 3)?;
    let client = members(&t, "client", 1)?.remove(0);
    until("the client is answered", DEADLINE, || {
        client.run(&t, &["busybox", "timeout", "3", "wget", "-q", "-O", "-", "http://close:8080/"]).map(drop)
    })?;
    let service = t.first()?.get("/services/close")?;
    let address = service["Endpoint"]["VirtualIPs"][0]["Addr"].as_str().context("a virtual address")?;
    let (address, _) = address.split_once('/').context("with its network")?;
    let pid = client.task.pid.to_string();
    let enter = ["nsenter", "-t", &pid, "-n"];
    let before = Dated::begin_in(&t, "h1", &enter, address)?;
    thread::sleep(Duration::from_secs(1));
    let Outcome { failed, said, .. } = before.end()?;
    ensure!(failed.is_empty(), "before anything happened: {said}");
    // A process that carries the packets is started again: none of what it carries ends for it.
    let netd = t.lab().run("h3", &["pgrep", "-o", "-f", "rswarm netd"])?;
    let clients = Dated::begin_in(&t, "h1", &enter, address)?;
    t.lab().run("h3", &["kill", "-9", netd.trim()])?;
    thread::sleep(Duration::from_secs(4));
    let Outcome { failed, said, .. } = clients.end()?;
    ensure!(failed.is_empty(), "a data plane process was started again: {said}");
    let clients = Dated::begin_in(&t, "h1", &enter, address)?;
    fails_within_the_first_second(clients, "h4", || {
        thread::sleep(Duration::from_secs(5));
        Ok(())
    })
}

/// P05: a host whose data plane or daemon is stopped for a while still leads connections by the rules it has. A task that is to
/// stop waits until it goes on and says that it leads nothing there any more, and no request fails; but for ten seconds
/// at the longest.
#[test]
fn p05_a_drain_waits_for_a_slow_host() -> Result<()> {
    if !can_make_hosts("p05_a_drain_waits_for_a_slow_host") {
        return Ok(());
    }
    let t = ClusterUnderTest::with_bare("slow", 1, 4, 1)?;
    let head = ["service", "create", "--detach", "--name", "close", "--replicas", "4", "--publish", "8080:80"];
    let elsewhere = format!("node.hostname!={ENTRY}");
    let place = ["--constraint", &elsewhere, "--replicas-max-per-node", "1"];
    t.cli("h1", &[&head[..], &LISTENS, &place, &[IMAGE, "sh", "-c", CLOSES]].concat())?;
    t.running("close", 4)?;
    let address = address_of(&t, ENTRY)?;
    port_is_open(&t, &address, 8080)?;
    for (left, what) in [(3, "netd"), (2, "daemon")] {
        let pid = process_of_entry(&t, what)?;
        let clients = Dated::begin(&t, &address)?;
        thread::sleep(Duration::from_secs(1));
        let before = t.running("close", left + 1)?.0;
        t.lab().run(ENTRY, &["kill", "-STOP", &pid])?;
        let stopped = Instant::now();
        t.cli("h1", &["service", "scale", "--detach", &format!("close={left}")])?;
        let leaving = until("one is to stop", DEADLINE, || {
            let tasks = t.tasks("close")?;
            let leaves = |row: &&TaskRow| row.desired != "running" && before.iter().any(|was| was.id == row.id);
            Ok(tasks.iter().find(leaves).context("none yet")?.clone())
        })?;
        // Twice the time that the others are given at the least.
        thread::sleep((2 * DRAINS).saturating_sub(stopped.elapsed()));
        let state = task(&t, &leaving.0.id)?.state;
        t.lab().run(ENTRY, &["kill", "-CONT", &pid])?;
        ensure!(state == "running", "{what}: {state} while {ENTRY} still leads connections there");
        let (_, after) = until("it stops", DEADLINE, || ensure_ended(&t, &leaving.0.id))?;
        eprintln!("{what} was stopped for {:?}; the task ended {after:?} after that", stopped.elapsed() - after);
        let Outcome { answered, failed, said } = clients.end()?;
        ensure!(failed.is_empty(), "{what}: {} of {answered} requests failed: {said}", failed.len());
    }
    // A data plane process that hangs is replaced by its daemon before that; this one has an old plan and says so.
    let pid = process_of_entry(&t, "daemon")?;
    t.lab().run(ENTRY, &["kill", "-STOP", &pid])?;
    let told = Instant::now();
    t.cli("h1", &["service", "scale", "--detach", "close=1"])?;
    let ended = until("it does not wait for ever", DEADLINE, || {
        let tasks = t.tasks("close")?;
        let running = tasks.iter().filter(|row| row.state == "running").count();
        ensure!(running == 1, "{tasks:#?}");
        Ok(())
    });
    t.lab().run(ENTRY, &["kill", "-CONT", &pid])?;
    ended?;
    let took = told.elapsed();
    ensure!((WAITS..WAITS + DEADLINE / 4).contains(&took), "stopped after {took:?}");
    Ok(())
}

fn process_of_entry(t: &ClusterUnderTest, what: &str) -> Result<String> {
    Ok(t.lab().run(ENTRY, &["pgrep", "-o", "-f", &format!("rswarm {what}")])?.trim().to_owned())
}

fn task(t: &ClusterUnderTest, id: &str) -> Result<TaskRow> {
    t.tasks("close")?.into_iter().find(|row| row.id == id).with_context(|| format!("no task {id}"))
}

fn ensure_ended(t: &ClusterUnderTest, id: &str) -> Result<()> {
    let state = t.tasks("close")?.into_iter().find(|row| row.id == id).map(|row| row.state);
    ensure!(state.as_deref().is_none_or(|state| state != "running"), "{id}: {state:?}");
    Ok(())
}
