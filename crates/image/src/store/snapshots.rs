//! Snapshots: the writable root filesystem of one container, made of an image's layers by a storage driver.
//! Called by the agent for each container. All calls may be repeated; a mount survives the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Inner, MAX_LAYERS, StorageDriver, Store,
    catalog::LayerRecord,
    copies::remove_subvolume,
    driver::same_owner_and_mode,
    make_directory,
    mount::{is_mount_point, mount_on_itself, mount_overlay, unmount},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
    progress::Progress,
    tree::{Change, Difference, Lower, Root, TreeKind, differences, sum_below},
};

/// What a container writes with overlayfs, named as in Docker's data: monitors measure it there.
const UPPER: &str = "diff";
/// What [`UPPER`] was called before.
const OLD_UPPER: &str = "upper";
/// Says, as in Docker's data, under which id the files of a container are: its own.
const MOUNT_ID: &str = "mount-id";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    pub image: Digest,
    pub layers: Vec<LayerRecord>,
    /// The driver of the store when the container was made.
    #[serde(default)]
    pub driver: StorageDriver,
    /// The images that the container has as mounts (`views`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub views: BTreeMap<Digest, Vec<LayerRecord>>,
}

impl SnapshotRecord {
    pub(super) fn needs(&self, image: &Digest) -> bool {
        self.image == *image || self.views.contains_key(image)
    }

    pub(super) fn all_layers(&self) -> impl Iterator<Item = &LayerRecord> {
        self.layers.iter().chain(self.views.values().flatten())
    }
}

/// A mounted snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    pub rootfs: PathBuf,
    pub image: Digest,
}

/// One line of [`Store::snapshot_list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    pub container: String,
    pub image: Digest,
}

/// Reads all snapshots. One whose record never reached the disk was made seconds before the power went:
/// it is dropped with a warning, and the container starts from its image again.
pub(super) fn read_all(root: &Path) -> Result<BTreeMap<String, SnapshotRecord>> {
    let path = root.join("snapshots");
    let mut all = BTreeMap::new();
    for item in fs::read_dir(&path).map_err(|e| Error::file("list", &path, e))? {
        let item = item.map_err(|e| Error::file("list", &path, e))?;
        let file = item.path().join("snapshot.json");
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::file("read", file, e)),
        };
        if bytes.is_empty() {
            tracing::warn!(snapshot = %item.path().display(), "dropping a snapshot cut short by a crash of the host");
            fs::remove_dir_all(item.path()).map_err(|e| Error::file("remove", item.path(), e))?;
            continue;
        }
        let record = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Damaged { path: root.to_owned(), reason: format!("{}: {e}", file.display()) })?;
        let container = item.file_name().to_string_lossy().into_owned();
        complete(&item.path(), &container)?;
        all.insert(container, record);
    }
    Ok(all)
}

/// Gives a snapshot of before what new ones have. A mounted overlay holds its directories, not their names.
fn complete(snapshot: &Path, container: &str) -> Result<()> {
    match fs::rename(snapshot.join(OLD_UPPER), snapshot.join(UPPER)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(Error::file("rename", snapshot.join(OLD_UPPER), e));
        }
        _ => {}
    }
    if !snapshot.join(MOUNT_ID).exists()
        && let Err(error) = write_mount_id(snapshot, container)
    {
        tracing::warn!(container.id = container, %error, "monitors do not find the files of a container");
    }
    Ok(())
}

fn write_mount_id(snapshot: &Path, container: &str) -> Result<()> {
    let file = snapshot.join(MOUNT_ID);
    fs::write(&file, container).map_err(|e| Error::file("write", file, e))
}

pub(super) fn check_id(container: &str) -> Result<()> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let shape = (1..=128).contains(&container.len()) && container.bytes().all(good) && !container.starts_with('.');
    if shape { Ok(()) } else { Err(Error::BadContainerId(container.to_owned())) }
}

/// Bytes of disk below `path`.
pub(super) fn usage(path: &Path) -> io::Result<u64> {
    sum_below(path, |meta| meta.blocks() * 512)
}

impl Inner {
    /// Two calls for one container wait for each other: a second mount on top would hide the first.
    pub(super) fn work_on_container(&self, container: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.work_on(&Digest::of(container.as_bytes()))
    }

