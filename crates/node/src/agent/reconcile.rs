//! What to do next on this host. Pure: assignments, what is there, and the time, in; actions, out.
//!
//! Called by the agent's loop after everything that happened, always for everything. It is told
//! nothing of what changed, so that start-up, retry and the daily path are one path. It never starts
//! a task again that ended: a successor is a new task and the managers' decision. It removes nothing
//! before a set of assignments is known.

use std::{collections::BTreeSet, time::Duration};

use types::{Assignment, AssignmentSet, TaskId, TaskState, Timestamp};

use super::local::{Local, LocalTask, Phase, Step};

/// From the managers' word that a task shall stop to its stop signal, at least, when others send it something: answers of
/// DNS have been used by then, and what was on its way has arrived (P05). It is moby's `defaultGossipConvergeDelay`
/// (`daemon/cluster/executor/container/controller.go`).
pub(crate) const DRAIN: Duration = Duration::from_secs(2);

/// How much longer a task waits for the word of every host that it leads nothing new there. Whoever is that slow has other
/// worries, and who asked for the stop waits too.
const MOST_WAIT: Duration = Duration::from_secs(8);

/// One thing to do. What is not done now is decided again next time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Begin a step of a task that is not busy.
    Begin(TaskId, Step),
    /// A step in progress is no longer wanted: break it off.
    Cancel(TaskId),
    /// It is on its way out: note that it may be stopped at that time and not before.
    Drain(TaskId, Timestamp),
    /// Tell the managers a state that follows from the decision alone.
    Report(TaskId, TaskState, &'static str),
    /// Nothing is left of it and nothing is wanted: drop it from the local state.
    Forget(TaskId),
}

/// What follows from the present.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Those that end something first: they make room for the others.
    pub actions: Vec<Action>,
    /// When time alone makes a difference.
    pub wake_at: Option<Timestamp>,
}

/// Where the assignments are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// There are none yet.
    Nothing,
    /// From the disk: what managers said before this daemon began.
    Disk,
    Managers,
}

/// Decides.
pub(crate) fn reconcile(assigned: &AssignmentSet, source: Source, local: &Local, now: Timestamp) -> Decision {
    let mut decision = Decision::default();
    if source == Source::Nothing {
        return decision;
    }
    for (id, task) in local {
        match assigned.tasks.get(id) {
            Some(a) if a.desired <= TaskState::Running && !is_given_up(a) => {}
            Some(a) => wind_down(&mut decision, *id, Some(a), task, now),
            None => wind_down(&mut decision, *id, None, task, now),
        }
    }
    let mut waiting = BTreeSet::new();
    for (id, assignment) in &assigned.tasks {
        let there = local.get(id);
        let wanted = assignment.desired <= TaskState::Running && !is_given_up(assignment);
        if wanted && assignment.is_ordered && there.is_none_or(|task| task.is_remnant) {
            match source {
                // how far it was only the managers know
                Source::Disk if !assignment.state.is_terminal() => continue,
                // the host was restarted: what depends on others, or others on it, starts when the managers say so
                Source::Managers if has_begun(assignment) => {
                    decision.actions.push(Action::Report(*id, TaskState::Shutdown, RESTARTED));
                    continue;
                }
                _ => {}
            }
        }
        match there {
            // not even prepared: what was rejected would be asked of its registry again and again
            None if wanted && !assignment.state.is_terminal() && assignment.not_before > now => {
                waiting.insert(assignment.not_before);
            }
            // a node that started without a manager has no secrets: those that need any wait for one
            None if wanted && !assignment.state.is_terminal() && !assigned.has_dependencies_of(assignment) => {}
            None if wanted && !assignment.state.is_terminal() => decision.begin(*id, Step::Prepare),
            None if !wanted && !assignment.state.is_terminal() => {
                decision.actions.push(Action::Report(*id, TaskState::Shutdown, "stopped before it was started"));
            }
            Some(task) if wanted => {
                let is_complete = assigned.has_dependencies_of(assignment);
                advance(&mut decision, &mut waiting, (assignment, is_complete), task, now);
            }
            _ => {}
        }
    }
    decision.wake_at = decision.wake_at.into_iter().chain(waiting).min();
    decision
}

/// What is said of a task that is not made again here.
const RESTARTED: &str = "its host was restarted: a new task begins when what its service depends on is there";

