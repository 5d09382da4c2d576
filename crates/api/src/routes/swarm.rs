//! `/swarm…`: founding, joining, leaving and changing the cluster.

use axum::{
    Json,
    body::Body,
    extract::{RawQuery, State},
};
use node::membership::LocalState;
use serde_json::{Value, json};
use types::WriteRequest;

use super::query;
use crate::{
    bodies, cluster,
    convert::swarm::{read_init, read_join, read_spec, write},
    error::{ALREADY_IN_A_CLUSTER, ApiError, ApiResult, NOT_PART_OF_A_CLUSTER},
    router::Shared,
};

pub(crate) async fn inspect(State(shared): State<Shared>) -> ApiResult<Json<Value>> {
    Ok(Json(write(&*cluster::cluster(&shared.membership).await?)))
}

/// Answers with the node's id.
pub(crate) async fn init(State(shared): State<Shared>, body: Body) -> ApiResult<Json<Value>> {
    let request = read_init(&bodies::json(body).await?)?;
    if !request.force_new_cluster {
        refuse_members(&shared)?;
    }
    Ok(Json(json!(shared.membership.init(request).await?)))
}

pub(crate) async fn join(State(shared): State<Shared>, body: Body) -> ApiResult<()> {
    let request = read_join(&bodies::json(body).await?)?;
    refuse_members(&shared)?;
    shared.membership.join(request).await?;
    Ok(())
}

fn refuse_members(shared: &Shared) -> ApiResult<()> {
    match shared.membership.status().local_state {
        LocalState::Inactive => Ok(()),
        _ => Err(ApiError::unavailable(ALREADY_IN_A_CLUSTER)),
    }
}

pub(crate) async fn leave(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<()> {
    if shared.membership.status().local_state == LocalState::Inactive {
        return Err(ApiError::unavailable(NOT_PART_OF_A_CLUSTER));
    }
    shared.membership.leave(query(raw).flag("force")).await?;
    Ok(())
}

pub(crate) async fn update(State(shared): State<Shared>, raw: RawQuery, body: Body) -> ApiResult<()> {
    let query = query(raw);
    if query.flag("rotateManagerUnlockKey") {
        return Err(ApiError::unsupported("locking managers with a key is not supported yet"));
    }
    let version = query.version()?;
    let body = bodies::json(body).await?;
    let present = cluster::cluster(&shared.membership).await?;
    let request = WriteRequest::UpdateCluster {
        version,
        spec: Box::new(read_spec(&body, &present.spec)?),
        rotate_worker_token: query.flag("rotateWorkerToken"),
        rotate_manager_token: query.flag("rotateManagerToken"),
    };
    cluster::write(&shared.membership, &request).await?;
    Ok(())
}

/// Managers are never locked: there is no key, which Docker says by an empty one.
pub(crate) async fn unlock_key(State(shared): State<Shared>) -> ApiResult<Json<Value>> {
    cluster::client(&shared.membership)?;
    Ok(Json(json!({ "UnlockKey": "" })))
}

pub(crate) async fn unlock() -> ApiError {
    ApiError::new(axum::http::StatusCode::CONFLICT, "swarm is not locked")
}
