//! Keeps this manager's vault as the cluster wants it: sealed with the present unlock key, or plain
//! (parity C-14).
//!
//! A part of a running manager. It is told that the value changed, never what: it compares and makes
//! the disk match. It must not act on a value older than the cluster's, which may name a former key.

use std::time::Duration;

use identity::Vault;
use types::UnlockKey;

use crate::{Error, raft::Consensus};

/// After a disk that could not be written, or while there is no leader to ask.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs as long as the manager.
pub(crate) async fn run(consensus: Consensus, vault: Vault) -> Result<(), Error> {
    let mut tables = consensus.watch_tables();
    // what was applied before the daemon stopped may be older than what the cluster decided meanwhile
    while let Err(status) = consensus.ensure_current().await {
        tracing::debug!(%status, "whether this manager's keys are to be sealed is not known yet");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    let mut settled: Option<Option<UnlockKey>> = None;
    loop {
        let wanted = tables.borrow_and_update().cluster().map(|cluster| cluster.unlock_key);
        if wanted.is_some() && wanted != settled {
            match vault.settle(wanted.flatten().as_ref()) {
                Ok(changed) => {
                    settled = wanted;
                    if changed {
                        let sealed = wanted.flatten().is_some();
                        tracing::info!(sealed, "the keys of this manager lie on its disk as the cluster wants it");
                    }
                }
                Err(error) => {
                    let error = with_cause(&error);
                    tracing::error!(error, "the keys of this manager could not be sealed or opened; trying again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            }
        }
        if tables.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn with_cause(error: &identity::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
