//! Scheduler: a node for each task that has none, or the reason in words.
//!
//! Tasks of one service that ask for the same are placed together: nodes are judged once, then taken from
//! a heap, so that a thousand tasks cost little more than one.

mod candidate;
mod explain;
mod filter;
mod ports;
mod spread;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use types::{NodeId, Service, Slot, Task, TaskId, TaskSpec, TaskState};

use super::{
    networks,
    slots::{self, Standing},
    work::Work,
};
use candidate::Candidate;
use explain::Reasons;
use filter::Ask;

/// A node on which a service failed this often within [`FAILURES_WITHIN`] is taken last (as in swarmkit).
const MANY_FAILURES: usize = 5;
const FAILURES_WITHIN: Duration = Duration::from_secs(300);

/// Places what waits. Returns whether something still does.
pub(super) fn run(work: &mut Work<'_>, service: &Service) -> bool {
    if service.removing {
        return false;
    }
    let groups = waiting(work, service);
    let mut left = false;
    for (spec, tasks) in groups {
        left |= place_group(work, service, &spec, &tasks);
    }
    left
}

/// Tasks that ask for the same.
type Group = (Arc<TaskSpec>, Vec<(TaskId, Slot)>);

/// Tasks without a node, those with equal specs together. The present spec comes before older ones, and a
/// slot that had a place before one that never had: what a rollout stopped gets its place back.
fn waiting(work: &Work<'_>, service: &Service) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for task in work.draft.tasks_of_service(service.id) {
        if task.node.is_some() || task.desired != TaskState::Running || task.status.state.is_terminal() {
            continue;
        }
        match groups.iter_mut().find(|(spec, _)| Arc::ptr_eq(spec, &task.spec)) {
            Some((_, tasks)) => tasks.push((task.id, task.slot)),
            None => groups.push((Arc::clone(&task.spec), vec![(task.id, task.slot)])),
        }
    }
    let had_place = |slot| work.draft.tasks_of_slot(service.id, slot).any(|task| task.node.is_some());
    for (_, tasks) in &mut groups {
        tasks.sort_by_cached_key(|(id, slot)| (!had_place(*slot), *slot, *id));
    }
    groups.sort_by_key(|(spec, _)| !Arc::ptr_eq(spec, &service.task_spec));
    groups
}

/// How a service stands on a node.
#[derive(Debug, Clone, Copy, Default)]
struct Presence {
    tasks: u64,
    failures: usize,
}

fn presence(work: &Work<'_>, service: &Service) -> BTreeMap<NodeId, Presence> {
    let now = work.now();
    let mut nodes: BTreeMap<NodeId, Presence> = BTreeMap::new();
    for task in work.draft.tasks_of_service(service.id) {
        let Some(node) = task.node else { continue };
        match slots::standing(&work.draft, service, task, now) {
            Standing::Wanted | Standing::Stopping => nodes.entry(node).or_default().tasks += 1,
            Standing::Ended if failed_lately(task, now) => nodes.entry(node).or_default().failures += 1,
            Standing::Ended | Standing::Lost => {}
        }
    }
    nodes
}

fn failed_lately(task: &Task, now: types::Timestamp) -> bool {
    matches!(task.status.state, TaskState::Failed | TaskState::Rejected)
        && now.since(task.status.since) < FAILURES_WITHIN
}

fn place_group(work: &mut Work<'_>, service: &Service, spec: &TaskSpec, tasks: &[(TaskId, Slot)]) -> bool {
    if let Some(text) = networks::lacks_address(&work.draft, service) {
        for (task, _) in tasks {
            work.draft.explain(*task, &text);
        }
        return true;
    }
    let ask = Ask::new(&work.draft, service, spec);
    let presence = presence(work, service);
    let candidate = |id: NodeId| {
        let node = work.draft.node(id)?;
        let here = presence.get(&id).copied().unwrap_or_default();
        Some(Candidate::new(node, work.draft.load(id), service.id, here.tasks, here.failures >= MANY_FAILURES))
    };
    let (bound, free): (Vec<_>, Vec<_>) = tasks.iter().partition(|(_, slot)| matches!(slot, Slot::Node(_)));
    let mut placed = Vec::new();
    let mut unplaced = Vec::new();
    for (task, slot) in bound {
        let Slot::Node(id) = slot else { continue };
        let mut reasons = Reasons::default();
        match candidate(id).map(|c| ask.refuses(&c)) {
            Some(None) => placed.push((task, id)),
            Some(Some(reason)) => {
                reasons.add(reason);
                unplaced.push((task, reasons.text(&ask)));
            }
            None => unplaced.push((task, "its node is gone".to_owned())),
        }
    }
    if !free.is_empty() {
        let all = work.draft.nodes().filter_map(|node| candidate(node.id)).collect();
        let mut field = spread::Field::new(&ask, all);
        let mut rest = free.into_iter();
        for (task, _) in rest.by_ref() {
            let Some(node) = field.take() else {
                let text = field.reasons().text(&ask);
                unplaced.push((task, text.clone()));
                unplaced.extend(rest.by_ref().map(|(task, _)| (task, text.clone())));
                break;
            };
            placed.push((task, node));
        }
    }
    let mut full = None;
    for (task, node) in placed {
        match networks::places(&work.draft, spec) {
            Ok(attachments) => work.draft.place(task, node, attachments),
            Err(text) => {
                unplaced.push((task, text.clone()));
                full = Some(text);
            }
        }
    }
    // what got a node and no address used up nothing: the others wait for the same
    if let Some(text) = full.filter(|_| matches!(service.spec.mode, types::ServiceMode::Replicated { .. })) {
        unplaced.iter_mut().for_each(|(_, why)| why.clone_from(&text));
    }
    for (task, text) in &unplaced {
        work.draft.explain(*task, text);
    }
    !unplaced.is_empty()
}
