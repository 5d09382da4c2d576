//! The last plan on disk, so that a process that was killed converges to it without the daemon.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::NetdError;
use crate::NetworkPlan;

/// The plan kept in `state_dir`; None when there is none, or none that can be read (which is logged:
/// nothing is removed then, and the daemon sends a plan anyway).
pub fn read(state_dir: &Path) -> Option<NetworkPlan> {
    let path = path(state_dir);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the last plan; waiting for the daemon");
            return None;
        }
    };
    let plan = serde_json::from_slice(&text);
    plan.inspect_err(|error| {
        tracing::warn!(path = %path.display(), %error, "the last plan makes no sense; waiting for the daemon");
    })
    .ok()
}

/// Replaces it; a reader sees the old one or the new one. Readable by root only: it holds the probe key.
pub fn write(state_dir: &Path, plan: &NetworkPlan) -> Result<(), NetdError> {
    let path = path(state_dir);
    let beside = path.with_extension("json.new");
    let bytes = serde_json::to_vec(plan).map_err(NetdError::Form)?;
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(&bytes))
        .and_then(|()| fs::rename(&beside, &path));
    written.map_err(|source| NetdError::File { doing: "keep the plan in", path, source })
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("plan.json")
}
