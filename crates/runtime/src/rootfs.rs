//! Reading and preparing inside a root filesystem that its image may have filled with traps: every
//! path is resolved by the kernel with the root filesystem as its root, so no symbolic link and no
//! ".." leads to the host. Called by `launch` and the hook of
//! `shim/dev`.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, mkdirat},
    unistd::symlinkat,
};

/// More than any real passwd or group file; a larger one is refused.
const TEXT_MAX: u64 = 4 * 1024 * 1024;

/// A root filesystem, held open.
pub(crate) struct Rootfs(OwnedFd);

/// Makes in a container's root filesystem what others are mounted on, so that it is there before the first start.
///
/// # Errors
/// If there is no such directory.
pub fn make_mount_points(rootfs: &Path) -> io::Result<()> {
    Rootfs::open(rootfs).map(|rootfs| rootfs.make_mount_points())
}

impl Rootfs {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?))
    }

    /// The text of a small file; empty if there is none. Bytes that are not UTF-8 are replaced.
    pub(crate) fn read_text(&self, path: &str) -> io::Result<String> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = match self.resolve(path, flags) {
            Ok(fd) => File::from(fd),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
            Err(errno) => return Err(errno.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > TEXT_MAX {
            return Err(io::Error::other(format!(
                "{path} in the image is not a regular file of at most {TEXT_MAX} bytes"
            )));
        }
        let mut bytes = Vec::new();
        file.take(TEXT_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Makes the directory `path` and its parents, mode 0755, where they are missing.
    pub(crate) fn ensure_dir(&self, path: &str) -> io::Result<()> {
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut parent = ".".to_owned();
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            let here = format!("{parent}/{part}");
            if self.resolve(&here, directory).err() == Some(Errno::ENOENT) {
                let fd = self.resolve(&parent, directory)?;
                match mkdirat(&fd, part, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            parent = here;
        }
        self.resolve(&parent, directory)?;
        Ok(())
    }

    /// Makes the empty file `path`, mode 0644, where it is missing; its directory is there.
    pub(crate) fn make_file(&self, path: &str) -> io::Result<()> {
        let how = OpenHow::new()
            .flags(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .mode(Mode::from_bits_truncate(0o644))
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        Ok(openat2(&self.0, path, how).map(drop)?)
    }

    /// What programs look for before anything is mounted there, and `/.dockerenv`, by which many know that they are in a
    /// container: all as Docker makes them (moby `daemon/initlayer`), where the image has nothing. What cannot be made is left to
    /// the start, which says why.
    pub(crate) fn make_mount_points(&self) {
        for directory in ["dev/pts", "dev/shm", "etc", "proc", "sys"] {
            self.ensure_dir(directory).ok();
        }
        let is_free = |path: &str| self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW).err() == Some(Errno::ENOENT);
        let files = [".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
        for file in files.into_iter().filter(|file| is_free(file)) {
            self.make_file(file).ok();
        }
        if is_free("etc/mtab")
            && let Ok(etc) = self.resolve("etc", OFlag::O_PATH | OFlag::O_DIRECTORY)
        {
            symlinkat("/proc/mounts", &etc, "mtab").ok();
        }
    }

    /// What is at `path`, opened so.
    pub(crate) fn resolve(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let how =
            OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.0, path, how)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_lead_nowhere_but_inside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("outside"), "secret").unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("real")).unwrap();
        fs::write(root.join("real/passwd"), "inside").unwrap();
        symlink("/real", root.join("etc")).unwrap();
        symlink("../../../outside", root.join("up")).unwrap();
        symlink(dir.path().join("outside"), root.join("absolute")).unwrap();
        let rootfs = Rootfs::open(&root).unwrap();
        assert_eq!(rootfs.read_text("/etc/passwd").unwrap(), "inside");
        assert_eq!(rootfs.read_text("up").unwrap(), "");
        assert_eq!(rootfs.read_text("absolute").unwrap(), "");
        assert!(rootfs.read_text("/real").is_err());

        symlink("../outside", root.join("real/resolv.conf")).unwrap();
        make_mount_points(&root).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("outside")).unwrap(), "secret");
        assert!(root.join("real/resolv.conf").is_symlink() && root.join("real/hosts").is_file());
        assert!(root.join(".dockerenv").is_file() && root.join("dev/shm").is_dir());
        assert_eq!(fs::read_link(root.join("real/mtab")).unwrap().to_str(), Some("/proc/mounts"));

        symlink(dir.path(), root.join("out")).unwrap();
        rootfs.ensure_dir("/etc/new/deep").unwrap();
        assert!(root.join("real/new/deep").is_dir());
        assert!(rootfs.ensure_dir("/out/made").is_err() || !dir.path().join("made").exists());
        assert!(!dir.path().join("made").exists());
    }
}
