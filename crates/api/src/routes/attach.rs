//! A client at a container's own streams: `/containers/{id}/attach`, over a taken connection or a websocket, and the
//! size of its terminal.

use axum::{
    Extension, Router,
    extract::{
        Path, RawQuery, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use futures::FutureExt as _;
use node::engine::{AttachOptions, Attachment};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::{query, sized};
use crate::{
    error::ApiResult,
    hijack::{Head, Slot},
    host::engine,
    query::Query,
    router::{ApiVersion, Shared},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/containers/{id}/attach", post(attach))
        .route("/containers/{id}/attach/ws", get(websocket))
        .route("/containers/{id}/resize", post(resize))
}

fn options(query: &Query) -> AttachOptions {
    AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        stdin_once: false,
    }
}

/// The client's place at the container, as the query wants it.
async fn place(shared: &Shared, id: &str, query: &Query) -> ApiResult<Attachment> {
    let engine = engine(shared)?;
    let container = engine.find_container(id).await?;
    let options = AttachOptions { stdin_once: container.stdin_once, ..options(query) };
    Ok(engine.attach(container, options, query.get("detachKeys")).await?)
}

async fn attach(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(slot): Extension<Slot>,
    Extension(version): Extension<ApiVersion>,
    headers: HeaderMap,
    raw: RawQuery,
) -> ApiResult<Response> {
    let attachment = place(&shared, &id, &query(raw)).await?;
    let head = Head::new(&headers, version, attachment.tty());
    slot.take(head, move |mut wire| {
        async move {
            attachment.run(&mut wire.reader, &mut wire.writer).await;
            wire.writer.shutdown().await.ok(); // the client may have gone
        }
        .boxed()
    })
    .await
}

async fn resize(State(shared): State<Shared>, Path(id): Path<String>, raw: RawQuery) -> ApiResult<StatusCode> {
    let (rows, columns) = sized(&query(raw))?;
    let engine = engine(&shared)?;
    let container = engine.find_container(&id).await?;
    engine.resize(&container, rows, columns).await?;
    Ok(StatusCode::OK)
}

/// Between the socket's messages and the streams; both sides wait when it is full.
const BETWEEN: usize = 64 * 1024;

async fn websocket(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    raw: RawQuery,
    upgrade: WebSocketUpgrade,
) -> ApiResult<Response> {
    let attachment = place(&shared, &id, &query(raw)).await?;
    Ok(upgrade.on_upgrade(|socket| converse(socket, attachment.raw())))
}

/// Messages of any kind carry input; output comes as binary messages, without frames.
async fn converse(mut socket: WebSocket, attachment: Attachment) {
    let (mut input, mut from) = duplex(BETWEEN);
    let (mut to, mut output) = duplex(BETWEEN);
    let running = async move {
        attachment.run(&mut from, &mut to).await;
    };
    let carrying = async {
        let mut chunk = vec![0; BETWEEN];
        loop {
            tokio::select! {
                message = socket.recv() => {
                    let sent = match message {
                        Some(Ok(Message::Binary(bytes))) => input.write_all(&bytes).await,
                        Some(Ok(Message::Text(text))) => input.write_all(text.as_bytes()).await,
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    };
                    if sent.is_err() {
                        return;
                    }
                }
                length = output.read(&mut chunk) => match length {
                    Ok(length @ 1..) => {
                        if socket.send(Message::Binary(chunk[..length].to_vec().into())).await.is_err() {
                            return;
                        }
                    }
                    Ok(0) | Err(_) => {
                        socket.send(Message::Close(None)).await.ok(); // the client may have gone
                        return;
                    }
                },
            }
        }
    };
    // `running` drops its side when it ends, and `carrying` then has taken all of it.
    tokio::pin!(running);
    tokio::select! {
        () = carrying => {}
        () = async { running.await; std::future::pending::<()>().await } => {}
    }
}
