//! Images as Docker's API shows them.

use node::image::{ImageDetail, ImageSummary};
use serde_json::{Value, json};

use super::writer::Fields;

pub(crate) fn write_summary(image: &ImageSummary) -> Value {
    json!({
        "Containers": -1,
        "Created": image.created,
        "Id": image.id.to_string(),
        "Labels": image.labels,
        "ParentId": parent(image),
        "RepoDigests": image.repo_digests,
        "RepoTags": image.repo_tags,
        "SharedSize": -1,
        "Size": image.size,
    })
}

fn parent(image: &ImageSummary) -> String {
    image.parent.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// A time that there was not, as Go writes it.
const NEVER: &str = "0001-01-01T00:00:00Z";

pub(crate) fn write_detail(image: &ImageDetail, storage_driver: &str) -> Value {
    let config = &image.config;
    let layers: Vec<String> = config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
    let comment = config.history.last().map_or("", |entry| entry.comment.as_str());
    Fields::new()
        .set("Id", image.summary.id.to_string())
        .set("RepoTags", &image.summary.repo_tags)
        .set("RepoDigests", &image.summary.repo_digests)
        .set("Parent", parent(&image.summary))
        .set("Comment", comment)
        .some("Created", config.created.as_deref())
        .set("DockerVersion", "")
        .set("Author", &config.author)
        .set("Config", &config.config)
        .set("Architecture", &config.architecture)
        .some("Variant", config.variant.as_ref())
        .set("Os", &config.os)
        .set("Size", image.summary.size)
        .set("GraphDriver", json!({ "Data": driver_data(image), "Name": storage_driver }))
        .set("RootFS", json!({ "Type": "layers", "Layers": layers }))
        .set("Metadata", json!({ "LastTagTime": image.tagged.as_deref().unwrap_or(NEVER) }))
        .done()
}

/// Where the layers lie, the top one apart, as Docker has it.
fn driver_data(image: &ImageDetail) -> Value {
    let mut paths = image.layer_paths.iter().rev().map(|path| path.display().to_string());
    let Some(upper) = paths.next() else { return Value::Null };
    let lower: Vec<String> = paths.collect();
    let mut data = json!({ "UpperDir": upper });
    if !lower.is_empty() {
        data["LowerDir"] = lower.join(":").into();
    }
    data
}

/// Newest first. An entry that is not empty is a layer, in their order.
pub(crate) fn write_history(image: &ImageDetail) -> Value {
    let mut layers = image.layer_bytes.iter();
    let sizes: Vec<u64> = image
        .config
        .history
        .iter()
        .map(|entry| if entry.empty_layer { 0 } else { layers.next().copied().unwrap_or(0) })
        .collect();
    let mut lines: Vec<Value> = Vec::new();
    for (at, (entry, size)) in image.config.history.iter().zip(sizes).rev().enumerate() {
        let created = entry.created.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let id = if at == 0 { image.summary.id.to_string() } else { "<missing>".to_owned() };
        lines.push(json!({
            "Id": id,
            "Created": created.map_or(0, jiff::Timestamp::as_second),
            "CreatedBy": entry.created_by,
            "Tags": if at == 0 { json!(image.summary.repo_tags) } else { Value::Null },
            "Size": size,
            "Comment": entry.comment,
        }));
    }
    Value::Array(lines)
}
