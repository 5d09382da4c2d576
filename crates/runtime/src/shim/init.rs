//! An init as the container's process 1, for commands that do not reap orphans or that expect signals
//! to have their usual effect. It is this program's own code, already in memory when the root was
//! changed, so the container's filesystem needs nothing. It keeps no descriptor but the standard ones
//! and cannot be traced or read through /proc by the container's processes: it is not dumpable.

use nix::{
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
    unistd::{ForkResult, Pid, fork, getpid, isatty, setpgid, tcsetpgrp},
};

use super::reap::{End, wait};

/// Forks. The child returns and executes the command; process 1 stays here until the child has ended.
pub(super) fn become_init_and_fork() {
    let everything = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&everything), None).ok();
    // SAFETY: the container's first process has one thread.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            own_foreground_group();
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).ok();
        }
        Ok(ForkResult::Parent { child }) => {
            // SAFETY: nothing of the shim that this process inherited is used from here on.
            unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
            super::give_memory_back();
            std::process::exit(look_after(child, &everything));
        }
        Err(errno) => {
            super::executor::say_and_exit(&format!("cannot fork below init: {}", errno.desc()), 126);
        }
    }
}

/// The command gets a process group of its own and, if there is a terminal, its keyboard. SIGTTOU is
/// still blocked here, so the terminal may be taken.
fn own_foreground_group() {
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).ok();
    if isatty(std::io::stdin()).unwrap_or(false) {
        tcsetpgrp(std::io::stdin(), getpid()).ok();
    }
}

/// Forwards signals and reaps until `child` ends; returns its exit code in a shell's terms.
fn look_after(child: Pid, signals: &SigSet) -> i32 {
    loop {
        let mut number = 0;
        // SAFETY: both live through the call. `nix` would end this process at a real-time signal.
        let failed = unsafe { libc::sigwait(signals.as_ref(), &raw mut number) };
        match number {
            _ if failed != 0 => {}
            libc::SIGCHLD => {
                if let Some(code) = reap(child) {
                    return code;
                }
            }
            number => {
                // SAFETY: two numbers go in and one comes back.
                unsafe { libc::kill(child.as_raw(), number) };
            }
        }
    }
}

fn reap(child: Pid) -> Option<i32> {
    while let Ok(Some((pid, end))) = wait(None, libc::WEXITED | libc::WNOHANG) {
        if pid == child {
            return Some(match end {
                End::Code(code) => code,
                End::Signal(number) => 128 + number,
            });
        }
    }
    None
}
