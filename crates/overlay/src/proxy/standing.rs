//! Where the process listens, in a file beside the pid file that it keeps locked.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::ProxyError;
use crate::{
    ProxyPorts,
    netd::lock::{self, Lock},
};

pub const PID_FILE: &str = "port-proxy.pid";
const FILE: &str = "port-proxy.json";
/// Giving up the place takes milliseconds; one that hangs is killed.
const GIVES_UP: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub pid: u32,
    pub version: String,
    pub port: u16,
    /// For what comes over IPv6 and is sent on over IPv4.
    #[serde(default)]
    pub over_ipv4: Option<u16>,
    /// For what comes from ::1 and is sent on from another address.
    #[serde(default)]
    pub past_loopback: Option<u16>,
}

impl Standing {
    pub fn ports(&self) -> ProxyPorts {
        ProxyPorts { headers: self.port, over_ipv4: self.over_ipv4, past_loopback: self.past_loopback }
    }
}

/// What the file says, whether or not that process still is.
pub fn read(state_dir: &Path) -> Option<Standing> {
    serde_json::from_slice(&fs::read(path(state_dir)).ok()?).ok()
}

/// The process that takes connections now.
pub fn standing(state_dir: &Path) -> Option<Standing> {
    let said = read(state_dir)?;
    let holder = lock::holder(state_dir, PID_FILE).ok()??;
    (u32::try_from(holder) == Ok(said.pid)).then_some(said)
}

/// Takes the place, from another one if need be, and says so.
pub async fn take(state_dir: &Path, standing: &Standing) -> Result<Lock, ProxyError> {
    let start = Instant::now();
    let (mut is_told, mut is_killed) = (false, false);
    while let Some(pid) = lock::holder(state_dir, PID_FILE).map_err(ProxyError::State)? {
        let elapsed = start.elapsed();
        if elapsed > 2 * GIVES_UP {
            return Err(ProxyError::Stays { pid });
        }
        if !is_told {
            is_told = true;
            signal(pid, Signal::SIGTERM);
        } else if elapsed > GIVES_UP && !is_killed {
            is_killed = true;
            signal(pid, Signal::SIGKILL);
        }
        tokio::time::sleep(POLL).await;
    }
    let lock = Lock::take(state_dir, PID_FILE).map_err(ProxyError::State)?;
    let path = path(state_dir);
    let beside = path.with_extension("json.new");
    let text = serde_json::to_vec(standing).expect("numbers and a string are always JSON");
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path));
    written.map_err(|source| ProxyError::File { path, source }).map(|()| lock)
}

/// Asks the process that takes connections now to take no more. It ends with its last one.
pub fn dismiss(state_dir: &Path) {
    if let Ok(Some(pid)) = lock::holder(state_dir, PID_FILE) {
        signal(pid, Signal::SIGTERM);
    }
}

/// A holder in another pid namespace has no number here; 0 and less would mean whole groups of processes. One that is
/// gone in this very moment is what is wanted.
fn signal(pid: i32, signal: Signal) {
    if pid > 0 {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}
