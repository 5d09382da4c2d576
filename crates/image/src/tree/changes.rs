//! What a container has changed of its image: the upper directory of its overlay, or the whole tree where it has one
//! of its own, read against the layers below.

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
use crate::unpack::{MARK_XATTRS, is_whiteout};

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

/// The same by the bytes of the path, which has no `/` before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    pub path: Vec<u8>,
    pub kind: ChangeKind,
}

impl From<Difference> for Change {
    fn from(difference: Difference) -> Self {
        Self { path: format!("/{}", String::from_utf8_lossy(&difference.path)), kind: difference.kind }
    }
}

/// What the tree is that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TreeKind {
    /// Only what lies over the layers, with marks for what was removed.
    Upper,
    /// Everything: what is not there was removed, what is as in the layers was not touched.
    Whole,
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

    pub(super) fn layers(&self) -> &[OwnedFd] {
        &self.0
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
        let at = if path.is_empty() { b".".as_slice() } else { path };
        let listed = self.0.iter().filter_map(|layer| fs::openat(layer, at, flags, Mode::empty()).ok());
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
    fs::openat(parent, name, flags, Mode::empty()).is_ok_and(|fd| is_opaque(fd.as_fd()))
}

pub(super) fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let marked = |name| {
        let mut value = [0; 1];
        fs::fgetxattr(directory, name, &mut value).is_ok_and(|length| length == 1) && value == *b"y"
    };
    MARK_XATTRS.into_iter().any(marked)
}

/// Everything that differs, in the order of the paths.
pub(crate) fn differences(tree: &Root, kind: TreeKind, lower: &Lower) -> Result<Vec<Difference>, TreeError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let root = tree.resolve(b".", flags).map_err(|errno| TreeError::file("open", b"/", errno))?;
    let mut comparison = Comparison { kind, lower, found: Vec::new() };
    comparison.directory(root.as_fd(), b"")?;
    if kind == TreeKind::Whole {
        comparison.removed(root.as_fd(), b"")?;
    }
    comparison.found.sort();
    Ok(comparison.found)
}

struct Comparison<'a> {
    kind: TreeKind,
    lower: &'a Lower,
    found: Vec<Difference>,
}

impl Comparison<'_> {
    fn add(&mut self, path: Vec<u8>, kind: ChangeKind) {
        self.found.push(Difference { path, kind });
    }

    /// Returns whether mount points were made in it, which is nothing the container did, but changes its time.
    fn directory(&mut self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<bool, TreeError> {
        let mut has_mount_points = false;
        for name in names(directory, path)? {
            let here = join(path, &name);
            let stat = match fs::statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue, // removed meanwhile
                Err(errno) => return Err(TreeError::file("look at", &here, errno)),
            };
            if self.lower.find(&here).is_none() && is_mount_point(directory, &name, &here) {
                has_mount_points = true;
                continue;
            }
            self.entry(directory, &name, here, &stat)?;
        }
        Ok(has_mount_points)
    }

    fn entry(&mut self, parent: BorrowedFd<'_>, name: &[u8], here: Vec<u8>, stat: &Stat) -> Result<(), TreeError> {
        let before = self.lower.find(&here);
        if self.kind == TreeKind::Upper && is_whiteout(stat) {
            if before.is_some() {
                self.add(here, ChangeKind::Deleted);
            }
            return Ok(());
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            match before {
                None => self.add(here, ChangeKind::Added),
                Some(before) if self.kind == TreeKind::Whole && is_same_file(&before, stat) => {}
                Some(_) => self.add(here, ChangeKind::Modified),
            }
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner =
            fs::openat(parent, name, flags, Mode::empty()).map_err(|errno| TreeError::file("look at", &here, errno))?;
        let count = self.found.len();
        if self.kind == TreeKind::Whole || is_opaque(inner.as_fd()) {
            self.removed(inner.as_fd(), &here)?;
        }
        let has_mount_points = self.directory(inner.as_fd(), &here)?;
        let is_same = |before: &Stat| !differs(before, stat) || (has_mount_points && !has_other_owner(before, stat));
        match before {
            None => self.add(here, ChangeKind::Added),
            Some(before) if self.found.len() > count || !is_same(&before) => self.add(here, ChangeKind::Modified),
            // Only copied up, because something below it was and is as it was.
            Some(_) => {}
        }
        Ok(())
    }

    /// What the layers have in a directory and it has not.
    fn removed(&mut self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<(), TreeError> {
        let own: BTreeSet<Vec<u8>> = names(directory, path)?.into_iter().collect();
        for gone in self.lower.names(path).difference(&own) {
            self.add(join(path, gone), ChangeKind::Deleted);
        }
        Ok(())
    }
}

fn differs(before: &Stat, now: &Stat) -> bool {
    let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
    has_other_owner(before, now) || time(before) != time(now)
}

/// Or other rights.
fn has_other_owner(before: &Stat, now: &Stat) -> bool {
    let facts = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    facts(before) != facts(now)
}

fn is_same_file(before: &Stat, now: &Stat) -> bool {
    !differs(before, now) && before.st_size == now.st_size && before.st_rdev == now.st_rdev
}
