//! Why the engine did not start or could not do something.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("another rswarm daemon (pid {pid}) uses {}; stop it or choose another --state-dir", state_dir.display())]
    InUse { pid: u32, state_dir: PathBuf },
    /// Each entry names what is missing and what to do.
    #[error("this host cannot run containers: {}", .0.join("; "))]
    Missing(Vec<String>),
    #[error("{operation} {}", path.display())]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("read {}: {reason}; move the file away to start without it", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error(transparent)]
    Image(#[from] image::Error),
    #[error("set up the host network: {0}")]
    Network(String),
    #[error("container runtime: {0}")]
    Runtime(String),
    #[error("no such task on this node: {0}")]
    NoSuchTask(String),
}

impl EngineError {
    pub(crate) fn file(operation: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { operation, path: path.into(), source }
    }
}
