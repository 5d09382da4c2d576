//! What a deploy would change. The decision is pure: what the files say and what the cluster has in, differences out.
//!
//! `stack diff` shows them; nothing else reads them, so that what is shown never decides what is sent.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde_json::{Value, json};

use super::{
    super::info::text,
    check_name,
    live::Live,
    load::{self, FileArgs},
};
use crate::{
    Quit,
    client::Client,
    compose::{Dependency, IMAGE, NAMESPACE, Network, Project},
    fail,
    output::terminal::print,
    spec::edit::{get, set},
};

/// `diff`'s own: something differs.
const CHANGES: u8 = 1;
const TROUBLE: u8 = 2;

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Only say it by the exit code
    #[arg(short, long)]
    quiet: bool,
    stack: String,
}

pub(super) async fn diff(client: &Client, arguments: &DiffArgs) -> anyhow::Result<()> {
    let changes = match changes(client, arguments).await {
        Ok(changes) => changes,
        Err(error) => return fail(TROUBLE, &error),
    };
    if changes.is_empty() {
        return Ok(());
    }
    if !arguments.quiet {
        print(&changes.iter().map(show).collect::<String>())?;
    }
    Err(Quit(CHANGES).into())
}

async fn changes(client: &Client, arguments: &DiffArgs) -> anyhow::Result<Vec<Change>> {
    check_name(&arguments.stack)?;
    let loaded = load::load(&arguments.files, &arguments.stack, true)?;
    let live = Live::fetch(client).await?;
    live.check(&loaded.project, &arguments.stack)?;
    Ok(compare(&loaded.project, &live, &arguments.stack))
}

/// One object that differs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    sign: char,
    what: String,
    /// A line for each field.
    fields: Vec<String>,
}

fn show(change: &Change) -> String {
    let fields = change.fields.iter().map(|field| format!("    {field}\n"));
    format!("{} {}\n{}", change.sign, change.what, fields.collect::<String>())
}

pub(super) fn compare(project: &Project, live: &Live, stack: &str) -> Vec<Change> {
    let mut changes = Vec::new();
    let created = |kind: &str, name: &str| Change { sign: '+', what: format!("{kind} {name}"), fields: Vec::new() };
    let changed = |kind: &str, name: &str, fields: Vec<String>| {
        (!fields.is_empty()).then(|| Change { sign: '~', what: format!("{kind} {name}"), fields })
    };
    for network in project.networks.iter().filter(|network| !network.external) {
        match live.networks.get(&network.name) {
            None => changes.push(created("network", &network.name)),
            Some(found) => changes.extend(changed("network", &network.name, network_fields(network, found))),
        }
    }
    for (kind, wanted, have) in
        [("secret", &project.secrets, &live.secrets), ("config", &project.configs, &live.configs)]
    {
        for one in wanted.iter().filter(|one| !one.external) {
            match have.get(&one.name) {
                None => changes.push(created(kind, &one.name)),
                Some(found) => changes.extend(changed(kind, &one.name, dependency_fields(one, found))),
            }
        }
    }
    let names = live.network_names();
    for service in &project.services {
        match live.services.get(&service.name) {
            None => changes.push(created("service", &service.name)),
            Some(found) => {
                let fields = differences(&normal(&service.spec, &BTreeMap::new()), &normal(&found["Spec"], &names));
                changes.extend(changed("service", &service.name, fields));
            }
        }
    }
    changes.extend(removed(project, live, stack));
    changes
}

/// What is of the stack and not in its files: it goes with `--prune`.
fn removed(project: &Project, live: &Live, stack: &str) -> Vec<Change> {
    let mut changes = Vec::new();
    for (kind, have, labels_at) in [
        ("network", &live.networks, "/Labels"),
        ("secret", &live.secrets, "/Spec/Labels"),
        ("config", &live.configs, "/Spec/Labels"),
        ("service", &live.services, "/Spec/Labels"),
    ] {
        for (name, one) in have {
            let is_ours = one.pointer(labels_at).is_some_and(|labels| labels[NAMESPACE] == stack);
            if is_ours && !project.has(kind, name) {
                changes.push(Change { sign: '-', what: format!("{kind} {name} (with --prune)"), fields: Vec::new() });
            }
        }
    }
    changes
}

fn network_fields(wanted: &Network, found: &Value) -> Vec<String> {
    let mut fields = Vec::new();
    for field in ["Driver", "Attachable", "Internal"] {
        let (new, old) = (&wanted.body[field], &found[field]);
        let is_same = new == old || (new.is_null() && matches!(old, Value::Bool(false) | Value::Null));
        if !is_same {
            fields.push(format!(
                "{field}: {old} -> {}; a deploy leaves it: remove the network to have it anew",
                or_no(new)
            ));
        }
    }
    for (name, value) in wanted.body["Options"].as_object().into_iter().flatten() {
        if found["Options"][name] != *value {
            let old = &found["Options"][name];
            fields.push(format!(
                "Options.{name}: {old} -> {value}; a deploy leaves it: remove the network to have it anew"
            ));
        }
    }
    fields
}

