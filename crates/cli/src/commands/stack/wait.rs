//! Waiting for what a service depends on.

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;

use super::super::{info::text, tasks::items};
use crate::{
    client::{Client, filters_query},
    compose::Condition,
    output::terminal::print,
};

/// Between two looks.
const POLL: Duration = Duration::from_millis(250);

/// How far a service is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Reached,
    NotYet(String),
    /// Nothing will move any more by itself.
    Never(String),
}

/// # Errors
/// The condition is not reached within `limit`, or cannot be any more.
pub(super) async fn wait_for(
    client: &Client,
    service: &str,
    condition: Condition,
    limit: Duration,
    waiting: &str,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut told: Option<String> = None;
    loop {
        let by_name = filters_query(&[("name".to_owned(), service.to_owned())]);
        let all = client.get(&format!("/services{by_name}&status=true")).await?;
        let Some(found) = items(&all).find(|one| one["Spec"]["Name"] == service) else {
            bail!("service {service}, which {waiting} depends on, is gone: somebody removed it meanwhile");
        };
        let filters = [("service".to_owned(), text(&found["ID"])), ("_up-to-date".to_owned(), "true".to_owned())];
        let tasks = client.get(&format!("/tasks{}", filters_query(&filters))).await?;
        let state = state(found, &tasks, condition);
        let why = match state {
            State::Reached => return Ok(()),
            State::Never(why) => bail!("{waiting} waits in vain for {service} {}: {why}", words(condition)),
            State::NotYet(why) => why,
        };
        match &told {
            None => print(&format!("Waiting for service {service} {}, then {waiting}\n", words(condition)))?,
            Some(last) if *last != why => print(&format!("  {service}: {why}\n"))?,
            Some(_) => {}
        }
        told = Some(why.clone());
        if begun.elapsed() >= limit {
            bail!(
                "{waiting} has waited {} seconds for {service} {}: {why}; look at `rswarm service ps {service}`, or give \
                 more time with --wait-timeout",
                limit.as_secs(),
                words(condition)
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

fn words(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "to have started",
        Condition::Healthy => "to be healthy",
        Condition::Completed => "to have completed",
    }
}

fn state(service: &Value, tasks: &Value, condition: Condition) -> State {
    let count = |state: &str| items(tasks).filter(|task| task["Status"]["State"] == state).count() as u64;
    let mode = &service["Spec"]["Mode"];
    let replicas = mode["Replicated"]["Replicas"].as_u64();
    let completed_before = service["ServiceStatus"]["CompletedTasks"].as_u64().unwrap_or(0);
    let completed = count("complete").max(completed_before);
    let running = count("running");
    // one that has none has nothing to wait for
    let all = match (mode["ReplicatedJob"]["TotalCompletions"].as_u64(), replicas) {
        (Some(total), _) | (None, Some(total)) => total,
        _ => items(tasks).filter(|task| is_wanted(task) || task["Status"]["State"] == "complete").count().max(1) as u64,
    };
    let is_reached = match condition {
        Condition::Started => all == 0 || running + count("starting") + completed > 0,
        Condition::Healthy => running + completed >= all,
        Condition::Completed => completed >= all,
    };
    if is_reached {
        return State::Reached;
    }
    let failed: Vec<&Value> = items(tasks).filter(|task| is_failed(task)).collect();
    let newest = failed.iter().max_by_key(|task| text(&task["Status"]["Timestamp"]));
    let error = newest.map(|task| text(&task["Status"]["Err"])).filter(|error| !error.is_empty());
    let is_over = !items(tasks).any(is_wanted) && !failed.is_empty();
    let tries = service["Spec"]["TaskTemplate"]["RestartPolicy"]["Condition"].as_str().unwrap_or("any");
    let why = format!("{running} of {all} tasks run{}", error.map(|error| format!(", {error}")).unwrap_or_default());
    match is_over && tries == "none" {
        true => State::Never(format!("{why}, and it is not tried again")),
        false => State::NotYet(why),
    }
}

fn is_wanted(task: &Value) -> bool {
    matches!(task["DesiredState"].as_str(), Some("running" | "ready" | "complete")) && !is_failed(task)
}

fn is_failed(task: &Value) -> bool {
    matches!(task["Status"]["State"].as_str(), Some("failed" | "rejected" | "orphaned"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(state: &str, desired: &str) -> Value {
        json!({ "Status": { "State": state, "Err": "exit 1" }, "DesiredState": desired })
    }

    /// K-08: the conditions of `depends_on`.
    #[test]
    fn k_08_conditions() {
        use Condition::{Completed, Healthy, Started};
        let service = json!({ "Spec": { "Mode": { "Replicated": { "Replicas": 2 } } } });
        let starting = json!([task("starting", "running"), task("preparing", "running")]);
        assert_eq!(state(&service, &starting, Started), State::Reached);
        assert!(matches!(state(&service, &starting, Healthy), State::NotYet(_)));
        let running = json!([task("running", "running"), task("running", "running")]);
        assert_eq!(state(&service, &running, Healthy), State::Reached);
        assert!(matches!(state(&service, &running, Completed), State::NotYet(_)));
        let job = json!({ "Spec": { "Mode": { "ReplicatedJob": { "TotalCompletions": 1 } } } });
        assert_eq!(state(&job, &json!([task("complete", "complete")]), Completed), State::Reached);
        assert!(matches!(state(&job, &json!([]), Completed), State::NotYet(_)));
        let once = json!({ "Spec": { "Mode": { "ReplicatedJob": { "TotalCompletions": 1 } },
            "TaskTemplate": { "RestartPolicy": { "Condition": "none" } } } });
        let State::Never(why) = state(&once, &json!([task("failed", "complete")]), Completed) else {
            panic!("not never")
        };
        assert!(why.contains("exit 1"), "{why}");
    }
}
