//! `import`: the tar of a root filesystem becomes an image with one layer.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    sync::Arc,
};

use tokio::io::AsyncRead;
use tokio_util::{io::SyncIoBridge, sync::CancellationToken};
use types::ImageReference;

use super::{
    changes::apply_changes,
    load::{LoadedImage, MAX_UNWANTED_BYTES, make_manifest},
};
use crate::{
    compression::Decompressed,
    config::{HistoryEntry, ImageConfig, RootFs},
    digest::Digest,
    error::{Error, Result},
    platform::Platform,
    progress::Progress,
    registry::open_url,
    store::{Store, blobs::Spooled, catalog::ImageRecord, images::NewImage},
};

/// What `image import` adds to the tar.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    pub reference: Option<ImageReference>,
    /// Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER,
    /// VOLUME, WORKDIR.
    pub changes: Vec<String>,
    pub message: String,
    /// The platform of the programs inside; this host's where not given.
    pub platform: Option<Platform>,
}

impl ImportOptions {
    /// Whether the changes can be made, and the platform runs here; for a caller who has not read the tar yet.
    ///
    /// # Errors
    /// [`Error::BadChange`], [`Error::Unusable`].
    pub fn check(&self) -> Result<()> {
        self.config().map(drop)
    }

    fn config(&self) -> Result<ImageConfig> {
        if let Some(platform) = self.platform.as_ref().filter(|platform| platform.os != std::env::consts::OS) {
            let reason = "operating system is not supported".to_owned();
            return Err(Error::Unusable { what: format!("platform {platform}"), reason });
        }
        let mut config = ImageConfig::default();
        apply_changes(&mut config.config, &self.changes)?;
        Ok(config)
    }
}

impl Store {
    /// Makes an image from the tar (plain or compressed) of a root filesystem.
    ///
    /// # Errors
    /// [`Error::BadChange`], [`Error::Unusable`], [`Error::Hostile`], [`Error::Unpack`], [`Error::NoSpace`].
    pub async fn import(
        &self,
        reader: impl AsyncRead + Unpin + Send + 'static,
        options: ImportOptions,
    ) -> Result<LoadedImage> {
        let config = options.config()?;
        let mut bridge = SyncIoBridge::new(reader);
        let layer = self
            .run("reading the root filesystem", move |inner| {
                let tar = Decompressed::as_layer(&mut bridge).map_err(Error::ReadArchive);
                let layer = tar.and_then(|mut tar| inner.spool(&mut tar, Error::ReadArchive));
                // A client that cannot send the rest takes that for the failure, and does not read the answer.
                let rest = io::copy(&mut Read::take(&mut bridge, MAX_UNWANTED_BYTES), &mut io::sink());
                let layer = layer?;
                rest.map_err(Error::ReadArchive)?;
                Ok(layer)
            })
            .await?;
        let pin = self.inner.pin([layer.digest.clone()]);
        let imported = self.finish_import(layer, config, options).await;
        drop(pin);
        if imported.is_err() {
            self.gc().await?;
        }
        imported
    }

    /// The same from the tar at an address, which is read no further once this is dropped: it may have no end.
    ///
    /// # Errors
    /// The same, and [`Error::Fetch`].
    pub async fn import_from(&self, url: &str, options: ImportOptions, progress: Progress) -> Result<LoadedImage> {
        let gone = CancellationToken::new();
        let _until_dropped = gone.clone().drop_guard();
        let tar = open_url(url, progress, gone).await?;
        self.import(tar, options).await
    }

    async fn finish_import(
        &self,
        layer: Spooled,
        mut config: ImageConfig,
        options: ImportOptions,
    ) -> Result<LoadedImage> {
        let _core = self.inner.unpacking.acquire().await.map_err(|_| Error::Interrupted("unpacking".to_owned()))?;
        self.run("importing the root filesystem", move |inner| {
            inner.keep(&layer)?;
            let (record, _layer_pin) = inner.unpack_unknown(&layer.digest)?;
            complete(&mut config, &options, &record.diff_id);
            let bytes = serde_json::to_vec(&config).expect("a configuration has only string keys");
            let config_file = inner.spool(&mut bytes.as_slice(), Error::ReadArchive)?;
            let _config_pin = inner.pin([config_file.digest.clone()]);
            inner.keep(&config_file)?;
            let manifest = make_manifest(&config_file, &[Arc::new(layer)]);
            let _manifest_pin = inner.pin([Digest::of(&manifest)]);
            let manifest = inner.put_blob(&manifest)?;
            let id = config_file.digest.clone();
            let references: Vec<_> = options.reference.into_iter().map(ImageReference::with_default_tag).collect();
            let record = ImageRecord { manifest, indexes: BTreeSet::new(), parent: None, layers: vec![record], config };
            inner.add_image(NewImage {
                id: id.clone(),
                record,
                tags: references.clone(),
                repo_digest: None,
                is_brought: false,
            })?;
            Ok(LoadedImage { id, references })
        })
        .await
    }
}

/// Fills in what does not come from the changes.
fn complete(config: &mut ImageConfig, options: &ImportOptions, diff_id: &Digest) {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let created = Some(jiff::Timestamp::now().to_string());
    config.created.clone_from(&created);
    config.architecture = platform.architecture;
    config.variant = platform.variant;
    config.os = platform.os;
    config.rootfs = RootFs { diff_ids: vec![diff_id.clone()], ..RootFs::default() };
    let comment = if options.message.is_empty() { "imported root filesystem" } else { &options.message };
    config.history = vec![HistoryEntry { created, comment: comment.to_owned(), ..HistoryEntry::default() }];
}
