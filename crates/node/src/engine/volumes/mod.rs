//! Local volumes: directories of this host that containers share or keep (parity E-29).
//!
//! Each lives at `volumes/<name>/_data`. Anonymous ones have a name of 64 hexadecimal digits and go with the task
//! they were made for; all others stay until somebody removes them. On first use an empty volume gets what
//! the image has at the mount's place. A volume knows which containers have it, so nobody else is asked.
//! Called by the engine for containers and by the API for everything else; all calls block.

mod fill;
mod options;
mod record;
#[cfg(test)]
mod tests;
mod transfer;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use types::{Labels, MountKind, Timestamp};

use self::record::{ANONYMOUS_LABEL, Record, anonymous_name, check_name, data_of};
use super::{
    container::{Planned, image_volumes},
    events::{Event, EventKind, Events},
};

pub use transfer::{VolumeFacts, tree_error};

pub(super) const DRIVER: &str = "local";

/// The volumes of this host. A cheap handle.
#[derive(Debug, Clone)]
pub struct Volumes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    events: Events,
    /// As on disk; written there first.
    known: Mutex<BTreeMap<String, Record>>,
    /// One at a time makes, fills, mounts or removes: two tasks that begin with the same volume must not both
    /// fill it. Held over slow work, which `known` never is.
    working: Mutex<()>,
}

/// Why something about a volume was not done, in Docker's words where it has some.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("create {name}: {reason}")]
    Invalid { name: String, reason: String },
    #[error(
        "create {name}: error looking up volume plugin {driver}: plugin {driver:?} not found: the driver here is local, \
         whose options also mount nfs"
    )]
    NoDriver { name: String, driver: String },
    #[error("get {0}: no such volume")]
    NotFound(String),
    #[error("{operation} {name}: volume is in use - [{}]", users.join(", "))]
    InUse { name: String, operation: &'static str, users: Vec<String> },
    #[error("volume {name}: cannot mount {what}; check its options with `volume inspect`")]
    Mount { name: String, what: String, source: io::Error },
    #[error("volume {name}: cannot {operation}")]
    Io { name: String, operation: &'static str, source: io::Error },
}

/// What somebody asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeSpec {
    /// Empty for an anonymous one.
    pub name: String,
    /// Empty for the only one there is.
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub labels: Labels,
}

/// What is shown of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeView {
    pub name: String,
    pub driver: &'static str,
    pub mountpoint: PathBuf,
    pub created: Timestamp,
    pub labels: Labels,
    pub options: BTreeMap<String, String>,
    pub is_anonymous: bool,
    /// Ids of the containers that have it.
    pub users: Vec<String>,
}

/// What a prune took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrunedVolumes {
    pub names: Vec<String>,
    pub bytes: u64,
}

/// What a mount asks of its volume.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The container's id.
    pub owner: &'a str,
    pub target: &'a str,
    pub labels: &'a Labels,
    /// Of the driver, for one that is not there yet.
    pub options: &'a options::Options,
    /// The container's root filesystem, to copy from.
    pub copy_from: Option<&'a Path>,
}

fn io_error(name: &str, operation: &'static str) -> impl FnOnce(io::Error) -> VolumeError + use<> {
    let name = name.to_owned();
    move |source| VolumeError::Io { name, operation, source }
}

impl Volumes {
    /// Finds the volumes that are there.
    pub(super) fn open(state_dir: &Path, events: Events) -> io::Result<Self> {
        let root = state_dir.join("volumes");
        let known = Mutex::new(record::read_all(&root)?);
        let volumes = Self { inner: Arc::new(Inner { root, events, known, working: Mutex::default() }) };
        volumes.forget_incoming();
        Ok(volumes)
    }

