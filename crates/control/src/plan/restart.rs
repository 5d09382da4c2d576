//! Restart: what follows when a task ended, or may not stay where it is.
//!
//! Failures in a row are backed off; losing a node or being moved off one neither waits nor counts.

use std::{sync::Arc, time::Duration};

use types::{
    Availability, Node, NodeState, Reconcile, RestartCondition, RestartPolicy, Service, Slot, Task, TaskId, TaskState,
    TaskStatus, Timestamp, UpdateOrder,
};

use super::{
    placement,
    scheduler::{MOVED, neighbours},
    slots::{self, ORPHANED_AFTER, SlotView, Standing},
    work::Work,
};
use crate::{Change, Component, NewTask, Tables};

/// The delay Docker's clients fill in when the user named none. It is taken to mean "as the engine thinks
/// best": the first restart is at once, and only failures in a row make it wait.
const UNSET_DELAY: Duration = Duration::from_secs(5);
/// Delay before the second restart in a row; doubles from there.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// No restart waits longer: a cause that is gone is noticed within this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// A run this long ends a series of failures.
const GOOD_RUN: Duration = Duration::from_secs(300);
/// From this many failures in a row on, the status speaks of a crash loop.
const CRASH_LOOP: u32 = 2;
/// A label must stay off this long before tasks leave for it, so that flapping moves nothing.
const SETTLE: Duration = Duration::from_secs(2);
/// While a task from a drained node has found no other for less than this, the others of its service stay.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
/// How long a returned node may take to report a task that was replaced meanwhile, before the last thing
/// heard of it is believed.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn run(work: &mut Work<'_>, service: &Service) {
    if service.removing {
        return;
    }
    give_up_orphans(work, service);
    let views = slots::slots(&work.draft, service, work.now());
    let mut budget = None;
    for view in &views {
        let leaving = leaving(work, service, view);
        if !service.spec.mode.is_job() {
            // what ended in a job is its orchestrator's: it knows how many may run
            after_end(work, service, view, &leaving);
        }
        if !begins_to_drain(view, &leaving) {
            evict(work, service, view.slot, &leaving);
        } else {
            let left = budget.get_or_insert_with(|| drain_budget(work, service, &views));
            if *left > 0 {
                *left -= 1;
                evict(work, service, view.slot, &leaving);
            }
        }
        reconcile(work, service, view, &leaving);
    }
}

/// Tasks whose node was removed, or has been down for a day, are ORPHANED.
fn give_up_orphans(work: &mut Work<'_>, service: &Service) {
    let tasks: Vec<_> = work.draft.tasks_of_service(service.id).cloned().collect();
    for task in tasks {
        let Some(id) = task.node.filter(|_| !task.status.state.is_terminal()) else { continue };
        let gone = match work.draft.node(id).map(|node| node.status.clone()) {
            None => true,
            Some(status) if status.state == NodeState::Down => {
                !work.must_wait(service.id, status.since + ORPHANED_AFTER)
            }
            Some(status) if status.state == NodeState::Unreachable => {
                work.must_wait(service.id, status.since + service.spec.disconnect.lost_after);
                false
            }
            Some(_) => false,
        };
        if gone {
            let message = "its node is gone".to_owned();
            let status = TaskStatus { state: TaskState::Orphaned, since: work.now(), message, ..task.status.clone() };
            work.draft.make(Change::TaskStatus { task: task.id, by: Component::Health, status: Box::new(status) });
        }
    }
}

fn after_end(work: &mut Work<'_>, service: &Service, view: &SlotView, leaving: &[Leaving]) {
    let is_served = is_served(work, service, view, leaving);
    let newest = view.newest().map(|task| task.id);
    for task in view.of(Standing::Ended).filter(|task| task.desired == TaskState::Running) {
        let ended_itself = matches!(task.status.state, TaskState::Complete | TaskState::Failed | TaskState::Rejected);
        let current = slots::is_current(&work.draft, service, task);
        if is_served || Some(task.id) != newest || !ended_itself {
            work.draft.stop(task.id, TaskState::Shutdown, "");
        } else if current && !wants_restart(&service.task_spec.restart, task) {
            // stays as it is: this is what a finished slot looks like
        } else {
            work.draft.stop(task.id, TaskState::Shutdown, "");
            if current && !view.has(Standing::Stopping) && may_restart_here(work, service, view.slot) {
                restart(work, service, task);
            }
        }
    }
}

/// Whether the slot has a task that shall stay. One that only waits for its successor to run is none: the
/// successor is restarted as if it were alone, with the same patience.
fn is_served(work: &Work<'_>, service: &Service, view: &SlotView, leaving: &[Leaving]) -> bool {
    let stays = |task: &Arc<Task>| stays(task, leaving) && slots::is_current(&work.draft, service, task);
    view.wanted().any(|task| !starts_first(&work.draft, service) || stays(task))
}

