//! A terminal for one more command in a container: made in the container's own devpts, so that the command finds it
//! by its name there. Called by `node`'s engine.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
};

use nix::{
    fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, open, openat2},
    sys::stat::{Mode, makedev},
};

use crate::{
    error::{Error, Result},
    runtime::Runtime,
};

/// Both sides of a terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Ours, non-blocking: reads what the command writes, writes what it reads.
    pub master: OwnedFd,
    /// The command's three standard streams.
    pub slave: OwnedFd,
}

impl Runtime {
    /// A new terminal of a container that runs, `rows` by `columns`, where they are not 0.
    ///
    /// # Errors
    /// If the container does not run or has no more terminals to give.
    pub fn terminal(&self, id: &str, rows: u16, columns: u16) -> Result<Terminal> {
        let make = || {
            let init = self.dir(id)?.init().map_err(Error::io(id, "read its state"))?;
            let init = init.ok_or_else(|| Error::Failed {
                id: id.to_owned(),
                operation: "make a terminal in it",
                reason: "it does not run".to_owned(),
            })?;
            in_container(init.process.pid).map_err(Error::io(id, "make a terminal in it"))
        };
        let terminal = make()?;
        if rows > 0 && columns > 0 {
            resize(terminal.master.as_fd(), rows, columns).map_err(Error::io(id, "size a terminal in it"))?;
        }
        Ok(terminal)
    }
}

fn in_container(pid: i32) -> io::Result<Terminal> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(format!("/proc/{pid}/root").as_str(), directory, Mode::empty())?;
    let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = |flags| OpenHow::new().flags(flags).resolve(inside);
    // Looked at before it is opened in earnest: the container may have put anything there.
    let found = File::from(openat2(&root, "dev/pts/ptmx", how(OFlag::O_PATH | OFlag::O_CLOEXEC))?);
    let metadata = found.metadata()?;
    if !metadata.file_type().is_char_device() || metadata.rdev() != makedev(5, 2) {
        return Err(io::Error::other("its /dev/pts/ptmx is no terminal multiplexer"));
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = open(format!("/proc/self/fd/{}", found.as_raw_fd()).as_str(), flags, Mode::empty())?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives until the call returns.
    if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: TIOCGPTPEER takes flags and returns a descriptor.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()) };
    if slave < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    let flags = OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL)?) | OFlag::O_NONBLOCK;
    fcntl(&master, FcntlArg::F_SETFL(flags))?;
    Ok(Terminal { master, slave })
}

/// Sets the size of a terminal, by its master; the command hears of it.
///
/// # Errors
/// If it is no terminal.
pub fn resize(master: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which lives until the call returns.
    match unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
