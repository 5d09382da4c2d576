//! The image store of one host: blobs by digest, unpacked layers, snapshots of containers, and the
//! catalog of names. Called by the agent and the API through the cheap handle [`Store`].
//!
//! On disk, below the root:
//! `catalog.json`, `blobs/sha256/HEX`, `layers/HEX24/{layer.json,fs}`, `snapshots/CONTAINER/…`, `tmp`, and on btrfs
//! `trees/HEX24`.
//! Everything is made in `tmp` and renamed into place, so a crash leaves either nothing or the whole;
//! `tmp` is emptied when the store opens. Content is verified before it gets its name, never after.

pub(crate) mod blobs;
mod btrfs;
pub(crate) mod catalog;
mod copies;
mod driver;
pub(crate) mod images;
mod layers;
mod manifests;
mod mount;
mod removal;
mod snapshots;
mod sweep;
mod transfers;
mod usage;
mod uses;
mod views;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

pub use driver::StorageDriver;
pub use images::{ImageDetail, ImageSummary};
pub use manifests::{ImageManifests, ManifestKind, ManifestView};
pub use removal::{RemoveOptions, Removed};
pub use snapshots::{Mounted, SnapshotInfo};
pub use sweep::Swept;
use tokio::sync::Semaphore;
pub use transfers::Transfers;
pub use usage::{DiskUsage, ImageUsage};
pub use uses::{Held, TaskImage};

use crate::{
    digest::Digest,
    error::{Error, Result},
};
use catalog::{Catalog, FORMAT};
use snapshots::SnapshotRecord;
use transfers::Slots;

/// Lower layers of one mount: with 28 bytes each the options fit the kernel's one page.
pub(crate) const MAX_LAYERS: usize = 128;

/// A cheap handle; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    /// Held as long as the store is open: a second daemon on the same directory is refused.
    _lock: File,
    /// How root filesystems of new containers are made.
    driver: StorageDriver,
    /// Held by whoever makes, uses or removes a tree of an image.
    trees: Mutex<()>,
    state: Mutex<State>,
    temp_counter: AtomicU64,
    /// Unpacking is CPU work: as many at once as there are cores.
    pub(crate) unpacking: Semaphore,
    /// Connections to registries and nodes.
    pub(crate) downloading: Slots,
    pub(crate) uploading: Slots,
    pub(crate) download_attempts: AtomicU32,
    /// One worker per blob or layer, so that two pulls of the same image share the work.
    working: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

pub(crate) struct State {
    pub catalog: Catalog,
    pub snapshots: BTreeMap<String, SnapshotRecord>,
    /// Content that work in progress needs, and how many times; never swept.
    pub pins: HashMap<Digest, usize>,
}

impl Store {
    /// Opens or makes the store at `root`, with the best storage driver that works there.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub async fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, None).await
    }

    /// Opens or makes the store at `root`. New containers get their root filesystems from `driver`; those that are
    /// there keep the one they were made with.
    ///
    /// # Errors
    /// [`Error::StoreBusy`], [`Error::Damaged`], [`Error::StoreFormat`], [`Error::StorageDriver`], or a failed file
    /// operation.
    pub async fn open_with(root: &Path, driver: Option<StorageDriver>) -> Result<Self> {
        let root = root.to_owned();
        blocking("opening the image store", move || Self::open_now(&root, driver)).await
    }

    fn open_now(root: &Path, driver: Option<StorageDriver>) -> Result<Self> {
        make_directory(root)?;
        let root = fs::canonicalize(root).map_err(|e| Error::file("find", root, e))?;
        let lock = lock(&root)?;
        for name in ["blobs", "blobs/sha256", "layers", "snapshots", "tmp"] {
            make_directory(&root.join(name))?;
        }
        empty_directory(&root.join("tmp"))?;
        let (driver, passed_over) = StorageDriver::choose(&root, driver)?;
        for reason in passed_over {
            tracing::warn!(%driver, reason, "a better storage driver does not work here");
        }
        let catalog = read_catalog(&root)?;
        let snapshots = snapshots::read_all(&root)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let inner = Inner {
            root,
            _lock: lock,
            driver,
            trees: Mutex::new(()),
            state: Mutex::new(State { catalog, snapshots, pins: HashMap::new() }),
            temp_counter: AtomicU64::new(0),
            unpacking: Semaphore::new(cores),
            downloading: Slots::new(Transfers::default().downloads),
            uploading: Slots::new(Transfers::default().uploads),
            download_attempts: AtomicU32::new(Transfers::default().attempts),
            working: Mutex::new(HashMap::new()),
        };
        inner.forget_unfit_layers()?;
        inner.check_complete()?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The directory of the store.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// How root filesystems of new containers are made.
    pub fn driver(&self) -> StorageDriver {
        self.inner.driver
    }

    /// Runs `work` on a blocking thread.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Arc<Inner>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        blocking(what, move || work(&inner)).await
    }
}

