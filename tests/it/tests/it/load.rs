//! Published ports under load by `wrk`, with connections that stay and with a new one for each request, while tasks,
//! nodes and processes come and go: no request fails.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use it::{ClusterUnderTest, DEADLINE, IMAGE, until};
use lab::Spawned;
use nix::sys::signal::Signal;

use crate::{can_make_hosts, hosts::members};

/// Outside of the cluster, and where all requests enter.
const OUTSIDE: &str = "h6";
const ENTRY: &str = "h2";
/// Of each phase; the nightly run says 60.
const SECONDS: &str = "RSWARM_WRK_SECONDS";
const SHORT: u64 = 10;

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

struct Load {
    t: ClusterUnderTest,
    address: String,
    seconds: u64,
}

impl Load {
    fn begin(&self, name: &str, port: u16, more: &[&str]) -> Result<Spawned> {
        let (time, url) = (format!("{}s", self.seconds), format!("http://{}:{port}/", self.address));
        let head = ["wrk", "-t1", "-c4", "--timeout", "10s", "-d", &time];
        Ok(self.t.lab().spawn(OUTSIDE, name, &[&head[..], more, &[&url]].concat(), &[])?)
    }

    /// How many requests were answered; any that was not is an error.
    fn end(&self, wrk: &Spawned) -> Result<u64> {
        let code = wrk.wait(Duration::from_secs(self.seconds) + DEADLINE);
        let said = fs::read_to_string(&wrk.log)?;
        ensure!(code == Some(0), "wrk ended with {code:?}: {said}");
        ensure!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
        let count = said.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
        count.with_context(|| format!("wrk said {said}"))
    }

    /// Both kinds of clients, and what happens meanwhile.
    fn phase(&self, what: &str, happens: impl FnOnce(&ClusterUnderTest) -> Result<()>) -> Result<()> {
        let stay = self.begin("stay", 8081, &[])?;
        let close = self.begin("close", 8080, &["-H", "Connection: close"])?;
        thread::sleep(Duration::from_secs(1));
        happens(&self.t).with_context(|| what.to_owned())?;
        let stay = self.end(&stay).with_context(|| format!("{what}: connections that stay"))?;
        let close = self.end(&close).with_context(|| format!("{what}: a connection for each request"))?;
        eprintln!("{what}: {stay} requests on connections that stay, {close} on new ones, none failed");
        ensure!(stay > 100 && close > 100, "{what}: {stay} and {close} requests are no load");
        Ok(())
    }
}

fn load() -> Result<Load> {
    let t = ClusterUnderTest::with_bare("load", 1, 4, 1)?;
    for (name, port, program) in [("close", "8080:80", CLOSES), ("stay", "8081:80", STAYS)] {
        let head = ["service", "create", "--detach", "--name", name, "--replicas", "5", "--publish", port];
        t.cli("h1", &[&head[..], &LISTENS, &["--update-parallelism", "2", IMAGE, "sh", "-c", program]].concat())?;
    }
    let listed = t.lab().run(ENTRY, &["busybox", "ip", "-4", "-o", "addr"])?;
    let mut words = listed.split_whitespace().filter_map(|word| word.split_once('/'));
    let address = words.find(|(address, _)| address.starts_with("10.98.")).context("an address")?.0.to_owned();
    for (name, port) in [("close", 8080), ("stay", 8081)] {
        members(&t, name, 5)?;
        let url = format!("http://{address}:{port}/");
        until("the port is open", DEADLINE, || {
            Ok(t.lab().run(OUTSIDE, &["busybox", "timeout", "3", "wget", "-q", "-O", "-", &url]).map(drop)?)
        })?;
    }
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(SHORT);
    Ok(Load { t, address, seconds })
}

fn both(t: &ClusterUnderTest, words: &[&str], before_name: &str, after_name: &str) -> Result<()> {
    for name in ["close", "stay"] {
        let last = format!("{before_name}{name}{after_name}");
        t.cli("h1", &[words, &[&last]].concat())?;
    }
    Ok(())
}

/// P05, P24, P36: 0 failed requests, whichever kind, in rolling updates of both orders, scaling down and up, a drain, and
/// while daemon and netd of the host of entry are killed.
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
        load.phase(&format!("an update, {order}"), |t| both(t, &words, "", ""))?;
    }
    load.phase("from 5 tasks to 2", |t| both(t, &["service", "scale", "--detach"], "", "=2"))?;
    load.phase("from 2 tasks to 8", |t| both(t, &["service", "scale", "--detach"], "", "=8"))?;
    load.phase("a node is drained", |t| t.cli("h1", &["node", "update", "--availability", "drain", "h5"]).map(drop))?;
    load.phase("daemon and netd of the entry are killed", |t| {
        let daemon = t.cluster.daemon(ENTRY)?.context("it runs")?;
        t.lab().signal(ENTRY, daemon, Signal::SIGKILL)?;
        let netd = t.lab().run(ENTRY, &["pgrep", "-o", "-f", "rswarm netd"])?;
        t.lab().run(ENTRY, &["kill", "-9", netd.trim()])?;
        thread::sleep(Duration::from_secs(1));
        Ok(t.cluster.start_daemon(ENTRY).map(drop)?)
    })
}
