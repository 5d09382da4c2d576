//! A node's slice of the value. Called by the dispatcher of any manager for each session.
//!
//! A [`Slice`] is what a session keeps of what it told its node. It shares what is large with the value, so
//! that going on to the next costs as much as changed for this node, not as much as the node has.

mod overlays;

use std::{collections::BTreeMap, sync::Arc};

use imbl::OrdMap;
use types::{
    AssignedDependency, Assignment, AssignmentDiff, AssignmentSet, Cluster, DataPathPeer, Dependency, DependencyId,
    HostNetwork, ImageReference, Labels, NetworkId, Node, NodeId, NodeState, OverlayDiff, PULL_LABEL, ProbePeer,
    Service, Task, TaskId, template,
};

use crate::{
    Tables,
    tables::{dependencies::needs_dependencies, overlay::Overlay},
};

/// How many peers a node probes in each direction of the ring of ids: enough witnesses that losing a few
/// hosts at once leaves some, few enough that probes stay a constant cost per node.
const PEERS_EACH_WAY: usize = 4;
/// Looking back over more proposals than this costs more than looking at a node's tasks.
const LOOK_BACK: u64 = 64;

/// All that one node shall do, as one value has it.
#[derive(Debug, Clone)]
pub struct Slice {
    node: NodeId,
    index: u64,
    tasks: Arc<BTreeMap<TaskId, Assignment>>,
    /// Without its peers.
    network: Arc<HostNetwork>,
    /// May have the node itself in it, so that it can be the value's own.
    peers: Peers,
    overlays: BTreeMap<NetworkId, Overlay>,
    dependencies: Arc<Dependencies>,
    /// What `dependencies` was made from, beside the tasks.
    versions: OrdMap<DependencyId, Arc<Dependency>>,
    /// What `network` was made from.
    nodes: OrdMap<NodeId, Arc<Node>>,
    cluster: Option<Arc<Cluster>>,
}

/// What the tasks of a node have as files.
type Dependencies = BTreeMap<DependencyId, AssignedDependency>;
type Peers = OrdMap<NodeId, Arc<DataPathPeer>>;

impl Slice {
    /// Ended tasks are in it until the reaper takes them, so that their containers and logs stay.
    pub fn new(tables: &Tables, node: NodeId) -> Self {
        let overlays = overlays::of_node(tables, node);
        Self {
            node,
            index: tables.index(),
            tasks: Arc::new(tasks(tables, node)),
            network: Arc::new(network(tables, node)),
            peers: peers(tables, &overlays),
            overlays,
            dependencies: Arc::new(dependencies(tables, node)),
            versions: tables.dependency_map().clone(),
            nodes: tables.node_map().clone(),
            cluster: tables.cluster().cloned(),
        }
    }

    /// The slice of a later value; what did not change is taken over.
    #[must_use]
    pub fn next(&self, tables: &Tables, node: NodeId) -> Self {
        let near = tables.index().checked_sub(self.index).is_some_and(|behind| behind <= LOOK_BACK);
        let touched = if near { tables.touched_since(self.index) } else { None };
        let same_tasks = touched.is_some_and(|touched| !touched.node_tasks.contains(&node));
        let overlays = if same_tasks && self.is_attachable_same(tables) {
            overlays::again(tables, &self.overlays)
        } else {
            overlays::of_node(tables, node)
        };
        let same_nodes = self.nodes.ptr_eq(tables.node_map());
        let same_hosts = same_nodes && self.cluster.as_ref().map(Arc::as_ptr) == tables.cluster().map(Arc::as_ptr);
        let same_peers = same_nodes && overlays::have_the_same_nodes(&self.overlays, &overlays);
        let same_files = same_tasks && self.versions.ptr_eq(tables.dependency_map());
        let dependencies = || Arc::new(dependencies(tables, node));
        Self {
            node,
            index: tables.index(),
            dependencies: if same_files { Arc::clone(&self.dependencies) } else { dependencies() },
            versions: tables.dependency_map().clone(),
            tasks: if same_tasks { Arc::clone(&self.tasks) } else { Arc::new(tasks(tables, node)) },
            network: if same_hosts { Arc::clone(&self.network) } else { Arc::new(network(tables, node)) },
            peers: if same_peers { self.peers.clone() } else { peers(tables, &overlays) },
            overlays,
            nodes: tables.node_map().clone(),
            cluster: tables.cluster().cloned(),
        }
    }

