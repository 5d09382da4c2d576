//! `pull`: manifest, configuration, layers; each layer is unpacked while the others still download. What comes from
//! another node ([`crate::peer`]) takes the same way, with that node in the registry's place.

use std::{collections::BTreeSet, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::ImageReference;

use super::{
    auth::Credentials,
    blob::Download,
    client::{Fetched, Registry},
    resolve::find,
    tls::CertificateDirectories,
};
use crate::{
    archive::choose_entry,
    config::ImageConfig,
    digest::Digest,
    document::{Descriptor, Document, Index, MAX_CONFIG_BYTES, Manifest},
    error::{Error, Result},
    peer::{self, BlobSource},
    platform::Platform,
    progress::{Progress, ProgressStatus},
    store::{
        MAX_LAYERS, Store,
        catalog::{ImageRecord, LayerRecord},
        images::NewImage,
    },
};

/// Indexes that lead to each other at most.
pub(crate) const MAX_NESTING: usize = 2;

/// How to pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    pub credentials: Option<Credentials>,
    /// Hosts (`host`, `host:port`) and networks (CIDR) of which any certificate is taken, and which may do without TLS;
    /// loopback always is.
    pub insecure_registries: Vec<String>,
    /// Of the others: which certificates are trusted beside the system's.
    pub certificates: CertificateDirectories,
    /// This host's where not given.
    pub platform: Option<Platform>,
    /// Take an image whatever platform it claims, as long as it is the only one.
    pub any_platform: bool,
    /// Take an image that is no entry of an index whatever platform it claims, as Docker does for its users; where one
    /// is named, a warning says that it is for another.
    pub takes_single: bool,
    /// What runs here too, where an image has nothing for this host's own platform.
    pub also_runs: Vec<Platform>,
    /// Base URLs tried before Docker Hub.
    pub mirrors: Vec<String>,
    /// For a task, and no user asked for it: the image may be collected when nothing needs it any more.
    pub for_task: bool,
}

impl PullOptions {
    fn host(&self) -> Platform {
        self.platform.clone().unwrap_or_else(Platform::machine)
    }

    fn hosts(&self) -> impl Iterator<Item = Platform> {
        std::iter::once(self.host()).chain(self.also_runs.iter().cloned())
    }
}

/// What a pull ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    pub id: Digest,
    /// Of the manifest or index the name means.
    pub digest: Digest,
    /// False where the name meant it already.
    pub is_new: bool,
}

/// The image behind a name: its manifest for our platform.
pub(crate) struct Found {
    /// Of what the name means: manifest or index.
    pub(crate) root: Digest,
    /// The indexes on the way from there to the manifest, the first is the outermost.
    pub(crate) indexes: Vec<Vec<u8>>,
    pub(crate) manifest_digest: Digest,
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) manifest: Manifest,
}

/// Where the blobs of an image come from.
#[allow(clippy::large_enum_variant, reason = "there is one of them for each pull")]
pub(crate) enum Source {
    Registry(Registry),
    Peers(Arc<dyn BlobSource>),
}

impl Source {
    /// After it the blob is in the store, verified and synced. Gives whether that was told as a download.
    async fn fetch(
        &self,
        store: &Store,
        blob: &Descriptor,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<bool> {
        match self {
            Self::Registry(registry) => Download { store, registry, blob, progress, cancel }.run().await,
            Self::Peers(peers) => peer::download(store, peers.as_ref(), blob, cancel).await.map(|()| false),
        }
    }
}

/// What a name becomes when the image is here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) tags: Vec<ImageReference>,
    /// Repository and digest, as a registry knows it.
    pub(crate) repo_digest: Option<(String, Digest)>,
}

impl Store {
    /// The image of a tag or digest, without the words at the end of it.
    pub(super) async fn pull_one(
        &self,
        reference: &ImageReference,
        options: &PullOptions,
        progress: &Progress,
    ) -> Result<PulledImage> {
        let tag = reference.tag.clone().or_else(|| reference.digest.clone()).unwrap_or_default();
        let before = self.inner.state().catalog.by_reference(reference);
        // The first word comes when the image is found: until then a failure can still be an error of its own.
        let (registry, fetched) = find(reference, options).await?;
        progress.say(&tag, ProgressStatus::PullingFrom(reference.repository.clone()));
        let mut pulled = match self.known(reference, &fetched.digest, options).await? {
            Some(id) => PulledImage { id, digest: fetched.digest, is_new: false },
            None => self.pull_new(reference, registry, fetched, options, progress).await?,
        };
        // its layers may have been here under another name
        pulled.is_new = before.as_ref() != Some(&pulled.id);
        progress.say("", ProgressStatus::Digest(pulled.digest.to_string()));
        Ok(pulled)
    }

