//! A node's slice of the value: what a manager sends, and what the node answers.
//!
//! A stream begins with a whole [`AssignmentSet`]; every later [`AssignmentDiff`] names the number
//! it applies to, so that a lost or doubled message is noticed and the whole set is asked for again.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Name, NodeId, ServiceId, Slot, TaskId, TaskSpec, TaskState, TaskStatus, Timestamp};

/// All that one node shall do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AssignmentSet {
    pub tasks: BTreeMap<TaskId, Assignment>,
    pub network: HostNetwork,
}

/// From one set to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AssignmentDiff {
    /// New or changed.
    pub upsert: Vec<Assignment>,
    /// No longer this node's: containers are removed.
    pub remove: Vec<TaskId>,
    /// Set when it changed; always whole.
    pub network: Option<HostNetwork>,
}

/// One task as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub id: TaskId,
    pub service: ServiceId,
    pub service_name: Name,
    pub slot: Slot,
    pub spec: Arc<TaskSpec>,
    /// Host-mode ports of the task: the node publishes them for it.
    #[serde(default)]
    pub host_ports: Vec<crate::PortConfig>,
    /// RUNNING, SHUTDOWN or REMOVE.
    pub desired: TaskState,
    #[serde(default)]
    pub not_before: Timestamp,
    /// What the value last heard of it, so that a node that lost its state knows what had happened.
    pub state: TaskState,
}

/// What the data plane of a node needs from the value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostNetwork {
    pub probe_key: [u8; 32],
    pub probe_peers: Vec<ProbePeer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProbePeer {
    pub node: NodeId,
    pub address: IpAddr,
}

/// What a node's data plane says of one of its peers. Only changes are sent, and all on a new session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    pub peer: NodeId,
    pub answered: bool,
    /// Direction, port and size in words, for `node inspect`.
    pub detail: String,
}

/// A change of a task's state, as its node saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    pub task: TaskId,
    pub status: TaskStatus,
}

/// A manager that nodes may turn to. Sent with each session and kept on the node's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerPeer {
    pub node: NodeId,
    /// `host:port`.
    pub address: String,
}
