//! One attempt to run one container in one slot of a service. A task never changes node.

use std::{fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Attachment, GenericResources, LogDriver, Meta, NodeId, PortConfig, ServiceId, TaskId, TaskSpec, Timestamp, Version,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    #[serde(default)]
    pub meta: Meta,
    pub service: ServiceId,
    pub slot: Slot,
    /// `None` while no node fits: the status then says why.
    pub node: Option<NodeId>,
    pub spec: Arc<TaskSpec>,
    /// Its places in the cluster's networks, in the order of the spec; behind them the one in the ingress network.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// The service's `spec_version` this task was made from, or has its files from.
    pub spec_version: Version,
    /// The service's iteration it belongs to, if that is a job.
    #[serde(default)]
    pub iteration: Option<u64>,
    /// Host-mode ports of the service when this task was made: it holds them on its node until it has ended.
    #[serde(default)]
    pub host_ports: Vec<PortConfig>,
    /// Its service published ports through the routing mesh when this task was made: it has a place in the ingress
    /// network too, behind those of the spec.
    #[serde(default)]
    pub publishes: bool,
    /// What of the node's generic resources is its own until it has ended: names where the node has names.
    #[serde(default)]
    pub granted: GenericResources,
    /// The cluster's log driver when this task was made, if its spec names none (parity C-43).
    #[serde(default)]
    pub default_log: Option<LogDriver>,
    pub status: TaskStatus,
    /// Where the task shall get to: RUNNING, SHUTDOWN or REMOVE.
    pub desired: TaskState,
    /// Why it shall not run any more, where nobody asked for that: it made way, or moved. Else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Not to be started before this time (restart delay); `EPOCH` when there is no delay.
    #[serde(default)]
    pub not_before: Timestamp,
    /// Failures in a row in this slot before this task: what backoff and `max_attempts` count.
    #[serde(default)]
    pub failures: u32,
    /// When tasks of this slot were restarted before this one, oldest first: what `max_attempts` counts.
    #[serde(default)]
    pub failed_at: Vec<Timestamp>,
    /// When RUNNING was first recorded, by the leader's clock: how long a run lasted, `monitor`. Set by `apply` alone.
    #[serde(default)]
    pub running_since: Option<Timestamp>,
    /// When it was given other versions of its secrets and configs while it ran, the last time. Set by `apply` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshed_at: Option<Timestamp>,
}

impl Task {
    /// Since when it runs with what it has now: what an update watches.
    pub fn runs_so_since(&self) -> Option<Timestamp> {
        self.running_since.max(self.refreshed_at)
    }
}

/// The place in a service that a task fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// Replica number, from 1; of a job from 0, as Docker's command line expects it.
    Replica(u64),
    /// The task of a global service or job on this node.
    Node(NodeId),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(number) => write!(f, "{number}"),
            Self::Node(node) => write!(f, "{node}"),
        }
    }
}

/// The life of a task. The order is fixed and a task never goes backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TaskState {
    New,
    Pending,
    Assigned,
    Accepted,
    Preparing,
    Ready,
    Starting,
    Running,
    Complete,
    Shutdown,
    Failed,
    Rejected,
    Remove,
    Orphaned,
}

impl TaskState {
    /// The container has ended or will never be there.
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub state: TaskState,
    /// When `state` was entered, by the clock of whoever entered it.
    pub since: Timestamp,
    /// What is going on, in words.
    #[serde(default)]
    pub message: String,
    /// Why it does not run, in words; empty when nothing is wrong (P06).
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub container: Option<ContainerStatus>,
    /// Host-mode ports as they were bound.
    #[serde(default)]
    pub ports: Vec<PortStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// 64 hexadecimal digits; empty until it is created.
    pub id: String,
    pub pid: u32,
    pub exit_code: Option<i32>,
    pub address: Option<IpAddr>,
    /// `None` without a health check.
    pub health: Option<ContainerHealth>,
}

/// What a container's health check has found (parity S-58).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerHealth {
    /// Not healthy yet.
    Starting,
    Healthy,
    Unhealthy,
}

impl fmt::Display for ContainerHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    pub port: PortConfig,
}