    /// The image, where exactly this digest was pulled before; its tag is renewed.
    async fn known(
        &self,
        reference: &ImageReference,
        digest: &Digest,
        options: &PullOptions,
    ) -> Result<Option<Digest>> {
        let key = format!("{}@{digest}", reference.name());
        let (reference, options) = (reference.clone(), options.clone());
        self.run("looking for the image", move |inner| {
            inner.change(|catalog, _| {
                let Some(id) = catalog.digests.get(&key).cloned() else { return Ok(None) };
                if catalog.images.get(&id).is_none_or(|record| !is_meant(record, &options)) {
                    return Ok(None);
                }
                if reference.digest.is_none() {
                    catalog.tag(&id, &reference, jiff::Timestamp::now());
                }
                if !options.for_task {
                    catalog.claim(&id);
                }
                Ok(Some(id))
            })
        })
        .await
    }

    async fn pull_new(
        &self,
        reference: &ImageReference,
        registry: Registry,
        fetched: Fetched,
        options: &PullOptions,
        progress: &Progress,
    ) -> Result<PulledImage> {
        let found = choose(reference, &registry, fetched, options).await?;
        let tags = if reference.digest.is_none() { vec![reference.clone()] } else { Vec::new() };
        let names = Names { tags, repo_digest: Some((reference.name(), found.root.clone())) };
        self.bring(reference, Source::Registry(registry), found, names, options, progress).await
    }

    /// Fetches what is missing of an image and records it; after a failure the store is as before.
    pub(crate) async fn bring(
        &self,
        reference: &ImageReference,
        source: Source,
        found: Found,
        names: Names,
        options: &PullOptions,
        progress: &Progress,
    ) -> Result<PulledImage> {
        let blobs = found.manifest.layers.iter().chain([&found.manifest.config]).map(|d| d.digest.clone());
        let documents = found.indexes.iter().map(|bytes| Digest::of(bytes)).chain([found.manifest_digest.clone()]);
        let pin = self.inner.pin(blobs.chain(documents));
        let result = self.fetch(&reference.familiar(), source, found, names, options, progress).await;
        drop(pin);
        if result.is_err() {
            self.gc().await?;
        }
        result
    }

    async fn fetch(
        &self,
        what: &str,
        source: Source,
        found: Found,
        names: Names,
        options: &PullOptions,
        progress: &Progress,
    ) -> Result<PulledImage> {
        let config = self.fetch_config(&source, &found.manifest.config, what).await?;
        if !(options.takes_single && found.indexes.is_empty()) {
            check_platform(what, &config, options)?;
        }
        let diff_ids = &config.rootfs.diff_ids;
        let layers = &found.manifest.layers;
        if diff_ids.len() != layers.len() {
            let reason = format!("its configuration names {} layers, its manifest {}", diff_ids.len(), layers.len());
            return Err(Error::Unusable { what: what.to_owned(), reason });
        }
        if layers.len() > MAX_LAYERS {
            return Err(Error::TooManyLayers(layers.len()));
        }
        let _pin = self.inner.pin(diff_ids.iter().cloned());
        let pairs: Vec<(Descriptor, Digest)> = layers.iter().cloned().zip(diff_ids.iter().cloned()).collect();
        self.fetch_layers(Arc::new(source), &pairs, progress).await?;
        let pairs: Vec<(Digest, Digest)> = pairs.into_iter().map(|(d, diff_id)| (d.digest, diff_id)).collect();
        // All are there: this only collects their sizes.
        let layers = self.ensure_layers(&pairs, &Progress::none()).await?;
        self.record(found, names, layers, config, options.for_task).await
    }

    async fn record(
        &self,
        found: Found,
        names: Names,
        layers: Vec<LayerRecord>,
        config: ImageConfig,
        is_brought: bool,
    ) -> Result<PulledImage> {
        let id = found.manifest.config.digest.clone();
        let pulled = PulledImage { id: id.clone(), digest: found.root.clone(), is_new: true };
        self.run("recording the image", move |inner| {
            inner.put_blob(&found.manifest_bytes)?;
            let indexes = found.indexes.iter().map(|bytes| inner.put_blob(bytes)).collect::<Result<_>>()?;
            let record = ImageRecord { manifest: found.manifest_digest, indexes, parent: None, layers, config };
            inner.add_image(NewImage { id, record, tags: names.tags, repo_digest: names.repo_digest, is_brought })
        })
        .await?;
        Ok(pulled)
    }

