//! Who listens to the container live: descriptors of clients into which its output is written as it comes.
//! Used by `serve` only.
//!
//! The rule for a slow listener: what is read from the container goes to the log and to every listener, whole. A
//! listener whose pipe is full keeps at most one read's worth here, and until that is gone nothing more is read of
//! that output, so that the container waits as it would for a slow terminal (Docker does the same). But a container
//! must not stand still for ever because of a client that is stopped, or was forgotten: a listener that takes
//! nothing for [`STALL_MAX`] is let go, and hears the end of its stream. One that goes on reading, however slowly,
//! loses no byte. The alternatives were to let go at once, which cuts `run | less`, and to keep more here, which
//! would cost memory per container and only move the question.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::write,
};

use crate::log::Stream;

/// A container waits no longer than this for a listener that takes nothing.
const STALL_MAX: Duration = Duration::from_secs(60);

/// Of the end of the output, which is read without waiting, no more is kept for one listener.
const PENDING_MAX: usize = 1024 * 1024;

/// A pipe of this size takes all that can be left at the container's end, so that the shim need not stay for it.
const LAST_PIPE_SIZE: i32 = 1024 * 1024;

/// Where the pipe cannot be made larger, the shim stays for so long after the end.
const FAREWELL_MAX: Duration = Duration::from_secs(10);

/// One listener is one command line; more than this is a client that forgets to close.
pub(super) const LISTENERS_MAX: usize = 32;

struct Listener {
    stream: Stream,
    fd: OwnedFd,
    /// Read from the container and not taken yet.
    pending: Vec<u8>,
    /// When it took something last, or when `pending` began.
    waiting_since: Option<Instant>,
}

/// All listeners of one container.
#[derive(Default)]
pub(super) struct Audience(Vec<Listener>);

impl Audience {
    /// Adds one, which hears `first` before anything that comes.
    pub(super) fn add(&mut self, stream: Stream, fd: OwnedFd, first: &[u8]) -> Result<(), String> {
        if self.0.len() >= LISTENERS_MAX {
            return Err(format!("{LISTENERS_MAX} streams of clients are attached already; detach some"));
        }
        let flags = fcntl(&fd, FcntlArg::F_GETFL).map_err(|errno| errno.to_string())?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&fd, FcntlArg::F_SETFL(flags)).map_err(|errno| errno.to_string())?;
        self.0.push(Listener { stream, fd, pending: Vec::new(), waiting_since: None });
        let last = self.0.len() - 1;
        if !self.0[last].hear(first) {
            self.0.pop();
        }
        Ok(())
    }

    pub(super) fn tell(&mut self, stream: Stream, bytes: &[u8]) {
        self.0.retain_mut(|listener| listener.stream != stream || listener.hear(bytes));
    }

    /// Whether somebody has to catch up before more of this output may be read.
    pub(super) fn is_behind(&self, stream: Stream) -> bool {
        self.0.iter().any(|listener| listener.stream == stream && !listener.pending.is_empty())
    }

    /// What to wait for: room where something is pending, and the end of a listener in any case.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().map(|listener| {
            let events = if listener.pending.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            PollFd::new(listener.fd.as_fd(), events)
        })
    }

    /// `None` if nobody is behind.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|listener| listener.waiting_since).min().map(|since| since + STALL_MAX)
    }

    /// Goes on with those that are ready, lets go of those that are gone or took nothing for too long.
    pub(super) fn catch_up(&mut self, ready: &[bool], now: Instant) {
        let mut index = 0;
        self.0.retain_mut(|listener| {
            let is_ready = ready.get(index).copied().unwrap_or(false);
            index += 1;
            // With nothing pending, only an end can have been reported.
            if is_ready && (listener.pending.is_empty() || !listener.take_pending()) {
                return false;
            }
            listener.waiting_since.is_none_or(|since| now < since + STALL_MAX)
        });
    }

    /// The container has ended: everybody gets what is left, as far as pipes take it. To be called before anybody
    /// hears of the end, because whoever does may remove the container, and this process with it.
    pub(super) fn hand_over(&mut self) {
        self.0.retain_mut(|listener| {
            if listener.pending.is_empty() {
                return false;
            }
            fcntl(&listener.fd, FcntlArg::F_SETPIPE_SZ(LAST_PIPE_SIZE)).ok();
            listener.take_pending() && !listener.pending.is_empty()
        });
    }

    /// Stays for those whose pipe could not take it all.
    pub(super) fn farewell(mut self) {
        let deadline = Instant::now() + FAREWELL_MAX;
        while !self.0.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let fds: Vec<BorrowedFd<'_>> = self.0.iter().map(|listener| listener.fd.as_fd()).collect();
            let mut fds: Vec<PollFd<'_>> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLOUT)).collect();
            if poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)).is_err() {
                continue;
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            let mut index = 0;
            self.0.retain_mut(|listener| {
                index += 1;
                !ready[index - 1] || (listener.take_pending() && !listener.pending.is_empty())
            });
        }
    }
}

impl Listener {
    /// False if it is gone, or too far behind.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(bytes);
            return self.pending.len() <= PENDING_MAX;
        }
        let Some(taken) = self.take(bytes) else { return false };
        if taken < bytes.len() {
            self.pending.extend_from_slice(&bytes[taken..]);
            self.waiting_since = Some(Instant::now());
        }
        true
    }

    /// False if it is gone.
    fn take_pending(&mut self) -> bool {
        let pending = std::mem::take(&mut self.pending);
        let Some(taken) = self.take(&pending) else { return false };
        if taken == pending.len() {
            self.waiting_since = None; // and the memory goes back
            return true;
        }
        if taken > 0 {
            self.waiting_since = Some(Instant::now());
        }
        self.pending = pending;
        self.pending.drain(..taken);
        true
    }

    /// How many bytes it takes now; `None` if it is gone.
    fn take(&self, bytes: &[u8]) -> Option<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match write(&self.fd, &bytes[taken..]) {
                Ok(count) => taken += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => return None,
            }
        }
        Some(taken)
    }
}
