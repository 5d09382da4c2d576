//! A root filesystem with the mounts of a container that does not run, as the container would see them.
//!
//! They are made in a mount namespace of their own, which no process is in and which ends with the last descriptor of
//! it: nobody else sees these mounts, and nobody has to take them away.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
};

use super::{Root, TreeError};

/// A directory or file of the host, at a place in a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeMount {
    pub source: PathBuf,
    /// The part of the source that is meant; empty: all of it.
    pub subpath: String,
    pub target: String,
    pub read_only: bool,
}

impl Root {
    /// Opens a root filesystem with these mounted in it, the outer ones before those inside them. Places that are not
    /// there are made, as the container's start would. Blocking.
    ///
    /// # Errors
    /// A source that is not there, a place that cannot be made, or a mount that the system refuses.
    pub fn with_mounts(rootfs: &Path, mounts: &[TreeMount]) -> Result<Self, TreeError> {
        let mut mounts: Vec<&TreeMount> = mounts.iter().collect();
        mounts.sort_by_key(|mount| depth(&mount.target));
        let work = || {
            let own = |errno: nix::Error| failed("make a mount namespace for", rootfs, errno.into());
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).map_err(own)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(own)?;
            let namespace = std::fs::File::open("/proc/thread-self/ns/mnt");
            let namespace = namespace.map_err(|error| failed("keep a mount namespace for", rootfs, error))?;
            let mut root = Self::open(rootfs).map_err(|error| failed("open", rootfs, error))?;
            root.namespace = Some(namespace.into());
            mounts.iter().try_for_each(|mount| root.mount(mount))?;
            Ok(root)
        };
        // A thread of its own, since a thread that has left the process's namespace cannot be used for anything else.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("mounts".to_owned()).spawn_scoped(scope, work);
            let thread = thread.map_err(|error| failed("begin a thread for", rootfs, error))?;
            thread.join().unwrap_or_else(|_| Err(failed("mount in", rootfs, io::ErrorKind::Other.into())))
        })
    }

    fn mount(&self, wanted: &TreeMount) -> Result<(), TreeError> {
        let TreeMount { source, subpath, target, read_only } = wanted;
        let of_source = Self::open_any(source).map_err(|errno| failed("mount", source, errno.into()))?;
        let of_source = match subpath.as_str() {
            "" => of_source,
            part => Self { directory: of_source, namespace: None }
                .resolve(part.as_bytes(), OFlags::PATH)
                .map_err(|errno| TreeError::file("mount", part.as_bytes(), errno))?,
        };
        let is_directory = fs::fstat(&of_source).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir());
        let place = self.place_for(target, is_directory)?;
        let no = None::<&str>;
        let refused =
            |errno: nix::Error| TreeError::file("mount on", target.as_bytes(), Errno::from_raw_os_error(errno as i32));
        mount(Some(&path_of(&of_source)), &path_of(&place), no, MsFlags::MS_BIND | MsFlags::MS_REC, no)
            .map_err(refused)?;
        if *read_only {
            // The descriptor of the place is below the mount; the name leads to it.
            let mounted = self.resolve(target.as_bytes(), OFlags::PATH);
            let mounted = mounted.map_err(|errno| TreeError::file("look at", target.as_bytes(), errno))?;
            let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            mount(no, &path_of(&mounted), no, flags, no).map_err(refused)?;
        }
        Ok(())
    }

    fn open_any(path: &Path) -> Result<OwnedFd, Errno> {
        fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    }

    /// The directory or file at a place; made if there is none.
    fn place_for(&self, target: &str, is_directory: bool) -> Result<OwnedFd, TreeError> {
        let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty()).collect();
        for length in 1..=parts.len() {
            let path = parts[..length].join("/");
            let error = |errno| TreeError::file("make", path.as_bytes(), errno);
            match self.resolve(path.as_bytes(), OFlags::PATH) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(error(errno)),
            }
            let parent = self.resolve(parts[..length - 1].join("/").as_bytes(), OFlags::PATH | OFlags::DIRECTORY);
            let (parent, name) = (parent.map_err(error)?, parts[length - 1]);
            if length < parts.len() || is_directory {
                fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)).map_err(error)?;
            } else {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map_err(error)?;
            }
        }
        self.resolve(parts.join("/").as_bytes(), OFlags::PATH)
            .map_err(|errno| TreeError::file("look at", target.as_bytes(), errno))
    }
}

fn depth(target: &str) -> usize {
    target.split('/').filter(|part| !part.is_empty()).count()
}

fn path_of(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/thread-self/fd/{}", fd.as_fd().as_raw_fd()))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> TreeError {
    TreeError::File { action, path: path.display().to_string(), source }
}
