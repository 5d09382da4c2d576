//! `/tasks…`, without logs.

use std::{borrow::Borrow, collections::HashMap, convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::header::CONTENT_TYPE,
    response::IntoResponse,
};
use proto::v1::UsageCall;
use serde_json::Value;
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_stream::wrappers::ReceiverStream;
use types::{Filters, ReadReply, ReadRequest, ServiceId, ServiceView, Task};

use super::{networks, query};
use crate::{
    cluster,
    convert::{
        network_view::Networks,
        task::{write, write_all},
        task_usage,
    },
    error::ApiResult,
    router::Shared,
};

/// Written of a list and not yet taken by the client.
const PIECES_AHEAD: usize = 4;

pub(crate) async fn list(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<impl IntoResponse> {
    let mut filters = query(raw).filters()?;
    // docker's clients ask with it while they wait for an update.
    let up_to_date = filters.remove("_up-to-date").and_then(|values| values.into_iter().next());
    let mut tasks = fetch(&shared, filters).await?;
    if let Some(wanted) = up_to_date {
        let wanted = !matches!(wanted.as_str(), "false" | "0");
        let services = services(&shared).await?;
        tasks.retain(|task| is_up_to_date(task, &services) == wanted);
    }
    let networks = networks_of(&shared, &tasks).await?;
    Ok(([(CONTENT_TYPE, "application/json")], written(tasks, networks)))
}

/// The first of many tasks are on their way while the last are written.
fn written(tasks: Vec<Arc<Task>>, networks: Networks) -> Body {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    spawn_blocking(move || {
        write_all(&tasks, &networks, |piece| sender.blocking_send(Ok::<_, Infallible>(piece)).is_ok());
    });
    Body::from_stream(ReceiverStream::new(pieces))
}

pub(crate) async fn fetch(shared: &Shared, filters: Filters) -> ApiResult<Vec<Arc<Task>>> {
    match cluster::read(&shared.membership, &ReadRequest::Tasks(filters)).await? {
        ReadReply::Tasks(tasks) => Ok(tasks),
        other => Err(cluster::unexpected(&other)),
    }
}

pub(crate) async fn services(shared: &Shared) -> ApiResult<HashMap<ServiceId, ServiceView>> {
    match cluster::read(&shared.membership, &ReadRequest::Services(Filters::new())).await? {
        ReadReply::Services(services) => Ok(services.into_iter().map(|view| (view.service.id, view)).collect()),
        other => Err(cluster::unexpected(&other)),
    }
}

async fn networks_of(shared: &Shared, tasks: &[impl Borrow<Task>]) -> ApiResult<Networks> {
    match tasks.iter().all(|task| task.borrow().attachments.is_empty()) {
        true => Ok(Networks::new()),
        false => networks::known(shared).await,
    }
}

fn is_up_to_date(task: &Task, services: &HashMap<ServiceId, ServiceView>) -> bool {
    services.get(&task.service).is_some_and(|view| {
        let service = &view.service;
        if service.job.is_some() {
            return task.iteration == service.iteration();
        }
        task.spec_version == service.spec_version || task.spec == service.task_spec
    })
}

pub(crate) async fn inspect(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    let task = *cluster::task(&shared.membership, &id).await?;
    let networks = networks_of(&shared, std::slice::from_ref(&task)).await?;
    Ok(Json(write(&task, &networks)))
}

/// `GET /tasks/usage`, which is ours: what all running tasks use now, each measured by its node for this request.
pub(crate) async fn usage(State(shared): State<Shared>) -> ApiResult<Json<Value>> {
    let answer = cluster::client(&shared.membership)?.usage(UsageCall {}).await.map_err(cluster::explain)?;
    let usage = proto::decode(&answer.into_inner().cluster_usage)?;
    let tasks = fetch(&shared, Filters::new()).await?;
    let nodes = match cluster::read(&shared.membership, &ReadRequest::Nodes(Filters::new())).await? {
        ReadReply::Nodes(nodes) => nodes,
        other => return Err(cluster::unexpected(&other)),
    };
    Ok(Json(task_usage::write(&usage, &tasks, &services(&shared).await?, &nodes)))
}
