//! Requests whose first line has bytes that it should have escaped, such as `GET /containers/json?filters={"status":["running"]}`
//! of a script with curl: Docker takes them. The HTTP server refuses such a line before anybody sees it, so what it reads is
//! mended on the way. Used by [`crate::server`] for every connection.
//!
//! A line is looked for only where a read begins while the server waits for a request: at the start of a connection, and
//! after the body of a request was read to its end. Bodies are never touched. Who sends a request before the answer to the
//! last one, as no client of Docker does, has its line taken as it is.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use hyper::{
    Method,
    body::{Body as _, Frame, Incoming, SizeHint},
    header::UPGRADE,
};
use identity::ApiStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What `http::Uri` refuses in a path or a query, and the mark that it would cut a query off at; Go's servers take all of them.
const UNESCAPED: &[u8] = b"\"<>`#";

/// How far a connection is: twice the number of requests that came, and one more while the next is waited for.
#[derive(Clone)]
pub(crate) struct Turns(Arc<AtomicU64>);

impl Turns {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1)))
    }

    /// For each request when it comes. What is sent after one that asks for another protocol is nobody's line any more.
    pub(crate) fn begin(&self, request: hyper::Request<Incoming>) -> Request {
        let turn = (self.now() | 1) + 1;
        let goes_on = request.method() != Method::CONNECT && !request.headers().contains_key(UPGRADE);
        let is_whole = request.body().is_end_stream();
        self.0.store(turn + u64::from(goes_on && is_whole), Ordering::Release);
        match goes_on && !is_whole {
            true => request.map(|body| Body::new(Watched { body, turns: self.clone(), turn })),
            false => request.map(Body::new),
        }
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// The body of a request was read to its end. That of one long answered says nothing.
    fn end(&self, turn: u64) {
        self.0.compare_exchange(turn, turn + 1, Ordering::AcqRel, Ordering::Acquire).ok();
    }
}

/// A request's body that tells its end.
struct Watched {
    body: Incoming,
    turns: Turns,
    turn: u64,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.turns.end(self.turn);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where in a request's first line a byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Method,
    /// Between the method and the target.
    Space,
    Target,
    /// Behind the target, or in what is no request's line.
    Beyond,
}

impl Place {
    fn of(byte: u8, before: Self) -> Self {
        match (before, byte) {
            (Self::Start | Self::Method, b'A'..=b'Z') => Self::Method,
            (Self::Method, b' ') => Self::Space,
            (Self::Space, b'/') => Self::Target,
            (Self::Target, b'!'..) => Self::Target,
            _ => Self::Beyond,
        }
    }
}

/// What was read with the bytes escaped that should have been; `None` if there are none, as a rule.
fn mend(place: &mut Place, read: &[u8]) -> Option<Vec<u8>> {
    let (mut mended, mut done) = (Vec::new(), 0);
    for (at, byte) in read.iter().enumerate() {
        *place = Place::of(*byte, *place);
        match *place {
            Place::Beyond => break,
            Place::Target if UNESCAPED.contains(byte) => {
                mended.extend_from_slice(&read[done..at]);
                mended.extend_from_slice(format!("%{byte:02X}").as_bytes());
                done = at + 1;
            }
            _ => {}
        }
    }
    (done > 0).then(|| {
        mended.extend_from_slice(&read[done..]);
        mended
    })
}

/// A connection as the HTTP server reads it.
pub(crate) struct Mended {
    stream: ApiStream,
    turns: Turns,
    /// The turn that `place` is of.
    turn: u64,
    place: Place,
    /// What was read and mended, and had no room yet.
    rest: Vec<u8>,
}

impl Mended {
    pub(crate) fn new(stream: ApiStream, turns: Turns) -> Self {
        Self { stream, turns, turn: 0, place: Place::Beyond, rest: Vec::new() }
    }

    /// From now on it is no HTTP.
    pub(crate) fn verbatim(mut self) -> Self {
        self.turns = Turns(Arc::default());
        self
    }

    /// The first byte that is read next is of a request's line if one is waited for.
    fn follow(&mut self) {
        let turn = self.turns.now();
        if turn != self.turn {
            self.turn = turn;
            self.place = if turn % 2 == 1 { Place::Start } else { Place::Beyond };
        }
    }
}

impl AsyncRead for Mended {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            this.follow();
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let Some(mended) = mend(&mut this.place, &buffer.filled()[before..]) else { return Poll::Ready(Ok(())) };
            buffer.set_filled(before);
            this.rest = mended;
        }
        let length = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..length]);
        this.rest.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Mended {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
