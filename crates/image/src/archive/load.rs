//! `load`: reads an archive once, keeps its files without names in temporary storage, then looks for
//! images in it. No path of the archive is ever used as a path of this host.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Read},
    sync::Arc,
};

use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;
use types::ImageReference;

use super::{docker, oci};
use crate::{
    compression::Decompressed,
    config::ImageConfig,
    digest::Digest,
    document::{Descriptor, MAX_CONFIG_BYTES, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST},
    error::{Error, Result},
    platform::Platform,
    progress::Progress,
    store::Inner,
    store::{
        Store,
        blobs::Spooled,
        catalog::{ImageRecord, LayerRecord},
        images::NewImage,
    },
    tarball::{Kind, TarError, TarReader},
};

/// More files than any archive of images has: each image brings about three per layer.
const MAX_FILES: usize = 100_000;
const MAX_LINKS: usize = 8;
/// Archives are padded to blocks of 10 KiB, some tools' to more.
const MAX_PADDING_BYTES: u64 = 16 << 20;
/// More than most images have; reading it costs a second.
pub(super) const MAX_UNWANTED_BYTES: u64 = 1 << 30;

/// One image of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    pub id: Digest,
    /// The names it got; empty where the archive gives none.
    pub references: Vec<ImageReference>,
}

/// The files of an archive, by their name in it.
pub(super) struct Files {
    files: HashMap<String, Arc<Spooled>>,
    /// Old archives link a layer that several images share.
    links: HashMap<String, String>,
}

/// An image found in an archive, not yet in the store.
pub(super) struct Candidate {
    pub what: String,
    pub names: Vec<ImageReference>,
    pub config: Arc<Spooled>,
    /// Lowest first.
    pub layers: Vec<Arc<Spooled>>,
    /// As it stood in the archive; made up where the archive has none.
    pub manifest: Option<Arc<Spooled>>,
    /// The image that it was made of, as the archive says.
    pub parent: Option<Digest>,
}

