//! Slots whose data moves to another node (P41): their tasks stop, and none is placed until the data is there, or until
//! nobody carries it any more. Then the slots go on where they were.

use std::sync::Arc;

use types::{Migration, NodeState, Service};

use super::{slots, work::Work};
use crate::Change;

pub(super) fn run(work: &mut Work<'_>, service: &Service) {
    let of_service = |migration: &&Arc<Migration>| migration.slots.iter().any(|(id, _)| *id == service.id);
    let all: Vec<Arc<Migration>> = work.draft.migrations().filter(of_service).cloned().collect();
    for migration in all {
        if is_over(work, service, &migration) {
            let (volume, from) = (migration.volume.clone(), migration.from);
            work.draft.depends_on(service.id);
            work.draft.make(Change::EndMigration { volume, from, moved: false });
            continue;
        }
        for (_, slot) in migration.slots.iter().filter(|(id, _)| *id == service.id) {
            let view = slots::slot(&work.draft, service, *slot, work.now());
            for task in view.wanted().filter(|task| task.node.is_some()) {
                let why = format!("the data of its volume {} moves to another node", migration.volume);
                work.draft.evict(task.id, &why);
            }
        }
    }
}

/// Nobody carries it any more, or there is nowhere to carry it from or to.
fn is_over(work: &mut Work<'_>, service: &Service, migration: &Migration) -> bool {
    let is_there = |id| work.draft.node(id).is_some_and(|node| node.status.state != NodeState::Down);
    !is_there(migration.from) || !is_there(migration.to) || !work.must_wait(service.id, migration.until)
}
