//! Unpacked layers: `layers/HEX24/fs` is a lower directory for overlayfs, `layer.json` beside it says
//! what it is. Called by load, pull and mount.
//!
//! Files of a layer are not synced one by one. The layer notes the boot it was made in; after another
//! boot a layer that was never synced ([`Store::sync`]) is unpacked again from its (synced) blob.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{Inner, Pin, StorageDriver, Store, Temp, catalog::LayerRecord, make_directory};
use crate::{
    digest::Digest,
    error::{Error, Result, is_disk_full},
    progress::{Progress, ProgressStatus},
    unpack::{UnpackError, Unpacked, unpack},
};

/// Hexadecimal digits of a layer's directory name: short, so that many fit into the mount options.
/// The full digest in `layer.json` is compared at each use.
const NAME_DIGITS: usize = 24;

#[derive(Debug, Serialize, Deserialize)]
struct LayerFile {
    diff_id: Digest,
    bytes: u64,
    boot: String,
    /// The copying drivers read marks that overlayfs does not.
    #[serde(default)]
    driver: StorageDriver,
}

/// The kernel's id of this boot; empty where it is not known, which never matches.
fn this_boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

impl Inner {
    pub(crate) fn layer_name(diff_id: &Digest) -> &str {
        &diff_id.hex()[..NAME_DIGITS]
    }

