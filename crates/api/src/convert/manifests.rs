//! The manifests of an image, as `Manifests` of Docker's lists and `Descriptor` of its inspect have them.

use node::image::{ImageManifests, ManifestKind, ManifestView};
use serde_json::{Value, json};

use super::writer::Fields;

pub(crate) fn write_all(manifests: &ImageManifests) -> Vec<Value> {
    manifests.all.iter().map(write).collect()
}

fn write(view: &ManifestView) -> Value {
    let fields = Fields::new()
        .set("ID", view.descriptor.digest.to_string())
        .set("Descriptor", &view.descriptor)
        .set("Available", view.is_available)
        .set("Size", json!({ "Content": view.content_bytes, "Total": view.content_bytes + view.unpacked_bytes }));
    match &view.kind {
        ManifestKind::Image(platform) => {
            let data = json!({
                "Platform": platform, "Size": { "Unpacked": view.unpacked_bytes }, "Containers": view.containers,
            });
            fields.set("Kind", "image").set("ImageData", data)
        }
        ManifestKind::Attestation(of) => {
            let of = of.as_ref().map(ToString::to_string).unwrap_or_default();
            fields.set("Kind", "attestation").set("AttestationData", json!({ "For": of }))
        }
        ManifestKind::Unknown => fields.set("Kind", "unknown"),
    }
    .done()
}
