//! The HTTP client: one connection per request to the daemon.

use std::{fmt::Write as _, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{Method, Request, Response, StatusCode, body::Frame, body::Incoming};
use hyper_util::rt::TokioIo;
use identity::ApiStream;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    host::Host,
    wire::{self, Wire},
};

/// The version spoken; every server that has the routes used here knows it.
pub(crate) const API_PREFIX: &str = "/v1.44";
/// A daemon that is there accepts at once, one far away soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers that are read whole: a list of 30,000 tasks has room; more is not an answer.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// The head of an answer, or a refusal's reason.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// What bodies are.
const JSON: (&str, &str) = ("Content-Type", "application/json");
const TAR: (&str, &str) = ("Content-Type", "application/x-tar");
const UPLOAD_CHUNK_BYTES: usize = 64 << 10;

#[derive(Clone)]
pub(crate) struct Client {
    host: Host,
}

/// The daemon said no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

type Body = BoxBody<Bytes, std::io::Error>;

impl Client {
    pub(crate) fn new(host: Host) -> Self {
        Self { host }
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::GET, path, empty()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::DELETE, path, empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = match body {
            Some(value) => full(serde_json::to_vec(value).context("encode the request")?),
            None => empty(),
        };
        self.json(Method::POST, path, body).await
    }

    /// The same with the credentials for the registry of an image.
    pub(crate) async fn post_as(&self, path: &str, body: &Value, credentials: Option<&str>) -> anyhow::Result<Value> {
        let body = full(serde_json::to_vec(body).context("encode the request")?);
        self.json_as(Method::POST, path, body, credentials).await
    }

    pub(crate) async fn get_as(&self, path: &str, credentials: Option<&str>) -> anyhow::Result<Value> {
        self.json_as(Method::GET, path, empty(), credentials).await
    }

    /// A request whose answer is read bit by bit.
    pub(crate) async fn stream(&self, method: Method, path: &str) -> anyhow::Result<Incoming> {
        Ok(self.answer(method, path).await?.into_body())
    }

    /// The same with the answer's head.
    pub(crate) async fn answer(&self, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
        self.send(method, path, empty(), &[JSON]).await
    }

    /// A request about an image, with the credentials for its registry.
    pub(crate) async fn stream_as(&self, path: &str, credentials: Option<&str>) -> anyhow::Result<Incoming> {
        let credentials = credentials.map(|header| ("X-Registry-Auth", header));
        let headers: Vec<_> = [JSON].into_iter().chain(credentials).collect();
        Ok(self.send(Method::POST, path, empty(), &headers).await?.into_body())
    }

    /// A request whose answer is bytes.
    pub(crate) async fn post_for_bytes(&self, path: &str, body: &Value) -> anyhow::Result<Bytes> {
        let body = full(serde_json::to_vec(body).context("encode the request")?);
        read_whole(self.send(Method::POST, path, body, &[JSON]).await?.into_body(), path).await
    }

    /// Sends bytes, and what is to be said of them in a header.
    pub(crate) async fn post_bytes(&self, path: &str, bytes: Vec<u8>, header: (&str, &str)) -> anyhow::Result<Value> {
        let headers = [("Content-Type", "application/octet-stream"), header];
        let answer = self.send(Method::POST, path, full(bytes), &headers).await?;
        as_json(&read_whole(answer.into_body(), path).await?, path)
    }

    /// Sends a tar; the answer is read bit by bit.
    pub(crate) async fn upload(
        &self,
        path: &str,
        from: impl AsyncRead + Send + Sync + 'static,
    ) -> anyhow::Result<Incoming> {
        Ok(self.send(Method::POST, path, tar_body(from), &[TAR]).await?.into_body())
    }

    /// Puts a tar where it belongs; the answer says nothing.
    pub(crate) async fn put_tar(&self, path: &str, from: impl AsyncRead + Send + Sync + 'static) -> anyhow::Result<()> {
        let answer = self.send(Method::PUT, path, tar_body(from), &[TAR]).await?;
        read_whole(answer.into_body(), path).await.map(drop)
    }

