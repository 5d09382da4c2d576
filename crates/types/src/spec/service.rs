//! What a user wants of a service.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Labels, Name, Need, ScheduleSpec, Stated, TaskSpec};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    pub name: Name,
    #[serde(default)]
    pub labels: Labels,
    pub task: TaskSpec,
    pub mode: ServiceMode,
    #[serde(default)]
    pub update: UpdateConfig,
    #[serde(default)]
    pub rollback: UpdateConfig,
    #[serde(default)]
    pub endpoint: EndpointSpec,
    #[serde(default)]
    pub disconnect: DisconnectPolicy,
    /// When a job runs. `None`: labels may say it, see [`ServiceSpec::schedule`].
    #[serde(default)]
    pub schedule: Option<ScheduleSpec>,
    /// No task is started before all of this is so. What runs already is not stopped because it is no longer.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// What of this was said; the rest of what has a default was left to it.
    #[serde(default)]
    pub stated: BTreeSet<Stated>,
}

impl ServiceSpec {
    /// Whether both ask for the same, however much of it each says.
    pub fn means_the_same(&self, other: &Self) -> bool {
        let as_said_here = |stated: &BTreeSet<Stated>| Self { stated: stated.clone(), ..other.clone() };
        self == other || *self == as_said_here(&self.stated)
    }
}

/// How many tasks, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceMode {
    Replicated {
        replicas: u64,
    },
    /// One on every node that fits.
    Global,
    /// Tasks that shall end: as many as `total_completions` with success, at most `max_concurrent` at a time.
    ReplicatedJob {
        max_concurrent: u64,
        total_completions: u64,
    },
    /// One that shall end with success, on every node that fits.
    GlobalJob,
}

impl ServiceMode {
    /// Whether tasks are done when they end with success, rather than to be kept running.
    pub const fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }

    /// Whether each node that fits has one task.
    pub const fn is_per_node(self) -> bool {
        matches!(self, Self::Global | Self::GlobalJob)
    }

    /// The word of command line and API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replicated { .. } => "replicated",
            Self::Global => "global",
            Self::ReplicatedJob { .. } => "replicated-job",
            Self::GlobalJob => "global-job",
        }
    }
}

/// How a changed spec reaches the running tasks (parity S-07 to S-13).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateConfig {
    /// Slots updated at once; 0 means all.
    pub parallelism: u64,
    /// Pause between one batch and the next.
    pub delay: Duration,
    pub failure_action: FailureAction,
    /// A task that fails this soon after RUNNING counts as a failed update.
    pub monitor: Duration,
    /// Failed share of the updated slots that is still tolerated, in thousandths (0 to 1000).
    pub max_failure_permille: u16,
    pub order: UpdateOrder,
    /// A task that has not begun to run this long after it was made counts as a failed update; zero: never.
    pub progress_deadline: Duration,
}

impl Eq for UpdateConfig {}

/// Long enough for a large image on a slow line.
pub const DEFAULT_PROGRESS_DEADLINE: Duration = Duration::from_secs(600);

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            monitor: Duration::from_secs(5),
            max_failure_permille: 0,
            order: UpdateOrder::StopFirst,
            progress_deadline: DEFAULT_PROGRESS_DEADLINE,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    Pause,
    Continue,
    Rollback,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateOrder {
    StopFirst,
    StartFirst,
}

/// How the service is reached. Host-mode ports are also a scheduling filter (S-34).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSpec {
    pub mode: EndpointMode,
    pub ports: Vec<PortConfig>,
    pub mesh: MeshSpec,
}

/// To which tasks a node of the routing mesh leads the connections that arrive at it (P43).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MeshSpec {
    pub policy: MeshPolicy,
    pub affinity: MeshAffinity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MeshPolicy {
    /// All tasks of the cluster alike.
    #[default]
    Cluster,
    /// The node's own tasks while it has one that serves, else all.
    LocalFirst,
    /// The node's own tasks; without one the connection is refused.
    LocalOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MeshAffinity {
    /// In turn.
    #[default]
    None,
    /// By the client's address: as long as its task serves, a client stays with it.
    Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum EndpointMode {
    #[default]
    Vip,
    DnsRoundRobin,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortConfig {
    #[serde(default)]
    pub name: String,
    pub protocol: PortProtocol,
    pub target: u16,
    /// `None`: chosen from 30000 to 32767.
    pub published: Option<u16>,
    pub mode: PublishMode,
    #[serde(default)]
    pub bind: PortBind,
    /// Each connection begins with a PROXY protocol header of version 2 that names the client (haproxy,
    /// `proxy-protocol.txt`, section 2.2). TCP only.
    #[serde(default)]
    pub proxy_protocol: bool,
}

impl PortConfig {
    /// One at all addresses of a node, without a name.
    pub fn new(protocol: PortProtocol, target: u16, published: Option<u16>, mode: PublishMode) -> Self {
        let (name, bind) = (String::new(), PortBind::All);
        Self { name, protocol, target, published, mode, bind, proxy_protocol: false }
    }
}

/// At which of a node's addresses a port is published (P32).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
pub enum PortBind {
    #[default]
    All,
    /// `0.0.0.0` and `::` stand for all of their family, where a container is reached in that alone.
    Address(IpAddr),
    /// Whatever addresses the interface of this name has.
    Interface(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PortProtocol {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublishMode {
    Ingress,
    Host,
}

/// What happens to the tasks of a node that stopped answering (design: two witnesses).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DisconnectPolicy {
    /// How long tasks of an *unreachable* node are left alone. A *lost* node's are replaced at once.
    pub lost_after: Duration,
    pub reconcile: Reconcile,
}

impl Default for DisconnectPolicy {
    fn default() -> Self {
        Self { lost_after: Duration::from_secs(60), reconcile: Reconcile::KeepOriginal }
    }
}

/// Which of two tasks of a slot stays when a node returns after its tasks were replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reconcile {
    /// The one that kept running on the returned node, if it still runs.
    KeepOriginal,
    /// The one that was started in its place.
    KeepReplacement,
}
