//! The first filling of a volume: what the image has at the mount's place. Blocking.

use std::{
    fs, io,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
    path::{Path, PathBuf},
};

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};

/// Copies what the image has at `target`; gives whether there was anything. The image decides what its links say, so the place is looked
/// up with the container's root as root: nothing of the host can be reached.
pub(super) fn copy_up(rootfs: &Path, target: &str, data: &Path) -> io::Result<bool> {
    let root = fs::File::open(rootfs)?;
    let how = OpenHow::new()
        .flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let found: OwnedFd = match openat2(&root, Path::new(target), how) {
        Ok(fd) => fd,
        // Nothing there, or a file: an empty directory is what the container gets.
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    };
    // The magic link stands for the open directory itself, so no name on the way is looked up again.
    let source = PathBuf::from(format!("/proc/self/fd/{}/", found.as_raw_fd()));
    copy_directory(&source, data)?;
    Ok(fs::read_dir(data)?.next().is_some())
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
