//! What the leader has noticed that is not part of the value: who was heard when, what probes say.
//!
//! Filled by the manager's dispatcher, read by the node health pass. Lost with the leader, on purpose:
//! a new one begins with "heard just now" for all, so an election kills nobody.

use std::collections::{BTreeMap, HashMap};

use types::{NodeId, Timestamp};

#[derive(Debug, Clone)]
pub struct Observed {
    /// When this manager became leader. A node without an entry in `last_heard` counts as heard then;
    /// a node that is not READY counts as back only when heard *after* it.
    pub since: Timestamp,
    /// Last message on each node's control stream. Entries equal to `since` mean "not heard yet".
    pub last_heard: HashMap<NodeId, Timestamp>,
    /// Last verdict about each node by each of its probers.
    pub probes: HashMap<NodeId, BTreeMap<NodeId, ProbeVerdict>>,
    /// The leader's own node, which is never judged silent: whoever asks is alive.
    pub me: NodeId,
}

/// One prober's last word about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeVerdict {
    /// None: its giver is no witness of the host's life.
    pub answered: Option<bool>,
    /// Something between the two does not work.
    pub impaired: bool,
    pub at: Timestamp,
    /// Direction, port and size in words.
    pub detail: String,
}

impl Observed {
    /// Nothing noticed yet, by a leader that began `now`.
    pub fn new(me: NodeId, now: Timestamp) -> Self {
        Self { since: now, last_heard: HashMap::new(), probes: HashMap::new(), me }
    }

    pub fn heard(&self, node: NodeId) -> Timestamp {
        self.last_heard.get(&node).copied().unwrap_or(self.since)
    }
}
