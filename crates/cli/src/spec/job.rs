//! The flags of jobs, and how many tasks a service of any mode has.

use clap::Args;
use serde_json::{Value, json};

use super::edit::{get, set, set_some};

#[derive(Debug, Args, Default, PartialEq)]
pub(crate) struct JobFlags {
    /// Number of job tasks to run concurrently (default equal to --replicas)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) max_concurrent: Option<u64>,
    /// When the job runs, as in crontab: MINUTE HOUR DAY MONTH WEEKDAY (empty: no schedule)
    #[arg(long, value_name = "CRON")]
    pub(crate) schedule: Option<String>,
    /// Time zone of the schedule, such as Europe/Berlin (default UTC)
    #[arg(long, value_name = "ZONE")]
    pub(crate) schedule_timezone: Option<String>,
    /// What happens to a run that is due while the one before has not ended: skip, replace or queue (default skip)
    #[arg(long, value_name = "WHAT")]
    pub(crate) schedule_concurrency: Option<String>,
}

/// # Errors
/// A flag is for another mode than the service has.
pub(crate) fn apply(spec: &mut Value, replicas: Option<u64>, flags: &JobFlags) -> anyhow::Result<()> {
    let is = |mode: &str| get(spec, "Mode").and_then(|found| found.get(mode)).is_some_and(|mode| !mode.is_null());
    let (is_job, is_per_node) = (is("ReplicatedJob"), is("Global") || is("GlobalJob"));
    let is_any_job = is_job || is("GlobalJob");
    if let Some(replicas) = replicas {
        anyhow::ensure!(!is_per_node, "replicas can only be used with replicated or replicated-job mode");
        set_replicas(spec, replicas);
    }
    anyhow::ensure!(
        is_job || flags.max_concurrent.is_none(),
        "max-concurrent can only be used with replicated-job mode"
    );
    set_some(spec, "Mode.ReplicatedJob.MaxConcurrent", flags.max_concurrent);
    let schedule = [&flags.schedule, &flags.schedule_timezone, &flags.schedule_concurrency];
    anyhow::ensure!(
        is_any_job || schedule.iter().all(|flag| flag.is_none()),
        "schedules can only be used with replicated-job or global-job mode"
    );
    if flags.schedule.as_deref() == Some("") {
        set(spec, "Schedule", json!({ "Cron": "" }));
        return Ok(());
    }
    set_some(spec, "Schedule.Cron", flags.schedule.clone());
    set_some(spec, "Schedule.Timezone", flags.schedule_timezone.clone());
    set_some(spec, "Schedule.Concurrency", flags.schedule_concurrency.clone());
    Ok(())
}

/// How many tasks a replicated service has, or a job is to complete. All of a job's may run at once unless something
/// else was said.
pub(crate) fn set_replicas(spec: &mut Value, replicas: u64) {
    if get(spec, "Mode.ReplicatedJob").is_none() {
        return set(spec, "Mode.Replicated.Replicas", replicas);
    }
    set(spec, "Mode.ReplicatedJob.TotalCompletions", replicas);
    if get(spec, "Mode.ReplicatedJob.MaxConcurrent").is_none() {
        set(spec, "Mode.ReplicatedJob.MaxConcurrent", replicas);
    }
}
