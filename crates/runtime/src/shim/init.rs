//! An init as the container's process 1, for commands that do not reap orphans or that expect signals
//! to have their usual effect. It is this program's own code, already in memory when the root was
//! changed, so the container's filesystem needs nothing. It keeps no descriptor but the standard ones
//! and cannot be traced or read through /proc by the container's processes: it is not dumpable.

use std::fs;

use nix::{
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, sigprocmask},
    },
    unistd::{ForkResult, Pid, fork, getpid, isatty, setpgid, tcsetpgrp},
};

use super::reap::{End, wait};

/// Where the kernel shows a process's arguments from: addresses in this program, and in its children as long as they execute no
/// other.
#[derive(Clone, Copy, Default)]
pub(super) struct Arguments {
    begin: usize,
    end: usize,
}

impl Arguments {
    /// This process's; to be asked for on the host, whose /proc is the kernel's. Empty if it does not say.
    pub(super) fn own() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self::of_stat(&stat).unwrap_or_default()
    }

    /// Fields 48 and 49 of proc_pid_stat(5); the second is a name that may have anything in it.
    fn of_stat(stat: &str) -> Option<Self> {
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(45);
        let mut address = || fields.next()?.parse().ok();
        let (begin, end) = (address()?, address()?);
        (begin < end).then_some(Self { begin, end })
    }

    /// Puts words there, as many as there is room for, in place of those that this program was begun with.
    ///
    /// # Safety
    /// Nobody asks for the program's arguments any more.
    unsafe fn replace(self, words: &[&str]) {
        let room = self.end - self.begin;
        if room == 0 {
            return;
        }
        let mut text = words.join("\0").into_bytes();
        // what ends in no zero byte would be read on into what lies behind it
        text.truncate(room - 1);
        text.resize(room, 0);
        // SAFETY: the kernel put this program's arguments there, on the stack of this process's one thread, and the caller
        // promises that nobody reads them.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.begin as *mut u8, room) };
    }
}

/// Forks. The child returns and executes the command; process 1 stays here until the child has ended, and is shown as Docker's
/// init in lists of processes.
pub(super) fn become_init_and_fork(arguments: Arguments, command: &[String]) {
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
            let words = ["/sbin/docker-init", "--"].into_iter().chain(command.iter().map(String::as_str));
            // SAFETY: nothing below asks for this program's arguments.
            unsafe { arguments.replace(&words.collect::<Vec<_>>()) };
            // a name is for people alone
            prctl::set_name(c"docker-init").ok();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// E-21: the places of the arguments are found behind any name of a program.
    #[test]
    fn e_21_arguments_are_found_by_the_kernels_word() {
        let stat = |begin: u64, end: u64| {
            let before: Vec<String> = (3..48).map(|field| field.to_string()).collect();
            format!("7 (a) b ( c) {} {begin} {end} 50 51\n", before.join(" "))
        };
        let of = |text: &str| Arguments::of_stat(text).map(|found| (found.begin, found.end));
        assert_eq!(of(&stat(4096, 4200)), Some((4096, 4200)));
        assert_eq!([of(&stat(0, 0)), of(""), of("7 (a) S 1")], [None, None, None]);
        let own = Arguments::own();
        assert!(own.begin > 0 && own.end > own.begin);
    }
}
