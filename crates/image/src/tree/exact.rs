//! A tree with all that it is: what `cp` and layers leave out, because there it would harm, is data where a volume moves to
//! another host. Times to the nanosecond, all extended attributes, the directory itself.
//!
//! The same tree packs to the same bytes, so the digest of these is the digest of the tree.

use std::{
    io::{Read, Write},
    os::fd::BorrowedFd,
};

use rustix::{
    fs::{self, OFlags, Stat, XattrFlags},
    io::Errno,
};

use super::{ExtractOptions, Root, TreeError, pack::Packer};
use crate::{Digest, digest::HashingWriter};

/// The names of all attributes of one file; the kernel allows no more.
const MAX_NAMES: usize = 64 << 10;
/// The largest attribute the kernel allows.
const MAX_VALUE: usize = 64 << 10;
/// Said by the host's own policy, which another host does not share.
const OF_HOST: &[u8] = b"security.selinux";
const PREFIX: &str = "SCHILY.xattr.";

impl Root {
    /// Writes the whole tree as a tar, its root as `./`.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn pack_exact(&self, to: impl Write) -> Result<(), TreeError> {
        let failed = |errno| TreeError::file("open", b"/", errno);
        let directory = self.resolve(b".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        let stat = fs::fstat(&directory).map_err(failed)?;
        let mut packer = Packer::exact(to);
        packer.directory(std::os::fd::AsFd::as_fd(&directory), b".", &stat, 0)?;
        packer.finish()
    }

