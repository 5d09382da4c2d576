//! `/swarm…`: founding, joining, leaving and changing the cluster.

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
};
use node::membership::LocalState;
use serde_json::{Value, json};
use types::WriteRequest;

use super::query;
use crate::{
    bodies::JsonBody,
    cluster,
    convert::swarm::{read_init, read_join, read_spec, read_unlock, write},
    error::{ALREADY_IN_A_CLUSTER, ApiError, ApiResult, NOT_PART_OF_A_CLUSTER},
    router::Shared,
};

pub(crate) async fn inspect(State(shared): State<Shared>) -> ApiResult<Json<Value>> {
    Ok(Json(write(&*cluster::cluster(&shared.membership).await?)))
}

/// Answers with the node's id.
pub(crate) async fn init(State(shared): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<Json<Value>> {
    let request = read_init(&body)?;
    if !request.force_new_cluster {
        refuse_members(&shared)?;
    }
    Ok(Json(json!(shared.membership.init(request).await?)))
}

pub(crate) async fn join(State(shared): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<()> {
    let request = read_join(&body)?;
    refuse_members(&shared)?;
    shared.membership.join(request).await?;
    Ok(())
}

pub(crate) fn refuse_members(shared: &Shared) -> ApiResult<()> {
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

pub(crate) async fn update(State(shared): State<Shared>, raw: RawQuery, JsonBody(body): JsonBody) -> ApiResult<()> {
    let query = query(raw);
    let version = query.version()?;
    let present = cluster::cluster(&shared.membership).await?;
    let (spec, root) = read_spec(&body, &present.spec)?;
    let request = WriteRequest::UpdateCluster {
        version,
        spec: Box::new(spec),
        rotate_worker_token: query.flag("rotateWorkerToken"),
        rotate_manager_token: query.flag("rotateManagerToken"),
        rotate_unlock_key: query.flag("rotateManagerUnlockKey"),
        root: root.map(Box::new),
    };
    cluster::write(&shared.membership, &request).await?;
    Ok(())
}

/// Parity C-14. Without a lock the key is empty, as Docker says it.
pub(crate) async fn unlock_key(State(shared): State<Shared>) -> ApiResult<Json<Value>> {
    let cluster = cluster::cluster(&shared.membership).await?;
    let text = cluster.unlock_key.as_ref().map(identity::unlock_key_text).unwrap_or_default();
    Ok(Json(json!({ "UnlockKey": text })))
}

pub(crate) async fn unlock(State(shared): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<()> {
    let status = shared.membership.status();
    if status.cluster.is_some() {
        return Err(ApiError::new(StatusCode::CONFLICT, "swarm is not locked"));
    }
    if status.local_state != LocalState::Locked {
        cluster::client(&shared.membership)?;
    }
    let key = read_unlock(&body)?;
    shared.membership.unlock(key).await?;
    Ok(())
}