    fn is_attachable_same(&self, tables: &Tables) -> bool {
        tables.touched_since(self.index).is_some_and(|touched| touched.networks.is_empty())
    }

    /// For a session that begins.
    pub fn whole(&self) -> AssignmentSet {
        let overlays = self.overlays.iter().map(|(id, overlay)| (*id, overlays::whole(overlay))).collect();
        let dependencies = (*self.dependencies).clone();
        AssignmentSet { tasks: (*self.tasks).clone(), network: self.whole_network(), overlays, dependencies }
    }

    fn whole_network(&self) -> HostNetwork {
        let peers = self.peers.iter().filter(|(id, _)| **id != self.node);
        let data_path_peers = peers.map(|(id, peer)| (*id, (**peer).clone())).collect();
        HostNetwork { data_path_peers, ..(*self.network).clone() }
    }

    /// What brings a node from this slice to the next; `None` if they are equal.
    pub fn diff(&self, next: &Self) -> Option<AssignmentDiff> {
        let (overlays, remove_overlays) = overlays::diff(&self.overlays, &next.overlays);
        let same = Arc::ptr_eq(&self.tasks, &next.tasks);
        let (upsert, remove) = if same { (Vec::new(), Vec::new()) } else { diff_tasks(&self.tasks, &next.tasks) };
        let same = Arc::ptr_eq(&self.network, &next.network) || self.network == next.network;
        let network = (!same).then(|| next.whole_network());
        let (mut upsert_peers, mut remove_peers) = match same && !self.peers.ptr_eq(&next.peers) {
            true => overlays::diff_maps(&self.peers, &next.peers),
            false => (BTreeMap::new(), Vec::new()),
        };
        upsert_peers.remove(&self.node);
        remove_peers.retain(|id| *id != self.node);
        let (upsert_dependencies, remove_dependencies) = diff_dependencies(&self.dependencies, &next.dependencies);
        some(AssignmentDiff {
            upsert,
            remove,
            network,
            upsert_peers,
            remove_peers,
            overlays,
            remove_overlays,
            upsert_dependencies,
            remove_dependencies,
        })
    }
}

/// All that `node` shall do now.
pub fn of_node(tables: &Tables, node: NodeId) -> AssignmentSet {
    Slice::new(tables, node).whole()
}

fn tasks(tables: &Tables, node: NodeId) -> BTreeMap<TaskId, Assignment> {
    tables.tasks_of_node(node).filter_map(|task| Some((task.id, assignment(tables, task)?))).collect()
}

fn assignment(tables: &Tables, task: &Task) -> Option<Assignment> {
    let service = tables.service(task.service)?;
    let login = |image: &ImageReference| Some(tables.cluster()?.registry_login(image)?.auth.clone());
    let of_mounts = task.spec.container.mounted_images();
    Some(Assignment {
        id: task.id,
        service: task.service,
        service_name: service.spec.name.clone(),
        service_labels: if needs_labels(service, task) { service.spec.labels.clone() } else { Labels::new() },
        slot: task.slot,
        spec: task.spec.clone(),
        attachments: task.attachments.clone(),
        host_ports: task.host_ports.clone(),
        granted: task.granted.clone(),
        default_log: task.default_log.clone(),
        registry_auth: login(&task.spec.container.image).unwrap_or_default(),
        mount_auths: of_mounts.filter_map(|(source, image)| Some((source.to_owned(), login(&image)?))).collect(),
        is_ordered: tables.is_ordered(service),
        desired: task.desired,
        not_before: task.not_before,
        state: task.status.state,
    })
}

/// Few do, and a node may have thousands of tasks.
fn needs_labels(service: &Service, task: &Task) -> bool {
    let container = &task.spec.container;
    service.spec.labels.contains_key(PULL_LABEL)
        || !container.dependencies.is_empty()
        || container.templates().any(|(_, text)| template::asks_for_labels(text))
}

/// The data of a version never changes, so whoever has the id has it.
fn diff_dependencies(old: &Dependencies, new: &Dependencies) -> (Dependencies, Vec<DependencyId>) {
    let added = new.iter().filter(|(id, _)| !old.contains_key(id)).map(|(id, file)| (*id, file.clone())).collect();
    (added, old.keys().filter(|id| !new.contains_key(id)).copied().collect())
}