/// A global task restarts on its node or not at all.
fn may_restart_here(work: &Work<'_>, service: &Service, slot: Slot) -> bool {
    let Slot::Node(node) = slot else { return true };
    work.draft.node(node).is_some_and(|node| super::global::takes(node, service))
}

pub(super) fn wants_restart(policy: &RestartPolicy, task: &Task) -> bool {
    let by_condition = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => task.status.state != TaskState::Complete,
        RestartCondition::Any => true,
    };
    by_condition && (policy.max_attempts == 0 || (counted_restarts(policy, task).len() as u64) < policy.max_attempts)
}

/// Restarts that count towards `max_attempts`: all since the last run that lasted at least `window`. Time
/// spent waiting for a restart is no part of a run, so a delay longer than the window changes nothing.
fn counted_restarts<'t>(policy: &RestartPolicy, task: &'t Task) -> &'t [Timestamp] {
    let good = policy.window > Duration::ZERO && ran_for(task) >= policy.window;
    if good { &[] } else { &task.failed_at }
}

/// From RUNNING to the report of the end, by the leader's clock.
fn ran_for(task: &Task) -> Duration {
    task.running_since.map_or(Duration::ZERO, |since| task.meta.updated_at.since(since))
}

/// A successor of a task that ended by itself, after the delay that the policy and its failures so far ask for.
pub(super) fn restart(work: &mut Work<'_>, service: &Service, task: &Task) {
    let policy = &service.task_spec.restart;
    let now = work.now();
    let failures = match task.status.state {
        TaskState::Complete => 0,
        _ if ran_for(task) >= GOOD_RUN => 1,
        _ => task.failures.saturating_add(1),
    };
    let delay = delay_before_restart(policy, failures);
    let mut failed_at = counted_restarts(policy, task).to_vec();
    if policy.max_attempts > 0 {
        failed_at.push(now);
    } else {
        failed_at.clear();
    }
    let message = match failures {
        _ if delay == Duration::ZERO => String::new(),
        CRASH_LOOP.. => format!("crash loop: {failures} failures in a row, next start in {}s", delay.as_secs()),
        _ => format!("next start in {}s", delay.as_secs()),
    };
    let not_before = if delay == Duration::ZERO { Timestamp::EPOCH } else { now + delay };
    let id = TaskId::from_random((work.ids)());
    let (slot, error) = (task.slot, String::new());
    let new = NewTask {
        id,
        service: service.id,
        slot,
        node: None,
        message,
        error,
        not_before,
        failures,
        failed_at,
        attachments: Vec::new(),
        granted: types::GenericResources::new(),
    };
    work.draft.create(new);
}

/// No failure in a row: the policy's delay. Else 0, 1, 2, 4 … 300 s, and never less than a delay that the
/// user chose.
fn delay_before_restart(policy: &RestartPolicy, failures: u32) -> Duration {
    let chosen = if policy.delay == UNSET_DELAY { Duration::ZERO } else { policy.delay };
    match failures {
        0 => policy.delay,
        1 => chosen,
        more => {
            let doubled = FIRST_BACKOFF * 2u32.saturating_pow((more - 2).min(16));
            doubled.min(LONGEST_BACKOFF).max(chosen)
        }
    }
}

const DRAINED: &str = "its node is drained";

