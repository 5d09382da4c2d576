//! Rebalance: running tasks move to nodes that came, came back or have room again, where their service or the cluster
//! says so, or somebody asked for it (P19).
//!
//! A task moves only if that evens out the service on the outermost level of its preferences that is uneven, by two
//! tasks or more, so moves come to an end. At most as many are under way as in an update, and of all services together
//! as the cluster or the request says; the next begins when the ones before have proved themselves as in an update.

mod field;
mod mover;
mod moves;
mod preview;

use std::{sync::Arc, time::Duration};

use types::{
    Rebalance, RebalancePolicy, RebalanceState, Service, ServiceMode, Strategy, Task, TaskState, Timestamp, UpdateState,
};

use super::{FAILURES_WITHIN, failed_lately, steering};
use crate::{
    Change, Tables,
    plan::{
        restart,
        slots::{self, SlotView},
        work::Work,
    },
};
use mover::{Mover, Step};
pub(in crate::plan) use moves::Moves;
pub(crate) use preview::preview;

/// A node must be READY this long before tasks move to it: one that comes and goes gets none.
const SETTLE: Duration = Duration::from_secs(10);
/// How the reason of a task begins whose slot moves.
pub(in crate::plan) const MOVED: &str = "moved to another node";

pub(in crate::plan) fn run(work: &mut Work<'_>, service: &Service, moves: &mut Moves) {
    moves.no_longer_held(service.id);
    if !is_wanted(&work.draft, service) {
        return;
    }
    let request = service.rebalance.clone().filter(Rebalance::is_open);
    if is_updating(service) {
        return stop(work, service, request, "its spec was changed");
    }
    let views = slots::slots(&work.draft, service, work.now());
    let mut tasks = views.iter().flat_map(|view| &view.tasks).map(|(task, _)| task);
    if let Some(failed) = tasks.find(|task| counts(task, work.now(), request.as_ref())) {
        // it might have failed for its new place
        let why = format!("task {} failed: {}", failed.id, failed.status.error);
        work.must_wait(service.id, failed.status.since + FAILURES_WITHIN);
        return stop(work, service, request, why.trim_end_matches([':', ' ']));
    }
    let unproved = views.iter().filter(|view| is_unproved(work, service, view)).count();
    let own = parallelism(service).saturating_sub(unproved);
    let all = moves.left(limit(&work.draft, request.as_ref()));
    let (mut mover, fresh) = Mover::new(&work.draft, service, &views, on_join(&work.draft, service, request.as_ref()));
    if let Some(at) = fresh {
        work.must_wait(service.id, at);
    }
    let mut begun = 0;
    while begun < own.min(all)
        && let Some(step) = mover.next()
    {
        begin(work, service, &step);
        begun += 1;
    }
    let more = mover.next().is_some();
    if more && begun < own {
        moves.hold(service.id);
    }
    moves.begun(service.id, begun);
    let Some(request) = request else { return };
    if begun > 0 {
        set(work, service, Rebalance { moved: request.moved + begun as u64, ..request });
    } else if unproved == 0 && fresh.is_none() && !more {
        set(work, service, Rebalance { state: RebalanceState::Completed, ended_at: Some(work.now()), ..request });
    }
}

fn begin(work: &mut Work<'_>, service: &Service, step: &Step<'_>) {
    if restart::starts_first(&work.draft, service) {
        return work.fill(service, step.view.slot, None);
    }
    for task in step.view.wanted() {
        work.draft.evict(task.id, &format!("{MOVED}, where its service is more even"));
    }
}

fn set(work: &mut Work<'_>, service: &Service, rebalance: Rebalance) {
    work.draft.depends_on(service.id);
    work.draft.make(Change::ServiceRebalance { service: service.id, rebalance });
}

fn stop(work: &mut Work<'_>, service: &Service, request: Option<Rebalance>, why: &str) {
    let Some(request) = request else { return };
    let (state, ended_at, message) = (RebalanceState::Stopped, Some(work.now()), why.to_owned());
    set(work, service, Rebalance { state, ended_at, message, ..request });
}

