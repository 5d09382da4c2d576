//! Node health: which nodes are there. Two witnesses are asked, the control stream and the probes of
//! other nodes, and only if both say no is a node called lost (design note on the two witnesses).
//!
//! It changes states of nodes only. What that means for tasks is for the passes after it.

use std::{collections::BTreeSet, time::Duration};

use types::{MAX_PEER_PROBLEMS, Node, NodeId, NodeState, PeerProblem, Timestamp};

use super::draft::Draft;
use crate::{Change, Observed, ProbeVerdict, Tables, admission::LEFT_MESSAGE};

/// Silence after which a node is unreachable, in heartbeat periods: one lost or late beat is an everyday
/// thing, two in a row are not. With the period of 1 s: 2.0 s.
const SILENT_PERIODS: u32 = 2;
/// Silence after which the probes are believed, in tenths of a heartbeat period: the next beat is overdue.
/// With the period of 1 s: 1.2 s, which leaves room for "replaced within 3 s".
const OVERDUE_TENTHS: u32 = 12;
/// An unreachable node is called down after this long, or after the longest `lost_after` of the services
/// that have tasks on it, whichever is later: from then on it no longer counts as possibly alive.
const DOWN_AFTER: Duration = Duration::from_secs(60);

/// Times at which a node is looked at are rounded up to this, so that thousands of nodes do not wake the
/// leader one by one.
const TICK: Duration = Duration::from_millis(50);

/// The two thresholds for one heartbeat period.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    overdue: Duration,
    silent: Duration,
}

impl Patience {
    pub(super) fn of(tables: &Tables) -> Self {
        let period = tables.cluster().map_or(Duration::from_secs(1), |c| c.spec.dispatcher.heartbeat_period);
        Self { overdue: period * OVERDUE_TENTHS / 10, silent: period * SILENT_PERIODS }
    }

    /// From then on a node that is READY was heard by a leader that began at `since`.
    pub(super) fn all_heard_at(self, since: Timestamp) -> Timestamp {
        self.silent_at(since)
    }

    fn overdue_at(self, heard: Timestamp) -> Timestamp {
        round_up(heard + self.overdue)
    }

    fn silent_at(self, heard: Timestamp) -> Timestamp {
        round_up(heard + self.silent)
    }
}

fn round_up(at: Timestamp) -> Timestamp {
    let step = u64::try_from(TICK.as_nanos()).unwrap_or(1);
    Timestamp::from_unix_ns(at.as_unix_ns().div_ceil(step).saturating_mul(step))
}

/// Judges nodes until nothing more follows: a node that is back or lost changes whose word counts about the
/// others. It comes to an end because within one plan a node is back, or goes down step by step, never both.
pub(super) fn judge(draft: &mut Draft, observed: &Observed, patience: Patience, nodes: &BTreeSet<NodeId>) {
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for id in nodes {
            let Some(node) = draft.node(*id).cloned() else { continue };
            if let Some((state, message)) = verdict(draft, observed, patience, &node) {
                draft.make(Change::NodeState { node: *id, state, message });
                changed = true;
            }
        }
    }
    for id in nodes {
        judge_peers(draft, observed, patience, *id);
    }
}

/// When to look at a node again if nothing happens.
pub(super) fn next_look(draft: &Draft, observed: &Observed, patience: Patience, node: &Node) -> Option<Timestamp> {
    let heard = observed.heard(node.id);
    match node.status.state {
        NodeState::Ready if node.id == observed.me => None,
        // the next beat comes before this, and moves it on
        NodeState::Ready if !is_overdue(draft, observed, patience, node.id) => Some(patience.overdue_at(heard)),
        NodeState::Ready => Some(patience.silent_at(heard)),
        NodeState::Unreachable => down_at(draft, node).filter(|at| *at > draft.now()),
        NodeState::Unknown | NodeState::Down => None,
    }
}

/// Whether the node must be judged in every plan: words of others about it count now.
pub(super) fn is_suspect(draft: &Draft, observed: &Observed, patience: Patience, node: &Node) -> bool {
    let well = node.status.state == NodeState::Ready && node.status.unreachable_peers.is_empty();
    !well || is_overdue(draft, observed, patience, node.id)
}

fn is_overdue(draft: &Draft, observed: &Observed, patience: Patience, id: NodeId) -> bool {
    id != observed.me && patience.overdue_at(observed.heard(id)) <= draft.now()
}

fn is_silent(draft: &Draft, observed: &Observed, patience: Patience, id: NodeId) -> bool {
    id != observed.me && patience.silent_at(observed.heard(id)) <= draft.now()
}

