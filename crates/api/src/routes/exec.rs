//! Further commands in containers: `/containers/{id}/exec` and `/exec/{id}/…`.

use axum::{
    Extension, Json, Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{containers::CHECKS_MOUNTS, query, sized};
use crate::{
    bodies::JsonBody,
    convert::exec,
    error::ApiResult,
    hijack::{Head, Slot},
    host::engine,
    router::{ApiVersion, Shared},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/containers/{id}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(version): Extension<ApiVersion>,
    JsonBody(mut body): JsonBody,
) -> ApiResult<Response> {
    let engine = engine(&shared)?;
    forget_size(&mut body, version);
    let spec = exec::read(&body)?;
    let container = engine.find_container(&id).await?;
    let id = engine.exec_create(&container, spec).await?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": id }))).into_response())
}

async fn start(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(slot): Extension<Slot>,
    Extension(version): Extension<ApiVersion>,
    headers: HeaderMap,
    JsonBody(mut body): JsonBody,
) -> ApiResult<Response> {
    let engine = engine(&shared)?;
    forget_size(&mut body, version);
    let wanted = exec::read_start(&body)?;
    let session = engine.exec_session(&id, wanted.size).await?;
    if wanted.is_detached {
        session.run_detached().await?;
        return Ok(StatusCode::OK.into_response());
    }
    let is_raw = wanted.tty;
    let head = Head::new(&headers, version, is_raw);
    slot.take(head, move |mut wire| {
        async move {
            session.run(is_raw, &mut wire.reader, &mut wire.writer).await;
            wire.writer.shutdown().await.ok(); // the client may have gone
        }
        .boxed()
    })
    .await
}

/// Older clients sent what was not theirs to say.
fn forget_size(body: &mut Value, version: ApiVersion) {
    if version < CHECKS_MOUNTS
        && let Some(body) = body.as_object_mut()
    {
        body.remove("ConsoleSize");
    }
}

async fn resize(State(shared): State<Shared>, Path(id): Path<String>, raw: RawQuery) -> ApiResult<StatusCode> {
    let (rows, columns) = sized(&query(raw))?;
    engine(&shared)?.exec_resize(&id, rows, columns)?;
    Ok(StatusCode::OK)
}

async fn inspect(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(exec::write(&engine(&shared)?.exec_view(&id)?)))
}
