//! What nodes said since the last time, as managers pass it to the leader.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use types::{NodeDescription, NodeId, ProbeReport, TaskReport};

/// One batch. Sent by the dispatcher of each manager, also to itself when it leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Upward {
    /// Nodes that said anything.
    pub(crate) heard: Vec<NodeId>,
    /// The newest description of each.
    pub(crate) described: BTreeMap<NodeId, Description>,
    /// In the order in which they came.
    pub(crate) tasks: BTreeMap<NodeId, Vec<TaskReport>>,
    pub(crate) probes: BTreeMap<NodeId, Vec<ProbeReport>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) description: NodeDescription,
    /// Where the node's data plane is reached.
    pub(crate) address: Option<IpAddr>,
}

impl Upward {
    pub(crate) fn is_empty(&self) -> bool {
        self.heard.is_empty() && !self.is_news()
    }

    /// Holds more than heartbeats.
    pub(crate) fn is_news(&self) -> bool {
        !(self.described.is_empty() && self.tasks.is_empty() && self.probes.is_empty())
    }
}
