//! How waiting for a service may end without success, and the exit code of each end (P28).
//!
//! What a rollout comes to the cluster decides and says. A service that is new, or whose tasks alone were changed, has no
//! rollout: there it is decided here, by tasks that ended since the waiting began.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::super::{info::text, tasks::items};

/// An image is not to be had.
const NO_IMAGE: u8 = 2;
/// Tasks fail, or are not well; the update was stopped or undone.
const FAILED: u8 = 3;
/// It took too long.
const TOO_LATE: u8 = 4;

/// So many tasks of one slot may fail one after the other: what waits for something else by failing gets there mostly.
const TRIES: usize = 3;
/// A node that cannot get an image has tried more than once itself, and the second may be another node.
const IMAGE_TRIES: usize = 2;
/// A slot whose task ended gets the next one sooner than this, if it gets one.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(3);

/// The wait is over and the service is not as it was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct NotConverged {
    pub(crate) code: u8,
    why: String,
}

impl NotConverged {
    /// Of a service whose rollout or tasks failed, with what is said of them.
    pub(super) fn failed(what: impl Into<String>) -> Self {
        let why = what.into();
        Self { code: code(&why), why }
    }

    pub(crate) fn too_late(what: &str, limit: Duration, look: &str) -> Self {
        let why = format!(
            "{what} has not converged in {} seconds and goes on in the background: look at `{look}`",
            limit.as_secs()
        );
        Self { code: TOO_LATE, why }
    }
}

/// By the words of the engine and of the planner, which are part of the API.
fn code(why: &str) -> u8 {
    match why {
        _ if why.contains("No such image: ") => NO_IMAGE,
        _ if why.contains(" did not run within ") => TOO_LATE,
        _ => FAILED,
    }
}

/// What ended while somebody waited.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Tasks that had ended before; `None` before the first look.
    before: Option<BTreeSet<String>>,
    without_task_since: Option<Instant>,
}

impl Ends {
    /// Fails when there is no more hope. `lacks` is whether something that shall run does not.
    pub(super) fn judge(&mut self, tasks: &Value, lacks: bool) -> Result<(), NotConverged> {
        let ended =
            |task: &&Value| matches!(task["Status"]["State"].as_str(), Some("failed" | "rejected" | "orphaned"));
        let known = || items(tasks).filter(ended).map(|task| text(&task["ID"])).collect();
        let before = self.before.get_or_insert_with(known);
        let mut slots: BTreeMap<(u64, String), Vec<&Value>> = BTreeMap::new();
        for task in items(tasks).filter(ended).filter(|task| !before.contains(&text(&task["ID"]))) {
            let slot = task["Slot"].as_u64().unwrap_or(0);
            let node = if slot == 0 { text(&task["NodeID"]) } else { String::new() };
            slots.entry((slot, node)).or_default().push(task);
        }
        for failed in slots.values() {
            let without_image = failed.iter().filter(|task| error(task).starts_with("No such image: ")).count();
            if failed.len() >= TRIES || without_image >= IMAGE_TRIES {
                return Err(last_words(&format!("{} tasks failed one after the other", failed.len()), failed));
            }
        }
        self.give_up(tasks, lacks && !slots.is_empty(), &slots.into_values().flatten().collect::<Vec<_>>())
    }

    /// Where the restart policy allows no other task.
    fn give_up(&mut self, tasks: &Value, lacks: bool, failed: &[&Value]) -> Result<(), NotConverged> {
        let goes_on = |task: &Value| {
            matches!(task["DesiredState"].as_str(), Some("running" | "ready"))
                && !matches!(
                    task["Status"]["State"].as_str(),
                    Some("failed" | "rejected" | "orphaned" | "complete" | "shutdown")
                )
        };
        if !lacks || items(tasks).any(goes_on) {
            self.without_task_since = None;
            return Ok(());
        }
        let since = *self.without_task_since.get_or_insert_with(Instant::now);
        if since.elapsed() < GIVEN_UP_AFTER {
            return Ok(());
        }
        Err(last_words("tasks failed and their restart policy allows no other", failed))
    }
}

fn error(task: &Value) -> String {
    text(&task["Status"]["Err"])
}

fn last_words(what: &str, failed: &[&Value]) -> NotConverged {
    let newest = failed.iter().max_by_key(|task| text(&task["CreatedAt"]));
    let why = newest.map(|task| error(task)).filter(|why| !why.is_empty());
    NotConverged::failed(format!(
        "service does not run: {what}{}",
        why.map_or_else(String::new, |why| format!(": {why}"))
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(id: u64, slot: u64, state: &str, err: &str) -> Value {
        let desired = if state == "running" { "running" } else { "shutdown" };
        json!({ "ID": id.to_string(), "Slot": slot, "DesiredState": desired, "CreatedAt": format!("2026-01-01T00:00:0{id}Z"),
                "Status": { "State": state, "Err": err } })
    }

    /// P28: each end has its code, by the words that tell of it.
    #[test]
    fn p28_words_and_their_codes() {
        for (words, wanted) in [
            ("update paused due to failure or early termination of task t: task: non-zero exit (1)", FAILED),
            (
                "rollback completed: the update was undone due to failure or early termination of task t: No such image: web:2: not found",
                NO_IMAGE,
            ),
            ("update paused because task t did not run within 30s: it is pending: no suitable node", TOO_LATE),
            ("", FAILED),
        ] {
            assert_eq!(NotConverged::failed(words).code, wanted, "{words}");
        }
        let late = NotConverged::too_late("stack shop", Duration::from_secs(5), "rswarm stack ps shop");
        assert_eq!((late.code, late.to_string().contains("in 5 seconds")), (TOO_LATE, true));
    }

    /// P28: a service without a rollout is given up by what its tasks did since the wait began.
    #[test]
    fn p28_a_new_service_is_given_up_after_some_failures() {
        let crash = |id, slot| task(id, slot, "failed", "task: non-zero exit (1)");
        let mut ends = Ends::default();
        // what was before counts nothing
        let old = json!([crash(1, 1), crash(2, 1), crash(3, 1), task(4, 1, "running", "")]);
        assert_eq!(ends.judge(&old, true), Ok(()));
        assert_eq!(ends.judge(&old, true), Ok(()));
        let more = json!([
            crash(1, 1),
            crash(2, 1),
            crash(3, 1),
            crash(5, 1),
            crash(6, 1),
            crash(7, 2),
            task(8, 1, "running", "")
        ]);
        assert_eq!(ends.judge(&more, true), Ok(()), "two of one slot, one of another");
        let last = json!([crash(5, 1), crash(6, 1), crash(8, 1)]);
        let gone = ends.judge(&last, true).expect_err("three of one slot");
        assert_eq!(
            gone.to_string(),
            "service does not run: 3 tasks failed one after the other: task: non-zero exit (1)"
        );
        assert_eq!(gone.code, FAILED);

        let mut ends = Ends::default();
        assert_eq!(ends.judge(&json!([]), true), Ok(()));
        let without = |id| task(id, 1, "rejected", "No such image: web:2: not found");
        assert_eq!(ends.judge(&json!([without(1), task(3, 1, "running", "")]), true), Ok(()));
        assert_eq!(ends.judge(&json!([without(1), without(2)]), true).expect_err("no image").code, NO_IMAGE);
    }
}