    /// Of all that [`Self::pack_exact`] writes.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn digest_exact(&self) -> Result<Digest, TreeError> {
        let mut hashing = HashingWriter::new(std::io::sink());
        self.pack_exact(&mut hashing)?;
        Ok(hashing.finish().1)
    }

    /// Unpacks what [`Self::pack_exact`] wrote into this empty directory, and has it on the disk.
    ///
    /// # Errors
    /// If something cannot be written or the archive is damaged; then there are leftovers.
    pub fn extract_exact(&self, tar: impl Read) -> Result<(), TreeError> {
        let mut tar = Ending { tar, empty: 0 };
        self.extract(".", &mut tar, ExtractOptions { exact: true, ..ExtractOptions::default() })?;
        std::io::copy(&mut tar, &mut std::io::sink()).map_err(TreeError::ReadArchive)?;
        if tar.empty < END {
            return Err(TreeError::ReadArchive(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let failed = |errno| TreeError::file("write to the disk", b"/", errno);
        let directory = self.resolve(b".", OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed)?;
        fs::syncfs(&directory).map_err(failed)
    }
}

/// Two empty blocks end a tar (POSIX.1-2017, pax): one that was cut has none, and may look whole otherwise.
const END: usize = 1024;

/// Knows with how many zeros what was read so far ends.
struct Ending<R> {
    tar: R,
    empty: usize,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.tar.read(into)?;
        let zeros = into[..count].iter().rev().take_while(|byte| **byte == 0).count();
        self.empty = if zeros == count { self.empty.saturating_add(count) } else { zeros };
        Ok(count)
    }
}

/// What a header has no place for, as PAX records.
pub(super) fn records(stat: &Stat, fd: Option<BorrowedFd<'_>>) -> Result<Vec<(String, Vec<u8>)>, Errno> {
    let mut records = vec![("mtime".to_owned(), time(stat).into_bytes())];
    if let Some(fd) = fd {
        records.extend(attributes(fd)?);
    }
    Ok(records)
}

/// As PAX has it: the fraction of a time before 1970 counts downwards.
fn time(stat: &Stat) -> String {
    let (seconds, nanos) = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
    match (seconds < 0, nanos) {
        (true, 1..) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
        _ => format!("{seconds}.{nanos:09}"),
    }
}

/// In the order of their names: the kernel's is its own.
fn attributes(fd: BorrowedFd<'_>) -> Result<Vec<(String, Vec<u8>)>, Errno> {
    let mut names = vec![0; MAX_NAMES];
    let length = match fs::flistxattr(fd, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        length => length?,
    };
    names.truncate(length);
    let mut names: Vec<&[u8]> = names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let mut all = Vec::new();
    for name in names.into_iter().filter(|name| *name != OF_HOST) {
        let mut value = vec![0; MAX_VALUE];
        let length = match fs::fgetxattr(fd, name, value.as_mut_slice()) {
            Err(Errno::NODATA) => continue,
            length => length?,
        };
        value.truncate(length);
        all.push((format!("{PREFIX}{}", String::from_utf8_lossy(name)), value));
    }
    Ok(all)
}

pub(super) fn set_attributes(fd: BorrowedFd<'_>, attributes: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Errno> {
    attributes.iter().try_for_each(|(name, value)| fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs as files,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        path::Path,
    };

    use super::*;

    fn sample(dir: &Path) {
        let at = |name: &str| dir.join(name);
        files::create_dir_all(at("deep/er")).expect("made");
        files::write(at("deep/file"), "hello").expect("written");
        files::hard_link(at("deep/file"), at("twin")).expect("linked");
        symlink("/nowhere/at/all", at("link")).expect("linked");
        files::write(at("x".repeat(200).as_str()), "long name").expect("written");
        let holes = files::File::create(at("holes")).expect("made");
        std::os::unix::fs::FileExt::write_at(&holes, b"end", 8 << 20).expect("written");
        chown(at("deep/file"), Some(4_000_001), Some(7)).expect("owned");
        files::set_permissions(at("deep/er"), files::Permissions::from_mode(0o2751)).expect("set");
        files::set_permissions(dir, files::Permissions::from_mode(0o1777)).expect("set");
        chown(dir, Some(999), Some(998)).expect("owned");
        let opened = files::File::open(at("deep")).expect("opens");
        // not every file system has attributes of users; those that have none keep none
        let _ = fs::fsetxattr(&opened, "user.note", b"a\0b", XattrFlags::empty());
        let file = files::File::options().write(true).open(at("deep/file")).expect("opens");
        let before = std::time::UNIX_EPOCH - std::time::Duration::from_millis(1250);
        file.set_modified(before).expect("set");
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_600_000_000, 123_456_789);
        opened.set_modified(time).expect("set");
        files::File::open(dir).expect("opens").set_modified(time).expect("set");
    }

    #[test]
    fn p41_a_tree_comes_over_with_all_it_is_and_the_same_digest() {
        let (from, to) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        sample(from.path());
        let open = |path: &Path| Root::open(path).expect("it opens");
        let mut tar = Vec::new();
        open(from.path()).pack_exact(&mut tar).expect("it packs");
        open(to.path()).extract_exact(tar.as_slice()).expect("it unpacks");
        let digest = open(from.path()).digest_exact().expect("read");
        assert_eq!(open(to.path()).digest_exact().expect("read"), digest);
        assert_eq!(Digest::of(&tar), digest);
        let meta = |name: &str| files::symlink_metadata(to.path().join(name)).expect(name);
        assert_eq!((meta("").uid(), meta("").mode() & 0o7777), (999, 0o1777));
        assert_eq!((meta("").mtime(), meta("").mtime_nsec()), (1_600_000_000, 123_456_789));
        assert_eq!((meta("deep/file").mtime(), meta("deep/file").mtime_nsec()), (-2, 750_000_000));
        assert_eq!(meta("deep/file").ino(), meta("twin").ino());
        assert!(meta("holes").blocks() * 512 < 1 << 20, "holes stay holes");
        // each of these is a difference
        let differs = |change: &dyn Fn(&Path)| {
            let before = open(to.path()).digest_exact().expect("read");
            change(to.path());
            before != open(to.path()).digest_exact().expect("read")
        };
        assert!(differs(
            &|dir| files::set_permissions(dir.join("twin"), files::Permissions::from_mode(0o600)).expect("set")
        ));
        assert!(differs(&|dir| chown(dir.join("deep"), Some(1), None).expect("set")));
        assert!(differs(&|dir| files::write(dir.join("deep/er/new"), "").expect("written")));
        assert!(differs(&|dir| files::remove_file(dir.join("link")).expect("gone")));
    }

    #[test]
    fn p41_many_directories_keep_their_times() {
        let (from, to) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        for number in 0..700 {
            files::create_dir_all(from.path().join(format!("d{number}/sub"))).expect("made");
        }
        let open = |path: &Path| Root::open(path).expect("it opens");
        let mut tar = Vec::new();
        open(from.path()).pack_exact(&mut tar).expect("it packs");
        open(to.path()).extract_exact(tar.as_slice()).expect("it unpacks");
        assert_eq!(open(to.path()).digest_exact().expect("read"), open(from.path()).digest_exact().expect("read"));
        assert!(open(to.path()).extract_exact(&tar[..tar.len() / 2 + 100]).is_err(), "a cut one is refused");
    }
}
