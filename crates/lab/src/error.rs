//! What can go wrong with a lab, as sentences a person can act on. Used by every module here.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A failed lab operation. Each variant names the operation and its object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "a lab needs root: user id {uid} may not make namespaces, mounts and cgroups; run the command again with sudo"
    )]
    NotRoot { uid: u32 },

    #[error(
        "the program {tool} is missing, a lab cannot be made without it; on Debian or Ubuntu: apt-get install {package}"
    )]
    MissingTool { tool: &'static str, package: &'static str },

    #[error(
        "the rswarm program {} is not an executable file; build it first (cargo build) or name another one",
        path.display()
    )]
    MissingProgram { path: PathBuf },

    #[error("{what} {text:?} is not usable: {why}")]
    BadName { what: &'static str, text: String, why: &'static str },

    #[error("lab {name} exists already; choose another --name, or remove it with `rswarm lab down --name {name}`")]
    Exists { name: String },

    #[error("there is no lab {name}; {known}")]
    UnknownLab { name: String, known: String },

    #[error("lab {lab} has no host {host}; it has {known}")]
    UnknownHost { lab: String, host: String, known: String },

    #[error("lab {lab} is only half made, its creator died; remove it with `rswarm lab down --name {lab}`")]
    HalfMade { lab: String },

    #[error("host {host} of lab {lab} is not running; start it with `rswarm lab start {host} --name {lab}`")]
    HostDown { lab: String, host: String },

    #[error("host {host} of lab {lab} is running already")]
    HostRunning { lab: String, host: String },

    #[error("{0}")]
    BadSpec(String),

    #[error("all 256 lab numbers are in use; remove labs with `rswarm lab down --all`")]
    NoNumberFree,

    #[error("process {pid} is not a process of host {host}; it may have ended")]
    ForeignProcess { host: String, pid: i32 },

    #[error("cannot {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("{command} failed ({status}): {stderr}")]
    Tool { command: String, status: String, stderr: String },

    #[error("host {host} did not start: {why}")]
    Boot { host: String, why: String },

    #[error("{doing} on host {host} failed with exit code {code}: {output}")]
    Exec { host: String, doing: String, code: i32, output: String },

    #[error("{doing} took longer than {after:?}")]
    Timeout { doing: String, after: Duration },

    #[error("{what}; the end of the daemon's log on host {host}:\n{log}")]
    Cluster { host: String, what: String, log: String },

    #[error("lab {name} could not be removed whole: {left}; try again, or look with `rswarm lab ls`")]
    Leftovers { name: String, left: String },
}

impl Error {
    /// Wraps an I/O error with the operation and the path it failed on.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    /// The error and its causes in one line, for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        types::with_causes(self)
    }
}
