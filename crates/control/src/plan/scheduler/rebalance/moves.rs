//! How many tasks of which services move right now. What the planner remembers of it follows from the value: losing it
//! costs one full look.

use std::collections::{BTreeMap, BTreeSet};

use types::ServiceId;

use crate::plan::{slots, work::Work};

#[derive(Debug, Clone, Default)]
pub(in crate::plan) struct Moves {
    under_way: BTreeMap<ServiceId, usize>,
    /// Services with tasks to move that wait for those of others.
    held: BTreeSet<ServiceId>,
}

impl Moves {
    /// Looks at services anew, before any of them begins more.
    pub(in crate::plan) fn count(&mut self, work: &mut Work<'_>, services: &BTreeSet<ServiceId>) {
        for id in services {
            self.under_way.remove(id);
            let Some(service) = work.draft.service(*id).cloned() else {
                self.held.remove(id);
                continue;
            };
            if !super::is_wanted(&work.draft, &service) || super::is_updating(&service) {
                continue;
            }
            let views = slots::slots(&work.draft, &service, work.now());
            let moving = views.iter().filter(|view| super::is_moving(view) && super::is_unproved(work, &service, view));
            let moving = moving.count();
            if moving > 0 {
                self.under_way.insert(*id, moving);
            }
        }
    }

    /// Services to look at again when one of `services` may have come to an end with its moves.
    pub(in crate::plan) fn held_by(&self, services: &BTreeSet<ServiceId>) -> BTreeSet<ServiceId> {
        let ends = !self.held.is_empty() && services.iter().any(|id| self.under_way.contains_key(id));
        if ends { self.held.clone() } else { BTreeSet::new() }
    }

    pub(super) fn left(&self, limit: usize) -> usize {
        limit.saturating_sub(self.under_way.values().sum())
    }

    pub(super) fn begun(&mut self, service: ServiceId, moves: usize) {
        if moves > 0 {
            *self.under_way.entry(service).or_default() += moves;
        }
    }

    pub(super) fn hold(&mut self, service: ServiceId) {
        self.held.insert(service);
    }

    pub(super) fn no_longer_held(&mut self, service: ServiceId) {
        self.held.remove(&service);
    }
}
