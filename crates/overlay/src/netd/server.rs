//! The unix socket of the data plane process: reads requests, asks the worker, writes answers.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
};
use types::{NodeId, Timestamp};

use super::{
    NetdError,
    held::Given,
    protocol::{Hello, LastApply, PROTOCOL, ProbeUpdate, Request, Response, Status},
    read_frame,
    worker::{Command, wall},
    write_frame,
};
use crate::{
    NetworkPlan, dns,
    probe::{Led, PeerState, ProbePath, ProbeTable},
    wireguard::Standing,
};

/// Clients are the daemon and a person with a command line; more than this is a mistake.
const MAX_CONNECTIONS: usize = 64;

/// What every connection needs.
#[derive(Clone)]
pub struct Server {
    version: String,
    started: Timestamp,
    commands: mpsc::Sender<Command>,
    probes: watch::Receiver<ProbeTable>,
    dns: Arc<dns::Metrics>,
    encryption: watch::Receiver<Standing>,
    last_apply: watch::Receiver<Option<LastApply>>,
    stop: mpsc::Sender<()>,
}

impl Server {
    pub fn new(
        version: String,
        commands: mpsc::Sender<Command>,
        probes: watch::Receiver<ProbeTable>,
        dns: Arc<dns::Metrics>,
        encryption: watch::Receiver<Standing>,
        last_apply: watch::Receiver<Option<LastApply>>,
        stop: mpsc::Sender<()>,
    ) -> Self {
        Self { version, started: wall(), commands, probes, dns, encryption, last_apply, stop }
    }

