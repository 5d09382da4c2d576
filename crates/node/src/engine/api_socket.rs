//! The API's socket in containers that watch or lead others: proxies, agents, updaters. It outlives no daemon, they do.

use std::path::PathBuf;

use types::with_causes;

use super::Engine;

impl Engine {
    /// Containers that have the API's socket as a mount get the one that is there now. To be called when the API listens.
    pub async fn renew_socket(&self, socket: PathBuf) {
        let containers = match self.containers().await {
            Ok(containers) => containers,
            Err(error) => {
                tracing::warn!(error = with_causes(&error), "containers keep an older socket of the API");
                return;
            }
        };
        let work = move || {
            for container in &containers {
                let (id, pid) = (&container.id, container.pid);
                match pid.map_or(Ok(0), |pid| runtime::renew_socket(pid, &socket)) {
                    Ok(0) => {}
                    Ok(_) => tracing::info!(container.id = id, "has the new socket of the API as its mount"),
                    Err(error) => tracing::warn!(container.id = id, %error, "keeps an older socket of the API"),
                }
            }
        };
        if let Err(error) = tokio::task::spawn_blocking(work).await {
            tracing::warn!(%error, "containers keep an older socket of the API");
        }
    }
}