    /// A request after whose answer both sides send bytes as they like.
    pub(crate) async fn take_over(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Wire> {
        let mut stream = self.connect().await?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "POST {API_PREFIX}{path} HTTP/1.1\r\nHost: rswarm\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let closed = || format!("the daemon at {} closed the connection", self.host);
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.with_context(closed)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            // Byte by byte: what follows the head belongs to somebody else.
            head.push(stream.read_u8().await.with_context(closed)?);
            anyhow::ensure!(head.len() < MAX_HEAD_BYTES, "the head of the daemon's answer to {path} has no end");
        }
        let (status, is_raw) = wire::read_head(&String::from_utf8_lossy(&head))?;
        if matches!(status, 101 | 200) {
            return Ok(Wire { stream, is_raw });
        }
        stream.shutdown().await.ok(); // so that the daemon closes after the reason
        let mut reason = Vec::new();
        stream.take(MAX_HEAD_BYTES as u64).read_to_end(&mut reason).await.with_context(closed)?;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Err(Refused { status, message: wire::reason(&reason) }.into())
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<ApiStream> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.host.connect()).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(self.unreachable(&std::io::ErrorKind::TimedOut.into())),
        }
    }

    async fn json(&self, method: Method, path: &str, body: Body) -> anyhow::Result<Value> {
        self.json_as(method, path, body, None).await
    }

    async fn json_as(
        &self,
        method: Method,
        path: &str,
        body: Body,
        credentials: Option<&str>,
    ) -> anyhow::Result<Value> {
        let credentials = credentials.map(|header| ("X-Registry-Auth", header));
        let headers: Vec<_> = [JSON].into_iter().chain(credentials).collect();
        let answer = self.send(method, path, body, &headers).await?.into_body();
        as_json(&read_whole(answer, path).await?, path)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Response<Incoming>> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer; its error reaches us through the answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("{API_PREFIX}{path}"))
            .header("Host", "rswarm")
            .header("User-Agent", concat!("rswarm/", env!("CARGO_PKG_VERSION")));
        let request = headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .body(body)
            .with_context(|| format!("bad request path {path}"))?;
        let answer = sender.send_request(request).await;
        let answer = answer.with_context(|| format!("the daemon at {} closed the connection", self.host))?;
        if answer.status().is_success() || answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        let status = answer.status();
        let bytes = read_whole(answer.into_body(), path).await?;
        let message =
            serde_json::from_slice::<Value>(&bytes).ok().and_then(|v| v["message"].as_str().map(str::to_owned));
        let message = message.unwrap_or_else(|| format!("the daemon answered {status} without a reason"));
        Err(Refused { status, message }.into())
    }

    fn unreachable(&self, error: &std::io::Error) -> anyhow::Error {
        use std::io::ErrorKind;
        let name = &self.host;
        match error.kind() {
            ErrorKind::PermissionDenied => anyhow::anyhow!(
                "cannot reach the daemon at {name}: permission denied. Run as root or as a member of the socket's group"
            ),
            kind => {
                let reason = match kind {
                    ErrorKind::NotFound if matches!(name, Host::Unix(_)) => "there is no such socket".to_owned(),
                    ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                    ErrorKind::TimedOut => "it does not accept the connection".to_owned(),
                    _ => error.to_string(),
                };
                anyhow::anyhow!("cannot reach the daemon at {name}: {reason}. {}", name.advice())
            }
        }
    }
}

/// `null` of an empty answer.
fn as_json(bytes: &[u8], path: &str) -> anyhow::Result<Value> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes).with_context(|| format!("the daemon's answer to {path} is not JSON"))
}

async fn read_whole(body: Incoming, path: &str) -> anyhow::Result<Bytes> {
    let limited = http_body_util::Limited::new(body, MAX_ANSWER_BYTES);
    match limited.collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) => Err(anyhow::anyhow!("read the daemon's answer to {path}: {error}")),
    }
}

fn tar_body(from: impl AsyncRead + Send + Sync + 'static) -> Body {
    use futures::StreamExt as _;
    let frames = tokio_util::io::ReaderStream::with_capacity(from, UPLOAD_CHUNK_BYTES);
    http_body_util::BodyExt::boxed(StreamBody::new(frames.map(|chunk| chunk.map(Frame::data))))
}

fn empty() -> Body {
    full(Vec::new())
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}

/// A text as part of a path or query.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(char::from(b)),
            b => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

/// `?filters=…`, or nothing.
pub(crate) fn filters_query(filters: &[(String, String)]) -> String {
    let mut map: std::collections::BTreeMap<&str, Vec<&str>> = std::collections::BTreeMap::new();
    for (key, value) in filters {
        map.entry(key).or_default().push(value);
    }
    match map.is_empty() {
        true => String::new(),
        false => format!("?filters={}", escape(&serde_json::to_string(&map).unwrap_or_default())),
    }
}