/// A node gets the data of a secret or config only while a task of its own may need it (parity X-02).
fn dependencies(tables: &Tables, node: NodeId) -> Dependencies {
    let tasks = tables.tasks_of_node(node).filter(|task| needs_dependencies(task));
    let wanted = tasks.flat_map(|task| task.spec.container.dependencies.iter().filter_map(|wanted| wanted.id));
    let sent = |version: &Arc<Dependency>| AssignedDependency {
        data: version.spec.data.clone(),
        is_template: version.spec.is_template,
    };
    wanted.filter_map(|id| Some((id, sent(tables.dependency(id)?)))).collect()
}

fn network(tables: &Tables, me: NodeId) -> HostNetwork {
    let Some(cluster) = tables.cluster() else { return HostNetwork::default() };
    let alive = |node: &&Arc<Node>| node.status.state != NodeState::Down;
    let peer = |node: &Arc<Node>| Some(ProbePeer { node: node.id, address: node.status.address? });
    let after = tables.nodes_after(me).filter(alive).filter_map(peer).take(PEERS_EACH_WAY);
    let before = tables.nodes_before(me).filter(alive).filter_map(peer).take(PEERS_EACH_WAY);
    let mut probe_peers: Vec<ProbePeer> = after.chain(before).collect();
    probe_peers.sort_unstable();
    probe_peers.dedup();
    HostNetwork {
        probe_key: cluster.probe_key,
        probe_peers,
        data_path_port: cluster.data_path_port,
        data_path_peers: BTreeMap::new(),
    }
}

/// The nodes of a node's networks, but for those that are down: all nodes while there is a routing mesh.
fn peers(tables: &Tables, overlays: &BTreeMap<NetworkId, Overlay>) -> Peers {
    if tables.ingress().is_some() {
        return tables.peers().clone();
    }
    let peer = |id: &NodeId| Some((*id, Arc::clone(tables.peers().get(id)?)));
    overlays.values().filter(|overlay| overlay.network.vni != 0).flat_map(|o| o.nodes.iter()).filter_map(peer).collect()
}

/// From one set to the next; `None` if they are equal.
///
/// What a manager last heard of a task is no difference: its node knows that better.
pub fn diff(old: &AssignmentSet, new: &AssignmentSet) -> Option<AssignmentDiff> {
    let (upsert, remove) = diff_tasks(&old.tasks, &new.tasks);
    let without_peers = |network: &HostNetwork| HostNetwork { data_path_peers: BTreeMap::new(), ..network.clone() };
    let same = without_peers(&old.network) == without_peers(&new.network);
    let network = (!same).then(|| new.network.clone());
    let (upsert_peers, remove_peers) = match same {
        true => overlays::differ(&old.network.data_path_peers, &new.network.data_path_peers),
        false => (BTreeMap::new(), Vec::new()),
    };
    let overlays = new.overlays.iter().filter_map(|(id, state)| overlays::diff_states(old.overlays.get(id), state));
    let remove_overlays = old.overlays.keys().filter(|id| !new.overlays.contains_key(id)).copied().collect();
    let overlays = overlays.collect::<Vec<OverlayDiff>>();
    let (upsert_dependencies, remove_dependencies) = diff_dependencies(&old.dependencies, &new.dependencies);
    some(AssignmentDiff {
        upsert,
        remove,
        network,
        upsert_peers,
        remove_peers,
        overlays,
        remove_overlays,
        upsert_dependencies,
        remove_dependencies,
    })
}

fn some(difference: AssignmentDiff) -> Option<AssignmentDiff> {
    (difference != AssignmentDiff::default()).then_some(difference)
}

fn diff_tasks(
    old: &BTreeMap<TaskId, Assignment>,
    new: &BTreeMap<TaskId, Assignment>,
) -> (Vec<Assignment>, Vec<TaskId>) {
    let same = |a: &Assignment, b: &Assignment| a == b || *a == Assignment { state: a.state, ..b.clone() };
    let changed = |a: &&Assignment| !old.get(&a.id).is_some_and(|b| same(b, a));
    let upsert = new.values().filter(changed).cloned().collect();
    let remove = old.keys().filter(|id| !new.contains_key(id)).copied().collect();
    (upsert, remove)
}
