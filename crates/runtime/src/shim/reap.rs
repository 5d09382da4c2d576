//! The ends of child processes: the shim's own helpers, and the container's first process.

use std::os::fd::{AsFd, BorrowedFd};

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};

use super::Failure;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Code(i32),
    Signal(i32),
}

/// Becomes readable when a child has ended.
pub(super) struct ChildSignal(SignalFd);

impl ChildSignal {
    /// SIGCHLD must be blocked.
    pub(super) fn new() -> Result<Self, Failure> {
        let set: SigSet = [Signal::SIGCHLD].into_iter().collect();
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .map(Self)
            .map_err(|errno| format!("cannot listen for the ends of processes: {errno}"))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Forgets the signals that have arrived.
    pub(super) fn clear(&self) {
        while let Ok(Some(_)) = self.0.read_signal() {}
    }
}

/// Waits for one child of ours.
pub(super) fn wait_for(pid: Pid) -> Result<End, Errno> {
    loop {
        match waitpid(pid, None) {
            Ok(status) => {
                if let Some((_, end)) = ended(status) {
                    return Ok(end);
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// How a child of ours ended, if it has; it is reaped then.
pub(super) fn ended_child(pid: Pid) -> Option<End> {
    let (_, end) = ended(waitpid(pid, Some(WaitPidFlag::WNOHANG)).ok()?)?;
    Some(end)
}

/// Reaps every child that has ended except `init`; says how that one ended, but leaves it a zombie,
/// so that its pid stays its own until the exit is recorded.
pub(super) fn reap_all_but(init: Pid) -> Option<End> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        let (pid, end) = ended(waitid(Id::All, flags).ok()?)?;
        if pid == init {
            return Some(end);
        }
        waitpid(pid, Some(WaitPidFlag::WNOHANG)).ok()?;
    }
}

fn ended(status: WaitStatus) -> Option<(Pid, End)> {
    match status {
        WaitStatus::Exited(pid, code) => Some((pid, End::Code(code))),
        WaitStatus::Signaled(pid, signal, _) => Some((pid, End::Signal(signal as i32))),
        _ => None,
    }
}