fn or_no(value: &Value) -> Value {
    if value.is_null() { Value::from(false) } else { value.clone() }
}

fn dependency_fields(wanted: &Dependency, found: &Value) -> Vec<String> {
    let spec = &found["Spec"];
    let mut fields = differences(&json!({ "Labels": wanted.body["Labels"] }), &json!({ "Labels": spec["Labels"] }));
    // that of a secret is in no answer: whether it differs only the daemon knows
    if spec["Data"].is_string() && spec["Data"] != wanted.body["Data"] {
        fields.push("Data: another version".to_owned());
    }
    fields
}

const UPDATE: [(&str, &str); 4] = [
    ("UpdateConfig.FailureAction", "pause"),
    ("UpdateConfig.Order", "stop-first"),
    ("RollbackConfig.FailureAction", "pause"),
    ("RollbackConfig.Order", "stop-first"),
];

/// A spec in which what says the same looks the same: defaults are filled in, what says nothing is left out, lists without
/// an order are sorted, and what a deploy leaves alone is not there.
fn normal(spec: &Value, networks: &BTreeMap<String, String>) -> Value {
    let mut spec = spec.clone();
    let is_job = ["ReplicatedJob", "GlobalJob"].iter().any(|mode| spec["Mode"].get(mode).is_some());
    let mut defaults = vec![
        ("TaskTemplate.RestartPolicy.Condition", Value::from("any")),
        ("TaskTemplate.RestartPolicy.Delay", Value::from(5_000_000_000_u64)),
        ("TaskTemplate.ContainerSpec.StopGracePeriod", Value::from(10_000_000_000_u64)),
        ("EndpointSpec.Mode", Value::from("vip")),
    ];
    if !is_job {
        defaults.extend(UPDATE.iter().map(|(path, word)| (*path, Value::from(*word))));
        for config in ["UpdateConfig.Parallelism", "RollbackConfig.Parallelism"] {
            defaults.push((config, 1.into()));
        }
        for config in ["UpdateConfig.Monitor", "RollbackConfig.Monitor"] {
            defaults.push((config, 5_000_000_000_u64.into()));
        }
    }
    for (path, value) in defaults {
        if get(&spec, path).is_none() {
            set(&mut spec, path, value);
        }
    }
    for attachment in spec["TaskTemplate"]["Networks"].as_array_mut().into_iter().flatten() {
        if let Some(name) = networks.get(&text(&attachment["Target"])) {
            attachment["Target"] = name.as_str().into();
        }
    }
    let image = text(&spec["Labels"][IMAGE]);
    let actual = text(&spec["TaskTemplate"]["ContainerSpec"]["Image"]);
    // one with a digest is the one that the label names
    if !image.is_empty() && (actual.split('@').next() == Some(&full(&image)) || actual == image) {
        set(&mut spec, "TaskTemplate.ContainerSpec.Image", full(&image));
    }
    without_nothing(&mut spec);
    spec
}

/// With the tag that an image without one has.
fn full(image: &str) -> String {
    image
        .parse::<types::ImageReference>()
        .map_or_else(|_| image.to_owned(), |image| image.with_default_tag().familiar())
}

/// What clients of the cluster do not say, and what is counted up by it.
const UNSAID: [&str; 9] =
    ["ForceUpdate", "Runtime", "Isolation", "Platforms", "SecretID", "ConfigID", "Disconnect", "Schedule", "Mesh"];
/// Lists whose order means something.
const ORDERED: [&str; 5] = ["Command", "Args", "Test", "Nameservers", "Preferences"];

fn without_nothing(value: &mut Value) {
    if let Value::Object(map) = value {
        for (name, inner) in map.iter_mut() {
            without_nothing(inner);
            if let (Value::Array(items), false) = (inner, ORDERED.contains(&name.as_str())) {
                items.sort_by_key(canonical);
            }
        }
        map.retain(|name, inner| !UNSAID.contains(&name.as_str()) && !is_nothing(name, inner));
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(without_nothing);
    }
}

fn is_nothing(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0) && !matches!(name, "Replicas" | "Parallelism"),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty() && !matches!(name, "Global" | "GlobalJob"),
        Value::Bool(true) => false,
    }
}

/// The same text whatever the order of the keys.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, String> = map.iter().map(|(key, value)| (key, canonical(value))).collect();
            format!("{sorted:?}")
        }
        other => other.to_string(),
    }
}

/// What a revision changed, in a column of a table: shortened unless all of it is asked for.
pub(crate) fn in_column(changes: String, whole: bool) -> String {
    /// Of a change in the table; `--no-trunc` shows all of it.
    const WIDEST: usize = 80;
    match whole || changes.chars().count() <= WIDEST {
        true => changes,
        false => changes.chars().take(WIDEST - 1).chain(['…']).collect(),
    }
}

