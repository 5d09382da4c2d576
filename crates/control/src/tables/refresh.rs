//! The part of `apply` that gives a task other versions of its secrets and configs while it runs (P12): the one change that
//! a task's spec ever sees.

use std::sync::Arc;

use types::{TaskId, TaskState};

use super::{
    Tables, Touched,
    apply::{Moment, next_meta, touch_task},
};
use crate::Rejection;

impl Tables {
    /// The spec becomes the service's, which differs in nothing that would need another container.
    pub(super) fn refresh_task(&mut self, moment: Moment, id: TaskId, touched: &mut Touched) -> Result<(), Rejection> {
        let mut task = Arc::clone(self.task(id).ok_or_else(|| Rejection::not_found("task", id))?);
        let service = self.service(task.service).ok_or_else(|| Rejection::not_found("service", task.service))?;
        if task.status.state.is_terminal() {
            // it ended while this was on its way: its successor has the new ones anyway
            return Ok(());
        }
        if task.status.state != TaskState::Running || !task.spec.becomes(&service.task_spec) {
            return Err(Rejection::out_of_sequence("task", id));
        }
        let (spec, spec_version) = (Arc::clone(&service.task_spec), service.spec_version);
        touch_task(&task, touched);
        let inner = Arc::make_mut(&mut task);
        (inner.spec, inner.spec_version) = (spec, spec_version);
        inner.refreshed_at = Some(moment.at);
        inner.meta = next_meta(Some(inner.meta), moment);
        self.insert_task(&task);
        Ok(())
    }
}
