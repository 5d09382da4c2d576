//! A tree, or one file, as a tar. The names that are written may differ from those read: `cp` names the root of what
//! it takes by the last part of its path.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use tar::{Builder, EntryType, Header};

use super::{ChangeKind, Difference, Root, TreeError, base_name, exact, is_directory_path, join, names};
use crate::unpack::WHITEOUT_PREFIX;

/// What a file may do beyond its user; lost without it. Other attributes stay where they are, as with Docker.
const CAPABILITY: &str = "security.capability";
/// A real one has 20 to 24 bytes.
const CAPABILITY_MAX: usize = 256;
/// Each level holds a descriptor open.
const MAX_DEPTH: usize = 1000;
/// File systems that the kernel makes up (linux/magic.h): in the order of proc, sysfs, cgroup, cgroup2, devpts, mqueue, securityfs,
/// debugfs, tracefs and bpf.
const MADE_UP: [u64; 10] = [
    0x9fa0,
    0x6265_6572,
    0x27_e0eb,
    0x6367_7270,
    0x1cd1,
    0x1980_0202,
    0x7363_6673,
    0x6462_6720,
    0x7472_6163,
    0xcafe_4a11,
];
/// linux/magic.h
const TMPFS: u64 = 0x0102_1994;
/// What fits into a header; longer names have an entry of their own before it.
const NAME_MAX: usize = 100;

impl Root {
    /// Writes what is at `path`, with all below it, as a tar whose first entry bears the path's last part.
    ///
    /// # Errors
    /// If there is nothing, or something cannot be read.
    pub fn pack(&self, path: &str, to: impl Write) -> Result<(), TreeError> {
        let found = self.find(path)?;
        let name = base_name(path);
        let mut packer = Packer::new(to);
        let stat = fs::fstat(&found).map_err(|errno| TreeError::file("look at", path.as_bytes(), errno))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let directory = self
                .resolve(path.as_bytes(), flags)
                .map_err(|errno| TreeError::file("open", path.as_bytes(), errno))?;
            packer.directory(directory.as_fd(), name.as_bytes(), &stat, 0)?;
        } else {
            // The name in the directory, because a descriptor of the thing itself cannot be read from.
            let parent = match path.trim_end_matches('/').rsplit_once('/') {
                Some((parent, _)) if !is_directory_path(path) => parent,
                _ => "",
            };
            let directory = self
                .resolve(parent.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|errno| TreeError::file("open", parent.as_bytes(), errno))?;
            packer.entry(directory.as_fd(), name.as_bytes(), name.as_bytes(), 0)?;
        }
        packer.finish()
    }

    /// Writes the whole tree, without a name for its root.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn pack_all(&self, to: impl Write) -> Result<(), TreeError> {
        let directory = self
            .resolve(b".", OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|errno| TreeError::file("open", b"/", errno))?;
        let mut packer = Packer::new(to);
        packer.children(directory.as_fd(), b"", 0)?;
        packer.finish()
    }
}

/// Writes what differs in a tree as a layer: what was removed becomes a whiteout.
pub(crate) fn pack_layer(tree: &Root, differences: &[Difference], to: impl Write) -> Result<(), TreeError> {
    let mut packer = Packer::new(to);
    for difference in differences {
        let path = &difference.path;
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], &path[..]),
        };
        if difference.kind == ChangeKind::Deleted {
            packer.whiteout(path)?;
            continue;
        }
        let parent = match tree.resolve(parent, OFlags::RDONLY | OFlags::DIRECTORY) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue, // removed meanwhile
            opened => opened.map_err(|errno| TreeError::file("open", path, errno))?,
        };
        packer.difference(parent.as_fd(), name, path)?;
    }
    packer.finish()
}

pub(super) struct Packer<W: Write> {
    tar: Builder<W>,
    /// Files with several names, by device and inode: the name under which they were written.
    written: HashMap<(u64, u64), Vec<u8>>,
    /// With what headers have no place for.
    is_exact: bool,
}

