//! The orchestrator of global services: one task on every node that takes it.

use std::{collections::BTreeSet, sync::Arc};

use types::{Availability, Node, NodeId, NodeState, Service, Slot, TaskState};

use super::{placement, replicated, slots, work::Work};

pub(super) fn run(work: &mut Work<'_>, service: &Service) {
    let views = slots::slots(&work.draft, service, work.now());
    let mut known: BTreeSet<NodeId> = BTreeSet::new();
    for view in &views {
        let Slot::Node(id) = view.slot else { continue };
        known.insert(id);
        match work.draft.node(id).cloned() {
            None => {
                for (task, _) in &view.tasks {
                    work.draft.stop(task.id, TaskState::Remove, "its node was removed");
                }
            }
            Some(node) if view.is_vacant() && takes(&node, service) => replicated::refill(work, service, view),
            Some(node) => stop_waiting(work, service, view, &node),
        }
    }
    let new: Vec<_> = work
        .draft
        .nodes()
        .filter(|node| !known.contains(&node.id) && takes(node, service))
        .map(|node| node.id)
        .collect();
    for id in new {
        work.fill(service, Slot::Node(id), None);
    }
}

/// A task that still waits for a node that no longer takes it never will have it.
pub(super) fn stop_waiting(work: &mut Work<'_>, service: &Service, view: &slots::SlotView, node: &Arc<Node>) {
    if takes(node, service) || node.status.state == NodeState::Unreachable {
        return;
    }
    for task in view.wanted().filter(|task| task.node.is_none()) {
        work.draft.stop(task.id, TaskState::Shutdown, "its node takes no tasks of this service");
    }
}

/// Whether a task of the service may be started on the node.
pub(super) fn takes(node: &Node, service: &Service) -> bool {
    node.status.state == NodeState::Ready
        && node.spec.availability == Availability::Active
        && placement::suits(node, &service.task_spec.placement)
}
