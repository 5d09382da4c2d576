//! Between the data plane's probes and the session: whom to ask, and what is told to the managers.
//!
//! A task owned by the agent carries findings up; which of them are news, and which peers cannot be reached,
//! is decided by [`ProbeNews`], which is pure. Nothing here calls a host lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlay::{
    Draining, FullSize, Led, PeerState, ProbeKey, ProbePath, ProbeSettings, ProbeUpdate, Pulse, Verdict, Way,
};
use tokio::sync::mpsc;
use types::{Assignment, AssignmentSet, HostNetwork, NodeId, OverlayState, ProbePeer, ProbeReport};

use super::overlays::ENCRYPTION_PORT;
use crate::engine::Engine;

/// What is known of the peers, and what the present session was told.
#[derive(Debug, Default)]
pub(super) struct ProbeNews {
    peers: BTreeMap<(ProbePath, NodeId), PeerState>,
    led: Led,
    told: BTreeMap<NodeId, ProbeReport>,
}

/// The nodes that containers' packets do not get to from here, by kind of network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unreachable {
    pub vxlan: Lost,
    pub wireguard: Lost,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Lost {
    /// New connections are led elsewhere.
    pub nodes: BTreeSet<NodeId>,
    /// Of them those whose kernels answer no more: what was begun ends.
    pub gone: BTreeSet<NodeId>,
}

impl ProbeNews {
    pub(super) fn take(&mut self, update: ProbeUpdate) {
        let keyed = |peer: PeerState| ((peer.path, peer.node), peer);
        match update {
            ProbeUpdate::Whole(all) => {
                (self.peers, self.led) = (all.into_iter().map(keyed).collect(), Led::default());
            }
            ProbeUpdate::Changed { upsert, remove } => {
                for key in remove {
                    self.peers.remove(&key);
                }
                self.peers.extend(upsert.into_iter().map(keyed));
            }
            ProbeUpdate::Led(led) => self.led = led,
        }
    }

    /// Whether some host may still lead new connections to one of these addresses, which are on their way out: it was not
    /// asked yet, or has not said otherwise. One whose kernel is gone leads nothing; a process that does not answer says
    /// nothing about the rules that it left there.
    pub(super) fn are_led<'a>(&self, mut addresses: impl Iterator<Item = &'a IpAddr>) -> bool {
        let answers = |node: &NodeId| match self.pulse(*node) {
            Pulse::Beats => true,
            Pulse::Gone => false,
            Pulse::Unknown => {
                self.peers.get(&(ProbePath::Host, *node)).is_none_or(|peer| peer.verdict != Verdict::Unanswered)
            }
        };
        addresses.any(|address| self.led.get(address).is_none_or(|nodes| nodes.iter().any(answers)))
    }

    /// Where packets are sealed in user space a process is the path, and one that is started again must end nothing: so
    /// silence there counts only while the peer's kernel is silent where no process takes part.
    fn pulse_by(&self, path: ProbePath, node: NodeId) -> Pulse {
        let by = |path: ProbePath| self.peers.get(&(path, node)).map_or(Pulse::Unknown, |peer| peer.pulse);
        match (by(path), path) {
            (Pulse::Gone, ProbePath::Wireguard) if by(ProbePath::Vxlan) != Pulse::Gone => Pulse::Unknown,
            (pulse, _) => pulse,
        }
    }

    /// By whatever path.
    fn pulse(&self, node: NodeId) -> Pulse {
        match ProbePath::OVERLAYS.map(|path| self.pulse_by(path, node)) {
            [Pulse::Beats, _] | [_, Pulse::Beats] => Pulse::Beats,
            [Pulse::Gone, _] | [_, Pulse::Gone] => Pulse::Gone,
            _ => Pulse::Unknown,
        }
    }

    /// A new session knows nothing.
    pub(super) fn session_began(&mut self) {
        self.told.clear();
    }

    /// What the session was not told yet; of a peer that is not asked any more, that nothing is known of it.
    pub(super) fn news(&self, network: &HostNetwork, from: IpAddr) -> Vec<ProbeReport> {
        let now = self.reports(network, from);
        let gone = self.told.values().filter(|told| !now.contains_key(&told.peer) && !is_empty(told));
        let gone: Vec<ProbeReport> = gone.map(|told| empty(told.peer)).collect();
        let changed = now.into_values().filter(|report| match self.told.get(&report.peer) {
            Some(told) => told != report,
            None => !is_empty(report),
        });
        changed.chain(gone).collect()
    }

    /// These were sent.
    pub(super) fn told(&mut self, reports: Vec<ProbeReport>) {
        self.told.extend(reports.into_iter().map(|r| (r.peer, r)));
    }

    /// Judged by the prober, which does not change its mind for a lost packet or two.
    pub(super) fn unreachable(&self) -> Unreachable {
        let by = |path: ProbePath| {
            let is_gone = |peer: &PeerState| self.pulse_by(path, peer.node) == Pulse::Gone;
            let carries_not = |peer: &PeerState| {
                let is_full_lost = matches!(peer.full_size, FullSize::Failed { .. });
                peer.verdict == Verdict::Unanswered || is_full_lost || is_gone(peer)
            };
            let of = |judge: &dyn Fn(&PeerState) -> bool| {
                let peers = self.peers.values().filter(|peer| peer.path == path && judge(peer));
                peers.map(|peer| peer.node).collect()
            };
            Lost { nodes: of(&carries_not), gone: of(&is_gone) }
        };
        Unreachable { vxlan: by(ProbePath::Vxlan), wireguard: by(ProbePath::Wireguard) }
    }

    fn reports(&self, network: &HostNetwork, from: IpAddr) -> BTreeMap<NodeId, ProbeReport> {
        let mut reports: BTreeMap<NodeId, ProbeReport> = BTreeMap::new();
        for peer in self.peers.values() {
            let report = reports.entry(peer.node).or_insert_with(|| empty(peer.node));
            if peer.path == ProbePath::Host {
                report.answered = match peer.verdict {
                    Verdict::Unknown => None,
                    Verdict::Answered => Some(true),
                    Verdict::Unanswered => Some(false),
                };
            }
            report.impaired |= peer.is_impaired();
            let Some(problem) = way(peer, network, from).and_then(|way| peer.problem(way)) else { continue };
            let between = if report.detail.is_empty() { "" } else { "; " };
            report.detail = format!("{}{between}{problem}", report.detail);
        }
        reports
    }
}

