//! Makes one tar entry real inside the layer's directory: files, links, devices, whiteouts.
//! Called by [`super::unpack`] for each entry in order. A later entry of the same name replaces the
//! earlier one (it is removed first, never written through); directories are merged.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    HostileEntry, UnpackError,
    walk::{WalkError, Walker, is_whiteout, make_whiteout, set_opaque},
};
use crate::tarball::{Kind, TarEntry};

pub(crate) const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// Names that overlayfs or the copying storage drivers obey: an image must not speak to them.
const MARK_PREFIXES: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"trusted.rswarm."];
const COPY_BUFFER_BYTES: usize = 128 << 10;
/// Linux device numbers: 12 bits of major, 20 of minor.
const MAX_MAJOR: u32 = (1 << 12) - 1;
const MAX_MINOR: u32 = (1 << 20) - 1;

/// The layer being built.
pub(super) struct Tree {
    walker: Walker,
    /// Directory times are set last: every entry made inside changes them.
    directory_times: Vec<(Vec<u8>, Timestamps)>,
    buffer: Vec<u8>,
    bytes: u64,
}

/// Where an entry goes: an open parent and a name in it.
struct Place {
    parent: Rc<OwnedFd>,
    name: Vec<u8>,
}

impl Place {
    fn fd(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    fn stat(&self) -> Result<Option<fs::Stat>, Errno> {
        match fs::statat(self.fd(), self.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn hostile(entry: &TarEntry, reason: impl Into<String>) -> UnpackError {
    HostileEntry { entry: entry.name(), reason: reason.into() }.into()
}

/// For `map_err`: the entry and what was tried.
fn failed(entry: &TarEntry, action: &'static str) -> impl Fn(Errno) -> UnpackError {
    move |e| UnpackError::Entry { action, entry: entry.name(), source: e.into() }
}

fn io_failed(entry: &TarEntry, action: &'static str) -> impl Fn(std::io::Error) -> UnpackError {
    move |source| UnpackError::Entry { action, entry: entry.name(), source }
}

fn walk_failed(entry: &TarEntry, error: WalkError, missing: &str) -> UnpackError {
    match error {
        WalkError::Hostile(reason) => hostile(entry, reason),
        WalkError::System(action, e) => failed(entry, action)(e),
        WalkError::Missing => hostile(entry, missing),
    }
}

/// The components of a name. A leading `/` means the image's root (some builders write it); `..` is refused.
fn components<'a>(entry: &TarEntry, path: &'a [u8]) -> Result<Vec<&'a [u8]>, UnpackError> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(hostile(entry, format!("path {:?} climbs with \"..\"", String::from_utf8_lossy(path))));
    }
    Ok(parts)
}

fn timestamps(entry: &TarEntry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime_seconds, tv_nsec: entry.mtime_nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

impl Tree {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { walker: Walker::new(root), directory_times: Vec::new(), buffer: vec![0; COPY_BUFFER_BYTES], bytes: 0 }
    }

    /// Makes `entry`; `data` gives its stored bytes.
    pub(super) fn create(&mut self, entry: &TarEntry, data: &mut impl Read) -> Result<(), UnpackError> {
        if entry.uid == u32::MAX || entry.gid == u32::MAX {
            return Err(hostile(entry, "owner 4294967295 cannot exist"));
        }
        let parts = components(entry, &entry.path)?;
        let Some((name, parents)) = parts.split_last() else {
            return self.root(entry);
        };
        let parent = self.walker.directory(parents, true).map_err(|e| walk_failed(entry, e, "it has no parent"))?;
        let place = Place { parent, name: name.to_vec() };
        if name.starts_with(WHITEOUT_PREFIX) {
            return whiteout(entry, place);
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, &place);
        }
        let merged = self.make_room(entry, &place)?;
        match entry.kind {
            Kind::File => self.file(entry, &place, data)?,
            Kind::Directory => self.directory(entry, &place, parts.join(&b'/'), merged)?,
            Kind::Symlink => symlink(entry, &place)?,
            _ => node(entry, &place)?,
        }
        Ok(())
    }