/// A wanted task that must go from where it is, and why.
type Leaving = (Arc<Task>, &'static str);

fn stays(task: &Task, leaving: &[Leaving]) -> bool {
    leaving.iter().all(|(other, _)| other.id != task.id)
}

fn leaving(work: &mut Work<'_>, service: &Service, view: &SlotView) -> Vec<Leaving> {
    let mut leaving = Vec::new();
    for task in view.wanted() {
        let Some(node) = task.node.and_then(|id| work.draft.node(id)).cloned() else { continue };
        if node.spec.availability == Availability::Drain {
            leaving.push((Arc::clone(task), DRAINED));
        } else if no_longer_suits(work, service, &node) {
            leaving.push((Arc::clone(task), "its node no longer satisfies the constraints"));
        }
    }
    leaving
}

/// Only a node that changed after the spec is judged here; a spec that changed is the rollout's.
fn no_longer_suits(work: &mut Work<'_>, service: &Service, node: &Node) -> bool {
    node.meta.version > service.spec_version
        && !placement::suits(node, &service.task_spec.placement)
        && !work.must_wait(service.id, node.meta.updated_at + SETTLE)
}

/// How many more tasks may begin to leave drained nodes (P24): as many as an update replaces at once, less those that are being
/// replaced already. A slot that fails holds nobody up, and one that finds no node not for long: a drained node gets empty.
fn drain_budget(work: &mut Work<'_>, service: &Service, views: &[SlotView]) -> usize {
    let most = match service.spec.update.parallelism {
        0 => usize::MAX,
        most => usize::try_from(most).unwrap_or(usize::MAX),
    };
    if service.spec.mode.is_per_node() || service.spec.mode.is_job() {
        return usize::MAX;
    }
    let is_moving = |view: &&SlotView| match view.wanted().last() {
        _ if is_failing(view) => false,
        Some(task) if task.status.state >= TaskState::Running => false,
        Some(task) => task.node.is_some() || work.must_wait(service.id, task.meta.created_at + ROOM_WITHIN),
        None => view.has(Standing::Stopping) || view.is_vacant(),
    };
    most.saturating_sub(views.iter().filter(is_moving).count())
}

/// Whether the slot's last task failed, or follows one that did and does not run yet.
fn is_failing(view: &SlotView) -> bool {
    view.newest().is_some_and(|task| match task.status.state {
        TaskState::Failed | TaskState::Rejected => true,
        TaskState::Running => false,
        _ => task.failures > 0,
    })
}

/// Whether a task that serves is about to leave a drained node, with nobody in its place yet.
fn begins_to_drain(view: &SlotView, leaving: &[Leaving]) -> bool {
    let serves = |(task, why): &Leaving| *why == DRAINED && task.status.state == TaskState::Running;
    leaving.iter().any(serves) && !is_failing(view) && !view.wanted().any(|task| stays(task, leaving))
}

fn evict(work: &mut Work<'_>, service: &Service, slot: Slot, leaving: &[Leaving]) {
    let Some((last, _)) = leaving.last() else { return };
    let view = slots::slot(&work.draft, service, slot, work.now());
    let successor = view.wanted().find(|task| stays(task, leaving)).or(view.ended_for_good());
    match successor.map(|next| next.status.state) {
        _ if !starts_first(&work.draft, service) => {}
        Some(TaskState::Running | TaskState::Complete) => {}
        Some(_) => return,
        None => return work.fill(service, slot, Some(last)),
    }
    for (task, why) in leaving {
        work.draft.stop(task.id, TaskState::Shutdown, why);
    }
}

/// Whether the successor of a healthy task runs before it is stopped. A task that holds a port of its node
/// stops first, else the two could never both have it; so does one bound to its node, and one of a service
/// that allows only so many on a node or keeps its own apart, where the old task may hold the last place.
pub(super) fn starts_first(tables: &Tables, service: &Service) -> bool {
    let config = super::rollout::config(service);
    config.order == UpdateOrder::StartFirst
        && !service.spec.mode.is_per_node()
        && !service.spec.mode.is_job()
        && service.task_spec.placement.max_replicas == 0
        && !neighbours::is_one_per_node(tables, service)
        && crate::admission::host_ports(&service.spec).next().is_none()
}

/// The newer task was made while the older one's node was there: to take its place, not because it was missing.
fn is_move(work: &Work<'_>, original: &Task, replacement: &Task) -> bool {
    let node = original.node.and_then(|id| work.draft.node(id));
    node.is_some_and(|node| node.status.state == NodeState::Ready && node.status.since <= replacement.meta.created_at)
}

/// A node came back whose task was replaced meanwhile: one of the two goes, as the service says.
fn reconcile(work: &mut Work<'_>, service: &Service, view: &SlotView, leaving: &[Leaving]) {
    let at_home = |task: &&Arc<Task>| stays(task, leaving) && slots::is_current(&work.draft, service, task);
    let rivals: Vec<Arc<Task>> = view.wanted().filter(at_home).cloned().collect();
    let [original, replacements @ ..] = rivals.as_slice() else { return };
    let Some(last) = replacements.last() else { return };
    if is_move(work, original, last) {
        if last.status.state == TaskState::Running {
            work.draft.evict(original.id, MOVED);
        }
        return;
    }
    let keep_original = match service.spec.disconnect.reconcile {
        Reconcile::KeepReplacement => false,
        Reconcile::KeepOriginal if original.status.state != TaskState::Running => false,
        Reconcile::KeepOriginal => {
            let back_since = original.node.and_then(|id| work.draft.node(id)).map(|node| node.status.since);
            let back_since = back_since.unwrap_or_default();
            let confirmed = original.meta.updated_at >= back_since;
            if !confirmed && work.must_wait(service.id, back_since + CONFIRM_WITHIN) {
                return;
            }
            true
        }
    };
    let kept = if keep_original { original.id } else { last.id };
    for task in rivals.iter().filter(|task| task.id != kept) {
        work.draft.evict(task.id, "another task of its slot was kept");
    }
}
