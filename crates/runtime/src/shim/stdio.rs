//! The container's standard streams: pipes, or a pseudoterminal whose master the runtime sends
//! back over a socket. Made before the container, used by `serve` afterwards.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl, open},
    sys::stat::Mode,
    unistd::{Uid, fchown, pipe2},
};

use super::{Failure, fds};
use crate::{log::Stream, record::Record};

/// Name of the socket on which the runtime hands over the terminal.
pub(super) const CONSOLE: &str = "console.sock";

/// The shim's ends.
pub(super) struct Ours {
    pub(super) outputs: Vec<(Stream, OwnedFd)>,
    /// The pipe to standard input, if it is open.
    pub(super) stdin: Option<OwnedFd>,
    /// The terminal's master, if there is a terminal.
    pub(super) terminal: Option<OwnedFd>,
}

/// Both ends, until the container exists.
pub(super) struct Stdio {
    ours: Ours,
    console: Option<UnixListener>,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

impl Stdio {
    pub(super) fn new(record: &Record) -> Result<Self, Failure> {
        let say = |errno: nix::Error| format!("cannot make the container's standard streams: {errno}");
        let null = || open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(say);
        let mut new = Self {
            ours: Ours { outputs: Vec::new(), stdin: None, terminal: None },
            console: None,
            stdin: None,
            stdout: None,
            stderr: None,
        };
        if record.tty {
            let listener = UnixListener::bind(CONSOLE).map_err(|err| format!("cannot listen on {CONSOLE}: {err}"))?;
            listener.set_nonblocking(true).map_err(|err| err.to_string())?;
            new.console = Some(listener);
            return Ok(new);
        }
        let (out, out_theirs) = pipe2(OFlag::O_CLOEXEC).map_err(say)?;
        let (err, err_theirs) = pipe2(OFlag::O_CLOEXEC).map_err(say)?;
        // A program that is not root opens /dev/stdout anew: it must own what it opens.
        let uid = Some(Uid::from_raw(record.uid));
        fchown(&out_theirs, uid, None).map_err(say)?;
        fchown(&err_theirs, uid, None).map_err(say)?;
        if record.open_stdin {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC).map_err(say)?;
            fchown(&theirs, uid, None).map_err(say)?;
            set_nonblocking(&ours)?;
            (new.stdin, new.ours.stdin) = (Some(theirs), Some(ours));
        } else {
            new.stdin = Some(null()?);
        }
        set_nonblocking(&out)?;
        set_nonblocking(&err)?;
        new.ours.outputs = vec![(Stream::Stdout, out), (Stream::Stderr, err)];
        (new.stdout, new.stderr) = (Some(out_theirs), Some(err_theirs));
        Ok(new)
    }

    /// The container exists: closes its ends, fetches its terminal, returns ours.
    pub(super) fn into_ours(mut self) -> Result<Ours, Failure> {
        (self.stdin, self.stdout, self.stderr) = (None, None, None);
        let Some(listener) = self.console.take() else { return Ok(self.ours) };
        let say = |err: io::Error| format!("the runtime did not send the container's terminal: {err}");
        let (stream, _) = listener.accept().map_err(say)?;
        stream.set_nonblocking(false).map_err(say)?;
        let (mut bytes, mut fds) = ([0; 4096], Vec::new());
        fds::receive(stream.as_fd(), &mut bytes, &mut fds).map_err(say)?;
        let master = fds.pop().ok_or_else(|| say(io::Error::other("the message carries no descriptor")))?;
        set_nonblocking(&master)?;
        let copy = master.try_clone().map_err(say)?;
        self.ours.outputs.push((Stream::Stdout, copy));
        self.ours.terminal = Some(master);
        std::fs::remove_file(CONSOLE).ok();
        Ok(self.ours)
    }
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), Failure> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(|errno| errno.to_string())?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map_err(|errno| errno.to_string())?;
    Ok(())
}
