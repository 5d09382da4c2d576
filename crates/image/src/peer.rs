//! Images between the nodes of a cluster: what this store offers another node, and how an offer is taken.
//!
//! Called by the agent. Nothing here trusts the other node: the documents of an offer must lead from the digest that is
//! wanted to the configuration, and each blob must have the digest by which it was asked for. How bytes come from one
//! node to another is the caller's ([`BlobSource`]).

use std::{collections::BTreeMap, fs::File, io::Read, pin::Pin, sync::Arc};

use tokio::io::AsyncRead;
use tokio_util::{io::SyncIoBridge, sync::CancellationToken};
use types::ImageReference;

use crate::{
    digest::Digest,
    document::{Descriptor, Document, MAX_MANIFEST_BYTES},
    error::{Error, Result},
    progress::Progress,
    registry::{Found, MAX_NESTING, Names, PullOptions, PulledImage, Source, choose_for},
    store::Store,
};

/// A manifest and the indexes above it, of all digests it was pulled by.
const MAX_DOCUMENTS: usize = 16;

/// What one node has under a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Of what the name means there: manifest or index.
    pub root: String,
    /// The documents from there to the manifest, in any order.
    pub documents: Vec<Vec<u8>>,
    /// Seconds since 1970: of several images under one tag the newest is taken.
    pub created: i64,
}

/// The bytes of a blob; they need not be right.
pub type BlobReader = Box<dyn AsyncRead + Send + Unpin>;

/// Nodes that may have the blobs of one image.
pub trait BlobSource: Send + Sync + 'static {
    /// How many nodes can be asked.
    fn holders(&self) -> usize;

    /// One blob from one of them, counted from 0.
    fn open<'a>(
        &'a self,
        holder: usize,
        digest: &'a Digest,
    ) -> Pin<Box<dyn Future<Output = Result<BlobReader>> + Send + 'a>>;
}

impl Store {
    /// What this store has under a tag, or under a digest that it can prove; `None` if it has nothing.
    ///
    /// # Errors
    /// When a document cannot be read.
    pub async fn offer(&self, reference: &ImageReference) -> Result<Option<Offer>> {
        let reference = reference.clone().with_default_tag();
        self.run("offering an image", move |inner| {
            let (root, record) = {
                let state = inner.state();
                let Some(id) = state.catalog.by_reference(&reference) else { return Ok(None) };
                let Some(record) = state.catalog.images.get(&id).cloned() else { return Ok(None) };
                let root = match &reference.digest {
                    Some(digest) => digest.parse::<Digest>()?,
                    None => record.manifest.clone(),
                };
                (root, record)
            };
            let mut documents = Vec::new();
            for digest in [&record.manifest].into_iter().chain(&record.indexes) {
                let mut bytes = Vec::new();
                let read = inner.open_blob(digest)?.read_to_end(&mut bytes);
                read.map_err(|e| Error::file("read", inner.blob_path(digest), e))?;
                documents.push(bytes);
            }
            let offer = Offer { root: root.to_string(), documents, created: record.config.created_seconds() };
            // an index that was not kept, or one of another manifest of the same image, whose blobs are not kept
            let is_proved = follow(&reference, offer.clone(), &PullOptions::default())
                .is_ok_and(|f| f.manifest_digest == record.manifest);
            Ok(is_proved.then_some(offer))
        })
        .await
    }

    /// A blob of the image that a name means here, and its size. Blobs of other images are not given under it.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] where the image or its blob is not here; a failed file operation.
    pub async fn blob_of(&self, reference: &ImageReference, digest: &Digest) -> Result<(File, u64)> {
        let (reference, digest) = (reference.clone().with_default_tag(), digest.clone());
        self.run("reading a blob", move |inner| {
            let is_part = {
                let state = inner.state();
                let id = state.catalog.by_reference(&reference);
                let record = id.as_ref().and_then(|id| state.catalog.images.get(id));
                id.as_ref() == Some(&digest)
                    || record.is_some_and(|record| record.layers.iter().any(|layer| layer.blob == digest))
            };
            if !is_part {
                return Err(Error::NoSuchImage(format!("{} with blob {}", reference.familiar(), digest.short())));
            }
            let file = inner.open_blob(&digest)?;
            let size = file.metadata().map_err(|e| Error::file("read", inner.blob_path(&digest), e))?.len();
            Ok((file, size))
        })
        .await
    }

