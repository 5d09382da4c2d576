//! Local volumes: directories of this host that containers share or keep.
//!
//! Named ones live at `volumes/<name>/_data` and stay until somebody removes them; anonymous ones at
//! `anonymous/<task>/<n>/_data` and go with their task. On first use an empty volume gets what the
//! image has at the mount's place.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use serde::{Deserialize, Serialize};
use types::{Labels, MountKind, TaskId};

use super::container::{Planned, image_volumes};

/// The volumes of this host. A cheap handle.
#[derive(Debug, Clone)]
pub(super) struct Volumes {
    root: PathBuf,
    /// One copy-up at a time: two tasks that begin with the same volume must not both fill it.
    filling: Arc<Mutex<()>>,
}

/// Kept beside the data.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Record {
    labels: Labels,
    /// The copy-up has been done or was not wanted.
    filled: bool,
}

/// Why a volume could not be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("volume name {0:?} is not usable: letters, digits, '_', '.', '-', beginning with a letter or digit")]
    Name(String),
    #[error("volume {name}: cannot {operation}")]
    Io { name: String, operation: &'static str, source: io::Error },
}

/// What a mount asks of its volume.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub labels: &'a Labels,
    /// The container's root filesystem and the mount's place in it, to copy from.
    pub copy_from: Option<(&'a Path, &'a str)>,
}

impl Volumes {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self { root: state_dir.to_owned(), filling: Arc::default() }
    }

    /// The directories of all volumes of a task, by the mount's place: the spec's, then the image's
    /// own. Blocking.
    pub(super) fn for_task(
        &self,
        task: TaskId,
        planned: &Planned,
        image: &image::RunConfig,
        rootfs: &Path,
    ) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
        let mut directories = BTreeMap::new();
        let mut count = 0;
        let no_labels = Labels::new();
        for mount in &planned.mounts {
            let MountKind::Volume { name, no_copy, labels } = &mount.kind else { continue };
            let copy_from = (!no_copy).then_some((rootfs, mount.target.as_str()));
            let wanted = Wanted { labels, copy_from };
            let directory = if name.is_empty() {
                count += 1;
                self.anonymous(task, count, &wanted)?
            } else {
                self.named(name, &wanted)?
            };
            directories.insert(mount.target.clone(), directory);
        }
        for target in image_volumes(planned, image) {
            count += 1;
            let wanted = Wanted { labels: &no_labels, copy_from: Some((rootfs, &target)) };
            let directory = self.anonymous(task, count, &wanted)?;
            directories.insert(target, directory);
        }
        Ok(directories)
    }

    /// The data directory of a named volume, made if it is new. Blocking.
    pub(super) fn named(&self, name: &str, wanted: &Wanted<'_>) -> Result<PathBuf, VolumeError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !begins || name.len() > 255 || !name.bytes().all(allowed) {
            return Err(VolumeError::Name(name.to_owned()));
        }
        self.ensure(&self.root.join("volumes").join(name), name, wanted)
    }

    /// The data directory of the `index`th anonymous volume of a task. Blocking.
    pub(super) fn anonymous(&self, task: TaskId, index: usize, wanted: &Wanted<'_>) -> Result<PathBuf, VolumeError> {
        let directory = self.of_task(task).join(index.to_string());
        self.ensure(&directory, &format!("of task {task}"), wanted)
    }

    /// Removes the anonymous volumes of a task; none is fine. Blocking.
    pub(super) fn remove_anonymous(&self, task: TaskId) -> Result<(), VolumeError> {
        match fs::remove_dir_all(self.of_task(task)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(VolumeError::Io { name: format!("of task {task}"), operation: "remove it", source })
            }
            _ => Ok(()),
        }
    }

    /// Removes a volume with its data; none is fine. Blocking.
    pub(super) fn remove_named(&self, name: &str) -> Result<(), VolumeError> {
        match fs::remove_dir_all(self.root.join("volumes").join(name)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(VolumeError::Io { name: name.to_owned(), operation: "remove it", source })
            }
            _ => Ok(()),
        }
    }

    fn of_task(&self, task: TaskId) -> PathBuf {
        self.root.join("anonymous").join(task.to_string())
    }

    fn ensure(&self, directory: &Path, name: &str, wanted: &Wanted<'_>) -> Result<PathBuf, VolumeError> {
        let error = |operation| {
            let name = name.to_owned();
            move |source| VolumeError::Io { name, operation, source }
        };
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let (data, record_path) = (directory.join("_data"), directory.join("volume.json"));
        let record = read_record(&record_path).map_err(error("read its record"))?;
        if record.as_ref().is_some_and(|r| r.filled) && data.is_dir() {
            return Ok(data);
        }
        fs::create_dir_all(&data).map_err(error("make its directory"))?;
        if let Some((rootfs, target)) = wanted.copy_from {
            let is_empty = fs::read_dir(&data).map_err(error("read it"))?.next().is_none();
            if is_empty {
                copy_up(rootfs, target, &data).map_err(error("fill it from the image"))?;
            }
        }
        let record = Record { labels: wanted.labels.clone(), filled: true };
        let text = serde_json::to_vec(&record).map_err(io::Error::other).map_err(error("write its record"))?;
        fs::write(&record_path, text).map_err(error("write its record"))?;
        Ok(data)
    }
}