fn verdict(tables: &Draft, observed: &Observed, patience: Patience, node: &Node) -> Option<(NodeState, String)> {
    let now = tables.now();
    let silence = now.since(observed.heard(node.id));
    if node.status.state != NodeState::Ready {
        let left = node.status.state == NodeState::Down && node.status.message == LEFT_MESSAGE;
        let heard_here = observed.heard(node.id) > observed.since;
        let back = heard_here && !is_overdue(tables, observed, patience, node.id) && !left;
        if back || (node.id == observed.me && !left) {
            return Some((NodeState::Ready, String::new()));
        }
    }
    if node.id == observed.me {
        return None;
    }
    let asked = witnesses(tables, observed, patience, node.id);
    match node.status.state {
        NodeState::Ready | NodeState::Unreachable
            if is_overdue(tables, observed, patience, node.id) && asked.all_deny() =>
        {
            let message = format!(
                "lost: silent for {} and unanswered probes of all {} nodes that watch it",
                human(silence),
                asked.denying
            );
            Some((NodeState::Down, message))
        }
        NodeState::Ready if is_silent(tables, observed, patience, node.id) => {
            let message = format!(
                "control stream silent for {}; {} of {} probing nodes still reach it: its tasks are left alone",
                human(silence),
                asked.confirming,
                asked.confirming + asked.denying
            );
            Some((NodeState::Unreachable, message))
        }
        NodeState::Unreachable => {
            let at = down_at(tables, node).filter(|at| *at <= now)?;
            let message = format!("unreachable for {}", human(at.since(node.status.since)));
            Some((NodeState::Down, message))
        }
        _ => None,
    }
}

fn down_at(tables: &Tables, node: &Node) -> Option<Timestamp> {
    let services = tables.tasks_of_node(node.id).filter_map(|task| tables.service(task.service));
    let longest = services.map(|service| service.spec.disconnect.lost_after).max().unwrap_or_default();
    Some(round_up(node.status.since + longest.max(DOWN_AFTER)))
}

/// What the probes of nodes that can be believed say about one node.
struct Witnesses {
    confirming: usize,
    denying: usize,
}

impl Witnesses {
    fn all_deny(&self) -> bool {
        self.confirming == 0 && self.denying > 0
    }
}

/// A word counts while its giver is READY and heard: only changes are told, so the last word stands as long
/// as the giver could have taken it back.
fn is_believed(draft: &Draft, observed: &Observed, patience: Patience, by: NodeId) -> bool {
    let ready = draft.node(by).is_some_and(|node| node.status.state == NodeState::Ready);
    ready && !is_silent(draft, observed, patience, by)
}

fn witnesses(tables: &Draft, observed: &Observed, patience: Patience, about: NodeId) -> Witnesses {
    let mut counted = Witnesses { confirming: 0, denying: 0 };
    for (by, word) in observed.probes.get(&about).into_iter().flatten() {
        if *by == about || !is_believed(tables, observed, patience, *by) {
            continue;
        }
        match word.answered {
            Some(true) => counted.confirming += 1,
            Some(false) => counted.denying += 1,
            // it asks by the data path only: not whether the host lives, but whether containers reach it
            None => {}
        }
    }
    counted
}

/// Whether somebody says that it does not reach the node. The leader's own node has no deadlines, so this alone
/// brings it before the judges.
pub(super) fn is_complained_of(observed: &Observed, node: NodeId) -> bool {
    observed.probes.get(&node).is_some_and(|words| words.values().any(is_complaint))
}

fn is_complaint(word: &ProbeVerdict) -> bool {
    word.answered == Some(false) || word.impaired
}

/// Degraded: the control stream works, and some peers do not reach it, or not with everything. Written so that
/// `node ls` can say it, and `node inspect` why.
fn judge_peers(draft: &mut Draft, observed: &Observed, patience: Patience, id: NodeId) {
    let Some(node) = draft.node(id).cloned() else { return };
    let mut failing: Vec<PeerProblem> = Vec::new();
    if node.status.state == NodeState::Ready {
        for (by, word) in observed.probes.get(&node.id).into_iter().flatten() {
            if *by != node.id && is_complaint(word) && is_believed(draft, observed, patience, *by) {
                failing.push(PeerProblem { by: *by, detail: word.detail.clone() });
            }
        }
    }
    failing.truncate(MAX_PEER_PROBLEMS);
    if failing != node.status.unreachable_peers {
        draft.make(Change::NodePeers { node: node.id, unreachable_peers: failing });
    }
}

fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 60 {
        return format!("{}m{}s", seconds / 60, seconds % 60);
    }
    format!("{}.{}s", seconds, duration.subsec_millis() / 100)
}
