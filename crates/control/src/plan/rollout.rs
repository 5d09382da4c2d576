//! Rollout: a changed spec reaches the tasks slot by slot, watched, and stopped or undone when it fails.
//!
//! It keeps no memory of its own: what is in the value says how far it is, so a new leader goes on where
//! the old one stopped.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use types::{FailureAction, Service, Task, TaskId, TaskState, Timestamp, UpdateConfig, UpdateState, UpdateStatus};

use super::{
    needs, restart,
    slots::{self, SlotView, Standing},
    work::Work,
};
use crate::{Change, Rejection, admission};

/// How the message of a rollout begins that is held back.
const HELD: &str = "update waits for ";
/// And of one that is undone because it failed.
const ROLLED_BACK: &str = "update rolled back";

/// The settings in force: those of the rollback while one is under way.
pub(super) fn config(service: &Service) -> &UpdateConfig {
    if is_rollback(service) { &service.spec.rollback } else { &service.spec.update }
}

fn is_rollback(service: &Service) -> bool {
    let state = service.update.as_ref().map(|update| update.state);
    matches!(state, Some(UpdateState::RollbackStarted | UpdateState::RollbackPaused | UpdateState::RollbackCompleted))
}

pub(super) fn run(work: &mut Work<'_>, service: &Service) {
    // a job has no rollout: a changed spec is a new iteration
    if service.removing || service.spec.mode.is_job() {
        return;
    }
    let views = slots::slots(&work.draft, service, work.now());
    for view in &views {
        finish_pair(work, service, view);
    }
    let state = service.update.as_ref().map(|update| update.state);
    if matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused)) {
        return;
    }
    let dirty: Vec<&SlotView> = views.iter().filter(|view| is_dirty(work, service, view)).collect();
    let running = matches!(state, Some(UpdateState::Updating | UpdateState::RollbackStarted));
    if !running {
        // what was taken back stays so until another spec comes: if it fails it has nowhere to go, least of all forward
        let (state, what) = match is_rollback(service) {
            true => (UpdateState::RollbackStarted, "rollback"),
            false => (UpdateState::Updating, "update"),
        };
        if let Some(why) = held(work, service, &dirty).filter(|_| state == UpdateState::Updating) {
            return hold(work, service, &dirty, &why);
        }
        if !dirty.is_empty() {
            let (started_at, message) = (work.now(), format!("{what} in progress"));
            set(work, service, UpdateStatus { state, started_at, completed_at: None, message });
            advance(work, service, &views, &dirty, started_at);
        }
        return;
    }
    let started_at = service.update.as_ref().map_or(work.now(), |update| update.started_at);
    if let Some(why) = too_many_failed(work, service, &views, started_at) {
        match config(service).failure_action {
            FailureAction::Continue => {}
            FailureAction::Pause => return pause(work, service, &why, None),
            FailureAction::Rollback => return roll_back(work, service, &why),
        }
    }
    if dirty.is_empty() {
        complete(work, service, &views);
    } else if let Some(why) = held(work, service, &dirty) {
        hold(work, service, &dirty, &why);
    } else {
        go_on(work, service);
        advance(work, service, &views, &dirty, started_at);
    }
}

/// Why what is there is not replaced yet: the service depends on others, for which the new spec may be made.
fn held(work: &mut Work<'_>, service: &Service, dirty: &[&SlotView]) -> Option<String> {
    if dirty.is_empty() { None } else { needs::unmet(work, service, needs::Step::Rollout) }
}

/// The update is under way and says what it waits for; what runs goes on.
fn hold(work: &mut Work<'_>, service: &Service, dirty: &[&SlotView], why: &str) {
    replace_waiting(work, dirty);
    let message = format!("update {why}");
    let under_way = service.update.clone().filter(|update| update.state == UpdateState::Updating);
    if under_way.as_ref().is_none_or(|update| update.message != message) {
        let started_at = under_way.map_or(work.now(), |update| update.started_at);
        set(work, service, UpdateStatus { state: UpdateState::Updating, started_at, completed_at: None, message });
    }
}

/// What was waited for is there.
fn go_on(work: &mut Work<'_>, service: &Service) {
    if let Some(update) = service.update.as_ref().filter(|update| update.message.starts_with(HELD)) {
        set(work, service, UpdateStatus { message: "update in progress".to_owned(), ..update.clone() });
    }
}

