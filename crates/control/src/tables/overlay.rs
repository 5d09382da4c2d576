//! Who is in a network: kept with every change of a task, a service or a node, so that telling a node what
//! changed costs as much as what changed, however many networks and endpoints there are.
//!
//! Everything here follows from the objects. Called by the index alone; read by `assignments` and views.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use imbl::{OrdMap, OrdSet, ordmap::DiffItem};
use types::{
    Attachment, EndpointStage, Network, NetworkAttachmentSpec, NetworkId, Node, NodeId, NodeState, OverlayContainer,
    OverlayEndpoint, OverlayService, Service, ServiceId, Task, TaskId, TaskSpec, TaskState, mesh_weight,
};

use super::Tables;

/// One network and all that is in it, on all nodes. Cloning shares.
#[derive(Debug, Clone)]
pub(crate) struct Overlay {
    pub(crate) network: Arc<Network>,
    /// Tasks that can be reached: those on nodes that are not down.
    pub(crate) endpoints: OrdMap<TaskId, Arc<OverlayEndpoint>>,
    pub(crate) services: OrdMap<ServiceId, Arc<OverlayService>>,
    /// Single containers on nodes that are not down.
    pub(crate) containers: OrdMap<String, Arc<OverlayContainer>>,
    /// Nodes with a task that has a place here and has not ended, or with a single container here.
    pub(crate) nodes: OrdSet<NodeId>,
    /// How many such tasks and containers each has.
    seats: OrdMap<NodeId, u32>,
}

/// The same allocation: what was not touched.
impl PartialEq for Overlay {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.network, &other.network)
            && self.endpoints.ptr_eq(&other.endpoints)
            && self.services.ptr_eq(&other.services)
            && self.containers.ptr_eq(&other.containers)
            && self.nodes.ptr_eq(&other.nodes)
    }
}

impl Overlay {
    pub(crate) fn new(network: Arc<Network>) -> Self {
        Self {
            network,
            endpoints: OrdMap::new(),
            services: OrdMap::new(),
            containers: OrdMap::new(),
            nodes: OrdSet::new(),
            seats: OrdMap::new(),
        }
    }

    pub(super) fn sit(&mut self, node: NodeId) {
        *self.seats.entry(node).or_default() += 1;
        if !self.nodes.contains(&node) {
            self.nodes.insert(node);
        }
    }

    pub(super) fn leave(&mut self, node: NodeId) {
        let left = self.seats.get(&node).copied().unwrap_or(0).saturating_sub(1);
        if left > 0 {
            self.seats.insert(node, left);
        } else {
            self.seats.remove(&node);
            self.nodes.remove(&node);
        }
    }

    pub(super) fn set_endpoint(&mut self, task: TaskId, endpoint: Option<OverlayEndpoint>) {
        match endpoint {
            Some(endpoint) if self.endpoints.get(&task).is_none_or(|known| **known != endpoint) => {
                self.endpoints.insert(task, Arc::new(endpoint));
            }
            None if self.endpoints.contains_key(&task) => _ = self.endpoints.remove(&task),
            _ => {}
        }
    }

    pub(super) fn set_container(&mut self, id: &str, container: Option<OverlayContainer>) {
        match container {
            Some(container) if self.containers.get(id).is_none_or(|known| **known != container) => {
                self.containers.insert(id.to_owned(), Arc::new(container));
            }
            None if self.containers.contains_key(id) => _ = self.containers.remove(id),
            _ => {}
        }
    }

    pub(super) fn set_service(&mut self, id: ServiceId, service: Option<OverlayService>) {
        match service {
            Some(service) if self.services.get(&id).is_none_or(|known| **known != service) => {
                self.services.insert(id, Arc::new(service));
            }
            None if self.services.contains_key(&id) => _ = self.services.remove(&id),
            _ => {}
        }
    }
}

/// Whether a task holds its places: from when it has a node until it has ended.
pub(crate) fn takes_part(task: &Task) -> bool {
    !task.attachments.is_empty() && !task.status.state.is_terminal()
}

/// The cluster's networks that a spec names; `host`, `bridge` and `none` are every node's own.
pub(crate) fn networks_of(spec: &TaskSpec) -> impl Iterator<Item = (NetworkId, &NetworkAttachmentSpec)> {
    spec.networks.iter().filter_map(|attachment| Some((attachment.target.parse().ok()?, attachment)))
}

/// What the others see of a task in one network; nothing of one whose node is down or gone.
pub(crate) fn endpoint(task: &Task, node: Option<&Node>, place: &Attachment) -> Option<OverlayEndpoint> {
    let node = node.filter(|node| node.status.state != NodeState::Down)?;
    let stage = match (task.desired, task.status.state) {
        (TaskState::Running, TaskState::Running) => EndpointStage::Serving,
        (TaskState::Running, _) => EndpointStage::Starting,
        _ => EndpointStage::Draining,
    };
    Some(OverlayEndpoint {
        node: node.id,
        service: task.service,
        slot: task.slot,
        addresses: place.addresses.clone(),
        aliases: place.aliases.clone(),
        stage,
        // a label that is no weight is refused at the door
        weight: mesh_weight(&node.spec.labels).unwrap_or(types::DEFAULT_MESH_WEIGHT),
    })
}

