//! `push`: blobs, then the manifest that names them, byte for byte as the store has them, so that the digest
//! is the same wherever the image goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinSet;
use types::ImageReference;

use super::{
    auth::Credentials,
    client::Registry,
    endpoint::candidate,
    tls::CertificateDirectories,
    upload::{Begun, LocalBlob},
};
use crate::{
    digest::Digest,
    document::{Descriptor, Document, MAX_MANIFEST_BYTES, Manifest, OCI_MANIFEST},
    error::{Error, Result},
    progress::{Progress, ProgressStatus},
    store::{Store, catalog::ImageRecord},
};

/// As often as a blob is downloaded.
const ATTEMPTS: u32 = 5;
/// Doubled after each failed attempt: 0.5, 1, 2, 4 s.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How to push and to log in.
#[derive(Debug, Clone, Default)]
pub struct PushOptions {
    pub credentials: Option<Credentials>,
    /// As for a pull.
    pub insecure_registries: Vec<String>,
    /// As for a pull.
    pub certificates: CertificateDirectories,
}

/// What a push ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    pub tag: String,
    /// Of the manifest.
    pub digest: Digest,
    /// Bytes of the manifest.
    pub size: u64,
}

/// What is sent.
struct Parcel {
    registry: Registry,
    /// Layers and configuration, with what progress calls them.
    blobs: Vec<(Descriptor, String)>,
    /// Other repositories of the registry that have a blob.
    sources: BTreeMap<Digest, String>,
}

impl Store {
    /// Pushes an image by its tag. What the registry has already is not sent again.
    ///
    /// # Errors
    /// [`Error::NothingToPush`], [`Error::Unauthorized`], [`Error::RegistryUnreachable`] and its like.
    pub async fn push(
        &self,
        reference: &ImageReference,
        options: &PushOptions,
        progress: Progress,
    ) -> Result<PushedImage> {
        if reference.digest.is_some() {
            let reason = "it is pushed by a tag, whose digest follows from the image".to_owned();
            return Err(Error::Unusable { what: format!("reference {}", reference.familiar()), reason });
        }
        let reference = reference.clone().with_default_tag();
        let tag = reference.tag.clone().unwrap_or_default();
        let missing = |_| Error::NothingToPush(reference.familiar());
        let id = self.get(&reference.to_string()).map_err(missing)?;
        let (record, _pin) = self.pin_image(&id)?;
        let (manifest, bytes) = self.manifest_of(&reference, &record).await?;
        let parcel = self.parcel(&reference, options, &manifest, &record).await?;
        for (_, id) in parcel.blobs.iter().take(manifest.layers.len()) {
            progress.say(id, ProgressStatus::Preparing);
        }
        let parcel = Arc::new(parcel);
        self.send_all(&parcel, &progress).await?;
        let media_type = if manifest.media_type.is_empty() { OCI_MANIFEST } else { &manifest.media_type };
        let size = bytes.len() as u64;
        parcel.registry.put_manifest(&tag, media_type, bytes).await?;
        let key = format!("{}@{}", reference.name(), record.manifest);
        self.run("recording the push", move |inner| {
            inner.change(|catalog, _| {
                if catalog.images.contains_key(&id) {
                    catalog.digests.insert(key, id);
                }
                Ok(())
            })
        })
        .await?;
        let digest = record.manifest;
        let status = ProgressStatus::PushedManifest { tag: tag.clone(), digest: digest.to_string(), size };
        progress.say("", status);
        Ok(PushedImage { tag, digest, size })
    }

    /// What a name means to a push: itself, or without a tag all that are here of its repository. Says where they go, the first
    /// word of a push; what there is nothing of is an error before any word.
    ///
    /// # Errors
    /// [`Error::NothingToPush`] without any name of the repository, [`Error::NoSuchTag`] without this one.
    pub fn begin_push(&self, wanted: &ImageReference, progress: &Progress) -> Result<Vec<ImageReference>> {
        let repository = wanted.name();
        let state = self.inner.state();
        let names = state.catalog.tags.keys().chain(state.catalog.digests.keys());
        let names = names.filter_map(|name| name.parse::<ImageReference>().ok());
        let names: Vec<ImageReference> = names.filter(|name| name.name() == repository).collect();
        let is_all = wanted.tag.is_none() && wanted.digest.is_none();
        let is_known = names.contains(wanted);
        let tags: Vec<ImageReference> = names.iter().filter(|name| name.digest.is_none()).cloned().collect();
        if names.is_empty() || (is_all && tags.is_empty()) {
            return Err(Error::NothingToPush(wanted.familiar_name()));
        }
        // that a digest cannot be pushed is said with the rest of it
        if !is_all && !is_known && wanted.digest.is_none() {
            return Err(Error::NoSuchTag(wanted.familiar()));
        }
        progress.say("", ProgressStatus::RefersTo(repository));
        Ok(if is_all { tags } else { vec![wanted.clone()] })
    }

    async fn manifest_of(&self, reference: &ImageReference, record: &ImageRecord) -> Result<(Manifest, Vec<u8>)> {
        let (digest, what) = (record.manifest.clone(), reference.familiar());
        self.run("reading the manifest", move |inner| {
            let mut bytes = Vec::new();
            let file = std::io::Read::take(inner.open_blob(&digest)?, MAX_MANIFEST_BYTES);
            std::io::Read::read_to_end(&mut { file }, &mut bytes)
                .map_err(|e| Error::file("read", inner.blob_path(&digest), e))?;
            match Document::parse(&what, &bytes)? {
                Document::Manifest(manifest) => Ok((manifest, bytes)),
                Document::Index(_) => {
                    let reason = "the store has an index in the place of its manifest".to_owned();
                    Err(Error::Unusable { what, reason })
                }
            }
        })
        .await
    }