impl Inner {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic while holding it cannot leave it half changed: changes are made on a copy.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the catalog: on a copy, saved to disk, then swapped in.
    pub(crate) fn change<T>(&self, edit: impl FnOnce(&mut Catalog, &State) -> Result<T>) -> Result<T> {
        let mut state = self.state();
        let mut copy = state.catalog.clone();
        let answer = edit(&mut copy, &state)?;
        if copy != state.catalog {
            let bytes = serde_json::to_vec(&copy).expect("a catalog has only string keys");
            self.write_file(&self.root.join("catalog.json"), &bytes)?;
            state.catalog = copy;
        }
        Ok(answer)
    }

    /// Writes a small file so that after a crash it has the old or the new content.
    pub(crate) fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let temp = self.temp()?;
        let file = temp.path.join("file");
        let mut out = create_file(&file)?;
        out.write_all(bytes).and_then(|()| out.sync_all()).map_err(|e| Error::file("write", &file, e))?;
        fs::rename(&file, path).map_err(|e| Error::file("rename into place", path, e))?;
        sync_parent(path)
    }

    /// A new private directory in `tmp`, removed when dropped.
    pub(crate) fn temp(&self) -> Result<Temp> {
        let number = self.temp_counter.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("tmp").join(number.to_string());
        make_directory(&path)?;
        Ok(Temp { path })
    }

    /// Keeps this content from being swept until the pin is dropped.
    pub(crate) fn pin(self: &Arc<Self>, digests: impl IntoIterator<Item = Digest>) -> Pin {
        let digests: Vec<Digest> = digests.into_iter().collect();
        let mut state = self.state();
        for digest in &digests {
            *state.pins.entry(digest.clone()).or_default() += 1;
        }
        Pin { store: Arc::clone(self), digests }
    }

    /// The lock of one blob or layer.
    pub(crate) fn work_on(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut working = self.working.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = working.get(digest).and_then(Weak::upgrade) {
            return lock;
        }
        working.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        working.insert(digest.clone(), Arc::downgrade(&lock));
        lock
    }
}

/// See [`Inner::pin`].
pub(crate) struct Pin {
    store: Arc<Inner>,
    digests: Vec<Digest>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.store.state();
        for digest in &self.digests {
            if let Some(count) = state.pins.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(digest);
                }
            }
        }
    }
}

/// See [`Inner::temp`].
pub(crate) struct Temp {
    pub(crate) path: PathBuf,
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove temporary files");
        }
    }
}

/// Runs `work` on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Interrupted(format!("{what}: {error}"))),
    }
}

/// Only root may look into the store: layers hold setuid programs and devices.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Error::file("make directory", path, e))
}

pub(crate) fn create_file(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|e| Error::file("create", path, e))
}

/// Makes a rename durable.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent).and_then(|d| d.sync_all()).map_err(|e| Error::file("sync", parent, e))
}

fn empty_directory(path: &Path) -> Result<()> {
    for item in fs::read_dir(path).map_err(|e| Error::file("list", path, e))? {
        let item = item.map_err(|e| Error::file("list", path, e))?.path();
        let removed =
            if item.is_dir() && !item.is_symlink() { fs::remove_dir_all(&item) } else { fs::remove_file(&item) };
        removed.map_err(|e| Error::file("remove the leftover", &item, e))?;
    }
    Ok(())
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = opened.map_err(|e| Error::file("open", &path, e))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::StoreBusy(root.to_owned())),
        Err(e) => Err(Error::file("lock", path, e)),
    }
}

fn read_catalog(root: &Path) -> Result<Catalog> {
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let path = root.join("catalog.json");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Catalog::default()),
        Err(e) => return Err(Error::file("read", path, e)),
    };
    let damaged = |e: serde_json::Error| Error::Damaged { path: root.to_owned(), reason: format!("catalog.json: {e}") };
    let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version.format != FORMAT {
        return Err(Error::StoreFormat { path: root.to_owned(), found: version.format, known: FORMAT });
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}
