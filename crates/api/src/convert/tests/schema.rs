//! What is written, against the schema that clients have.

use serde_json::{Value, json};

/// Fields that Docker has for single containers only, and words for rollouts and versions that it does not have.
const BEYOND: [&str; 11] = [
    "ContainerSpec.Privileged",
    "ContainerSpec.Devices",
    "ContainerSpec.DeviceRequests",
    "ContainerSpec.PidMode",
    "ContainerSpec.IpcMode",
    "ContainerSpec.ShmSize",
    "ContainerSpec.CpusetCpus",
    "ContainerSpec.CpusetMems",
    "UpdateConfig.ProgressDeadline",
    "Revision",
    "Engine.RswarmVersion",
];

/// What a client with the schema's types sees is all there is: no field of ours is spelt wrong or
/// has another shape.
pub(super) fn check_schema<T: serde::Serialize + serde::de::DeserializeOwned>(value: &Value, own_fields: &[&str]) {
    let typed: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value:#}"));
    let back = serde_json::to_value(&typed).expect("models are JSON");
    let mut missing = Vec::new();
    collect_missing("", value, &back, &mut missing);
    missing.retain(|path| !own_fields.contains(&path.as_str()) && !BEYOND.iter().any(|own| path.ends_with(own)));
    assert!(missing.is_empty(), "not in the schema: {missing:?}");
}

fn collect_missing(path: &str, ours: &Value, theirs: &Value, missing: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, value) in ours {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match theirs.get(key) {
                    Some(other) => collect_missing(&path, value, other, missing),
                    None if value.is_null() || *value == json!({}) => {}
                    None => missing.push(path),
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            ours.iter().zip(theirs).for_each(|(ours, theirs)| collect_missing(path, ours, theirs, missing));
        }
        _ => {}
    }
}
