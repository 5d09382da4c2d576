//! `/stacks…`, which Docker does not have: it keeps stacks by labels alone, and so both see the same ones.
//!
//! `GET /stacks`, `GET /stacks/{name}`, `GET /stacks/{name}/revisions`, `POST /stacks/{name}/deploy?prune=`,
//! `POST /stacks/{name}/rollback?to=`, `DELETE /stacks/{name}`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{Extension, Path, RawQuery, State},
    http::StatusCode,
    routing::{delete, get, post},
};
use serde_json::Value;
use types::{Filters, Name, ReadReply, ReadRequest, ServiceSpec, StackDeploy, StackView, WriteReply, WriteRequest};

use super::query;
use crate::{
    bodies::JsonBody,
    cluster,
    convert::stack::{read, write, write_outcome, write_revisions},
    error::{ApiError, ApiResult},
    remote::Caller,
    router::Shared,
};

/// For what is left of a removed stack of the same name: tasks stop within their grace period, mostly ten seconds.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/stacks", get(list))
        .route("/stacks/{name}", get(inspect).merge(delete(remove)))
        .route("/stacks/{name}/revisions", get(revisions))
        .route("/stacks/{name}/deploy", post(deploy))
        .route("/stacks/{name}/rollback", post(roll_back))
}

async fn list(State(shared): State<Shared>) -> ApiResult<Json<Vec<Value>>> {
    match cluster::read_current(&shared.membership, &ReadRequest::Stacks).await? {
        ReadReply::Stacks(all) => Ok(Json(all.iter().map(write).collect())),
        other => Err(cluster::unexpected(&other)),
    }
}

async fn find(shared: &Shared, name: &str) -> ApiResult<Box<StackView>> {
    match cluster::read_current(&shared.membership, &ReadRequest::Stack(name.to_owned())).await? {
        ReadReply::Stack(view) => Ok(view),
        other => Err(cluster::unexpected(&other)),
    }
}

async fn inspect(State(shared): State<Shared>, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(write(&*find(&shared, &name).await?)))
}

/// All that are known, the present one first; none of a stack that was deployed object by object.
async fn revisions(State(shared): State<Shared>, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    let view = find(&shared, &name).await?;
    Ok(Json(view.stack.as_ref().map_or_else(|| Value::Array(Vec::new()), write_revisions)))
}

async fn deploy(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    raw: RawQuery,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> ApiResult<Json<Value>> {
    let name = parsed(&name)?;
    let prune = query(raw).flag("prune");
    let present = services(&shared).await?;
    let by = who(&shared, &caller);
    let wanted = StackDeploy { by, ..read(name, prune, &body, &present)? };
    when_settled(&shared, &WriteRequest::DeployStack(Box::new(wanted))).await
}

/// For the history: without the number of a process that is gone when somebody reads it.
fn who(shared: &Shared, caller: &Caller) -> String {
    let host = &shared.host.info().hostname;
    match caller {
        Caller::Process { uid, .. } => format!("uid {uid} on {host}"),
        other => format!("{other} on {host}"),
    }
}

fn parsed(name: &str) -> ApiResult<Name> {
    name.parse().map_err(|why: types::NameError| ApiError::bad_request(format!("invalid stack name: {why}")))
}

async fn services(shared: &Shared) -> ApiResult<BTreeMap<Name, ServiceSpec>> {
    match cluster::read_current(&shared.membership, &ReadRequest::Services(Filters::new())).await? {
        ReadReply::Services(all) => {
            let present = all.into_iter().filter(|view| !view.service.removing);
            Ok(present.map(|view| (view.service.spec.name.clone(), (*view.service.spec).clone())).collect())
        }
        other => Err(cluster::unexpected(&other)),
    }
}

/// `?to=` is the number of a revision; without it the stack goes back to the one before.
async fn roll_back(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    raw: RawQuery,
    Extension(caller): Extension<Caller>,
) -> ApiResult<Json<Value>> {
    let (name, query) = (parsed(&name)?, query(raw));
    let text = query.get("to");
    let bad = |_| ApiError::bad_request(format!("invalid to {text:?}: give the number of a revision"));
    let to = if text.is_empty() { None } else { Some(text.parse().map_err(bad)?) };
    when_settled(&shared, &WriteRequest::RollbackStack { name, to, by: who(&shared, &caller) }).await
}

async fn remove(State(shared): State<Shared>, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    outcome(cluster::write(&shared.membership, &WriteRequest::RemoveStack(name)).await?)
}

/// What is still being removed is waited for: `stack rm` and `stack deploy` of one name may follow each other at once (P33).
async fn when_settled(shared: &Shared, request: &WriteRequest) -> ApiResult<Json<Value>> {
    let until = Instant::now() + SETTLES_WITHIN;
    loop {
        match cluster::write(&shared.membership, request).await {
            Err(error) if error.status == StatusCode::CONFLICT && Instant::now() < until => {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            Err(error) => return Err(error),
            Ok(reply) => return outcome(reply),
        }
    }
}

fn outcome(reply: WriteReply) -> ApiResult<Json<Value>> {
    match reply {
        WriteReply::Deployed { revision, parts } => Ok(Json(write_outcome(revision, &parts))),
        other => Err(cluster::unexpected(&other)),
    }
}