    /// Takes an image that other nodes offer; what is here already is not fetched again.
    ///
    /// # Errors
    /// [`Error::Unusable`] where the documents do not lead from the name to an image, [`Error::NoMatchingPlatform`],
    /// [`Error::DigestMismatch`], [`Error::Peer`], and those of the disk. The store is as before then.
    pub async fn pull_from_peers(
        &self,
        reference: &ImageReference,
        offer: Offer,
        source: Arc<dyn BlobSource>,
        options: &PullOptions,
    ) -> Result<PulledImage> {
        let reference = reference.clone().with_default_tag();
        let found = follow(&reference, offer, options)?;
        let names = match &reference.digest {
            Some(_) => Names { tags: Vec::new(), repo_digest: Some((reference.name(), found.root.clone())) },
            None => Names { tags: vec![reference.clone()], repo_digest: None },
        };
        self.bring(&reference, Source::Peers(source), found, names, options, &Progress::none()).await
    }
}

/// From the digest that is wanted over the documents to the manifest for this host. Pure.
fn follow(reference: &ImageReference, offer: Offer, options: &PullOptions) -> Result<Found> {
    let what = reference.familiar();
    let unusable = |reason: String| Error::Unusable { what: format!("what another node offers as {what}"), reason };
    let root: Digest = reference.digest.as_ref().unwrap_or(&offer.root).parse()?;
    let is_too_large = offer.documents.iter().any(|bytes| bytes.len() as u64 > MAX_MANIFEST_BYTES);
    if offer.documents.len() > MAX_DOCUMENTS || is_too_large {
        return Err(unusable("its documents are too many or too large".to_owned()));
    }
    let mut documents: BTreeMap<Digest, Vec<u8>> =
        offer.documents.into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect();
    let (mut digest, mut indexes) = (root.clone(), Vec::new());
    loop {
        let missing = || unusable(format!("document {digest} is missing"));
        let bytes = documents.remove(&digest).ok_or_else(missing)?;
        match Document::parse(&what, &bytes)? {
            Document::Manifest(manifest) => {
                return Ok(Found { root, indexes, manifest_digest: digest, manifest_bytes: bytes, manifest });
            }
            Document::Index(index) if indexes.len() < MAX_NESTING => {
                digest = choose_for(&what, &index, options)?.digest;
                indexes.push(bytes);
            }
            Document::Index(_) => return Err(unusable("indexes are nested too deep".to_owned())),
        }
    }
}

/// Fetches one blob from the first holder that gives it right.
pub(crate) async fn download(
    store: &Store,
    source: &dyn BlobSource,
    blob: &Descriptor,
    cancel: &CancellationToken,
) -> Result<()> {
    let lock = store.inner.work_on(&blob.digest);
    let _mine = lock.lock().await;
    if store.inner.blob_size(&blob.digest) == Some(blob.size) {
        return Ok(());
    }
    let _slot = store.inner.downloading.acquire().await;
    let what = format!("blob {}", blob.digest.short());
    let mut failed = Error::Peer { what, reason: "there is no node to ask".to_owned() };
    for holder in 0..source.holders() {
        let attempt = async { receive(store, source.open(holder, &blob.digest).await?, blob).await };
        let result = tokio::select! {
            result = attempt => result,
            () = cancel.cancelled() => return Err(Error::Interrupted("another part of the image failed".to_owned())),
        };
        match result {
            Ok(()) => return Ok(()),
            Err(error @ (Error::File { .. } | Error::NoSpace { .. })) => return Err(error),
            Err(error) => {
                tracing::debug!(blob = %blob.digest, holder, %error, "a node did not give a blob");
                failed = error;
            }
        }
    }
    Err(failed)
}

/// Reads, compares, keeps.
async fn receive(store: &Store, reader: BlobReader, blob: &Descriptor) -> Result<()> {
    let bridge = SyncIoBridge::new(reader);
    let blob = blob.clone();
    store
        .run("receiving a blob", move |inner| {
            let what = format!("blob {}", blob.digest.short());
            let broken = |e: std::io::Error| Error::Peer { what: what.clone(), reason: e.to_string() };
            // one byte more than it has: a longer one is seen, and not written on
            let spooled = inner.spool(&mut bridge.take(blob.size.saturating_add(1)), broken)?;
            if spooled.size != blob.size {
                return Err(Error::SizeMismatch { what, expected: blob.size, actual: spooled.size });
            }
            if spooled.digest != blob.digest {
                let (expected, actual) = (blob.digest.clone(), spooled.digest.clone());
                return Err(Error::DigestMismatch { what, expected, actual });
            }
            inner.keep(&spooled)
        })
        .await
}
