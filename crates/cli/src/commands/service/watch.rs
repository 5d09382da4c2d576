//! Waiting until a service has converged, and showing how far it is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    super::{info::text, tasks::items},
    fetch,
    verdict::{Ends, NotConverged},
    watch_job,
};
use crate::{
    client::{Client, filters_query},
    output::progress::{Board, Line},
};

/// Between two looks.
pub(super) const POLL: Duration = Duration::from_millis(150);
/// Services with more tasks show the sum only, as docker does.
pub(super) const MAX_LINES: usize = 20;
/// Monitor time of a spec that says none.
const DEFAULT_MONITOR: Duration = Duration::from_secs(5);

/// How to wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wait {
    pub(crate) quiet: bool,
    /// The user asked to roll back: arriving there is success.
    pub(crate) is_rollback: bool,
    /// `UpdateStatus.StartedAt` before the change: what has the same is an older story.
    pub(crate) before: String,
    /// How long to wait at most.
    pub(crate) limit: Option<Duration>,
}

/// One look at a service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) running: u64,
    pub(crate) desired: u64,
    pub(crate) lines: Vec<Line>,
    pub(crate) rolling_back: bool,
    /// What an update waits for, if it is held back.
    pub(crate) held: String,
}

impl Look {
    fn is_done(&self) -> bool {
        self.running == self.desired
    }

    pub(crate) fn headline(&self) -> String {
        let what = if self.rolling_back { "rolling back update" } else { "overall progress" };
        let held = if self.held.is_empty() { String::new() } else { format!(", {}", self.held) };
        format!("{what}: {} out of {} tasks{held}", self.running, self.desired)
    }
}

/// Returns when all tasks have run for the monitor time, or have done their work; fails with [`NotConverged`] when they will not.
/// Ctrl-C ends the watching only.
pub(crate) async fn converge(client: &Client, id: &str, wait: Wait) -> anyhow::Result<()> {
    let mut board = Board::new(wait.quiet);
    let too_late = async {
        match wait.limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = watch(client, id, &wait, &mut board) => {
            board.finish()?;
            result
        }
        () = too_late => {
            board.finish()?;
            let limit = wait.limit.unwrap_or_default();
            Err(NotConverged::too_late(&format!("service {id}"), limit, &format!("rswarm service ps {id}")).into())
        }
        _ = tokio::signal::ctrl_c() => {
            board.message("Operation continuing in background.")?;
            board.message(&format!("Use `rswarm service ps {id}` to check progress."))?;
            board.finish()
        }
    }
}

