//! An image by its manifests: which platforms its index offers, and which of them is here (parity E-06, E-10). Called by
//! the API for clients that ask for it; documents are read from the store anew each time.

use std::{collections::BTreeMap, io::Read};

use super::{Inner, Store, catalog::ImageRecord};
use crate::{
    digest::Digest,
    document::{DOCKER_LIST, Descriptor, Document, Index, MAX_MANIFEST_BYTES, OCI_INDEX, OCI_MANIFEST},
    error::{Error, Result},
    platform::Platform,
};

/// Of an entry of an index that tells of another one.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifests {
    /// What the image's names lead to: its index where that was kept, else its manifest.
    pub target: Descriptor,
    pub all: Vec<ManifestView>,
}

/// One manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestView {
    pub descriptor: Descriptor,
    pub kind: ManifestKind,
    /// Its configuration and layers are here.
    pub is_available: bool,
    /// Bytes of its documents and packed layers.
    pub content_bytes: u64,
    /// Bytes of its files.
    pub unpacked_bytes: u64,
    /// Those that were made of it.
    pub containers: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestKind {
    Image(Platform),
    /// How the other one was built.
    Attestation(Option<Digest>),
    Unknown,
}

impl Store {
    /// The manifests of the image with this id.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], or a document that cannot be read.
    pub async fn manifests(&self, id: &Digest) -> Result<ImageManifests> {
        let (record, pin) = self.pin_image(id)?;
        let containers = {
            let state = self.inner.state();
            let of_image = state.snapshots.iter().filter(|(_, snapshot)| snapshot.image == *id);
            of_image.map(|(container, _)| container.clone()).collect()
        };
        let id = id.clone();
        let found = self.run("reading manifests", move |inner| view(inner, &id, &record, containers)).await;
        drop(pin);
        found
    }
}

fn view(inner: &Inner, id: &Digest, record: &ImageRecord, containers: Vec<String>) -> Result<ImageManifests> {
    let own = own(inner, id, record, containers)?;
    let Some((target, index)) = record.indexes.iter().find_map(|digest| index_of(inner, digest, &record.manifest))
    else {
        return Ok(ImageManifests { target: own.descriptor.clone(), all: vec![own] });
    };
    let entry = |entry: Descriptor| match entry.digest == record.manifest {
        true => ManifestView { descriptor: entry, ..own.clone() },
        false => elsewhere(entry),
    };
    Ok(ImageManifests { target, all: index.manifests.into_iter().map(entry).collect() })
}

/// The one that is here.
fn own(inner: &Inner, id: &Digest, record: &ImageRecord, containers: Vec<String>) -> Result<ManifestView> {
    let bytes = read(inner, &record.manifest)?;
    let media_type = match Document::parse("the image", &bytes)? {
        Document::Manifest(manifest) if !manifest.media_type.is_empty() => manifest.media_type,
        _ => OCI_MANIFEST.to_owned(),
    };
    let descriptor = Descriptor::new(&media_type, record.manifest.clone(), bytes.len() as u64);
    let blobs = record.layers.iter().map(|layer| &layer.blob).chain([id]);
    let sizes: BTreeMap<&Digest, u64> = blobs.filter_map(|blob| Some((blob, inner.blob_size(blob)?))).collect();
    let files: BTreeMap<&Digest, u64> = record.layers.iter().map(|layer| (&layer.diff_id, layer.bytes)).collect();
    Ok(ManifestView {
        content_bytes: descriptor.size + sizes.values().sum::<u64>(),
        descriptor,
        kind: ManifestKind::Image(record.config.platform()),
        is_available: true,
        unpacked_bytes: files.values().sum(),
        containers,
    })
}

/// One that the index names and nobody has pulled.
fn elsewhere(descriptor: Descriptor) -> ManifestView {
    let platform = descriptor.normal_platform();
    let kind = match (descriptor.annotations.get(REFERENCE_TYPE), platform) {
        (Some(kind), _) if kind == "attestation-manifest" => {
            let subject = descriptor.annotations.get(REFERENCE_DIGEST);
            ManifestKind::Attestation(subject.and_then(|digest| digest.parse().ok()))
        }
        (None, Some(platform)) => ManifestKind::Image(platform),
        _ => ManifestKind::Unknown,
    };
    let (is_available, content_bytes, unpacked_bytes, containers) = (false, 0, 0, Vec::new());
    ManifestView { descriptor, kind, is_available, content_bytes, unpacked_bytes, containers }
}

/// The index, if it is here and names the manifest.
fn index_of(inner: &Inner, digest: &Digest, manifest: &Digest) -> Option<(Descriptor, Index)> {
    let bytes = read(inner, digest).ok()?;
    let Ok(Document::Index(index)) = Document::parse("the image", &bytes) else { return None };
    index.manifests.iter().find(|entry| entry.digest == *manifest)?;
    let media_type = match index.media_type.as_str() {
        DOCKER_LIST => DOCKER_LIST,
        _ => OCI_INDEX,
    };
    Some((Descriptor::new(media_type, digest.clone(), bytes.len() as u64), index))
}

fn read(inner: &Inner, digest: &Digest) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = inner.open_blob(digest)?;
    let path = inner.blob_path(digest);
    file.take(MAX_MANIFEST_BYTES).read_to_end(&mut bytes).map_err(|e| Error::file("read", path, e))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-06 E-10
    #[test]
    fn e_06_e_10_entries_of_an_index_that_are_elsewhere() {
        let entry = |platform: Option<&str>, annotations: &[(&str, &str)]| {
            let mut entry = Descriptor::new(OCI_MANIFEST, Digest::of(b"m"), 9);
            entry.platform = platform.map(|text| text.parse().expect(text));
            let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            entry.annotations = annotations.iter().map(pair).collect();
            elsewhere(entry).kind
        };
        let arm = "linux/arm64".parse().expect("a platform");
        assert_eq!(entry(Some("linux/arm64"), &[]), ManifestKind::Image(arm));
        assert_eq!(entry(None, &[]), ManifestKind::Unknown);
        let of = Digest::of(b"image");
        let attestation = [(REFERENCE_TYPE, "attestation-manifest"), (REFERENCE_DIGEST, of.as_str())];
        assert_eq!(entry(Some("unknown/unknown"), &attestation), ManifestKind::Attestation(Some(of)));
    }
}
