//! `GET /containers/{id}/top` and `/stats` (parity E-25).

use std::time::Duration;

use axum::{
    Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::stream;
use node::{
    Engine,
    engine::containers::{ContainerRef, UsageView},
};
use serde_json::{Value, json};

use crate::{
    convert::single::usage::write,
    error::{ApiError, ApiResult},
    host::engine,
    router::Shared,
    routes::query,
};

/// Between two readings, as clients expect.
const EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn top(State(shared): State<Shared>, Path(id): Path<String>, raw: RawQuery) -> ApiResult<Json<Value>> {
    let (titles, processes) = engine(&shared)?.container_processes(&id, query(raw).get("ps_args")).await?;
    Ok(Json(json!({ "Titles": titles, "Processes": processes })))
}

/// One reading a second until the client goes or the container does; with `stream=0` one that has another before it,
/// and with `one-shot=1` only that one.
pub(crate) async fn stats(State(shared): State<Shared>, Path(id): Path<String>, raw: RawQuery) -> ApiResult<Response> {
    let query = query(raw);
    let is_stream = query.get("stream").is_empty() || query.flag("stream");
    if is_stream && query.flag("one-shot") {
        // Docker's own words
        return Err(ApiError::bad_request("cannot have stream=true and one-shot=true"));
    }
    let engine = engine(&shared)?.clone();
    let found = engine.find_container(&id).await?;
    let first = engine.container_usage(&found.id).await?;
    if !is_stream {
        if query.flag("one-shot") || !first.is_running {
            return Ok(Json(write(&found.id, &found.name, None, &first)).into_response());
        }
        tokio::time::sleep(EVERY).await;
        let second = engine.container_usage(&found.id).await?;
        return Ok(Json(write(&found.id, &found.name, Some(&first), &second)).into_response());
    }
    let readings = stream::unfold(Reading { engine, found, before: None, next: Some(first) }, Reading::step);
    Ok(([(CONTENT_TYPE, "application/json")], Body::from_stream(readings)).into_response())
}

struct Reading {
    engine: Engine,
    found: ContainerRef,
    before: Option<UsageView>,
    next: Option<UsageView>,
}

impl Reading {
    async fn step(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        let now = match self.next.take() {
            Some(first) => first,
            None => {
                tokio::time::sleep(EVERY).await;
                // it was removed
                self.engine.container_usage(&self.found.id).await.ok()?
            }
        };
        let line = format!("{}\n", write(&self.found.id, &self.found.name, self.before.as_ref(), &now));
        self.before = Some(now);
        Some((Ok(Bytes::from(line)), self))
    }
}
