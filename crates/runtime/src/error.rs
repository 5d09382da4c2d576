//! What can go wrong with one container. A variant is something a caller may act on differently;
//! the text tells a person what failed, on which container, and what to do.

use std::{io, path::PathBuf, time::Duration};

use thiserror::Error;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed operation on a container.
#[derive(Debug, Error)]
pub enum Error {
    /// The configuration cannot work on any host.
    #[error("container {id}: invalid configuration: {reason}")]
    Invalid { id: String, reason: String },
    #[error("container {id}: there is already a container with this id; delete it first")]
    AlreadyExists { id: String },
    #[error("container {id}: there is no such container")]
    NotFound { id: String },
    #[error("container {id}: exec: \"{command}\": executable file not found in $PATH")]
    CommandNotFound { id: String, command: String },
    #[error("container {id}: exec: \"{command}\": permission denied")]
    CommandNotExecutable { id: String, command: String },
    #[error("container {id}: the mount source {} does not exist on this host; create it or correct the mount for {target}", path.display())]
    MountSourceMissing { id: String, path: PathBuf, target: String },
    #[error("container {id}: the root filesystem {} is not a directory on this host", path.display())]
    RootfsMissing { id: String, path: PathBuf },
    #[error("containers need {missing}; run the daemon as root with the full set of capabilities")]
    MissingPrivilege { missing: String },
    /// The shim or the OCI runtime refused.
    #[error("container {id}: cannot {operation}: {reason}")]
    Failed { id: String, operation: &'static str, reason: String },
    #[error("container {id}: {operation} took longer than {} s and was abandoned", timeout.as_secs())]
    Timeout { id: String, operation: &'static str, timeout: Duration },
    #[error("container {id}: cannot {operation}")]
    Io {
        id: String,
        operation: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot use {} as the directory for containers", path.display())]
    RunDir {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the shim {} cannot be executed; install rswarm-shim beside rswarm or correct the configuration", path.display())]
    Shim {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The exit code that shells and Docker give to a command that could not be executed.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::CommandNotFound { .. } => 127,
            Self::CommandNotExecutable { .. } => 126,
            Self::Failed { reason, .. } => code_of_words(reason),
            _ => 128,
        }
    }

    pub(crate) fn io(id: &str, operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { id: id.to_owned(), operation, source }
    }
}

/// Runtimes say by words alone why they refuse; what Docker takes from them (moby `daemon/errors.go`).
fn code_of_words(reason: &str) -> i32 {
    let reason = reason.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| reason.contains(*part));
    if has(&["permission denied", "is a directory"]) {
        126
    } else if has(&["executable file not found", "no such file or directory", "not a directory"]) {
        127
    } else {
        128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-25, E-28: a command, or its directory, that is not there is 127; what may not be used is 126.
    #[test]
    fn e_28_codes_of_words_are_dockers() {
        let code = |reason: &str| {
            Error::Failed { id: "c".into(), operation: "create it", reason: reason.to_owned() }.exit_code()
        };
        for (reason, wanted) in [
            ("cannot enter the directory /none: no such file or directory; make it in the container", 127),
            ("cannot enter the directory /etc/passwd: not a directory; choose another", 127),
            ("cannot enter the directory /root: permission denied; choose another", 126),
            ("exec: \"/tmp\": is a directory: unknown", 126),
            ("it is paused", 128),
        ] {
            assert_eq!(code(reason), wanted, "{reason}");
        }
        assert_eq!(Error::NotFound { id: "c".into() }.exit_code(), 128);
    }
}
