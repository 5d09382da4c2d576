//! Views: the files of an image that a container has as a mount, beside its own root filesystem (parity S-68, E-15).
//! Called by the engine; a view is the container's and goes with its snapshot. Nobody writes there: with overlayfs the
//! kernel refuses, with the other drivers the container's mount is read-only.

use std::path::{Path, PathBuf};

use super::{
    Inner, StorageDriver, Store,
    catalog::LayerRecord,
    copies::remove_subvolume,
    make_directory,
    mount::{is_mount_point, mount_overlay},
    snapshots::{Mounted, check_id},
};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// Relative to the snapshot's directory.
fn view_name(image: &Digest) -> String {
    format!("views/{}", Inner::layer_name(image))
}

impl Inner {
    pub(super) fn view_names(&self, container: &str) -> Vec<String> {
        let state = self.state();
        state.snapshots.get(container).map(|s| s.views.keys().map(view_name).collect()).unwrap_or_default()
    }

    pub(super) fn view_paths(&self, container: &str) -> Vec<PathBuf> {
        let snapshot = self.snapshot_path(container);
        self.view_names(container).iter().map(|name| snapshot.join(name)).collect()
    }

    /// Notes that the container needs the image, before there is anything of it.
    fn note_view(&self, container: &str, image: &Digest, layers: &[LayerRecord]) -> Result<StorageDriver> {
        let mut record = self.snapshot(container)?;
        if record.views.insert(image.clone(), layers.to_vec()).is_none() {
            let text = serde_json::to_vec(&record).expect("plain strings and numbers");
            self.write_file(&self.snapshot_path(container).join("snapshot.json"), &text)?;
            self.state().snapshots.insert(container.to_owned(), record.clone());
        }
        Ok(record.driver)
    }

    fn mount_view(&self, container: &str, image: &Digest, layers: &[LayerRecord]) -> Result<PathBuf> {
        let driver = self.note_view(container, image, layers)?;
        let target = self.snapshot_path(container).join(view_name(image));
        match driver {
            StorageDriver::Overlay2 => self.mount_layers(container, &target, layers)?,
            StorageDriver::Btrfs | StorageDriver::Vfs if target.is_dir() => {}
            StorageDriver::Btrfs | StorageDriver::Vfs => self.copy_layers(&target, driver, layers)?,
        }
        Ok(target)
    }

    fn mount_layers(&self, container: &str, target: &Path, layers: &[LayerRecord]) -> Result<()> {
        let failed = |reason: String, source| Error::Mount { container: container.to_owned(), reason, source };
        make_directory(target)?;
        let mounted = is_mount_point(target);
        if mounted.map_err(|e| failed("cannot see whether an image of its mounts is there".to_owned(), e))? {
            return Ok(());
        }
        let mut names = Self::lower_names(layers)?;
        // without an upper directory the kernel wants two lower ones
        names.push(self.empty_layer()?);
        let options = format!("lowerdir={}", names.join(":"));
        mount_overlay(&self.root.join("layers"), target, &options).map_err(|e| failed(e.reason, e.source))
    }

    /// Whole or not at all.
    fn copy_layers(&self, target: &Path, driver: StorageDriver, layers: &[LayerRecord]) -> Result<()> {
        make_directory(target.parent().expect("it lies in a directory of the snapshot"))?;
        let temp = self.temp()?;
        let new = temp.path.join("view");
        match driver {
            StorageDriver::Btrfs => self.create_subvolume(&new, layers)?,
            _ => self.create_copy(&new, layers)?,
        }
        std::fs::rename(&new, target).map_err(|e| {
            remove_subvolume(&new);
            Error::file("rename into place", target, e)
        })
    }
}

impl Store {
    /// The files of an image, for a container that has a root filesystem: there until that is removed, and the image
    /// with them. Called again it gives the same.
    ///
    /// # Errors
    /// [`Error::NoSuchSnapshot`], otherwise as [`Store::snapshot_mount`].
    pub async fn snapshot_image(&self, container: &str, image: &str) -> Result<Mounted> {
        check_id(container)?;
        let lock = self.inner.work_on_container(container);
        let _mine = lock.lock().await;
        let mut known = self.inner.snapshot(container)?.views;
        let known = image.parse::<Digest>().ok().and_then(|id| known.remove_entry(&id));
        // The pin holds the layers until the container is noted to need them.
        let (id, layers, _pin) = match known {
            Some((id, layers)) => (id, layers, None),
            None => {
                let id = self.get(image)?;
                let (found, pin) = self.pin_image(&id)?;
                (id, found.layers, Some(pin))
            }
        };
        self.ensure_present(&layers).await?;
        let container = container.to_owned();
        self.run("mounting an image", move |inner| {
            let rootfs = inner.mount_view(&container, &id, &layers)?;
            Ok(Mounted { rootfs, image: id })
        })
        .await
    }
}
