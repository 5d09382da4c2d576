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
        "ParentId": "",
        "RepoDigests": image.repo_digests,
        "RepoTags": image.repo_tags,
        "SharedSize": -1,
        "Size": image.size,
    })
}

pub(crate) fn write_detail(image: &ImageDetail) -> Value {
    let config = &image.config;
    let layers: Vec<String> = config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
    let comment = config.history.last().map_or("", |entry| entry.comment.as_str());
    Fields::new()
        .set("Id", image.summary.id.to_string())
        .set("RepoTags", &image.summary.repo_tags)
        .set("RepoDigests", &image.summary.repo_digests)
        .set("Parent", "")
        .set("Comment", comment)
        .set("Created", config.created.as_deref().unwrap_or("0001-01-01T00:00:00Z"))
        .set("DockerVersion", "")
        .set("Author", &config.author)
        .set("Config", &config.config)
        .set("Architecture", &config.architecture)
        .some("Variant", config.variant.as_ref())
        .set("Os", &config.os)
        .set("Size", image.summary.size)
        .set("GraphDriver", json!({ "Data": null, "Name": "overlay2" }))
        .set("RootFS", json!({ "Type": "layers", "Layers": layers }))
        .set("Metadata", json!({ "LastTagTime": "0001-01-01T00:00:00Z" }))
        .done()
}

/// Newest first; sizes of single layers are not kept.
pub(crate) fn write_history(image: &ImageDetail) -> Value {
    let mut lines: Vec<Value> = Vec::new();
    for (at, entry) in image.config.history.iter().rev().enumerate() {
        let created = entry.created.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let id = if at == 0 { image.summary.id.to_string() } else { "<missing>".to_owned() };
        lines.push(json!({
            "Id": id,
            "Created": created.map_or(0, jiff::Timestamp::as_second),
            "CreatedBy": entry.created_by,
            "Tags": if at == 0 { json!(image.summary.repo_tags) } else { Value::Null },
            "Size": 0,
            "Comment": entry.comment,
        }));
    }
    Value::Array(lines)
}
