//! A node's slice of the value: what a manager sends, and what the node answers.
//!
//! A stream begins with a whole [`AssignmentSet`]; every later [`AssignmentDiff`] names the number
//! it applies to, so that a lost or doubled message is noticed and the whole set is asked for again.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Attachment, DEFAULT_MESH_WEIGHT, DependencyId, EndpointMode, GenericResources, Labels, LogDriver, MeshSpec, Name,
    Network, NetworkId, NodeId, Payload, PortConfig, ServiceId, Slot, TaskId, TaskSpec, TaskState, TaskStatus,
    Timestamp,
};

/// All that one node shall do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AssignmentSet {
    pub tasks: BTreeMap<TaskId, Assignment>,
    pub network: HostNetwork,
    /// The networks this node takes part in, and all that is in them anywhere.
    pub overlays: BTreeMap<NetworkId, OverlayState>,
    /// What the tasks have as files, while they may need it. Never on a disk.
    pub dependencies: BTreeMap<DependencyId, AssignedDependency>,
}

impl AssignmentSet {
    /// Whether all that a task has as files is here. What is kept on a node's disk is without it.
    pub fn has_dependencies_of(&self, assignment: &Assignment) -> bool {
        let wanted = &assignment.spec.container.dependencies;
        wanted.iter().all(|wanted| wanted.id.is_some_and(|id| self.dependencies.contains_key(&id)))
    }
}

/// A secret or config as a node gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedDependency {
    pub data: Payload,
    #[serde(default)]
    pub is_template: bool,
}

/// From one set to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AssignmentDiff {
    /// New or changed.
    pub upsert: Vec<Assignment>,
    /// No longer this node's: containers are removed.
    pub remove: Vec<TaskId>,
    /// Set when more than its peers changed; always whole.
    pub network: Option<HostNetwork>,
    /// Of `network.data_path_peers`: new or changed.
    pub upsert_peers: BTreeMap<NodeId, DataPathPeer>,
    pub remove_peers: Vec<NodeId>,
    /// New networks, and differences of known ones.
    pub overlays: Vec<OverlayDiff>,
    /// Networks this node no longer takes part in.
    pub remove_overlays: Vec<NetworkId>,
    pub upsert_dependencies: BTreeMap<DependencyId, AssignedDependency>,
    pub remove_dependencies: Vec<DependencyId>,
}

/// One task as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub id: TaskId,
    pub service: ServiceId,
    pub service_name: Name,
    /// Where its spec, or the data of a secret or config, may ask for them.
    #[serde(default)]
    pub service_labels: Labels,
    pub slot: Slot,
    pub spec: Arc<TaskSpec>,
    /// Its places in the cluster's networks, in the order of the spec; behind them the one in the ingress network.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// Host-mode ports of the task: the node publishes them for it.
    #[serde(default)]
    pub host_ports: Vec<PortConfig>,
    /// The generic resources that are the task's own.
    #[serde(default)]
    pub granted: GenericResources,
    /// Of the cluster; for a spec that names no log driver.
    #[serde(default)]
    pub default_log: Option<LogDriver>,
    /// The cluster's credentials for the image's registry, as `image::Credentials` packs them; empty without.
    #[serde(default, skip_serializing_if = "Payload::is_empty")]
    pub registry_auth: Payload,
    /// The same for the images of its mounts, by the mount's source; without those that have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mount_auths: BTreeMap<String, Payload>,
    /// Its service depends on others, or others on it: after a restart of the host it is not made again here, for the
    /// managers see to the order.
    #[serde(default)]
    pub is_ordered: bool,
    /// RUNNING, SHUTDOWN or REMOVE.
    pub desired: TaskState,
    #[serde(default)]
    pub not_before: Timestamp,
    /// What the value last heard of it, so that a node that lost its state knows what had happened.
    pub state: TaskState,
}

impl Assignment {
    /// The versions of secrets and configs that it has as files, in the order of those.
    pub fn versions(&self) -> impl Iterator<Item = DependencyId> {
        self.spec.container.dependencies.iter().filter_map(|wanted| wanted.id)
    }

    /// Where the container's lines go; `None`: as the engine has it by itself.
    pub fn log_driver(&self) -> Option<&LogDriver> {
        self.spec.log_driver.as_ref().or(self.default_log.as_ref())
    }
}