    pub(super) fn snapshot_path(&self, container: &str) -> PathBuf {
        self.root.join("snapshots").join(container)
    }

    pub(crate) fn snapshot(&self, container: &str) -> Result<SnapshotRecord> {
        let missing = || Error::NoSuchSnapshot(container.to_owned());
        self.state().snapshots.get(container).cloned().ok_or_else(missing)
    }

    /// What a container has changed, and the tree where that is.
    pub(crate) fn differences(&self, container: &str, record: &SnapshotRecord) -> Result<(Root, Vec<Difference>)> {
        let (tree, kind) = self.changed_tree(container, record.driver);
        let root = Root::open(&tree).map_err(|e| Error::file("open", &tree, e))?;
        let lower = self.lower(&record.layers)?;
        let found = differences(&root, kind, &lower)?;
        Ok((root, found))
    }

    /// The layers of an image, to be read together.
    pub(super) fn lower(&self, layers: &[LayerRecord]) -> Result<Lower> {
        let paths: Vec<PathBuf> = layers.iter().rev().map(|l| self.layer_path(&l.diff_id).join("fs")).collect();
        Lower::open(&paths).map_err(|e| Error::file("open the layers of", self.root.join("layers"), e))
    }

    pub(super) fn rootfs_path(&self, container: &str) -> PathBuf {
        self.snapshot_path(container).join("rootfs")
    }

    /// The tree in which a container's own changes are.
    fn changed_tree(&self, container: &str, driver: StorageDriver) -> (PathBuf, TreeKind) {
        match driver {
            StorageDriver::Overlay2 => (self.snapshot_path(container).join(UPPER), TreeKind::Upper),
            StorageDriver::Btrfs | StorageDriver::Vfs => (self.rootfs_path(container), TreeKind::Whole),
        }
    }

    /// Makes the directories of a snapshot; its root looks like the image's.
    fn create_snapshot(&self, container: &str, record: &SnapshotRecord) -> Result<()> {
        let temp = self.temp()?;
        let new = temp.path.join("snapshot");
        make_directory(&new)?;
        match record.driver {
            StorageDriver::Overlay2 => self.create_upper(&new, record)?,
            StorageDriver::Btrfs => self.create_subvolume(&new.join("rootfs"), &record.layers)?,
            StorageDriver::Vfs => self.create_copy(&new.join("rootfs"), &record.layers)?,
        }
        write_mount_id(&new, container)?;
        let text = serde_json::to_vec(record).expect("plain strings and numbers");
        // Not synced, for the sake of the container's start: see `read_all`.
        let json = new.join("snapshot.json");
        fs::write(&json, text).map_err(|e| Error::file("write", json, e))?;
        let target = self.snapshot_path(container);
        let mut state = self.state();
        fs::rename(&new, &target).map_err(|e| Error::file("rename into place", &target, e))?;
        state.snapshots.insert(container.to_owned(), record.clone());
        Ok(())
    }

    fn create_upper(&self, new: &Path, record: &SnapshotRecord) -> Result<()> {
        for name in [UPPER, "work", "rootfs"] {
            make_directory(&new.join(name))?;
        }
        let upper = new.join(UPPER);
        let top = record.layers.last().map(|l| self.layer_path(&l.diff_id).join("fs"));
        let looks = top.map_or_else(
            || fs::set_permissions(&upper, std::os::unix::fs::PermissionsExt::from_mode(0o755)),
            |top| same_owner_and_mode(&top, &upper),
        );
        looks.map_err(|e| Error::file("set owner and mode of", upper, e))
    }

    fn mount_snapshot(&self, container: &str, record: &SnapshotRecord) -> Result<PathBuf> {
        let target = self.rootfs_path(container);
        let failed = |reason: String, source| Error::Mount { container: container.to_owned(), reason, source };
        let mounted = is_mount_point(&target);
        if mounted.map_err(|e| failed("cannot see whether it is mounted".to_owned(), e))? {
            return Ok(target);
        }
        match record.driver {
            StorageDriver::Overlay2 => {
                let options = self.mount_options(container, record)?;
                mount_overlay(&self.root.join("layers"), &target, &options).map_err(|e| failed(e.reason, e.source))?;
            }
            // So that it is seen to be in use, as an overlay is.
            StorageDriver::Btrfs | StorageDriver::Vfs => {
                mount_on_itself(&target).map_err(|e| failed("cannot mount it on itself".to_owned(), e))?;
            }
        }
        Ok(target)
    }

