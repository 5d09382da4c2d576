//! HTTP requests with redirects and deadlines. Called by the registry client only.
//! It never sends `Authorization` to another host than the one it was made for, and never follows from
//! TLS to plain text, unless the registry is insecure.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, Uri,
    body::{Frame, Incoming},
    header,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{CertificateError, ClientConfig};
use std::{
    error::Error as StdError,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_stream::StreamExt as _;
use tokio_util::io::ReaderStream;
use types::with_causes;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the request to the first byte of the answer, and between two pieces of a body: longer silence
/// is a dead connection, not a slow one.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read from the disk at once while sending a file.
const UPLOAD_PIECE_BYTES: usize = 64 << 10;
/// Registries redirect to storage once, some twice.
const MAX_REDIRECTS: usize = 5;

/// Why there is no answer, in words.
#[derive(Debug)]
pub(super) enum HttpError {
    Unreachable(String),
    /// It shows a certificate that is not taken.
    Untrusted(String),
    Protocol(String),
}

impl HttpError {
    /// Of a request without an answer.
    fn of(error: &(dyn StdError + 'static)) -> Self {
        match certificate_error(error) {
            // one of a CA that a server shows as its own is among the others: nobody signed it either
            Some(CertificateError::UnknownIssuer | CertificateError::Other(_)) => {
                Self::Untrusted("nobody who is known here signed it".to_owned())
            }
            Some(why) => Self::Untrusted(why.to_string()),
            None => Self::Unreachable(with_causes(error)),
        }
    }

    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Unreachable(reason) | Self::Protocol(reason) => reason,
            Self::Untrusted(reason) => format!("its certificate is not taken: {reason}"),
        }
    }
}

/// What was wrong with a certificate, where that is the cause.
fn certificate_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CertificateError> {
    if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref::<rustls::Error>() {
        return Some(why);
    }
    // what an error of the system's kind wraps is not its source
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => certificate_error(inner),
        None => certificate_error(error.source()?),
    }
}

pub(super) struct Ask<'a> {
    pub method: Method,
    pub url: String,
    pub headers: &'a [(header::HeaderName, String)],
    pub authorization: Option<String>,
    pub body: Bytes,
}

/// A file to send.
pub(super) struct Upload {
    pub url: String,
    pub authorization: Option<String>,
    pub file: tokio::fs::File,
    pub bytes: u64,
    /// Counts what was handed to the connection.
    pub sent: Arc<AtomicU64>,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A pool of connections; lives as long as one pull or push.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    /// Whether a redirect may lead from TLS to plain text.
    is_insecure: bool,
}

impl Http {
    pub(super) fn new(tls: ClientConfig, is_insecure: bool) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        Self { client: Client::builder(TokioExecutor::new()).build(connector), is_insecure }
    }

    /// Sends, follows redirects, gives the first other answer.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Response<Incoming>, HttpError> {
        let (mut url, mut authorization) = (ask.url, ask.authorization);
        let (mut method, mut body) = (ask.method, ask.body);
        for _ in 0..=MAX_REDIRECTS {
            let uri: Uri = url.parse().map_err(|e| HttpError::Protocol(format!("bad URL {url:?}: {e}")))?;
            let mut request = Request::builder().method(&method).uri(&uri).header(header::USER_AGENT, "rswarm");
            for (name, value) in ask.headers {
                request = request.header(name, value);
            }
            if let Some(value) = &authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            let request = request.body(whole(body.clone())).map_err(|e| HttpError::Protocol(e.to_string()))?;
            let sent = tokio::time::timeout(SILENCE_TIMEOUT, self.client.request(request)).await;
            let response = match sent {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(HttpError::of(&error)),
                Err(_) => {
                    return Err(HttpError::Unreachable(format!("no answer within {} s", SILENCE_TIMEOUT.as_secs())));
                }
            };
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
            let status = response.status().as_u16();
            let Some(location) = location.filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308)) else {
                return Ok(response);
            };
            let next =
                join_url(&uri, location).ok_or_else(|| HttpError::Protocol(format!("bad redirect to {location:?}")))?;
            if !self.is_insecure && uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                return Err(HttpError::Protocol(format!("redirect from https to {next}, which has no TLS")));
            }
            if origin(&uri) != origin(&next) {
                authorization = None;
            }
            if status == 303 || method == Method::POST {
                (method, body) = (Method::GET, Bytes::new());
            }
            url = next.to_string();
        }
        Err(HttpError::Protocol(format!("more than {MAX_REDIRECTS} redirects")))
    }
}

