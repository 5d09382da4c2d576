//! Schedules: a run that is due begins.
//!
//! When the next one is due is data in the value, moved on in the proposal that begins a run. So each due time has
//! one run whoever leads, and those that nobody led through are one when somebody does again.

use types::{JobStatus, ScheduleConcurrency, Service};

use super::{job, work::Work};
use crate::{Change, calendar::Calendar};

pub(super) fn run(work: &mut Work<'_>, service: &Service) {
    let Some((status, due)) = service.job.as_ref().and_then(|status| Some((status, status.next_run?))) else { return };
    if service.removing || work.must_wait(service.id, due) {
        return;
    }
    let Ok(Some(schedule)) = service.spec.schedule() else { return };
    let next_run = Calendar::of(&schedule).ok().and_then(|calendar| calendar.next_after(work.now()));
    let next = match schedule.concurrency {
        ScheduleConcurrency::Skip if job::is_busy(work, service) => {
            JobStatus { next_run, skipped: Some(due), ..status.clone() }
        }
        // the end of its last task is a change of the service: it is looked at then
        ScheduleConcurrency::Queue if job::is_busy(work, service) => return,
        _ => JobStatus { next_run, ..status.begun(work.now()) },
    };
    work.draft.depends_on(service.id);
    work.draft.make(Change::ServiceJob { service: service.id, job: next });
}
