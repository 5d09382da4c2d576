//! The published ports of a spec under `--publish`, `--publish-add` and `--publish-rm`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    edit::{get, set},
    port,
};

const AT: &str = "EndpointSpec.Ports";

/// Target and protocol.
type Target = (u64, String);

/// Removes, then adds. A port that does what one of the spec does takes its place if both were at one place of a host.
pub(super) fn change(spec: &mut Value, add: &[String], remove: &[String]) -> anyhow::Result<()> {
    let (added, removed) = (parse_all(add)?, parse_all(remove)?);
    if added.is_empty() && removed.is_empty() {
        return Ok(());
    }
    let present = get(spec, AT).and_then(Value::as_array).cloned();
    let is_absent = present.is_none();
    let present = present.unwrap_or_default();
    let known: BTreeSet<_> = present.iter().map(kind).collect();
    let mut places: BTreeMap<_, Vec<&Value>> = BTreeMap::new();
    for port in &added {
        places.entry(kind(port)).or_default().push(port);
    }
    let removed: BTreeSet<(Target, Option<u64>)> =
        removed.iter().map(|port| (target(port), port["PublishedPort"].as_u64())).collect();
    let is_removed = |port: &Value| {
        removed.contains(&(target(port), None)) || removed.contains(&(target(port), port["PublishedPort"].as_u64()))
    };
    let is_replaced =
        |port: &Value| places.get(&kind(port)).is_some_and(|new| new.iter().any(|new| overlap(new, port)));
    let mut ports: Vec<Value> =
        present.iter().filter(|port| !is_removed(port) && !is_replaced(port)).cloned().collect();
    // said outright, else the server takes it for left out and keeps what the one before had
    ports.extend(added.iter().map(|port| if known.contains(&kind(port)) { said_outright(port) } else { port.clone() }));
    if !(is_absent && ports.is_empty()) {
        set(spec, AT, ports);
    }
    Ok(())
}

fn parse_all(options: &[String]) -> anyhow::Result<Vec<Value>> {
    let mut ports = Vec::new();
    for text in options {
        ports.extend(port::parse(text)?);
    }
    Ok(ports)
}

fn word(port: &Value, field: &str, default: &str) -> String {
    port[field].as_str().filter(|text| !text.is_empty()).unwrap_or(default).to_owned()
}

fn target(port: &Value) -> Target {
    (port["TargetPort"].as_u64().unwrap_or(0), word(port, "Protocol", "tcp"))
}

/// All of a port but where on a host it is.
fn kind(port: &Value) -> (Target, Option<u64>, String) {
    let published = port["PublishedPort"].as_u64().filter(|number| *number != 0);
    (target(port), published, word(port, "PublishMode", "ingress"))
}

/// Whether two ports of one kind could not be beside each other.
fn overlap(one: &Value, other: &Value) -> bool {
    let place = |port: &Value| (word(port, "HostIP", ""), word(port, "Interface", ""));
    let anywhere = (String::new(), String::new());
    place(one) == place(other) || place(one) == anywhere || place(other) == anywhere
}

fn said_outright(port: &Value) -> Value {
    let mut port = port.clone();
    for (field, nothing) in [("HostIP", Value::from("")), ("ProxyProtocol", Value::from(false))] {
        if port[field].is_null() {
            port[field] = nothing;
        }
    }
    port
}
