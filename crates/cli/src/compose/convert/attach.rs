//! What a service takes part in or is given: networks, secrets, configs.

use serde_json::{Map, Value, json};

use super::{texts, topology::Topology};
use crate::compose::check::{Check, Field, Fields};

/// Everybody in the container may read it, as docker has it.
const DEFAULT_MODE: u32 = 0o444;

const ATTACHMENT: &[&str] = &[
    "aliases",
    "driver_opts",
    "ipv4_address",
    "ipv6_address",
    "link_local_ips",
    "mac_address",
    "priority",
    "gw_priority",
    "interface_name",
];

/// `TaskTemplate.Networks`, in the order of names as docker has it; `used` gets the names.
pub(super) fn networks(
    key: &str,
    fields: &Fields<'_>,
    service: &Field<'_>,
    topology: &Topology,
    used: &mut Vec<String>,
    check: &mut Check,
) -> Vec<Value> {
    let mut attachments: Vec<(String, Value)> = Vec::new();
    let mut add = |name: &str, field: &Field<'_>, inner: Option<&Fields<'_>>, check: &mut Check| {
        let Some(target) = topology.network(name, field, check) else { return };
        let mut aliases = inner.and_then(|inner| inner.get("aliases")).map(|a| a.texts(check)).unwrap_or_default();
        aliases.push(key.to_owned());
        let mut attachment = json!({ "Target": target, "Aliases": aliases });
        if let Some(options) = inner.and_then(|inner| inner.get("driver_opts")) {
            attachment["DriverOpts"] = Value::Object(texts(options.pairs(check)));
        }
        used.push(target.clone());
        match attachments.iter().any(|(known, _)| *known == target) {
            true => field.wrong(check, format!("the service is attached to network {target} twice")),
            false => attachments.push((target, attachment)),
        }
    };
    match fields.get("networks") {
        None => add("default", service, None, check),
        Some(field) if field.is_map() => {
            for (name, entry) in field.entries(check) {
                let inner = entry.fields(check, ATTACHMENT);
                for lost in &ATTACHMENT[2..] {
                    if let Some(one) = inner.get(lost) {
                        one.warn(check, "ignored: services have no such setting, each task gets its own address");
                    }
                }
                add(name, &entry, Some(&inner), check);
            }
        }
        Some(field) => {
            for item in field.items(check) {
                if let Some(name) = item.text(check) {
                    add(&name, &item, None, check);
                }
            }
        }
    }
    attachments.sort_by(|(a, _), (b, _)| a.cmp(b));
    attachments.into_iter().map(|(_, attachment)| attachment).collect()
}

/// `ContainerSpec.Secrets` or `.Configs`.
pub(super) fn files(field: Option<&Field<'_>>, is_secret: bool, topology: &Topology, check: &mut Check) -> Vec<Value> {
    let Some(field) = field else { return Vec::new() };
    let name_field = if is_secret { "SecretName" } else { "ConfigName" };
    let mut found: Vec<(String, Value)> = Vec::new();
    for item in field.items(check) {
        let inner = match item.is_map() {
            true => item.fields(check, &["source", "target", "uid", "gid", "mode"]),
            false => item.clone().fields(&mut Check::default(), &[]),
        };
        let source = if item.is_map() { check.text(inner.get("source")) } else { item.text(check) };
        let Some(source) = source else {
            if item.is_map() && inner.get("source").is_none() {
                item.wrong(check, "source is missing: name the one that is meant");
            }
            continue;
        };
        let name = match is_secret {
            true => topology.secret(&source, &item, check),
            false => topology.config(&source, &item, check),
        };
        let text = |key: &str, default: &str, check: &mut Check| {
            check.text(inner.get(key)).unwrap_or_else(|| default.to_owned())
        };
        // in the container the name of the file counts, not that of the cluster
        let target = text("target", &source, check);
        let file = json!({
            "Name": target, "UID": text("uid", "0", check), "GID": text("gid", "0", check),
            "Mode": inner.get("mode").and_then(|field| field.mode(check)).unwrap_or(DEFAULT_MODE),
        });
        let mut entry = Map::new();
        entry.insert("File".to_owned(), file);
        entry.insert(name_field.to_owned(), name.unwrap_or_default().into());
        match found.iter().any(|(known, _)| *known == target) {
            true => item.wrong(check, format!("two of them are at {target:?} in the container")),
            false => found.push((target, Value::Object(entry))),
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found.into_iter().map(|(_, entry)| entry).collect()
}
