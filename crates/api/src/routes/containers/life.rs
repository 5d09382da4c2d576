//! Start, stop and whatever else happens to a container that is there.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
    http::StatusCode,
};
use node::engine::{
    containers::ContainerStatusView,
    events::{Event, EventKind},
};
use serde_json::{Value, json};

use super::{filter::Filter, versions};
use crate::{
    error::{ApiError, ApiResult},
    host::engine,
    query::Query,
    router::{ApiVersion, Shared},
    routes::query,
};

const DONE: StatusCode = StatusCode::NO_CONTENT;

pub(crate) async fn start(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<StatusCode> {
    if !query(raw).get("checkpoint").is_empty() {
        return Err(ApiError::bad_request("checkpoints are not supported; start the container without --checkpoint"));
    }
    engine(&shared)?.start_container(&id).await?;
    Ok(DONE)
}

/// `signal=` and `t=` seconds; a negative number waits for ever.
fn stop_options(query: &Query, version: ApiVersion) -> ApiResult<(Option<String>, Option<i64>)> {
    let signal = Some(query.get("signal").to_owned());
    let signal = signal.filter(|signal| !signal.is_empty() && version >= versions::STOPS_BY_SIGNAL);
    let seconds = match query.get("t") {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            ApiError::bad_request(format!("invalid t {text:?}: give the seconds to wait as a whole number"))
        })?),
    };
    Ok((signal, seconds))
}

pub(crate) async fn stop(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<StatusCode> {
    let (signal, seconds) = stop_options(&query(raw), version)?;
    engine(&shared)?.stop_container(&id, signal.as_deref(), seconds).await?;
    Ok(DONE)
}

pub(crate) async fn restart(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<StatusCode> {
    let (signal, seconds) = stop_options(&query(raw), version)?;
    engine(&shared)?.restart_container(&id, signal.as_deref(), seconds).await?;
    Ok(DONE)
}

pub(crate) async fn kill(State(shared): State<Shared>, Path(id): Path<String>, raw: RawQuery) -> ApiResult<StatusCode> {
    engine(&shared)?.kill_container(&id, query(raw).get("signal")).await?;
    Ok(DONE)
}

pub(crate) async fn pause(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    engine(&shared)?.pause_container(&id, true).await?;
    Ok(DONE)
}

pub(crate) async fn unpause(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<StatusCode> {
    engine(&shared)?.pause_container(&id, false).await?;
    Ok(DONE)
}

pub(crate) async fn rename(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<StatusCode> {
    engine(&shared)?.rename_container(&id, query(raw).get("name")).await?;
    Ok(DONE)
}

pub(crate) async fn remove(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<StatusCode> {
    let query = query(raw);
    if query.flag("link") {
        let form = "write the container and the alias of its link: docker rm --link /web/db";
        return Err(ApiError::bad_request(format!("{id} is no link: {form}")));
    }
    engine(&shared)?.remove_container(&id, query.flag("force"), query.flag("v")).await?;
    Ok(DONE)
}

/// `docker rm --link /web/db`.
pub(crate) async fn remove_link(
    State(shared): State<Shared>,
    Path((id, alias)): Path<(String, String)>,
    raw: RawQuery,
) -> ApiResult<StatusCode> {
    if !query(raw).flag("link") {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("No such container: {id}/{alias}")));
    }
    engine(&shared)?.remove_link(&id, &alias).await?;
    Ok(DONE)
}

/// Containers that do not run and that the filters fit: `label`, `label!`, `until`. A task's that was not started yet is on its
/// way: it is left alone.
pub(crate) async fn prune(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Value>> {
    let filter = Filter::of_prune(&query(raw).filters()?)?;
    let engine = engine(&shared)?;
    let (mut removed, mut bytes) = (Vec::new(), 0);
    for view in engine.container_views().await? {
        let is_unused = match view.status {
            ContainerStatusView::Exited => true,
            ContainerStatusView::Created => !view.is_task,
            _ => false,
        };
        if !is_unused || !filter.prunes(&view) {
            continue;
        }
        let own = engine.container_sizes(&view.id, &view.image).await.map_or(0, |(own, _)| own);
        // one that was started or removed meanwhile is left alone
        if engine.remove_container(&view.id, false, false).await.is_ok() {
            removed.push(view.id);
            bytes += own;
        }
    }
    engine.events().publish(Event::new(EventKind::Container, "prune", "").with("reclaimed", bytes.to_string()));
    let removed = (!removed.is_empty()).then_some(removed);
    Ok(Json(json!({ "ContainersDeleted": removed, "SpaceReclaimed": bytes })))
}
