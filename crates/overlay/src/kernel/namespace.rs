//! Named network namespaces: a file with the namespace bind-mounted on it, as `ip netns` makes them.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};

use super::{KernelError, session::Session};

/// More mounts than this on one file would be somebody else's doing; it bounds the loop that removes them.
const MAX_STACKED_MOUNTS: usize = 16;

/// Whether the file has a namespace behind it.
pub fn is_alive(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == NSFS_MAGIC)
}

/// The ids of all files in the directory. A name that is no id is not ours and is left alone.
pub fn list<Id: FromStr + Ord>(directory: &Path) -> Result<Vec<Id>, KernelError> {
    let failed = |source| KernelError::File { doing: "list", path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    ids.sort();
    Ok(ids)
}

/// A new, empty namespace under this path, unless a living one is there already.
pub fn create(session: &Session, path: &Path) -> Result<(), KernelError> {
    if is_alive(path) {
        return Ok(());
    }
    let failed = |doing: &'static str| {
        let path: PathBuf = path.to_owned();
        move |source: io::Error| KernelError::Namespace { doing, path, source }
    };
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(directory).map_err(failed("make room for"))?;
    }
    fs::File::create(path).map_err(failed("make a file for"))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| failed("create")(e.into()))?;
    let mounted = mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    session.go_home();
    mounted.map_err(|e| failed("mount")(e.into()))
}

/// Takes the name away; the namespace ends with its last process.
pub fn remove(path: &Path) -> Result<(), KernelError> {
    let failed = |doing, source| KernelError::Namespace { doing, path: path.to_owned(), source };
    for _ in 0..MAX_STACKED_MOUNTS {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // EINVAL: not a mount point (any more).
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(error) => return Err(failed("unmount", error.into())),
        }
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", error)),
        _ => Ok(()),
    }
}
