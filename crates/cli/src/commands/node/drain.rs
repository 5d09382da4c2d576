//! `node update --availability drain --wait`: until the node is empty, or cannot get so (P24).

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::Value;

use super::super::{
    info::text,
    tasks::{Names, items},
};
use crate::{
    client::{Client, filters_query},
    output::{terminal::print, units::human_duration},
};

/// Between two looks.
const POLL: Duration = Duration::from_millis(250);
/// A task that stays because nothing takes its successor is given this long for something to change.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// What keeps a node from being empty.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    /// Names of the tasks that have not ended.
    tasks: Vec<String>,
    /// Why the successor of each has no node; one entry for each task whose successor has none.
    reasons: Vec<String>,
}

/// # Errors
/// The node is not empty within `limit`, or its tasks have nowhere to go.
pub(super) async fn wait(client: &Client, node: &Value, limit: Duration) -> anyhow::Result<()> {
    let name = text(&node["Description"]["Hostname"]);
    let query = filters_query(&[("node".to_owned(), text(&node["ID"]))]);
    let names = Names::fetch(client, true).await?;
    let begun = Instant::now();
    let (mut told, mut since) = (None, Instant::now());
    loop {
        let here = client.get(&format!("/tasks{query}")).await?;
        let all = client.get("/tasks").await?;
        let left = left(&here, &all, &names);
        if left.tasks.is_empty() {
            return print(&format!("Node {name} is empty.\n"));
        }
        if told.as_ref() != Some(&left) {
            print(&format!("{} left on {name}: {}\n", count(left.tasks.len()), left.tasks.join(", ")))?;
            since = Instant::now();
        }
        let hint = "they run on; make room or change their services, or `rswarm node update --availability active` to end the drain";
        let why = if left.reasons.is_empty() { String::new() } else { format!(": {}", left.reasons.join("; ")) };
        if left.reasons.len() == left.tasks.len() && since.elapsed() >= STUCK_AFTER {
            bail!("{} of node {name} cannot go anywhere{why}; {hint}", count(left.tasks.len()));
        }
        if begun.elapsed() >= limit {
            let shown = human_duration(limit).to_lowercase();
            bail!("node {name} is not empty after {shown}: {} left{why}; {hint}", count(left.tasks.len()));
        }
        told = Some(left);
        tokio::time::sleep(POLL).await;
    }
}

fn count(tasks: usize) -> String {
    format!("{tasks} task{}", if tasks == 1 { "" } else { "s" })
}

fn left(here: &Value, all: &Value, names: &Names) -> Left {
    let has_ended = |task: &Value| {
        let state = text(&task["Status"]["State"]);
        matches!(state.as_str(), "complete" | "failed" | "shutdown" | "rejected" | "orphaned" | "remove")
    };
    let mut left = Left { tasks: Vec::new(), reasons: Vec::new() };
    for task in items(here).filter(|task| !has_ended(task)) {
        let name = names.task(task);
        let successor = items(all).find(|other| {
            other["ServiceID"] == task["ServiceID"]
                && other["Slot"] == task["Slot"]
                && text(&other["NodeID"]).is_empty()
                && !has_ended(other)
        });
        let reason = successor.map(|other| text(&other["Status"]["Err"])).filter(|reason| !reason.is_empty());
        left.reasons.extend(reason.map(|reason| format!("{name}: {reason}")));
        left.tasks.push(name);
    }
    left.tasks.sort();
    left
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_and_why() {
        let task = |slot: u64, node: &str, state: &str, err: &str| json!({ "ServiceID": "s", "Slot": slot, "NodeID": node, "Status": { "State": state, "Err": err } });
        let here = json!([task(1, "n", "running", ""), task(2, "n", "shutdown", ""), task(3, "n", "starting", "")]);
        let mut all = here.clone();
        let waiting = task(1, "", "pending", "no suitable node: the only node is drained");
        all.as_array_mut().expect("a list").push(waiting);
        let found = left(&here, &all, &Names::none());
        assert_eq!(found.tasks, ["s.1", "s.3"]);
        assert_eq!(found.reasons, ["s.1: no suitable node: the only node is drained"]);
    }
}
