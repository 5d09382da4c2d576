//! The value: every object of the cluster, with the indexes that decisions need.
//!
//! Managers keep one and apply proposals to it; readers clone it in O(1) and look at their leisure.
//! Only `apply` changes it, and only whole proposals at a time.

mod apply;
mod apply_network;
pub(crate) mod dependencies;
mod events;
pub(crate) mod guests;
pub(crate) mod homes;
pub(crate) mod index;
mod journal;
mod load;
mod migrations;
mod needs;
pub(crate) mod overlay;
pub(crate) mod pool;
pub(crate) mod ports;
mod refresh;
mod snapshot;
mod stacks;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use types::{
    Cluster, ContainerAttachment, DataPathPeer, Dependency, DependencyId, DependencyKind, DependencyName, Migration,
    Name, Network, NetworkId, Node, NodeId, PortConfig, Service, ServiceId, Slot, Stack, Task, TaskId,
};

pub(crate) use apply::Moment;
pub(crate) use apply_network::must_not_overlap;
pub use events::{changed_tasks, events};
use homes::Homes;
use journal::Journal;
pub use journal::Touched;
pub use load::NodeLoad;
use overlay::Overlay;
use pool::Pool;
use ports::Ports;

/// Persistent maps: a clone shares everything with its origin.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    index: u64,
    cluster: Option<Arc<Cluster>>,
    nodes: OrdMap<NodeId, Arc<Node>>,
    services: OrdMap<ServiceId, Arc<Service>>,
    /// Of services that are not being removed: a name is free again as soon as a removal was asked for.
    names: OrdMap<Name, ServiceId>,
    tasks: OrdMap<TaskId, Arc<Task>>,
    /// With the tasks themselves: most passes read all tasks of a service.
    by_slot: OrdMap<(ServiceId, Slot, TaskId), Arc<Task>>,
    by_node: OrdSet<(NodeId, TaskId)>,
    loads: OrdMap<NodeId, NodeLoad>,
    /// The networks, each with who is in it.
    overlays: OrdMap<NetworkId, Overlay>,
    network_names: OrdMap<Name, NetworkId>,
    /// VXLAN identifiers in use.
    vnis: OrdMap<u32, NetworkId>,
    /// Which addresses of each network are free.
    pools: OrdMap<NetworkId, Pool>,
    /// Tasks that hold a place in a network.
    by_network: OrdSet<(NetworkId, TaskId)>,
    /// Networks that single containers may join on any node.
    attachable: OrdSet<NetworkId>,
    /// Services that want their tasks in a network or have a virtual address there.
    users: OrdSet<(NetworkId, ServiceId)>,
    /// Places of single containers.
    guests: OrdMap<(NetworkId, String), Arc<ContainerAttachment>>,
    guests_by_node: OrdSet<(NodeId, NetworkId, String)>,
    /// The network of the routing mesh.
    ingress: Option<NetworkId>,
    ports: Ports,
    /// Services with constraints on what else runs on a node.
    neighbourly: OrdSet<ServiceId>,
    /// Services whose priority is another than that of all others.
    priorities: OrdSet<ServiceId>,
    /// Names of services with those that need them.
    needed: OrdSet<(Name, ServiceId)>,
    /// Where the data planes of all nodes that are not down are reached.
    peers: OrdMap<NodeId, Arc<DataPathPeer>>,
    /// Secrets and configs, with their old versions.
    dependencies: OrdMap<DependencyId, Arc<Dependency>>,
    /// Of present versions.
    dependency_names: OrdMap<(DependencyKind, DependencyName), DependencyId>,
    /// Where the data of slots is.
    homes: Homes,
    /// Data on its way between nodes, by where it comes from.
    migrations: OrdMap<(NodeId, String), Arc<Migration>>,
    stacks: OrdMap<Name, Arc<Stack>>,
    /// Networks of removed stacks that still have tasks.
    leaving: OrdSet<NetworkId>,
    journal: Journal,
}

const FIRST_TASK: TaskId = TaskId::from_random(0);
const LAST_TASK: TaskId = TaskId::from_random(u128::MAX);
const FIRST_SERVICE: ServiceId = ServiceId::from_random(0);
const LAST_SERVICE: ServiceId = ServiceId::from_random(u128::MAX);
const FIRST_SLOT: Slot = Slot::Replica(0);
const LAST_SLOT: Slot = Slot::Node(NodeId::from_random(u128::MAX));

impl Tables {
    /// The log index of the last proposal that was applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// In the order of their ids, as all lists here.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes whose ids follow `after`, beginning again at the first: the ring on which probes go.
    pub fn nodes_after(&self, after: NodeId) -> impl Iterator<Item = &Arc<Node>> {
        let above = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        self.nodes.range(above).chain(self.nodes.range(..after)).map(|(_, node)| node)
    }

    /// The same ring in the other direction.
    pub fn nodes_before(&self, before: NodeId) -> impl Iterator<Item = &Arc<Node>> {
        let above = (std::ops::Bound::Excluded(before), std::ops::Bound::Unbounded);
        self.nodes.range(..before).rev().chain(self.nodes.range(above).rev()).map(|(_, node)| node)
    }

