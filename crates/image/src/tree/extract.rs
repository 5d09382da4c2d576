//! A tar into a directory of a container. Not a layer: names have no second meaning, and what is there already is
//! merged with or replaced.

use std::{
    fs::File,
    io::{BufReader, Read, Seek as _, SeekFrom, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{Root, TreeError, exact::set_attributes, join};
use crate::{
    compression::Decompressed,
    tarball::{Kind, TarEntry, TarError, TarReader},
    unpack::{HostileEntry, remove_all},
};

const READ_BUFFER_BYTES: usize = 64 << 10;
const COPY_BUFFER_BYTES: usize = 128 << 10;
const CAPABILITY: &[u8] = b"security.capability";

/// How a tar is unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// A directory is not replaced by something else, nor something else by a directory.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to this user and group, whatever the archive says.
    pub owner: Option<(u32, u32)>,
    /// All attributes and all times, those of the directory itself too; holes where the data is zeros.
    pub exact: bool,
}

impl From<TarError> for TreeError {
    fn from(error: TarError) -> Self {
        match error {
            TarError::Read(source) => Self::ReadArchive(source),
            TarError::NoTar => Self::ReadArchive(std::io::Error::other(error.to_string())),
            TarError::Bad { entry, reason } => Self::Hostile(HostileEntry { entry, reason }),
        }
    }
}

impl Root {
    /// Unpacks a tar (plain or compressed) into the directory at `path`, which links may lead to.
    ///
    /// # Errors
    /// If there is no such directory, something may not be replaced, or the archive is damaged. What was unpacked
    /// until then stays, as with Docker.
    pub fn extract(&self, path: &str, tar: impl Read, options: ExtractOptions) -> Result<(), TreeError> {
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        self.resolve(path.as_bytes(), directory).map_err(|errno| match errno {
            Errno::NOTDIR => TreeError::NotDirectory,
            errno => TreeError::file("open", path.as_bytes(), errno),
        })?;
        let plain = Decompressed::new(tar).map_err(TreeError::ReadArchive)?;
        let mut reader = TarReader::new(BufReader::with_capacity(READ_BUFFER_BYTES, plain));
        let mut extractor =
            Extractor { root: self, base: path.as_bytes().to_vec(), options, times: Vec::new(), later: Vec::new() };
        while let Some(entry) = reader.next_entry()? {
            extractor.create(&entry, &mut reader)?;
        }
        extractor.finish()?;
        // The client may still be sending what fills the last block.
        std::io::copy(&mut reader.into_inner(), &mut std::io::sink()).map_err(TreeError::ReadArchive)?;
        Ok(())
    }
}

struct Extractor<'a> {
    root: &'a Root,
    base: Vec<u8>,
    options: ExtractOptions,
    /// Of directories, set last: every entry made inside changes them.
    times: Vec<(OwnedFd, Timestamps)>,
    /// The same by their paths, without a bound.
    later: Vec<(Vec<u8>, Timestamps)>,
}

/// So many directories have their times set; each holds a descriptor until the end.
const TIMES_MAX: usize = 512;

