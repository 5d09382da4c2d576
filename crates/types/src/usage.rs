//! What tasks use of their nodes: measured by a node when it is asked, and no part of the value.

use serde::{Deserialize, Serialize};

use crate::{NodeId, TaskId, Timestamp};

/// One running task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskUsage {
    pub task: TaskId,
    /// Processor time since its container began.
    pub cpu_ns: u64,
    /// Without the page cache that the kernel would give back first.
    pub memory_bytes: u64,
    /// Of that what is no page cache at all.
    pub rss_bytes: u64,
    pub memory_limit_bytes: Option<u64>,
    pub processes: u64,
    /// `None` of a task in its host's network, whose traffic nobody counts apart.
    pub network: Option<Traffic>,
    /// From and to disks.
    pub disk: Traffic,
}

/// Bytes since the container began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// All tasks of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeUsage {
    pub node: NodeId,
    /// When it was measured, by the node's clock.
    pub at: Timestamp,
    pub memory_bytes: u64,
    pub tasks: Vec<TaskUsage>,
}

/// Of the nodes that hold their session with one manager.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldUsage {
    pub nodes: Vec<NodeUsage>,
    /// Were asked and did not answer in time.
    pub silent: Vec<NodeId>,
}

/// Of all nodes: each is in one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ClusterUsage {
    pub nodes: Vec<NodeUsage>,
    pub missing: Vec<MissingUsage>,
}

/// A node of whose tasks nothing is known now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingUsage {
    pub node: NodeId,
    pub why: String,
}