    async fn parcel(
        &self,
        reference: &ImageReference,
        options: &PushOptions,
        manifest: &Manifest,
        record: &ImageRecord,
    ) -> Result<Parcel> {
        let mut blobs: Vec<(Descriptor, String)> = Vec::new();
        for (at, layer) in manifest.layers.iter().enumerate() {
            // people know a layer by its content, as docker shows it
            let id = record.layers.get(at).map_or_else(|| layer.digest.short(), |known| known.diff_id.short());
            blobs.push((layer.clone(), id.to_owned()));
        }
        blobs.push((manifest.config.clone(), manifest.config.digest.short().to_owned()));
        let mut seen = BTreeSet::new();
        blobs.retain(|(blob, _)| seen.insert(blob.digest.clone()));
        let sources = self.sources(reference, &blobs);
        let repositories: BTreeSet<String> = sources.values().cloned().collect();
        let candidate = candidate(reference, &options.insecure_registries).await;
        let (name, credentials) = (&reference.repository, options.credentials.clone());
        let registry = Registry::open(&candidate, name, credentials, &options.certificates).await?;
        // nobody there is known now, not after all tries of each blob
        registry.ping().await.map_err(|e| registry.failed(e))?;
        Ok(Parcel { registry: registry.with_push_scopes(repositories), blobs, sources })
    }

    /// Repositories of the same registry that were seen with one of the blobs.
    fn sources(&self, reference: &ImageReference, blobs: &[(Descriptor, String)]) -> BTreeMap<Digest, String> {
        let state = self.inner.state();
        let mut sources = BTreeMap::new();
        for (name, id) in &state.catalog.digests {
            let Ok(known) = name.parse::<ImageReference>() else { continue };
            let Some(record) = state.catalog.images.get(id) else { continue };
            if known.registry != reference.registry || known.repository == reference.repository {
                continue;
            }
            let has = |digest: &Digest| record.layers.iter().any(|layer| layer.blob == *digest);
            for (blob, _) in blobs.iter().filter(|(blob, _)| has(&blob.digest)) {
                sources.entry(blob.digest.clone()).or_insert_with(|| known.repository.clone());
            }
        }
        sources
    }

    /// The first error stops the others, and all have ended on return.
    async fn send_all(&self, parcel: &Arc<Parcel>, progress: &Progress) -> Result<()> {
        let mut tasks = JoinSet::new();
        for at in 0..parcel.blobs.len() {
            let (store, parcel, progress) = (self.clone(), Arc::clone(parcel), progress.clone());
            tasks.spawn(async move {
                let inner = Arc::clone(&store.inner);
                let _slot = inner.uploading.acquire().await;
                store.send_patiently(&parcel, at, &progress).await
            });
        }
        let mut first_error = None;
        while let Some(joined) = tasks.join_next().await {
            let result = match joined {
                Err(error) if error.is_cancelled() => continue,
                other => other.map_err(|e| Error::Interrupted(format!("pushing a blob: {e}"))).and_then(|r| r),
            };
            if let Err(error) = result {
                first_error.get_or_insert(error);
                tasks.abort_all();
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    async fn send_patiently(&self, parcel: &Parcel, at: usize, progress: &Progress) -> Result<()> {
        let mut attempt = 1;
        loop {
            match self.send(parcel, at, progress).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                    let pause = FIRST_PAUSE * 2u32.pow(attempt - 1);
                    tracing::debug!(blob = %parcel.blobs[at].0.digest, attempt, %error, "upload broke, trying again");
                    progress.say(&parcel.blobs[at].1, ProgressStatus::Retrying { seconds: pause.as_secs().max(1) });
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn send(&self, parcel: &Parcel, at: usize, progress: &Progress) -> Result<()> {
        let (Parcel { registry, blobs, sources }, (blob, id)) = (parcel, &parcel.blobs[at]);
        // The configuration is no layer, and clients count what they are told of.
        let quiet = Progress::none();
        let progress = if at + 1 == blobs.len() { &quiet } else { progress };
        if registry.has_blob(&blob.digest).await? {
            progress.say(id, ProgressStatus::LayerExists);
            return Ok(());
        }
        let from = sources.get(&blob.digest).map(String::as_str);
        let place = match registry.begin_blob(&blob.digest, from).await? {
            Begun::Mounted => {
                progress.say(id, ProgressStatus::MountedFrom(from.unwrap_or_default().to_owned()));
                return Ok(());
            }
            Begun::At(place) => place,
        };
        let path = self.inner.blob_path(&blob.digest);
        let file = tokio::fs::File::open(&path).await.map_err(|e| Error::file("open", &path, e))?;
        let bytes = file.metadata().await.map_err(|e| Error::file("look at", &path, e))?.len();
        let sent = Arc::new(AtomicU64::new(0));
        let local = LocalBlob { digest: &blob.digest, file, bytes, sent: Arc::clone(&sent) };
        let mut sending = std::pin::pin!(registry.send_blob(&place, local));
        loop {
            match tokio::time::timeout(PROGRESS_EVERY, sending.as_mut()).await {
                Ok(result) => break result?,
                Err(_) => progress.count(id, ProgressStatus::Pushing, sent.load(Ordering::Relaxed), bytes),
            }
        }
        progress.say(id, ProgressStatus::Pushed);
        Ok(())
    }
}
