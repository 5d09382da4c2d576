//! One manager goes on alone: with its own value after the others were lost, or with that of a backup (parity C-08, C-42).

use types::{Node, NodeId, NodeRole, RaftMember, Timestamp};

use crate::{Change, Proposal, Tables};

/// Makes `me` the only manager. Nodes that were managers are workers from now on: one that comes back finds that out and
/// gives up what it still holds; one that does not is lost like any other. `fresh` is this host's own node, where the value
/// does not have it yet.
pub fn sole_manager(tables: &Tables, me: NodeId, raft: RaftMember, fresh: Option<Node>, now: Timestamp) -> Proposal {
    let others = tables.nodes().filter(|node| node.id != me);
    let managers =
        others.filter(|node| [node.role, node.spec.role].contains(&NodeRole::Manager) || node.raft.is_some());
    let mut changes: Vec<Change> = managers
        .map(|node| {
            let mut node = (**node).clone();
            (node.role, node.spec.role, node.raft) = (NodeRole::Worker, NodeRole::Worker, None);
            Change::PutNode(Box::new(node))
        })
        .collect();
    if let Some(mut node) = fresh.or_else(|| tables.node(me).map(|node| (**node).clone())) {
        (node.role, node.spec.role, node.raft) = (NodeRole::Manager, NodeRole::Manager, Some(raft));
        changes.push(Change::PutNode(Box::new(node)));
    }
    Proposal { at: now, expects: Vec::new(), changes }
}