    /// Options relative to the layers' directory; overlayfs wants the top layer first.
    fn mount_options(&self, container: &str, record: &SnapshotRecord) -> Result<String> {
        let names = Self::lower_names(&record.layers)?;
        let lower = if names.is_empty() { self.empty_layer()? } else { names.join(":") };
        // The inode index would tie the upper directory to these very layers; nobody here exports it by NFS.
        let index = if Path::new("/sys/module/overlay/parameters/index").exists() { ",index=off" } else { "" };
        Ok(format!(
            "lowerdir={lower},upperdir=../snapshots/{container}/{UPPER},workdir=../snapshots/{container}/work{index}"
        ))
    }

    /// The top layer first, each once, relative to the layers' directory.
    pub(super) fn lower_names(layers: &[LayerRecord]) -> Result<Vec<String>> {
        let mut seen = BTreeSet::new();
        let names = layers.iter().rev().map(|layer| Self::layer_name(&layer.diff_id)).filter(|name| seen.insert(*name));
        let names: Vec<String> = names.map(|name| format!("{name}/fs")).collect();
        if names.len() > MAX_LAYERS {
            return Err(Error::TooManyLayers(names.len()));
        }
        Ok(names)
    }

    /// An image without layers still needs a lower directory.
    pub(super) fn empty_layer(&self) -> Result<String> {
        make_directory(&self.root.join("empty"))?;
        Ok("../empty".to_owned())
    }
}

impl Store {
    /// Mounts the root filesystem of a container, making it on the first call. Called again it gives the
    /// same; a snapshot keeps the image it was made from, whatever the name means by now.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`], [`Error::Mount`] with the likely cause, or a failed file operation.
    pub async fn snapshot_mount(&self, container: &str, image: &str) -> Result<Mounted> {
        check_id(container)?;
        let lock = self.inner.work_on_container(container);
        let _mine = lock.lock().await;
        let known = self.inner.state().snapshots.get(container).cloned();
        // The pin holds the layers until the snapshot is recorded and holds them itself.
        let (record, _pin) = match known {
            Some(record) => (record, None),
            None => {
                let id = self.get(image)?;
                let (found, pin) = self.pin_image(&id)?;
                let (layers, driver, views) = (found.layers, self.driver(), BTreeMap::new());
                (SnapshotRecord { image: id, layers, driver, views }, Some(pin))
            }
        };
        self.ensure_present(&record.layers).await?;
        let container = container.to_owned();
        self.run("mounting a root filesystem", move |inner| {
            if !inner.state().snapshots.contains_key(&container) {
                inner.create_snapshot(&container, &record)?;
            }
            let rootfs = inner.mount_snapshot(&container, &record)?;
            Ok(Mounted { rootfs, image: record.image })
        })
        .await
    }

    /// The root filesystem of a container that has one, mounted.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], otherwise as [`Store::snapshot_mount`].
    pub async fn snapshot_root(&self, container: &str) -> Result<PathBuf> {
        if !self.inner.state().snapshots.contains_key(container) {
            return Err(Error::NoSuchSnapshot(container.to_owned()));
        }
        // It is known, so that the image's name is not looked at.
        Ok(self.snapshot_mount(container, "").await?.rootfs)
    }

    /// What a container has changed of its image.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], or what cannot be read.
    pub async fn snapshot_changes(&self, container: &str) -> Result<Vec<Change>> {
        let record = self.comparable(container).await?;
        let container = container.to_owned();
        self.run("comparing a root filesystem", move |inner| {
            let (_, found) = inner.differences(&container, &record)?;
            Ok(found.into_iter().map(Change::from).collect())
        })
        .await
    }

    /// A snapshot whose layers are there to be compared with.
    pub(crate) async fn comparable(&self, container: &str) -> Result<SnapshotRecord> {
        let record = self.inner.snapshot(container)?;
        self.ensure_present(&record.layers).await?;
        Ok(record)
    }

