//! What a request makes of a job: which changes begin a new iteration, and when the schedule is due next.

use types::{JobStatus, ScheduleSpec, ServiceSpec, Timestamp};

use crate::{Rejection, calendar::Calendar};

/// A job runs at once, or waits for its schedule. `None` of what is no job.
pub(super) fn of_new(spec: &ServiceSpec, now: Timestamp) -> Result<Option<JobStatus>, Rejection> {
    let schedule = schedule(spec)?;
    if !spec.mode.is_job() {
        return Ok(None);
    }
    let waiting = JobStatus::waiting();
    Ok(Some(match &schedule {
        None => waiting.begun(now),
        Some(schedule) => JobStatus { next_run: due_after(schedule, now)?, ..waiting },
    }))
}

/// Every change of the spec is a new iteration, as in Docker; with a schedule only a force-update is, for a job that
/// runs at night shall not run because its limits were raised.
pub(super) fn after_change(
    service: &types::Service,
    spec: &ServiceSpec,
    now: Timestamp,
) -> Result<Option<JobStatus>, Rejection> {
    let (old, new) = (schedule(&service.spec)?, schedule(spec)?);
    let Some(job) = &service.job else { return Ok(None) };
    let forced = spec.task.force_update > service.spec.task.force_update;
    let changed = old.is_none() && new.is_none() && !spec.means_the_same(&service.spec);
    let mut next = if forced || changed { job.begun(now) } else { job.clone() };
    if old != new {
        next.next_run = new.as_ref().map(|schedule| due_after(schedule, now)).transpose()?.flatten();
    }
    Ok(Some(next))
}

/// The schedule that the spec or its labels say.
fn schedule(spec: &ServiceSpec) -> Result<Option<ScheduleSpec>, Rejection> {
    let found = spec.schedule().map_err(|why| Rejection::Invalid(why.to_string()))?;
    if found.is_some() && !spec.mode.is_job() {
        return Err(Rejection::Invalid(format!(
            "service {} has a schedule and is no job: use mode replicated-job or global-job, or leave the schedule out",
            spec.name
        )));
    }
    Ok(found)
}

fn due_after(schedule: &ScheduleSpec, now: Timestamp) -> Result<Option<Timestamp>, Rejection> {
    let calendar = Calendar::of(schedule).map_err(Rejection::Invalid)?;
    match calendar.next_after(now) {
        Some(due) => Ok(Some(due)),
        None => Err(Rejection::Invalid(format!("schedule {:?} is never due: there is no such day", schedule.cron))),
    }
}
