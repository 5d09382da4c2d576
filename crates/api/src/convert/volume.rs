//! Volumes: Docker's JSON.

use node::engine::volumes::{VolumeSpec, VolumeView};
use serde_json::{Value, json};

use super::{
    reader::{FieldError, Object},
    time::rfc3339,
    writer::Fields,
};

/// The body of `POST /volumes/create`; none at all asks for an anonymous volume.
pub(crate) fn read(body: &Value) -> Result<VolumeSpec, FieldError> {
    if body.is_null() {
        return Ok(VolumeSpec::default());
    }
    let mut from = Object::root(body)?;
    let spec = VolumeSpec {
        name: from.string("Name")?,
        driver: from.string("Driver")?,
        options: from.labels("DriverOpts")?,
        labels: from.labels("Labels")?,
    };
    if from.has("ClusterVolumeSpec") {
        return Err(from.bad("ClusterVolumeSpec", "volumes of the cluster need a CSI plugin, which is not supported"));
    }
    from.finish()?;
    Ok(spec)
}

/// One volume; `bytes` where its size was asked for.
pub(crate) fn write(volume: &VolumeView, bytes: Option<u64>) -> Value {
    let options = if volume.options.is_empty() { Value::Null } else { json!(volume.options) };
    let labels = if volume.labels.is_empty() { Value::Null } else { json!(volume.labels) };
    let usage = bytes.map(|bytes| json!({ "RefCount": volume.users.len(), "Size": bytes }));
    Fields::new()
        .set("CreatedAt", rfc3339(volume.created))
        .set("Driver", volume.driver)
        .set("Labels", labels)
        .set("Mountpoint", volume.mountpoint.display().to_string())
        .set("Name", &volume.name)
        .set("Options", options)
        .set("Scope", "local")
        .some("UsageData", usage)
        .done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_and_what_is_not_there_is_refused() {
        let body = json!({ "Name": "db", "Driver": "local", "DriverOpts": { "type": "tmpfs" }, "Labels": null });
        let spec = read(&body).expect("read");
        assert_eq!((spec.name.as_str(), spec.options["type"].as_str()), ("db", "tmpfs"));
        assert_eq!(read(&Value::Null), Ok(VolumeSpec::default()));
        for (bad, part) in
            [(json!({ "Name": 5 }), "Name"), (json!({ "ClusterVolumeSpec": { "Group": "g" } }), "CSI"), (json!([]), "")]
        {
            assert!(read(&bad).expect_err("refused").to_string().contains(part), "{bad}");
        }
    }

    #[test]
    fn a_volume_looks_like_dockers() {
        let volume = VolumeView {
            name: "db".into(),
            driver: "local",
            mountpoint: "/v/db/_data".into(),
            created: types::Timestamp::from_unix_ms(1_700_000_000_000),
            labels: types::Labels::new(),
            options: types::Labels::new(),
            is_anonymous: false,
            users: vec!["c1".into()],
        };
        let shown = write(&volume, Some(5));
        assert_eq!(shown["CreatedAt"], "2023-11-14T22:13:20Z");
        assert_eq!(shown["UsageData"], json!({ "RefCount": 1, "Size": 5 }));
        assert!(shown["Labels"].is_null() && write(&volume, None).get("UsageData").is_none());
    }
}