fn empty(peer: NodeId) -> ProbeReport {
    ProbeReport { peer, answered: None, impaired: false, detail: String::new() }
}

fn is_empty(report: &ProbeReport) -> bool {
    *report == empty(report.peer)
}

fn way(peer: &PeerState, network: &HostNetwork, from: IpAddr) -> Option<Way> {
    let watched = || network.probe_peers.iter().find(|other| other.node == peer.node).map(|other| other.address);
    let by_data_path = || network.data_path_peers.get(&peer.node).map(|peer| peer.address).or_else(watched);
    let (to, port) = match peer.path {
        ProbePath::Host => (peer.address, types::DEFAULT_PROBE_PORT),
        ProbePath::Vxlan => (by_data_path()?, network.data_path_port),
        ProbePath::Wireguard => (by_data_path()?, ENCRYPTION_PORT),
    };
    Some(Way { from, to, port })
}

/// The settings that follow from the value; `None` while it says nothing.
pub(super) fn settings(set: &AssignmentSet, node: NodeId, address: IpAddr) -> Option<ProbeSettings> {
    let network = &set.network;
    if !are_on(network) {
        return None;
    }
    let settings = ProbeSettings::new(node, address, ProbeKey::from(network.probe_key), network.probe_peers.clone());
    let mut through_vxlan = sharing(set, node, false);
    if network.data_path_port != 0 {
        // Those whose lives it watches too: so a new node knows its data path before the first network.
        let shared: BTreeSet<NodeId> = through_vxlan.iter().map(|peer| peer.node).collect();
        through_vxlan.extend(network.probe_peers.iter().filter(|peer| !shared.contains(&peer.node)));
    }
    let through_wireguard = sharing(set, node, true);
    Some(ProbeSettings { through_vxlan, through_wireguard, ..settings })
}

pub(super) fn are_on(network: &HostNetwork) -> bool {
    network.probe_key != [0; 32]
}

