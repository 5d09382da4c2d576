//! Reaper: what is over leaves the value, except the history that people look at.

use std::sync::Arc;

use types::{NodeState, Service, Task, TaskState};

use super::{
    job,
    slots::{self, Standing},
    work::Work,
};
use crate::{Change, Tables};

pub(super) fn run(work: &mut Work<'_>, service: &Service) {
    if service.removing {
        let tasks: Vec<_> = work.draft.tasks_of_service(service.id).map(|task| task.id).collect();
        for id in tasks {
            work.draft.stop(id, TaskState::Remove, "the service was removed");
        }
    }
    let over: Vec<_> =
        work.draft.tasks_of_service(service.id).filter(|task| is_over(&work.draft, task)).map(|task| task.id).collect();
    for id in over {
        work.draft.make(Change::RemoveTask(id));
    }
    trim_history(work, service);
    if service.removing && work.draft.tasks_of_service(service.id).next().is_none() {
        work.draft.make(Change::RemoveService(service.id));
    }
}

/// To be removed, and its node has stopped it or will never say so. A node that was down and comes back
/// removes what is not assigned to it.
fn is_over(tables: &Tables, task: &Task) -> bool {
    let node_gone = |id| tables.node(id).is_none_or(|node| node.status.state == NodeState::Down);
    task.desired == TaskState::Remove && (task.status.state.is_terminal() || task.node.is_none_or(node_gone))
}

/// Keeps the newest ended tasks of each slot: as many as the cluster says, and at least as many as a policy
/// with `max_attempts` needs to show its attempts (parity C-30).
fn trim_history(work: &mut Work<'_>, service: &Service) {
    let limit = work.draft.cluster().map_or(5, |cluster| cluster.spec.orchestration.task_history_limit);
    let Ok(limit) = usize::try_from(limit) else { return };
    let attempts = usize::try_from(service.task_spec.restart.max_attempts).unwrap_or(usize::MAX);
    let limit = if attempts > 0 { limit.max(attempts.saturating_add(1)) } else { limit };
    for view in slots::slots(&work.draft, service, work.now()) {
        // a finished task is the present of its slot, not its past; so is what a job counts as completed
        let is_past = |task: &&Arc<Task>| task.desired > TaskState::Running && !job::is_completion(service, task);
        let past: Vec<_> = view.of(Standing::Ended).filter(is_past).map(|task| task.id).collect();
        let surplus = past.len().saturating_sub(limit);
        // tasks are in the order they were made
        for id in past.into_iter().take(surplus) {
            work.draft.make(Change::RemoveTask(id));
        }
    }
}
