//! A socket of the host in containers that have it as a mount. Who listens anew makes the socket anew, and mounts keep the one
//! of before, on which nobody listens any more; so they are made again. Called by the engine when the API listens.
//!
//! The kernel says which mounts these are: of the same place in the same file system, and gone from there. Nothing else of a
//! container is touched, whatever its mounts are called.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use rustix::{
    fs::CWD,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

/// Gives the container with this process what is at `socket` now, wherever it has what was there before; tells at how many
/// places. One that has ended has none.
///
/// # Errors
/// When the kernel refuses: before 5.2 it knows no such mounts.
pub fn renew_socket(pid: i32, socket: &Path) -> io::Result<usize> {
    let Ok(inside) = fs::read_to_string(format!("/proc/{pid}/mountinfo")) else { return Ok(0) };
    let socket = fs::canonicalize(socket)?;
    let stale = stale(&inside, &fs::read_to_string("/proc/self/mountinfo")?, &socket);
    if stale.is_empty() {
        return Ok(0);
    }
    let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
    let count = stale.len();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let fresh = |stale: Stale| Ok::<_, io::Error>((stale, open_tree(CWD, socket.as_path(), flags)?));
    let mounts: Vec<(Stale, OwnedFd)> = stale.into_iter().map(fresh).collect::<io::Result<_>>()?;
    // A thread of its own: it leaves this host's mounts for good.
    let thread = thread::Builder::new().name("renew".to_owned()).spawn(move || replace(&namespace, &mounts))?;
    thread.join().map_err(|_| io::Error::other("the thread in the container panicked"))??;
    Ok(count)
}

/// On the calling thread, which stays in the namespace.
fn replace(namespace: &File, mounts: &[(Stale, OwnedFd)]) -> io::Result<()> {
    // only who shares its root and working directory with nobody may enter
    unshare(CloneFlags::CLONE_FS)?;
    setns(namespace, CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    for (Stale { place, read_only }, fresh) in mounts {
        umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
        move_mount(fresh, "", CWD, place.as_path(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        mount(none, place, none, MsFlags::MS_PRIVATE, none)?;
        if *read_only {
            mount(none, place, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)?;
        }
    }
    Ok(())
}

/// Where a container has a file that is gone.
#[derive(Debug, PartialEq, Eq)]
struct Stale {
    place: PathBuf,
    read_only: bool,
}

/// Of the mounts of a container those of what was at `socket` on the host, by both mountinfos.
fn stale(inside: &str, host: &str, socket: &Path) -> Vec<Stale> {
    let Some((device, path)) = place_of(host, socket) else { return Vec::new() };
    let gone = format!("{path}//deleted");
    let of_it = inside.lines().filter_map(Line::read).filter(|line| line.device == device && line.root == gone);
    of_it
        .map(|line| Stale {
            place: line.point.replace("\\040", " ").into(),
            read_only: line.options.split(',').any(|option| option == "ro"),
        })
        .collect()
}

/// The file system that a file is in, and where in it.
fn place_of<'a>(mountinfo: &'a str, file: &Path) -> Option<(&'a str, String)> {
    let above = mountinfo.lines().filter_map(Line::read).filter(|line| file.starts_with(line.point));
    // of several at one place the last is on top
    let mount = above.max_by_key(|line| Path::new(line.point).components().count())?;
    let below = file.strip_prefix(mount.point).ok()?;
    Some((mount.device, Path::new(mount.root).join(below).to_str()?.to_owned()))
}

/// What counts here of a line of mountinfo (proc_pid_mountinfo(5)).
struct Line<'a> {
    device: &'a str,
    /// The part of the file system that is mounted.
    root: &'a str,
    point: &'a str,
    options: &'a str,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ').skip(2);
        Some(Self { device: words.next()?, root: words.next()?, point: words.next()?, options: words.next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-15, E-39: the socket of before, and no other file that is gone or has its name.
    #[test]
    fn e_39_only_mounts_of_the_socket_of_before_are_made_again() {
        let host = "22 1 8:1 / / rw - ext4 /dev/sda rw\n24 22 0:23 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n\
                    60 24 0:40 /labs/h1 /run/rswarm rw - tmpfs t rw\n";
        let inside = "88 87 0:40 /labs/h1/rswarm.sock//deleted /var/run/docker.sock ro,relatime - tmpfs t rw\n\
                      89 87 0:40 /labs/h1/rswarm.sock//deleted /a\\040b rw - tmpfs t rw\n\
                      90 87 0:40 /labs/h1/rswarm.sock /new rw - tmpfs t rw\n\
                      91 87 0:23 /labs/h1/rswarm.sock//deleted /other-disk rw - tmpfs t rw\n\
                      92 87 0:40 /labs/h2/rswarm.sock//deleted /other-place rw - tmpfs t rw\n";
        let stale = |socket: &str| stale(inside, host, Path::new(socket));
        let at = |place: &str, read_only| Stale { place: place.into(), read_only };
        assert_eq!(stale("/run/rswarm/rswarm.sock"), [at("/var/run/docker.sock", true), at("/a b", false)]);
        assert!(stale("/run/rswarm.sock").is_empty());
        assert_eq!(place_of(host, Path::new("/run/x.sock")), Some(("0:23", "/x.sock".to_owned())));
    }
}
