//! `stack history`, `stack inspect` and `stack rollback`: what a stack was, and back to it.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::Value;

use super::{
    super::{info::text, inspect, tasks::items},
    check_name,
    diff::{differences, in_column},
    live::Live,
    nothing_in,
    outcome::{Outcome, watch},
    remove::is_missing,
};
use crate::{
    client::{Client, escape},
    output::{
        list::{Layout, Row, Style, render},
        terminal::print,
        units::age,
    },
};

const LAYOUT: Layout = Layout {
    table: "{{.Revision}}\t{{.CreatedAt}}\t{{.By}}\t{{.Services}}\t{{.Result}}\t{{.Reason}}\t{{.Changes}}",
    titles: &[
        ("Revision", "REVISION"),
        ("CreatedAt", "CREATED"),
        ("By", "BY"),
        ("Services", "SERVICES"),
        ("Result", "RESULT"),
        ("Reason", "REASON"),
        ("Changes", "CHANGES"),
    ],
    key: "Revision",
};

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Format the output: table, table TEMPLATE, json, or a Go template
    #[arg(long, default_value = "")]
    format: String,
    /// Do not shorten reasons and what changed
    #[arg(long)]
    no_trunc: bool,
    stack: String,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(required = true, value_name = "STACK")]
    stacks: Vec<String>,
    /// Format the output: json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Exit at once instead of waiting for the services to converge
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true")]
    detach: bool,
    /// Suppress progress output
    #[arg(short, long)]
    quiet: bool,
    /// Back to the revision of this number, see `stack history`; without it, to the one before the present
    #[arg(long, value_name = "REVISION")]
    to: Option<u64>,
    stack: String,
}

pub(super) async fn history(client: &Client, arguments: &HistoryArgs) -> anyhow::Result<()> {
    check_name(&arguments.stack)?;
    let found = known(client, &arguments.stack, "/revisions").await?;
    let all: Vec<&Value> = items(&found).collect();
    ensure!(
        !all.is_empty(),
        "stack {} was deployed object by object, as docker does, and has no revisions: deploy it with rswarm",
        arguments.stack
    );
    let before = all.iter().skip(1).map(Some).chain([None]);
    let rows: Vec<Row> =
        all.iter().zip(before).map(|(one, before)| row(one, before.copied(), arguments.no_trunc)).collect();
    print(&render(&LAYOUT, &Style { format: arguments.format.clone(), quiet: false }, &rows)?)
}

/// What the cluster says of a stack, in docker's words if there is none.
async fn known(client: &Client, stack: &str, what: &str) -> anyhow::Result<Value> {
    client.get(&format!("/stacks/{}{what}", escape(stack))).await.map_err(|error| missing(error, stack))
}

fn missing(error: anyhow::Error, stack: &str) -> anyhow::Error {
    if is_missing(&error) { anyhow::anyhow!(nothing_in(stack)) } else { error }
}

fn row(revision: &Value, before: Option<&Value>, whole: bool) -> Row {
    let mut changes = before.map_or_else(Vec::new, |before| changes(revision, before)).join("; ");
    if let Some(to) = revision["BackTo"].as_u64() {
        changes = format!("back to {to}: {changes}");
    }
    let present = if revision["Present"] == true { " (present)" } else { "" };
    Row::from([
        ("Revision", format!("{}{present}", revision["Revision"])),
        ("CreatedAt", age(&text(&revision["CreatedAt"]), jiff::Timestamp::now())),
        ("By", text(&revision["By"])),
        ("Services", items(&revision["Services"]).count().to_string()),
        ("Result", text(&revision["Result"])),
        ("Reason", in_column(text(&revision["Reason"]), whole)),
        ("Changes", in_column(changes, whole)),
    ])
}