impl Files {
    pub(super) fn get(&self, name: &str) -> Option<Arc<Spooled>> {
        let mut name = clean(name);
        for _ in 0..MAX_LINKS {
            if let Some(file) = self.files.get(&name) {
                return Some(Arc::clone(file));
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    pub(super) fn need(&self, name: &str) -> Result<Arc<Spooled>> {
        self.get(name).ok_or_else(|| Error::BadArchive(format!("it has no file {name:?}, though it refers to it")))
    }

    /// A blob of an OCI layout, its content compared with its name.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Arc<Spooled>> {
        let file = self.need(&format!("blobs/sha256/{}", digest.hex()))?;
        if file.digest == *digest {
            return Ok(file);
        }
        let what = format!("blob {} of the archive", digest.short());
        Err(Error::DigestMismatch { what, expected: digest.clone(), actual: file.digest.clone() })
    }
}

/// `./a//b/../c` -> `a/c`: only to find files, never to open one.
fn clean(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

fn read_files(inner: &Inner, archive: impl Read) -> Result<Files> {
    let mut reader = TarReader::new(io::BufReader::new(Decompressed::new(archive).map_err(Error::ReadArchive)?));
    let mut files = Files { files: HashMap::new(), links: HashMap::new() };
    let mut count = 0;
    loop {
        let entry = match reader.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(TarError::Read(e)) => return Err(Error::ReadArchive(e)),
            Err(bad) => return Err(Error::BadArchive(bad.to_string())),
        };
        count += 1;
        if count > MAX_FILES {
            return Err(Error::BadArchive(format!(
                "it has more than {MAX_FILES} files; is it a root filesystem? Then use `image import`"
            )));
        }
        let name = clean(&String::from_utf8_lossy(&entry.path));
        match entry.kind {
            Kind::File if entry.sparse.is_some() => return Err(Error::BadArchive(format!("file {name:?} is sparse"))),
            Kind::File => drop(files.files.insert(name, Arc::new(inner.spool(&mut reader, Error::ReadArchive)?))),
            Kind::Symlink => {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                let target = clean(&format!("{parent}/{}", String::from_utf8_lossy(&entry.link)));
                files.links.insert(name, target);
            }
            Kind::HardLink => drop(files.links.insert(name, clean(&String::from_utf8_lossy(&entry.link)))),
            _ => {}
        }
    }
    Ok(files)
}

fn find_images(files: &Files, platform: Option<&Platform>) -> Result<Vec<Candidate>> {
    let host = platform.cloned().unwrap_or_else(Platform::machine);
    // Docker writes both since 25; its own list has the names people gave.
    let found = if files.get("manifest.json").is_some() {
        docker::images(files)?
    } else if files.get("index.json").is_some() {
        oci::images(files, &host)?
    } else {
        return Err(Error::BadArchive(
            "it has neither manifest.json (docker save) nor index.json (OCI layout); for a root filesystem use `image import`".into(),
        ));
    };
    match platform {
        None => Ok(found),
        Some(platform) => only_for(platform, found),
    }
}

fn only_for(platform: &Platform, found: Vec<Candidate>) -> Result<Vec<Candidate>> {
    let (mut fitting, mut offered) = (Vec::new(), Vec::new());
    for candidate in found {
        let config = candidate.config()?;
        match config.fits(platform) {
            true => fitting.push(candidate),
            false => offered.push(config.platform().to_string()),
        }
    }
    if fitting.is_empty() && !offered.is_empty() {
        return Err(Error::NoMatchingPlatform {
            image: "of the archive".to_owned(),
            needed: platform.to_string(),
            offered,
        });
    }
    Ok(fitting)
}

impl Candidate {
    fn config(&self) -> Result<ImageConfig> {
        let bytes = self.config.read(&format!("configuration of {}", self.what), MAX_CONFIG_BYTES)?;
        ImageConfig::parse(&self.what, &bytes)
    }
}

/// The parts of a candidate that are verified and stored.
struct Stored {
    id: Digest,
    manifest: Digest,
    config: ImageConfig,
    /// Blob and diff id.
    layers: Vec<(Digest, Digest)>,
    /// See [`Candidate`].
    parent: Option<Digest>,
}

fn store_candidate(inner: &Inner, candidate: &Candidate) -> Result<Stored> {
    let config = candidate.config()?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != candidate.layers.len() {
        let reason =
            format!("its configuration names {} layers, the archive has {}", diff_ids.len(), candidate.layers.len());
        return Err(Error::Unusable { what: candidate.what.clone(), reason });
    }
    for file in candidate.layers.iter().chain([&candidate.config]) {
        inner.keep(file)?;
    }
    let manifest = match &candidate.manifest {
        Some(file) => {
            inner.keep(file)?;
            file.digest.clone()
        }
        None => inner.put_blob(&make_manifest(&candidate.config, &candidate.layers))?,
    };
    let layers = candidate.layers.iter().zip(diff_ids).map(|(l, d)| (l.digest.clone(), d.clone())).collect();
    let (id, parent) = (candidate.config.digest.clone(), candidate.parent.clone());
    Ok(Stored { id, manifest, config, layers, parent })
}

/// Whether an image is what a commit makes of the other.
fn is_made_of(image: &ImageConfig, parent: &ImageConfig) -> bool {
    image.history.len() == parent.history.len() + 1 && image.history.starts_with(&parent.history)
}

/// An OCI manifest for content that came without one.
pub(super) fn make_manifest(config: &Spooled, layers: &[Arc<Spooled>]) -> Vec<u8> {
    let sized = layers.iter().map(|layer| (layer.digest.clone(), layer.size));
    manifest_of((config.digest.clone(), config.size), sized)
}

/// The same from digests and sizes.
pub(super) fn manifest_of(config: (Digest, u64), layers: impl Iterator<Item = (Digest, u64)>) -> Vec<u8> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: Descriptor::new(OCI_CONFIG, config.0, config.1),
        layers: layers.map(|(digest, size)| Descriptor::new(OCI_LAYER, digest, size)).collect(),
    };
    serde_json::to_vec(&manifest).expect("plain strings and numbers")
}

