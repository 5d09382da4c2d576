//! Files into and out of containers: `/containers/{id}/archive`.

use axum::{
    Router,
    body::Body,
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::head,
};
use futures::TryStreamExt as _;
use node::image::PathStat;
use tokio_util::io::StreamReader;

use super::query;
use crate::{
    convert::path_stat,
    error::{ApiError, ApiResult},
    host::engine,
    query::Query,
    router::Shared,
};

const STAT: &str = "x-docker-container-path-stat";

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/containers/{id}/archive", head(stat).get(download).put(upload))
}

fn path(query: &Query) -> ApiResult<&str> {
    match query.get("path") {
        "" => Err(ApiError::bad_request("bad parameter: 'path' cannot be empty")),
        path => Ok(path),
    }
}

fn stat_header(stat: &PathStat) -> [(&'static str, String); 1] {
    [(STAT, path_stat::write(stat))]
}

async fn stat(State(shared): State<Shared>, Path(id): Path<String>, raw: RawQuery) -> ApiResult<Response> {
    let query = query(raw);
    let path = path(&query)?;
    let engine = engine(&shared)?;
    let container = engine.find_container(&id).await?;
    let stat = engine.path_stat(&container, path).await?;
    Ok(stat_header(&stat).into_response())
}

async fn download(State(shared): State<Shared>, Path(id): Path<String>, raw: RawQuery) -> ApiResult<Response> {
    let query = query(raw);
    let path = path(&query)?;
    let engine = engine(&shared)?;
    let container = engine.find_container(&id).await?;
    let (stat, tar) = engine.pack(&container, path).await?;
    let body = Body::from_stream(tar);
    Ok((stat_header(&stat), [(header::CONTENT_TYPE, "application/x-tar")], body).into_response())
}

async fn upload(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    raw: RawQuery,
    body: Body,
) -> ApiResult<StatusCode> {
    let query = query(raw);
    let path = path(&query)?;
    let engine = engine(&shared)?;
    let container = engine.find_container(&id).await?;
    let tar = StreamReader::new(Box::pin(body.into_data_stream().map_err(std::io::Error::other)));
    engine.extract(&container, path, tar, query.flag("noOverwriteDirNonDir"), query.flag("copyUIDGID")).await?;
    Ok(StatusCode::OK)
}
