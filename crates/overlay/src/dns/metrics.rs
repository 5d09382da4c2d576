//! What passed by since the process started. Written by the tasks of this part, read for `Status`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// The numbers as they count up.
#[derive(Debug, Default)]
pub struct Metrics {
    pub answered: AtomicU64,
    pub forwarded: AtomicU64,
    pub unanswered: AtomicU64,
    pub refused_busy: AtomicU64,
    pub malformed: AtomicU64,
    pub forged: AtomicU64,
}

/// The numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DnsCounters {
    /// Questions answered from the networks' own tables.
    pub answered: u64,
    /// Questions passed on.
    pub forwarded: u64,
    /// Of them, those that no nameserver answered.
    pub unanswered: u64,
    /// Questions not passed on because too many were on their way.
    pub refused_busy: u64,
    /// Messages that were no questions, or none that can be read.
    pub malformed: u64,
    /// Messages that came instead of a nameserver's answer and did not fit the question.
    pub forged: u64,
}

impl Metrics {
    pub fn snapshot(&self) -> DnsCounters {
        DnsCounters {
            answered: self.answered.load(Relaxed),
            forwarded: self.forwarded.load(Relaxed),
            unanswered: self.unanswered.load(Relaxed),
            refused_busy: self.refused_busy.load(Relaxed),
            malformed: self.malformed.load(Relaxed),
            forged: self.forged.load(Relaxed),
        }
    }
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
