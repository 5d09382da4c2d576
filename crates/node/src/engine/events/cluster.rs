//! The events of the cluster that this host's manager told, and from which step on they are complete.

use std::collections::vec_deque;

use types::{ClusterEvents, ObjectEvent, ObjectKind};

use super::{Entry, Event, EventKind, Ring, reader::ResumeError};

#[derive(Debug)]
pub(super) struct ClusterRing {
    ring: Ring,
    /// `None` while this host has not been told of any step.
    known: Option<Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// Of later steps all events are kept.
    complete_after: u64,
    /// The last step that was told.
    last: u64,
}

impl ClusterRing {
    pub(super) fn new(capacity: usize) -> Self {
        Self { ring: Ring::new(capacity), known: None }
    }

    pub(super) fn entries(&self) -> vec_deque::Iter<'_, Entry> {
        self.ring.entries.iter()
    }

    pub(super) fn after(&self, number: u64) -> Option<&Entry> {
        self.ring.after(number)
    }

    /// Number of the newest event that is not kept any more.
    pub(super) fn dropped(&self) -> u64 {
        self.ring.dropped
    }

    pub(super) fn forget(&mut self) {
        self.known = None;
        self.ring.entries.clear();
    }

    /// Keeps the events under the numbers that follow `number`; gives the last one. A manager that was started again
    /// in this daemon begins with what it told already.
    pub(super) fn tell(&mut self, mut number: u64, step: ClusterEvents) -> u64 {
        if let Some(index) = step.index {
            if self.known.is_some_and(|known| index <= known.last) {
                return number;
            }
            let known = self.known.filter(|_| step.is_gapless);
            let complete_after = known.map_or(index, |known| known.complete_after);
            self.known = Some(Known { complete_after, last: index });
        }
        for event in step.events {
            number += 1;
            let event = Event { time_ns: step.at.as_unix_ns(), index: step.index, ..shown(event, step.index) };
            let gone = self.ring.add(number, event, step.is_past).and_then(|gone| gone.event.index);
            if let (Some(known), Some(gone)) = (&mut self.known, gone) {
                known.complete_after = known.complete_after.max(gone);
            }
        }
        number
    }

    /// What was told after a step.
    pub(super) fn after_index(&self, index: u64) -> Result<vec_deque::Iter<'_, Entry>, ResumeError> {
        let known = self.known.ok_or(ResumeError::NoManager)?;
        if index < known.complete_after {
            return Err(ResumeError::TooOld { index, oldest: known.complete_after });
        }
        // what has no index follows what it was told after
        let last = self.ring.entries.iter().rposition(|entry| entry.event.index.is_some_and(|own| own <= index));
        Ok(self.ring.entries.range(last.map_or(0, |last| last + 1)..))
    }
}

fn shown(event: ObjectEvent, index: Option<u64>) -> Event {
    let kind = match event.kind {
        ObjectKind::Node => EventKind::Node,
        ObjectKind::Service => EventKind::Service,
        ObjectKind::Network => EventKind::Network,
        ObjectKind::Secret => EventKind::Secret,
        ObjectKind::Config => EventKind::Config,
        ObjectKind::Task => EventKind::Task,
        ObjectKind::Stack => EventKind::Stack,
    };
    let mut shown = Event::new(kind, event.action.name(), event.id);
    shown.scope = "swarm";
    shown.attributes = event.attributes;
    match index {
        Some(index) => shown.with("index", index.to_string()),
        None => shown,
    }
}