impl<W: Write> Packer<W> {
    fn new(to: W) -> Self {
        Self { tar: Builder::new(to), written: HashMap::new(), is_exact: false }
    }

    pub(super) fn exact(to: W) -> Self {
        Self { is_exact: true, ..Self::new(to) }
    }

    fn records(&mut self, name: &[u8], stat: &Stat, fd: Option<BorrowedFd<'_>>) -> Result<(), TreeError> {
        if !self.is_exact {
            return Ok(());
        }
        let records =
            exact::records(stat, fd).map_err(|errno| TreeError::file("read the attributes of", name, errno))?;
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.tar.append_pax_extensions(records).map_err(TreeError::WriteArchive)
    }

    pub(super) fn finish(self) -> Result<(), TreeError> {
        self.tar.into_inner().and_then(|mut to| to.flush()).map_err(TreeError::WriteArchive)
    }

    fn children(&mut self, directory: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), TreeError> {
        if depth > MAX_DEPTH {
            return Err(TreeError::file("go deeper than", name, Errno::NAMETOOLONG));
        }
        for child in names(directory, name)? {
            let as_name = join(name, &child);
            self.entry(directory, &child, &as_name, depth)?;
        }
        Ok(())
    }

    /// One thing, under the name `as_name`. What has gone meanwhile is left out, as are sockets.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &[u8], as_name: &[u8], depth: usize) -> Result<(), TreeError> {
        let failed = |action| move |errno| TreeError::file(action, as_name, errno);
        let stat = match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if depth > 0 => return Ok(()),
            Err(errno) => return Err(failed("look at")(errno)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = fs::openat(parent, name, flags, Mode::empty()).map_err(failed("open"))?;
                if is_the_kernels(parent, name, directory.as_fd(), depth).map_err(failed("look at"))? {
                    return self.directory_itself(directory.as_fd(), as_name, &stat).map(drop);
                }
                self.directory(directory.as_fd(), as_name, &stat, depth)
            }
            FileType::RegularFile => self.file(parent, name, as_name, &stat),
            FileType::Symlink => {
                let target = fs::readlinkat(parent, name, Vec::new()).map_err(failed("read the link"))?;
                self.records(as_name, &stat, None)?;
                let mut header = header(&stat, EntryType::Symlink, 0);
                self.append(&mut header, as_name, Some(target.as_bytes()), io::empty())
            }
            FileType::CharacterDevice => self.node(as_name, &stat, EntryType::Char),
            FileType::BlockDevice => self.node(as_name, &stat, EntryType::Block),
            FileType::Fifo => self.node(as_name, &stat, EntryType::Fifo),
            _ => Ok(()),
        }
    }

    pub(super) fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        stat: &Stat,
        depth: usize,
    ) -> Result<(), TreeError> {
        let name = self.directory_itself(directory, name, stat)?;
        self.children(directory, &name, depth + 1)
    }

    /// Without what is in it; gives the name that it has in the tar.
    fn directory_itself(&mut self, directory: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> Result<Vec<u8>, TreeError> {
        let name = if name.ends_with(b"/") { name.to_vec() } else { [name, b"/"].concat() };
        self.records(&name, stat, Some(directory))?;
        self.append(&mut header(stat, EntryType::Directory, 0), &name, None, io::empty())?;
        Ok(name)
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &[u8], as_name: &[u8], stat: &Stat) -> Result<(), TreeError> {
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.written.get(&key).cloned() {
                let mut header = header(stat, EntryType::Link, 0);
                return self.append(&mut header, as_name, Some(&first), io::empty());
            }
            self.written.insert(key, as_name.to_vec());
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let failed = |errno| TreeError::file("open", as_name, errno);
        let fd = fs::openat(parent, name, flags, Mode::empty()).map_err(failed)?;
        let stat = fs::fstat(&fd).map_err(failed)?;
        self.records(as_name, &stat, Some(fd.as_fd()))?;
        if !self.is_exact
            && let Some(value) = attribute(fd.as_fd(), CAPABILITY, CAPABILITY_MAX)
        {
            let pax = [("SCHILY.xattr.security.capability", &value[..])];
            self.tar.append_pax_extensions(pax).map_err(TreeError::WriteArchive)?;
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        // A file that grows is cut, one that shrinks is filled up: the size is already said.
        let data = File::from(fd).chain(io::repeat(0)).take(size);
        self.append(&mut header(&stat, EntryType::Regular, size), as_name, None, data)
    }

    fn node(&mut self, name: &[u8], stat: &Stat, kind: EntryType) -> Result<(), TreeError> {
        self.records(name, stat, None)?;
        let mut header = header(stat, kind, 0);
        if kind != EntryType::Fifo {
            let (major, minor) = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
            header
                .set_device_major(major)
                .and_then(|()| header.set_device_minor(minor))
                .map_err(TreeError::WriteArchive)?;
        }
        self.append(&mut header, name, None, io::empty())
    }

    /// One thing alone: of a directory not what is in it.
    fn difference(&mut self, parent: BorrowedFd<'_>, name: &[u8], as_name: &[u8]) -> Result<(), TreeError> {
        match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let name = [as_name, b"/"].concat();
                self.append(&mut header(&stat, EntryType::Directory, 0), &name, None, io::empty())
            }
            _ => self.entry(parent, name, as_name, 1),
        }
    }

    fn whiteout(&mut self, name: &[u8]) -> Result<(), TreeError> {
        let at = name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let name = [&name[..at], WHITEOUT_PREFIX, &name[at..]].concat();
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.append(&mut header, &name, None, io::empty())
    }

    fn append(
        &mut self,
        header: &mut Header,
        name: &[u8],
        link: Option<&[u8]>,
        data: impl Read,
    ) -> Result<(), TreeError> {
        let short = |name: &[u8]| name[..name.len().min(NAME_MAX)].to_vec();
        for (text, kind) in [(Some(name), EntryType::GNULongName), (link, EntryType::GNULongLink)] {
            let Some(text) = text.filter(|text| text.len() > NAME_MAX) else { continue };
            let mut long = Header::new_gnu();
            long.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
            long.set_entry_type(kind);
            long.set_size(text.len() as u64 + 1);
            long.set_cksum();
            self.tar.append(&long, text.chain(&[0][..])).map_err(TreeError::WriteArchive)?;
        }
        let fields = header.as_old_mut();
        let (name, link) = (short(name), short(link.unwrap_or_default()));
        fields.name[..name.len()].copy_from_slice(&name);
        fields.linkname[..link.len()].copy_from_slice(&link);
        header.set_cksum();
        self.tar.append(header, data).map_err(TreeError::WriteArchive)
    }
}

/// Whether a directory within what is taken is where the kernel shows itself or its devices: of a container that runs they are there
/// to be seen, but are no files of it.
fn is_the_kernels(parent: BorrowedFd<'_>, name: &[u8], directory: BorrowedFd<'_>, depth: usize) -> Result<bool, Errno> {
    if fs::fstat(parent)?.st_dev == fs::fstat(directory)?.st_dev {
        return Ok(false);
    }
    let kind = u64::try_from(fs::fstatfs(directory)?.f_type).unwrap_or(0);
    Ok(MADE_UP.contains(&kind) || kind == TMPFS && depth == 1 && name == b"dev")
}

fn header(stat: &Stat, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(size);
    header
}

/// `None` where there is none, or the file system has no such things.
fn attribute(fd: BorrowedFd<'_>, name: &str, most: usize) -> Option<Vec<u8>> {
    let mut value = vec![0; most];
    let length = fs::fgetxattr(fd, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}
