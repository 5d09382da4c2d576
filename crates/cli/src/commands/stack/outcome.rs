//! What a request about a stack did, told and watched.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::super::{info::text, service, tasks::items};
use crate::{
    client::Client,
    output::terminal::{print, print_error},
};

/// The answer to a deploy, a rollback or a removal.
pub(super) struct Outcome {
    pub(super) revision: u64,
    parts: Vec<Part>,
}

struct Part {
    kind: String,
    name: String,
    action: String,
}

impl Outcome {
    pub(super) fn of(answer: &Value) -> Self {
        let part =
            |part: &Value| Part { kind: text(&part["Kind"]), name: text(&part["Name"]), action: text(&part["Action"]) };
        let revision = answer["Revision"].as_u64().unwrap_or(0);
        Self { revision, parts: items(&answer["Parts"]).map(part).collect() }
    }

    /// A line for each object; what stays although it is in the files no more goes to standard error.
    pub(super) fn show(&self, stack: &str) -> anyhow::Result<()> {
        let lines = self.lines();
        if lines.is_empty() {
            print(&format!("Stack {stack} is what its files say: nothing to do (revision {})\n", self.revision))?;
        }
        lines.iter().try_for_each(|line| print(&format!("{line}\n")))?;
        let kept = self.parts.iter().filter(|part| part.action == "kept");
        let kept: Vec<String> = kept.map(|part| format!("{} {}", part.kind, part.name)).collect();
        match kept.is_empty() {
            true => Ok(()),
            false => print_error(&format!(
                "Kept, although the files have it no more: {}; --prune removes it\n",
                kept.join(", ")
            )),
        }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let line = |part: &Part| {
            let verb = match part.action.as_str() {
                "created" => "Creating",
                "updated" => "Updating",
                "removed" => "Removing",
                _ => return None,
            };
            Some(format!("{verb} {} {}", part.kind, part.name))
        };
        self.parts.iter().filter_map(line).collect()
    }

    /// Whether the service was made or changed.
    pub(super) fn has_changed(&self, service: &str) -> bool {
        let is_it = |part: &&Part| part.kind == "service" && part.name == service;
        self.parts.iter().find(is_it).is_some_and(|part| matches!(part.action.as_str(), "created" | "updated"))
    }

    /// Services that were made or changed.
    pub(super) fn changed(&self) -> Vec<&str> {
        let services = self.parts.iter().filter(|part| part.kind == "service");
        services.map(|part| part.name.as_str()).filter(|name| self.has_changed(name)).collect()
    }
}

/// Waits for each service in turn; `rollouts` are their names, each with when its last rollout before this began.
pub(super) async fn watch(
    client: &Client,
    stack: &str,
    rollouts: &[(String, String)],
    quiet: bool,
    (limit, is_rollback): (Option<Duration>, bool),
) -> anyhow::Result<()> {
    let all = async {
        for (name, before) in rollouts {
            let id = text(&service::fetch(client, name).await?["ID"]);
            let wait = service::watch::Wait { quiet, is_rollback, before: before.clone(), limit: None };
            service::watch::converge(client, &id, wait).await.with_context(|| format!("service {name}"))?;
        }
        Ok(())
    };
    let Some(limit) = limit else { return all.await };
    match tokio::time::timeout(limit, all).await {
        Ok(result) => result,
        Err(_) => {
            let (what, look) = (format!("stack {stack}"), format!("rswarm stack ps {stack}"));
            Err(service::verdict::NotConverged::too_late(&what, limit, &look).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn k_01_what_was_done_is_told_and_what_is_the_same_is_not() {
        let part = |kind: &str, name: &str, action: &str| json!({ "Kind": kind, "Name": name, "Action": action });
        let answer = json!({ "Revision": 3, "Parts": [
            part("network", "s_n", "unchanged"), part("secret", "s_pw", "updated"), part("service", "s_db", "unchanged"),
            part("service", "s_web", "created"), part("service", "s_old", "removed"), part("config", "s_c", "kept"),
        ] });
        let outcome = Outcome::of(&answer);
        assert_eq!(outcome.revision, 3);
        assert_eq!(outcome.lines(), ["Updating secret s_pw", "Creating service s_web", "Removing service s_old"]);
        assert_eq!(outcome.changed(), ["s_web"]);
    }
}
