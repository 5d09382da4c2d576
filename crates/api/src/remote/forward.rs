//! One request to another node: its head and body there, the answer's back, and bytes in both directions for what stops
//! being HTTP. Called by `divert` alone.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header},
    response::Response,
};
use futures::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use identity::TlsStream;
use node::tunnels;
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, task::JoinHandle};

use super::{
    Caller, Target,
    guard::ON_BEHALF,
    ids, relay,
    resolve::{self, There},
    target::Work,
};
use crate::{
    error::{ApiError, ApiResult},
    hijack::{Head, Slot},
    router::ApiVersion,
};

/// Of an answer that names commands: far more than any container's JSON.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// They concern one connection, not the request.
const HOP_BY_HOP: [HeaderName; 5] =
    [header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING, header::EXPECT, header::TE];

/// Drives a connection to a node; when this goes, so does the connection.
pub(super) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Has the request answered by the other node.
pub(super) async fn answer(
    there: There,
    target: &Target,
    caller: &Caller,
    mut request: Request,
) -> ApiResult<Response> {
    let headers = request.headers().clone();
    let version = request.extensions().get::<ApiVersion>().copied();
    *request.uri_mut() = target.uri(&there.id, request.uri().query(), version)?;
    *request.version_mut() = Version::HTTP_11;
    let slot = request.extensions_mut().remove::<Slot>();
    let client = hyper::upgrade::on(&mut request);
    prepare(request.headers_mut(), target.work, &headers, caller);
    let stream = connect(&there, &target.name).await?;
    let (response, driver) = send(stream, request).await.map_err(|error| broken(&there, &error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let answer = as_answer(response, driver);
        return if ids::has_some(target) { named(answer, target, &there).await } else { Ok(answer) };
    }
    match (target.work, slot, version) {
        (Work::WebSocket, ..) => Ok(as_websocket(response, client)),
        (work, Some(slot), Some(version)) => take_over(response, work, slot, &headers, version).await,
        _ => Err(ApiError::internal("the connection cannot be taken over: it is not this server's own")),
    }
}

fn prepare(headers: &mut HeaderMap, work: Work, of_client: &HeaderMap, caller: &Caller) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    let upgrade = match work {
        // older clients ask for none and get one all the same: between us it is always said
        Work::Output | Work::Both => Some(HeaderValue::from_static("tcp")),
        Work::WebSocket => of_client.get(header::UPGRADE).cloned(),
        Work::Answer | Work::OfService(_) => None,
    };
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    }
    headers.insert(header::HOST, HeaderValue::from_static("rswarm"));
    headers.remove(ON_BEHALF);
    if let Ok(caller) = HeaderValue::from_str(&caller.to_string()) {
        headers.insert(ON_BEHALF, caller);
    }
}

pub(super) async fn connect(there: &There, what: &str) -> ApiResult<TlsStream> {
    let There { node, hostname, address, identity, .. } = there;
    let port = tunnels::PORT;
    tunnels::connect(identity.clone(), *address, *node).await.map_err(|error| {
        let advice = match error.to_string().contains("NoApplicationProtocol") {
            true => "its daemon is older than this one; bring both to the same version",
            false => "managers reach nodes there: see that its daemon runs and that no firewall or NAT is between them",
        };
        ApiError::unavailable(format!(
            "{} does not answer at {address}, TCP port {port}: {error}; {advice}",
            resolve::named(hostname, what)
        ))
    })
}

pub(super) async fn send(stream: TlsStream, request: Request) -> hyper::Result<(hyper::Response<Incoming>, Driver)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driving = async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to another node ended early");
        }
    };
    let driver = Driver(tokio::spawn(driving));
    let response = sender.send_request(request).await?;
    Ok((response, driver))
}

pub(super) fn broken(there: &There, error: &hyper::Error) -> ApiError {
    ApiError::unavailable(format!(
        "node {} closed the connection before it answered ({error}); its daemon may be stopping: try again",
        there.hostname
    ))
}

/// The connection lasts as long as somebody reads the body.
pub(super) fn as_answer(response: hyper::Response<Incoming>, driver: Driver) -> Response {
    let (mut parts, body) = response.into_parts();
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    let body = body.map_frame(move |frame| {
        let _ = &driver;
        frame
    });
    Response::from_parts(parts, Body::new(body))
}

/// An answer with the ids of commands as they are known here.
async fn named(answer: Response, target: &Target, there: &There) -> ApiResult<Response> {
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let (mut parts, body) = answer.into_parts();
    let failed = |error: String| ApiError::unavailable(format!("read the answer of node {}: {error}", there.hostname));
    let bytes = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await.map_err(|error| failed(error.to_string()))?;
    let mut value: Value = serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    ids::name_node(target, &mut value, there.node);
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::from(value.to_string())))
}

async fn take_over(
    response: hyper::Response<Incoming>,
    work: Work,
    slot: Slot,
    headers: &HeaderMap,
    version: ApiVersion,
) -> ApiResult<Response> {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_raw = kind.is_none_or(|kind| !kind.as_bytes().ends_with(b"multiplexed-stream"));
    let upgraded = hyper::upgrade::on(response).await;
    let node = upgraded.map_err(|error| ApiError::unavailable(format!("take the other node's stream: {error}")))?;
    slot.take(Head::new(headers, version, is_raw), move |mut wire| {
        async move {
            relay::run(&mut wire.reader, &mut wire.writer, TokioIo::new(node), work == Work::Both).await;
            wire.writer.shutdown().await.ok(); // the client may have gone
        }
        .boxed()
    })
    .await
}

/// Both have agreed on it between themselves; here are only bytes. Ends with either side.
fn as_websocket(mut response: hyper::Response<Incoming>, client: hyper::upgrade::OnUpgrade) -> Response {
    let node = hyper::upgrade::on(&mut response);
    tokio::spawn(async move {
        if let Ok((client, node)) = futures::try_join!(client, node) {
            let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
            // how it ended the two tell each other
            tokio::io::copy_bidirectional(&mut client, &mut node).await.ok();
        }
    });
    response.map(|_| Body::empty())
}
