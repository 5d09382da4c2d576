//! `GET /containers/json` and `GET /containers/{id}/json`.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
};
use node::{
    Engine,
    engine::containers::{ContainerStatusView, ContainerView},
};
use serde_json::{Value, json};
use types::Timestamp;

use super::{filter::Filter, versions};
use crate::{
    convert::single::show::{self, Sizes},
    error::{ApiError, ApiResult},
    host::engine,
    router::{ApiVersion, Shared},
    routes::query,
};

pub(crate) async fn list(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    raw: RawQuery,
) -> ApiResult<Json<Vec<Value>>> {
    let query = query(raw);
    let engine = engine(&shared)?;
    let limit: usize = match query.get("limit") {
        "" => 0,
        text => usize::try_from(
            text.parse::<i64>()
                .map_err(|_| ApiError::bad_request(format!("invalid limit {text:?}: give a whole number")))?,
        )
        .unwrap_or(0),
    };
    let mut views = engine.container_views().await?;
    let filter = Filter::of_list(&query.filters()?, &views, engine.images())?;
    let is_up =
        |view: &ContainerView| !matches!(view.status, ContainerStatusView::Created | ContainerStatusView::Exited);
    let with_ended = query.flag("all") || limit > 0 || filter.asks_for_ended();
    views.retain(|view| (with_ended || is_up(view)) && filter.lists(view));
    if limit > 0 {
        views.truncate(limit);
    }
    let mut shown = Vec::with_capacity(views.len());
    for view in &views {
        let sizes = if query.flag("size") { Some(measure(engine, view).await?) } else { None };
        let mut summary = summary(engine, view, sizes);
        versions::show_summary(&mut summary, version);
        shown.push(summary);
    }
    Ok(Json(shown))
}

/// An entry of the list, with what names mean now.
pub(crate) fn summary(engine: &Engine, view: &ContainerView, sizes: Option<Sizes>) -> Value {
    let image = engine.images().get(&view.spec.image).map(|id| id.to_string()).ok();
    show::summary(view, image.as_deref(), sizes, now())
}

pub(crate) async fn inspect(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<Json<Value>> {
    let engine = engine(&shared)?;
    let view = engine.container_view(&id).await?;
    let sizes = if query(raw).flag("size") { Some(measure(engine, &view).await?) } else { None };
    // a container keeps the driver that it was made with; what ended in a task has none
    let driver = engine.images().snapshot_driver(&view.id).unwrap_or(engine.images().driver());
    let mut detail = show::detail(&view, sizes, driver);
    let execs = engine.execs_of(&view.id);
    if !execs.is_empty() {
        detail["ExecIDs"] = json!(execs);
    }
    versions::show_detail(&mut detail, version);
    Ok(Json(detail))
}

pub(crate) async fn measure(engine: &Engine, view: &ContainerView) -> ApiResult<Sizes> {
    let (own, of_image) = engine.container_sizes(&view.id, &view.image).await?;
    Ok(Sizes { own, whole: own + of_image })
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_ns(u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0))
}
