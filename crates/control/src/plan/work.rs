//! What every pass has in hand for a service: the working copy, fresh ids, and a place for deadlines.

use std::{collections::BTreeMap, sync::Arc};

use types::{Service, ServiceId, Slot, Task, TaskId, Timestamp};

use super::{draft::Draft, slots};
use crate::{Ids, NewTask};

pub(super) struct Work<'a> {
    pub(super) draft: Draft,
    pub(super) ids: Ids<'a>,
    /// When a service must be looked at again although nothing happens.
    pub(super) wake: BTreeMap<ServiceId, Timestamp>,
    /// Since when the one who asks leads the cluster.
    pub(super) leads_since: Timestamp,
}

impl Work<'_> {
    pub(super) fn now(&self) -> Timestamp {
        self.draft.now()
    }

    /// Whether `at` is still to come; if so the service is looked at then.
    pub(super) fn must_wait(&mut self, service: ServiceId, at: Timestamp) -> bool {
        if at <= self.now() {
            return false;
        }
        let wake = self.wake.entry(service).or_insert(at);
        *wake = at.min(*wake);
        true
    }

    /// A new task in a slot, without a node: the scheduler comes later. It goes on counting where
    /// `before` stopped, unless that was made from another spec.
    pub(super) fn fill(&mut self, service: &Service, slot: Slot, before: Option<&Arc<Task>>) {
        let now = self.now();
        let same = before.filter(|task| slots::is_current(&self.draft, service, task));
        // a restart that was still waiting goes on waiting elsewhere
        let waiting = same.filter(|task| task.running_since.is_none() && task.not_before > now);
        let task = NewTask {
            id: TaskId::from_random((self.ids)()),
            service: service.id,
            slot,
            node: None,
            message: waiting.map_or_else(String::new, |task| task.status.message.clone()),
            error: String::new(),
            not_before: waiting.map_or(Timestamp::EPOCH, |task| task.not_before),
            failures: same.map_or(0, |task| task.failures),
            failed_at: same.map_or_else(Vec::new, |task| task.failed_at.clone()),
            attachments: Vec::new(),
            granted: types::GenericResources::new(),
        };
        self.draft.create(task);
    }
}
