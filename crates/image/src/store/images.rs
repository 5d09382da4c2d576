//! The images people see: list, inspect, tag, remove. Called by the API and the agent.
//! Decisions are [`super::catalog::Catalog`]'s; here they are carried out.

use std::collections::BTreeMap;

use types::ImageReference;

use super::{
    Inner, Pin, RemoveOptions, Removed, State, Store,
    catalog::{ImageRecord, familiar},
    removal::Users,
};
use crate::{
    config::ImageConfig,
    digest::Digest,
    error::{Error, Result},
    platform::Platform,
};

/// One line of `image ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    pub id: Digest,
    /// Short forms, `busybox:latest`.
    pub repo_tags: Vec<String>,
    /// Short forms, `busybox@sha256:…`.
    pub repo_digests: Vec<String>,
    /// Seconds since 1970, 0 where unknown.
    pub created: i64,
    /// The same in nanoseconds: which of two is older.
    pub created_ns: i128,
    /// Bytes of all files, each layer once.
    pub size: u64,
    pub labels: BTreeMap<String, String>,
    /// The image of the container that it was committed from, while that is here.
    pub parent: Option<Digest>,
    /// Another one that is here was committed from a container of it.
    pub has_children: bool,
    /// Containers that were made of it.
    pub containers: usize,
}

impl ImageSummary {
    /// Kept for those that were made of it, and without a name of its own.
    pub fn is_intermediate(&self) -> bool {
        self.has_children && self.repo_tags.is_empty() && self.repo_digests.is_empty()
    }

    /// Without any tag: left over when its tag moved on.
    pub fn is_dangling(&self) -> bool {
        self.repo_tags.is_empty()
    }
}

/// Everything about one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageDetail {
    pub summary: ImageSummary,
    pub manifest_digest: Digest,
    /// When it got a tag last (RFC 3339).
    pub tagged: Option<String>,
    pub config: ImageConfig,
    /// Bytes of each layer's files, lowest first.
    pub layer_bytes: Vec<u64>,
    /// Where the layers are unpacked, lowest first.
    pub layer_paths: Vec<std::path::PathBuf>,
}

impl ImageDetail {
    /// Whether it runs where `platform` is asked for; `name` is what it was found by.
    ///
    /// # Errors
    /// [`Error::OtherPlatform`].
    pub fn fits(&self, name: &str, platform: &Platform) -> Result<()> {
        if self.config.fits(platform) {
            return Ok(());
        }
        Err(Error::OtherPlatform {
            image: name.to_owned(),
            has: self.config.platform().to_string(),
            wanted: platform.to_string(),
        })
    }
}

fn summary(state: &State, id: &Digest, record: &ImageRecord) -> ImageSummary {
    let short = |names: Vec<&str>| names.into_iter().map(familiar).collect();
    let unique: BTreeMap<&Digest, u64> = record.layers.iter().map(|l| (&l.diff_id, l.bytes)).collect();
    ImageSummary {
        id: id.clone(),
        repo_tags: short(state.catalog.tags_of(id)),
        repo_digests: short(state.catalog.digests_of(id)),
        created: record.config.created_seconds(),
        created_ns: record.config.created_nanos(),
        size: unique.values().sum(),
        labels: record.config.config.labels.clone(),
        parent: record.parent.clone().filter(|parent| state.catalog.images.contains_key(parent)),
        has_children: state.catalog.has_children(id),
        containers: state.snapshots.values().filter(|snapshot| snapshot.image == *id).count(),
    }
}

/// What a finished load or pull hands to the catalog.
pub(crate) struct NewImage {
    pub id: Digest,
    pub record: ImageRecord,
    pub tags: Vec<ImageReference>,
    /// `name` and manifest digest as known to a registry.
    pub repo_digest: Option<(String, Digest)>,
    /// It came for a task; no user asked for it.
    pub is_brought: bool,
}