/// Object by object: what came, what went, and of a service what changed.
fn changes(new: &Value, old: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let services = |of: &Value| -> BTreeMap<String, Value> {
        items(&of["Services"]).map(|spec| (text(&spec["Name"]), spec.clone())).collect()
    };
    let (is, was) = (services(new), services(old));
    lines.extend(is.keys().filter(|name| !was.contains_key(*name)).map(|name| format!("+ service {name}")));
    lines.extend(was.keys().filter(|name| !is.contains_key(*name)).map(|name| format!("- service {name}")));
    for (name, spec) in &is {
        let fields = was.get(name).map_or_else(Vec::new, |before| differences(spec, before));
        lines.extend(fields.iter().map(|field| format!("{name} {}", field.trim())));
    }
    let networks = |of: &Value| -> BTreeMap<String, String> {
        items(&of["Networks"]).map(|name| (text(name), String::new())).collect()
    };
    let versions = |of: &Value| -> BTreeMap<String, String> {
        items(of).map(|one| (text(&one["Name"]), text(&one["ID"]))).collect()
    };
    for (kind, is, was) in [
        ("network", networks(new), networks(old)),
        ("secret", versions(&new["Secrets"]), versions(&old["Secrets"])),
        ("config", versions(&new["Configs"]), versions(&old["Configs"])),
    ] {
        for (name, id) in &is {
            match was.get(name) {
                None => lines.push(format!("+ {kind} {name}")),
                Some(before) if before != id => lines.push(format!("{kind} {name} has other data")),
                Some(_) => {}
            }
        }
        lines.extend(was.keys().filter(|name| !is.contains_key(*name)).map(|name| format!("- {kind} {name}")));
    }
    lines
}

pub(super) async fn inspect_stacks(client: &Client, arguments: &InspectArgs) -> anyhow::Result<()> {
    let (mut found, mut absent) = (Vec::new(), Vec::new());
    for stack in &arguments.stacks {
        match known(client, stack, "").await {
            Ok(one) => found.push(one),
            Err(error) => absent.push(error),
        }
    }
    inspect::show(&found, &absent, arguments.format.as_deref())
}

pub(super) async fn rollback(client: &Client, arguments: &RollbackArgs) -> anyhow::Result<()> {
    check_name(&arguments.stack)?;
    let stack = &arguments.stack;
    let live = Live::fetch(client).await?;
    let to = arguments.to.map(|to| format!("?to={to}")).unwrap_or_default();
    let answer = client.post(&format!("/stacks/{}/rollback{to}", escape(stack)), None).await;
    let answer = answer.map_err(|error| missing(error, stack)).context("failed to roll back")?;
    let outcome = Outcome::of(&answer);
    print(&format!("Rolling back stack {stack}, as its revision {}\n", outcome.revision))?;
    outcome.lines().iter().try_for_each(|line| print(&format!("{line}\n")))?;
    if arguments.detach {
        return Ok(());
    }
    watch(client, stack, &live.rollouts(&outcome.changed()), arguments.quiet, (None, true)).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn k_08_each_revision_of_a_stack_says_what_it_changed() {
        let spec =
            |name: &str, image: &str| json!({ "Name": name, "TaskTemplate": { "ContainerSpec": { "Image": image } } });
        let one = json!({ "Revision": 1, "Services": [spec("s_web", "a"), spec("s_old", "a")], "Networks": ["s_n"],
            "Secrets": [{ "Name": "s_pw", "ID": "1" }], "Configs": [] });
        let two = json!({ "Revision": 2, "Present": true, "BackTo": 1, "By": "uid 0 on m1",
            "Result": "failed", "Reason": "service s_web: update paused", "Services": [spec("s_web", "b"), spec("s_db", "a")],
            "Networks": [], "Secrets": [{ "Name": "s_pw", "ID": "2" }], "Configs": [{ "Name": "s_c", "ID": "3" }] });
        let shown = row(&two, Some(&one), true);
        assert_eq!((shown["Revision"].as_str(), shown["Services"].as_str()), ("2 (present)", "2"));
        let result = ["By", "Result", "Reason"].map(|field| shown[field].as_str());
        assert_eq!(result, ["uid 0 on m1", "failed", "service s_web: update paused"]);
        assert_eq!(
            shown["Changes"],
            "back to 1: + service s_db; - service s_old; s_web TaskTemplate.ContainerSpec.Image: \"a\" -> \"b\"; \
             - network s_n; secret s_pw has other data; + config s_c"
        );
        assert_eq!(row(&one, None, false)["Changes"], "");
    }
}
