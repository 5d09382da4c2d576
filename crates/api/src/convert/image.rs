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

/// Newest first. An entry that is not empty is a layer, in their order. The image and those that it was made of here are
/// shown at theirs: each commit adds one (moby `daemon/images/image_history.go`).
pub(crate) fn write_history(image: &ImageDetail, lineage: &[ImageSummary]) -> Value {
    let mut layers = image.layer_bytes.iter();
    let sizes: Vec<u64> = image
        .config
        .history
        .iter()
        .map(|entry| if entry.empty_layer { 0 } else { layers.next().copied().unwrap_or(0) })
        .collect();
    let mut lineage = lineage.iter();
    let mut lines: Vec<Value> = Vec::new();
    for (entry, size) in image.config.history.iter().zip(sizes).rev() {
        let created = entry.created.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let own = lineage.next();
        let tags = own.map(|own| &own.repo_tags).filter(|tags| !tags.is_empty());
        lines.push(json!({
            "Id": own.map_or_else(|| "<missing>".to_owned(), |own| own.id.to_string()),
            "Created": created.map_or(0, jiff::Timestamp::as_second),
            "CreatedBy": entry.created_by,
            "Tags": tags,
            "Size": size,
            "Comment": entry.comment,
        }));
    }
    Value::Array(lines)
}

#[cfg(test)]
mod tests {
    use node::image::{Digest, HistoryEntry, ImageConfig};

    use super::*;

    fn summary(name: &str, tags: &[&str]) -> ImageSummary {
        ImageSummary {
            id: Digest::of(name.as_bytes()),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            repo_digests: Vec::new(),
            created: 0,
            created_ns: 0,
            size: 0,
            labels: std::collections::BTreeMap::new(),
            parent: None,
            has_children: false,
            containers: 0,
        }
    }

    /// E-10: an image that was committed from a committed one has three entries, two of which are images here.
    #[test]
    fn e_10_history_shows_the_images_along_the_parents() {
        let entry =
            |by: &str, empty_layer| HistoryEntry { created_by: by.to_owned(), empty_layer, ..HistoryEntry::default() };
        let history = vec![entry("base", false), entry("first", true), entry("second", false)];
        let image = ImageDetail {
            summary: summary("child", &["child:1", "child:2"]),
            manifest_digest: Digest::of(b"manifest"),
            tagged: None,
            config: ImageConfig { history, ..ImageConfig::default() },
            layer_bytes: vec![100, 7],
            layer_paths: Vec::new(),
        };
        let shown = |lineage: &[ImageSummary]| -> Vec<(String, Value, u64)> {
            let lines = write_history(&image, lineage);
            let line = |line: &Value| {
                let id = line["Id"].as_str().unwrap_or_default().to_owned();
                (id, line["Tags"].clone(), line["Size"].as_u64().unwrap_or_default())
            };
            lines.as_array().map(|lines| lines.iter().map(line).collect()).unwrap_or_default()
        };
        let (child, parent) = (image.summary.clone(), summary("parent", &[]));
        assert_eq!(
            shown(&[child.clone(), parent.clone()]),
            [
                (child.id.to_string(), json!(["child:1", "child:2"]), 7),
                (parent.id.to_string(), Value::Null, 0),
                ("<missing>".to_owned(), Value::Null, 100),
            ]
        );
        assert_eq!(shown(&[child])[1].0, "<missing>", "its parent was removed or never here");
    }
}
