//! The ends of child processes: the shim's own helpers, and the container's first process.

use std::os::fd::{AsFd, BorrowedFd};

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
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
        match wait(Some(pid), libc::WEXITED) {
            Ok(Some((_, end))) => return Ok(end),
            Ok(None) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// How a child of ours ended, if it has; it is reaped then.
pub(super) fn ended_child(pid: Pid) -> Option<End> {
    let (_, end) = wait(Some(pid), libc::WEXITED | libc::WNOHANG).ok()??;
    Some(end)
}

/// Reaps every child that has ended except `init`; says how that one ended, but leaves it a zombie,
/// so that its pid stays its own until the exit is recorded.
pub(super) fn reap_all_but(init: Pid) -> Option<End> {
    loop {
        let (pid, end) = wait(None, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).ok()??;
        if pid == init {
            return Some(end);
        }
        wait(Some(pid), libc::WEXITED | libc::WNOHANG).ok()?;
    }
}

/// One child, or any, that has ended; `nix` takes an end by a real-time signal for an error and says nothing of it.
pub(super) fn wait(child: Option<Pid>, flags: i32) -> Result<Option<(Pid, End)>, Errno> {
    let (kind, id) = match child {
        Some(pid) => (libc::P_PID, pid.as_raw().cast_unsigned()),
        None => (libc::P_ALL, 0),
    };
    // SAFETY: it consists of numbers, for which all zeroes are values.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: what the kernel fills in lives through the call.
    Errno::result(unsafe { libc::waitid(kind, id, &raw mut info, flags) })?;
    // SAFETY: these are the fields that waitid fills in; the pid stays zero if nobody has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let end = if info.si_code == libc::CLD_EXITED { End::Code(status) } else { End::Signal(status) };
    Ok(Some((Pid::from_raw(pid), end)))
}