impl Inner {
    /// Makes an image known, under its names.
    pub(crate) fn add_image(&self, new: NewImage) -> Result<()> {
        self.change(|catalog, _| {
            match (new.is_brought, catalog.images.contains_key(&new.id)) {
                (false, _) => catalog.claim(&new.id),
                (true, false) => catalog.bring(&new.id),
                // whose it was it stays
                (true, true) => {}
            }
            let mut record = new.record;
            if let Some(known) = catalog.images.get(&new.id) {
                record.indexes.extend(known.indexes.iter().cloned());
                record.parent = record.parent.or_else(|| known.parent.clone());
            }
            catalog.images.insert(new.id.clone(), record);
            for reference in &new.tags {
                catalog.tag(&new.id, reference, jiff::Timestamp::now());
            }
            if let Some((name, digest)) = new.repo_digest {
                catalog.digests.insert(format!("{name}@{digest}"), new.id);
            }
            Ok(())
        })
    }
}

impl Store {
    /// The image of a name, an id, an id prefix of at least 4 digits, or a digest.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::AmbiguousId`], or a name that cannot be one.
    pub fn get(&self, name: &str) -> Result<Digest> {
        self.inner.state().catalog.lookup(name)
    }

    /// All images, newest first.
    pub fn list(&self) -> Vec<ImageSummary> {
        let state = self.inner.state();
        let mut all: Vec<_> = state.catalog.images.iter().map(|(id, record)| summary(&state, id, record)).collect();
        all.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.repo_tags.cmp(&b.repo_tags)));
        all
    }

    /// Everything about one image; names as for [`Store::get`].
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn inspect(&self, name: &str) -> Result<ImageDetail> {
        let state = self.inner.state();
        let id = state.catalog.lookup(name)?;
        let record = state.catalog.images.get(&id).ok_or_else(|| Error::NoSuchImage(name.to_owned()))?;
        let summary = summary(&state, &id, record);
        Ok(ImageDetail {
            summary,
            manifest_digest: record.manifest.clone(),
            tagged: state.catalog.tagged.get(&id).cloned(),
            config: record.config.clone(),
            layer_bytes: record.layers.iter().map(|layer| layer.bytes).collect(),
            layer_paths: record.layers.iter().map(|l| self.inner.layer_path(&l.diff_id).join("fs")).collect(),
        })
    }

    /// The image and those that it was made of here, one after another.
    pub fn lineage(&self, id: &Digest) -> Vec<ImageSummary> {
        let state = self.inner.state();
        let ids = std::iter::successors(Some(id), |id| state.catalog.images.get(*id)?.parent.as_ref());
        ids.map_while(|id| Some(summary(&state, id, state.catalog.images.get(id)?))).collect()
    }

    /// Gives an image one more name; a name that pointed elsewhere moves.
    ///
    /// # Errors
    /// As [`Store::get`], or a failed file operation.
    pub async fn tag(&self, name: &str, reference: &ImageReference) -> Result<()> {
        let (name, reference) = (name.to_owned(), reference.clone());
        if reference.digest.is_some() {
            let reason = "a tag cannot have a digest".to_owned();
            return Err(Error::Unusable { what: format!("name {reference}"), reason });
        }
        self.run("tagging", move |inner| {
            inner.change(|catalog, _| {
                let id = catalog.lookup(&name)?;
                catalog.tag(&id, &reference, jiff::Timestamp::now());
                catalog.claim(&id);
                Ok(())
            })
        })
        .await
    }

    /// Removes a name, and the image with its last name, as `docker image rm` does. Containers keep the files that they
    /// have of it.
    ///
    /// # Errors
    /// [`Error::Conflict`] while a container or an image needs it, [`Error::NoSuchImage`], or a failed file operation.
    pub async fn remove(&self, name: &str, how: RemoveOptions) -> Result<Vec<Removed>> {
        let name = name.to_owned();
        self.run("removing an image", move |inner| {
            let removed =
                inner.change(|catalog, state| catalog.remove(&name, &how, |id| Users::of(state, id, &how.running)))?;
            if removed.iter().any(|r| matches!(r, Removed::Deleted(_))) {
                inner.sweep()?;
            }
            Ok(removed)
        })
        .await
    }

    /// Keeps an image and its content while the guard lives.
    pub(crate) fn pin_image(&self, id: &Digest) -> Result<(ImageRecord, Pin)> {
        let state = self.inner.state();
        let record = state.catalog.images.get(id).cloned().ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
        drop(state);
        let content = record.layers.iter().flat_map(|l| [l.blob.clone(), l.diff_id.clone()]);
        let pin = self.inner.pin(content.chain([id.clone(), record.manifest.clone()]));
        // It may have been removed between the two locks.
        self.inner.state().catalog.images.get(id).ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
        Ok((record, pin))
    }
}
