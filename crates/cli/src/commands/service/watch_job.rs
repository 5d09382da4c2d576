//! Waiting until a job is complete, and showing how far it is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    super::{info::text, tasks::items},
    fetch,
    verdict::NotConverged,
    watch::{MAX_LINES, POLL, hostname, progress},
};
use crate::{
    client::{Client, filters_query},
    output::progress::{Board, Line, STEPS},
};

/// A slot whose task ended gets the next one sooner than this, if it gets one.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3);

/// One look at a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JobLook {
    completed: u64,
    /// Of a global job as many as there are tasks so far.
    total: u64,
    active: u64,
    /// Slots whose tasks have all ended and none with success.
    failed: u64,
    lines: Vec<Line>,
}

impl JobLook {
    fn headline(&self) -> String {
        format!("job progress: {} out of {} complete, {} active", self.completed, self.total, self.active)
    }

    fn is_complete(&self, is_global: bool) -> bool {
        self.completed == self.total && !(is_global && self.total == 0)
    }

    /// Nothing is at work, and what is missing has failed.
    fn is_stuck(&self) -> bool {
        self.active == 0 && self.failed > 0 && self.completed + self.failed == self.total
    }
}

/// Whether a service is a job.
pub(super) fn is_job(service: &Value) -> bool {
    service["JobStatus"].is_object()
}