impl Http {
    /// PUTs a file. A redirect is given back as it is: the file would have to be sent again.
    pub(super) async fn upload(&self, upload: Upload) -> Result<Response<Incoming>, HttpError> {
        let Upload { url, authorization, file, bytes, sent } = upload;
        let uri: Uri = url.parse().map_err(|e| HttpError::Protocol(format!("bad URL {url:?}: {e}")))?;
        let counter = Arc::clone(&sent);
        let frames = ReaderStream::with_capacity(file, UPLOAD_PIECE_BYTES).map(move |piece| {
            let piece = piece?;
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(Frame::data(piece))
        });
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri(&uri)
            .header(header::USER_AGENT, "rswarm")
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, bytes);
        if let Some(value) = &authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(StreamBody::new(frames).boxed_unsync());
        let request = request.map_err(|e| HttpError::Protocol(e.to_string()))?;
        let mut answer = std::pin::pin!(self.client.request(request));
        let mut before = 0;
        loop {
            match tokio::time::timeout(SILENCE_TIMEOUT, answer.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => return Err(HttpError::of(&error)),
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    if now == before {
                        let reason = format!("it took nothing for {} s", SILENCE_TIMEOUT.as_secs());
                        return Err(HttpError::Unreachable(reason));
                    }
                    before = now;
                }
            }
        }
    }
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// Reads a body of at most `most` bytes.
pub(super) async fn read_body(body: Incoming, most: u64) -> Result<Vec<u8>, HttpError> {
    let limited = http_body_util::Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
    match tokio::time::timeout(SILENCE_TIMEOUT, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => {
            Err(HttpError::Protocol(format!("an answer of more than {most} bytes")))
        }
        Ok(Err(e)) => Err(HttpError::Unreachable(format!("the connection broke: {e}"))),
        Err(_) => Err(HttpError::Unreachable("the answer stopped half-way".to_owned())),
    }
}

/// Scheme, host and port: what credentials belong to.
fn origin(uri: &Uri) -> (Option<&str>, Option<String>, u16) {
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (uri.scheme_str(), uri.host().map(str::to_ascii_lowercase), uri.port_u16().unwrap_or(default))
}

/// Resolves a `Location` against the URL it came from (RFC 3986, as far as registries use it).
pub(super) fn join_url(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or(location);
    let (scheme, authority) = (base.scheme_str()?, base.authority()?.as_str());
    let text = if location.starts_with("http://") || location.starts_with("https://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.contains("://") {
        return None;
    } else {
        let directory = base.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{scheme}://{authority}{directory}/{location}")
    };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let base: Uri = "https://r.test:5000/v2/a/blobs/x?y=1".parse().expect("good");
        let join = |location| join_url(&base, location).map(|u| u.to_string());
        assert_eq!(join("https://cdn.test/b?c=d").as_deref(), Some("https://cdn.test/b?c=d"));
        assert_eq!(join("//cdn.test/b").as_deref(), Some("https://cdn.test/b"));
        assert_eq!(join("/b#f").as_deref(), Some("https://r.test:5000/b"));
        assert_eq!(join("b").as_deref(), Some("https://r.test:5000/v2/a/blobs/b"));
        assert_eq!(join("ftp://x/y"), None);
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let same = |a: &str, b: &str| {
            let parse = |t: &str| t.parse::<Uri>().expect("good");
            origin(&parse(a)) == origin(&parse(b))
        };
        assert!(same("https://r.test/a", "https://R.test:443/b"));
        for other in ["http://r.test/a", "https://r.test:5000/a", "https://x.r.test/a"] {
            assert!(!same("https://r.test/a", other), "{other}");
        }
    }
}