/// The managers have heard of it from this node.
fn has_begun(assignment: &Assignment) -> bool {
    (TaskState::Accepted..=TaskState::Running).contains(&assignment.state)
}

/// The managers ended the task without this node: a container that still runs must go.
fn is_given_up(assignment: &Assignment) -> bool {
    assignment.state >= TaskState::Remove
}

/// Whether anybody is led to it: it is RUNNING for all, in a network or at a port of this host. (A task given up
/// with its node is not RUNNING for anybody.)
fn is_served(assignment: &Assignment) -> bool {
    let is_reachable = !assignment.attachments.is_empty() || !assignment.host_ports.is_empty();
    is_reachable && assignment.state == TaskState::Running
}

/// Whether its files are the versions that its spec names.
fn has_its_files(assignment: &Assignment, task: &LocalTask) -> bool {
    assignment.versions().eq(task.versions.iter().copied())
}

/// Towards RUNNING, and with what its spec names while it runs.
fn advance(
    decision: &mut Decision,
    waiting: &mut BTreeSet<Timestamp>,
    (assignment, is_complete): (&Assignment, bool),
    task: &LocalTask,
    now: Timestamp,
) {
    if task.busy.is_some() {
        return;
    }
    if task.retry_at > now {
        waiting.insert(task.retry_at);
        return;
    }
    let id = assignment.id;
    match task.phase {
        Phase::Absent | Phase::Prepared if !is_complete => {}
        Phase::Absent if !assignment.state.is_terminal() => decision.begin(id, Step::Prepare),
        Phase::Prepared => decision.begin(id, Step::Create),
        Phase::Created => decision.begin(id, Step::Start),
        Phase::Running if task.unhealthy.is_some() => decision.begin(id, Step::Stop),
        // a container that runs goes on with what it has until the data is here
        Phase::Running if is_complete && !has_its_files(assignment, task) => decision.begin(id, Step::Refresh),
        Phase::Ended { released: false } => decision.begin(id, Step::Release),
        Phase::Absent | Phase::Running | Phase::Ended { .. } => {}
    }
}

/// Towards nothing: the task is to stop, to be removed, or belongs to nobody.
fn wind_down(decision: &mut Decision, id: TaskId, assignment: Option<&Assignment>, task: &LocalTask, now: Timestamp) {
    match task.busy {
        Some(Step::Prepare) => return decision.actions.push(Action::Cancel(id)),
        Some(_) => return,
        None => {}
    }
    if task.retry_at > now {
        decision.wake_at = decision.wake_at.into_iter().chain([task.retry_at]).min();
        return;
    }
    // What was asked to stop keeps its log until it is asked to go.
    let keeps_log = assignment.is_some_and(|a| a.desired < TaskState::Remove);
    match task.phase {
        Phase::Running => match task.drained_at {
            None if assignment.is_some_and(is_served) => {
                decision.actions.push(Action::Drain(id, now + DRAIN));
                decision.wake_at = decision.wake_at.into_iter().chain([now + DRAIN]).min();
            }
            Some(at) if at > now => decision.wake_at = decision.wake_at.into_iter().chain([at]).min(),
            Some(at) if task.is_led && at + MOST_WAIT > now => {
                decision.wake_at = decision.wake_at.into_iter().chain([at + MOST_WAIT]).min();
            }
            _ => decision.begin(id, Step::Stop),
        },
        Phase::Ended { released: false } if keeps_log => decision.begin(id, Step::Release),
        Phase::Ended { .. } if keeps_log => {}
        Phase::Absent => {
            if assignment.is_some_and(|a| !a.state.is_terminal()) {
                decision.actions.push(Action::Report(id, TaskState::Shutdown, "stopped before it was started"));
            } else {
                decision.actions.push(Action::Forget(id));
            }
        }
        Phase::Prepared | Phase::Created => {
            if assignment.is_some_and(|a| !a.state.is_terminal()) {
                decision.actions.push(Action::Report(id, TaskState::Shutdown, "stopped before it was started"));
            }
            decision.begin(id, Step::Remove);
        }
        Phase::Ended { .. } => decision.begin(id, Step::Remove),
    }
}

impl Decision {
    fn begin(&mut self, task: TaskId, step: Step) {
        self.actions.push(Action::Begin(task, step));
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