/// What waits for a node has nothing to lose: it waits with the new spec at once. Gives the other slots.
fn replace_waiting<'a>(work: &mut Work<'_>, dirty: &[&'a SlotView]) -> Vec<&'a SlotView> {
    let waits = |view: &&&SlotView| view.has(Standing::Wanted) && view.wanted().all(|task| task.node.is_none());
    let (waiting, others): (Vec<&SlotView>, Vec<&SlotView>) = dirty.iter().partition(waits);
    for task in waiting.iter().flat_map(|view| view.wanted()) {
        work.draft.stop(task.id, TaskState::Shutdown, "replaced by a task of the new spec");
    }
    others
}

/// What only needs other versions of its files gets them where it is, all at once: nothing stops for it (P12). Gives the
/// other slots.
fn refresh<'a>(work: &mut Work<'_>, service: &Service, dirty: &[&'a SlotView]) -> Vec<&'a SlotView> {
    let mut others = Vec::new();
    for view in dirty {
        let stays = view.wanted().filter(|task| slots::is_refreshable(&work.draft, service, task)).last();
        match stays.map(|task| task.id) {
            Some(task) => work.draft.refresh(task, service.id),
            None => others.push(*view),
        }
    }
    others
}

/// In a slot with an old and a new task the old one goes: when the new one runs or has done its work, or
/// at once if the service stops first. One that failed for good leaves the old one in its place.
fn finish_pair(work: &mut Work<'_>, service: &Service, view: &SlotView) {
    let current = |task: &&Arc<Task>| slots::is_current(&work.draft, service, task);
    let Some(next) = view.wanted().chain(view.ended_for_good()).find(current).cloned() else { return };
    let old: Vec<TaskId> = view.wanted().filter(|task| !current(task)).map(|task| task.id).collect();
    if matches!(next.status.state, TaskState::Running | TaskState::Complete)
        || !restart::starts_first(&work.draft, service)
    {
        for id in old {
            work.draft.stop(id, TaskState::Shutdown, "replaced by a task of the new spec");
        }
    }
}

/// Something of another spec is wanted here, or is what the slot finished with, and nothing new is.
fn is_dirty(work: &Work<'_>, service: &Service, view: &SlotView) -> bool {
    let current = |task: &Arc<Task>| slots::is_current(&work.draft, service, task);
    if view.wanted().chain(view.ended_for_good()).any(current) {
        return false;
    }
    view.wanted().next().or_else(|| view.finished()).is_some()
}

/// Starts as many slots as may be under way at once.
fn advance(work: &mut Work<'_>, service: &Service, views: &[SlotView], dirty: &[&SlotView], started_at: Timestamp) {
    let config = *config(service);
    let dirty = refresh(work, service, dirty);
    let mut order = replace_waiting(work, &dirty);
    // what does not run comes before what does
    order.sort_by_key(|view| (view.wanted().any(|task| task.status.state == TaskState::Running), view.slot));
    let parallelism =
        if config.parallelism == 0 { usize::MAX } else { usize::try_from(config.parallelism).unwrap_or(usize::MAX) };
    let under_way = views.iter().filter(|view| is_under_way(work, service, view, started_at, config.delay)).count();
    for view in order.into_iter().take(parallelism.saturating_sub(under_way)) {
        let old: Vec<TaskId> = view.wanted().chain(view.finished()).map(|task| task.id).collect();
        let runs = view.wanted().any(|task| task.status.state == TaskState::Running);
        if runs && restart::starts_first(&work.draft, service) {
            work.fill(service, view.slot, None);
            continue;
        }
        for id in old {
            work.draft.stop(id, TaskState::Shutdown, "replaced by a task of the new spec");
        }
    }
}

fn is_under_way(
    work: &mut Work<'_>,
    service: &Service,
    view: &SlotView,
    started_at: Timestamp,
    delay: Duration,
) -> bool {
    let fresh = |task: &&Arc<Task>| task.meta.created_at >= started_at && slots::is_current(&work.draft, service, task);
    let Some(next) = view.wanted().find(fresh).cloned() else {
        // the old task is being stopped, or the place it left is filled by the next plan
        let wanted = view.has(Standing::Wanted);
        return !wanted && view.finished().is_none() && !view.is_closed();
    };
    if next.node.is_none() && had_no_place(view, &next) {
        return false;
    }
    match next.running_since {
        Some(since) if next.status.state == TaskState::Running => work.must_wait(service.id, since + delay),
        // one that is stuck has failed: what follows a failure is said elsewhere
        _ => !is_stuck(work, service, view, &next),
    }
}

/// A slot that had no node before the rollout either is no worse off for it, and holds nothing up. One whose
/// task ran does: else a spec that fits nowhere would stop the healthy tasks one after the other. So does one
/// whose task still runs beside those that wait to succeed it.
fn had_no_place(view: &SlotView, next: &Task) -> bool {
    follows_one_without_place(view, next) && view.wanted().all(|task| task.node.is_none())
}

fn follows_one_without_place(view: &SlotView, next: &Task) -> bool {
    let before = view.tasks.iter().map(|(task, _)| task).take_while(|task| task.id != next.id).last();
    before.is_some_and(|task| task.node.is_none())
}

/// A task of the new spec in more slots than tolerated failed: what is said of one of them.
fn too_many_failed(
    work: &mut Work<'_>,
    service: &Service,
    views: &[SlotView],
    started_at: Timestamp,
) -> Option<String> {
    let UpdateConfig { monitor, progress_deadline, max_failure_permille, .. } = *config(service);
    let mut failed = Vec::new();
    for view in views {
        let is_new = |task: &Task| task.meta.created_at >= started_at || task.refreshed_at >= Some(started_at);
        let of_this_rollout = |task: &&Arc<Task>| task.spec_version == service.spec_version && is_new(task);
        let tasks: Vec<Arc<Task>> = view.tasks.iter().map(|(task, _)| task).filter(of_this_rollout).cloned().collect();
        if let Some(task) = tasks.iter().find(|task| task.failures > 0 || failed_early(task, monitor)) {
            let why = tasks.iter().map(|task| &task.status.error).rfind(|error| !error.is_empty());
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            failed.push(format!("due to failure or early termination of task {}{why}", task.id));
        } else if let Some(task) = tasks.iter().find(|task| is_stuck(work, service, view, task)) {
            let (state, error) = (task.status.state, &task.status.error);
            let why = if error.is_empty() { String::new() } else { format!(": {error}") };
            let seconds = progress_deadline.as_secs();
            failed.push(format!("because task {} did not run within {seconds}s: it is {state}{why}", task.id));
        }
    }
    let too_many = failed.len() as u64 * 1000 > u64::from(max_failure_permille) * views.len() as u64;
    failed.into_iter().next().filter(|_| too_many)
}

/// Whether a task has not come to run in the time that an update gives it. In a slot that had no place before, the
/// time begins when it gets one, and again with what its node reports: how long it waited for the place says nothing.
fn is_stuck(work: &mut Work<'_>, service: &Service, view: &SlotView, task: &Task) -> bool {
    let deadline = config(service).progress_deadline;
    let waits = task.running_since.is_none() && !task.status.state.is_terminal() && task.desired == TaskState::Running;
    let from = if follows_one_without_place(view, task) { task.meta.updated_at } else { task.meta.created_at };
    waits && deadline > Duration::ZERO && !had_no_place(view, task) && !work.must_wait(service.id, from + deadline)
}

fn failed_early(task: &Task, monitor: Duration) -> bool {
    matches!(task.status.state, TaskState::Failed | TaskState::Rejected)
        && task.runs_so_since().is_none_or(|since| task.meta.updated_at.since(since) <= monitor)
}

/// `stuck` says why it is not rolled back, if it should have been.
fn pause(work: &mut Work<'_>, service: &Service, why: &str, stuck: Option<Rejection>) {
    let (state, what) =
        if is_rollback(service) { (UpdateState::RollbackPaused, "rollback") } else { (UpdateState::Paused, "update") };
    let mut message = format!("{what} paused {why}");
    if let Some(stuck) = stuck {
        let _ = write!(message, "; {stuck}");
    }
    let started_at = service.update.as_ref().map_or(work.now(), |update| update.started_at);
    set(work, service, UpdateStatus { state, started_at, completed_at: None, message });
}

fn roll_back(work: &mut Work<'_>, service: &Service, why: &str) {
    let message = format!("{ROLLED_BACK} {why}");
    if is_rollback(service) {
        // a rollback that fails has nowhere further back to go
        return pause(work, service, why, None);
    }
    match admission::undone(&work.draft, service, work.now(), message) {
        Ok(next) => {
            let new_spec = admission::replaces_tasks(&service.spec, &next.spec);
            work.draft.depends_on(service.id);
            work.draft.make(Change::PutService { service: Box::new(next), new_spec });
        }
        Err(stuck) => pause(work, service, why, Some(stuck)),
    }
}

/// All slots have their new task: done when the last one has been watched.
fn complete(work: &mut Work<'_>, service: &Service, views: &[SlotView]) {
    let monitor = config(service).monitor;
    for view in views {
        if view.finished().is_some() || view.is_closed() {
            continue;
        }
        let mut wanted = view.wanted();
        let (Some(task), None) = (wanted.next(), wanted.next()) else { return };
        let Some(since) = task.runs_so_since().filter(|_| task.status.state == TaskState::Running) else { return };
        if work.must_wait(service.id, since + monitor) {
            return;
        }
    }
    let before = service.update.as_ref().map_or("", |update| &update.message);
    let (state, message) = match (is_rollback(service), before.strip_prefix(ROLLED_BACK)) {
        // why it went back is worth knowing when it has
        (true, Some(why)) => {
            (UpdateState::RollbackCompleted, format!("rollback completed: the update was undone{why}"))
        }
        (true, None) => (UpdateState::RollbackCompleted, "rollback completed".to_owned()),
        (false, _) => (UpdateState::Completed, "update completed".to_owned()),
    };
    let started_at = service.update.as_ref().map_or(work.now(), |update| update.started_at);
    let completed_at = Some(work.now());
    set(work, service, UpdateStatus { state, started_at, completed_at, message });
}

fn set(work: &mut Work<'_>, service: &Service, update: UpdateStatus) {
    work.draft.depends_on(service.id);
    work.draft.make(Change::ServiceUpdate { service: service.id, update });
}
