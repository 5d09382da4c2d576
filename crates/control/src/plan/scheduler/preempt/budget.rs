//! How many tasks each service may still lose to those of higher priority: as many at once as an update stops.

use std::{collections::BTreeMap, sync::Arc};

use types::{ServiceId, Task, TaskState};

use super::super::rebalance::parallelism;
use crate::plan::{
    slots::{self, SlotView},
    work::Work,
};

/// How the reason of a task begins that made way.
pub(super) const MADE_WAY: &str = "made way for service";

/// What is left of each service's budget, of those that were looked at.
#[derive(Default)]
pub(super) struct Budgets(BTreeMap<ServiceId, usize>);

impl Budgets {
    fn left(&mut self, work: &Work<'_>, id: ServiceId) -> usize {
        *self.0.entry(id).or_insert_with(|| {
            // what is left of a service that is gone nobody misses
            let Some(service) = work.draft.service(id) else { return usize::MAX };
            let under_way =
                slots::slots(&work.draft, service, work.now()).iter().filter(|view| has_made_way(view)).count();
            parallelism(service).saturating_sub(under_way)
        })
    }

    /// So many of these tasks are more than their services should lose now.
    pub(super) fn excess(&mut self, work: &Work<'_>, victims: &[Arc<Task>]) -> usize {
        victims.len() - self.keep_within(work, victims).len()
    }

    /// The first of each service's tasks, as many as it may lose.
    pub(super) fn keep_within(&mut self, work: &Work<'_>, tasks: &[Arc<Task>]) -> Vec<Arc<Task>> {
        let mut taken: BTreeMap<ServiceId, usize> = BTreeMap::new();
        let mut is_within = |task: &&Arc<Task>| {
            let so_far = taken.entry(task.service).or_default();
            let is_within = *so_far < self.left(work, task.service);
            *so_far += usize::from(is_within);
            is_within
        };
        tasks.iter().filter(|task| is_within(task)).cloned().collect()
    }

    /// Asked before the task is stopped.
    pub(super) fn spend(&mut self, work: &Work<'_>, victim: &Task) {
        let left = self.left(work, victim.service);
        self.0.insert(victim.service, left.saturating_sub(1));
    }
}

/// Whether nobody runs in the slot since its task made way.
fn has_made_way(view: &SlotView) -> bool {
    let runs = view.wanted().any(|task| task.status.state == TaskState::Running);
    let last_ran = view.tasks.iter().map(|(task, _)| task).rfind(|task| task.running_since.is_some());
    !runs && !view.is_closed() && last_ran.is_some_and(|task| task.reason.starts_with(MADE_WAY))
}
