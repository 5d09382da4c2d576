//! What a container has made of its image: `/containers/{id}/export`, `/containers/{id}/changes` and `/commit`.

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use node::image::{Change, ChangeKind, CommitOptions, RunConfig};
use serde_json::{Value, json};
use types::ImageReference;

use super::query;
use crate::{
    bodies::JsonBody,
    convert::single::show_config,
    error::{ApiError, ApiResult},
    host::engine,
    query::Query,
    router::Shared,
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/containers/{id}/export", get(export))
        .route("/containers/{id}/changes", get(changes))
        .route("/commit", post(commit))
}

async fn export(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<Response> {
    let engine = engine(&shared)?;
    let container = engine.find_container(&id).await?;
    let tar = engine.export(&container).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(tar)).into_response())
}

async fn changes(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<Json<Vec<Value>>> {
    let engine = engine(&shared)?;
    let container = engine.find_container(&id).await?;
    let found = engine.changes(&container).await?;
    Ok(Json(found.iter().map(write).collect()))
}

fn write(change: &Change) -> Value {
    let kind = match change.kind {
        ChangeKind::Modified => 0,
        ChangeKind::Added => 1,
        ChangeKind::Deleted => 2,
    };
    json!({ "Path": change.path, "Kind": kind })
}

async fn commit(State(shared): State<Shared>, raw: RawQuery, JsonBody(body): JsonBody) -> ApiResult<Response> {
    let query = query(raw);
    let engine = engine(&shared)?;
    let config = match body {
        Value::Null => None,
        value => Some(as_run_config(value)?),
    };
    let container = engine.find_container(query.get("container")).await?;
    let options = CommitOptions {
        reference: reference(&query)?,
        changes: query.all("changes").iter().flat_map(|text| text.lines()).map(str::to_owned).collect(),
        message: query.get("comment").to_owned(),
        author: query.get("author").to_owned(),
        container: Some(as_run_config(show_config::config(&engine.container_view(&container.id).await?))?),
        config,
    };
    // Docker pauses unless told not to.
    let pause = query.get("pause").is_empty() || query.flag("pause");
    let id = engine.commit(&container, pause, options).await?;
    Ok((StatusCode::CREATED, Json(json!({ "Id": id.to_string() }))).into_response())
}

fn as_run_config(value: Value) -> ApiResult<RunConfig> {
    serde_json::from_value(value)
        .map_err(|error| ApiError::bad_request(format!("the request body is no configuration of a container: {error}")))
}

fn reference(query: &Query) -> ApiResult<Option<ImageReference>> {
    let text = match (query.get("repo"), query.get("tag")) {
        ("", _) => return Ok(None),
        (repository, "") => repository.to_owned(),
        (repository, tag) => format!("{repository}:{tag}"),
    };
    let parsed: ImageReference =
        text.parse().map_err(|why: types::ImageReferenceError| ApiError::bad_request(why.to_string()))?;
    Ok(Some(parsed))
}
