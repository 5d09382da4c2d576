//! A process of which we must be sure: its pid together with the time it started, because pids
//! are used again. Called by the library and by the shim; never signals by pid alone.

use std::{fs, path::PathBuf};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// A process that is, or was, on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks between boot and the start of the process.
    pub(crate) start_ticks: u64,
}

impl Process {
    /// The process that has this pid now.
    pub(crate) fn of_pid(pid: i32) -> Option<Self> {
        let (_, start_ticks) = stat(pid)?;
        Some(Self { pid, start_ticks })
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|(state, ticks)| ticks == self.start_ticks && state != b'Z' && state != b'X')
    }

    /// Sends `signal` if it still runs. A process that is gone is not an error.
    pub(crate) fn signal(self, signal: Signal) -> Result<(), Errno> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// The file that it executes.
    pub(crate) fn program(self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// Whether it runs, and the signal of this number is none of the two that ask nobody.
    pub(crate) fn may_drop(self, number: i32) -> bool {
        ![libc::SIGKILL, libc::SIGSTOP].contains(&number) && self.is_alive()
    }

    /// Whether it neither handles, nor blocks, nor ignores the signal of this number.
    pub(crate) fn drops(self, number: i32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        status.is_ok_and(|status| !names_signal(&status, number))
    }
}

/// Whether a mask of `/proc/PID/status` has the signal: bit 0 is signal 1.
fn names_signal(status: &str, number: i32) -> bool {
    let mask = |line: &str| {
        let (name, digits) = line.split_once(':')?;
        let is_asked = ["SigBlk", "SigIgn", "SigCgt"].contains(&name);
        u64::from_str_radix(digits.trim(), 16).ok().filter(|_| is_asked)
    };
    let named = status.lines().filter_map(mask).fold(0, |all, mask| all | mask);
    u32::try_from(number - 1).is_ok_and(|bit| named.checked_shr(bit).unwrap_or(0) & 1 == 1)
}

/// State letter and start time of a process.
fn stat(pid: i32) -> Option<(u8, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name, in parentheses, may itself hold spaces and parentheses: count from the last.
fn parse_stat(text: &str) -> Option<(u8, u64)> {
    let mut fields = text.get(text.rfind(')')? + 2..)?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some((state, start_ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 7777 1 1";
        assert_eq!(parse_stat(line), Some((b'S', 7777)));
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn a_signal_is_named_by_any_of_the_three_masks() {
        let status = "Name:\tSigCgt\nSigQ:\t0/1\nSigPnd:\tffffffffffffffff\nSigBlk:\t0000000000000001\n\
                      SigIgn:\t0000000000000002\nSigCgt:\t8000000000004000\n";
        let named = (0..=65).filter(|number| names_signal(status, *number)).collect::<Vec<i32>>();
        assert_eq!(named, [1, 2, 15, 64]);
    }

    #[test]
    fn this_process_is_alive_and_its_pid_with_another_start_is_not() {
        let me = Process::of_pid(std::process::id().cast_signed()).unwrap();
        assert!(me.is_alive());
        assert!(!Process { start_ticks: me.start_ticks + 1, ..me }.is_alive());
    }
}
