//! A node's slice of the value. Called by the dispatcher of any manager for each session.

use types::{Assignment, AssignmentDiff, AssignmentSet, HostNetwork, Node, NodeId, NodeState, ProbePeer, Task};

use crate::Tables;

/// How many peers a node probes in each direction of the ring of ids: enough witnesses that losing a few
/// hosts at once leaves some, few enough that probes stay a constant cost per node.
const PEERS_EACH_WAY: usize = 4;

/// All that `node` shall do now. Ended tasks are in it until the reaper takes them, so that their
/// containers and logs stay.
pub fn of_node(tables: &Tables, node: NodeId) -> AssignmentSet {
    let tasks = tables.tasks_of_node(node).filter_map(|task| Some((task.id, assignment(tables, task)?))).collect();
    AssignmentSet { tasks, network: network(tables, node), ..AssignmentSet::default() }
}

fn assignment(tables: &Tables, task: &Task) -> Option<Assignment> {
    let service = tables.service(task.service)?;
    Some(Assignment {
        id: task.id,
        service: task.service,
        service_name: service.spec.name.clone(),
        slot: task.slot,
        spec: task.spec.clone(),
        attachments: task.attachments.clone(),
        host_ports: task.host_ports.clone(),
        desired: task.desired,
        not_before: task.not_before,
        state: task.status.state,
    })
}

fn network(tables: &Tables, me: NodeId) -> HostNetwork {
    let Some(cluster) = tables.cluster() else { return HostNetwork::default() };
    let alive = |node: &&std::sync::Arc<Node>| node.status.state != NodeState::Down;
    let peer = |node: &std::sync::Arc<Node>| Some(ProbePeer { node: node.id, address: node.status.address? });
    let after = tables.nodes_after(me).filter(alive).filter_map(peer).take(PEERS_EACH_WAY);
    let before = tables.nodes_before(me).filter(alive).filter_map(peer).take(PEERS_EACH_WAY);
    let mut probe_peers: Vec<ProbePeer> = after.chain(before).collect();
    probe_peers.sort_unstable();
    probe_peers.dedup();
    HostNetwork {
        probe_key: cluster.probe_key,
        probe_peers,
        data_path_port: cluster.data_path_port,
        ..HostNetwork::default()
    }
}

/// From one set to the next; `None` if they are equal.
///
/// What a manager last heard of a task is no difference: its node knows that better.
pub fn diff(old: &AssignmentSet, new: &AssignmentSet) -> Option<AssignmentDiff> {
    let same = |a: &Assignment, b: &Assignment| a == b || *a == Assignment { state: a.state, ..b.clone() };
    let changed = |a: &&Assignment| !old.tasks.get(&a.id).is_some_and(|b| same(b, a));
    let upsert: Vec<_> = new.tasks.values().filter(changed).cloned().collect();
    let remove: Vec<_> = old.tasks.keys().filter(|id| !new.tasks.contains_key(id)).copied().collect();
    let network = (old.network != new.network).then(|| new.network.clone());
    let any = !upsert.is_empty() || !remove.is_empty() || network.is_some();
    any.then_some(AssignmentDiff { upsert, remove, network, ..AssignmentDiff::default() })
}