async fn watch(client: &Client, id: &str, wait: &Wait, board: &mut Board) -> anyhow::Result<()> {
    let mut stable_since: Option<Instant> = None;
    let mut ends = Ends::default();
    loop {
        let service = fetch(client, id).await?;
        if watch_job::is_job(&service) {
            return watch_job::watch(client, id, board).await;
        }
        let filters = [("service", id), ("_up-to-date", "true")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        let tasks = client.get(&format!("/tasks{}", filters_query(&filters))).await?;
        let nodes = match service["Spec"]["Mode"]["Global"].is_object() {
            true => client.get("/nodes").await?,
            false => Value::Null,
        };
        let look = look(&service, &tasks, &nodes);
        board.show(&look.headline(), &look.lines)?;
        let update = check_update(&service, wait)?;
        if update == Update::None {
            ends.judge(&tasks, !look.is_done())?;
        }
        if !look.is_done() || update == Update::Running {
            stable_since = None;
        } else {
            let monitor = monitor(&service);
            let since = *stable_since.get_or_insert_with(Instant::now);
            let left = monitor.saturating_sub(since.elapsed());
            if left.is_zero() {
                board.message(&format!("verify: Service {id} converged"))?;
                return match update {
                    Update::RolledBack(why) => Err(NotConverged::failed(format!("service rolled back: {why}")).into()),
                    _ => Ok(()),
                };
            }
            let seconds = left.as_secs_f64().ceil();
            board.verify(&format!("verify: Waiting {seconds} seconds to verify that tasks are stable..."))?;
        }
        tokio::time::sleep(POLL).await;
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Update {
    None,
    Running,
    RolledBack(String),
}

/// Fails where nothing will move any more by itself.
fn check_update(service: &Value, wait: &Wait) -> Result<Update, NotConverged> {
    let update = &service["UpdateStatus"];
    let message = text(&update["Message"]);
    Ok(match update["State"].as_str().unwrap_or_default() {
        "updating" | "rollback_started" => Update::Running,
        "paused" => return Err(NotConverged::failed(format!("service update paused: {message}"))),
        "rollback_paused" => return Err(NotConverged::failed(format!("service rollback paused: {message}"))),
        "rollback_completed" if !wait.is_rollback && text(&update["StartedAt"]) != wait.before => {
            Update::RolledBack(message)
        }
        _ => Update::None,
    })
}

fn monitor(service: &Value) -> Duration {
    let monitor = service["Spec"]["UpdateConfig"]["Monitor"].as_u64().filter(|ns| *ns != 0);
    monitor.map_or(DEFAULT_MONITOR, Duration::from_nanos)
}

/// What the tasks come to: one line per slot, or per node of a global service.
pub(crate) fn look(service: &Value, tasks: &Value, nodes: &Value) -> Look {
    let is_global = service["Spec"]["Mode"]["Global"].is_object();
    let wanted = |task: &&Value| {
        matches!(task["DesiredState"].as_str(), Some("running" | "ready")) && task["Status"]["State"] != "complete"
    };
    let mut slots: BTreeMap<(u64, String), &Value> = BTreeMap::new();
    for task in items(tasks).filter(wanted) {
        let place = place(task, is_global);
        let better = slots.get(&place).is_none_or(|known| rank(task) >= rank(known));
        if better {
            slots.insert(place, task);
        }
    }
    let desired = match is_global {
        true => slots.len() as u64 + completed(tasks, &slots, is_global),
        false => service["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().unwrap_or(1),
    };
    let mut lines = Vec::new();
    // whose work is done and who has no successor counts as one that runs
    let mut running = completed(tasks, &slots, is_global);
    for ((slot, node), task) in &slots {
        if task["Status"]["State"] == "running" {
            running += 1;
        }
        let name = if is_global { hostname(nodes, node) } else { format!("{slot}/{desired}") };
        lines.push(line(name, task));
    }
    // Slots that have no task yet are shown waiting.
    if !is_global {
        for slot in 1..=desired.min(MAX_LINES as u64) {
            if !slots.keys().any(|(known, _)| *known == slot) {
                let at = lines.len().min(slot as usize - 1);
                lines.insert(
                    at,
                    Line { name: format!("{slot}/{desired}"), state: String::new(), done: 0, reason: String::new() },
                );
            }
        }
    }
    if lines.len() > MAX_LINES {
        lines.retain(|line| !line.reason.is_empty());
        lines.truncate(MAX_LINES);
    }
    let rolling_back = service["UpdateStatus"]["State"].as_str().is_some_and(|state| state.starts_with("rollback"));
    let held =
        Some(text(&service["UpdateStatus"]["Message"])).filter(|message| message.starts_with("update waits for "));
    Look { running, desired, lines, rolling_back, held: held.unwrap_or_default() }
}

/// Places in which no task shall run because the last one has completed: a one-shot that is no job.
fn completed(tasks: &Value, wanted: &BTreeMap<(u64, String), &Value>, is_global: bool) -> u64 {
    let mut newest: BTreeMap<(u64, String), &Value> = BTreeMap::new();
    for task in items(tasks) {
        let known = newest.entry(place(task, is_global)).or_insert(task);
        if text(&task["CreatedAt"]) >= text(&known["CreatedAt"]) {
            *known = task;
        }
    }
    let done =
        newest.iter().filter(|(place, task)| !wanted.contains_key(place) && task["Status"]["State"] == "complete");
    done.count() as u64
}

fn place(task: &Value, is_global: bool) -> (u64, String) {
    if is_global { (0, text(&task["NodeID"])) } else { (task["Slot"].as_u64().unwrap_or(0), String::new()) }
}

/// The host of this id, or the beginning of the id.
pub(super) fn hostname(nodes: &Value, id: &str) -> String {
    let node = items(nodes).find(|node| node["ID"] == id);
    node.map_or_else(|| id.chars().take(12).collect(), |node| text(&node["Description"]["Hostname"]))
}

fn line(name: String, task: &Value) -> Line {
    let state = text(&task["Status"]["State"]);
    Line { name, done: progress(&state), reason: text(&task["Status"]["Err"]), state }
}

/// The task that got furthest stands for its slot, the newer one among equals.
fn rank(task: &Value) -> (u8, u64) {
    (progress(task["Status"]["State"].as_str().unwrap_or_default()), task["Version"]["Index"].as_u64().unwrap_or(0))
}

/// Out of [`crate::output::progress::STEPS`].
pub(super) fn progress(state: &str) -> u8 {
    match state {
        "pending" => 2,
        "assigned" => 3,
        "accepted" => 4,
        "preparing" => 5,
        "ready" => 6,
        "starting" => 7,
        "running" => 9,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn task(slot: u64, state: &str, err: &str) -> Value {
        json!({ "Slot": slot, "NodeID": "n1", "DesiredState": "running", "Version": { "Index": 1 },
                "Status": { "State": state, "Err": err } })
    }

    fn shown(look: &Look) -> String {
        let lines = look.lines.iter().map(|line| format!("{}: {} {}\n", line.name, line.state, line.reason));
        format!("{}\n{}", look.headline(), lines.collect::<String>())
    }

    #[test]
    fn replicas_are_counted_and_reasons_are_shown() {
        let service = json!({ "Spec": { "Mode": { "Replicated": { "Replicas": 4 } } } });
        let tasks = json!([
            task(1, "running", ""),
            task(2, "pending", "no node satisfies the constraints: 2 nodes lack memory"),
            task(4, "failed", "exit 1"),
            task(4, "preparing", ""),
        ]);
        expect![[r#"
            overall progress: 1 out of 4 tasks
            1/4: running 
            2/4: pending no node satisfies the constraints: 2 nodes lack memory
            3/4:  
            4/4: preparing 
        "#]]
        .assert_eq(&shown(&look(&service, &tasks, &json!([]))));
    }

    #[test]
    fn k_08_an_update_that_waits_says_for_what() {
        let status = json!({ "State": "updating", "Message": "update waits for service s_db to be healthy" });
        let service = json!({ "Spec": { "Mode": { "Replicated": { "Replicas": 1 } } }, "UpdateStatus": status });
        let look = look(&service, &json!([task(1, "running", "")]), &json!([]));
        let wanted = "overall progress: 1 out of 1 tasks, update waits for service s_db to be healthy";
        assert_eq!(look.headline(), wanted);
    }

    #[test]
    fn global_services_show_hosts() {
        let service = json!({ "Spec": { "Mode": { "Global": {} } }, "UpdateStatus": { "State": "rollback_started" } });
        let nodes = json!([{ "ID": "n1", "Description": { "Hostname": "host1" } }]);
        expect![[r#"
            rolling back update: 1 out of 1 tasks
            host1: running 
        "#]]
        .assert_eq(&shown(&look(&service, &json!([task(0, "running", "")]), &nodes)));
    }

    #[test]
    fn a_stopped_update_is_a_failure() {
        let paused = json!({ "UpdateStatus": { "State": "paused", "Message": "2 tasks failed" } });
        assert_eq!(
            check_update(&paused, &Wait::default()).expect_err("paused").to_string(),
            "service update paused: 2 tasks failed"
        );
        let back = json!({ "UpdateStatus": { "State": "rollback_completed", "StartedAt": "t2", "Message": "m" } });
        let wait = |is_rollback, before: &str| Wait { is_rollback, before: before.to_owned(), ..Wait::default() };
        let check = |wait| check_update(&back, &wait).expect("no error");
        assert_eq!(check(wait(false, "t1")), Update::RolledBack("m".to_owned()));
        assert_eq!(check(wait(true, "t1")), Update::None);
        assert_eq!(check(wait(false, "t2")), Update::None);
    }
}