impl Store {
    /// Loads all images of an archive made by `docker save` or in OCI layout, plain or compressed.
    /// Either all of them get into the store or none.
    ///
    /// # Errors
    /// [`Error::BadArchive`] and its like, [`Error::Hostile`], [`Error::NoSpace`].
    pub async fn load(
        &self,
        reader: impl AsyncRead + Unpin + Send + 'static,
        progress: Progress,
    ) -> Result<Vec<LoadedImage>> {
        self.load_for(None, reader, progress).await
    }

    /// The same; where a platform is named only of images for it.
    ///
    /// # Errors
    /// The same, and [`Error::NoMatchingPlatform`].
    pub async fn load_for(
        &self,
        platform: Option<Platform>,
        reader: impl AsyncRead + Unpin + Send + 'static,
        progress: Progress,
    ) -> Result<Vec<LoadedImage>> {
        let mut bridge = SyncIoBridge::new(reader);
        let candidates = self
            .run("reading the archive", move |inner| {
                let files = read_files(inner, &mut bridge);
                // The padding behind the end, or all of what is no archive: a client that cannot send it takes that
                // for the failure, and does not read the answer.
                let most = if files.is_ok() { MAX_PADDING_BYTES } else { MAX_UNWANTED_BYTES };
                let rest = io::copy(&mut Read::take(&mut bridge, most), &mut io::sink());
                let files = files?;
                rest.map_err(Error::ReadArchive)?;
                find_images(&files, platform.as_ref())
            })
            .await?;
        if candidates.is_empty() {
            return Err(Error::BadArchive("it has no image in it".into()));
        }
        let mut ready = Vec::new();
        let mut pins = Vec::new();
        for candidate in candidates {
            let content = candidate.layers.iter().chain([&candidate.config]).chain(&candidate.manifest);
            pins.push(self.inner.pin(content.map(|f| f.digest.clone())));
            let (stored, names) = self
                .run("storing an image", move |inner| Ok((store_candidate(inner, &candidate)?, candidate.names)))
                .await?;
            pins.push(
                self.inner
                    .pin(stored.layers.iter().map(|(_, diff_id)| diff_id.clone()).chain([stored.manifest.clone()])),
            );
            let result = self.ensure_layers(&stored.layers, &progress).await;
            ready.push((stored, names, result));
        }
        let loaded = self.finish_load(ready).await;
        drop(pins);
        if loaded.is_err() {
            // As before: blobs of the refused archive go again.
            self.gc().await?;
        }
        loaded
    }

    async fn finish_load(
        &self,
        ready: Vec<(Stored, Vec<ImageReference>, Result<Vec<LayerRecord>>)>,
    ) -> Result<Vec<LoadedImage>> {
        let mut images = Vec::new();
        let configs: HashMap<Digest, ImageConfig> =
            ready.iter().map(|(stored, ..)| (stored.id.clone(), stored.config.clone())).collect();
        for (stored, names, layers) in ready {
            let is_parent = |id: &Digest| configs.get(id).is_some_and(|parent| is_made_of(&stored.config, parent));
            let record = ImageRecord {
                manifest: stored.manifest,
                indexes: BTreeSet::new(),
                parent: stored.parent.filter(is_parent),
                layers: layers?,
                config: stored.config,
            };
            images.push(NewImage { id: stored.id, record, tags: names, repo_digest: None, is_brought: false });
        }
        let loaded = images.iter().map(|i| LoadedImage { id: i.id.clone(), references: i.tags.clone() }).collect();
        self.run("recording images", move |inner| images.into_iter().try_for_each(|image| inner.add_image(image)))
            .await?;
        Ok(loaded)
    }
}
