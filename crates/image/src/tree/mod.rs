//! Files of a container's root filesystem, by their path inside it: looked at, packed into a tar, unpacked from one,
//! and compared with the image.
//!
//! Called by the engine for `cp`, `export`, `diff` and `commit`, on blocking threads. Whoever is inside may have put a
//! trap on any path, and may change it while we walk: every path is resolved by the kernel with the container's
//! root as its root, and every step from there is taken from an open descriptor without following links.

mod changes;
mod exact;
mod extract;
mod flatten;
mod measure;
mod mounted;
mod pack;

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

pub use changes::{Change, ChangeKind};
pub(crate) use changes::{Difference, Lower, TreeKind, differences};
pub use extract::ExtractOptions;
pub(crate) use flatten::flatten;
pub use measure::sum_below;
pub use mounted::TreeMount;
pub(crate) use pack::pack_layer;

use crate::unpack::HostileEntry;

/// What cannot be done with a path.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    #[error("there is no {0}")]
    NotFound(String),
    #[error("extraction point is not a directory")]
    NotDirectory,
    #[error("container rootfs is marked read-only")]
    ReadOnly,
    #[error("cannot overwrite directory {0:?} with non-directory")]
    DirectoryInTheWay(String),
    #[error("cannot overwrite non-directory {0:?} with directory")]
    FileInTheWay(String),
    #[error("the archive is refused")]
    Hostile(#[from] HostileEntry),
    #[error("cannot read the archive")]
    ReadArchive(#[source] io::Error),
    #[error("cannot write the archive")]
    WriteArchive(#[source] io::Error),
    #[error("cannot {action} {path}")]
    File { action: &'static str, path: String, source: io::Error },
}

impl TreeError {
    /// The system's error behind it, if there is one.
    pub(crate) fn io(&self) -> Option<&io::Error> {
        match self {
            Self::ReadArchive(source) | Self::WriteArchive(source) | Self::File { source, .. } => Some(source),
            _ => None,
        }
    }

    fn file(action: &'static str, path: &[u8], errno: Errno) -> Self {
        let path = String::from_utf8_lossy(path).into_owned();
        match errno {
            Errno::NOENT => Self::NotFound(path),
            Errno::ROFS => Self::ReadOnly,
            errno => Self::File { action, path, source: errno.into() },
        }
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last part of the path that was asked for.
    pub name: String,
    pub size: u64,
    /// As the kernel has it: type and permissions.
    pub mode: u32,
    pub mtime_seconds: i64,
    pub mtime_nanos: u32,
    /// For a symbolic link, where it leads to in the end, as far as that exists.
    pub link_target: String,
}

/// The root of a container, held open.
pub struct Root {
    directory: OwnedFd,
    /// Where the mounts below it are; they are there for as long as this is open.
    namespace: Option<OwnedFd>,
}

impl Root {
    /// Opens a mounted root filesystem, or `/proc/PID/root` of a container that runs.
    ///
    /// # Errors
    /// If it is not a directory that can be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { directory: fs::open(path, flags, Mode::empty())?, namespace: None })
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.iter().all(|byte| *byte == b'/') { b"." } else { path };
        let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // The kernel gives up on ".." where something is renamed at the same time; so do we, after some tries.
        for _ in 0..16 {
            match fs::openat2(&self.directory, path, flags | OFlags::CLOEXEC, Mode::empty(), inside) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The thing at a path itself, not what a link there leads to, unless the path ends like a directory's.
    fn find(&self, path: &str) -> Result<OwnedFd, TreeError> {
        let nofollow = if is_directory_path(path) { OFlags::empty() } else { OFlags::NOFOLLOW };
        self.resolve(path.as_bytes(), OFlags::PATH | nofollow).map_err(|errno| {
            // below what is no directory there is nothing, nor under a name that no file can have
            let cannot_be = matches!(errno, Errno::NOTDIR | Errno::NAMETOOLONG);
            TreeError::file("look at", path.as_bytes(), if cannot_be { Errno::NOENT } else { errno })
        })
    }

    /// What is at a path.
    ///
    /// # Errors
    /// If there is nothing.
    pub fn stat(&self, path: &str) -> Result<PathStat, TreeError> {
        let found = self.find(path)?;
        let stat = fs::fstat(&found).map_err(|errno| TreeError::file("look at", path.as_bytes(), errno))?;
        let link_target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => self.target(path, found.as_fd()),
            _ => String::new(),
        };
        Ok(PathStat {
            name: base_name(path).to_owned(),
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode,
            mtime_seconds: stat.st_mtime as i64,
            mtime_nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            link_target,
        })
    }

    /// Where a link leads to: asked of the kernel if that exists, else what the link says, from where it stands.
    fn target(&self, path: &str, link: BorrowedFd<'_>) -> String {
        if let Ok(end) = self.resolve(path.as_bytes(), OFlags::PATH)
            && let Some(inside) = self.path_inside(end.as_fd())
        {
            return inside.to_string_lossy().into_owned();
        }
        let said = fs::readlinkat(link, "", Vec::new()).map(std::ffi::CString::into_bytes).unwrap_or_default();
        let said = PathBuf::from(std::ffi::OsString::from_vec(said));
        let parent = Path::new("/").join(path.trim_start_matches('/'));
        parent.parent().unwrap_or(Path::new("/")).join(said).to_string_lossy().into_owned()
    }

    /// Bytes of disk that what differs takes, each file once however many names it has.
    pub(crate) fn usage(&self, differences: &[Difference]) -> u64 {
        let mut seen = std::collections::BTreeSet::new();
        let there = differences.iter().filter(|difference| difference.kind != ChangeKind::Deleted);
        let stats = there.filter_map(|difference| {
            let found = self.resolve(&difference.path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
            fs::fstat(&found).ok()
        });
        let counted = stats.filter(|stat| stat.st_nlink < 2 || seen.insert((stat.st_dev, stat.st_ino)));
        counted.map(|stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512).sum()
    }

    /// The name of an open file below this root. The kernel names both from the same place.
    fn path_inside(&self, fd: BorrowedFd<'_>) -> Option<PathBuf> {
        let name = |fd: BorrowedFd<'_>| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok();
        let (root, inside) = (name(self.directory.as_fd())?, name(fd)?);
        Some(Path::new("/").join(inside.strip_prefix(root).ok()?))
    }
}

/// `a/`, `a/.` and `/` mean a directory, whatever leads there.
fn is_directory_path(path: &str) -> bool {
    path.is_empty() || path.ends_with('/') || path.ends_with("/.") || path == "."
}

/// The last part, as Go's `filepath.Base` has it: `/` and `.` are parts of their own.
fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return if path.is_empty() { "." } else { "/" };
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

/// The names in a directory, sorted, so that the same tree always packs the same.
fn names(directory: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
    let failed = |errno| TreeError::file("list", path, errno);
    let mut listing = fs::Dir::read_from(directory).map_err(failed)?;
    let mut names = Vec::new();
    while let Some(item) = listing.read() {
        let name = item.map_err(failed)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() || path.ends_with(b"/") { [path, name].concat() } else { [path, b"/", name].concat() }
}

#[cfg(test)]
mod tests;
