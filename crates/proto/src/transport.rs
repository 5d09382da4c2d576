//! gRPC channels over a connection that somebody else makes (mutual TLS, in practice).

use std::{future::Future, io, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};

/// Time for TCP and TLS together. A manager that is there answers in milliseconds; one that is not
/// must not hold up the turn to the next.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// HTTP/2 pings, so that a peer that vanished without a word is noticed while a stream is idle.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A channel to `address` (`host:port`) that connects when first used, by calling `connect`, and
/// again after the connection broke.
pub fn channel<F, Fut, Io>(address: &str, connect: F) -> Channel
where
    F: Fn(String) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = io::Result<Io>> + Send + 'static,
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let connecting = connect(address.clone());
        async move {
            let io = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "connecting took too long"))??;
            Ok::<_, io::Error>(TokioIo::new(io))
        }
    });
    // The name in the URI is not used for anything: certificates are checked by node id and cluster.
    Endpoint::from_static("http://manager.rswarm")
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect_with_connector_lazy(connector)
}