    /// Layers lost with the last boot, or with another driver, are unpacked again.
    pub(super) async fn ensure_present(&self, layers: &[LayerRecord]) -> Result<()> {
        for layer in layers {
            if self.inner.layer_bytes(&layer.diff_id)?.is_none() {
                let all: Vec<_> = layers.iter().map(|l| (l.blob.clone(), l.diff_id.clone())).collect();
                self.ensure_layers(&all, &Progress::none()).await?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Unmounts; what the container wrote stays. Not mounted, or not there, is fine.
    ///
    /// # Errors
    /// [`Error::Mount`] where the kernel refuses.
    pub async fn snapshot_unmount(&self, container: &str) -> Result<()> {
        check_id(container)?;
        let lock = self.inner.work_on_container(container);
        let _mine = lock.lock().await;
        self.unmount(container).await
    }

    async fn unmount(&self, container: &str) -> Result<()> {
        let container = container.to_owned();
        self.run("unmounting a root filesystem", move |inner| {
            let rootfs = std::iter::once(inner.rootfs_path(&container));
            rootfs.chain(inner.view_paths(&container)).try_for_each(|path| unmount(&path)).map_err(|source| {
                let reason = "cannot unmount it".to_owned();
                Error::Mount { container, reason, source }
            })
        })
        .await
    }

    /// Unmounts and removes what the container wrote. Not there is fine.
    ///
    /// # Errors
    /// [`Error::Mount`] where the kernel refuses to unmount, or a failed file operation.
    pub async fn snapshot_remove(&self, container: &str) -> Result<()> {
        check_id(container)?;
        let lock = self.inner.work_on_container(container);
        let _mine = lock.lock().await;
        self.unmount(container).await?;
        let container = container.to_owned();
        self.run("removing a root filesystem", move |inner| {
            let trash = inner.temp()?;
            let views = inner.view_names(&container);
            let mut state = inner.state();
            let path = inner.snapshot_path(&container);
            let driver = state.snapshots.get(&container).map(|record| record.driver);
            match fs::rename(&path, trash.path.join("gone")) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::file("remove", path, e)),
                _ => {}
            }
            state.snapshots.remove(&container);
            drop(state);
            if driver == Some(StorageDriver::Btrfs) {
                let gone = trash.path.join("gone");
                remove_subvolume(&gone.join("rootfs"));
                views.iter().for_each(|name| remove_subvolume(&gone.join(name)));
            }
            Ok(())
        })
        .await
    }

    /// The driver that the root filesystem of a container was made with.
    pub fn snapshot_driver(&self, container: &str) -> Option<StorageDriver> {
        self.inner.state().snapshots.get(container).map(|record| record.driver)
    }

    /// All snapshots, by container id.
    pub fn snapshot_list(&self) -> Vec<SnapshotInfo> {
        let state = self.inner.state();
        let info = |(container, record): (&String, &SnapshotRecord)| SnapshotInfo {
            container: container.clone(),
            image: record.image.clone(),
        };
        state.snapshots.iter().map(info).collect()
    }

    /// The image that the root filesystem of a container was made from.
    pub fn snapshot_image_of(&self, container: &str) -> Option<Digest> {
        self.inner.state().snapshots.get(container).map(|record| record.image.clone())
    }

    /// Bytes of disk the container's own changes take (`ps -s`, `SizeRw`).
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], or a failed file operation.
    pub async fn snapshot_usage(&self, container: &str) -> Result<u64> {
        check_id(container)?;
        let record = self.comparable(container).await?;
        let container = container.to_owned();
        self.run("measuring a root filesystem", move |inner| {
            if record.driver == StorageDriver::Overlay2 {
                let (upper, _) = inner.changed_tree(&container, record.driver);
                return usage(&upper).map_err(|e| Error::file("measure", upper, e));
            }
            let (tree, found) = inner.differences(&container, &record)?;
            Ok(tree.usage(&found))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_checked() {
        for good in ["a", "web.1.abc_d-e"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", "..", ".", "a/b", "a,b", "a:b", "ü", &"a".repeat(129)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