    /// Sets what had to wait; gives the sum of all file sizes.
    pub(super) fn finish(mut self) -> Result<u64, UnpackError> {
        for (path, times) in std::mem::take(&mut self.directory_times).into_iter().rev() {
            let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|c| !c.is_empty()).collect();
            // A directory that was replaced by something else later needs no time.
            if let Ok(fd) = self.walker.directory(&parts, false) {
                let set = fs::utimensat(fd.as_fd(), c".", &times, AtFlags::empty());
                set.map_err(|e| UnpackError::Entry {
                    action: "set the time",
                    entry: String::from_utf8_lossy(&path).into_owned(),
                    source: e.into(),
                })?;
            }
        }
        Ok(self.bytes)
    }

    /// The entry `./`: attributes of the root directory itself.
    fn root(&mut self, entry: &TarEntry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(hostile(entry, "the root of an image must be a directory"));
        }
        let parent = self.walker.directory(&[], false).map_err(|e| walk_failed(entry, e, "no root"))?;
        self.directory(entry, &Place { parent, name: b".".to_vec() }, Vec::new(), true)
    }

    /// Removes what stands in the way; true where an existing directory stays and is merged.
    fn make_room(&mut self, entry: &TarEntry, place: &Place) -> Result<bool, UnpackError> {
        let Some(stat) = place.stat().map_err(failed(entry, "look for an earlier entry"))? else { return Ok(false) };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if entry.kind == Kind::Directory && is_directory {
            return Ok(true);
        }
        self.walker.forget();
        remove_all(place.fd(), &place.name, is_directory).map_err(failed(entry, "replace an earlier entry"))?;
        if entry.kind == Kind::Directory && is_whiteout(&stat) {
            fs::mkdirat(place.fd(), place.name.as_slice(), Mode::RWXU).map_err(failed(entry, "make the directory"))?;
            set_opaque(place.fd(), &place.name).map_err(failed(entry, "hide the layers below"))?;
            return Ok(true);
        }
        Ok(false)
    }

    fn file(&mut self, entry: &TarEntry, place: &Place, data: &mut impl Read) -> Result<(), UnpackError> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(place.fd(), place.name.as_slice(), flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(fd.map_err(failed(entry, "create the file"))?);
        match &entry.sparse {
            None => self.copy(entry, data, &mut file, entry.size)?,
            Some(segments) => {
                file.set_len(entry.size).map_err(io_failed(entry, "size the file"))?;
                for segment in segments {
                    file.seek(SeekFrom::Start(segment.offset)).map_err(io_failed(entry, "seek in the file"))?;
                    self.copy(entry, data, &mut file, segment.length)?;
                }
            }
        }
        self.bytes = self.bytes.saturating_add(entry.size);
        // The order matters: chown clears setuid and capabilities.
        fs::fchown(&file, owner(entry).0, owner(entry).1).map_err(failed(entry, "set the owner"))?;
        fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(failed(entry, "set the mode"))?;
        set_xattrs(entry, &file)?;
        fs::futimens(&file, &timestamps(entry)).map_err(failed(entry, "set the time"))
    }

    fn copy(
        &mut self,
        entry: &TarEntry,
        data: &mut impl Read,
        file: &mut File,
        length: u64,
    ) -> Result<(), UnpackError> {
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = data.read(&mut self.buffer[..most]).map_err(io_failed(entry, "read the data"))?;
            if count == 0 {
                return Err(io_failed(entry, "read the data")(std::io::ErrorKind::UnexpectedEof.into()));
            }
            file.write_all(&self.buffer[..count]).map_err(io_failed(entry, "write the data"))?;
            left -= count as u64;
        }
        Ok(())
    }

    fn directory(&mut self, entry: &TarEntry, place: &Place, path: Vec<u8>, exists: bool) -> Result<(), UnpackError> {
        let name = place.name.as_slice();
        if !exists {
            fs::mkdirat(place.fd(), name, Mode::RWXU).map_err(failed(entry, "make the directory"))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(place.fd(), name, flags, Mode::empty()).map_err(failed(entry, "open the directory"))?;
        fs::fchown(&fd, owner(entry).0, owner(entry).1).map_err(failed(entry, "set the owner"))?;
        fs::fchmod(&fd, Mode::from_raw_mode(entry.mode)).map_err(failed(entry, "set the mode"))?;
        set_xattrs(entry, &fd)?;
        self.directory_times.push((path, timestamps(entry)));
        Ok(())
    }

    /// A second name for a file of this layer.
    fn hard_link(&mut self, entry: &TarEntry, place: &Place) -> Result<(), UnpackError> {
        let shown = String::from_utf8_lossy(&entry.link).into_owned();
        let missing = format!("hard link to {shown:?}, which this layer does not have");
        let parts = components(entry, &entry.link)?;
        let (name, parents) = parts.split_last().ok_or_else(|| hostile(entry, "hard link to the root"))?;
        let parent = self.walker.directory(parents, false).map_err(|e| walk_failed(entry, e, &missing))?;
        let target = Place { parent, name: name.to_vec() };
        let stat = target.stat().map_err(failed(entry, "look at the target"))?;
        let stat = stat.filter(|s| !is_whiteout(s)).ok_or_else(|| hostile(entry, &*missing))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(hostile(entry, format!("hard link to the directory {shown:?}")));
        }
        let existing = place.stat().map_err(failed(entry, "look for an earlier entry"))?;
        if existing.is_some_and(|e| (e.st_dev, e.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Ok(());
        }
        self.make_room(entry, place)?;
        fs::linkat(target.fd(), target.name.as_slice(), place.fd(), place.name.as_slice(), AtFlags::empty())
            .map_err(failed(entry, "make the hard link"))
    }
}