    /// The directories of all volumes of a container, by the mount's place: the spec's, then the image's
    /// own. From now on the container has them, until [`Self::release`].
    pub(super) fn for_owner(
        &self,
        owner: &str,
        planned: &Planned,
        image: &image::RunConfig,
        rootfs: &Path,
    ) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
        let mut directories = BTreeMap::new();
        let mut count = 0;
        let mut place = |name: &str, wanted: &Wanted<'_>| {
            let directory = match name {
                "" => {
                    count += 1;
                    self.take(&anonymous_name(owner, count), true, wanted)?
                }
                name => self.take(name, false, wanted)?,
            };
            directories.insert(wanted.target.to_owned(), directory);
            Ok(())
        };
        for mount in &planned.mounts {
            let MountKind::Volume { name, no_copy, labels, driver_options: options, subpath } = &mount.kind else {
                continue;
            };
            // a part of a volume is there before the container: nothing is copied into it
            let copy_from = (!no_copy && subpath.is_empty()).then_some(rootfs);
            place(name, &Wanted { owner, target: &mount.target, labels, options, copy_from })?;
        }
        let no_labels = Labels::new();
        for target in image_volumes(planned, image) {
            let copy_from = Some(rootfs);
            let (labels, options) = (&no_labels, &no_labels);
            place("", &Wanted { owner, target: &target, labels, options, copy_from })?;
        }
        Ok(directories)
    }

    /// A volume for a container: made, mounted and filled if need be. The container has it until [`Self::release`].
    /// Blocking.
    pub(super) fn take(&self, name: &str, is_anonymous: bool, wanted: &Wanted<'_>) -> Result<PathBuf, VolumeError> {
        let _working = self.work();
        // Not in the head of the `match`: the lock would be held through it.
        let found = self.known().get(name).cloned();
        let mut record = match found {
            Some(record) => record,
            None => {
                let mut labels = wanted.labels.clone();
                if is_anonymous {
                    labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
                }
                let owner = if is_anonymous { wanted.owner.to_owned() } else { String::new() };
                let options = wanted.options.clone();
                options::check(&options).map_err(|reason| VolumeError::Invalid { name: name.to_owned(), reason })?;
                self.make(name, Record { labels, owner, options, ..Record::default() })?
            }
        };
        let data = self.data(name);
        // It may have been removed behind our back; a container cannot start without it.
        fs::create_dir_all(&data).map_err(io_error(name, "make its directory"))?;
        self.mount(name, &record)?;
        if let Some(rootfs) = wanted.copy_from.filter(|_| !record.filled) {
            let is_empty = fs::read_dir(&data).map_err(io_error(name, "read it"))?.next().is_none();
            // one that got nothing may still get something at another place
            record.filled = if is_empty {
                fill::copy_up(rootfs, wanted.target, &data).map_err(io_error(name, "fill it from the image"))?
            } else {
                true
            };
        }
        record.users.insert(wanted.owner.to_owned());
        self.keep(name, record)?;
        Ok(data)
    }

    /// The container no longer has any; what only it had mounted is unmounted. None is fine.
    pub(super) fn release(&self, owner: &str) -> Result<(), VolumeError> {
        let had = self.names(|record| record.users.contains(owner));
        for name in had {
            let _working = self.work();
            let Some(mut record) = self.known().get(&name).cloned() else { continue };
            if !record.users.remove(owner) {
                continue;
            }
            if record.users.is_empty() && options::read(&record.options).is_some() {
                options::unmount(&self.data(&name)).map_err(io_error(&name, "unmount it"))?;
            }
            self.keep(&name, record)?;
        }
        Ok(())
    }

    /// [`Self::release`], and the anonymous volumes that were made for the container are removed, as with its task
    /// or `rm -v`. One that another container has meanwhile stays.
    pub(super) fn remove_anonymous(&self, owner: &str) -> Result<(), VolumeError> {
        self.release(owner)?;
        for name in self.names(|record| record.owner == owner) {
            match self.remove(&name, true) {
                Ok(()) | Err(VolumeError::InUse { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets containers that are no more: they went while no daemon ran.
    pub(super) fn retain_users(&self, is_there: impl Fn(&str) -> bool) -> Result<(), VolumeError> {
        let mut gone: Vec<String> = self.known().values().flat_map(|record| record.users.iter().cloned()).collect();
        gone.retain(|user| !is_there(user));
        gone.sort();
        gone.dedup();
        gone.iter().try_for_each(|user| self.release(user))
    }

    /// All volumes, by name.
    pub fn list(&self) -> Vec<VolumeView> {
        self.known().iter().map(|(name, record)| self.view(name, record)).collect()
    }

    /// # Errors
    /// [`VolumeError::NotFound`].
    pub fn get(&self, name: &str) -> Result<VolumeView, VolumeError> {
        let known = self.known();
        let record = known.get(name).ok_or_else(|| VolumeError::NotFound(name.to_owned()))?;
        Ok(self.view(name, record))
    }

    /// Makes a volume; one of that name that is there already is given back as it is, as Docker does.
    ///
    /// # Errors
    /// [`VolumeError::Invalid`], [`VolumeError::NoDriver`], or a failed file operation.
    pub fn create(&self, spec: VolumeSpec) -> Result<VolumeView, VolumeError> {
        let VolumeSpec { mut name, driver, options, mut labels } = spec;
        let is_anonymous = name.is_empty();
        let invalid = |name: &str, reason: String| VolumeError::Invalid { name: name.to_owned(), reason };
        if is_anonymous {
            name = record::random_name().map_err(io_error("without a name", "choose its name"))?;
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
        }
        if !matches!(driver.as_str(), "" | DRIVER) {
            return Err(VolumeError::NoDriver { name, driver });
        }
        check_name(&name).and_then(|()| options::check(&options)).map_err(|reason| invalid(&name, reason))?;
        let _working = self.work();
        if let Ok(found) = self.get(&name) {
            return Ok(found);
        }
        let record = self.make(&name, Record { labels, options, ..Record::default() })?;
        Ok(self.view(&name, &record))
    }

    /// Removes a volume and its data; with `force` one that is not there is fine.
    ///
    /// # Errors
    /// [`VolumeError::NotFound`], [`VolumeError::InUse`], or a failed file operation.
    pub fn remove(&self, name: &str, force: bool) -> Result<(), VolumeError> {
        let _working = self.work();
        let found = self.known().get(name).cloned();
        let record = match found {
            Some(record) => record,
            None if force => return Ok(()),
            None => return Err(VolumeError::NotFound(name.to_owned())),
        };
        if !record.users.is_empty() {
            let users = record.users.into_iter().collect();
            return Err(VolumeError::InUse { name: name.to_owned(), operation: "remove", users });
        }
        self.delete(name)
    }

    /// Removes all that no container has and `wanted` says yes to. One that is taken into use meanwhile stays.
    ///
    /// # Errors
    /// A failed file operation; what was removed before stays removed.
    pub fn prune(&self, wanted: impl Fn(&VolumeView) -> bool) -> Result<PrunedVolumes, VolumeError> {
        let mut pruned = PrunedVolumes::default();
        for volume in self.list().into_iter().filter(|volume| volume.users.is_empty() && wanted(volume)) {
            let bytes = self.usage(&volume.name)?;
            match self.remove(&volume.name, false) {
                Ok(()) => {
                    pruned.bytes += bytes;
                    pruned.names.push(volume.name);
                }
                Err(VolumeError::InUse { .. } | VolumeError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let event = Event::new(EventKind::Volume, "prune", "").with("reclaimed", pruned.bytes.to_string());
        self.inner.events.publish(event);
        Ok(pruned)
    }

    /// Bytes of a volume's files, each once however many names it has; nothing of what is mounted elsewhere
    /// and shown here counts as the volume's.
    ///
    /// # Errors
    /// [`VolumeError::NotFound`], or a directory that cannot be read.
    pub fn usage(&self, name: &str) -> Result<u64, VolumeError> {
        let volume = self.get(name)?;
        if !volume.options.is_empty() {
            return Ok(0);
        }
        let size = |meta: &fs::Metadata| if meta.is_dir() { 0 } else { meta.len() };
        image::sum_below(&volume.mountpoint, size).map_err(io_error(name, "measure it"))
    }

    fn view(&self, name: &str, record: &Record) -> VolumeView {
        VolumeView {
            name: name.to_owned(),
            driver: DRIVER,
            mountpoint: self.data(name),
            created: record.created,
            labels: record.labels.clone(),
            options: record.options.clone(),
            is_anonymous: record.is_anonymous(),
            users: record.users.iter().cloned().collect(),
        }
    }

    /// A new volume, without anything in it.
    fn make(&self, name: &str, record: Record) -> Result<Record, VolumeError> {
        check_name(name).map_err(|reason| VolumeError::Invalid { name: name.to_owned(), reason })?;
        fs::create_dir_all(self.data(name)).map_err(io_error(name, "make its directory"))?;
        let record = Record { created: crate::clock::now(), ..record };
        self.keep(name, record.clone())?;
        self.inner.events.publish(self.event("create", name));
        Ok(record)
    }

    fn mount(&self, name: &str, record: &Record) -> Result<(), VolumeError> {
        let Some(mount) = options::read(&record.options) else { return Ok(()) };
        let failed = |source| VolumeError::Mount { name: name.to_owned(), what: mount.describe(), source };
        mount.ensure(&self.data(name)).map_err(failed)
    }

    fn delete(&self, name: &str) -> Result<(), VolumeError> {
        let data = self.data(name);
        options::unmount(&data).map_err(io_error(name, "unmount it"))?;
        // Removing what is below a mount would remove somebody else's files.
        if options::is_mount_point(&data).map_err(io_error(name, "read the mount table"))? {
            let source = io::Error::from(io::ErrorKind::ResourceBusy);
            return Err(VolumeError::Io { name: name.to_owned(), operation: "unmount it", source });
        }
        match fs::remove_dir_all(self.directory(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(name, "remove its files")(error));
            }
            _ => {}
        }
        self.known().remove(name);
        self.inner.events.publish(self.event("destroy", name));
        Ok(())
    }

    fn keep(&self, name: &str, record: Record) -> Result<(), VolumeError> {
        if self.known().get(name) == Some(&record) {
            return Ok(());
        }
        record::write(&self.directory(name), &record).map_err(io_error(name, "write its record"))?;
        self.known().insert(name.to_owned(), record);
        Ok(())
    }

    fn names(&self, fits: impl Fn(&Record) -> bool) -> Vec<String> {
        self.known().iter().filter(|(_, record)| fits(record)).map(|(name, _)| name.clone()).collect()
    }

    fn event(&self, action: &str, name: &str) -> Event {
        Event::new(EventKind::Volume, action, name).with("driver", DRIVER)
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.inner.root.join(name)
    }

    fn data(&self, name: &str) -> PathBuf {
        data_of(&self.directory(name))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) -> MutexGuard<'_, ()> {
        self.inner.working.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
