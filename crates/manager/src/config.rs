//! What a manager must be told to run.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use futures::future::BoxFuture;
use identity::{NodeIdentity, Vault};
use types::{ClusterEvents, CredentialHelper, Payload, RegistryScope, Timestamp};

pub(crate) const RAFT_DIRECTORY: &str = "raft";

/// The key to everything that a manager writes, in its vault.
pub const DATA_KEY_FILE: &str = "raft/data.key";

/// Reads the time. Passed in, so that tests and simulations decide what it is.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Who is told what happens to the objects of the cluster. Called in their order, from one task; must not wait.
pub type EventSink = Arc<dyn Fn(ClusterEvents) + Send + Sync>;

/// Asks a credential helper of this host: a user name with packed credentials, or why there are none.
pub type CredentialSource =
    Arc<dyn Fn(CredentialHelper, RegistryScope) -> BoxFuture<'static, Result<(String, Payload), String>> + Send + Sync>;

#[derive(Clone)]
pub struct Config {
    /// The manager keeps its replicated state in `raft` in the vault's directory, and the key to it in the vault.
    pub vault: Vault,
    /// Where to listen, `0.0.0.0:2377` by default; port 0 takes a free one (tests).
    pub listen: SocketAddr,
    /// `host:port` where other hosts reach this manager. An empty host: the others take the address
    /// the call came from. Port 0: the port that was bound.
    pub advertise: String,
    /// The current certificate; a renewed one is used without a restart.
    pub identity: NodeIdentity,
    pub clock: Clock,
    pub events: EventSink,
    pub credentials: CredentialSource,
}

impl Config {
    pub(crate) fn raft_directory(&self) -> PathBuf {
        self.vault.directory().join(RAFT_DIRECTORY)
    }

    /// The advertised address with the bound port instead of 0.
    pub(crate) fn advertised(&self, bound: SocketAddr) -> String {
        match self.advertise.rsplit_once(':') {
            Some((host, "0")) => format!("{host}:{}", bound.port()),
            _ => self.advertise.clone(),
        }
    }
}
