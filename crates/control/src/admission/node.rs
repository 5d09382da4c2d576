//! Requests about nodes, by users and by the nodes themselves.

use std::net::IpAddr;

use types::{
    Availability, Meta, Node, NodeDescription, NodeId, NodeRole, NodeSpec, NodeState, NodeStatus, RaftMember,
    Timestamp, Version, mesh_weight,
};

use super::subnets::called;
use crate::{Change, ObjectRef, Proposal, Rejection, Tables};

/// Status message of a node that said goodbye. Such a node is back only with a new session.
pub const LEFT_MESSAGE: &str = "left the cluster";

fn find(tables: &Tables, id: NodeId) -> Result<&Node, Rejection> {
    tables.node(id).map(|node| &**node).ok_or_else(|| Rejection::not_found("node", id))
}

fn at(now: Timestamp, changes: Vec<Change>) -> Proposal {
    Proposal { at: now, expects: Vec::new(), changes }
}

/// A host that showed a valid token becomes a node. It is UNKNOWN until its first session.
///
/// # Errors
/// The id is taken, or there is no cluster.
pub fn join_node(
    tables: &Tables,
    id: NodeId,
    role: NodeRole,
    availability: Availability,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Result<Proposal, Rejection> {
    tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
    if tables.node(id).is_some() {
        return Err(Rejection::already_exists("node", id));
    }
    let status = NodeStatus {
        state: NodeState::Unknown,
        message: "waiting for its first session".to_owned(),
        since: now,
        address,
        unreachable_peers: Vec::new(),
    };
    let spec = NodeSpec { role, availability, ..NodeSpec::default() };
    let node = Node { id, meta: Meta::default(), spec, role, status, description: None, raft: None };
    Ok(at(now, vec![Change::PutNode(Box::new(node))]))
}

/// A session begins, or a node describes itself anew: what must be written, if anything. A session is the
/// best sign of life, so the node is READY with it. A session of an unknown node writes nothing.
pub fn describe_node(
    tables: &Tables,
    id: NodeId,
    description: &NodeDescription,
    address: Option<IpAddr>,
    now: Timestamp,
) -> Option<Proposal> {
    let node = tables.node(id)?;
    let mut changes = Vec::new();
    if node.description.as_ref() != Some(description) || node.status.address != address {
        changes.push(Change::NodeDescribed { node: id, description: Box::new(description.clone()), address });
    }
    if node.status.state != NodeState::Ready {
        changes.push(Change::NodeState { node: id, state: NodeState::Ready, message: String::new() });
    }
    (!changes.is_empty()).then(|| at(now, changes))
}

/// Records that a node entered (`Some`) or left (`None`) the managers' Raft group.
///
/// # Errors
/// The node does not exist.
pub fn set_raft_member(
    tables: &Tables,
    id: NodeId,
    raft: Option<RaftMember>,
    now: Timestamp,
) -> Result<Proposal, Rejection> {
    find(tables, id)?;
    Ok(at(now, vec![Change::NodeRaft { node: id, raft }]))
}

/// Records that a node now holds a certificate with this role.
///
/// # Errors
/// The node does not exist.
pub fn set_role(tables: &Tables, id: NodeId, role: NodeRole, now: Timestamp) -> Result<Proposal, Rejection> {
    find(tables, id)?;
    Ok(at(now, vec![Change::NodeRole { node: id, role }]))
}

pub(super) fn update(
    tables: &Tables,
    id: NodeId,
    version: Version,
    spec: &NodeSpec,
    now: Timestamp,
) -> Result<Proposal, Rejection> {
    let node = find(tables, id)?;
    if !node.meta.is_known_at(version) {
        return Err(Rejection::out_of_sequence("node", id));
    }
    let demoted = node.spec.role == NodeRole::Manager && spec.role == NodeRole::Worker;
    if demoted && wanted_managers(tables) <= 1 {
        return Err(Rejection::FailedPrecondition(format!(
            "attempting to demote the last manager of the swarm: promote another node before demoting {id}"
        )));
    }
    if let Some(other) = tables.nodes().find(|n| n.id != id && !spec.name.is_empty() && n.spec.name == spec.name) {
        return Err(Rejection::already_exists("node", format!("{} (it is the name of {})", spec.name, other.id)));
    }
    if let Some(empty) = spec.labels.keys().find(|key| key.trim().is_empty()) {
        return Err(Rejection::Invalid(format!("node label {empty:?} has no name: write name=value")));
    }
    mesh_weight(&spec.labels).map_err(|error| Rejection::Invalid(format!("node {}: {error}", called(node))))?;
    let next = Node { spec: spec.clone(), ..node.clone() };
    let expects = vec![(ObjectRef::Node(id), node.meta.version)];
    Ok(Proposal { at: now, expects, changes: vec![Change::PutNode(Box::new(next))] })
}

fn wanted_managers(tables: &Tables) -> usize {
    tables.nodes().filter(|node| node.spec.role == NodeRole::Manager).count()
}

pub(super) fn remove(tables: &Tables, id: NodeId, force: bool, now: Timestamp) -> Result<Proposal, Rejection> {
    let node = find(tables, id)?;
    if node.raft.is_some() || (node.spec.role == NodeRole::Manager && wanted_managers(tables) <= 1) {
        return Err(Rejection::FailedPrecondition(format!(
            "node {id} is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"
        )));
    }
    if !force && node.status.state != NodeState::Down {
        return Err(Rejection::FailedPrecondition(format!(
            "node {id} is not down and can't be removed: let it leave first, or use force"
        )));
    }
    let expects = vec![(ObjectRef::Node(id), node.meta.version)];
    Ok(Proposal { at: now, expects, changes: vec![Change::RemoveNode(id)] })
}

pub(super) fn leave(tables: &Tables, id: NodeId, force: bool, now: Timestamp) -> Result<Proposal, Rejection> {
    let node = find(tables, id)?;
    if !force && node.spec.role == NodeRole::Manager && wanted_managers(tables) <= 1 {
        return Err(Rejection::FailedPrecondition(format!(
            "node {id} is the last manager: if it leaves, all state of the cluster is lost; use force if that is meant"
        )));
    }
    if !force && node.raft.is_some() {
        return Err(Rejection::FailedPrecondition(format!(
            "node {id} is still a member of the managers' group: demote it first, or use force"
        )));
    }
    let message = LEFT_MESSAGE.to_owned();
    Ok(at(now, vec![Change::NodeState { node: id, state: NodeState::Down, message }]))
}
