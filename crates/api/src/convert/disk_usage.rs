//! What objects take on the disk, in numbers: of one host from the lists of `GET /system/df`, and of all nodes (P27), with what was pruned
//! there. Docker's clients count for themselves; the form is rswarm's own.

use serde_json::{Map, Value, json};
use types::Node;

use super::writer::Fields;

/// The kinds of objects: the names of the lists, and of the numbers in their place.
const KINDS: [&str; 4] = ["Images", "Containers", "Volumes", "BuildCache"];

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// In place of each list that was asked for: how many, how many in use, bytes, and bytes of those that are not in use.
pub(crate) fn summary(found: &Value) -> Value {
    let mut summary = Map::new();
    for kind in KINDS {
        let Some(list) = found[kind].as_array() else { continue };
        let numbers = match kind {
            "Images" => of_images(list, number(&found["LayersSize"])),
            "Containers" => {
                let is_up = |one: &Value| matches!(one["State"].as_str(), Some("running" | "paused" | "restarting"));
                parted(list, is_up, |one| number(&one["SizeRw"]))
            }
            "Volumes" => {
                let is_used = |one: &Value| number(&one["UsageData"]["RefCount"]) > 0;
                parted(list, is_used, |one| number(&one["UsageData"]["Size"]))
            }
            _ => parted(list, |one| one["InUse"] == true, |one| number(&one["Size"])),
        };
        summary.insert(kind.to_owned(), numbers);
    }
    summary.into()
}

/// Layers count once, however many images have them; an image in use keeps what it shares, too.
fn of_images(images: &[Value], layer_bytes: u64) -> Value {
    let own = |image: &Value| number(&image["Size"]).saturating_sub(number(&image["SharedSize"]));
    let used: Vec<u64> = images.iter().filter(|image| number(&image["Containers"]) > 0).map(own).collect();
    numbers(images.len(), used.len(), layer_bytes, layer_bytes.saturating_sub(used.iter().sum()))
}

fn parted(list: &[Value], is_used: impl Fn(&Value) -> bool, bytes: impl Fn(&Value) -> u64) -> Value {
    let (used, spare): (Vec<&Value>, Vec<&Value>) = list.iter().partition(|one| is_used(one));
    let sum = |some: &[&Value]| -> u64 { some.iter().map(|one| bytes(one)).sum() };
    numbers(list.len(), used.len(), sum(&used) + sum(&spare), sum(&spare))
}

fn numbers(total: usize, active: usize, bytes: u64, spare_bytes: u64) -> Value {
    json!({ "TotalCount": total, "ActiveCount": active, "TotalSize": bytes, "Reclaimable": spare_bytes })
}

fn named(node: &Node, error: Option<&String>) -> Fields {
    Fields::new().set("NodeID", node.id).set("Node", node.shown_name()).set("Error", error)
}

/// One of several nodes: its numbers, or why it did not say them.
pub(crate) fn write_usage(node: &Node, said: &Result<Value, String>) -> Value {
    let line = named(node, said.as_ref().err());
    match said {
        Ok(usage) => KINDS.iter().fold(line, |line, kind| line.set(kind, &usage[*kind])).done(),
        Err(_) => line.done(),
    }
}

/// What a node said that it removed, and why it did not do all of it.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    /// The lists, by their names in Docker's answers.
    pub(crate) lists: Vec<(&'static str, Value)>,
    pub(crate) bytes: u64,
    pub(crate) error: Option<String>,
}

/// One of several nodes.
pub(crate) fn write_pruned(node: &Node, pruned: &Pruned) -> Value {
    let line = named(node, pruned.error.as_ref());
    let line = pruned.lists.iter().fold(line, |line, (name, list)| line.set(name, list));
    line.set("SpaceReclaimed", pruned.bytes).done()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P27: counted as Docker's clients do it, and of what was asked for alone.
    #[test]
    fn p27_lists_become_numbers() {
        let container = |state: &str, bytes: u64| json!({ "State": state, "SizeRw": bytes });
        let volume = |users: u64, bytes: u64| json!({ "UsageData": { "RefCount": users, "Size": bytes } });
        let found = json!({
            "LayersSize": 111,
            "Images": [
                { "Size": 110, "SharedSize": 100, "Containers": 2 },
                { "Size": 101, "SharedSize": 100, "Containers": 0 },
            ],
            "Containers": [container("running", 5), container("exited", 7), { "State": "created" }],
            "Volumes": [volume(1, 20), volume(0, 3)],
        });
        assert_eq!(
            summary(&found),
            json!({
                "Images": numbers(2, 1, 111, 101),
                "Containers": numbers(3, 1, 12, 7),
                "Volumes": numbers(2, 1, 23, 3),
            })
        );
        let builds = summary(&json!({ "Images": null, "BuildCache": [] }));
        assert_eq!(builds, json!({ "BuildCache": numbers(0, 0, 0, 0) }));
    }
}
