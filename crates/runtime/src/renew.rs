//! A socket of the host in containers that have it as a mount. Who listens anew makes the socket anew, and mounts keep the one
//! of before, on which nobody listens any more; so they are made again. Called by the engine when the API listens.
//!
//! The kernel says which mounts these are: of the same place in the same file system, and gone from there. Nothing else of a
//! container is touched, whatever its mounts are called and whatever it does meanwhile: no link on the way is followed, and
//! what is taken away is known by the mount's number. What a container has mounted over such a place stays there.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStringExt as _,
    },
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::stat::Mode,
    unistd::fchdir,
};
use rustix::{
    fs::CWD,
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

/// For the mounts of one container, which takes microseconds: the API is served only after all of them.
const PATIENCE: Duration = Duration::from_secs(2);

/// Gives the container with this process what is at `socket` now, wherever it has what was there before; tells at how many
/// places. One that has ended has none.
///
/// # Errors
/// When the kernel refuses at one of the places: before 5.6 it knows no such mounts.
pub fn renew_socket(pid: i32, socket: &Path) -> io::Result<usize> {
    let Ok(inside) = fs::read(format!("/proc/{pid}/mountinfo")) else { return Ok(0) };
    let socket = fs::canonicalize(socket)?;
    let stale = stale(&String::from_utf8_lossy(&inside), &fs::read_to_string("/proc/self/mountinfo")?, &socket);
    if stale.is_empty() {
        return Ok(0);
    }
    let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let fresh = |stale: Stale| Ok::<_, io::Error>((stale, open_tree(CWD, socket.as_path(), flags)?));
    let mounts: Vec<(Stale, OwnedFd)> = stale.into_iter().map(fresh).collect::<io::Result<_>>()?;
    // A thread of its own: it leaves this host's mounts for good. It may stay: a file system on the way may be of a server that
    // is gone.
    let (tell, told) = mpsc::channel();
    let work = move || tell.send(replace_all(&namespace, &mounts)).ok();
    thread::Builder::new().name("renew".to_owned()).spawn(work)?;
    let silent = |error: RecvTimeoutError| {
        io::Error::new(io::ErrorKind::TimedOut, format!("its mounts cannot be reached: {error}"))
    };
    told.recv_timeout(PATIENCE).map_err(silent)?
}

/// On the calling thread, which stays in the namespace. An error at one place keeps no other as it is.
fn replace_all(namespace: &File, mounts: &[(Stale, OwnedFd)]) -> io::Result<usize> {
    // the host's, which says the truth about what this process has open
    let opened = open("/proc/self/fdinfo", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    // only who shares its root and working directory with nobody may enter
    unshare(CloneFlags::CLONE_FS)?;
    setns(namespace, CloneFlags::CLONE_NEWNS)?;
    let (mut count, mut failure) = (0, None);
    for (stale, fresh) in mounts {
        match replace(&opened, stale, fresh) {
            Ok(true) => count += 1,
            Ok(false) => {}
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(count), Err)
}

/// False if it is no longer there, or under something else.
fn replace(opened: &OwnedFd, stale: &Stale, fresh: &OwnedFd) -> io::Result<bool> {
    let (Some(above), Some(name)) = (stale.place.parent(), stale.place.file_name()) else { return Ok(false) };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let above = openat2(CWD, above, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS))?;
    // the name is looked up there, whatever becomes of the way there
    fchdir(&above)?;
    let is_on_top = || {
        let top = openat(&above, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok::<_, io::Error>(stale.mounts.contains(&mount_of(opened, &top)?))
    };
    if !is_on_top()? {
        return Ok(false);
    }
    let plain = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let mut is_there = false;
    while is_on_top()? {
        // since Linux 6.5: a daemon that is killed between the two leaves no place without a socket
        is_there = is_there || move_mount(fresh, "", &above, name, plain | MoveMountFlags::MOVE_MOUNT_BENEATH).is_ok();
        umount2(name, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    if !is_there {
        move_mount(fresh, "", &above, name, plain)?;
    }
    let none = None::<&str>;
    mount(none, name, none, MsFlags::MS_PRIVATE, none)?;
    if stale.read_only {
        mount(none, name, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none)?;
    }
    Ok(true)
}

/// The number of the mount that something open is in.
fn mount_of(opened: &OwnedFd, fd: &OwnedFd) -> io::Result<String> {
    let number = fd.as_raw_fd().to_string();
    let facts = openat(opened, number.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let facts = io::read_to_string(File::from(facts))?;
    let id = facts.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.map(|id| id.trim().to_owned()).ok_or_else(|| io::Error::other("the kernel does not number its mounts"))
}

/// Where a container has a file that is gone.
#[derive(Debug, PartialEq, Eq)]
struct Stale {
    place: PathBuf,
    /// The numbers of the mounts there that are of it.
    mounts: Vec<String>,
    read_only: bool,
}

/// Of the mounts of a container those of what was at `socket` on the host, by both mountinfos.
fn stale(inside: &str, host: &str, socket: &Path) -> Vec<Stale> {
    let Some((device, path)) = place_of(host, socket) else { return Vec::new() };
    let gone = format!("{path}//deleted");
    let of_it = inside.lines().filter_map(Line::read).filter(|line| line.device == device && line.root == gone);
    let mut found: Vec<Stale> = Vec::new();
    for line in of_it {
        let (place, id) = (unescaped(line.point), line.id.to_owned());
        let read_only = line.options.split(',').any(|option| option == "ro");
        match found.iter_mut().find(|known| known.place == place) {
            Some(known) => {
                known.mounts.push(id);
                known.read_only |= read_only;
            }
            None => found.push(Stale { place, mounts: vec![id], read_only }),
        }
    }
    found
}

/// As it is called: the kernel writes blanks and the like as a backslash and three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let (byte, left) = match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => (byte, &after[3..]),
            None => (*first, after),
        };
        bytes.push(byte);
        rest = left;
    }
    OsString::from_vec(bytes).into()
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
    id: &'a str,
    device: &'a str,
    /// The part of the file system that is mounted.
    root: &'a str,
    point: &'a str,
    options: &'a str,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let (id, _above) = (words.next()?, words.next()?);
        Some(Self { id, device: words.next()?, root: words.next()?, point: words.next()?, options: words.next()? })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    /// E-15, E-39: the socket of before, and no other file that is gone or has its name.
    #[test]
    fn e_39_only_mounts_of_the_socket_of_before_are_made_again() {
        let host = "22 1 8:1 / / rw - ext4 /dev/sda rw\n24 22 0:23 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n\
                    60 24 0:40 /labs/h1 /run/rswarm rw - tmpfs t rw\n";
        let inside = "88 87 0:40 /labs/h1/rswarm.sock//deleted /var/run/docker.sock ro,relatime - tmpfs t rw\n\
                      89 87 0:40 /labs/h1/rswarm.sock//deleted /a\\040b\\011\\134 rw - tmpfs t rw\n\
                      90 87 0:40 /labs/h1/rswarm.sock /new rw - tmpfs t rw\n\
                      91 87 0:23 /labs/h1/rswarm.sock//deleted /other-disk rw - tmpfs t rw\n\
                      92 87 0:40 /labs/h2/rswarm.sock//deleted /other-place rw - tmpfs t rw\n\
                      93 88 0:40 /labs/h1/rswarm.sock//deleted /var/run/docker.sock rw,relatime - tmpfs t rw\n";
        let stale = |socket: &str| stale(inside, host, Path::new(socket));
        let at = |place: &str, mounts: &[&str], read_only| {
            let mounts = mounts.iter().map(|id| (*id).to_owned()).collect();
            Stale { place: place.into(), mounts, read_only }
        };
        let twice = at("/var/run/docker.sock", &["88", "93"], true);
        assert_eq!(stale("/run/rswarm/rswarm.sock"), [twice, at("/a b\t\\", &["89"], false)]);
        assert!(stale("/run/rswarm.sock").is_empty());
        assert_eq!(place_of(host, Path::new("/run/x.sock")), Some(("0:23", "/x.sock".to_owned())));
    }

    /// E-39: in mounts of their own, asked of the kernel: the socket is the new one, and what the container has over such a
    /// place stays there.
    #[test]
    fn e_39_a_socket_is_made_again_where_it_is_on_top() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED e_39_a_socket_is_made_again_where_it_is_on_top: needs root");
            return;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let socket = at("s.sock");
        let first = UnixListener::bind(&socket).expect("bound");
        for name in ["below", "above"] {
            fs::create_dir(at(name)).expect("made");
        }
        for name in ["open", "below/s", "above/s", "own"] {
            fs::write(at(name), name).expect("written");
        }
        let binds = [("s.sock", "open"), ("s.sock", "below/s"), ("above", "below"), ("own", "below/s")];
        let binds = binds.map(|(from, to)| (at(from), at(to)));
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        // a thread may have mounts of its own, and a process id too
        let container = thread::spawn(move || {
            let none = None::<&str>;
            unshare(CloneFlags::CLONE_NEWNS).expect("mounts of its own");
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
            for (from, to) in &binds {
                mount(Some(from), to, none, MsFlags::MS_BIND, none).expect("mounted");
            }
            tell.send(nix::unistd::gettid().as_raw()).expect("told");
            ended.recv().ok();
        });
        let pid = told.recv().expect("it is there");
        let within = |name: &str| PathBuf::from(format!("/proc/{pid}/root{}", at(name).display()));
        for daemon in 0..2 {
            fs::remove_file(&socket).expect("removed");
            let next = UnixListener::bind(&socket).expect("bound again");
            assert_eq!(renew_socket(pid, &socket).expect("renewed"), 1, "daemon {daemon}");
            UnixStream::connect(within("open")).expect("the new one listens there");
            assert_eq!(fs::read_to_string(within("below/s")).expect("read"), "own");
            assert_eq!(renew_socket(pid, &socket).expect("nothing to do"), 0);
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("read");
            let open = at("open").display().to_string();
            assert_eq!(mounts.lines().filter(|line| line.contains(&open)).count(), 1, "one mount: {mounts}");
            drop(next);
        }
        drop((first, end));
        container.join().expect("it ended");
    }
}
