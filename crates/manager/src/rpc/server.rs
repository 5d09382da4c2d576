//! The listening socket: accepts connections, shakes hands, and serves all methods on them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use identity::NodeIdentity;
use proto::v1::{
    ca_server::CaServer, cluster_server::ClusterServer, dispatcher_server::DispatcherServer,
    image_directory_server::ImageDirectoryServer, raft_server::RaftServer,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

use super::{
    ca::CaService,
    cluster::ClusterService,
    connection::{Caller, Connection},
    dispatcher::DispatcherService,
    images::ImageDirectoryService,
    raft::RaftService,
};
use crate::Error;

/// Open connections: each node holds one or two; beyond it new ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 12_000;
/// A peer that does not finish its handshake is no peer.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Calls at once on one connection.
const MAX_STREAMS: u32 = 1024;
/// HTTP/2 pings, so that the stream of a host that vanished ends.
const PING_PERIOD: Duration = Duration::from_secs(5);
const PING_PATIENCE: Duration = Duration::from_secs(5);
/// After a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Finished handshakes that wait for the server.
pub(crate) const MAX_ACCEPTED: usize = 64;

/// All services of one manager.
pub(crate) struct Services {
    pub(crate) cluster: ClusterService,
    pub(crate) dispatcher: DispatcherService,
    pub(crate) ca: CaService,
    pub(crate) raft: RaftService,
    pub(crate) images: ImageDirectoryService,
}

/// Binds the port.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Accepts connections until the manager stops.
pub(crate) async fn accept(
    listener: TcpListener,
    identity: NodeIdentity,
    accepted: mpsc::Sender<Connection>,
    stopping: CancellationToken,
) -> Result<(), Error> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut handshakes = JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (tcp, address) = tokio::select! {
            next = listener.accept() => match next {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stopping.cancelled() => return Ok(()),
        };
        let (identity, accepted, stopping) = (identity.clone(), accepted.clone(), stopping.clone());
        handshakes.spawn(async move {
            match shake_hands(&identity, tcp, address).await {
                Ok((stream, caller)) => {
                    // the server may be gone already
                    let _ = accepted.send(Connection::from_host(stream, caller, stopping, place)).await;
                }
                Err(error) => tracing::debug!(%address, %error, "handshake failed"),
            }
        });
        while handshakes.try_join_next().is_some() {}
    }
}

async fn shake_hands(
    identity: &NodeIdentity,
    tcp: TcpStream,
    address: SocketAddr,
) -> io::Result<(identity::TlsStream, Caller)> {
    let accepting = identity.accept(tcp);
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long");
    let accepted = tokio::time::timeout(HANDSHAKE_PATIENCE, accepting).await.map_err(late)??;
    Ok((accepted.stream, Caller { subject: accepted.peer, address: Some(address) }))
}

/// Serves connections until the manager stops.
pub(crate) async fn serve(
    services: Services,
    accepted: mpsc::Receiver<Connection>,
    stopping: CancellationToken,
) -> Result<(), Error> {
    const LIMIT: usize = proto::MAX_MESSAGE_BYTES;
    let cluster = ClusterServer::new(services.cluster).max_decoding_message_size(LIMIT);
    let dispatcher = DispatcherServer::new(services.dispatcher).max_decoding_message_size(LIMIT);
    let ca = CaServer::new(services.ca).max_decoding_message_size(LIMIT);
    let raft = RaftServer::new(services.raft).max_decoding_message_size(LIMIT);
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_PERIOD))
        .http2_keepalive_timeout(Some(PING_PATIENCE))
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(cluster.max_encoding_message_size(LIMIT))
        .add_service(dispatcher.max_encoding_message_size(LIMIT))
        .add_service(ca)
        .add_service(ImageDirectoryServer::new(services.images))
        .add_service(raft.max_encoding_message_size(LIMIT))
        .serve_with_incoming_shutdown(ReceiverStream::new(accepted).map(Ok::<_, io::Error>), stopping.cancelled_owned())
        .await
        .map_err(|e| Error::Raft(format!("the gRPC server stopped: {e}")))
}
