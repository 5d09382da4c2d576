//! `save`: images of the store as one tar that `docker load`, `load` and OCI tools read: an OCI layout
//! with Docker's `manifest.json` beside it, and its `repositories` for programs that know nothing newer. Layers go out
//! byte for byte as they came in.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use tar::{Builder, EntryType, Header};
use tokio::io::AsyncWrite;
use tokio_util::io::SyncIoBridge;
use types::ImageReference;

use super::oci::{NAME_KEY, REF_NAME_KEY};
use crate::{
    digest::Digest,
    document::{Descriptor, Index, OCI_INDEX, OCI_MANIFEST},
    error::{Error, Result},
    store::{Inner, Store, catalog::ImageRecord},
};

/// One image to write.
struct Picked {
    id: Digest,
    record: ImageRecord,
    /// The names it was asked by; an image asked by its id has none.
    names: Vec<ImageReference>,
}

impl Store {
    /// What these names mean: a repository without a tag is all its images, as in Docker.
    pub fn meant_to_save(&self, names: &[String]) -> Vec<String> {
        let images = self.list();
        let of = |name: &String| {
            let Ok(reference) = name.parse::<ImageReference>() else { return vec![name.clone()] };
            let repository = format!("{}:", reference.familiar_name());
            let tags = images.iter().flat_map(|image| &image.repo_tags).filter(|tag| tag.starts_with(&repository));
            let tags: Vec<String> = tags.cloned().collect();
            let is_repository = reference.tag.is_none() && reference.digest.is_none() && !tags.is_empty();
            if is_repository { tags } else { vec![name.clone()] }
        };
        names.iter().flat_map(of).collect()
    }

    /// Writes images, given by name or id, as one archive.
    ///
    /// # Errors
    /// As [`Store::get`] for each name, before anything is written; [`Error::WriteArchive`].
    pub async fn save(&self, names: &[String], writer: impl AsyncWrite + Unpin + Send + 'static) -> Result<()> {
        let (mut images, mut pins) = (Vec::<Picked>::new(), Vec::new());
        for name in names {
            let id = self.get(name)?;
            let is_id = id.as_str().starts_with(name.as_str()) || id.hex().starts_with(name.as_str());
            let reference = name.parse::<ImageReference>().ok().filter(|r| !is_id && r.digest.is_none());
            let at = match images.iter().position(|image| image.id == id) {
                Some(at) => at,
                None => {
                    let (record, pin) = self.pin_image(&id)?;
                    pins.push(pin);
                    images.push(Picked { id, record, names: Vec::new() });
                    images.len() - 1
                }
            };
            let known = &mut images[at].names;
            if let Some(reference) = reference.map(ImageReference::with_default_tag)
                && !known.contains(&reference)
            {
                known.push(reference);
            }
        }
        let bridge = SyncIoBridge::new(writer);
        let saved = self.run("saving images", move |inner| write(inner, &images, bridge)).await;
        drop(pins);
        saved
    }
}

fn write(inner: &Inner, images: &[Picked], writer: impl Write) -> Result<()> {
    let mut tar = Builder::new(io::BufWriter::with_capacity(128 << 10, writer));
    let mut written = BTreeSet::new();
    let newest = images.iter().map(|image| created(&image.record)).max().unwrap_or(0);
    for directory in ["blobs/", "blobs/sha256/"] {
        let mut header = header(0, newest);
        header.set_entry_type(EntryType::Directory);
        header.set_mode(0o755);
        tar.append_data(&mut header, directory, io::empty()).map_err(Error::WriteArchive)?;
    }
    for image in images {
        let at = created(&image.record);
        let layers = image.record.layers.iter().map(|l| &l.blob);
        for digest in layers.chain([&image.id, &image.record.manifest]).filter(|d| written.insert((*d).clone())) {
            let file = inner.open_blob(digest)?;
            let size = file.metadata().map_err(Error::WriteArchive)?.len();
            tar.append_data(&mut header(size, at), path_of(digest), file).map_err(Error::WriteArchive)?;
        }
    }
    let documents = [
        ("index.json", Some(index(inner, images))),
        ("manifest.json", Some(docker_list(images))),
        ("oci-layout", Some(br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())),
        ("repositories", repositories(images)),
    ];
    for (name, bytes) in documents.into_iter().filter_map(|(name, bytes)| Some((name, bytes?))) {
        tar.append_data(&mut header(bytes.len() as u64, newest), name, bytes.as_slice())
            .map_err(Error::WriteArchive)?;
    }
    tar.into_inner().and_then(|mut out| out.flush()).map_err(Error::WriteArchive)
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Seconds since 1970; archives of the same image are the same.
fn created(image: &ImageRecord) -> u64 {
    u64::try_from(image.config.created_seconds()).unwrap_or(0)
}

fn header(size: u64, modified_seconds: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified_seconds);
    header
}

/// An entry for each name, and one for an image without any.
fn index(inner: &Inner, images: &[Picked]) -> Vec<u8> {
    let mut manifests = Vec::new();
    for image in images {
        let manifest = &image.record.manifest;
        let mut plain = Descriptor::new(OCI_MANIFEST, manifest.clone(), inner.blob_size(manifest).unwrap_or(0));
        plain.platform = Some(image.record.config.platform());
        for name in &image.names {
            let mut entry = plain.clone();
            entry.annotations.insert(NAME_KEY.to_owned(), name.to_string());
            entry.annotations.extend(name.tag.iter().map(|tag| (REF_NAME_KEY.to_owned(), tag.clone())));
            manifests.push(entry);
        }
        if image.names.is_empty() {
            manifests.push(plain);
        }
    }
    let index = Index { schema_version: 2, media_type: OCI_INDEX.to_owned(), manifests };
    serde_json::to_vec(&index).expect("plain strings and numbers")
}

/// An item for each image, with all its names. One that another of them was made of is its parent.
fn docker_list(images: &[Picked]) -> Vec<u8> {
    let item = |image: &Picked| {
        let layers: Vec<String> = image.record.layers.iter().map(|l| path_of(&l.blob)).collect();
        let tags: Vec<String> = image.names.iter().map(ImageReference::familiar).collect();
        let mut item = serde_json::json!({ "Config": path_of(&image.id), "RepoTags": tags, "Layers": layers });
        if let Some(parent) = image.record.parent.as_ref().filter(|id| images.iter().any(|other| other.id == **id)) {
            item["Parent"] = parent.to_string().into();
        }
        item
    };
    serde_json::Value::from(images.iter().map(item).collect::<Vec<_>>()).to_string().into_bytes()
}

/// The top layer behind each tag, by repository, as Docker before 1.10 looked them up.
fn repositories(images: &[Picked]) -> Option<Vec<u8>> {
    let mut all: BTreeMap<String, BTreeMap<&str, &str>> = BTreeMap::new();
    for image in images {
        let Some(top) = image.record.layers.last() else { continue };
        for name in &image.names {
            let tag = name.tag.as_deref().unwrap_or_default();
            all.entry(name.familiar_name()).or_default().insert(tag, top.blob.hex());
        }
    }
    (!all.is_empty()).then(|| serde_json::to_vec(&all).expect("plain strings"))
}