/// Tasks of this host that are on their way out, and all hosts that may lead connections to them: those with an endpoint in
/// one of their networks, and with a published port every host.
pub(super) fn draining<'a>(
    set: &AssignmentSet,
    (node, address): (NodeId, IpAddr),
    tasks: impl Iterator<Item = &'a Assignment>,
) -> Draining {
    let mut draining = Draining::default();
    let mut hosts = BTreeSet::from([node]);
    for place in tasks.flat_map(|task| &task.attachments) {
        draining.addresses.extend(&place.addresses);
        let Some(overlay) = set.overlays.get(&place.network) else { continue };
        if overlay.network.spec.ingress {
            hosts.extend(set.network.data_path_peers.keys());
        } else {
            hosts.extend(nodes_in(overlay));
        }
    }
    if draining.addresses.is_empty() {
        return draining;
    }
    let place = |node: &NodeId| set.network.data_path_peers.get(node).map(|peer| peer.address);
    let host = |id: NodeId| Some(ProbePeer { node: id, address: if id == node { address } else { place(&id)? } });
    draining.hosts = hosts.into_iter().filter_map(host).collect();
    draining
}

/// Nodes with a task or a single container in it.
fn nodes_in(overlay: &OverlayState) -> BTreeSet<NodeId> {
    let tasks = overlay.endpoints.values().map(|endpoint| endpoint.node);
    tasks.chain(overlay.containers.values().map(|container| container.node)).collect()
}

/// The nodes that have endpoints in an overlay of this kind in which this node has one too. So both of two
/// nodes know of each other, and each finds the other's end when it asks.
fn sharing(set: &AssignmentSet, me: NodeId, encrypted: bool) -> Vec<ProbePeer> {
    let overlays = set.overlays.values().filter(|overlay| overlay.network.spec.encrypted == encrypted);
    let nodes = overlays.flat_map(|overlay| {
        let nodes = nodes_in(overlay);
        if nodes.contains(&me) { nodes } else { BTreeSet::new() }
    });
    let nodes: BTreeSet<NodeId> = nodes.filter(|node| *node != me).collect();
    let peers = &set.network.data_path_peers;
    nodes.into_iter().filter_map(|node| Some(ProbePeer { node, address: peers.get(&node)?.address })).collect()
}

/// Passes findings to the loop.
pub(super) async fn hand_up(engine: Engine, updates: mpsc::Sender<ProbeUpdate>) {
    let mut stream = engine.probes();
    while updates.send(stream.next().await).await.is_ok() {}
}

#[cfg(test)]
mod tests {
    use types::{DataPathPeer, Timestamp};

    use super::*;

    const HERE: [u8; 4] = [192, 0, 2, 9];

    fn peer(n: u128, path: ProbePath, verdict: Verdict) -> PeerState {
        PeerState {
            node: NodeId::from_random(n),
            path,
            address: [192, 0, 2, 1].into(),
            verdict,
            since: Timestamp::EPOCH,
            rtt_us: Some(90),
            last_error: None,
            full_size: FullSize::Unknown,
            hears_us: None,
            arrives: false,
            corrupted: false,
            pulse: Pulse::Unknown,
        }
    }

    fn network() -> HostNetwork {
        let peer = DataPathPeer { address: [192, 0, 2, 2].into(), wireguard_key: None, mtu: None };
        let data_path_peers = [(NodeId::from_random(2), peer)].into();
        HostNetwork { data_path_port: 4789, data_path_peers, ..HostNetwork::default() }
    }

    fn news(news: &ProbeNews) -> Vec<String> {
        let reports = news.news(&network(), HERE.into());
        let line = |r: &ProbeReport| format!("{} {:?} {} {}", r.peer.as_u128(), r.answered, r.impaired, r.detail);
        reports.iter().map(line).collect()
    }

    fn tell(probes: &mut ProbeNews) {
        let reports = probes.news(&network(), HERE.into());
        probes.told(reports);
    }

    #[test]
    fn only_changes_are_told_and_everything_to_a_new_session() {
        use ProbePath::Host;
        let mut probes = ProbeNews::default();
        probes.take(ProbeUpdate::Whole(vec![peer(1, Host, Verdict::Answered), peer(2, Host, Verdict::Unknown)]));
        assert_eq!(news(&probes), ["1 Some(true) false "]);
        tell(&mut probes);
        let faster = PeerState { rtt_us: Some(10), ..peer(1, Host, Verdict::Answered) };
        probes.take(ProbeUpdate::Changed { upsert: vec![faster], remove: vec![] });
        assert!(news(&probes).is_empty(), "a round trip time is no news");
        probes.take(ProbeUpdate::Changed { upsert: vec![peer(1, Host, Verdict::Unanswered)], remove: vec![] });
        assert!(news(&probes)[0].starts_with("1 Some(false) true 192.0.2.9 <-> 192.0.2.1 UDP port 7946: no answer"));
        tell(&mut probes);
        probes.session_began();
        assert_eq!(news(&probes).len(), 1);
        tell(&mut probes);
        probes.take(ProbeUpdate::Changed { upsert: vec![], remove: vec![(Host, NodeId::from_random(1))] });
        assert_eq!(news(&probes), ["1 None false "], "who is not asked any more is complained of no longer");
        tell(&mut probes);
        assert!(news(&probes).is_empty());
    }