impl Extractor<'_> {
    fn create(&mut self, entry: &TarEntry, data: &mut impl Read) -> Result<(), TreeError> {
        let parts = parts(entry, &entry.path)?;
        let Some((name, parents)) = parts.split_last() else { return self.base_itself(entry) };
        let parent = self.parent(&parents.join(&b'/'))?;
        let parent = parent.as_fd();
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, parent, name);
        }
        let is_merged = self.make_room(entry, parent, name)?;
        let failed = |action| move |errno| TreeError::file(action, &entry.path, errno);
        let (uid, gid) = self.owner(entry);
        match entry.kind {
            Kind::File => self.file(entry, parent, name, data)?,
            Kind::Directory => {
                if !is_merged {
                    fs::mkdirat(parent, *name, Mode::from_raw_mode(0o700)).map_err(failed("make the directory"))?;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = fs::openat(parent, *name, flags, Mode::empty()).map_err(failed("open"))?;
                fs::fchown(&made, uid, gid).map_err(failed("set the owner of"))?;
                fs::fchmod(&made, Mode::from_raw_mode(entry.mode)).map_err(failed("set the mode of"))?;
                if self.options.exact {
                    set_attributes(made.as_fd(), &entry.xattrs).map_err(failed("set an attribute of"))?;
                    self.later.push((parts.join(&b'/'), times(entry)));
                } else if self.times.len() < TIMES_MAX {
                    self.times.push((made, times(entry)));
                }
            }
            Kind::Symlink => {
                fs::symlinkat(entry.link.as_slice(), parent, *name).map_err(failed("make the link"))?;
                fs::chownat(parent, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the owner of"))?;
                fs::utimensat(parent, *name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(failed("set the time of"))?;
            }
            _ => self.node(entry, parent, name)?,
        }
        Ok(())
    }

    /// The archive may say what the directory that it is unpacked into is like.
    fn base_itself(&mut self, entry: &TarEntry) -> Result<(), TreeError> {
        if !self.options.exact || entry.kind != Kind::Directory {
            return Ok(());
        }
        let failed = |action| move |errno| TreeError::file(action, b".", errno);
        let base = self.root.resolve(&self.base, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed("open"))?;
        let (uid, gid) = self.owner(entry);
        fs::fchown(&base, uid, gid).map_err(failed("set the owner of"))?;
        fs::fchmod(&base, Mode::from_raw_mode(entry.mode)).map_err(failed("set the mode of"))?;
        set_attributes(base.as_fd(), &entry.xattrs).map_err(failed("set an attribute of"))?;
        self.later.push((Vec::new(), times(entry)));
        Ok(())
    }

    fn finish(self) -> Result<(), TreeError> {
        for (directory, times) in self.times.iter().rev() {
            fs::futimens(directory, times).ok(); // a file system without times is no reason to fail
        }
        for (below, times) in self.later.iter().rev() {
            let failed = |errno| TreeError::file("set the time of", below, errno);
            let path = join(&self.base, below);
            let directory = self.root.resolve(&path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
            fs::futimens(&directory, times).map_err(failed)?;
        }
        Ok(())
    }

    /// The directory below the base, made where it is missing.
    fn parent(&self, below: &[u8]) -> Result<OwnedFd, TreeError> {
        let path = join(&self.base, below);
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.root.resolve(&path, flags) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|errno| TreeError::file("open", &path, errno)),
        }
        let mut at = self.base.clone();
        for part in below.split(|byte| *byte == b'/') {
            let parent = self.root.resolve(&at, flags).map_err(|errno| TreeError::file("open", &at, errno))?;
            match fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => at = join(&at, part),
                Err(errno) => return Err(TreeError::file("make the directory", &join(&at, part), errno)),
            }
        }
        self.root.resolve(&path, flags).map_err(|errno| TreeError::file("open", &path, errno))
    }

    /// Removes what an entry replaces; true if there is a directory to be merged with.
    fn make_room(&self, entry: &TarEntry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, TreeError> {
        let failed = |action| move |errno| TreeError::file(action, &entry.path, errno);
        let stat = match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed("look at")(errno)),
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let shown = || String::from_utf8_lossy(&join(&self.base, &entry.path)).into_owned();
        match (is_directory, entry.kind == Kind::Directory) {
            (true, true) => return Ok(true),
            (true, false) if self.options.no_overwrite_dir_non_dir => {
                return Err(TreeError::DirectoryInTheWay(shown()));
            }
            (false, true) if self.options.no_overwrite_dir_non_dir => return Err(TreeError::FileInTheWay(shown())),
            _ => {}
        }
        remove_all(parent, name, is_directory).map_err(failed("replace"))?;
        Ok(false)
    }

    fn file(
        &self,
        entry: &TarEntry,
        parent: BorrowedFd<'_>,
        name: &[u8],
        data: &mut impl Read,
    ) -> Result<(), TreeError> {
        let failed = |action| move |errno| TreeError::file(action, &entry.path, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(failed("make"))?;
        let mut file = File::from(fd);
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        match &entry.sparse {
            None if self.options.exact => {
                copy_with_holes(entry, data, &mut file, &mut buffer)?;
            }
            None => copy(entry, data, &mut file, &mut buffer)?,
            Some(segments) => {
                let io = |e: std::io::Error| failed("write")(Errno::from_io_error(&e).unwrap_or(Errno::IO));
                for segment in segments {
                    file.seek(SeekFrom::Start(segment.offset)).map_err(io)?;
                    copy(entry, &mut data.take(segment.length), &mut file, &mut buffer)?;
                }
                file.set_len(entry.size).map_err(io)?;
            }
        }
        let (uid, gid) = self.owner(entry);
        fs::fchown(&file, uid, gid).map_err(failed("set the owner of"))?;
        fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(failed("set the mode of"))?;
        if self.options.exact {
            set_attributes(file.as_fd(), &entry.xattrs).map_err(failed("set an attribute of"))?;
        }
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| name == CAPABILITY) {
            match fs::fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(failed("set an attribute of")(errno)),
            }
        }
        fs::futimens(&file, &times(entry)).map_err(failed("set the time of"))
    }

    fn hard_link(&self, entry: &TarEntry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), TreeError> {
        let failed = |action| move |errno| TreeError::file(action, &entry.path, errno);
        let target = parts(entry, &entry.link)?;
        let Some((target_name, parents)) = target.split_last() else {
            return Err(HostileEntry { entry: entry.name(), reason: "hard link to the directory itself".into() }.into());
        };
        let directory = self.parent(&parents.join(&b'/'))?;
        let target =
            fs::statat(&directory, *target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("find the target of"))?;
        if let Ok(stat) = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
            && (stat.st_dev, stat.st_ino) == (target.st_dev, target.st_ino)
        {
            return Ok(());
        }
        self.make_room(entry, parent, name)?;
        fs::linkat(&directory, *target_name, parent, name, AtFlags::empty()).map_err(failed("make the hard link"))
    }

    fn node(&self, entry: &TarEntry, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), TreeError> {
        let failed = |action| move |errno| TreeError::file(action, &entry.path, errno);
        let kind = match entry.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = if kind == FileType::Fifo { 0 } else { fs::makedev(entry.major, entry.minor) };
        let mode = Mode::from_raw_mode(entry.mode);
        fs::mknodat(parent, name, kind, mode, device).map_err(failed("make the node"))?;
        let (uid, gid) = self.owner(entry);
        fs::chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the owner of"))?;
        fs::utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(failed("set the time of"))
    }

    fn owner(&self, entry: &TarEntry) -> (Option<Uid>, Option<Gid>) {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        // The last number means "leave it" to the kernel.
        let is_real = |id: u32| id != u32::MAX;
        (is_real(uid).then(|| Uid::from_raw(uid)), is_real(gid).then(|| Gid::from_raw(gid)))
    }
}

