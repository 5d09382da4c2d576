//! The objects of the cluster's value: what is, beside what is wanted.

mod cluster;
mod dependency;
mod job;
mod migration;
mod network;
mod node;
mod rebalance;
mod registry;
mod renewal;
mod service;
mod stack;
mod task;

use serde::{Deserialize, Serialize};

pub use cluster::{Cluster, JoinSecrets, RootCa, RootRotation, UnlockKey};
pub use dependency::Dependency;
pub use job::JobStatus;
pub use migration::{Migration, MigrationKey, MigrationStep};
pub use network::{Attachment, ContainerAttachment, Network, Subnet, VirtualIp};
pub use node::{
    Drivers, MAX_DEVICES, MAX_PEER_PROBLEMS, MAX_PLATFORMS, MAX_PORT_TROUBLES, Node, NodeDescription, NodeState,
    NodeStatus, PeerProblem, RaftMember,
};
pub use rebalance::{Rebalance, RebalanceMove, RebalanceState, RebalanceView};
pub use registry::{MAX_REGISTRIES, RegistryLogin, RegistryScope, RegistryScopeError};
pub use renewal::{CredentialHelper, CredentialHelperError, RENEWAL_EVERY, RegistryRenewal};
pub use service::{KEPT_REVISIONS, Revision, Service, UpdateState, UpdateStatus};
pub use stack::{
    STACK_LABEL, Stack, StackAction, StackDependency, StackPart, StackResult, StackRevision, StackSpec, StackState,
    stack_of,
};
pub use task::{ContainerHealth, ContainerStatus, PortStatus, Slot, Task, TaskState, TaskStatus};

use crate::Timestamp;

/// The log index of the change that last touched an object: what optimistic writes compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// As of objects of before it was noted.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
    fn is_unknown(&self) -> bool {
        self.0 == 0
    }
}

/// What every object carries. Set by `apply` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    pub version: Version,
    /// Of the change that last touched what people ask for, of nodes and services; 0: not known.
    #[serde(skip_serializing_if = "Version::is_unknown")]
    pub spec_at: Version,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Meta {
    /// Whether who read the object at version `read` has seen its spec as it is now. What the cluster itself noted since
    /// is nothing that an update of the spec could take back.
    pub fn is_known_at(&self, read: Version) -> bool {
        let since = if self.spec_at.is_unknown() { self.version } else { self.spec_at };
        since <= read && read <= self.version
    }
}
