//! The orchestrator of global jobs: one task that completes on every node that takes it, those that join later
//! included.

use std::collections::BTreeSet;

use types::{NodeId, Service, Slot, TaskState};

use super::{
    global,
    job::{self, Progress},
    work::Work,
};

pub(super) fn run(work: &mut Work<'_>, service: &Service) {
    let views = job::tidied(work, service);
    let has_begun = service.job.as_ref().is_some_and(|job| job.last_execution.is_some());
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
            Some(node) => match job::progress(service, view) {
                Progress::Vacant if has_begun && global::takes(&node, service) => job::refill(work, service, view),
                Progress::Active => global::stop_waiting(work, service, view, &node),
                Progress::Vacant | Progress::Complete | Progress::GivenUp => {}
            },
        }
    }
    if !has_begun {
        return;
    }
    let is_new = |id: &NodeId| !known.contains(id);
    let takers = work.draft.nodes().filter(|node| global::takes(node, service)).map(|node| node.id);
    let new: Vec<NodeId> = takers.filter(is_new).collect();
    for id in new {
        work.fill(service, Slot::Node(id), None);
    }
}
