//! A connection that stops being HTTP: the client asks, and from the answer on both sides send bytes as they like,
//! each closing its own direction. Docker's `attach` and `exec` work so.
//!
//! Used by the routes that stream. Newer clients say `Upgrade: tcp`, older ones say nothing and do it all the same,
//! for which HTTP has no words: so the connection is taken from under the HTTP server in both cases, and the answer's
//! head is written here.

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::future::BoxFuture;
use identity::ApiStream;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Chain, ReadHalf, WriteHalf},
    sync::mpsc,
};

use crate::{
    error::{ApiError, ApiResult},
    router::ApiVersion,
};

/// From this version on a stream of frames is called one (moby `MediaTypeMultiplexedStream`).
pub(crate) const NAMES_FRAMES: ApiVersion = ApiVersion(1, 42);

/// Both directions of a connection. What the client has sent already comes first.
pub(crate) struct Wire {
    pub(crate) reader: Chain<std::io::Cursor<Bytes>, ReadHalf<ApiStream>>,
    pub(crate) writer: WriteHalf<ApiStream>,
}

type Work = Box<dyn FnOnce(Wire) -> BoxFuture<'static, ()> + Send>;

/// A request to take the connection over.
pub(crate) struct Takeover {
    head: String,
    work: Work,
}

/// One request's way to its connection; among the request's extensions.
#[derive(Clone)]
pub(crate) struct Slot(mpsc::Sender<Takeover>);

/// A connection has one request at a time.
pub(crate) fn channel() -> (Slot, mpsc::Receiver<Takeover>) {
    let (sender, receiver) = mpsc::channel(1);
    (Slot(sender), receiver)
}

/// How the answer's head reads.
pub(crate) struct Head {
    is_upgrade: bool,
    content_type: &'static str,
}

impl Head {
    /// `tty`: the bytes are a terminal's, else frames.
    pub(crate) fn new(headers: &HeaderMap, version: ApiVersion, tty: bool) -> Self {
        let is_upgrade = headers.contains_key(header::UPGRADE);
        let frames = "application/vnd.docker.multiplexed-stream";
        let content_type =
            if !tty && is_upgrade && version >= NAMES_FRAMES { frames } else { "application/vnd.docker.raw-stream" };
        Self { is_upgrade, content_type }
    }

    fn text(&self) -> String {
        let Self { is_upgrade, content_type } = self;
        match is_upgrade {
            true => {
                format!(
                    "HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
                )
            }
            false => format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n\r\n"),
        }
    }
}

impl Slot {
    /// Answers with `head` and lets `work` have the connection. Returns only if the connection cannot be had.
    pub(crate) async fn take<W>(self, head: Head, work: W) -> ApiResult<axum::response::Response>
    where
        W: FnOnce(Wire) -> BoxFuture<'static, ()> + Send + 'static,
    {
        let takeover = Takeover { head: head.text(), work: Box::new(work) };
        match self.0.send(takeover).await {
            // The connection ends this future when it has seen the message.
            Ok(()) => std::future::pending().await,
            Err(_) => Err(ApiError::internal("the connection cannot be taken over: it is closing")),
        }
    }
}

impl Takeover {
    /// `sent`: what the server has read after the request.
    pub(crate) async fn run(self, stream: ApiStream, sent: Bytes) {
        let (reader, mut writer) = tokio::io::split(stream);
        if writer.write_all(self.head.as_bytes()).await.is_err() {
            return; // the client has gone; what it asked for was not begun
        }
        (self.work)(Wire { reader: std::io::Cursor::new(sent).chain(reader), writer }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_dockers() {
        let headers = |upgrade: bool| {
            let mut headers = HeaderMap::new();
            if upgrade {
                headers.insert(header::UPGRADE, header::HeaderValue::from_static("tcp"));
            }
            headers
        };
        let head = |upgrade, minor, tty| Head::new(&headers(upgrade), ApiVersion(1, minor), tty).text();
        assert!(
            head(true, 51, false).starts_with("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.mult")
        );
        for raw in [head(true, 51, true), head(true, 41, false)] {
            assert!(raw.contains("101 UPGRADED") && raw.contains("vnd.docker.raw-stream"), "{raw}");
        }
        let old = head(false, 51, false);
        assert!(old.starts_with("HTTP/1.1 200 OK\r\n") && !old.contains("Upgrade"), "{old}");
    }
}
