//! What the orchestrators of jobs share: how far a slot is, and what in it no longer counts.
//!
//! A slot of a job is complete when a task of the present iteration has ended there with success; that is final, so
//! nothing is started there again before the next iteration.

use std::sync::Arc;

use types::{Service, ServiceMode, Slot, Task, TaskState};

use super::{
    global, replicated, restart,
    slots::{self, SlotView, Standing},
    work::Work,
};

/// How far a slot is in the present iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Complete,
    /// Its task failed, and the restart policy asks for no other.
    GivenUp,
    /// A task runs, shall run, or has not stopped yet.
    Active,
    /// A task is missing.
    Vacant,
}

/// Whether the task is what a job counts.
pub(super) fn is_completion(service: &Service, task: &Task) -> bool {
    service.job.is_some() && task.iteration == service.iteration() && task.status.state == TaskState::Complete
}

pub(super) fn progress(service: &Service, view: &SlotView) -> Progress {
    if view.tasks.iter().any(|(task, _)| is_completion(service, task)) {
        return Progress::Complete;
    }
    if view.has(Standing::Wanted) || view.has(Standing::Stopping) {
        return Progress::Active;
    }
    let given_up = |task: &&Arc<Task>| has_failed(service, task) && task.desired == TaskState::Running;
    match view.newest().filter(given_up) {
        Some(task) if !restart::wants_restart(&service.task_spec.restart, task) => Progress::GivenUp,
        _ => Progress::Vacant,
    }
}

/// Whether the task runs, shall run, or has not stopped yet, on a node that can be counted on.
pub(super) fn is_at_work(work: &Work<'_>, service: &Service, task: &Task) -> bool {
    matches!(slots::standing(&work.draft, service, task, work.now()), Standing::Wanted | Standing::Stopping)
}

/// In the present iteration.
fn has_failed(service: &Service, task: &Task) -> bool {
    task.iteration == service.iteration() && matches!(task.status.state, TaskState::Failed | TaskState::Rejected)
}

/// The slots, after what no longer counts in them was stopped: tasks of earlier iterations, those of a slot that is
/// complete, and those that ended and will have a successor.
pub(super) fn tidied(work: &mut Work<'_>, service: &Service) -> Vec<SlotView> {
    let views = slots::slots(&work.draft, service, work.now());
    let mut any = false;
    for view in &views {
        let progress = progress(service, view);
        for (task, standing) in view.tasks.iter().filter(|(task, _)| task.desired == TaskState::Running) {
            let why = if task.iteration != service.iteration() {
                "a new iteration of the job began"
            } else if *standing != Standing::Ended && progress == Progress::Complete {
                "another task of its slot has completed"
            } else if *standing == Standing::Ended && !stays(service, view, progress, task) {
                ""
            } else {
                continue;
            };
            work.draft.stop(task.id, TaskState::Shutdown, why);
            any = true;
        }
    }
    if any { slots::slots(&work.draft, service, work.now()) } else { views }
}

/// Whether an ended task keeps its place as what its slot has come to.
fn stays(service: &Service, view: &SlotView, progress: Progress, task: &Arc<Task>) -> bool {
    let is_newest = view.newest().is_some_and(|newest| newest.id == task.id);
    is_completion(service, task) || (progress == Progress::GivenUp && is_newest)
}

/// A new task in a vacant slot: the successor of one that failed, with the patience that asks for, or one as if
/// nothing had been there.
pub(super) fn refill(work: &mut Work<'_>, service: &Service, view: &SlotView) {
    match view.newest().filter(|task| has_failed(service, task)).cloned() {
        Some(failed) => restart::restart(work, service, &failed),
        None => replicated::refill(work, service, view),
    }
}

/// Whether something of the present run, or of one before it, is still to be done or to be stopped.
pub(super) fn is_busy(work: &Work<'_>, service: &Service) -> bool {
    if service.job.as_ref().is_none_or(|job| job.last_execution.is_none()) {
        return false;
    }
    if work.draft.tasks_of_service(service.id).any(|task| is_at_work(work, service, task)) {
        return true;
    }
    let views = slots::slots(&work.draft, service, work.now());
    let takes = |slot: Slot| match slot {
        Slot::Replica(_) => true,
        Slot::Node(id) => work.draft.node(id).is_some_and(|node| global::takes(node, service)),
    };
    let is_open = |view: &SlotView| progress(service, view) == Progress::Vacant && takes(view.slot);
    match service.spec.mode {
        ServiceMode::ReplicatedJob { total_completions, .. } if (views.len() as u64) < total_completions => true,
        _ => views.iter().any(is_open),
    }
}
