//! The unix socket, and the connections on it.

use std::{
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::{TokioIo, TokioTimer};
use node::{Engine, membership::Membership};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{hijack, router::Api};

/// Who may use the socket beside root.
const GROUP: &str = "rswarm";
/// Followed logs hold connections; more than this is a client that lost count.
const MAX_CONNECTIONS: usize = 1000;
/// Requests under way when the daemon stops get this long.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);
/// A connection that says nothing while a request's head is awaited.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);
/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the API serves.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// `/run/rswarm/rswarm.sock`.
    pub socket: PathBuf,
    pub engine: Engine,
    pub membership: Membership,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the socket {} is in use by a running daemon; stop it or choose another --socket", .0.display())]
    InUse(PathBuf),
    #[error("{} is there and is no socket; move it away or choose another --socket", .0.display())]
    NotASocket(PathBuf),
    #[error("{operation} the socket {}", path.display())]
    Socket { operation: &'static str, path: PathBuf, source: io::Error },
}

/// Serves until `stopping` becomes true (or its sender is gone), then lets requests under way end.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(config: ApiConfig, stopping: watch::Receiver<bool>) -> Result<(), ServeError> {
    let api = Arc::new(Api::new(Arc::new(config.engine), config.membership));
    serve_api(&config.socket, api, stopping).await
}

pub(crate) async fn serve_api(
    socket: &Path,
    api: Arc<Api>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let listener = bind(socket).await?;
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = stopped(&mut stopping) => break,
        };
        let (stream, slot) = accepted;
        let (api, stopping) = (Arc::clone(&api), stopping.clone());
        connections.spawn(async move {
            connection(stream, api, stopping).await;
            drop(slot);
        });
    }
    drop(listener);
    // The next daemon may already have its own socket there only after this one is gone: we still
    // hold the state directory's lock.
    let _ = std::fs::remove_file(socket);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_PATIENCE, drained).await.is_err() {
        tracing::debug!("requests were still under way when the API stopped");
    }
    Ok(())
}

async fn accept(listener: &UnixListener, slots: &Arc<Semaphore>) -> (UnixStream, tokio::sync::OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the API socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, api: Arc<Api>, mut stopping: watch::Receiver<bool>) {
    let (slot, mut takeovers) = hijack::channel();
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(slot.clone());
        let api = Arc::clone(&api);
        async move { Ok::<_, std::convert::Infallible>(api.answer(request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE).half_close(true);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let ended = tokio::select! {
        ended = &mut connection => ended,
        Some(takeover) = takeovers.recv() => {
            let Some(parts) = connection.into_parts() else { return };
            // The client hears of the daemon's end by the end of its stream.
            tokio::select! {
                () = takeover.run(parts.io.into_inner(), parts.read_buf) => {}
                () = stopped(&mut stopping) => {}
            }
            return;
        }
        () = stopped(&mut stopping) => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the API ended early");
    }
}

/// Returns once the daemon stops; a sender that is gone means the same.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// A socket that nobody answers on is left over from a daemon that crashed, and is replaced.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener, ServeError> {
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
    match nix::unistd::Group::from_name(GROUP) {
        Ok(Some(group)) => {
            nix::unistd::chown(path, None, Some(group.gid)).map_err(|e| failed("give the group to")(e.into()))?;
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, group = GROUP, "cannot look up the socket's group"),
    }
    Ok(listener)
}