fn owner(entry: &TarEntry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}

fn symlink(entry: &TarEntry, place: &Place) -> Result<(), UnpackError> {
    let name = place.name.as_slice();
    if entry.link.is_empty() {
        return Err(hostile(entry, "symbolic link to nothing"));
    }
    fs::symlinkat(entry.link.as_slice(), place.fd(), name).map_err(failed(entry, "make the link"))?;
    set_attributes(entry, place)
}

/// Devices and fifos.
fn node(entry: &TarEntry, place: &Place) -> Result<(), UnpackError> {
    let file_type = match entry.kind {
        Kind::CharDevice if entry.major == 0 && entry.minor < 2 => {
            return Err(hostile(entry, format!("character device 0:{} is a mark for a removed file", entry.minor)));
        }
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    if entry.major > MAX_MAJOR || entry.minor > MAX_MINOR {
        return Err(hostile(entry, format!("device {}:{} cannot exist", entry.major, entry.minor)));
    }
    let device = if file_type == FileType::Fifo { 0 } else { fs::makedev(entry.major, entry.minor) };
    let mode = Mode::from_raw_mode(entry.mode);
    fs::mknodat(place.fd(), place.name.as_slice(), file_type, mode, device).map_err(failed(entry, "make the node"))?;
    set_attributes(entry, place)?;
    fs::chmodat(place.fd(), place.name.as_slice(), mode, AtFlags::empty()).map_err(failed(entry, "set the mode"))
}

/// Owner and time of what cannot be opened.
fn set_attributes(entry: &TarEntry, place: &Place) -> Result<(), UnpackError> {
    let (name, nofollow) = (place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
    let (uid, gid) = owner(entry);
    fs::chownat(place.fd(), name, uid, gid, nofollow).map_err(failed(entry, "set the owner"))?;
    fs::utimensat(place.fd(), name, &timestamps(entry), nofollow).map_err(failed(entry, "set the time"))
}

fn set_xattrs(entry: &TarEntry, fd: impl AsFd) -> Result<(), UnpackError> {
    for (name, value) in &entry.xattrs {
        if MARK_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        match fs::fsetxattr(fd.as_fd(), name.as_slice(), value, XattrFlags::empty()) {
            // The file system of the store has no such attributes; images work without.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(e) => return Err(failed(entry, "set an extended attribute")(e)),
        }
    }
    Ok(())
}

/// `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` everything in its directory.
fn whiteout(entry: &TarEntry, place: Place) -> Result<(), UnpackError> {
    if place.name == OPAQUE_MARKER {
        return set_opaque(place.fd(), b".").map_err(failed(entry, "hide the layers below"));
    }
    let hidden = &place.name[WHITEOUT_PREFIX.len()..];
    if hidden.starts_with(WHITEOUT_PREFIX) {
        return Ok(()); // bookkeeping of aufs
    }
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(hostile(entry, "whiteout of a directory itself"));
    }
    let place = Place { name: hidden.to_vec(), parent: place.parent };
    match place.stat().map_err(failed(entry, "look for an earlier entry"))? {
        None => make_whiteout(place.fd(), &place.name).map_err(failed(entry, "make the whiteout")),
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            set_opaque(place.fd(), &place.name).map_err(failed(entry, "hide the layers below"))
        }
        // What this layer already has there hides the lower file by itself.
        Some(_) => Ok(()),
    }
}

/// Removes a file, or a directory with all in it; depth is bounded by the walk that made it.
pub(crate) fn remove_all(parent: BorrowedFd<'_>, name: &[u8], is_directory: bool) -> Result<(), Errno> {
    if !is_directory {
        return fs::unlinkat(parent, name, AtFlags::empty());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = fs::openat(parent, name, flags, Mode::empty())?;
    let mut directory = fs::Dir::read_from(&fd)?;
    while let Some(item) = directory.read() {
        let item = item?;
        let child = item.file_name().to_bytes();
        if child == b"." || child == b".." {
            continue;
        }
        let stat = fs::statat(&fd, child, AtFlags::SYMLINK_NOFOLLOW)?;
        remove_all(fd.as_fd(), child, FileType::from_raw_mode(stat.st_mode) == FileType::Directory)?;
    }
    fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