    pub(super) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(Self::layer_name(diff_id))
    }

    /// Bytes of an unpacked layer, or nothing where it is not there.
    pub(crate) fn layer_bytes(&self, diff_id: &Digest) -> Result<Option<u64>> {
        let path = self.layer_path(diff_id).join("layer.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::file("read", path, e)),
        };
        let damaged = |reason| Error::Damaged { path: self.root.clone(), reason };
        let layer: LayerFile =
            serde_json::from_slice(&text).map_err(|e| damaged(format!("{}: {e}", path.display())))?;
        if layer.diff_id != *diff_id {
            return Err(damaged(format!("layers {} and {diff_id} have the same short name", layer.diff_id)));
        }
        Ok(Some(layer.bytes))
    }

    /// Unpacks `blob` unless the layer is there; the content must have the digest `diff_id`.
    /// Blocking. Gives the sum of its file sizes.
    pub(super) fn unpack_layer(&self, blob: &Digest, diff_id: &Digest) -> Result<u64> {
        if let Some(bytes) = self.layer_bytes(diff_id)? {
            return Ok(bytes);
        }
        let (temp, unpacked) = self.unpack_blob(blob, diff_id.short())?;
        if unpacked.diff_id != *diff_id {
            let what = format!("layer {}", diff_id.short());
            return Err(Error::DigestMismatch { what, expected: diff_id.clone(), actual: unpacked.diff_id });
        }
        self.adopt(&temp, &unpacked)
    }

    /// Unpacks a blob whose diff id nobody knows yet, in one pass; the pin keeps the layer.
    pub(crate) fn unpack_unknown(self: &Arc<Self>, blob: &Digest) -> Result<(LayerRecord, Pin)> {
        let (temp, unpacked) = self.unpack_blob(blob, blob.short())?;
        let pin = self.pin([unpacked.diff_id.clone()]);
        let bytes = self.adopt(&temp, &unpacked)?;
        Ok((LayerRecord { blob: blob.clone(), diff_id: unpacked.diff_id, bytes }, pin))
    }

    fn unpack_blob(&self, blob: &Digest, name: &str) -> Result<(Temp, Unpacked)> {
        let temp = self.temp()?;
        let path = temp.path.join("layer/fs");
        make_directory(&path)?;
        let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        fs::set_permissions(&path, mode).map_err(|e| Error::file("set the mode of", &path, e))?;
        let unpacked = unpack(self.open_blob(blob)?, &path).map_err(|e| self.unpack_failed(name, e))?;
        Ok((temp, unpacked))
    }

    /// Gives an unpacked layer its name; one that is there already stays.
    fn adopt(&self, temp: &Temp, unpacked: &Unpacked) -> Result<u64> {
        if let Some(bytes) = self.layer_bytes(&unpacked.diff_id)? {
            return Ok(bytes);
        }
        let file = LayerFile {
            diff_id: unpacked.diff_id.clone(),
            bytes: unpacked.bytes,
            boot: this_boot(),
            driver: self.driver,
        };
        let text = serde_json::to_vec(&file).expect("plain strings and numbers");
        let json = temp.path.join("layer/layer.json");
        fs::write(&json, text).map_err(|e| Error::file("write", json, e))?;
        let target = self.layer_path(&unpacked.diff_id);
        match fs::rename(temp.path.join("layer"), &target) {
            Ok(()) => Ok(unpacked.bytes),
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                self.layer_bytes(&unpacked.diff_id).map(|bytes| bytes.unwrap_or(unpacked.bytes))
            }
            Err(e) => Err(Error::file("rename into place", target, e)),
        }
    }

    fn unpack_failed(&self, layer: &str, error: UnpackError) -> Error {
        let layer = layer.to_owned();
        if error.io().is_some_and(is_disk_full) {
            return Error::NoSpace { action: format!("unpacking layer {layer}"), path: self.root.clone() };
        }
        match error {
            UnpackError::Hostile(entry) => Error::Hostile { layer, source: Box::new(entry) },
            UnpackError::NoTar(why) => Error::Unusable { what: format!("layer {layer}"), reason: why.to_string() },
            other => Error::Unpack {
                layer,
                source: io::Error::new(other.io().map_or(io::ErrorKind::Other, io::Error::kind), other),
            },
        }
    }

    /// Layers of an earlier boot that may not have reached the disk are dropped; their blobs are safe. So are those
    /// that were made for another driver, where overlayfs is to read them.
    pub(super) fn forget_unfit_layers(&self) -> Result<()> {
        let boot = this_boot();
        for path in self.layer_directories()? {
            let text = fs::read(path.join("layer.json")).unwrap_or_default();
            let layer = serde_json::from_slice::<LayerFile>(&text).ok();
            let is_safe = path.join("synced").exists()
                || layer.as_ref().is_some_and(|layer| !boot.is_empty() && layer.boot == boot);
            let is_readable = self.driver != StorageDriver::Overlay2
                || layer.as_ref().is_none_or(|layer| layer.driver == StorageDriver::Overlay2);
            if !is_safe || !is_readable {
                self.discard(&path)?;
            }
        }
        Ok(())
    }

    pub(super) fn layer_directories(&self) -> Result<Vec<PathBuf>> {
        let path = self.root.join("layers");
        let listed = fs::read_dir(&path).and_then(|items| items.map(|item| item.map(|i| i.path())).collect());
        listed.map_err(|e| Error::file("list", path, e))
    }

    /// Moves a directory out of the store's sight at once and removes it.
    pub(super) fn discard(&self, path: &std::path::Path) -> Result<()> {
        let temp = self.temp()?;
        match fs::rename(path, temp.path.join("gone")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path, e)),
            _ => Ok(()),
        }
    }

    /// Each image must have its blobs; layers can be made again from them.
    pub(super) fn check_complete(&self) -> Result<()> {
        let state = self.state();
        let (blobs, _) = state.catalog.needed();
        match blobs.into_iter().find(|blob| self.blob_size(blob).is_none()) {
            Some(blob) => Err(Error::Damaged { path: self.root.clone(), reason: format!("blob {blob} is missing") }),
            None => Ok(()),
        }
    }

    fn sync_layers(&self) -> Result<()> {
        let unsynced: Vec<PathBuf> =
            self.layer_directories()?.into_iter().filter(|path| !path.join("synced").exists()).collect();
        if unsynced.is_empty() {
            return Ok(());
        }
        let root = File::open(&self.root).map_err(|e| Error::file("open", &self.root, e))?;
        rustix::fs::syncfs(&root).map_err(|e| Error::file("sync", &self.root, e))?;
        for path in unsynced {
            match File::create(path.join("synced")) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::file("mark as synced", path, e)),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Store {
    /// Brings new layers to the disk for good. Without it they are unpacked again after the next boot;
    /// call it when the host is idle and before a planned stop.
    ///
    /// # Errors
    /// A failed file operation.
    pub async fn sync(&self) -> Result<()> {
        self.run("syncing layers", |inner| inner.sync_layers()).await
    }

    /// Makes one layer, once however many ask; waits for a free core. Of one that is there nothing is told.
    pub(crate) async fn ensure_layer(
        &self,
        blob: &Digest,
        diff_id: &Digest,
        progress: &Progress,
    ) -> Result<LayerRecord> {
        let lock = self.inner.work_on(diff_id);
        let _mine = lock.lock().await;
        if let Some(bytes) = self.inner.layer_bytes(diff_id)? {
            return Ok(LayerRecord { blob: blob.clone(), diff_id: diff_id.clone(), bytes });
        }
        let _core = self.inner.unpacking.acquire().await.map_err(|_| Error::Interrupted("unpacking".to_owned()))?;
        progress.say(blob.short(), ProgressStatus::Extracting);
        let (blob_, diff_id_) = (blob.clone(), diff_id.clone());
        let bytes = self.run("unpacking a layer", move |inner| inner.unpack_layer(&blob_, &diff_id_)).await?;
        progress.say(blob.short(), ProgressStatus::PullComplete);
        Ok(LayerRecord { blob: blob.clone(), diff_id: diff_id.clone(), bytes })
    }

    /// Makes all layers of an image, in parallel; the same layer twice is made once.
    pub(crate) async fn ensure_layers(
        &self,
        layers: &[(Digest, Digest)],
        progress: &Progress,
    ) -> Result<Vec<LayerRecord>> {
        if layers.len() > super::MAX_LAYERS {
            return Err(Error::TooManyLayers(layers.len()));
        }
        let mut tasks = tokio::task::JoinSet::new();
        let mut seen = BTreeSet::new();
        for (blob, diff_id) in layers.iter().filter(|(_, diff_id)| seen.insert(diff_id.clone())) {
            let (store, blob, diff_id, progress) = (self.clone(), blob.clone(), diff_id.clone(), progress.clone());
            tasks.spawn(async move { store.ensure_layer(&blob, &diff_id, &progress).await });
        }
        let mut made = std::collections::BTreeMap::new();
        let mut first_error = None;
        while let Some(joined) = tasks.join_next().await {
            match joined.map_err(|e| Error::Interrupted(format!("unpacking a layer: {e}"))).and_then(|r| r) {
                Ok(record) => drop(made.insert(record.diff_id.clone(), record.bytes)),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        if let Some(error) = first_error {
            return Err(error);
        }
        let record = |(blob, diff_id): &(Digest, Digest)| LayerRecord {
            blob: blob.clone(),
            diff_id: diff_id.clone(),
            bytes: made.get(diff_id).copied().unwrap_or(0),
        };
        Ok(layers.iter().map(record).collect())
    }
}
