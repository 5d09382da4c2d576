//! A connection to this manager: from another host over TLS, or from inside the process.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use identity::{Subject, TlsStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::OwnedSemaphorePermit,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Who is on the other side. Each method reads it from its request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    /// From the verified certificate; `None` for a node that has none yet.
    pub(crate) subject: Option<Subject>,
    pub(crate) address: Option<SocketAddr>,
}

impl Caller {
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip().to_canonical())
    }
}

pub(crate) struct Connection {
    stream: Stream,
    caller: Caller,
    /// The manager stops: reads end.
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Keeps the number of connections bounded.
    _place: Option<OwnedSemaphorePermit>,
}

enum Stream {
    Tls(Box<TlsStream>),
    Inside(DuplexStream),
}

impl Connection {
    pub(crate) fn from_host(
        stream: TlsStream,
        caller: Caller,
        stopping: CancellationToken,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let stopping = Box::pin(stopping.cancelled_owned());
        Self { stream: Stream::Tls(Box::new(stream)), caller, stopping, _place: Some(place) }
    }

    pub(crate) fn from_inside(stream: DuplexStream, subject: Subject, stopping: CancellationToken) -> Self {
        let caller = Caller { subject: Some(subject), address: None };
        Self { stream: Stream::Inside(stream), caller, stopping: Box::pin(stopping.cancelled_owned()), _place: None }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
            Stream::Inside(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
            Stream::Inside(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Stream::Inside(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Stream::Inside(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