    /// Serves for ever.
    pub async fn run(self, listener: UnixListener) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let permit = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let server = self.clone();
                        connections.spawn(async move {
                            let _permit = permit;
                            if let Err(error) = server.converse(stream).await {
                                tracing::debug!(%error, "a client's connection ended");
                            }
                        });
                    }
                    Err(error) => {
                        // Too many open files: it passes; trying at once again would only heat the processor.
                        tracing::warn!(%error, "cannot accept a client");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn converse(mut self, mut stream: UnixStream) -> Result<(), NetdError> {
        let hello = Hello { protocol: PROTOCOL, version: self.version.clone(), pid: std::process::id() };
        write_frame(&mut stream, &hello).await?;
        loop {
            let request = match read_frame(&mut stream).await {
                Ok(request) => request,
                Err(NetdError::Form(error)) => {
                    write_frame(&mut stream, &Response::Refused(format!("not a request: {error}"))).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let response = match request {
                Request::Apply(plan) => {
                    self.ask(|answer| Command::Apply { plan: Given::Whole(plan), answer }, |response| response).await
                }
                Request::Change { applies_to, change } => {
                    let plan = Given::Change { applies_to, change };
                    self.ask(|answer| Command::Apply { plan, answer }, |response| response).await
                }
                Request::Observe => {
                    let boxed = |observed| Response::Observed(Box::new(observed));
                    self.ask(|answer| Command::Observe { answer }, boxed).await
                }
                Request::Plan => {
                    let boxed = |plan: Option<NetworkPlan>| Response::Plan(plan.map(Box::new));
                    self.ask(|answer| Command::Plan { answer }, boxed).await
                }
                Request::Status => Response::Status(Box::new(self.status())),
                Request::SubscribeProbes => return self.stream_probes(stream).await,
                Request::Shutdown => {
                    write_frame(&mut stream, &Response::ShuttingDown).await?;
                    // Full or closed: it is stopping already.
                    let _ = self.stop.try_send(());
                    return Ok(());
                }
            };
            write_frame(&mut stream, &response).await?;
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Command,
        wrap: impl FnOnce(T) -> Response,
    ) -> Response {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(command(answer)).await.is_err() {
            return Response::Refused("the data plane process is stopping".to_owned());
        }
        match answered.await {
            Ok(Ok(value)) => wrap(value),
            Ok(Err(refusal)) => Response::Refused(refusal),
            Err(_) => Response::Refused("the data plane process is stopping".to_owned()),
        }
    }

    fn status(&self) -> Status {
        Status {
            version: self.version.clone(),
            pid: std::process::id(),
            started: self.started,
            last_apply: self.last_apply.borrow().clone(),
            probes: self.probes.borrow().clone(),
            dns: self.dns.snapshot(),
            encryption: self.encryption.borrow().clone(),
        }
    }

    /// Sends the whole, then what differs from what this client was last told. A slow client gets fewer,
    /// larger differences; nothing queues up.
    async fn stream_probes(&mut self, mut stream: UnixStream) -> Result<(), NetdError> {
        let (mut told, mut told_led) = news_of(&self.probes.borrow_and_update());
        let led = (!told_led.is_empty()).then(|| ProbeUpdate::Led(told_led.clone()));
        for update in std::iter::once(ProbeUpdate::Whole(told.values().cloned().collect())).chain(led) {
            write_frame(&mut stream, &Response::Probes(update)).await?;
        }
        loop {
            tokio::select! {
                changed = self.probes.changed() => if changed.is_err() { return Ok(()) },
                // The client says nothing more; this ends when it hangs up.
                ended = end_of(&stream) => return ended,
            }
            let (now, led) = news_of(&self.probes.borrow_and_update());
            let of_led = (led != told_led).then(|| ProbeUpdate::Led(led.clone()));
            for update in difference(&told, &now).into_iter().chain(of_led) {
                write_frame(&mut stream, &Response::Probes(update)).await?;
            }
            (told, told_led) = (now, led);
        }
    }
}

/// Waits until the client hangs up. Readiness may be a false alarm; then it waits on.
async fn end_of(stream: &UnixStream) -> Result<(), NetdError> {
    loop {
        stream.readable().await.map_err(NetdError::Conversation)?;
        match stream.try_read(&mut [0; 1]) {
            Ok(0) => return Ok(()),
            Ok(_) => return Err(NetdError::Refused("nothing may be said after SubscribeProbes".to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(NetdError::Conversation(error)),
        }
    }
}

type ByWay = BTreeMap<(ProbePath, NodeId), PeerState>;

fn news_of(table: &ProbeTable) -> (ByWay, Led) {
    let by_way = table.all().map(|peer| ((peer.path, peer.node), peer.clone())).collect();
    (by_way, table.led.clone())
}

fn difference(told: &ByWay, now: &ByWay) -> Option<ProbeUpdate> {
    let is_news =
        |peer: &&PeerState| told.get(&(peer.path, peer.node)).is_none_or(|old| crate::probe::is_news(old, peer));
    let upsert: Vec<PeerState> = now.values().filter(is_news).cloned().collect();
    let remove: Vec<_> = told.keys().filter(|key| !now.contains_key(*key)).copied().collect();
    (!upsert.is_empty() || !remove.is_empty()).then_some(ProbeUpdate::Changed { upsert, remove })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{FullSize, Pulse, Verdict};

    fn state(node: u128, verdict: Verdict) -> ((ProbePath, NodeId), PeerState) {
        let (node, path, address) = (NodeId::from_random(node), ProbePath::Host, [10, 0, 0, 1].into());
        let (since, full_size) = (Timestamp::EPOCH, FullSize::Unknown);
        let (rtt_us, last_error, hears_us, arrives, corrupted) = (None, None, None, false, false);
        let state = PeerState {
            node,
            path,
            address,
            verdict,
            since,
            rtt_us,
            last_error,
            full_size,
            hears_us,
            arrives,
            corrupted,
            pulse: Pulse::Unknown,
        };
        ((path, node), state)
    }

    #[test]
    fn only_news_travels() {
        let told =
            BTreeMap::from([state(1, Verdict::Answered), state(2, Verdict::Answered), state(3, Verdict::Unknown)]);
        assert_eq!(difference(&told, &told), None);
        let mut now = BTreeMap::from([state(1, Verdict::Answered), state(2, Verdict::Unanswered)]);
        now.get_mut(&(ProbePath::Host, NodeId::from_random(1))).expect("peer").rtt_us = Some(5);
        let expected = ProbeUpdate::Changed {
            upsert: vec![state(2, Verdict::Unanswered).1],
            remove: vec![(ProbePath::Host, NodeId::from_random(3))],
        };
        assert_eq!(difference(&told, &now), Some(expected));
    }
}
