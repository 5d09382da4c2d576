//! What the front ends ask of a manager, and what they get back.
//!
//! Reads are answered by any manager from its own state; writes are forwarded to the leader in one
//! hop. The two are separate types so that a read can never change anything.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Cluster, ClusterId, ClusterSpec, ContainerAttachment, Dependency, DependencyId, DependencyKind, DependencySpec,
    ImageReference, Labels, Migration, MigrationStep, Name, Network, NetworkId, NetworkSpec, Node, NodeId, NodeSpec,
    Payload, RebalanceView, RegistryLogin, RegistryScope, RootRotation, Service, ServiceId, ServiceSpec, Stack,
    StackPart, SubnetSpec, Task, Timestamp, Version,
};

/// Filters of a list: key to accepted values, as the Docker API has them (`{"name":["a","b"]}`).
pub type Filters = BTreeMap<String, Vec<String>>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadRequest {
    /// Without the credentials for registries.
    Cluster,
    /// The cluster's credentials for an image.
    RegistryLogin(Box<ImageReference>),
    Nodes(Filters),
    Services(Filters),
    Tasks(Filters),
    Networks(Filters),
    Dependencies(DependencyKind, Filters),
    /// By full id, name, or unique id prefix.
    Node(String),
    Service(String),
    Task(String),
    /// By the id of its container or a beginning of it that only one has.
    TaskOfContainer(String),
    Network(String),
    Dependency(DependencyKind, String),
    /// All that there is a stack object or a labelled object of.
    Stacks,
    /// By its name.
    Stack(String),
    /// Everything at once and consistent: for `info`, checks and tests.
    Counts,
    /// The whole value, as one manager has it at one moment.
    Backup,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadReply {
    Cluster(Box<Cluster>),
    RegistryLogin(Option<RegistryLogin>),
    Nodes(Vec<NodeView>),
    Services(Vec<ServiceView>),
    Tasks(Vec<Arc<Task>>),
    Node(Box<NodeView>),
    Service(Box<ServiceView>),
    Task(Box<Task>),
    Networks(Vec<NetworkView>),
    Network(Box<NetworkView>),
    /// Secrets without their data.
    Dependencies(Vec<Dependency>),
    Dependency(Box<Dependency>),
    Counts(Counts),
    Stacks(Vec<StackView>),
    Stack(Box<StackView>),
    Backup {
        words: Box<BackupWords>,
        content: Payload,
    },
}

/// What a backup says of itself to everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupWords {
    pub cluster: ClusterId,
    /// The manager that it was taken on.
    pub manager: NodeId,
    pub taken_at: Timestamp,
    /// Of the value.
    pub index: u64,
    pub nodes: u64,
    pub managers: u64,
    pub services: u64,
    pub tasks: u64,
    pub networks: u64,
    pub secrets: u64,
    pub configs: u64,
}

/// A stack with what is of it, by the labels of the objects: those of a removed one are in it until they are gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StackView {
    pub name: String,
    /// The number of its present revision; 0 for one that others deployed, object by object.
    pub revision: u64,
    pub services: Vec<String>,
    pub networks: Vec<String>,
    pub secrets: Vec<String>,
    pub configs: Vec<String>,
    /// With its revisions; filled by `Stack` only.
    pub stack: Option<Stack>,
}

/// A network with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkView {
    pub network: Network,
    /// Addresses that tasks, services and the gateway have, and how many there are, of each subnet.
    pub usage: Vec<SubnetUsage>,
    /// Services and tasks with a place in it; filled by `Network` only.
    #[serde(default)]
    pub services: Vec<Service>,
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// Single containers with a place in it.
    #[serde(default)]
    pub containers: Vec<ContainerAttachment>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubnetUsage {
    pub used: u64,
    pub total: u64,
}

/// A node with what the answering manager knows of it beside the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    pub node: Node,
    pub leader: bool,
    /// Of managers: whether the leader hears it.
    pub reachable: bool,
}

