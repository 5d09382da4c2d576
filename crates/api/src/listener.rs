//! Where the API is listened for: the unix socket, and addresses on which every client shows a certificate. There is
//! no listening on TCP without: who reaches the API is root on this host.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    task::{Context, Poll},
    time::Duration,
};

use identity::{ApiAcceptor, ApiStream};
use nix::unistd::{Gid, Group};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::{gone::Gone, remote::Caller};

/// Who may use the socket beside root.
const GROUP: &str = "rswarm";
/// A client that connects and does not finish its handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);

/// Addresses for clients on other hosts.
#[derive(Clone)]
pub struct Tcp {
    pub addresses: Vec<SocketAddr>,
    pub tls: ApiAcceptor,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the socket {} is in use by a running daemon; stop it or choose another --socket", .0.display())]
    InUse(PathBuf),
    #[error("{} is there and is no socket; move it away or choose another --socket", .0.display())]
    NotASocket(PathBuf),
    #[error("{operation} the socket {}", path.display())]
    Socket { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("listen on {address}; choose another {flag}")]
    Listen { address: SocketAddr, flag: &'static str, source: io::Error },
    #[error(
        "give the socket to the group {0}: this host has no such group; make it with groupadd, or name another in daemon.json"
    )]
    NoGroup(String),
}

/// All of them; the socket's file goes with this.
pub struct Listeners {
    socket: Option<(PathBuf, UnixListener)>,
    tcp: Vec<TcpListener>,
    /// There if `tcp` is not empty.
    tls: Option<ApiAcceptor>,
}

/// A client that has connected.
pub(crate) enum Incoming {
    Unix(UnixStream),
    Tcp(TcpStream, ApiAcceptor),
}

impl Listeners {
    /// Listens; who comes before anybody serves waits. `socket` is `/run/rswarm/rswarm.sock`; `group`: who may use it beside
    /// root, by name or number (None: `rswarm`, if the host has such a group); `tcp`: for clients on other hosts.
    ///
    /// # Errors
    /// When the socket cannot be made, or an address not be listened on.
    pub async fn bind(socket: PathBuf, group: Option<&str>, tcp: Option<Tcp>) -> Result<Self, ServeError> {
        let mut listeners = match tcp {
            Some(tcp) => Self::on_tcp(tcp, "--host").await?,
            None => Self { socket: None, tcp: Vec::new(), tls: None },
        };
        let listener = bind(&socket, group).await?;
        listeners.socket = Some((socket, listener));
        Ok(listeners)
    }

    /// Without the unix socket. `flag` is the one that names the addresses.
    pub(crate) async fn on_tcp(tcp: Tcp, flag: &'static str) -> Result<Self, ServeError> {
        let mut listeners = Vec::new();
        for address in tcp.addresses {
            let listener = TcpListener::bind(address).await;
            listeners.push(listener.map_err(|source| ServeError::Listen { address, flag, source })?);
        }
        Ok(Self { socket: None, tcp: listeners, tls: Some(tcp.tls) })
    }

    pub(crate) async fn accept(&self) -> io::Result<Incoming> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        if let Some((_, socket)) = &self.socket
            && let Poll::Ready(accepted) = socket.poll_accept(context)
        {
            return Poll::Ready(accepted.map(|(stream, _)| Incoming::Unix(stream)));
        }
        for (listener, tls) in self.tcp.iter().zip(self.tls.iter().cycle()) {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, _)| Incoming::Tcp(stream, tls.clone())));
            }
        }
        Poll::Pending
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        // The next daemon may already have its own socket there only after this one is gone: we still
        // hold the state directory's lock.
        if let Some((path, _)) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Incoming {
    /// `None`: it is nobody who may ask.
    pub(crate) async fn into_stream(self) -> Option<(ApiStream, Caller, Gone)> {
        let (tcp, tls) = match self {
            Self::Unix(stream) => {
                let (caller, gone) = (Caller::of_unix(&stream), Gone::of_unix(&stream));
                return Some((Box::new(stream), caller, gone));
            }
            Self::Tcp(tcp, tls) => (tcp, tls),
        };
        let peer = tcp.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
        tcp.set_nodelay(true).ok(); // without it all is only slower
        let gone = Gone::of_tcp(&tcp);
        match tokio::time::timeout(HANDSHAKE_PATIENCE, tls.accept(tcp)).await {
            Ok(Ok(stream)) => Some((Box::new(stream), Caller::Address(peer), gone)),
            Ok(Err(error)) => {
                tracing::info!(%error, peer, "a client of the API has no certificate that is accepted here");
                None
            }
            Err(_) => {
                tracing::debug!(peer, "a client of the API did not finish its TLS handshake");
                None
            }
        }
    }
}

/// A socket that nobody answers on is left over from a daemon that crashed, and is replaced.
pub(crate) async fn bind(path: &Path, group: Option<&str>) -> Result<UnixListener, ServeError> {
    let failed = |operation: &'static str| {
        move |source: io::Error| ServeError::Socket { operation, path: path.to_owned(), source }
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed("make the directory of"))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ServeError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => return Err(ServeError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed("remove what is left of"))?;
            }
            Err(error) => return Err(failed("look at")(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at")(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed("make"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed("set the mode of"))?;
    if let Some(gid) = group_of(group)? {
        nix::unistd::chown(path, None, Some(gid)).map_err(|e| failed("give the group to")(e.into()))?;
    }
    Ok(listener)
}

/// The one that is named, by its name or number; else the usual one, if the host has it.
fn group_of(named: Option<&str>) -> Result<Option<Gid>, ServeError> {
    let name = named.unwrap_or(GROUP);
    match Group::from_name(name) {
        Ok(Some(group)) => return Ok(Some(group.gid)),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, group = name, "cannot look up the socket's group"),
    }
    match named {
        None => Ok(None),
        Some(name) => {
            let number = name.parse().map(|number| Some(Gid::from_raw(number)));
            number.map_err(|_| ServeError::NoGroup(name.to_owned()))
        }
    }
}
