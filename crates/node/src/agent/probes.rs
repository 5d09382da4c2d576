//! Between the data plane's probes and the session: which peers, and what they answered.
//!
//! A task owned by the agent carries findings up; which of them are news is decided by [`ProbeNews`],
//! which is pure. Nothing here calls a host lost.

use std::{collections::BTreeMap, net::IpAddr};

use overlay::{FullSize, PeerState, ProbeKey, ProbeSettings, ProbeUpdate, Verdict};
use tokio::sync::mpsc;
use types::{HostNetwork, NodeId, ProbeReport};

use crate::engine::Engine;

/// What is known of the peers, and what the present session was told.
#[derive(Debug, Default)]
pub(super) struct ProbeNews {
    peers: BTreeMap<NodeId, PeerState>,
    told: BTreeMap<NodeId, ProbeReport>,
}

impl ProbeNews {
    pub(super) fn take(&mut self, update: ProbeUpdate) {
        match update {
            ProbeUpdate::Whole(all) => self.peers = all.into_iter().map(|p| (p.node, p)).collect(),
            ProbeUpdate::Changed { upsert, remove } => {
                for node in remove {
                    self.peers.remove(&node);
                }
                self.peers.extend(upsert.into_iter().map(|p| (p.node, p)));
            }
        }
    }

    /// A new session knows nothing.
    pub(super) fn session_began(&mut self) {
        self.told.clear();
    }

    /// What the session was not told yet.
    pub(super) fn news(&self) -> Vec<ProbeReport> {
        let reports = self.peers.values().filter_map(report);
        reports.filter(|r| self.told.get(&r.peer) != Some(r)).collect()
    }

    /// These were sent.
    pub(super) fn told(&mut self, reports: Vec<ProbeReport>) {
        self.told.extend(reports.into_iter().map(|r| (r.peer, r)));
    }
}

/// A peer asked too seldom to say anything gives no report.
fn report(peer: &PeerState) -> Option<ProbeReport> {
    let answered = match peer.verdict {
        Verdict::Unknown => return None,
        Verdict::Answered => true,
        Verdict::Unanswered => false,
    };
    let mut detail = Vec::new();
    if !answered {
        let reason = peer.last_error.as_deref().unwrap_or("no answer");
        detail.push(format!("to {} udp: {reason}", peer.address));
    }
    if let FullSize::Failed { bytes, reason } = &peer.full_size {
        detail.push(format!("to {} udp, {bytes} bytes: {reason}", peer.address));
    }
    if peer.hears_us == Some(false) {
        detail.push(format!("from {} udp: its probes are not answered here", peer.address));
    }
    Some(ProbeReport { peer: peer.node, answered, detail: detail.join("; ") })
}

/// The settings that follow from the value; `None` while it says nothing.
pub(super) fn settings(network: &HostNetwork, node: NodeId, address: IpAddr) -> Option<ProbeSettings> {
    let is_set = network.probe_key != [0; 32];
    is_set.then(|| ProbeSettings::new(node, address, ProbeKey::from(network.probe_key), network.probe_peers.clone()))
}

/// Passes findings to the loop.
pub(super) async fn hand_up(engine: Engine, updates: mpsc::Sender<ProbeUpdate>) {
    let mut stream = engine.probes();
    while updates.send(stream.next().await).await.is_ok() {}
}

#[cfg(test)]
mod tests {
    use types::Timestamp;

    use super::*;

    fn peer(n: u128, verdict: Verdict) -> PeerState {
        PeerState {
            node: NodeId::from_random(n),
            address: [192, 0, 2, 1].into(),
            verdict,
            since: Timestamp::EPOCH,
            rtt_us: Some(90),
            last_error: None,
            full_size: FullSize::Unknown,
            hears_us: None,
        }
    }

    #[test]
    fn only_changes_are_told_and_everything_to_a_new_session() {
        let mut news = ProbeNews::default();
        news.take(ProbeUpdate::Whole(vec![peer(1, Verdict::Answered), peer(2, Verdict::Unknown)]));
        let first = news.news();
        assert_eq!(first.iter().map(|r| (r.peer.as_u128(), r.answered)).collect::<Vec<_>>(), [(1, true)]);
        news.told(first);
        let faster = PeerState { rtt_us: Some(10), ..peer(1, Verdict::Answered) };
        news.take(ProbeUpdate::Changed { upsert: vec![faster], remove: vec![] });
        assert!(news.news().is_empty(), "a round trip time is no news");
        news.take(ProbeUpdate::Changed { upsert: vec![peer(1, Verdict::Unanswered)], remove: vec![] });
        assert_eq!(news.news()[0].detail, "to 192.0.2.1 udp: no answer");
        news.told(news.news());
        news.session_began();
        assert_eq!(news.news().len(), 1);
    }
}