fn copy(entry: &TarEntry, from: &mut impl Read, to: &mut File, buffer: &mut [u8]) -> Result<(), TreeError> {
    loop {
        let length = from.read(buffer).map_err(TreeError::ReadArchive)?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length])
            .map_err(|e| TreeError::file("write", &entry.path, Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    }
}

/// Where a whole piece is zeros nothing is written.
fn copy_with_holes(entry: &TarEntry, from: &mut impl Read, to: &mut File, buffer: &mut [u8]) -> Result<(), TreeError> {
    let failed =
        |e: std::io::Error| TreeError::file("write", &entry.path, Errno::from_io_error(&e).unwrap_or(Errno::IO));
    let mut at = 0;
    while at < entry.size {
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..]).map_err(TreeError::ReadArchive)? {
                0 => break,
                length => filled += length,
            }
        }
        if filled == 0 {
            break;
        }
        if buffer[..filled].iter().any(|byte| *byte != 0) {
            std::os::unix::fs::FileExt::write_all_at(to, &buffer[..filled], at).map_err(failed)?;
        }
        at += filled as u64;
    }
    to.set_len(entry.size).map_err(failed)
}

fn parts<'a>(entry: &TarEntry, path: &'a [u8]) -> Result<Vec<&'a [u8]>, TreeError> {
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&b"..".as_slice()) {
        let reason = format!("path {:?} climbs with \"..\"", String::from_utf8_lossy(path));
        return Err(HostileEntry { entry: entry.name(), reason }.into());
    }
    Ok(parts)
}

fn times(entry: &TarEntry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime_seconds, tv_nsec: entry.mtime_nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