/// Whether its tasks may move: as it or the cluster says, or because somebody asked.
pub(in crate::plan) fn is_wanted(tables: &Tables, service: &Service) -> bool {
    let is_asked = service.rebalance.as_ref().is_some_and(Rebalance::is_open);
    is_replicated(service) && (is_asked || policy(tables, service) != RebalancePolicy::Off)
}

fn is_replicated(service: &Service) -> bool {
    matches!(service.spec.mode, ServiceMode::Replicated { .. }) && !service.removing
}

/// The service's own, else the cluster's where that would do no harm.
fn policy(tables: &Tables, service: &Service) -> RebalancePolicy {
    let steering = steering(service);
    let of_cluster = || tables.cluster().and_then(|cluster| cluster.spec.rebalance().ok()).unwrap_or_default().0;
    match steering.rebalance {
        Some(own) => own,
        None if why_not(service).is_some() => RebalancePolicy::Off,
        None => of_cluster(),
    }
}

/// Why a service that may be uneven is left alone by whoever asks for all.
fn why_not(service: &Service) -> Option<String> {
    let steering = steering(service);
    match steering.rebalance {
        Some(RebalancePolicy::Off) => return Some(format!("it takes no part (label {}=off)", types::REBALANCE_LABEL)),
        // with volumes only where it may lose them
        Some(_) => return None,
        None => {}
    }
    if steering.strategy == Strategy::BinPack {
        return Some(format!("it fills nodes up (label {}=binpack)", types::STRATEGY_LABEL));
    }
    let volume = service.task_spec.container.node_volumes().next()?;
    Some(format!("its data is in volume {volume}, which each node has for itself"))
}

fn on_join(tables: &Tables, service: &Service, request: Option<&Rebalance>) -> bool {
    request.is_none() && policy(tables, service) == RebalancePolicy::OnJoin
}

fn is_updating(service: &Service) -> bool {
    let state = service.update.as_ref().map(|update| update.state);
    !matches!(state, None | Some(UpdateState::Completed | UpdateState::RollbackCompleted))
}

/// A failure from before somebody asked is no answer to the request.
fn counts(task: &Task, now: Timestamp, request: Option<&Rebalance>) -> bool {
    failed_lately(task, now) && request.is_none_or(|request| task.meta.created_at >= request.started_at)
}

/// As many tasks as an update stops at once; one where it stops all.
pub(super) fn parallelism(service: &Service) -> usize {
    usize::try_from(service.spec.update.parallelism.max(1)).unwrap_or(usize::MAX)
}

/// How many tasks of all services may move at once.
fn limit(tables: &Tables, request: Option<&Rebalance>) -> usize {
    let of_cluster = || tables.cluster().and_then(|cluster| cluster.spec.rebalance().ok()).unwrap_or_default().1;
    match request.map_or(0, |request| request.budget) {
        0 => match of_cluster() {
            0 => usize::MAX,
            limit => limit as usize,
        },
        limit => limit as usize,
    }
}

/// Whether the slot has no task yet that has run as long as an update would watch it.
fn is_unproved(work: &mut Work<'_>, service: &Service, view: &SlotView) -> bool {
    let config = &service.spec.update;
    let pause = config.monitor.max(config.delay);
    let mut wanted = view.wanted();
    let since = match (wanted.next(), wanted.next()) {
        (Some(task), None) if task.status.state == TaskState::Running => task.running_since,
        _ => None,
    };
    since.is_none_or(|since| work.must_wait(service.id, since + pause))
}

/// Whether it is so because its task was moved.
fn is_moving(view: &SlotView) -> bool {
    let was_moved = |task: &Arc<Task>| task.reason.starts_with(MOVED);
    let newest_two = view.tasks.iter().rev().map(|(task, _)| task).take(2);
    newest_two.into_iter().any(was_moved) || view.wanted().nth(1).is_some()
}