/// Returns when all have completed. A job that waits for its schedule is not waited for.
pub(super) async fn watch(client: &Client, id: &str, board: &mut Board) -> anyhow::Result<()> {
    let mut stuck_since: Option<Instant> = None;
    loop {
        let service = fetch(client, id).await?;
        if let Some(next) = waits_until(&service) {
            return board.message(&format!("job has not run yet, its schedule is due at {next}"));
        }
        let filters = [("service", id), ("_up-to-date", "true")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let tasks = client.get(&format!("/tasks{}", filters_query(&filters))).await?;
        let is_global = service["Spec"]["Mode"]["GlobalJob"].is_object();
        let nodes = if is_global { client.get("/nodes").await? } else { Value::Null };
        let look = look(&service, &tasks, &nodes);
        board.show(&look.headline(), &look.lines)?;
        if look.is_complete(is_global) {
            return board.message("job complete");
        }
        stuck_since = look.is_stuck().then(|| stuck_since.unwrap_or_else(Instant::now));
        if stuck_since.is_some_and(|since| since.elapsed() >= GIVEN_UP_AFTER) {
            let error = look.lines.iter().map(|line| &line.reason).rfind(|reason| !reason.is_empty());
            let error = error.map_or_else(String::new, |error| format!(": {error}"));
            let why = format!(
                "job failed: {} of {} tasks failed and their restart policy allows no other{error}; \
                 see `rswarm service ps {id}`, and run it again with `rswarm service update --force {id}`",
                look.failed, look.total
            );
            return Err(NotConverged::failed(why).into());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// When the first run of a job that never ran is due.
fn waits_until(service: &Value) -> Option<String> {
    let job = &service["JobStatus"];
    let never = text(&job["LastExecution"]).starts_with("0001-");
    (never && job["NextRun"].is_string()).then(|| text(&job["NextRun"]))
}

/// One line per slot, or per node of a global job.
fn look(service: &Value, tasks: &Value, nodes: &Value) -> JobLook {
    let is_global = service["Spec"]["Mode"]["GlobalJob"].is_object();
    let iteration = service["JobStatus"]["JobIteration"]["Index"].as_u64().unwrap_or(0);
    let mut slots: BTreeMap<(u64, String), &Value> = BTreeMap::new();
    for task in items(tasks).filter(|task| task["JobIteration"]["Index"].as_u64().unwrap_or(0) == iteration) {
        let place = match is_global {
            true => (0, text(&task["NodeID"])),
            false => (task["Slot"].as_u64().unwrap_or(0), String::new()),
        };
        let best = slots.entry(place).or_insert(task);
        if rank(task) >= rank(best) {
            *best = task;
        }
    }
    let spec = &service["Spec"]["Mode"]["ReplicatedJob"];
    let total = if is_global { slots.len() as u64 } else { spec["TotalCompletions"].as_u64().unwrap_or(1) };
    let state = |task: &&&Value| text(&task["Status"]["State"]);
    let completed = slots.values().filter(|task| state(task) == "complete").count() as u64;
    let failed = slots.values().filter(|task| rank(task).0 == 0).count() as u64;
    let name = |(slot, node): &(u64, String)| match is_global {
        true => hostname(nodes, node),
        false => format!("{}/{total}", slot + 1),
    };
    let mut lines: Vec<Line> = slots.iter().map(|(place, task)| line(name(place), task)).collect();
    if lines.len() > MAX_LINES {
        lines.retain(|line| !line.reason.is_empty());
        lines.truncate(MAX_LINES);
    }
    JobLook { completed, total, active: slots.len() as u64 - completed - failed, failed, lines }
}

fn line(name: String, task: &Value) -> Line {
    let state = text(&task["Status"]["State"]);
    let done = if state == "complete" { STEPS } else { progress(&state).saturating_sub(1) };
    Line { name, done, reason: text(&task["Status"]["Err"]), state }
}

/// What stands for a slot: a task that completed, else one on its way, else the newest that failed.
fn rank(task: &Value) -> (u8, u64) {
    let of_state = match task["Status"]["State"].as_str().unwrap_or_default() {
        "complete" => 2,
        "failed" | "rejected" | "shutdown" | "orphaned" | "remove" => 0,
        _ => 1,
    };
    (of_state, task["Version"]["Index"].as_u64().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn task(slot: u64, iteration: u64, state: &str, err: &str) -> Value {
        let mut task = json!({ "NodeID": "n1", "JobIteration": { "Index": iteration }, "Version": { "Index": 1 },
                               "Status": { "State": state, "Err": err } });
        if slot > 0 {
            task["Slot"] = json!(slot);
        }
        task
    }

    fn shown(look: &JobLook) -> String {
        let lines = look.lines.iter().map(|line| format!("{}: {} {}\n", line.name, line.state, line.reason));
        format!("{}\n{}", look.headline(), lines.collect::<String>())
    }

    #[test]
    fn s04_only_the_present_iteration_counts() {
        let service = json!({ "Spec": { "Mode": { "ReplicatedJob": { "TotalCompletions": 3 } } },
                              "JobStatus": { "JobIteration": { "Index": 1 } } });
        let tasks = json!([
            task(0, 0, "complete", ""),
            task(0, 1, "failed", "task: non-zero exit (1)"),
            task(0, 1, "complete", ""),
            task(1, 1, "running", ""),
            task(2, 1, "failed", "task: non-zero exit (1)"),
        ]);
        let look = look(&service, &tasks, &Value::Null);
        expect![[r#"
            job progress: 1 out of 3 complete, 1 active
            1/3: complete 
            2/3: running 
            3/3: failed task: non-zero exit (1)
        "#]]
        .assert_eq(&shown(&look));
        assert!(!look.is_complete(false) && !look.is_stuck());
    }

    #[test]
    fn what_has_failed_for_good_is_told_from_what_goes_on() {
        let service = json!({ "Spec": { "Mode": { "ReplicatedJob": { "TotalCompletions": 2 } } },
                              "JobStatus": { "JobIteration": { "Index": 0 } } });
        let tasks = json!([task(0, 0, "complete", ""), task(1, 0, "failed", "exit 1")]);
        assert!(look(&service, &tasks, &Value::Null).is_stuck());
        let tasks = json!([task(0, 0, "complete", ""), task(1, 0, "failed", "exit 1"), task(1, 0, "pending", "")]);
        assert!(!look(&service, &tasks, &Value::Null).is_stuck());
    }

    #[test]
    fn s05_a_global_job_shows_hosts_and_waits_for_its_tasks() {
        let service = json!({ "Spec": { "Mode": { "GlobalJob": {} } }, "JobStatus": { "JobIteration": {} } });
        let nodes = json!([{ "ID": "n1", "Description": { "Hostname": "host1" } }]);
        assert!(!look(&service, &json!([]), &nodes).is_complete(true));
        let look = look(&service, &json!([task(0, 0, "complete", "")]), &nodes);
        assert!(look.is_complete(true));
        expect![[r#"
            job progress: 1 out of 1 complete, 0 active
            host1: complete 
        "#]]
        .assert_eq(&shown(&look));
    }

    #[test]
    fn p26_a_job_that_waits_for_its_schedule_is_not_waited_for() {
        let job = |last: &str| json!({ "JobStatus": { "LastExecution": last, "NextRun": "2026-01-01T03:00:00Z" } });
        assert_eq!(waits_until(&job("0001-01-01T00:00:00Z")).as_deref(), Some("2026-01-01T03:00:00Z"));
        assert_eq!(waits_until(&job("2025-12-31T03:00:00Z")), None);
    }
}
