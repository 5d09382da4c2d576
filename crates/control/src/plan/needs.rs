//! What a service depends on, and whether it is so: tasks are started, and rollouts go on, only then (parity K-08).
//!
//! Asked by the scheduler and the rollout. It holds back and never stops: a service that runs goes on whatever becomes
//! of those it needs. A rollback is not held back either, for it mends what is broken.
//!
//! After a power cut the value says of every task what was before. So a word about a task counts only when its node is
//! there and has had time to take it back, and for a new leader nothing counts before all nodes could be heard.

use std::{sync::Arc, time::Duration};

use types::{Need, NeedCondition, NodeState, Service, ServiceId, ServiceMode, Task, TaskState, UpdateState};

use super::{
    health::Patience,
    job,
    slots::{self, SlotView},
    work::Work,
};

/// How long a node that is back may take to say what became of its tasks: it does with its first words.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// What is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A task gets no node.
    Start,
    /// Tasks of an older spec are not replaced: the new one may be made for what the others become.
    Rollout,
}

/// The first thing that the service waits for, in words.
pub(super) fn unmet(work: &mut Work<'_>, service: &Service, step: Step) -> Option<String> {
    if service.spec.needs.is_empty() || is_mending(work, service, step) {
        return None;
    }
    let waits = |need: &Need| format!("waits for {need}");
    let heard_at = Patience::of(&work.draft).all_heard_at(work.leads_since);
    let is_known = !work.must_wait(service.id, heard_at);
    let is_there = |work: &Work<'_>, need: &Need| work.draft.service_by_name(&need.service).map(Arc::clone);
    for need in &service.spec.needs {
        // one that is not there is waited for by nobody: admission asked for it, so it was removed since
        let Some(other) = is_there(work, need) else { continue };
        if !is_known || !is_met(work, service.id, (need.condition, &other), step) {
            return Some(waits(need));
        }
    }
    None
}

/// Whether the service is being taken back. What starts under a later leader may do so after a power cut.
fn is_mending(work: &Work<'_>, service: &Service, step: Step) -> bool {
    let rollback = service.update.as_ref().filter(|update| update.state == UpdateState::RollbackStarted);
    rollback.is_some_and(|update| step == Step::Rollout || update.started_at >= work.leads_since)
}

fn is_met(work: &mut Work<'_>, waiting: ServiceId, (condition, other): (NeedCondition, &Service), step: Step) -> bool {
    let views = slots::slots(&work.draft, other, work.now());
    if !is_settled(work, other, &views, step) {
        return false;
    }
    // of a service that shall have no tasks there is nothing to wait for
    let wanted = match other.spec.mode {
        ServiceMode::Replicated { replicas } => replicas,
        ServiceMode::ReplicatedJob { total_completions, .. } => total_completions,
        ServiceMode::Global | ServiceMode::GlobalJob => {
            views.iter().filter(|view| !view.is_closed()).count().max(1) as u64
        }
    };
    let is_done = |view: &SlotView| match other.job {
        Some(_) => view.tasks.iter().any(|(task, _)| job::is_completion(other, task)),
        None => view.ended_for_good().is_some_and(|task| task.status.state == TaskState::Complete),
    };
    let mut count = |least: TaskState| -> u64 {
        let mut met = 0;
        for view in &views {
            let tasks: Vec<Arc<Task>> = view.wanted().cloned().collect();
            met += u64::from(is_done(view) || tasks.iter().any(|task| is_at(work, waiting, other, task, least)));
        }
        met
    };
    match condition {
        NeedCondition::Started => wanted == 0 || count(TaskState::Starting) > 0,
        NeedCondition::Healthy => count(TaskState::Running) >= wanted,
        NeedCondition::Completed => views.iter().filter(|view| is_done(view)).count() as u64 >= wanted,
    }
}

/// Whether its tasks are what its spec asks for. A stopped rollout holds no start up: who starts then finds what there
/// is, as those that run do.
fn is_settled(work: &Work<'_>, other: &Service, views: &[SlotView], step: Step) -> bool {
    let state = other.update.as_ref().map(|update| update.state);
    let is_stopped = matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused));
    let is_old = |task: &Arc<Task>| !slots::is_current(&work.draft, other, task);
    let has_old = || views.iter().any(|view| view.wanted().chain(view.ended_for_good()).any(is_old));
    other.job.is_some() || (step == Step::Start && is_stopped) || !has_old()
}

/// Whether a task has come this far, as far as can be known now.
fn is_at(work: &mut Work<'_>, waiting: ServiceId, other: &Service, task: &Task, least: TaskState) -> bool {
    if task.status.state < least || task.iteration != other.iteration() {
        return false;
    }
    let node = task.node.and_then(|id| work.draft.node(id)).map(|node| node.status.clone());
    match node.filter(|status| status.state == NodeState::Ready) {
        Some(status) => task.meta.updated_at >= status.since || !work.must_wait(waiting, status.since + CONFIRM_WITHIN),
        None => false,
    }
}
