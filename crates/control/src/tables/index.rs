//! Keeping the indexes in step: the only code that inserts and removes objects.

use std::sync::Arc;

use imbl::OrdSet;
use types::{
    Constraint, DataPathPeer, Network, NetworkId, Node, NodeId, NodeState, Service, ServiceId, Subnet, Task, TaskId,
    mesh_weight,
};

use super::{
    NodeLoad, Tables,
    overlay::{Overlay, takes_part},
    pool::Pool,
    ports,
};

impl Tables {
    pub(super) fn insert_node(&mut self, node: Arc<Node>) {
        // what the others see of its tasks
        let down = |node: &Node| node.status.state == NodeState::Down;
        let seen = |node: &Arc<Node>| (!down(node)).then(|| mesh_weight(&node.spec.labels));
        let (id, was, is) = (node.id, self.nodes.get(&node.id).and_then(seen), seen(&node));
        self.set_peer(id, peer(&node));
        self.nodes.insert(id, node);
        if was != is {
            self.show_node(id);
        }
    }

    fn set_peer(&mut self, id: NodeId, now: Option<DataPathPeer>) {
        match now {
            Some(now) if self.peers.get(&id).is_none_or(|known| **known != now) => {
                self.peers.insert(id, Arc::new(now));
            }
            None if self.peers.contains_key(&id) => _ = self.peers.remove(&id),
            _ => {}
        }
    }

    pub(super) fn drop_node(&mut self, id: NodeId) {
        self.nodes.remove(&id);
        self.set_peer(id, None);
        self.show_node(id);
    }

    pub(super) fn insert_network(&mut self, network: Arc<Network>) {
        let id = network.id;
        self.network_names.insert(network.spec.name.clone(), id);
        if network.vni != 0 {
            self.vnis.insert(network.vni, id);
        }
        if network.spec.attachable {
            self.attachable.insert(id);
        }
        if network.spec.ingress {
            self.ingress = Some(id);
        }
        self.pools.insert(id, Pool::new(&network));
        self.overlays.insert(id, Overlay::new(network));
    }

    /// The same network with one more range: who has a place in it keeps it.
    pub(super) fn grow_network(&mut self, network: Arc<Network>, subnet: &Subnet) {
        if let Some(pool) = self.pools.get_mut(&network.id) {
            pool.add(subnet);
        }
        if let Some(overlay) = self.overlays.get_mut(&network.id) {
            overlay.network = network;
        }
    }

    /// Of a network that nobody uses.
    pub(super) fn drop_network(&mut self, id: NetworkId) {
        let Some(Overlay { network, .. }) = self.overlays.remove(&id) else { return };
        self.network_names.remove(&network.spec.name);
        self.vnis.remove(&network.vni);
        self.attachable.remove(&id);
        self.ingress = self.ingress.filter(|ingress| *ingress != id);
        self.pools.remove(&id);
        self.leaving.remove(&id);
    }

    pub(super) fn insert_service(&mut self, service: Arc<Service>) {
        let old = self.services.get(&service.id).cloned();
        self.show_service(old.as_deref(), Some(&service));
        self.index_needs(old.as_deref(), Some(&service));
        if !old.as_ref().is_some_and(|old| ports::hold_the_same(old, &service)) {
            if let Some(old) = &old {
                self.ports.release(old);
            }
            self.ports.claim(&service);
        }
        if let Some(old) = old
            && self.names.get(&old.spec.name) == Some(&service.id)
        {
            self.names.remove(&old.spec.name);
        }
        if !service.removing {
            self.homes.taken(&service.spec.name);
            self.names.insert(service.spec.name.clone(), service.id);
        }
        let is_about_neighbours = Constraint::is_about_neighbours;
        keep(
            &mut self.neighbourly,
            service.id,
            service.spec.task.placement.constraints.iter().any(is_about_neighbours),
        );
        keep(&mut self.priorities, service.id, service.spec.steering().is_ok_and(|steering| steering.priority != 0));
        self.services.insert(service.id, service);
    }

    pub(super) fn drop_service(&mut self, id: ServiceId) {
        let Some(old) = self.services.remove(&id) else { return };
        self.neighbourly.remove(&id);
        self.priorities.remove(&id);
        self.show_service(Some(&old), None);
        self.index_needs(Some(&old), None);
        self.ports.release(&old);
        if self.names.get(&old.spec.name) == Some(&id) {
            self.names.remove(&old.spec.name);
        }
        if !self.names.contains_key(&old.spec.name) {
            self.homes.leave(&old.spec.name, self.index);
        }
    }

    pub(super) fn insert_task(&mut self, task: &Arc<Task>) {
        let (id, service, slot, node) = (task.id, task.service, task.slot, task.node);
        let counts = NodeLoad::counts(task);
        let old = self.tasks.insert(id, Arc::clone(task));
        self.by_slot.insert((service, slot, id), Arc::clone(task));
        match &old {
            None => {
                if let Some(node) = node {
                    self.by_node.insert((node, id));
                }
            }
            // a task keeps its service and slot for life, and its node once it has one
            Some(old) if old.node != node => {
                if let Some(node) = node {
                    self.by_node.insert((node, id));
                }
            }
            Some(_) => {}
        }
        let counted = old.as_ref().is_some_and(|old| NodeLoad::counts(old));
        if counts && !counted {
            self.change_load(task, NodeLoad::add);
        } else if counted && !counts {
            self.change_load(task, NodeLoad::subtract);
        }
        match (old.as_ref().filter(|old| takes_part(old)), takes_part(task)) {
            (None, true) => self.sit(task),
            (Some(old), false) => self.leave(old),
            _ => {}
        }
        if takes_part(task) {
            self.show_task(task);
        }
    }

    pub(super) fn drop_task(&mut self, id: TaskId) {
        let Some(old) = self.tasks.remove(&id) else { return };
        self.by_slot.remove(&(old.service, old.slot, id));
        if let Some(node) = old.node {
            self.by_node.remove(&(node, id));
        }
        if NodeLoad::counts(&old) {
            self.change_load(&old, NodeLoad::subtract);
        }
        if takes_part(&old) {
            self.leave(&old);
        }
    }

    fn change_load(&mut self, task: &Task, change: fn(&mut NodeLoad, &Task)) {
        let Some(node) = task.node else { return };
        let load = self.loads.entry(node).or_default();
        change(load, task);
        if load.tasks == 0 {
            self.loads.remove(&node);
        }
    }
}

fn keep(set: &mut OrdSet<ServiceId>, id: ServiceId, is_in: bool) {
    // a set that stays as it is is not copied
    if is_in != set.contains(&id) {
        _ = if is_in { set.insert(id) } else { set.remove(&id) };
    }
}

/// Where a node's data plane is reached; nowhere while it is down.
pub(crate) fn peer(node: &Node) -> Option<DataPathPeer> {
    let address = node.status.address.filter(|_| node.status.state != NodeState::Down)?;
    let told = node.description.as_ref();
    let wireguard_key = told.and_then(|description| description.wireguard_key);
    Some(DataPathPeer { address, wireguard_key, mtu: told.and_then(|description| description.underlay_mtu) })
}
