//! The orchestrator of replicated services: as many slots as replicas, each with a task.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use types::{NodeId, Reconcile, Service, Slot, TaskState};

use super::{
    slots::{self, SlotView, Standing},
    work::Work,
};

pub(super) fn run(work: &mut Work<'_>, service: &Service, replicas: u64) {
    let mut views = slots::slots(&work.draft, service, work.now());
    let known = views.len() as u64;
    if known > replicas {
        let surplus = usize::try_from(known - replicas).unwrap_or(usize::MAX);
        let gone = surplus_slots(&views, surplus);
        remove_slots(work, &views, &gone);
        views.retain(|view| !gone.contains(&view.slot));
    }
    for view in views.iter().filter(|view| view.is_vacant()) {
        refill(work, service, view);
    }
    if known < replicas {
        for slot in free_slots(work, service, replicas - known) {
            work.fill(service, slot, None);
        }
    }
}

/// A task is missing in a slot that had one.
pub(super) fn refill(work: &mut Work<'_>, service: &Service, view: &SlotView) {
    if service.spec.disconnect.reconcile == Reconcile::KeepReplacement {
        for lost in view.of(Standing::Lost) {
            work.draft.stop(lost.id, TaskState::Shutdown, "replaced while its node was away");
        }
    }
    work.fill(service, view.slot, view.newest());
}

/// The lowest numbers that no task has, not even one that is on its way out: its container may still run.
fn free_slots(work: &Work<'_>, service: &Service, count: u64) -> Vec<Slot> {
    let mut taken = BTreeSet::new();
    for task in work.draft.tasks_of_service(service.id) {
        if let Slot::Replica(number) = task.slot {
            taken.insert(number);
        }
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    (1..).filter(|number| !taken.contains(number)).take(count).map(Slot::Replica).collect()
}

/// First those without a running task, then those on the nodes that have most of them; high numbers before
/// low ones.
fn surplus_slots(views: &[SlotView], count: usize) -> BTreeSet<Slot> {
    let mut by_node: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
    let mut gone = BTreeSet::new();
    let mut idle = Vec::new();
    for view in views {
        let running = view.wanted().find(|task| task.status.state == TaskState::Running);
        match running.and_then(|task| task.node) {
            Some(node) => by_node.entry(node).or_default().push(view.slot),
            None => idle.push(view.slot),
        }
    }
    gone.extend(idle.into_iter().rev().take(count));
    // entries: tasks left on the node, its highest slot, the node
    let entry = |node: NodeId, slots: &[Slot]| slots.last().map(|slot| (slots.len(), *slot, node));
    let mut heap: BinaryHeap<_> = by_node.iter().filter_map(|(node, slots)| entry(*node, slots)).collect();
    while gone.len() < count {
        let Some((_, slot, node)) = heap.pop() else { break };
        gone.insert(slot);
        if let Some(slots) = by_node.get_mut(&node) {
            slots.pop();
            heap.extend(entry(node, slots));
        }
    }
    gone
}

fn remove_slots(work: &mut Work<'_>, views: &[SlotView], gone: &BTreeSet<Slot>) {
    for view in views.iter().filter(|view| gone.contains(&view.slot)) {
        for (task, _) in &view.tasks {
            work.draft.stop(task.id, TaskState::Remove, "the service was scaled down");
        }
    }
}
