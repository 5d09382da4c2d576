//! Removes what nobody needs: blobs and layers without an image, a snapshot or a running pull.
//! Called after an image was removed, and by prune. Content leaves the store's names under the lock,
//! its bytes are freed afterwards.

use std::{collections::BTreeSet, fs, io};

use super::{Inner, RemoveOptions, Removed, Store, removal::Users, snapshots::SnapshotRecord};
use crate::{
    digest::Digest,
    error::{Error, Result},
};

/// What a sweep freed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    pub removed: Vec<Removed>,
    pub blobs: usize,
    pub layers: usize,
    /// Bytes of blobs and of files in layers.
    pub bytes: u64,
}

impl Inner {
    /// Removes all unneeded content.
    pub(crate) fn sweep(&self) -> Result<Swept> {
        let mut swept = Swept::default();
        let trash = self.temp()?;
        {
            let state = self.state();
            let (mut blobs, mut layers) = state.catalog.needed();
            layers.extend(state.snapshots.values().flat_map(SnapshotRecord::all_layers).map(|l| &l.diff_id));
            blobs.extend(state.snapshots.values().flat_map(SnapshotRecord::all_layers).map(|l| &l.blob));
            blobs.extend(state.pins.keys());
            layers.extend(state.pins.keys());
            let layer_names: BTreeSet<&str> = layers.into_iter().map(Inner::layer_name).collect();
            self.sweep_blobs(&blobs, &mut swept)?;
            for path in self.layer_directories()? {
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                if !layer_names.contains(name) {
                    let target = trash.path.join(name);
                    fs::rename(&path, target).map_err(|e| Error::file("remove", &path, e))?;
                    swept.layers += 1;
                }
            }
        }
        swept.bytes += super::snapshots::usage(&trash.path).unwrap_or(0);
        self.sweep_trees()?;
        Ok(swept)
    }

    fn sweep_blobs(&self, needed: &BTreeSet<&Digest>, swept: &mut Swept) -> Result<()> {
        let path = self.root.join("blobs/sha256");
        let items = fs::read_dir(&path).map_err(|e| Error::file("list", &path, e))?;
        for item in items {
            let item = item.map_err(|e| Error::file("list", &path, e))?;
            let digest = item.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            if digest.is_none_or(|d| needed.contains(&d)) {
                continue;
            }
            let size = item.metadata().map_or(0, |m| m.len());
            match fs::remove_file(item.path()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::file("remove", item.path(), e)),
                _ => {
                    swept.blobs += 1;
                    swept.bytes += size;
                }
            }
        }
        Ok(())
    }
}

impl Store {
    /// Removes images nobody uses: those without a tag, or with `all` every image without a container, the newest first,
    /// so that children go before what they were made of; `keep` may spare more (labels, age). One that a task is about to
    /// get stays: this is done by the clock on many hosts. Then all content without an image.
    ///
    /// # Errors
    /// A failed file operation.
    pub async fn prune(
        &self,
        all: bool,
        keep: impl Fn(&super::ImageSummary) -> bool + Send + 'static,
    ) -> Result<Swept> {
        let candidates =
            self.list().into_iter().filter(move |i| (all || i.is_dangling()) && !i.is_intermediate() && !keep(i));
        let ids: Vec<Digest> = candidates.map(|i| i.id).collect();
        self.run("pruning images", move |inner| {
            let removed = inner.change(|catalog, state| {
                let mut removed = Vec::new();
                // Whether they run makes no difference.
                let nobody_runs = BTreeSet::new();
                let users = |id: &Digest| Users::of(state, id, &nobody_runs);
                for id in ids.iter().filter(|id| users(id).is_nobody()) {
                    let mut names = catalog.names_of(id);
                    if names.is_empty() {
                        names.push(id.to_string());
                    }
                    for name in names {
                        match catalog.remove(&name, &RemoveOptions::default(), users) {
                            Ok(list) => removed.extend(list),
                            // Needed, or gone with another: not what prune is about.
                            Err(Error::Conflict { .. } | Error::NoSuchImage(_)) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Ok(removed)
            })?;
            Ok(Swept { removed, ..inner.sweep()? })
        })
        .await
    }

    /// Removes content without an image (left by interrupted pulls).
    ///
    /// # Errors
    /// A failed file operation.
    pub async fn gc(&self) -> Result<Swept> {
        self.run("collecting garbage", |inner| inner.sweep()).await
    }
}
