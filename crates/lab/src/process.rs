//! A process named so that it can never be mistaken for a later one with the same pid.
//!
//! Used wherever a pid is kept in a file or signalled. Never signal a bare pid from elsewhere.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A pid and its start time in clock ticks since boot (`/proc/<pid>/stat`, field 22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    pub start_ticks: u64,
}

impl ProcessId {
    /// The process that has this pid now.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|s| Self { pid, start_ticks: s.start_ticks })
    }

    /// This very process.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of(nix::unistd::getpid().as_raw())
    }

    /// Whether it still runs. A zombie does not.
    #[must_use]
    pub fn alive(self) -> bool {
        stat(self.pid).is_some_and(|s| s.start_ticks == self.start_ticks && !matches!(s.state, 'Z' | 'X'))
    }

    /// Sends a signal; `false` if the process is gone.
    pub fn signal(self, signal: Signal) -> Result<bool, Errno> {
        if !self.alive() {
            return Ok(false);
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Its direct children.
    #[must_use]
    pub fn children(self) -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
            .filter_map(|pid| Some((pid, stat(pid)?)))
            .filter(|(_, s)| s.parent == self.pid)
            .map(|(pid, s)| Self { pid, start_ticks: s.start_ticks })
            .collect()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    parent: i32,
    start_ticks: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The program's name is in brackets and may itself hold brackets and blanks: read behind the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_nasty_program_name() {
        let text = "12 (a) R 7 (x) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 2";
        assert_eq!(parse_stat(text), Some(Stat { state: 'S', parent: 1, start_ticks: 9876 }));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let own = ProcessId::own().unwrap();
        assert!(own.alive());
        let other = ProcessId { start_ticks: own.start_ticks + 1, ..own };
        assert!(!other.alive());
        assert_eq!(other.signal(Signal::SIGKILL), Ok(false));
    }
}
