//! What `rswarm doctor` asks: can this host be a node, and is everything there that a node needs?
//!
//! [`host`] needs no daemon and no cluster; the program calls it by itself. [`managers`] is called by the API
//! in the daemon, which knows them. What the probes found is the engine's (`Engine::path_checks`). Looking and
//! judging are apart: `facts` reads, `host` says what that means.

mod facts;
mod host;
mod managers;
mod nodes;

use std::{path::PathBuf, time::Duration};

use types::Check;

pub use managers::managers;
pub use nodes::networks;

use self::facts::Facts;
use crate::engine::preflight;

/// A data plane process that is there says hello at once.
const HELLO_LIMIT: Duration = Duration::from_secs(3);

/// Where this host keeps its things.
#[derive(Debug, Clone)]
pub struct Places {
    pub state_dir: PathBuf,
    pub run_dir: PathBuf,
    /// Of the program that asks.
    pub version: String,
}

/// Looks at the host. Takes some tens of milliseconds; changes nothing.
pub async fn host(places: &Places) -> Vec<Check> {
    let mut checks = Vec::new();
    match overlay::capabilities().await {
        Ok(found) => checks.extend(found.iter().map(host::capability)),
        Err(error) => checks.push(Check::fail("kernel", format!("cannot be tried: {error}"))),
    }
    checks.extend(host::preflight(&preflight::Facts::read("embedded")));
    checks.extend(host::judge(&Facts::read(places).await));
    checks.push(data_plane(places).await);
    checks
}

/// Whether rswarm netd runs, and of which version.
async fn data_plane(places: &Places) -> Check {
    let netd = overlay::netd::NetdConfig::in_dir(&places.run_dir, &places.version);
    let asked = overlay::Client::new(&netd.socket);
    let hello = tokio::time::timeout(HELLO_LIMIT, asked.hello()).await;
    let hello = hello.map_err(|_| format!("no answer within {} s", HELLO_LIMIT.as_secs()));
    host::data_plane(hello.and_then(|said| said.map_err(|error| overlay::explain(&error))), &places.version)
}