/// A service with its task counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    pub service: Service,
    pub running: u64,
    pub desired: u64,
    /// Of a job: tasks of its present iteration that have ended with success.
    #[serde(default)]
    pub completed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub nodes: u64,
    pub managers: u64,
    pub services: u64,
    pub tasks: u64,
    /// Log index of the state that was counted.
    pub index: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteRequest {
    CreateService(Box<ServiceSpec>),
    UpdateService {
        id: ServiceId,
        version: Version,
        change: ServiceChange,
    },
    RemoveService(ServiceId),
    CreateNetwork(Box<NetworkSpec>),
    RemoveNetwork(NetworkId),
    /// One more range for a network that is there (P09).
    AddSubnet {
        network: NetworkId,
        subnet: SubnetSpec,
    },
    CreateDependency(Box<DependencySpec>),
    UpdateDependency {
        id: DependencyId,
        version: Version,
        labels: Labels,
        /// A new version: the services that use it follow. None: the data stays.
        data: Option<Payload>,
    },
    RemoveDependency(DependencyId),
    UpdateNode {
        id: NodeId,
        version: Version,
        spec: NodeSpec,
    },
    RemoveNode {
        id: NodeId,
        force: bool,
    },
    UpdateCluster {
        version: Version,
        spec: Box<ClusterSpec>,
        rotate_worker_token: bool,
        rotate_manager_token: bool,
        #[serde(default)]
        rotate_unlock_key: bool,
        /// A root to rotate to (parity C-18). The leader signs it, and makes one if the spec asks for a new root and
        /// none is given.
        #[serde(default)]
        root: Option<Box<RootRotation>>,
    },
    /// Credentials that all nodes use from now on.
    PutRegistry {
        scope: RegistryScope,
        login: RegistryLogin,
    },
    RemoveRegistry(RegistryScope),
    /// A node says goodbye: it becomes DOWN at once, managers leave the Raft group first.
    Leave {
        id: NodeId,
        force: bool,
    },
    /// A node wants a place in a network for a single container of its own; the same again gives the same.
    Attach(Box<AttachRequest>),
    /// It gives the place back; one that is not there is fine.
    Detach {
        node: NodeId,
        network: NetworkId,
        container: String,
    },
    DeployStack(Box<StackDeploy>),
    /// Back to the revision of this number, or to the one before the present.
    RollbackStack {
        name: Name,
        #[serde(default)]
        to: Option<u64>,
        /// As in [`StackDeploy`].
        #[serde(default)]
        by: String,
    },
    /// With all that is of it.
    RemoveStack(String),
    /// Evens services out (P19).
    Rebalance {
        /// By name or id; none for all that take part.
        services: Vec<String>,
        /// So many tasks move at once; 0 for what the cluster says.
        budget: u32,
        /// Only tells what it would do.
        dry_run: bool,
    },
    /// The data of a local volume moves to another node (P41).
    Migrate(Box<MigrationStep>),
}

/// A stack as its user wants it, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackDeploy {
    pub name: Name,
    pub services: Vec<ServiceSpec>,
    pub networks: Vec<NetworkSpec>,
    /// Secrets and configs with their data.
    pub dependencies: Vec<DependencySpec>,
    /// What is of the stack and not in this goes.
    pub prune: bool,
    /// Who asks, for the history.
    #[serde(default)]
    pub by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    pub node: NodeId,
    pub network: NetworkId,
    /// The container's id.
    pub container: String,
    pub name: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Addresses that are wanted, one of each subnet at most; of the other subnets any.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceChange {
    Spec(Box<ServiceSpec>),
    /// Back to the spec before the present one.
    Rollback,
    /// Back to the revision of this number.
    RollbackTo(u64),
    /// The rollout stops where it is.
    PauseUpdate,
    /// It goes on; what failed before counts no more.
    ResumeUpdate,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteReply {
    Created(ServiceId),
    CreatedNetwork(NetworkId),
    CreatedDependency(DependencyId),
    Done,
    /// One of each subnet of the network.
    Attached(Vec<IpAddr>),
    /// The number of the stack's present revision, and what became of each part.
    Deployed {
        revision: u64,
        parts: Vec<StackPart>,
    },
    /// What moves, and what stays.
    Rebalancing(Box<RebalanceView>),
    Migrating(Box<Migration>),
}
