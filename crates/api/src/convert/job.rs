//! Modes of services, and what only jobs have: how far they are, and their schedule.
//!
//! Beside Docker's fields a spec may have `Schedule`, and a job's status `NextRun` and `SkippedRun`. Clients that do
//! not know them say the same with labels (`types::SCHEDULE_LABEL`).

use serde_json::{Value, json};
use types::{JobStatus, ScheduleError, ScheduleSpec, ServiceMode};

use super::{
    reader::{FieldError, Object},
    time::rfc3339,
    writer::Fields,
};

/// Go's zero time: what Docker's clients read as "never".
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(crate) fn read_mode(mut from: Object<'_>) -> Result<ServiceMode, FieldError> {
    const MODES: [&str; 4] = ["Replicated", "Global", "ReplicatedJob", "GlobalJob"];
    let given: Vec<&str> = MODES.into_iter().filter(|mode| from.has(mode)).collect();
    let mode = match given.as_slice() {
        [first, second, ..] => {
            return Err(from.bad(second, format!("a service has one mode, and {first} is given too: leave one out")));
        }
        ["Global"] => {
            from.object("Global")?.finish()?;
            ServiceMode::Global
        }
        ["GlobalJob"] => {
            from.object("GlobalJob")?.finish()?;
            ServiceMode::GlobalJob
        }
        ["ReplicatedJob"] => {
            let mut job = from.object("ReplicatedJob")?;
            // Docker's defaults (parity S-04)
            let max_concurrent = job.natural("MaxConcurrent")?.unwrap_or(1);
            let total_completions = job.natural("TotalCompletions")?.unwrap_or(max_concurrent);
            job.finish()?;
            ServiceMode::ReplicatedJob { max_concurrent, total_completions }
        }
        _ => {
            let mut replicated = from.object("Replicated")?;
            let replicas = replicated.natural("Replicas")?.unwrap_or(1);
            replicated.finish()?;
            ServiceMode::Replicated { replicas }
        }
    };
    from.finish()?;
    Ok(mode)
}

pub(crate) fn write_mode(mode: ServiceMode) -> Value {
    match mode {
        ServiceMode::Replicated { replicas } => json!({ "Replicated": { "Replicas": replicas } }),
        ServiceMode::Global => json!({ "Global": {} }),
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            json!({ "ReplicatedJob": { "MaxConcurrent": max_concurrent, "TotalCompletions": total_completions } })
        }
        ServiceMode::GlobalJob => json!({ "GlobalJob": {} }),
    }
}

/// One without an expression takes the schedule away.
pub(crate) fn read_schedule(mut from: Object<'_>) -> Result<Option<ScheduleSpec>, FieldError> {
    let concurrency = from.parsed("Concurrency", |text| text.parse().map_err(|why: ScheduleError| why.to_string()))?;
    let schedule = ScheduleSpec {
        cron: from.string("Cron")?,
        timezone: from.string("Timezone")?,
        concurrency: concurrency.unwrap_or_default(),
    };
    if schedule.cron.is_empty() && schedule != ScheduleSpec::default() {
        return Err(FieldError::Missing { path: from.path("Cron"), hint: "give the times, such as \"0 3 * * *\"" });
    }
    from.finish()?;
    Ok((!schedule.cron.is_empty()).then_some(schedule))
}

pub(crate) fn write_schedule(schedule: &ScheduleSpec) -> Value {
    Fields::new()
        .set("Cron", &schedule.cron)
        .unless_empty("Timezone", &schedule.timezone)
        .set("Concurrency", schedule.concurrency.as_str())
        .done()
}

pub(crate) fn write_status(job: &JobStatus) -> Value {
    Fields::new()
        .set("JobIteration", write_iteration(job.iteration))
        .set("LastExecution", job.last_execution.map_or_else(|| NEVER.to_owned(), rfc3339))
        .some("NextRun", job.next_run.map(rfc3339))
        .some("SkippedRun", job.skipped.map(rfc3339))
        .done()
}

pub(crate) fn write_iteration(iteration: u64) -> Value {
    Fields::new().unless_empty("Index", iteration).done()
}
