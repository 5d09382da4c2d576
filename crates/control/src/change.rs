//! What may be asked of the value: proposals, the changes they are made of, and why one is refused.
//!
//! Written into the Raft log by managers; read back by [`crate::Tables::apply`]. A variant may gain
//! fields with defaults, never lose any: logs of older managers must stay readable.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use types::{
    Attachment, Cluster, ContainerAttachment, Dependency, DependencyId, GenericResources, JobStatus, Migration, Name,
    Network, NetworkId, Node, NodeDescription, NodeId, NodeRole, NodeState, PeerProblem, RaftMember, Rebalance,
    Service, ServiceId, Slot, StackResult, StackSpec, Subnet, TaskId, TaskState, TaskStatus, Timestamp, UpdateStatus,
    Version, VirtualIp,
};

use crate::Component;

/// Changes that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Proposal {
    /// The proposer's clock: becomes `created_at` and `updated_at`.
    pub at: Timestamp,
    /// Objects this was decided on. If one has another version by now, the whole is refused.
    #[serde(default)]
    pub expects: Vec<(ObjectRef, Version)>,
    pub changes: Vec<Change>,
}

/// Names one object of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ObjectRef {
    Cluster,
    Node(NodeId),
    Service(ServiceId),
    Task(TaskId),
    Network(NetworkId),
    Dependency(DependencyId),
}

/// One step. Fields that `apply` derives (meta, versions, states of newborn tasks) are not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    PutCluster(Box<Cluster>),
    /// A new node, or a new spec for a known one (then name its version in `expects`).
    PutNode(Box<Node>),
    NodeState {
        node: NodeId,
        state: NodeState,
        message: String,
    },
    NodePeers {
        node: NodeId,
        #[serde(default, rename = "peer_problems")]
        unreachable_peers: Vec<PeerProblem>,
    },
    NodeDescribed {
        node: NodeId,
        description: Box<NodeDescription>,
        address: Option<IpAddr>,
    },
    NodeRole {
        node: NodeId,
        role: NodeRole,
    },
    NodeRaft {
        node: NodeId,
        raft: Option<RaftMember>,
    },
    RemoveNode(NodeId),
    PutService {
        service: Box<Service>,
        /// Tasks made so far may have to be replaced: `spec_version` moves on.
        new_spec: bool,
    },
    ServiceUpdate {
        service: ServiceId,
        update: UpdateStatus,
    },
    /// A run of a job begins, or its schedule moves on.
    ServiceJob {
        service: ServiceId,
        job: JobStatus,
    },
    /// A request to even the service out, or how far it is.
    ServiceRebalance {
        service: ServiceId,
        rebalance: Rebalance,
    },
    /// Data begins to move, or goes on to.
    PutMigration(Box<Migration>),
    EndMigration {
        volume: String,
        from: NodeId,
        /// It is at the other node now.
        moved: bool,
    },
    RemoveService(ServiceId),
    /// All virtual addresses of a service from now on. `PutService` leaves them as they are.
    ServiceAddresses {
        service: ServiceId,
        virtual_ips: Vec<VirtualIp>,
    },
    /// A new network, with its identifier and subnets.
    PutNetwork(Box<Network>),
    RemoveNetwork(NetworkId),
    /// A network that is there has one more.
    AddSubnet {
        network: NetworkId,
        subnet: Subnet,
    },
    /// A new version of a secret or config, or new labels or `superseded` for a known one.
    PutDependency(Box<Dependency>),
    RemoveDependency(DependencyId),
    /// What a stack is from now on: one more revision after `before`, 0 for a new stack.
    PutStack {
        name: Name,
        before: u64,
        #[serde(default)]
        back_to: Option<u64>,
        #[serde(default)]
        by: String,
        /// What became of `before`.
        #[serde(default)]
        result: Option<StackResult>,
        spec: Box<StackSpec>,
    },
    /// Its objects have changes of their own.
    RemoveStack(Name),
    /// The network goes when its last task has ended.
    NetworkLeaves(NetworkId),
    CreateTask(Box<NewTask>),
    /// The scheduler found a node for a task that was born without one.
    AssignTask {
        task: TaskId,
        node: NodeId,
        /// Its places in the networks of its spec.
        #[serde(default)]
        attachments: Vec<Attachment>,
        /// Of the node's generic resources.
        #[serde(default)]
        granted: GenericResources,
    },
    TaskStatus {
        task: TaskId,
        by: Component,
        status: Box<TaskStatus>,
    },
    TaskDesired {
        task: TaskId,
        desired: TaskState,
        /// Where nobody asked for it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// One that runs gets the versions of secrets and configs that its service names now, and stays as it is in all else.
    RefreshTask(TaskId),
    RemoveTask(TaskId),
    /// A single container's new place in a network.
    Attach(Box<ContainerAttachment>),
    Detach {
        network: NetworkId,
        container: String,
    },
}

/// A task to be: its spec and spec version are the service's at the time of `apply`, its state follows
/// from whether it has a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    pub id: TaskId,
    pub service: ServiceId,
    pub slot: Slot,
    pub node: Option<NodeId>,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub not_before: Timestamp,
    #[serde(default)]
    pub failures: u32,
    #[serde(default)]
    pub failed_at: Vec<Timestamp>,
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    #[serde(default)]
    pub granted: GenericResources,
}

/// Why a request or a proposal is refused. The texts are for people; the variant decides the status
/// code of the front ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejection {
    #[error("{kind} {name} not found")]
    NotFound { kind: String, name: String },
    #[error("name conflicts with an existing object: {kind} {name} already exists")]
    AlreadyExists { kind: String, name: String },
    #[error("update out of sequence: {kind} {name} has changed since it was read; read it again and repeat")]
    OutOfSequence { kind: String, name: String },
    #[error("{kind} {prefix} is ambiguous: {count} ids begin with it; give more characters")]
    Ambiguous { kind: String, prefix: String, count: u64 },
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    FailedPrecondition(String),
    /// The cluster's administrator does not want it.
    #[error("{0}")]
    Denied(String),
    /// What stands in the way is on its way out: the same request may pass soon.
    #[error("{0}")]
    Unsettled(String),
}

impl Rejection {
    pub(crate) fn not_found(kind: &str, name: impl std::fmt::Display) -> Self {
        Self::NotFound { kind: kind.to_owned(), name: name.to_string() }
    }

    pub(crate) fn already_exists(kind: &str, name: impl std::fmt::Display) -> Self {
        Self::AlreadyExists { kind: kind.to_owned(), name: name.to_string() }
    }

    pub(crate) fn out_of_sequence(kind: &str, name: impl std::fmt::Display) -> Self {
        Self::OutOfSequence { kind: kind.to_owned(), name: name.to_string() }
    }
}
