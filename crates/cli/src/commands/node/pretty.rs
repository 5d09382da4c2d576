//! `node inspect --pretty`.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};

use super::super::{
    info::text,
    tasks::{items, title},
};
use crate::output::units::binary_size;

pub(super) fn node(node: &Value) -> String {
    let mut out = String::new();
    let mut line = |indent: usize, name: &str, value: String| {
        let label = format!("{:indent$}{name}:", "");
        let _ = writeln!(out, "{}", format!("{label:<24}{value}").trim_end());
    };
    let description = &node["Description"];
    line(0, "ID", text(&node["ID"]));
    if !text(&node["Spec"]["Name"]).is_empty() {
        line(0, "Name", text(&node["Spec"]["Name"]));
    }
    labels(&node["Spec"]["Labels"], &mut line);
    line(0, "Hostname", text(&description["Hostname"]));
    line(0, "Joined at", text(&node["CreatedAt"]));
    line(0, "Status", String::new());
    line(1, "State", super::status(node).to_owned());
    if !text(&node["Status"]["Message"]).is_empty() {
        line(1, "Message", text(&node["Status"]["Message"]));
    }
    for peer in items(&node["Status"]["PeerProblems"]) {
        let (by, detail) = (text(&peer["NodeID"]), text(&peer["Detail"]));
        line(1, "Not reached by", format!("{by}: {detail}"));
    }
    line(1, "Availability", title(&text(&node["Spec"]["Availability"])));
    line(1, "Address", text(&node["Status"]["Addr"]));
    let manager = &node["ManagerStatus"];
    if manager.is_object() {
        line(0, "Manager Status", String::new());
        line(1, "Address", text(&manager["Addr"]));
        line(1, "Raft Status", title(&text(&manager["Reachability"])));
        line(1, "Leader", if manager["Leader"] == json!(true) { "Yes" } else { "No" }.to_owned());
    }
    line(0, "Platform", String::new());
    line(1, "Operating System", text(&description["Platform"]["OS"]));
    line(1, "Architecture", text(&description["Platform"]["Architecture"]));
    line(0, "Resources", String::new());
    line(1, "CPUs", (description["Resources"]["NanoCPUs"].as_u64().unwrap_or(0) / 1_000_000_000).to_string());
    line(1, "Memory", binary_size(description["Resources"]["MemoryBytes"].as_u64().unwrap_or(0)));
    plugins(&description["Engine"]["Plugins"], &mut line);
    line(0, "Engine Version", super::version(node));
    labels(&description["Engine"]["Labels"], &mut line);
    out.push('\n');
    out
}

/// What the node makes networks, volumes and logs with.
fn plugins(plugins: &Value, line: &mut impl FnMut(usize, &str, String)) {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for plugin in items(plugins) {
        kinds.entry(text(&plugin["Type"])).or_default().push(text(&plugin["Name"]));
    }
    if !kinds.is_empty() {
        line(0, "Plugins", String::new());
    }
    for (kind, names) in &kinds {
        line(1, kind, names.join(", "));
    }
}

fn labels(labels: &Value, line: &mut impl FnMut(usize, &str, String)) {
    let Some(labels) = labels.as_object().filter(|labels| !labels.is_empty()) else { return };
    line(0, "Labels", String::new());
    for (key, value) in labels {
        line(1, key, text(value));
    }
}
