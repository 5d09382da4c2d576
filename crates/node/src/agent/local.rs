//! What is really there on this host, one entry per task, as plain data.
//!
//! The agent's loop fills it from what the engine found at start, from the ends of actions and from
//! containers that ended by themselves; `reconcile` reads it.

use std::{collections::BTreeMap, time::Duration};

use types::{DependencyId, PortConfig, TaskId, Timestamp};

use crate::engine::health::HealthSettings;

/// Every task this host has something of.
pub(crate) type Local = BTreeMap<TaskId, LocalTask>;

/// One task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalTask {
    pub phase: Phase,
    /// What is being done to it right now: one thing at a time.
    pub busy: Option<Step>,
    /// It was stopped, and its end is still to be seen.
    pub is_stopped: bool,
    /// How to stop it; kept here because the assignment may be gone when it must stop.
    pub stop: StopPolicy,
    /// How to see whether it is well; `None` without a health check.
    pub check: Option<HealthSettings>,
    /// Published on this host while it is there.
    pub ports: Vec<PortConfig>,
    /// Of the secrets and configs that it has as files.
    pub versions: Vec<DependencyId>,
    /// The managers were told that these could not be changed.
    pub is_stale: bool,
    /// Why it must be stopped although it shall run: its check failed too often.
    pub unhealthy: Option<String>,
    /// When it may be stopped, if no host leads anything new to it any more.
    pub drained_at: Option<Timestamp>,
    /// Some host may still do so.
    pub is_led: bool,
    /// After a failure that may pass: nothing is tried before this time.
    pub retry_at: Timestamp,
    /// Failures in a row of the step that `retry_at` holds back.
    pub attempts: u32,
    /// The parts of it that a restart of the host, or of the daemon, left: no container, and nothing done to it since.
    pub is_remnant: bool,
}

/// How far its container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing is there.
    Absent,
    /// Image, mounts and network are there.
    Prepared,
    Created,
    Running,
    /// It ended, or could not be made.
    Ended {
        /// Its network and mounts are given back; only its log is left.
        released: bool,
    },
}

/// Something that is done to one task and takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Prepare,
    Create,
    Start,
    Stop,
    /// Gives the container that runs other versions of its secrets and configs.
    Refresh,
    /// Gives back all but the log.
    Release,
    /// Removes everything.
    Remove,
}

/// For a container that does not say: Docker's default (parity S-57).
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// From asking to forcing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StopPolicy {
    /// Name or number; empty means the image's, else SIGTERM.
    pub signal: String,
    pub grace: Duration,
}

impl Default for StopPolicy {
    fn default() -> Self {
        Self { signal: String::new(), grace: DEFAULT_GRACE }
    }
}

impl LocalTask {
    pub(crate) fn new(phase: Phase, stop: StopPolicy) -> Self {
        Self {
            phase,
            busy: None,
            is_stopped: false,
            stop,
            check: None,
            ports: Vec::new(),
            versions: Vec::new(),
            is_stale: false,
            unhealthy: None,
            drained_at: None,
            is_led: false,
            retry_at: Timestamp::EPOCH,
            attempts: 0,
            is_remnant: false,
        }
    }
}
