//! `/system/df`: what this host's objects take on the disk (parity E-24, E-42). With `summary=true`, which is ours, numbers in place of lists.

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    routing::get,
};
use node::{Engine, image::ImageSummary};
use serde_json::{Value, json};

use super::{
    containers::{measure, summary},
    engine, query,
};
use crate::{
    convert::{disk_usage, image::write_summary, volume, writer::Fields},
    error::{ApiError, ApiResult},
    router::Shared,
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/system/df", get(usage))
}

const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

async fn usage(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Value>> {
    let query = query(raw);
    let wanted = query.all("type");
    if let Some(unknown) = wanted.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        let known = KINDS.join(", ");
        return Err(ApiError::bad_request(format!("unknown object type: {unknown}: known are {known}")));
    }
    let is_wanted = |kind: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == kind);
    let engine = engine(&shared)?;
    // what was not asked for is there, and null
    let (bytes, images) = if is_wanted("image") { of_images(engine) } else { (0, Value::Null) };
    let containers = if is_wanted("container") { of_containers(engine).await? } else { Value::Null };
    let volumes = if is_wanted("volume") { of_volumes(engine).await? } else { Value::Null };
    // images are not built here
    let builds = if is_wanted("build-cache") { json!([]) } else { Value::Null };
    let answer = Fields::new()
        .set("LayersSize", bytes)
        .put("Images", images)
        .put("Containers", containers)
        .put("Volumes", volumes)
        .put("BuildCache", builds)
        .done();
    Ok(Json(match query.flag("summary") {
        true => disk_usage::summary(&answer),
        false => answer,
    }))
}

fn of_images(engine: &Engine) -> (u64, Value) {
    let usage = engine.images().disk_usage();
    let shown = |image: &ImageSummary| {
        let mut line = write_summary(image);
        let own = usage.images.get(&image.id).cloned().unwrap_or_default();
        line["SharedSize"] = own.shared_bytes.into();
        line["Containers"] = own.containers.into();
        line
    };
    (usage.layer_bytes, engine.images().list().iter().map(shown).collect())
}

async fn of_containers(engine: &Engine) -> ApiResult<Value> {
    let mut shown = Vec::new();
    for view in engine.container_views().await? {
        let sizes = measure(engine, &view).await?;
        shown.push(summary(engine, &view, Some(sizes)));
    }
    Ok(shown.into())
}

async fn of_volumes(engine: &Engine) -> ApiResult<Value> {
    let volumes = engine.volumes().clone();
    let work = move || -> Result<Vec<Value>, node::engine::volumes::VolumeError> {
        volumes.list().iter().map(|view| Ok(volume::write(view, Some(volumes.usage(&view.name)?)))).collect()
    };
    let shown = tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::unavailable("the engine is stopping"))?;
    Ok(shown?.into())
}