/// What the data plane of a node needs from the value.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostNetwork {
    pub probe_key: [u8; 32],
    pub probe_peers: Vec<ProbePeer>,
    /// UDP port of VXLAN between hosts.
    pub data_path_port: u16,
    /// The other nodes of the networks this node takes part in; all that are not down while there is an ingress network.
    pub data_path_peers: BTreeMap<NodeId, DataPathPeer>,
}

/// Where another node's data plane is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataPathPeer {
    pub address: IpAddr,
    /// `None` until its data plane told it: nothing of an encrypted network goes there.
    #[serde(default)]
    pub wireguard_key: Option<[u8; 32]>,
    /// Of the interface with its address, in bytes. None: not known.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// One network as the value has it: who is in it, on all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayState {
    pub network: Arc<Network>,
    #[serde(default)]
    pub endpoints: BTreeMap<TaskId, OverlayEndpoint>,
    #[serde(default)]
    pub services: BTreeMap<ServiceId, OverlayService>,
    /// Single containers, by their ids.
    #[serde(default)]
    pub containers: BTreeMap<String, OverlayContainer>,
}

/// A single container's place in a network, on whatever node it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayContainer {
    pub node: NodeId,
    pub name: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// IPv4 before IPv6, as an [`OverlayEndpoint`]'s.
    pub addresses: Vec<IpAddr>,
}

/// A task's place in a network, on whatever node it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayEndpoint {
    pub node: NodeId,
    pub service: ServiceId,
    pub slot: Slot,
    /// IPv4 before IPv6. The MAC address follows from the first (`overlay::MacAddress::for_ipv4`).
    pub addresses: Vec<IpAddr>,
    #[serde(default)]
    pub aliases: Vec<String>,
    pub stage: EndpointStage,
    /// Its share of the connections that the routing mesh spreads, beside those of the others: 1 to 100.
    #[serde(default = "default_weight")]
    pub weight: u16,
}

fn default_weight() -> u16 {
    DEFAULT_MESH_WEIGHT
}

/// What may be sent to an endpoint. It is reachable by its own address in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EndpointStage {
    /// Not RUNNING yet: only its own names lead to it, so that members of a cluster find each other while starting (P42).
    Starting,
    /// A backend of its service's virtual address and names.
    Serving,
    /// On its way out: open connections go on, new ones go elsewhere.
    Draining,
}

/// A service as a network shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "crate::port_runs::Shown", into = "crate::port_runs::Shown")]
pub struct OverlayService {
    pub name: Name,
    pub mode: EndpointMode,
    /// IPv4 before IPv6; empty in mode dnsrr.
    pub addresses: Vec<IpAddr>,
    /// In the ingress network alone: the ports that every node publishes for it, all with their numbers.
    pub ports: Vec<PortConfig>,
    pub mesh: MeshSpec,
}

/// From one [`OverlayState`] to the next. Of a network that was not known before it holds everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayDiff {
    pub id: NetworkId,
    /// Set when new or changed.
    #[serde(default)]
    pub network: Option<Arc<Network>>,
    #[serde(default)]
    pub upsert_endpoints: BTreeMap<TaskId, OverlayEndpoint>,
    #[serde(default)]
    pub remove_endpoints: Vec<TaskId>,
    #[serde(default)]
    pub upsert_services: BTreeMap<ServiceId, OverlayService>,
    #[serde(default)]
    pub remove_services: Vec<ServiceId>,
    #[serde(default)]
    pub upsert_containers: BTreeMap<String, OverlayContainer>,
    #[serde(default)]
    pub remove_containers: Vec<String>,
}

impl OverlayDiff {
    /// One that changes nothing.
    pub fn of(id: NetworkId) -> Self {
        Self {
            id,
            network: None,
            upsert_endpoints: BTreeMap::new(),
            remove_endpoints: Vec::new(),
            upsert_services: BTreeMap::new(),
            remove_services: Vec::new(),
            upsert_containers: BTreeMap::new(),
            remove_containers: Vec::new(),
        }
    }
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
    /// Whether the host answers. None: this node is none of its witnesses, or does not know yet.
    #[serde(default)]
    pub answered: Option<bool>,
    /// Whether something of the way there or back does not carry what it should.
    #[serde(default)]
    pub impaired: bool,
    /// Direction, port and size in words, for `node inspect`; empty when nothing is wrong.
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