    pub fn service(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The service that has this name and is not being removed.
    pub fn service_by_name(&self, name: &Name) -> Option<&Arc<Service>> {
        self.names.get(name).and_then(|id| self.services.get(id))
    }

    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.values()
    }

    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Ordered by slot, then by id.
    pub fn tasks_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (service, FIRST_SLOT, FIRST_TASK)..=(service, LAST_SLOT, LAST_TASK);
        self.by_slot.range(range).map(|(_, task)| task)
    }

    pub fn tasks_of_slot(&self, service: ServiceId, slot: Slot) -> impl Iterator<Item = &Arc<Task>> {
        let range = (service, slot, FIRST_TASK)..=(service, slot, LAST_TASK);
        self.by_slot.range(range).map(|(_, task)| task)
    }

    pub fn tasks_of_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (node, FIRST_TASK)..=(node, LAST_TASK);
        self.by_node.range(range).filter_map(|(_, id)| self.tasks.get(id))
    }

    pub fn network(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.overlays.get(&id).map(|overlay| &overlay.network)
    }

    pub fn networks(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.overlays.values().map(|overlay| &overlay.network)
    }

    pub fn network_by_name(&self, name: &Name) -> Option<&Arc<Network>> {
        self.network_names.get(name).and_then(|id| self.network(*id))
    }

    /// The network of the routing mesh, in which every node takes part.
    pub fn ingress(&self) -> Option<&Arc<Network>> {
        self.ingress.and_then(|id| self.network(id))
    }

    /// Tasks that hold a place in the network: placed there and not ended.
    pub fn tasks_of_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (network, FIRST_TASK)..=(network, LAST_TASK);
        self.by_network.range(range).filter_map(|(_, id)| self.tasks.get(id))
    }

    /// Services that want their tasks in the network or still have a virtual address there.
    pub fn services_of_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<Service>> {
        let range = (network, FIRST_SERVICE)..=(network, LAST_SERVICE);
        self.users.range(range).filter_map(|(_, id)| self.services.get(id))
    }

    /// Nodes with a task that holds a place in the network.
    pub fn nodes_of_network(&self, network: NetworkId) -> impl Iterator<Item = NodeId> {
        self.overlays.get(&network).into_iter().flat_map(|overlay| overlay.nodes.iter().copied())
    }

    /// Services with constraints on what else runs on a node.
    pub(crate) fn neighbourly(&self) -> impl Iterator<Item = &Service> {
        self.neighbourly.iter().filter_map(|id| self.services.get(id)).map(|service| &**service)
    }

    pub(crate) fn has_neighbourly(&self) -> bool {
        !self.neighbourly.is_empty()
    }

    /// Whether some service comes before others.
    pub(crate) fn has_priorities(&self) -> bool {
        !self.priorities.is_empty()
    }

    /// All nodes at once, to see whether any changed.
    pub(crate) fn node_map(&self) -> &OrdMap<NodeId, Arc<Node>> {
        &self.nodes
    }

    pub(crate) fn overlay(&self, network: NetworkId) -> Option<&Overlay> {
        self.overlays.get(&network)
    }

    pub(crate) fn pool(&self, network: NetworkId) -> Option<&Pool> {
        self.pools.get(&network)
    }

    /// Which published number is whose.
    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// On a copy on which the service's next state is to be judged among others': these ports are free for them already.
    pub(crate) fn release_ports(&mut self, service: &Service, goes: impl Fn(&PortConfig) -> bool) {
        self.ports.release_those(service, goes);
    }

    pub(crate) fn peers(&self) -> &OrdMap<NodeId, Arc<DataPathPeer>> {
        &self.peers
    }

    pub(crate) fn vnis(&self) -> &OrdMap<u32, NetworkId> {
        &self.vnis
    }

    /// Networks in which a node has a task with a place, those that any container may join, and the ingress network.
    pub(crate) fn networks_of_node(&self, node: NodeId) -> std::collections::BTreeSet<NetworkId> {
        let own = self.tasks_of_node(node).filter(|task| overlay::takes_part(task));
        let own = own.flat_map(|task| task.attachments.iter().map(|place| place.network));
        own.chain(self.attachable.iter().copied()).chain(self.ingress).collect()
    }

    /// What the tasks that have not ended reserve on a node.
    pub fn load(&self, node: NodeId) -> &NodeLoad {
        self.loads.get(&node).unwrap_or(NodeLoad::none())
    }

    /// All nodes with what the tasks reserve on each: both are in the order of the ids, so nothing is looked up.
    pub(crate) fn nodes_with_load(&self) -> impl Iterator<Item = (&Node, &NodeLoad)> {
        let mut loads = self.loads.iter().peekable();
        self.nodes.values().map(move |node| {
            while loads.next_if(|(id, _)| **id < node.id).is_some() {}
            let load = loads.next_if(|(id, _)| **id == node.id).map(|(_, load)| load);
            (&**node, load.unwrap_or(NodeLoad::none()))
        })
    }

    /// What changed after the proposal with this index; `None` if that is too long ago to know.
    pub fn touched_since(&self, index: u64) -> Option<Touched> {
        self.journal.since(index, self.index)
    }
}
