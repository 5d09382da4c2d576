//! The value: every object of the cluster, with the indexes that decisions need.
//!
//! Managers keep one and apply proposals to it; readers clone it in O(1) and look at their leisure.
//! Only `apply` changes it, and only whole proposals at a time.

mod apply;
mod index;
mod journal;
mod load;
mod snapshot;

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use types::{Cluster, Name, Node, NodeId, Service, ServiceId, Slot, Task, TaskId};

pub(crate) use apply::Moment;
use journal::Journal;
pub use journal::Touched;
pub use load::NodeLoad;
pub(crate) use load::fixed_ports;

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
    by_slot: OrdSet<(ServiceId, Slot, TaskId)>,
    by_node: OrdSet<(NodeId, TaskId)>,
    loads: OrdMap<NodeId, NodeLoad>,
    journal: Journal,
}

const FIRST_TASK: TaskId = TaskId::from_random(0);
const LAST_TASK: TaskId = TaskId::from_random(u128::MAX);
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
        self.by_slot.range(range).filter_map(|(_, _, id)| self.tasks.get(id))
    }

    pub fn tasks_of_slot(&self, service: ServiceId, slot: Slot) -> impl Iterator<Item = &Arc<Task>> {
        let range = (service, slot, FIRST_TASK)..=(service, slot, LAST_TASK);
        self.by_slot.range(range).filter_map(|(_, _, id)| self.tasks.get(id))
    }

    pub fn tasks_of_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (node, FIRST_TASK)..=(node, LAST_TASK);
        self.by_node.range(range).filter_map(|(_, id)| self.tasks.get(id))
    }

    /// What the tasks that have not ended reserve on a node.
    pub fn load(&self, node: NodeId) -> &NodeLoad {
        self.loads.get(&node).unwrap_or(NodeLoad::none())
    }

    /// What changed after the proposal with this index; `None` if that is too long ago to know.
    pub fn touched_since(&self, index: u64) -> Option<Touched> {
        self.journal.since(index, self.index)
    }
}
