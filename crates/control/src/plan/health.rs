//! Node health: which nodes are there. Two witnesses are asked, the control stream and the probes of
//! other nodes, and only if both say no is a node called lost (design note on the two witnesses).
//!
//! It changes states of nodes only. What that means for tasks is for the passes after it.

use std::time::Duration;

use types::{Node, NodeId, NodeState, Timestamp};

use super::draft::Draft;
use crate::{Change, Observed, Tables, admission::LEFT_MESSAGE};

/// Silence after which a node is unreachable, in heartbeat periods: one lost or late beat is an everyday
/// thing, two in a row are not. With the period of 1 s: 2.0 s.
const SILENT_PERIODS: u32 = 2;
/// Silence after which the probes are believed, in tenths of a heartbeat period: the next beat is overdue.
/// With the period of 1 s: 1.2 s, which leaves room for "replaced within 3 s".
const OVERDUE_TENTHS: u32 = 12;
/// An unreachable node is called down after this long, or after the longest `lost_after` of the services
/// that have tasks on it, whichever is later: from then on it no longer counts as possibly alive.
const DOWN_AFTER: Duration = Duration::from_secs(60);

/// The two thresholds for one heartbeat period.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    overdue: Duration,
    silent: Duration,
}

impl Patience {
    pub(super) fn is_overdue(self, heard: Timestamp, now: Timestamp) -> bool {
        now.since(heard) >= self.overdue
    }

    pub(super) fn of(tables: &Tables) -> Self {
        let period = tables.cluster().map_or(Duration::from_secs(1), |c| c.spec.dispatcher.heartbeat_period);
        Self { overdue: period * OVERDUE_TENTHS / 10, silent: period * SILENT_PERIODS }
    }
}

/// Judges one node. Returns when to look again if nothing happens.
pub(super) fn judge(draft: &mut Draft, observed: &Observed, patience: Patience, id: NodeId) -> Option<Timestamp> {
    let node = draft.node(id)?.clone();
    let now = draft.now();
    let heard = observed.heard(id);
    if let Some((state, message)) = verdict(draft, observed, patience, &node) {
        draft.make(Change::NodeState { node: id, state, message });
    }
    let state = draft.node(id)?.status.state;
    judge_peers(draft, observed, patience, &node, state);
    match state {
        NodeState::Ready if id == observed.me => None,
        // the next beat comes before this, and moves it on
        NodeState::Ready if heard + patience.overdue > now => Some(heard + patience.overdue),
        NodeState::Ready => Some(heard + patience.silent),
        NodeState::Unreachable => down_at(draft, &node).filter(|at| *at > now),
        NodeState::Unknown | NodeState::Down => None,
    }
}

fn verdict(tables: &Draft, observed: &Observed, patience: Patience, node: &Node) -> Option<(NodeState, String)> {
    let now = tables.now();
    let silence = now.since(observed.heard(node.id));
    if node.status.state != NodeState::Ready {
        let left = node.status.state == NodeState::Down && node.status.message == LEFT_MESSAGE;
        let heard_here = observed.heard(node.id) > observed.since;
        let back = heard_here && silence < patience.overdue && !left;
        if back || (node.id == observed.me && !left) {
            return Some((NodeState::Ready, String::new()));
        }
    }
    if node.id == observed.me {
        return None;
    }
    let asked = witnesses(tables, observed, patience, node.id);
    match node.status.state {
        NodeState::Ready | NodeState::Unreachable if silence >= patience.overdue && asked.all_deny() => {
            let message = format!(
                "lost: silent for {} and unanswered probes of all {} nodes that watch it",
                human(silence),
                asked.denying
            );
            Some((NodeState::Down, message))
        }
        NodeState::Ready if silence >= patience.silent => {
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
    Some(node.status.since + longest.max(DOWN_AFTER))
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
    ready && (by == observed.me || observed.heard(by) + patience.silent > draft.now())
}

fn witnesses(tables: &Draft, observed: &Observed, patience: Patience, about: NodeId) -> Witnesses {
    let mut counted = Witnesses { confirming: 0, denying: 0 };
    for (by, word) in observed.probes.get(&about).into_iter().flatten() {
        if *by == about || !is_believed(tables, observed, patience, *by) {
            continue;
        }
        if word.answered {
            counted.confirming += 1;
        } else {
            counted.denying += 1;
        }
    }
    counted
}

/// Degraded: the control stream works and some peers get no answer. Written so that `node ls` can say it.
fn judge_peers(draft: &mut Draft, observed: &Observed, patience: Patience, node: &Node, state: NodeState) {
    let mut failing: Vec<NodeId> = Vec::new();
    if state == NodeState::Ready {
        for (by, word) in observed.probes.get(&node.id).into_iter().flatten() {
            if *by != node.id && !word.answered && is_believed(draft, observed, patience, *by) {
                failing.push(*by);
            }
        }
    }
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
