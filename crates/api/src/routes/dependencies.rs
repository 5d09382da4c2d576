//! `/secrets…` and `/configs…`: the same requests for both.

use axum::{
    Json, Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    routing::{delete, get, post},
};
use serde_json::{Value, json};
use types::{Dependency, DependencyKind, ReadReply, ReadRequest, WriteReply, WriteRequest};

use super::query;
use crate::{
    bodies::JsonBody,
    cluster,
    convert::dependency::{read, read_update, write},
    error::ApiResult,
    router::Shared,
};

pub(crate) fn routes() -> Router<Shared> {
    of_kind("/secrets", DependencyKind::Secret).merge(of_kind("/configs", DependencyKind::Config))
}

fn of_kind(root: &str, kind: DependencyKind) -> Router<Shared> {
    let list = move |shared, raw| list(kind, shared, raw);
    let create = move |shared, body| create(kind, shared, body);
    let inspect = move |shared, id| inspect(kind, shared, id);
    let remove = move |shared, id| remove(kind, shared, id);
    let update = move |shared, id, raw, body| update(kind, shared, id, raw, body);
    Router::new()
        .route(root, get(list))
        .route(&format!("{root}/create"), post(create))
        .route(&format!("{root}/{{id}}"), get(inspect).merge(delete(remove)))
        .route(&format!("{root}/{{id}}/update"), post(update))
}

async fn list(kind: DependencyKind, State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Vec<Value>>> {
    let request = ReadRequest::Dependencies(kind, query(raw).filters()?);
    match cluster::read_current(&shared.membership, &request).await? {
        ReadReply::Dependencies(all) => Ok(Json(all.iter().map(write).collect())),
        other => Err(cluster::unexpected(&other)),
    }
}

async fn create(
    kind: DependencyKind,
    State(shared): State<Shared>,
    JsonBody(body): JsonBody,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let spec = read(kind, &body)?;
    match cluster::write(&shared.membership, &WriteRequest::CreateDependency(Box::new(spec))).await? {
        WriteReply::CreatedDependency(id) => Ok((StatusCode::CREATED, Json(json!({ "ID": id })))),
        other => Err(cluster::unexpected(&other)),
    }
}

async fn inspect(kind: DependencyKind, State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(write(&*find(&shared, kind, &id).await?)))
}

async fn remove(kind: DependencyKind, State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    let found = find(&shared, kind, &id).await?;
    cluster::write(&shared.membership, &WriteRequest::RemoveDependency(found.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Docker's update changes labels alone. Other data makes a new version here, which the services that use it follow:
/// so a changed file of a stack can be deployed again (P12).
async fn update(
    kind: DependencyKind,
    State(shared): State<Shared>,
    Path(id): Path<String>,
    raw: RawQuery,
    JsonBody(body): JsonBody,
) -> ApiResult<()> {
    let version = query(raw).version()?;
    let found = find(&shared, kind, &id).await?;
    let wanted = read_update(&found.spec, &body)?;
    let request = WriteRequest::UpdateDependency { id: found.id, version, labels: wanted.labels, data: wanted.data };
    cluster::write(&shared.membership, &request).await?;
    Ok(())
}

async fn find(shared: &Shared, kind: DependencyKind, text: &str) -> ApiResult<Box<Dependency>> {
    match cluster::read_current(&shared.membership, &ReadRequest::Dependency(kind, text.to_owned())).await? {
        ReadReply::Dependency(found) => Ok(found),
        other => Err(cluster::unexpected(&other)),
    }
}
