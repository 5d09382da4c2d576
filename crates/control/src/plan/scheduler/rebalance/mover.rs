//! Which task of a service moves next, and where to: the same answer for the plan and for who asks what it would be.

use std::collections::BTreeMap;

use types::{NodeId, Service, Timestamp};

use super::field::{Field, Gap};
use crate::plan::{draft::Draft, slots::SlotView};

/// One move.
pub(super) struct Step<'v> {
    pub(super) view: &'v SlotView,
    pub(super) gap: Gap,
}

pub(super) struct Mover<'v> {
    field: Field,
    /// The slots on each node; the one that has least to lose is last.
    here: BTreeMap<NodeId, Vec<&'v SlotView>>,
    on_join: bool,
}

impl<'v> Mover<'v> {
    /// With the time at which a node that is too fresh now will be none any more.
    pub(super) fn new(
        draft: &Draft,
        service: &Service,
        views: &'v [SlotView],
        on_join: bool,
    ) -> (Self, Option<Timestamp>) {
        let (mut field, fresh) = Field::of(draft, service, views, true);
        let made = |view: &SlotView| view.wanted().map(|task| task.meta.created_at).min();
        if on_join && let Some(oldest) = views.iter().filter_map(made).min() {
            field.only_joined_after(oldest);
        }
        (Self { field, here: here(views), on_join }, fresh)
    }

    /// As it would be if all nodes had been there for a while.
    pub(super) fn settled(draft: &Draft, service: &Service, views: &'v [SlotView]) -> Self {
        Self { field: Field::of(draft, service, views, false).0, here: here(views), on_join: false }
    }

    pub(super) fn next(&mut self) -> Option<Step<'v>> {
        // each turn a node gives a task or is asked no more
        loop {
            let gap = self.field.next_gap()?;
            let joined = self.on_join.then_some(gap.joined);
            let is_old =
                |view: &&SlotView| joined.is_none_or(|joined| view.wanted().all(|task| task.meta.created_at < joined));
            let views = self.here.entry(gap.from).or_default();
            let Some(at) = views.iter().rposition(is_old) else {
                self.field.keeps(&gap);
                continue;
            };
            let view = views.remove(at);
            self.field.take(&gap);
            return Some(Step { view, gap });
        }
    }
}

fn here(views: &[SlotView]) -> BTreeMap<NodeId, Vec<&SlotView>> {
    let mut here: BTreeMap<NodeId, Vec<&SlotView>> = BTreeMap::new();
    for view in views {
        // a slot with two is moving already
        let mut wanted = view.wanted();
        if let (Some(node), None) = (wanted.next().and_then(|task| task.node), wanted.next()) {
            here.entry(node).or_default().push(view);
        }
    }
    // the task that has run shortest has least to lose
    let since = |view: &&SlotView| view.wanted().next().and_then(|task| task.running_since);
    here.values_mut().for_each(|views| views.sort_by_key(since));
    here
}
