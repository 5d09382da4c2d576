//! The JSON documents that describe an image on the wire: manifest, index, descriptor, in the OCI
//! spelling and in Docker's schema 2 (same fields, other media types).
//! Called by load and pull; never decides anything but what kind of document it sees.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    digest::Digest,
    error::{Error, Result},
    platform::Platform,
};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";

/// Largest manifest or index we read: registries themselves refuse more than 4 MiB.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Largest image configuration we read; real ones are a few KiB.
pub(crate) const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// `null` as well as nothing means the default; Docker writes both.
pub(crate) fn null_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// What a document or blob is called and how large it is, as the OCI image specification has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, annotations: BTreeMap::new(), platform: None }
    }

    /// Build attestations sit in an index as manifests for `unknown/unknown`; nobody runs them.
    fn is_runnable(&self) -> bool {
        let unknown = self.platform.as_ref().is_some_and(|p| p.os == "unknown" || p.architecture == "unknown");
        !unknown && !self.annotations.contains_key("vnd.docker.reference.type")
    }

    pub(crate) fn normal_platform(&self) -> Option<Platform> {
        self.platform.as_ref().map(|p| Platform::new(&p.os, &p.architecture, p.variant.as_deref()))
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub config: Descriptor,
    #[serde(default, deserialize_with = "null_default")]
    pub layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    #[serde(default, deserialize_with = "null_default")]
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The entries somebody can run.
    pub(crate) fn runnable(&self) -> Vec<&Descriptor> {
        self.manifests.iter().filter(|d| d.is_runnable()).collect()
    }
}

/// What a manifest URL or an index entry points to.
#[derive(Debug, Clone)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

impl Document {
    /// Parses bytes; the document's own media type wins over the declared one, the fields over both.
    pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            #[serde(default)]
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        let bad = |source| Error::BadDocument { what: format!("manifest of {what}"), source };
        let shape: Shape = serde_json::from_slice(bytes).map_err(bad)?;
        let unusable = |reason: String| Error::Unusable { what: format!("manifest of {what}"), reason };
        if shape.schema_version == 1 || shape.media_type.starts_with(DOCKER_SCHEMA1) {
            return Err(unusable(
                "it is a Docker schema 1 manifest, which is no longer supported; push the image again".into(),
            ));
        }
        match (shape.config.is_some(), shape.manifests.is_some()) {
            (true, true) => Err(unusable("it is a manifest and an index at once".into())),
            (true, false) => Ok(Self::Manifest(serde_json::from_slice(bytes).map_err(bad)?)),
            (false, true) => Ok(Self::Index(serde_json::from_slice(bytes).map_err(bad)?)),
            (false, false) => Err(unusable(format!("unknown kind of document {:?}", shape.media_type))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart_by_their_fields() {
        let digest = Digest::of(b"x");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":null}}"#);
        assert!(matches!(Document::parse("x", manifest.as_bytes()), Ok(Document::Manifest(m)) if m.layers.is_empty()));
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[
                {{"digest":"{digest}","size":1,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}}}},
                {{"digest":"{digest}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}}}}]}}"#
        );
        match Document::parse("x", index.as_bytes()) {
            Ok(Document::Index(index)) => {
                let shown: Vec<_> = index.runnable().iter().filter_map(|d| d.normal_platform()).collect();
                assert_eq!(shown, [Platform::new("linux", "arm64", None)]);
            }
            other => panic!("{other:?}"),
        }
        for bad in ["", "[]", "{}", r#"{"schemaVersion":1,"fsLayers":[]}"#, r#"{"config":{},"manifests":[]}"#] {
            assert!(Document::parse("x", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
