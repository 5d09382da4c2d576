//! Files into and out of containers: `/containers/{id}/archive`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, BodyDataStream},
    extract::{Path, RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::head,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
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

/// What is read of a refused body, and for how long: a client's usual file, and no way to keep the daemon busy.
const DRAINED_BYTES: usize = 64 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(5);

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
    let body = Arc::new(Mutex::new(body.into_data_stream()));
    let tar = StreamReader::new(pieces(&body).map_err(std::io::Error::other));
    let flag = |name: &str| query.flag(name);
    let done = engine.extract(&container, path, tar, flag("noOverwriteDirNonDir"), flag("copyUIDGID")).await;
    if done.is_err() {
        drain(&body).await;
    }
    Ok(done.map(|()| StatusCode::OK)?)
}

/// Reads away the body of a request that is refused before its route has it, or has none.
pub(crate) async fn drain_refused(body: Body) {
    drain(&Arc::new(Mutex::new(body.into_data_stream()))).await;
}

/// What is left of a body, for whoever asks.
fn pieces(
    body: &Arc<Mutex<BodyDataStream>>,
) -> impl Stream<Item = Result<Bytes, axum::Error>> + Unpin + Send + 'static {
    let body = Arc::clone(body);
    stream::poll_fn(move |context| body.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context))
}

/// A refusal that comes before the body was read: a client that still writes would see a broken pipe in place of it.
async fn drain(body: &Arc<Mutex<BodyDataStream>>) {
    let reading = async {
        let (mut rest, mut read) = (pieces(body), 0);
        while let Some(Ok(piece)) = rest.next().await {
            read += piece.len();
            if read > DRAINED_BYTES {
                return;
            }
        }
    };
    // One that writes more, or does not get on with it, sees the broken pipe.
    tokio::time::timeout(DRAINED_FOR, reading).await.ok();
}
