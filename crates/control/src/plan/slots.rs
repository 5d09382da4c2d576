//! How a task stands in its slot: the words that restart, orchestrators, rollout and reaper share.

use std::{sync::Arc, time::Duration};

use types::{Node, NodeState, Service, Slot, Task, TaskSpec, TaskState, Timestamp};

use crate::{Tables, admission};

/// A task that keeps its desired state RUNNING but has no node to speak for it is given up after this long
/// (as in swarmkit: a day). Until then it may come back with its node.
pub(super) const ORPHANED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Every task is exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Shall run, and its node (if it has one yet) can be counted on.
    Wanted,
    /// Shall stop and has not yet: what it holds is still held.
    Stopping,
    /// Its node is gone, down, or unreachable for longer than the service waits. Blocks nothing.
    Lost,
    /// The container has ended or never was.
    Ended,
}

pub(super) fn standing(tables: &Tables, service: &Service, task: &Task, now: Timestamp) -> Standing {
    if task.status.state.is_terminal() {
        return Standing::Ended;
    }
    let Some(id) = task.node else {
        return if task.desired == TaskState::Running { Standing::Wanted } else { Standing::Ended };
    };
    match tables.node(id) {
        Some(node) if !is_lost(node, service, now) => {
            if task.desired == TaskState::Running {
                Standing::Wanted
            } else {
                Standing::Stopping
            }
        }
        _ => Standing::Lost,
    }
}

fn is_lost(node: &Node, service: &Service, now: Timestamp) -> bool {
    match node.status.state {
        NodeState::Down => true,
        NodeState::Unreachable => node.status.since + service.spec.disconnect.lost_after <= now,
        NodeState::Ready | NodeState::Unknown => false,
    }
}

/// The tasks of one slot that are not on their way out of the value, oldest first.
pub(super) struct SlotView {
    pub(super) slot: Slot,
    pub(super) tasks: Vec<(Arc<Task>, Standing)>,
}

impl SlotView {
    fn sort(&mut self) {
        self.tasks.sort_by_key(|(task, _)| (task.meta.created_at, task.id));
    }

    pub(super) fn of(&self, standing: Standing) -> impl Iterator<Item = &Arc<Task>> {
        self.tasks.iter().filter(move |(_, s)| *s == standing).map(|(task, _)| task)
    }

    pub(super) fn wanted(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.of(Standing::Wanted)
    }

    pub(super) fn has(&self, standing: Standing) -> bool {
        self.of(standing).next().is_some()
    }

    pub(super) fn newest(&self) -> Option<&Arc<Task>> {
        self.tasks.last().map(|(task, _)| task)
    }

    /// The task after whose end nothing is to be started here: it ended and nobody wanted it otherwise.
    pub(super) fn finished(&self) -> Option<&Arc<Task>> {
        if self.has(Standing::Wanted) || self.has(Standing::Stopping) {
            return None;
        }
        self.ended_for_good()
    }

    /// The newest task, if it ended and nobody wanted it otherwise. A task it was to succeed may still run.
    pub(super) fn ended_for_good(&self) -> Option<&Arc<Task>> {
        self.newest().filter(|task| task.desired == TaskState::Running && task.status.state.is_terminal())
    }

    /// The slot of a global service on a node that takes no task of it: the orchestrator left it empty. It holds
    /// nothing up.
    pub(super) fn is_closed(&self) -> bool {
        self.is_vacant() && matches!(self.slot, Slot::Node(_))
    }

    /// Nothing runs here, nothing is being stopped, nothing has finished for good: a task is missing.
    pub(super) fn is_vacant(&self) -> bool {
        !self.has(Standing::Wanted) && !self.has(Standing::Stopping) && self.finished().is_none()
    }
}

/// The slots of a service, in order. Tasks with desired state REMOVE belong to no slot any more.
pub(super) fn slots(tables: &Tables, service: &Service, now: Timestamp) -> Vec<SlotView> {
    let mut all: Vec<SlotView> = Vec::new();
    for task in tables.tasks_of_service(service.id).filter(|task| task.desired != TaskState::Remove) {
        let entry = (Arc::clone(task), standing(tables, service, task, now));
        match all.last_mut() {
            Some(view) if view.slot == task.slot => view.tasks.push(entry),
            _ => all.push(SlotView { slot: task.slot, tasks: vec![entry] }),
        }
    }
    all.iter_mut().for_each(SlotView::sort);
    all
}

/// One slot as it is now.
pub(super) fn slot(tables: &Tables, service: &Service, slot: Slot, now: Timestamp) -> SlotView {
    let tasks = tables.tasks_of_slot(service.id, slot).filter(|task| task.desired != TaskState::Remove);
    let entry = |task: &Arc<Task>| (Arc::clone(task), standing(tables, service, task, now));
    let mut view = SlotView { slot, tasks: tasks.map(entry).collect() };
    view.sort();
    view
}

/// Whether a task is what the service's present spec would make. What only steers placement or restarting
/// is no reason to replace a container, as long as the task's node still suits the service. Of a job all tasks of
/// the present iteration are: a changed spec that shall reach them begins a new one.
pub(super) fn is_current(tables: &Tables, service: &Service, task: &Task) -> bool {
    if service.job.is_some() {
        return task.iteration == service.iteration();
    }
    if task.spec_version == service.spec_version {
        return true;
    }
    let (old, new) = (&task.spec, &service.task_spec);
    let same_spec = Arc::ptr_eq(old, new) || (same_container(task, new) && old.surrounds_like(new));
    same_spec && has_place(tables, service, task)
}

/// Whether a task that runs becomes what the service's present spec would make when its secrets and configs are other
/// versions, and its service wants them changed in the container that is there (P12).
pub(super) fn is_refreshable(tables: &Tables, service: &Service, task: &Task) -> bool {
    task.status.state == TaskState::Running
        && matches!(service.spec.refresh(), Ok(Some(_)))
        && task.spec.becomes(&service.task_spec)
        && has_place(tables, service, task)
}

/// Whether the task is where the present spec would have it, and reached as it says.
fn has_place(tables: &Tables, service: &Service, task: &Task) -> bool {
    // one that still waits would be placed by the spec it was made from
    let suits = match task.node {
        None => task.spec.placement == service.task_spec.placement,
        Some(id) => tables.node(id).is_none_or(|node| super::placement::suits(node, &service.task_spec.placement)),
    };
    suits && task.publishes == service.publishes() && admission::host_ports(&service.spec).eq(&task.host_ports)
}

/// Credentials alone replace no container whose image is there (parity S-21); who still pulls gets the new ones.
fn same_container(task: &Task, new: &TaskSpec) -> bool {
    let has_image = (TaskState::Ready..=TaskState::Running).contains(&task.status.state);
    let old = &task.spec.container;
    if has_image { old.runs_like(&new.container) } else { *old == new.container }
}