    /// P03: a host that answers while the containers' packets do not get there is degraded, not lost.
    #[test]
    fn p03_the_data_path_is_told_apart_from_the_host() {
        use ProbePath::{Host, Vxlan};
        let mut probes = ProbeNews::default();
        let arriving = PeerState { arrives: true, ..peer(2, Vxlan, Verdict::Unanswered) };
        probes.take(ProbeUpdate::Whole(vec![
            peer(2, Host, Verdict::Answered),
            arriving,
            peer(3, Vxlan, Verdict::Answered),
        ]));
        let said = news(&probes);
        assert_eq!(said.len(), 1, "{said:?}");
        let start = "2 Some(true) true 192.0.2.9 -> 192.0.2.2 UDP port 4789 (VXLAN): nothing gets through";
        assert!(said[0].starts_with(start), "{said:?}");
        let unreachable = probes.unreachable();
        let silent = Lost { nodes: [NodeId::from_random(2)].into(), gone: BTreeSet::new() };
        assert_eq!((unreachable.vxlan, unreachable.wireguard), (silent, Lost::default()));
    }

    /// P05: a host whose processes are silent may still lead connections by the rules it has; one whose kernel is
    /// gone does not, and what was begun there ends.
    #[test]
    fn p05_a_silent_process_is_waited_for_and_a_gone_host_is_not() {
        use ProbePath::{Vxlan, Wireguard};
        let address = IpAddr::from([10, 0, 0, 7]);
        let led_with = |pulse: Pulse, path: ProbePath, verdict: Verdict| {
            let mut probes = ProbeNews::default();
            let by_path = PeerState { pulse, ..peer(2, path, Verdict::Unanswered) };
            probes.take(ProbeUpdate::Whole(vec![peer(2, ProbePath::Host, verdict), by_path]));
            probes.take(ProbeUpdate::Led([(address, [NodeId::from_random(2)].into())].into()));
            let unreachable = probes.unreachable();
            (probes.are_led([address].iter()), unreachable.vxlan.gone.len(), unreachable.wireguard.gone.len())
        };
        assert_eq!(led_with(Pulse::Beats, Vxlan, Verdict::Unanswered), (true, 0, 0));
        assert_eq!(led_with(Pulse::Beats, Wireguard, Verdict::Unanswered), (true, 0, 0));
        assert_eq!(led_with(Pulse::Gone, Vxlan, Verdict::Answered), (false, 1, 0));
        assert_eq!(led_with(Pulse::Gone, Wireguard, Verdict::Answered), (true, 0, 0), "perhaps only a process is");
        assert_eq!(led_with(Pulse::Unknown, Vxlan, Verdict::Unanswered), (false, 0, 0));
        assert_eq!(led_with(Pulse::Unknown, Vxlan, Verdict::Unknown), (true, 0, 0));
        let sealed_with = |plain: Pulse, sealed: Pulse| {
            let mut probes = ProbeNews::default();
            let by = |path: ProbePath, pulse: Pulse| PeerState { pulse, ..peer(2, path, Verdict::Answered) };
            probes.take(ProbeUpdate::Whole(vec![by(Vxlan, plain), by(Wireguard, sealed)]));
            let unreachable = probes.unreachable();
            (unreachable.vxlan.gone.len(), unreachable.wireguard.gone.len())
        };
        assert_eq!(sealed_with(Pulse::Gone, Pulse::Gone), (1, 1));
        assert_eq!(sealed_with(Pulse::Beats, Pulse::Gone), (0, 0), "a data plane that is started again");
        assert_eq!(sealed_with(Pulse::Gone, Pulse::Beats), (1, 0), "a firewall");
    }
}