    async fn fetch_config(&self, source: &Source, descriptor: &Descriptor, what: &str) -> Result<ImageConfig> {
        if descriptor.size > MAX_CONFIG_BYTES {
            let reason = format!("{} bytes, at most {MAX_CONFIG_BYTES} are accepted", descriptor.size);
            return Err(Error::Unusable { what: format!("configuration of {what}"), reason });
        }
        source.fetch(self, descriptor, &Progress::none(), &CancellationToken::new()).await?;
        let (digest, what) = (descriptor.digest.clone(), what.to_owned());
        self.run("reading the configuration", move |inner| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut inner.open_blob(&digest)?, &mut bytes)
                .map_err(|e| Error::file("read", inner.blob_path(&digest), e))?;
            ImageConfig::parse(&what, &bytes)
        })
        .await
    }

    /// Downloads and unpacks all layers. The first error stops the others, and all have ended on return.
    async fn fetch_layers(
        &self,
        source: Arc<Source>,
        layers: &[(Descriptor, Digest)],
        progress: &Progress,
    ) -> Result<()> {
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let mut seen = BTreeSet::new();
        for (blob, diff_id) in layers.iter().filter(|(_, diff_id)| seen.insert(diff_id.clone())) {
            let (store, source, blob, diff_id) = (self.clone(), Arc::clone(&source), blob.clone(), diff_id.clone());
            let (progress, cancel) = (progress.clone(), cancel.clone());
            tasks.spawn(async move {
                let is_told = source.fetch(&store, &blob, &progress, &cancel).await?;
                if cancel.is_cancelled() {
                    return Ok(());
                }
                if is_told && store.inner.layer_bytes(&diff_id)?.is_some() {
                    // the same files came with another blob
                    progress.say(blob.digest.short(), ProgressStatus::PullComplete);
                    return Ok(());
                }
                store.ensure_layer(&blob.digest, &diff_id, &progress).await.map(drop)
            });
        }
        let mut first_error = None;
        while let Some(joined) = tasks.join_next().await {
            let result = joined.map_err(|e| Error::Interrupted(format!("pulling a layer: {e}"))).and_then(|r| r);
            if let Err(error) = result {
                cancel.cancel();
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// Follows an index to the manifest for our platform.
async fn choose(
    reference: &ImageReference,
    registry: &Registry,
    fetched: Fetched,
    options: &PullOptions,
) -> Result<Found> {
    let what = reference.familiar();
    let root = fetched.digest.clone();
    let (mut current, mut indexes) = (fetched, Vec::new());
    loop {
        match Document::parse(&what, &current.bytes)? {
            Document::Manifest(manifest) => {
                let Fetched { digest, bytes } = current;
                return Ok(Found { root, indexes, manifest_digest: digest, manifest_bytes: bytes, manifest });
            }
            Document::Index(index) if indexes.len() < MAX_NESTING => {
                let entry = choose_for(&what, &index, options)?;
                let next = registry.manifest(entry.digest.as_str()).await?;
                indexes.push(std::mem::replace(&mut current, next).bytes);
            }
            Document::Index(_) => {
                return Err(Error::Unusable { what, reason: "indexes are nested too deep".to_owned() });
            }
        }
    }
}

/// The entry of an index for this host: its own platform first, then what runs there too.
pub(crate) fn choose_for(what: &str, index: &Index, options: &PullOptions) -> Result<Descriptor> {
    let runnable = index.runnable();
    if let ([only], true) = (runnable.as_slice(), options.any_platform) {
        return Ok((*only).clone());
    }
    let own = choose_entry(what, index, &options.host());
    own.or_else(|why| options.also_runs.iter().find_map(|other| choose_entry(what, index, other).ok()).ok_or(why))
}

/// Whether an image that the name led to before is what is asked for now: an index has one for each platform.
fn is_meant(record: &ImageRecord, options: &PullOptions) -> bool {
    let (platform, is_single) = (record.config.platform(), record.indexes.is_empty());
    let runs_here = || options.hosts().any(|host| platform.rank_on(&host).is_some());
    match &options.platform {
        Some(wanted) => *wanted == platform || (options.takes_single && is_single),
        None => is_single || options.any_platform || record.config.architecture.is_empty() || runs_here(),
    }
}

fn check_platform(what: &str, config: &ImageConfig, options: &PullOptions) -> Result<()> {
    let image = config.platform();
    let runs_here = || options.hosts().any(|host| image.rank_on(&host).is_some());
    // Images made by hand often do not say.
    if options.any_platform || config.architecture.is_empty() || runs_here() {
        return Ok(());
    }
    Err(Error::NoMatchingPlatform {
        image: what.to_owned(),
        needed: options.host().to_string(),
        offered: vec![image.to_string()],
    })
}