/// Networks in which a service has a virtual address or wants its tasks.
fn uses(service: &Service, ingress: Option<NetworkId>) -> BTreeSet<NetworkId> {
    let wanted = networks_of(&service.spec.task).map(|(id, _)| id);
    let ingress = ingress.filter(|_| service.publishes());
    wanted.chain(service.virtual_ips.iter().map(|vip| vip.network)).chain(ingress).collect()
}

/// What a network shows of a service: nothing of one that is being removed, whose name may be another's by now.
pub(crate) fn shown(service: &Service, network: &Network) -> Option<OverlayService> {
    let wanted = match network.spec.ingress {
        true => service.publishes(),
        false => networks_of(&service.spec.task).any(|(id, _)| id == network.id),
    };
    (wanted && !service.removing).then(|| OverlayService {
        name: service.spec.name.clone(),
        mode: service.spec.endpoint.mode,
        addresses: virtual_addresses(service, network.id).to_vec(),
        ports: if network.spec.ingress { service.published.to_vec() } else { Vec::new() },
        // labels that say nothing known are refused at the door
        mesh: service.spec.mesh().unwrap_or(service.spec.endpoint.mesh),
    })
}

/// Whether two states of one service look alike in every network. Looks at what they share first: most changes of
/// a service are of its status.
fn look_alike(old: &Service, new: &Service) -> bool {
    Arc::ptr_eq(&old.spec, &new.spec)
        && Arc::ptr_eq(&old.published, &new.published)
        && old.virtual_ips == new.virtual_ips
        && old.removing == new.removing
}

pub(super) fn virtual_addresses(service: &Service, network: NetworkId) -> &[IpAddr] {
    service.virtual_ips.iter().find(|vip| vip.network == network).map_or(&[], |vip| vip.addresses.as_slice())
}

/// Networks of which a node must hear something that it had not before.
pub(super) fn changed(before: &OrdMap<NetworkId, Overlay>, after: &OrdMap<NetworkId, Overlay>) -> BTreeSet<NetworkId> {
    before
        .diff(after)
        .map(|item| match item {
            DiffItem::Add(id, _) | DiffItem::Remove(id, _) | DiffItem::Update { new: (id, _), .. } => *id,
        })
        .collect()
}

impl Tables {
    /// Takes a task's places: its addresses are given out, its node is in its networks.
    pub(super) fn sit(&mut self, task: &Task) {
        for place in &task.attachments {
            if let Some(pool) = self.pools.get_mut(&place.network) {
                pool.claim(&place.addresses);
            }
            self.by_network.insert((place.network, task.id));
            if let (Some(overlay), Some(node)) = (self.overlays.get_mut(&place.network), task.node) {
                overlay.sit(node);
            }
        }
    }

    /// Gives them back.
    pub(super) fn leave(&mut self, task: &Task) {
        for place in &task.attachments {
            if let Some(pool) = self.pools.get_mut(&place.network) {
                pool.release(&place.addresses);
            }
            self.by_network.remove(&(place.network, task.id));
            if let Some(overlay) = self.overlays.get_mut(&place.network) {
                overlay.set_endpoint(task.id, None);
                if let Some(node) = task.node {
                    overlay.leave(node);
                }
            }
        }
    }

    /// Shows a task to its networks as it is now.
    pub(super) fn show_task(&mut self, task: &Task) {
        for place in &task.attachments {
            let node = task.node.and_then(|id| self.nodes.get(&id));
            let now = endpoint(task, node.map(|node| &**node), place);
            if let Some(overlay) = self.overlays.get_mut(&place.network) {
                overlay.set_endpoint(task.id, now);
            }
        }
    }

    /// Shows all tasks and containers of a node again: it went down, or is back.
    pub(super) fn show_node(&mut self, id: NodeId) {
        let tasks: Vec<Arc<Task>> = self.tasks_of_node(id).filter(|task| takes_part(task)).cloned().collect();
        for task in tasks {
            self.show_task(&task);
        }
        self.show_guests_of(id);
    }

    /// A service takes, keeps and leaves networks and virtual addresses.
    pub(super) fn show_service(&mut self, old: Option<&Service>, new: Option<&Service>) {
        let id = match (old, new) {
            (Some(service), _) | (None, Some(service)) => service.id,
            (None, None) => return,
        };
        if let (Some(old), Some(new)) = (old, new)
            && look_alike(old, new)
        {
            return;
        }
        let ingress = self.ingress;
        let was = old.map(|service| uses(service, ingress)).unwrap_or_default();
        let is = new.map(|service| uses(service, ingress)).unwrap_or_default();
        for network in was.union(&is) {
            let before = old.map_or(&[][..], |service| virtual_addresses(service, *network));
            let after = new.map_or(&[][..], |service| virtual_addresses(service, *network));
            if before != after
                && let Some(pool) = self.pools.get_mut(network)
            {
                pool.release(before);
                pool.claim(after);
            }
            if is.contains(network) {
                self.users.insert((*network, id));
            } else {
                self.users.remove(&(*network, id));
            }
            if let Some(overlay) = self.overlays.get_mut(network) {
                let shown = new.and_then(|service| shown(service, &overlay.network));
                overlay.set_service(id, shown);
            }
        }
    }
}
