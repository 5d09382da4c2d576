//! A person at a container that is about to start, or runs: streams joined before the start, signals passed on, and its end
//! heard of. Used by `run`, `start --attach` and `attach`.

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use hyper::{Method, body::Incoming};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    client::{Client, escape},
    wire::Wire,
};

/// After the streams of a terminal have ended: the time until the daemon has said that the container has.
const END_PATIENCE: std::time::Duration = std::time::Duration::from_millis(1500);
/// What `wait` says is one short object.
const MAX_END_BYTES: usize = 1 << 20;

pub(super) struct Session<'a> {
    pub(super) client: &'a Client,
    pub(super) id: &'a str,
    /// Which streams, as `stdin=1&stdout=1`; empty for none.
    pub(super) streams: String,
    pub(super) stdin: bool,
    pub(super) tty: bool,
    pub(super) detach_keys: &'a str,
    pub(super) sig_proxy: bool,
    /// Waits for the removal: with `--rm` the exit code is known as long.
    pub(super) until_removed: bool,
}

/// Why a session could not be: before the container ran.
pub(super) enum Failure {
    Start(anyhow::Error),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl Session<'_> {
    /// Starts the container and stays until it ends, or the person leaves. The exit code; `None` for who left.
    pub(super) async fn run(self) -> Result<Option<i64>, Failure> {
        let id = escape(self.id);
        let wire = match self.streams.is_empty() {
            true => None,
            false => Some(self.attach().await?),
        };
        let condition = if self.until_removed { "removed" } else { "next-exit" };
        let path = format!("/containers/{id}/wait?condition={condition}");
        let waiting = self.client.stream(Method::POST, &path).await?;
        self.client.post(&format!("/containers/{id}/start"), None).await.map_err(Failure::Start)?;
        Ok(self.stay(wire, waiting).await?)
    }

    /// Joins the container, which runs, and stays until it ends, or the person leaves.
    pub(super) async fn join(self) -> anyhow::Result<Option<i64>> {
        // before its streams: how one ends that ends meanwhile is known
        let waiting = self.client.stream(Method::POST, &format!("/containers/{}/wait", escape(self.id))).await?;
        let wire = self.attach().await?;
        self.stay(Some(wire), waiting).await
    }

    async fn attach(&self) -> anyhow::Result<Wire> {
        let (id, keys) = (escape(self.id), escape(self.detach_keys));
        let path = format!("/containers/{id}/attach?stream=1&{}&detachKeys={keys}", self.streams);
        self.client.take_over(&path, None).await
    }

    async fn stay(&self, wire: Option<Wire>, waiting: Incoming) -> anyhow::Result<Option<i64>> {
        let id = escape(self.id);
        let resize = format!("/containers/{id}/resize");
        let talking = async {
            match wire {
                Some(wire) => wire.converse(self.client, self.stdin, Some(&resize)).await,
                None => std::future::pending().await,
            }
        };
        let ending = end(waiting);
        let passing = pass_signals(self.client, &id, self.sig_proxy && !self.tty);
        tokio::pin!(talking, ending, passing);
        tokio::select! {
            said = &mut talking => said?,
            code = &mut ending => {
                // what it wrote last may still be under way
                let rest = async {
                    tokio::select! { said = &mut talking => said, never = &mut passing => match never {} }
                };
                if !self.streams.is_empty() {
                    tokio::time::timeout(END_PATIENCE, rest).await.unwrap_or(Ok(()))?;
                }
                return code.map(Some);
            }
            never = &mut passing => match never {},
        }
        // Its streams have ended. On a terminal, a person may have left it.
        if !(self.tty && self.stdin) {
            return tokio::select! { code = &mut ending => code.map(Some), never = &mut passing => match never {} };
        }
        match tokio::time::timeout(END_PATIENCE, &mut ending).await {
            Ok(code) => code.map(Some),
            Err(_) if self.is_running().await => Ok(None),
            Err(_) => ending.await.map(Some),
        }
    }

    async fn is_running(&self) -> bool {
        let shown = self.client.get(&format!("/containers/{}/json", escape(self.id))).await;
        shown.is_ok_and(|shown| shown["State"]["Running"] == Value::Bool(true))
    }
}

/// The exit code that the daemon's answer ends with.
pub(super) async fn end(waiting: Incoming) -> anyhow::Result<i64> {
    let whole = http_body_util::Limited::new(waiting, MAX_END_BYTES).collect().await;
    let whole = whole.map_err(|error| anyhow::anyhow!("wait for the container's end: {error}"))?.to_bytes();
    let said: Value = serde_json::from_slice(&whole).context("the daemon closed the connection before the end")?;
    if let Some(message) = said["Error"]["Message"].as_str() {
        anyhow::bail!("{message}");
    }
    said["StatusCode"].as_i64().context("the daemon's answer has no exit code")
}

/// Passes on what this program is sent; never returns.
async fn pass_signals(client: &Client, id: &str, is_wanted: bool) -> std::convert::Infallible {
    let kinds = [
        (SignalKind::interrupt(), "INT"),
        (SignalKind::terminate(), "TERM"),
        (SignalKind::hangup(), "HUP"),
        (SignalKind::quit(), "QUIT"),
        (SignalKind::user_defined1(), "USR1"),
        (SignalKind::user_defined2(), "USR2"),
    ];
    let mut passing = futures::stream::FuturesUnordered::new();
    for (kind, name) in kinds.into_iter().filter(|_| is_wanted) {
        let Ok(mut arriving) = signal(kind) else { continue };
        passing.push(async move {
            while arriving.recv().await.is_some() {
                // one that has just ended gets none
                client.post(&format!("/containers/{id}/kill?signal={name}"), None).await.ok();
            }
        });
    }
    while futures::StreamExt::next(&mut passing).await.is_some() {}
    std::future::pending().await
}
