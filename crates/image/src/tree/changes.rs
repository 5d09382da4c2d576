//! What a container has changed of its image: the upper directory of its overlay, read against the layers below.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::{Root, TreeError, join, names};
use crate::unpack::{OPAQUE_XATTR, is_whiteout};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

/// One path that is not as in the image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub path: String,
    pub kind: ChangeKind,
}

/// Made by whoever starts a container, to mount something there; not the container's own doing.
const MOUNT_POINTS: [&str; 11] = [
    ".dockerenv",
    "dev",
    "dev/console",
    "dev/pts",
    "dev/shm",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc",
    "sys",
];

/// Whether something is only what others are mounted on: an empty file or an empty directory at such a place.
pub(super) fn is_mount_point(directory: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> bool {
    if !MOUNT_POINTS.iter().any(|known| known.as_bytes() == path) {
        return false;
    }
    let Ok(stat) = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => stat.st_size == 0,
        FileType::Symlink => path == b"etc/mtab",
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = fs::openat(directory, name, flags, Mode::empty());
            let inside = opened.ok().and_then(|fd| names(fd.as_fd(), path).ok()).unwrap_or_default();
            opened_is_empty(&inside, path)
        }
        _ => false,
    }
}

/// A directory with nothing but mount points in it is one itself.
fn opened_is_empty(inside: &[Vec<u8>], path: &[u8]) -> bool {
    inside.iter().all(|name| MOUNT_POINTS.iter().any(|known| known.as_bytes() == join(path, name)))
}

/// The layers below, the highest first.
pub(crate) struct Lower(Vec<OwnedFd>);

impl Lower {
    /// `layers`: the directories of the layers, the highest first.
    pub(crate) fn open(layers: &[PathBuf]) -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = layers.iter().map(|layer| fs::open(layer, flags, Mode::empty()));
        Ok(Self(opened.collect::<Result<_, _>>()?))
    }

    /// What the layers together have at a path.
    fn find(&self, path: &[u8]) -> Option<Stat> {
        for layer in &self.0 {
            match look(layer.as_fd(), path) {
                Seen::There(stat) => return Some(stat),
                Seen::Hidden => return None,
                Seen::Nothing => {}
            }
        }
        None
    }

    /// The names that the layers together have in a directory.
    fn names(&self, path: &[u8]) -> BTreeSet<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let listed = self.0.iter().filter_map(|layer| fs::openat(layer, path, flags, Mode::empty()).ok());
        let all: BTreeSet<Vec<u8>> = listed.filter_map(|fd| names(fd.as_fd(), path).ok()).flatten().collect();
        all.into_iter().filter(|name| self.find(&join(path, name)).is_some()).collect()
    }
}

enum Seen {
    There(Stat),
    /// Nothing, and nothing of the layers below either.
    Hidden,
    Nothing,
}

/// One layer's word on a path; it holds for those below where a part of it is removed or opaque there.
fn look(layer: BorrowedFd<'_>, path: &[u8]) -> Seen {
    let (mut at, mut is_opaque) = (Vec::new(), false);
    let nothing = |is_opaque: bool| if is_opaque { Seen::Hidden } else { Seen::Nothing };
    let mut found = None;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        at = join(&at, part);
        let stat = match fs::statat(layer, at.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOTDIR) => return Seen::Hidden,
            Err(_) => return nothing(is_opaque),
        };
        if is_whiteout(&stat) {
            return Seen::Hidden;
        }
        is_opaque |= is_opaque_directory(layer, &at);
        found = Some(stat);
    }
    found.map_or(Seen::Nothing, Seen::There)
}

fn is_opaque_directory(parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(fd) = fs::openat(parent, name, flags, Mode::empty()) else { return false };
    let mut value = [0; 1];
    fs::fgetxattr(fd, OPAQUE_XATTR, &mut value).is_ok_and(|length| length == 1) && value == *b"y"
}

/// Everything that differs, in the order of the paths.
pub(crate) fn changes(upper: &Root, lower: &Lower) -> Result<Vec<Change>, TreeError> {
    let mut found = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let root = upper.resolve(b".", flags).map_err(|errno| TreeError::file("open", b"/", errno))?;
    collect(root.as_fd(), b"", lower, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(directory: BorrowedFd<'_>, path: &[u8], lower: &Lower, found: &mut Vec<Change>) -> Result<(), TreeError> {
    for name in names(directory, path)? {
        let here = join(path, &name);
        let failed = |errno| TreeError::file("look at", &here, errno);
        let stat = match fs::statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue, // removed meanwhile
            Err(errno) => return Err(failed(errno)),
        };
        let before = lower.find(&here);
        let mut add = |path: &[u8], kind| {
            found.push(Change { path: format!("/{}", String::from_utf8_lossy(path)), kind });
        };
        if is_whiteout(&stat) {
            if before.is_some() {
                add(&here, ChangeKind::Deleted);
            }
            continue;
        }
        if before.is_none() && is_mount_point(directory, &name, &here) {
            continue;
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            add(&here, if before.is_some() { ChangeKind::Modified } else { ChangeKind::Added });
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = fs::openat(directory, name.as_slice(), flags, Mode::empty()).map_err(failed)?;
        let count = found.len();
        if is_opaque_directory(directory, &name) {
            let own: BTreeSet<Vec<u8>> = names(inner.as_fd(), &here)?.into_iter().collect();
            for gone in lower.names(&here).difference(&own) {
                found.push(Change {
                    path: format!("/{}", String::from_utf8_lossy(&join(&here, gone))),
                    kind: ChangeKind::Deleted,
                });
            }
        }
        collect(inner.as_fd(), &here, lower, found)?;
        let kind = match before {
            None => Some(ChangeKind::Added),
            Some(before) if found.len() > count || differs(&before, &stat) => Some(ChangeKind::Modified),
            // Only copied up, because something below it was and is as it was.
            Some(_) => None,
        };
        found.extend(kind.map(|kind| Change { path: format!("/{}", String::from_utf8_lossy(&here)), kind }));
    }
    Ok(())
}

fn differs(before: &Stat, now: &Stat) -> bool {
    let facts = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
    facts(before) != facts(now)
}
