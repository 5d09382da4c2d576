//! Sends a container's lines on to a service that keeps logs, beside the log file that `logs` is read from.
//! Used by [`super::LogWriter`] in the shim alone.
//!
//! A service that is slow or away must never stop the container for good. The host's own syslog and journal get each
//! line when it comes or not at all (`at_once`). For a log server behind a network lines wait, within bounds, and are
//! sent as the server takes them (`courier`). What is left out is counted and said, and the file has it all the same.

mod at_once;
mod backlog;
mod courier;
#[cfg(test)]
mod courier_tests;
mod fluentd;
mod gelf;
mod journald;
mod socket;
mod syslog;
mod wire;

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use nix::poll::PollFd;

use super::{COMPLAINT, Stream};
use crate::config::LogForward;
use at_once::{AtOnce, Way};
use courier::Courier;

/// Between two complaints: the file they go to lies in memory.
const BETWEEN_COMPLAINTS: Duration = Duration::from_secs(60);

/// One piece of output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) stream: Stream,
    pub(super) text: &'a [u8],
    /// False: it goes on in the next piece.
    pub(super) is_whole: bool,
    /// Nanoseconds since 1970.
    pub(super) at_ns: u64,
}

pub(super) enum Forwarder {
    AtOnce(AtOnce),
    Courier(Box<Courier>),
}

impl Forwarder {
    /// Reaches the service.
    ///
    /// # Errors
    /// When nobody answers there: better now than after a day of lost lines.
    pub(super) fn open(forward: &LogForward) -> io::Result<Self> {
        match forward {
            LogForward::Syslog(syslog) => AtOnce::open(Way::Syslog(syslog.clone())).map(Self::AtOnce),
            LogForward::Journald { fields } => AtOnce::open(Way::Journald(fields.clone())).map(Self::AtOnce),
            LogForward::Gelf(gelf) => Courier::of_gelf(gelf).map(Box::new).map(Self::Courier),
            LogForward::Fluentd(fluentd) => Courier::of_fluentd(fluentd).map(Box::new).map(Self::Courier),
        }
    }

    pub(super) fn send(&mut self, line: Line<'_>) {
        match self {
            Self::AtOnce(at_once) => at_once.send(line),
            Self::Courier(courier) => courier.add(line),
        }
    }

    /// Sends what waits, as far as the service takes it now.
    pub(super) fn go_on(&mut self) {
        if let Self::Courier(courier) = self {
            courier.go_on(Instant::now());
        }
    }

    /// The container has ended: stays for what still waits, while it is taken.
    pub(super) fn finish(&mut self) {
        if let Self::Courier(courier) = self {
            courier.finish();
        }
    }

    /// What to wait for before the next [`Self::go_on`].
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        match self {
            Self::AtOnce(_) => None,
            Self::Courier(courier) => courier.poll_fd(),
        }
    }

    /// When [`Self::go_on`] is due in any case.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::AtOnce(_) => None,
            Self::Courier(courier) => courier.deadline(),
        }
    }

    /// Whether no more of the output may be read just now.
    pub(super) fn is_behind(&self) -> bool {
        match self {
            Self::AtOnce(_) => false,
            Self::Courier(courier) => courier.is_behind(),
        }
    }
}

/// Why a container cannot start.
fn cannot_reach(driver: &str, error: &io::Error) -> io::Error {
    let text = format!("failed to initialize logging driver: {driver} cannot be reached: {error}");
    io::Error::new(error.kind(), text)
}

/// In the shim's own error file, which the daemon passes on when the container is removed.
fn complain(what: &str) {
    io::stderr().write_all(format!("{COMPLAINT}{what}\n").as_bytes()).ok();
}
