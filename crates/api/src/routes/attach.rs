//! A client at a container's own streams: `/containers/{id}/attach`, over a taken connection or a websocket, and the
//! size of its terminal.

use axum::{
    Extension, Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::post,
};
use futures::FutureExt as _;
use node::engine::AttachOptions;
use tokio::io::AsyncWriteExt as _;

use super::{query, sized};
use crate::{
    error::{ApiError, ApiResult},
    hijack::{Head, Slot},
    host::engine,
    query::Query,
    router::{ApiVersion, Shared},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/containers/{id}/attach", post(attach)).route("/containers/{id}/resize", post(resize))
}

fn options(query: &Query) -> ApiResult<AttachOptions> {
    let options = AttachOptions {
        logs: query.flag("logs"),
        stream: query.flag("stream"),
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        stdin_once: true,
    };
    if !options.logs && !options.stream {
        return Err(ApiError::bad_request("attach to what: say stream=1 for what comes, logs=1 for what was written"));
    }
    Ok(options)
}

async fn attach(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(slot): Extension<Slot>,
    Extension(version): Extension<ApiVersion>,
    headers: HeaderMap,
    raw: RawQuery,
) -> ApiResult<Response> {
    let engine = engine(&shared)?;
    let query = query(raw);
    let container = engine.look_up(&id).await?;
    let attachment = engine.attach(container, options(&query)?, query.get("detachKeys")).await?;
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
    let container = engine.look_up(&id).await?;
    engine.resize(&container, rows, columns).await?;
    Ok(StatusCode::OK)
}
