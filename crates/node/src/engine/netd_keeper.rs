//! Keeps the data plane process running: whenever it ends, it is started again.
//!
//! One task, owned by the engine's network. What the kernel has stays while the process is away; it goes on from
//! the plan it left on disk, so nothing needs to be told to the new one.

use overlay::{
    Client,
    netd::{Launch, ensure_running},
};
use std::time::Duration;

use types::with_causes;

use crate::clock::{Backoff, now, random};

/// After a failed start: a disk that is full does not get emptier by trying.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A process that ran this long was a good one.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// Runs until it is aborted.
pub(super) async fn keep(client: Client, launch: Launch) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut began = now();
    loop {
        client.gone().await;
        if now().since(began) >= GOOD_RUN {
            backoff.reset();
        }
        match ensure_running(&launch).await {
            Ok(running) => tracing::warn!(pid = running.hello().pid, "rswarm netd had ended; it was started again"),
            Err(error) => tracing::error!(error = with_causes(&error), "rswarm netd has ended and does not start"),
        }
        began = now();
        tokio::time::sleep(backoff.pause(random())).await;
    }
}
