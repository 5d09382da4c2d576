//! `--network`: `NAME` or `name=NAME,alias=ALIAS,driver-opt=KEY=VALUE` (parity S-75).

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Map, Value, json};

use super::{
    edit::{get, set},
    fields,
};

const AT: &str = "TaskTemplate.Networks";

/// Ids of networks by what the user called them.
pub(crate) type Ids = BTreeMap<String, String>;

/// One attachment; its target is what the user wrote.
pub(crate) fn parse(text: &str) -> anyhow::Result<Value> {
    if !text.contains('=') {
        return Ok(json!({ "Target": text }));
    }
    read_long(text).with_context(|| format!("invalid network option {text:?}"))
}

fn read_long(text: &str) -> anyhow::Result<Value> {
    let fields = fields::split(text);
    let (mut target, mut aliases, mut options) = ("", Vec::new(), Map::new());
    for field in &fields {
        let (key, value) = field.split_once('=').with_context(|| format!("{field:?} is not KEY=VALUE"))?;
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => target = value,
            "alias" => aliases.push(value),
            "driver-opt" => {
                let (name, value) = value.split_once('=').with_context(|| format!("{value:?} is not KEY=VALUE"))?;
                options.insert(name.to_owned(), Value::from(value));
            }
            other => bail!("unexpected key {other:?}; known are name, alias and driver-opt"),
        }
    }
    ensure!(!target.is_empty(), "name is missing: write name=NETWORK");
    let mut network = json!({ "Target": target });
    if !aliases.is_empty() {
        network["Aliases"] = Value::from(aliases);
    }
    if !options.is_empty() {
        network["DriverOpts"] = Value::from(options);
    }
    Ok(network)
}

/// The names of the networks that flags speak of: to be looked up.
pub(crate) fn names(add: &[String], remove: &[String]) -> anyhow::Result<Vec<String>> {
    let mut names = remove.to_vec();
    for text in add {
        names.push(parse(text)?["Target"].as_str().unwrap_or_default().to_owned());
    }
    Ok(names)
}

/// Removes, then adds. The spec holds ids.
pub(crate) fn change(spec: &mut Value, add: &[String], remove: &[String], ids: &Ids) -> anyhow::Result<()> {
    if add.is_empty() && remove.is_empty() {
        return Ok(());
    }
    let id = |name: &str| ids.get(name).cloned().unwrap_or_else(|| name.to_owned());
    let removed: Vec<String> = remove.iter().map(|name| id(name)).collect();
    let mut networks = get(spec, AT).and_then(Value::as_array).cloned().unwrap_or_default();
    networks.retain(|network| !removed.iter().any(|id| network["Target"] == id.as_str()));
    for text in add {
        let mut network = parse(text)?;
        let name = network["Target"].as_str().unwrap_or_default().to_owned();
        network["Target"] = Value::from(id(&name));
        let is_twice = networks.iter().any(|other| other["Target"] == network["Target"]);
        ensure!(!is_twice, "service is already attached to network {name}");
        networks.push(network);
    }
    set(spec, AT, networks);
    Ok(())
}
