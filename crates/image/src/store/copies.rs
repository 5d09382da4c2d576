//! Root filesystems that are whole trees of their own: copies (`vfs`) and subvolumes of btrfs. Called by the snapshots.
//!
//! On btrfs all layers of an image lie together in one subvolume, `trees/HEX24`, of which containers get snapshots. It is
//! made with the first container of the image and goes with the image.

use std::{collections::BTreeSet, fs, io, path::Path, sync::PoisonError};

use super::{Inner, btrfs, catalog::LayerRecord, make_directory};
use crate::{
    digest::Digest,
    error::{Error, Result},
    tree::flatten,
};

/// The name of the tree of these layers.
fn tree_name(layers: &[LayerRecord]) -> String {
    let chain: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    Inner::layer_name(&Digest::of(chain.join(" ").as_bytes())).to_owned()
}

/// Removes a subvolume. One that has others inside is emptied file by file, with the directory it lies in.
pub(super) fn remove_subvolume(path: &Path) {
    if let Err(error) = btrfs::destroy(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(path = %path.display(), %error, "a subvolume is removed file by file");
    }
}

impl Inner {
    /// A copy of all layers in the new directory `target`.
    pub(super) fn create_copy(&self, target: &Path, layers: &[LayerRecord]) -> Result<()> {
        make_directory(target)?;
        self.fill(target, layers)
    }

    fn fill(&self, target: &Path, layers: &[LayerRecord]) -> Result<()> {
        if layers.is_empty() {
            let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
            return fs::set_permissions(target, mode).map_err(|e| Error::file("set the mode of", target, e));
        }
        flatten(&self.lower(layers)?, target).map_err(|error| match error.io() {
            Some(source) if crate::error::is_disk_full(source) => {
                Error::NoSpace { action: "copying an image for a container".to_owned(), path: self.root.clone() }
            }
            _ => error.into(),
        })?;
        // What is recorded later must not outlive, in a power failure, the files that it speaks of.
        let opened = fs::File::open(target).map_err(|e| Error::file("open", target, e))?;
        rustix::fs::syncfs(&opened).map_err(|e| Error::file("sync", target, e))
    }

    /// A snapshot of the image's tree as the new subvolume `target`.
    pub(super) fn create_subvolume(&self, target: &Path, layers: &[LayerRecord]) -> Result<()> {
        let _trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.root.join("trees");
        make_directory(&all)?;
        let tree = all.join(tree_name(layers));
        if !tree.is_dir() {
            let temp = self.temp()?;
            let new = temp.path.join("tree");
            btrfs::create(&new).map_err(|e| Error::file("make subvolume", &new, e))?;
            if let Err(error) = self.fill(&new, layers) {
                remove_subvolume(&new);
                return Err(error);
            }
            fs::rename(&new, &tree).map_err(|e| Error::file("rename into place", &tree, e))?;
        }
        btrfs::snapshot(&tree, target).map_err(|e| Error::file("snapshot", tree, e))
    }

    /// Removes the trees of images that are not there any more; their snapshots stay whole.
    pub(super) fn sweep_trees(&self) -> Result<()> {
        let _trees = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.root.join("trees");
        let listed = match fs::read_dir(&all) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(|e| Error::file("list", &all, e))?,
        };
        let needed: BTreeSet<String> =
            self.state().catalog.images.values().map(|image| tree_name(&image.layers)).collect();
        let trash = self.temp()?;
        for item in listed {
            let item = item.map_err(|e| Error::file("list", &all, e))?;
            if needed.contains(item.file_name().to_string_lossy().as_ref()) {
                continue;
            }
            let gone = trash.path.join(item.file_name());
            fs::rename(item.path(), &gone).map_err(|e| Error::file("remove", item.path(), e))?;
            remove_subvolume(&gone);
        }
        Ok(())
    }
}
