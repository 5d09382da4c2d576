//! The hook that lays a bind over a container's /dev: `rswarm-shim ROOTFS dev SOURCE OPTIONS TARGET…`. The library runs it in the
//! container's mount namespace, before the root is changed (`crate::dev`). What is mounted at the targets stays on top.
//! Every path of the container is resolved within its root.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag},
    mount::{MsFlags, mount},
    sys::stat::{SFlag, fstat},
};

use super::Failure;
use crate::rootfs::Rootfs;

const PATH_ONLY: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

pub(super) fn main(rootfs: &Path, words: &[OsString]) -> ExitCode {
    let [source, options, targets @ ..] = words else { return ExitCode::from(2) };
    let options = options.to_string_lossy();
    let targets: Vec<String> = targets.iter().map(|target| target.to_string_lossy().into_owned()).collect();
    match cover(rootfs, Path::new(source), &options.split(',').collect::<Vec<_>>(), &targets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // standard error is the container's own
            io::stderr().write_all(format!("cannot mount {} at /dev: {failure}\n", source.display()).as_bytes()).ok();
            ExitCode::FAILURE
        }
    }
}

fn cover(rootfs: &Path, source: &Path, options: &[&str], targets: &[String]) -> Result<(), Failure> {
    let root = Rootfs::open(rootfs).map_err(|error| format!("open the root filesystem: {error}"))?;
    let open = |path: &str| root.resolve(path, PATH_ONLY).map_err(|errno| format!("open {path}: {}", errno.desc()));
    // held open before the bind hides them
    let kept: Vec<(&String, OwnedFd)> =
        targets.iter().map(|target| Ok((target, open(target)?))).collect::<Result<_, Failure>>()?;
    let recursive = if options.contains(&"rbind") { MsFlags::MS_REC } else { MsFlags::empty() };
    bind(source, &open("/dev")?, recursive).map_err(|errno| errno.desc().to_owned())?;
    let covered = open("/dev")?;
    let spread = propagation(options);
    mount(None::<&str>, &magic(&covered), None::<&str>, spread, None::<&str>)
        .map_err(|errno| format!("set its propagation: {}", errno.desc()))?;
    for (target, part) in &kept {
        ensure(&root, target, part).map_err(|error| format!("make {target} in it: {error}"))?;
    }
    if options.contains(&"ro") {
        read_only(&covered, options.contains(&"rro"))
            .map_err(|errno| format!("make it read-only: {}", errno.desc()))?;
    }
    for (target, part) in &kept {
        bind(&magic(part), &open(target)?, MsFlags::MS_REC).map_err(|errno| format!("{target}: {}", errno.desc()))?;
    }
    Ok(())
}

fn magic(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn bind(source: &Path, target: &OwnedFd, recursive: MsFlags) -> Result<(), Errno> {
    mount(Some(source), &magic(target), None::<&str>, MsFlags::MS_BIND | recursive, None::<&str>)
}

fn propagation(options: &[&str]) -> MsFlags {
    let named = options.iter().find_map(|option| match *option {
        "private" => Some(MsFlags::MS_PRIVATE),
        "shared" => Some(MsFlags::MS_SHARED),
        "rshared" => Some(MsFlags::MS_SHARED | MsFlags::MS_REC),
        "slave" => Some(MsFlags::MS_SLAVE),
        "rslave" => Some(MsFlags::MS_SLAVE | MsFlags::MS_REC),
        _ => None,
    });
    named.unwrap_or(MsFlags::MS_PRIVATE | MsFlags::MS_REC)
}

/// A place for what was mounted there.
fn ensure(root: &Rootfs, target: &str, part: &OwnedFd) -> io::Result<()> {
    if root.resolve(target, PATH_ONLY).is_ok() {
        return Ok(());
    }
    if SFlag::from_bits_truncate(fstat(part)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
        return root.ensure_dir(target);
    }
    let parent = target.rsplit_once('/').map_or("/", |(parent, _)| parent);
    root.ensure_dir(parent)?;
    root.make_file(target)
}

/// The mount, and with `recursive` all below it.
fn read_only(covered: &OwnedFd, recursive: bool) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = AtFlags::AT_EMPTY_PATH.bits() | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and attributes live through the call, and the size is that of the attributes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            covered.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}
