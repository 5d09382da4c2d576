//! netd's side: one such process runs while a published port asks for headers.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{ProxyError, standing, standing::dismiss};

/// Starting takes milliseconds; a machine under load may need this long.
const COMES_UP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// How soon the end of one that netd did not start itself is noticed.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the process, adopts one that runs, replaces one of another version, and tells when it has ended.
#[derive(Debug)]
pub struct Keeper {
    state_dir: PathBuf,
    /// Program and arguments; empty: there is none.
    command: Vec<OsString>,
    version: String,
    wanted: watch::Sender<Wanted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    No,
    Yes,
    /// It could not be started: netd tries again when it looks anyway, and not at once, and at once again.
    Failed,
}

impl Keeper {
    pub fn new(state_dir: &Path, command: &[OsString], version: &str) -> Self {
        let (wanted, _) = watch::channel(Wanted::No);
        Self { state_dir: state_dir.to_owned(), command: command.to_vec(), version: version.to_owned(), wanted }
    }

    /// Makes sure that one runs, or that none does.
    pub async fn follow(&self, is_wanted: bool) -> Result<(), ProxyError> {
        if !is_wanted {
            self.wanted.send_replace(Wanted::No);
            dismiss(&self.state_dir);
            return Ok(());
        }
        let ensured = self.ensure().await;
        self.wanted.send_replace(if ensured.is_ok() { Wanted::Yes } else { Wanted::Failed });
        ensured
    }

    /// Waits until the one that is wanted is gone.
    pub async fn ended(&self) {
        let mut wanted = self.wanted.subscribe();
        while *wanted.borrow_and_update() != Wanted::Yes || self.is_there() {
            // The sender is this very object.
            let _ = tokio::time::timeout(LOOK, wanted.changed()).await;
        }
    }

    fn is_there(&self) -> bool {
        standing(&self.state_dir).is_some_and(|standing| standing.version == self.version)
    }

    async fn ensure(&self) -> Result<(), ProxyError> {
        if self.is_there() {
            return Ok(());
        }
        let (exe, arguments) = self.command.split_first().ok_or(ProxyError::NoCommand)?;
        // It speaks into netd's log.
        let mut child = Command::new(exe)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .spawn()
            .map_err(|source| ProxyError::Start { exe: PathBuf::from(exe), source })?;
        let pid = child.id();
        let reaped = std::thread::Builder::new().name("port-proxy-reaper".to_owned()).spawn(move || child.wait());
        let reaper = reaped.map_err(ProxyError::Runtime)?;
        let deadline = Instant::now() + COMES_UP;
        let log = || self.state_dir.join("netd.log");
        while !self.is_there() {
            if reaper.is_finished() {
                return Err(ProxyError::NotUp { what: format!("(pid {pid}) ended at once"), log: log() });
            }
            if Instant::now() >= deadline {
                let what = format!("(pid {pid}) did not come up within {} s", COMES_UP.as_secs());
                return Err(ProxyError::NotUp { what, log: log() });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}
