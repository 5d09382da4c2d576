//! Connections through which managers ask this node about its containers, and the way to another node's.
//!
//! The agent lets managers in (`agent/tunnels`), the API takes what was let in and answers as it answers its own
//! clients (`docs/design/012-containers-of-other-nodes.md`). Nothing here reads or writes a byte of a connection.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use identity::{NodeIdentity, TlsStream};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::TcpStream,
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use types::NodeId;

use super::{Engine, peers::IMAGE_PORT};

/// Connections of managers at once. Each `exec` and each forwarded connection is one; people have some, scripts dozens.
const MAX_TUNNELS: usize = 256;
/// Let in and not yet answered: the API takes them at once.
const MAX_WAITING: usize = 16;
/// For TCP and TLS together.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// A session may say nothing for hours; a host that is gone is noticed after this many questions at this distance.
const PROBE_AFTER_S: u32 = 10;
const PROBES: u32 = 3;
/// The same for bytes that were sent and nobody confirmed.
const UNCONFIRMED_MS: u32 = 40_000;

/// A manager's connection, which carries requests of the engine's API about containers of tasks.
pub struct Tunnel {
    pub stream: TlsStream,
    /// Which manager.
    pub manager: NodeId,
    /// Keeps their number bounded.
    pub place: OwnedSemaphorePermit,
}

pub(super) struct Tunnels {
    let_in: mpsc::Sender<Tunnel>,
    waiting: Mutex<mpsc::Receiver<Tunnel>>,
    places: Arc<Semaphore>,
}

impl Default for Tunnels {
    fn default() -> Self {
        let (let_in, waiting) = mpsc::channel(MAX_WAITING);
        Self { let_in, waiting: Mutex::new(waiting), places: Arc::new(Semaphore::new(MAX_TUNNELS)) }
    }
}

impl Engine {
    /// The next connection of a manager. One caller at a time gets them.
    pub async fn next_tunnel(&self) -> Tunnel {
        let next = self.inner.tunnels.waiting.lock().await.recv().await;
        next.expect("the engine has the other end itself")
    }

    /// `None`: there are as many as there may be.
    pub(crate) fn tunnel_place(&self) -> Option<OwnedSemaphorePermit> {
        self.inner.tunnels.places.clone().try_acquire_owned().ok()
    }

    pub(crate) async fn let_in(&self, tunnel: Tunnel) {
        watch_over(tunnel.stream.get_ref().0);
        // the engine has the other end itself
        let _ = self.inner.tunnels.let_in.send(tunnel).await;
    }
}

/// A connection to another node, for requests about its containers; only a manager is answered.
///
/// # Errors
/// As TCP and TLS give them.
pub async fn connect(identity: NodeIdentity, address: IpAddr, node: NodeId) -> io::Result<TlsStream> {
    let at = std::net::SocketAddr::new(address, IMAGE_PORT).to_string();
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer");
    let stream = timeout(CONNECT_PATIENCE, identity.connect_engine(at, node)).await.map_err(late)??;
    watch_over(stream.get_ref().0);
    Ok(stream)
}

/// The port of [`connect`], for people.
pub const PORT: u16 = IMAGE_PORT;

/// Without it the connection of a host that vanished would stay; all else is the same, so a failure is only told.
fn watch_over(tcp: &TcpStream) {
    let set = setsockopt(tcp, sockopt::KeepAlive, &true)
        .and_then(|()| setsockopt(tcp, sockopt::TcpKeepIdle, &PROBE_AFTER_S))
        .and_then(|()| setsockopt(tcp, sockopt::TcpKeepInterval, &PROBE_AFTER_S))
        .and_then(|()| setsockopt(tcp, sockopt::TcpKeepCount, &PROBES))
        .and_then(|()| setsockopt(tcp, sockopt::TcpUserTimeout, &UNCONFIRMED_MS));
    if let Err(error) = set {
        tracing::warn!(%error, "the end of a host is not noticed on a connection between nodes");
    }
}