fn read_record(path: &Path) -> io::Result<Option<Record>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Copies what the image has at `target`. The image decides what its links say, so the place is looked
/// up with the container's root as root: nothing of the host can be reached.
fn copy_up(rootfs: &Path, target: &str, data: &Path) -> io::Result<()> {
    let root = fs::File::open(rootfs)?;
    let how = OpenHow::new()
        .flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found: OwnedFd = match openat2(&root, Path::new(target), how) {
        Ok(fd) => fd,
        // Nothing there, or a file: an empty directory is what the container gets.
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    // The magic link stands for the open directory itself, so no name on the way is looked up again.
    let source = PathBuf::from(format!("/proc/self/fd/{}/", found.as_raw_fd()));
    copy_directory(&source, data)
}

/// Names below are looked up without following links: each entry is taken for what it is.
fn copy_directory(source: &Path, target: &Path) -> io::Result<()> {
    let meta = fs::metadata(source)?;
    chown(target, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(target, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let meta = fs::symlink_metadata(&from)?;
        let kind = meta.file_type();
        if kind.is_dir() {
            fs::create_dir(&to)?;
            copy_directory(&from, &to)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
            lchown(&to, Some(meta.uid()), Some(meta.gid()))?;
        } else if kind.is_file() {
            fs::copy(&from, &to)?;
            chown(&to, Some(meta.uid()), Some(meta.gid()))?;
            fs::set_permissions(&to, fs::Permissions::from_mode(meta.mode() & 0o7777))?;
        } else {
            let mode = nix::sys::stat::Mode::from_bits_truncate(meta.mode() & 0o7777);
            let kind = nix::sys::stat::SFlag::from_bits_truncate(meta.mode() & nix::libc::S_IFMT);
            nix::sys::stat::mknod(&to, kind, mode, meta.rdev())?;
            nix::unistd::fchownat(
                nix::fcntl::AT_FDCWD,
                &to,
                Some(meta.uid().into()),
                Some(meta.gid().into()),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> (tempfile::TempDir, PathBuf, Volumes) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let rootfs = dir.path().join("rootfs");
        fs::create_dir_all(rootfs.join("data/sub")).expect("rootfs");
        fs::write(rootfs.join("data/sub/file"), "of the image").expect("file");
        symlink("sub/file", rootfs.join("data/link")).expect("link");
        let volumes = Volumes::new(&dir.path().join("state"));
        (dir, rootfs, volumes)
    }

    fn wanted<'a>(labels: &'a Labels, rootfs: &'a Path, target: &'a str) -> Wanted<'a> {
        Wanted { labels, copy_from: Some((rootfs, target)) }
    }

    #[test]
    fn a_new_volume_gets_the_images_files_once() {
        let (_dir, rootfs, volumes) = scene();
        let labels = Labels::new();
        let data = volumes.named("db", &wanted(&labels, &rootfs, "/data")).expect("made");
        assert!(data.ends_with("volumes/db/_data"));
        assert_eq!(fs::read_to_string(data.join("link")).expect("through the link"), "of the image");
        fs::remove_file(data.join("link")).expect("the user removes it");
        volumes.named("db", &wanted(&labels, &rootfs, "/data")).expect("there");
        assert!(!data.join("link").exists(), "a volume in use is not filled again");
    }

    #[test]
    fn a_link_in_the_image_leads_nowhere_on_the_host() {
        let (dir, rootfs, volumes) = scene();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).expect("outside");
        fs::write(outside.join("secret"), "of the host").expect("secret");
        symlink(&outside, rootfs.join("trap")).expect("link");
        let data = volumes.named("v", &wanted(&Labels::new(), &rootfs, "/trap")).expect("made");
        assert_eq!(fs::read_dir(data).expect("readable").count(), 0);
    }

    #[test]
    fn anonymous_volumes_go_with_their_task() {
        let (_dir, rootfs, volumes) = scene();
        let task = TaskId::from_random(5);
        let data = volumes.anonymous(task, 0, &wanted(&Labels::new(), &rootfs, "/none")).expect("made");
        assert!(data.is_dir());
        volumes.remove_anonymous(task).expect("removed");
        volumes.remove_anonymous(task).expect("again is fine");
        assert!(!data.exists());
    }

    #[test]
    fn names_cannot_leave_their_directory() {
        let (_dir, _, volumes) = scene();
        for bad in ["", "..", ".x", "a/b", "a b"] {
            let wanted = Wanted { labels: &Labels::new(), copy_from: None };
            assert!(matches!(volumes.named(bad, &wanted), Err(VolumeError::Name(_))), "{bad:?}");
        }
    }
}
