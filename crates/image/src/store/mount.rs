//! Mounts of root filesystems, first of all overlayfs. Called by the snapshots; knows nothing about images.
//!
//! `mount(2)` takes one page of options, so the lower directories are given relative to the layers'
//! directory: a thread of its own leaves the shared working directory (`unshare(CLONE_FS)`), changes to
//! it and mounts. That works on every kernel; the new mount API's `lowerdir+` needs 6.5.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags},
    sched::CloneFlags,
};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

/// `OVERLAYFS_SUPER_MAGIC` of linux/magic.h.
const OVERLAYFS_MAGIC: u64 = 0x794c_7630;

/// What `mount(2)` takes: one page, of the smallest size there is.
const OPTIONS_BYTES: usize = 4096;

/// Why an overlay cannot be mounted: words for people and the system's error.
pub(super) struct MountError {
    pub reason: String,
    pub source: io::Error,
}

/// Mounts an overlay on `target`. `options` may name paths relative to `directory`.
pub(super) fn mount_overlay(directory: &Path, target: &Path, options: &str) -> Result<(), MountError> {
    let page = OPTIONS_BYTES;
    if options.len() >= page {
        let reason = format!("the mount options are {} bytes long, the kernel takes {page}", options.len());
        return Err(MountError { reason, source: io::ErrorKind::ArgumentListTooLong.into() });
    }
    let mounted = std::thread::scope(|scope| {
        let work = || {
            nix::sched::unshare(CloneFlags::CLONE_FS)?;
            nix::unistd::chdir(directory)?;
            nix::mount::mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options))
        };
        std::thread::Builder::new()
            .name("mount".to_owned())
            .spawn_scoped(scope, work)
            .map(std::thread::ScopedJoinHandle::join)
    });
    let result = match mounted {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Errno::EIO),
        Err(source) => return Err(MountError { reason: "no thread for the mount".to_owned(), source }),
    };
    result.map_err(|errno| MountError { reason: explain(directory, errno), source: errno.into() })
}

/// Makes a directory a mount point of its own files.
pub(super) fn mount_on_itself(target: &Path) -> io::Result<()> {
    Ok(nix::mount::mount(Some(target), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// The likely cause and the next step.
fn explain(directory: &Path, errno: Errno) -> String {
    if is_on_overlayfs(directory) {
        let shown = directory.display();
        return format!(
            "{shown} is itself on overlayfs, which cannot hold the upper directory of another; put --state-dir on ext4, xfs or tmpfs, or use the storage driver vfs"
        );
    }
    match errno {
        Errno::EPERM => "mounting needs root (CAP_SYS_ADMIN)".to_owned(),
        Errno::ENODEV => "the kernel has no overlayfs; load it with `modprobe overlay`".to_owned(),
        Errno::EINVAL => {
            "the kernel refuses the layers; see `dmesg`, and check that --state-dir is on a file system with \
                          d_type and extended attributes (ext4, xfs, tmpfs)"
                .to_owned()
        }
        Errno::ELOOP | Errno::EBUSY => "the directories are in use by another mount".to_owned(),
        Errno::ESTALE => "the upper directory belongs to other layers".to_owned(),
        _ => "overlayfs refuses the mount".to_owned(),
    }
}

/// Whether a directory lies on overlayfs.
pub(super) fn is_on_overlayfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|s| s.f_type.cast_unsigned() == OVERLAYFS_MAGIC)
}

/// Unmounts `target`; nothing mounted is fine.
pub(super) fn unmount(target: &Path) -> io::Result<()> {
    match nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Whether something is mounted on `path`, which exists. One call however many mounts the host has; kernels
/// before 5.8 do not tell, and the mount table is read instead.
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())?;
    match found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        true => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        false => Ok(mount_points()?.contains(path)),
    }
}

/// All mount points of this process's mount namespace.
pub(super) fn mount_points() -> io::Result<BTreeSet<PathBuf>> {
    Ok(parse_mount_points(&fs::read("/proc/thread-self/mountinfo")?))
}

/// Field five of each line of mountinfo, `\040` and the like undone.
fn parse_mount_points(mountinfo: &[u8]) -> BTreeSet<PathBuf> {
    let lines = mountinfo.split(|b| *b == b'\n');
    let fields = lines.filter_map(|line| line.split(|b| *b == b' ').nth(4));
    fields.map(|field| PathBuf::from(OsString::from_vec(unescape(field)))).collect()
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(value.unwrap_or(first));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_parsed() {
        let text = b"36 35 98:0 / /a\\040b rw master:1 - ext4 /dev/sda rw\n37 35 0:5 / /c rw - tmpfs t rw\n\nbroken\n";
        let found: Vec<_> = parse_mount_points(text).into_iter().collect();
        assert_eq!(found, [PathBuf::from("/a b"), PathBuf::from("/c")]);
        assert_eq!(unescape(b"a\\"), b"a\\");
    }
}
