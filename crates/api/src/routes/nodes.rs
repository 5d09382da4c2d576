//! `/nodes…`.

use axum::{
    Json,
    extract::{Path, RawQuery, State},
};
use serde_json::Value;
use types::{ReadReply, ReadRequest, WriteRequest};

use super::query;
use crate::{
    bodies::JsonBody,
    cluster,
    convert::node::{read_spec, write},
    error::ApiResult,
    router::Shared,
};

pub(crate) async fn list(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Vec<Value>>> {
    match cluster::read(&shared.membership, &ReadRequest::Nodes(query(raw).filters()?)).await? {
        ReadReply::Nodes(nodes) => Ok(Json(nodes.iter().map(write).collect())),
        other => Err(cluster::unexpected(&other)),
    }
}

pub(crate) async fn inspect(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(write(&*cluster::node(&shared.membership, &id).await?)))
}

pub(crate) async fn update(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    raw: RawQuery,
    JsonBody(body): JsonBody,
) -> ApiResult<()> {
    let version = query(raw).version()?;
    let spec = read_spec(&body)?;
    let id = cluster::node(&shared.membership, &id).await?.node.id;
    cluster::write(&shared.membership, &WriteRequest::UpdateNode { id, version, spec }).await?;
    Ok(())
}

pub(crate) async fn remove(State(shared): State<Shared>, Path(id): Path<String>, raw: RawQuery) -> ApiResult<()> {
    let id = cluster::node(&shared.membership, &id).await?.node.id;
    let force = query(raw).flag("force");
    cluster::write(&shared.membership, &WriteRequest::RemoveNode { id, force }).await?;
    Ok(())
}
