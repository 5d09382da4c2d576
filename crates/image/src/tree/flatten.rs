//! All layers of an image as one tree: what the copying storage drivers begin with.
//! Directories are read from all layers at once, the highest first, so that nothing is copied that another hides.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{Lower, TreeError, changes::is_opaque, join, names};
use crate::unpack::{MARK_XATTRS, is_whiteout};

/// Each level holds the directory open in every layer that has it.
const MAX_DEPTH: usize = 600;
/// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX` of linux/limits.h.
const XATTR_MAX: usize = 65536;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Copies the tree that the layers make together into the existing empty directory `target`.
pub(crate) fn flatten(lower: &Lower, target: &Path) -> Result<(), TreeError> {
    let at_root = |errno| TreeError::file("open", b"/", errno);
    let mut layers = Vec::new();
    for layer in lower.layers() {
        layers.push(fs::openat(layer, ".", DIRECTORY, Mode::empty()).map_err(at_root)?);
    }
    let target = fs::open(target, DIRECTORY, Mode::empty()).map_err(at_root)?;
    let mut copier = Copier { root: target.try_clone().map_err(|e| at_root(errno(&e)))?, copied: HashMap::new() };
    copier.directory(&layers, target.as_fd(), b"", 0)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

struct Copier {
    root: OwnedFd,
    /// Files with several names, by device and inode: the name they were copied to.
    copied: HashMap<(u64, u64), Vec<u8>>,
}

impl Copier {
    /// `layers`: the directory in each layer that shows it, the highest first.
    fn directory(
        &mut self,
        layers: &[OwnedFd],
        to: BorrowedFd<'_>,
        path: &[u8],
        depth: usize,
    ) -> Result<(), TreeError> {
        if depth > MAX_DEPTH {
            return Err(TreeError::file("go deeper than", path, Errno::NAMETOOLONG));
        }
        let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
        for (at, layer) in layers.iter().enumerate() {
            for name in names(layer.as_fd(), path)? {
                if !seen.insert(name.clone()) {
                    continue;
                }
                let here = join(path, &name);
                let failed = |action| move |errno| TreeError::file(action, path, errno);
                let stat =
                    fs::statat(layer, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look into"))?;
                if is_whiteout(&stat) {
                    continue;
                }
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    self.entry(layer.as_fd(), to, &name, &here, &stat)?;
                    continue;
                }
                let below = merged(&layers[at..], &name).map_err(failed("open a directory in"))?;
                fs::mkdirat(to, name.as_slice(), Mode::RWXU).map_err(failed("make a directory in"))?;
                let made =
                    fs::openat(to, name.as_slice(), DIRECTORY, Mode::empty()).map_err(failed("open a directory in"))?;
                self.directory(&below, made.as_fd(), &here, depth + 1)?;
            }
        }
        let Some(top) = layers.first() else { return Ok(()) };
        let failed = |errno| TreeError::file("set the attributes of", path, errno);
        let stat = fs::fstat(top).map_err(failed)?;
        set_attributes(top.as_fd(), to, &stat).map_err(failed)
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
    ) -> Result<(), TreeError> {
        let failed = |action| move |errno| TreeError::file(action, path, errno);
        let key = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.copied.get(&key) {
                return fs::linkat(&self.root, first.as_slice(), to, name, AtFlags::empty()).map_err(failed("link"));
            }
            self.copied.insert(key, path.to_vec());
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        match kind {
            FileType::RegularFile => return file(from, to, name, stat).map_err(|e| failed("copy")(errno(&e))),
            FileType::Symlink => {
                let target = fs::readlinkat(from, name, Vec::new()).map_err(failed("read the link"))?;
                fs::symlinkat(target, to, name).map_err(failed("make the link"))?;
            }
            FileType::Socket => return Ok(()),
            _ => {
                fs::mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)
                    .map_err(failed("make the node"))?;
            }
        }
        let (uid, gid) = owner(stat);
        fs::chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the owner of"))?;
        if kind != FileType::Symlink {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            fs::chmodat(to, name, mode, AtFlags::empty()).map_err(failed("set the mode of"))?;
        }
        fs::utimensat(to, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the time of"))
    }
}

/// The directories of this name that are seen through each other; the first layer has one.
fn merged(layers: &[OwnedFd], name: &[u8]) -> Result<Vec<OwnedFd>, Errno> {
    let mut found = Vec::new();
    for layer in layers {
        match fs::openat(layer, name, DIRECTORY, Mode::empty()) {
            Ok(fd) => {
                let hides = is_opaque(fd.as_fd());
                found.push(fd);
                if hides {
                    break;
                }
            }
            Err(Errno::NOENT) => {}
            // something else of this name, or a mark: what is below cannot be seen
            Err(Errno::NOTDIR | Errno::LOOP) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(fs::openat(from, name, read, Mode::empty())?);
    let mut target = File::from(fs::openat(to, name, write, Mode::RUSR | Mode::WUSR)?);
    // Shares the blocks where the file system can (btrfs, xfs); copies them where not.
    if fs::ioctl_ficlone(&target, &source).is_err() {
        io::copy(&mut source, &mut target)?;
    }
    Ok(set_attributes(source.as_fd(), target.as_fd(), stat)?)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanos: u64| Timespec { tv_sec: seconds as _, tv_nsec: nanos as _ };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    }
}

/// Owner, extended attributes, mode and times of something open; in this order, since each may undo what follows it.
fn set_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = owner(stat);
    fs::fchown(to, uid, gid)?;
    copy_xattrs(from, to)?;
    fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    fs::futimens(to, &times(stat))
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut nothing = [0_u8; 0];
    match fs::flistxattr(from, &mut nothing) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
        Ok(_) => {}
        Err(errno) => return Err(errno),
    }
    let mut list = vec![0; XATTR_MAX];
    let length = fs::flistxattr(from, &mut list)?;
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if MARK_XATTRS.iter().any(|mark| mark.as_bytes() == name) {
            continue;
        }
        let mut value = vec![0; XATTR_MAX];
        let length = fs::fgetxattr(from, name, &mut value)?;
        match fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
