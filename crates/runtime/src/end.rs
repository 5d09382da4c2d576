//! Ending a container: asked first, forced when its time has run out. Called by the engine.

use std::time::Duration;

use tokio::time::timeout;
use types::Signal;

use crate::{
    error::{Error, Result},
    protocol::Request,
    record::ExitStatus,
    runtime::Runtime,
};

/// A killed container ends at once, unless a process of it hangs in the kernel. What it said last may be on its way to a log
/// server for ten seconds after that (`log/forward/courier`), and only then anybody hears of its end.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);

impl Runtime {
    /// Sends `signal`, waits up to `grace` for the end, then kills every process. A container that has ended
    /// already is a success.
    ///
    /// # Errors
    /// If the container does not exist, or does not even end when killed.
    pub async fn stop(&self, id: &str, signal: Signal, grace: Duration) -> Result<ExitStatus> {
        match self.ask_to_end(id, signal, grace).await? {
            Some(exit) => Ok(exit),
            None => self.kill_all(id).await,
        }
    }

    /// The first half of [`Runtime::stop`]: sends `signal` and gives the container `grace`. `None` if it is still there
    /// then; [`Runtime::kill_all`] is the second half.
    ///
    /// # Errors
    /// If the container does not exist.
    pub async fn ask_to_end(&self, id: &str, signal: Signal, grace: Duration) -> Result<Option<ExitStatus>> {
        let dir = self.dir(id)?;
        let exit = || dir.exit().map_err(Error::io(id, "read its exit status"));
        if let Some(exit) = exit()? {
            return Ok(Some(exit));
        }
        if self.signal(id, signal).await.is_err() {
            // It may have ended meanwhile.
            return exit();
        }
        // A paused process takes the signal when it goes on.
        if self.cgroup_is_frozen(id) {
            self.unpause(id).await?;
        }
        timeout(grace, self.wait(id)).await.ok().transpose()
    }

    /// Kills every process of the container and waits for its end.
    ///
    /// # Errors
    /// If the container does not exist, or does not even end when killed.
    pub async fn kill_all(&self, id: &str) -> Result<ExitStatus> {
        if self.cgroup_is_frozen(id) {
            self.unpause(id).await.ok();
        }
        match self.request(id, "kill it", Request::Shutdown).await {
            Ok(()) | Err(Error::Failed { .. }) => {}
            Err(err) => return Err(err),
        }
        timeout(KILL_TIMEOUT, self.wait(id)).await.unwrap_or_else(|_| {
            Err(Error::Timeout { id: id.to_owned(), operation: "ending it after SIGKILL", timeout: KILL_TIMEOUT })
        })
    }
}
