//! `/migration/{volume}`, for managers alone: one end of the way that a volume's data takes between nodes (P41).

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    routing::get,
};
use futures::TryStreamExt as _;
use node::engine::volumes::{VolumeFacts, tree_error};
use serde_json::{Value, json};
use tokio_util::io::StreamReader;

use super::run;
use crate::{
    bodies::JsonBody,
    convert::reader::Object,
    error::{ApiError, ApiResult},
    host::engine,
    remote::Caller,
    router::Shared,
    routes::query,
};

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/migration/{volume}", get(facts).post(keep).delete(drop_incoming))
        .route("/migration/{volume}/data", get(give).put(take).delete(remove))
        .route("/migration/{volume}/digest", get(digest))
}

fn only_managers(caller: &Caller) -> ApiResult<()> {
    match caller {
        Caller::Manager(_) => Ok(()),
        _ => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "only a manager carries volumes between nodes; ask it with `rswarm volume migrate`",
        )),
    }
}

async fn facts(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<Value>> {
    only_managers(&caller)?;
    let facts = run(&shared, move |volumes| volumes.facts(&name)).await?;
    let VolumeFacts { exists, is_empty, is_mounted, labels, users } = facts;
    Ok(Json(json!({
        "Exists": exists, "IsEmpty": is_empty, "IsMounted": is_mounted, "Labels": labels, "Users": users,
    })))
}

async fn give(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Body> {
    only_managers(&caller)?;
    Ok(Body::from_stream(engine(&shared)?.pack_volume(&name)?))
}

async fn digest(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<Json<Value>> {
    only_managers(&caller)?;
    let digest =
        run(&shared, move |volumes| volumes.unused(&name)?.digest_exact().map_err(|error| tree_error(&name, error)));
    Ok(Json(json!({ "Digest": digest.await?.to_string() })))
}

async fn take(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Body,
) -> ApiResult<Json<Value>> {
    only_managers(&caller)?;
    let tar = StreamReader::new(body.into_data_stream().map_err(std::io::Error::other));
    let digest = engine(&shared)?.receive_volume(&name, Box::pin(tar)).await?;
    Ok(Json(json!({ "Digest": digest.to_string() })))
}

async fn keep(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    raw: RawQuery,
    JsonBody(body): JsonBody,
) -> ApiResult<StatusCode> {
    only_managers(&caller)?;
    let overwrite = query(raw).flag("overwrite");
    let mut from = Object::root(&body)?;
    let labels = from.labels("Labels")?;
    from.finish()?;
    run(&shared, move |volumes| volumes.keep_received(&name, &labels, overwrite)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn drop_incoming(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    only_managers(&caller)?;
    run(&shared, move |volumes| volumes.drop_incoming(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn remove(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    only_managers(&caller)?;
    run(&shared, move |volumes| volumes.remove(&name, true)).await?;
    Ok(StatusCode::NO_CONTENT)
}