/// `path: old -> new`, of lists `path: + new` and `path: - old`.
pub(crate) fn differences(new: &Value, old: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    collect(new, old, "", &mut lines);
    lines
}

fn collect(new: &Value, old: &Value, path: &str, lines: &mut Vec<String>) {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            let keys: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
            for key in keys {
                let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                collect(&of(new), &of(old), &inner, lines);
            }
        }
        (Value::Array(new), Value::Array(old)) => collect_list(new, old, path, lines),
        (Value::Object(new), Value::Null) => {
            for (key, value) in new {
                collect(value, &Value::Null, &format!("{path}.{key}"), lines);
            }
        }
        (Value::Null, Value::Object(old)) => {
            for (key, value) in old {
                collect(&Value::Null, value, &format!("{path}.{key}"), lines);
            }
        }
        (Value::Array(_), Value::Null) => collect(new, &json!([]), path, lines),
        (Value::Null, Value::Array(_)) => collect(&json!([]), old, path, lines),
        (new, old) if new == old => {}
        (new, Value::Null) => lines.push(format!("{path}: + {new}")),
        (Value::Null, old) => lines.push(format!("{path}: - {old}")),
        (new, old) => lines.push(format!("{path}: {old} -> {new}")),
    }
}

fn collect_list(new: &[Value], old: &[Value], path: &str, lines: &mut Vec<String>) {
    let has = |list: &[Value], one: &Value| list.iter().any(|other| canonical(other) == canonical(one));
    let gone = old.iter().filter(|one| !has(new, one)).map(|one| format!("{path}: - {one}"));
    let come = new.iter().filter(|one| !has(old, one)).map(|one| format!("{path}: + {one}"));
    let found: Vec<String> = gone.chain(come).collect();
    if found.is_empty() && !new.iter().map(canonical).eq(old.iter().map(canonical)) {
        lines.push(format!("{path}: the same in another order or number"));
    }
    lines.extend(found);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// K-08: defaults, order and digests are no differences; what differs is named by its path.
    #[test]
    fn k_08_only_what_differs() {
        let wanted = json!({
            "Name": "s_a", "Labels": { IMAGE: "nginx", NAMESPACE: "s" },
            "Mode": { "Replicated": { "Replicas": 2 } },
            "TaskTemplate": {
                "ContainerSpec": { "Image": "nginx", "Env": ["A=1", "B=2"], "Args": ["x", "y"], "Init": false,
                    "Secrets": [{ "SecretName": "pw", "File": { "Name": "pw" } }] },
                "Networks": [{ "Target": "s_default", "Aliases": ["a"] }],
                "Placement": { "Constraints": ["node.role == manager"] },
            },
        });
        let mut live = json!({
            "Name": "s_a", "Labels": { NAMESPACE: "s", IMAGE: "nginx" },
            "Mode": { "Replicated": { "Replicas": 2 } },
            "TaskTemplate": {
                "ContainerSpec": { "Image": "nginx:latest@sha256:00", "Env": ["B=2", "A=1"], "Args": ["x", "y"],
                    "StopGracePeriod": 10_000_000_000_u64, "DNSConfig": {}, "Isolation": "default",
                    "Secrets": [{ "SecretID": "id", "SecretName": "pw", "File": { "Name": "pw" } }] },
                "Resources": { "Limits": {}, "Reservations": {} },
                "RestartPolicy": { "Condition": "any", "Delay": 5_000_000_000_u64, "MaxAttempts": 0 },
                "Networks": [{ "Aliases": ["a"], "Target": "id" }], "ForceUpdate": 3, "Runtime": "container",
                "Placement": { "Constraints": ["node.role == manager"] },
            },
            "UpdateConfig": { "Parallelism": 1, "FailureAction": "pause", "Monitor": 5_000_000_000_u64, "MaxFailureRatio": 0,
                "Order": "stop-first" },
            "EndpointSpec": { "Mode": "vip" },
        });
        let names = BTreeMap::from([("id".to_owned(), "s_default".to_owned())]);
        let lines = |live: &Value| differences(&normal(&wanted, &BTreeMap::new()), &normal(live, &names));
        assert_eq!(lines(&live), Vec::<String>::new());
        let container = &mut live["TaskTemplate"]["ContainerSpec"];
        container["Env"] = json!(["B=3", "A=1"]);
        container["Args"] = json!(["y", "x"]);
        container["User"] = "me".into();
        live["Mode"]["Replicated"]["Replicas"] = 0.into();
        live["UpdateConfig"]["Parallelism"] = 4.into();
        expect![[r#"
            Mode.Replicated.Replicas: 0 -> 2
            TaskTemplate.ContainerSpec.Args: the same in another order or number
            TaskTemplate.ContainerSpec.Env: - "B=3"
            TaskTemplate.ContainerSpec.Env: + "B=2"
            TaskTemplate.ContainerSpec.User: - "me"
            UpdateConfig.Parallelism: 4 -> 1"#]]
        .assert_eq(&lines(&live).join("\n"));
    }
}
