//! The host that the hostile tests try: what it is sent, what it may answer, and whether it is well afterwards. It must
//! never let an answer pass that is a fault of ours.

use std::{
    cell::RefCell,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use it::{Api, ClusterUnderTest, IMAGE};
use serde_json::{Value, json};

/// The head of an answer comes within this.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The container that the test has.
pub(super) const NAME: &str = "victim";
/// A refusal is a sentence.
const MAX_REFUSAL_BYTES: u64 = 1 << 20;
/// Faults that a failed test shows.
const MAX_SHOWN: usize = 60;

/// Numbers that are the same in each run (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.next() % of.len() as u64).unwrap_or(0)]
    }
}

pub(crate) fn seed() -> u64 {
    std::env::var("RSWARM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

pub(super) struct Victim {
    t: ClusterUnderTest,
    pub(super) api: Api,
    pid: i32,
    /// All that was answered as it must not be: one run shows all of it.
    faults: RefCell<Vec<String>>,
}

impl Victim {
    /// One manager with one container that runs.
    pub(super) fn up(test: &str) -> Result<Self> {
        let t = ClusterUnderTest::up(test, 1, 0)?;
        let api = t.first()?;
        api.post(&format!("/containers/create?name={NAME}"), &json!({ "Image": IMAGE, "Cmd": ["sleep", "100000"] }))?;
        api.post(&format!("/containers/{NAME}/start"), &Value::Null)?;
        let pid = t.cluster.daemon("h1")?.context("a daemon")?.pid;
        Ok(Self { t, api, pid, faults: RefCell::default() })
    }

    /// Sends this, and reads the head of the answer; of a refusal, its body too. `None`: the connection was closed.
    fn send(&self, bytes: &[u8]) -> Result<Option<(u16, String)>> {
        let mut stream = UnixStream::connect(self.api.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(bytes).ok(); // a refusal may come before all was read
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => head.push(byte[0]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error).context("no answer"),
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let status: u16 = head.split(' ').nth(1).and_then(|text| text.parse().ok()).context("a status")?;
        let mut body = String::new();
        if status >= 400 {
            stream.shutdown(Shutdown::Write).ok();
            stream.take(MAX_REFUSAL_BYTES).read_to_string(&mut body).ok(); // cut off by what was not read
        }
        Ok(Some((status, body)))
    }

    fn request(&self, method: &str, path: &[u8], body: &[u8]) -> Result<(u16, String)> {
        let head = format!(
            " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let whole = [method.as_bytes(), b" ", path, head.as_bytes(), body].concat();
        let answer = self.send(&whole)?;
        answer.with_context(|| format!("{method} {}: closed without an answer", shown(path)))
    }

    /// Notes an answer that no request may get, with the request.
    pub(super) fn check(&self, method: &str, path: &[u8], body: &[u8], must_fail: bool) -> Result<String> {
        let (status, answer) = match self.request(method, path, body) {
            Ok(answer) => answer,
            Err(error) => {
                self.note(format!("{method} {} {}: {error:#}", shown(path), shown(body)));
                return Ok(String::new());
            }
        };
        let what = format!("{method} {} {}: {status} {}", shown(path), shown(body), shown(answer.as_bytes()));
        let has_message = || serde_json::from_str::<Value>(&answer).is_ok_and(|value| value["message"].is_string());
        // what Docker answers to a host that is in a cluster already
        let is_dockers = status == 503 && answer.contains("already part of a swarm");
        if (status >= 500 && !is_dockers) || (must_fail && status < 400) {
            self.note(what);
        } else if status >= 400 && method != "HEAD" && !has_message() {
            self.note(format!("no message: {what}"));
        }
        Ok(answer)
    }

    pub(super) fn note(&self, fault: String) {
        self.faults.borrow_mut().push(fault);
    }

    /// All went as it must.
    pub(super) fn verdict(&self) -> Result<()> {
        let faults = self.faults.borrow();
        ensure!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults[..faults.len().min(MAX_SHOWN)].join("\n"));
        Ok(())
    }

    /// The same daemon, the same container, no panic.
    pub(super) fn is_well(&self) -> Result<()> {
        let now = self.t.cluster.daemon("h1")?.context("the daemon has ended")?.pid;
        ensure!(now == self.pid, "the daemon is another one");
        self.api.get("/info")?;
        let shown = self.api.get(&format!("/containers/{NAME}/json"))?;
        ensure!(shown["State"]["Running"] == json!(true), "{}", shown["State"]);
        for (path, text) in self.t.lab().logs("h1")? {
            if let Some(at) = text.find("panicked") {
                bail!("{}: {}", path.display(), text[at..].chars().take(400).collect::<String>());
            }
        }
        Ok(())
    }
}

/// The beginning, so that a failure says which request it was.
pub(super) fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).flat_map(char::escape_debug).collect()
}
