//! `/volumes…`: the volumes of this host.

mod carry;
mod migrate;

use axum::{
    Extension, Json, Router,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    routing::{delete, get, post},
};
use node::engine::volumes::{VolumeError, VolumeView, Volumes};
use serde_json::{Value, json};
use types::Filters;

use super::{engine, label_filter, query};
use crate::{
    bodies::JsonBody,
    convert::volume::{read, write},
    error::{ApiError, ApiResult},
    router::{ApiVersion, Shared},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/volumes", get(list))
        .route("/volumes/create", post(create))
        .route("/volumes/prune", post(prune))
        .route("/volumes/{name}", get(inspect).merge(delete(remove)))
        .route("/volumes/{name}/migrate", post(migrate::migrate))
        .merge(carry::routes())
}

/// Runs what touches the disk where waiting harms nobody.
async fn run<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&Volumes) -> Result<T, VolumeError> + Send + 'static,
) -> ApiResult<T> {
    let volumes = engine(shared)?.volumes().clone();
    let done = tokio::task::spawn_blocking(move || work(&volumes)).await;
    Ok(done.map_err(|_| ApiError::unavailable("the engine is stopping"))??)
}

async fn list(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Value>> {
    let filters = query(raw).filters()?;
    label_filter::check_keys(&filters, "volumes", &["dangling", "driver", "label", "label!", "name"])?;
    let dangling = label_filter::boolean(&filters, "dangling")?;
    let volumes = engine(&shared)?.volumes().list();
    let shown: Vec<Value> =
        volumes.iter().filter(|v| fits(v, &filters, dangling)).map(|volume| write(volume, None)).collect();
    Ok(Json(json!({ "Volumes": shown, "Warnings": null })))
}

fn fits(volume: &VolumeView, filters: &Filters, dangling: Option<bool>) -> bool {
    let any =
        |key: &str, fits: &dyn Fn(&str) -> bool| filters.get(key).is_none_or(|values| values.iter().any(|v| fits(v)));
    any("driver", &|driver| driver == volume.driver)
        && any("name", &|pattern| label_filter::fits_name(&volume.name, pattern))
        && dangling.is_none_or(|dangling| dangling == volume.users.is_empty())
        && label_filter::fits(&volume.labels, filters)
}

async fn inspect(State(shared): State<Shared>, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    Ok(Json(write(&engine(&shared)?.volumes().get(&name)?, None)))
}

async fn create(State(shared): State<Shared>, JsonBody(body): JsonBody) -> ApiResult<(StatusCode, Json<Value>)> {
    let spec = read(&body)?;
    let volume = run(&shared, move |volumes| volumes.create(spec)).await?;
    Ok((StatusCode::CREATED, Json(write(&volume, None))))
}

async fn remove(State(shared): State<Shared>, Path(name): Path<String>, raw: RawQuery) -> ApiResult<StatusCode> {
    let force = query(raw).flag("force");
    run(&shared, move |volumes| volumes.remove(&name, force)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// From this version on volumes with a name are pruned only if that is asked for (moby `api/docs/CHANGELOG.md`).
const SPARES_NAMED: ApiVersion = ApiVersion(1, 42);

/// Anonymous volumes that no container has; with the filter `all=true` those with a name too.
async fn prune(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    raw: RawQuery,
) -> ApiResult<Json<Value>> {
    let filters = query(raw).filters()?;
    label_filter::check_keys(&filters, "pruning volumes", &["all", "label", "label!"])?;
    let all = label_filter::boolean(&filters, "all")?.unwrap_or(version < SPARES_NAMED);
    let wanted =
        move |volume: &VolumeView| (all || volume.is_anonymous) && label_filter::fits(&volume.labels, &filters);
    let pruned = run(&shared, move |volumes| volumes.prune(wanted)).await?;
    Ok(Json(json!({ "VolumesDeleted": pruned.names, "SpaceReclaimed": pruned.bytes })))
}
