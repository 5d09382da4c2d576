//! Making a container, and changing its limits.

use axum::{
    Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use crate::{
    bodies,
    convert::single,
    error::{ApiError, ApiResult},
    host::engine,
    router::Shared,
    routes::query,
};

pub(crate) async fn create(State(shared): State<Shared>, raw: RawQuery, body: Body) -> ApiResult<Response> {
    let query = query(raw);
    check_platform(&shared, query.get("platform"))?;
    let spec = single::create(&bodies::json(body).await?)?;
    check_processors(&shared, spec.limits.nano_cpus)?;
    let name = Some(query.get("name")).filter(|name| !name.is_empty());
    let made = engine(&shared)?.create_container(name, spec).await?;
    let body = json!({ "Id": made.id, "Warnings": made.warnings });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `linux/amd64`, or the part that says something: only this host's own is run.
fn check_platform(shared: &Shared, platform: &str) -> ApiResult<()> {
    let host = shared.host.info();
    let own = node::image::Platform::host();
    let parts: Vec<&str> = platform.split('/').filter(|part| !part.is_empty()).collect();
    let fits = |part: &&str| [host.os_type.as_str(), &host.architecture, &own.architecture].contains(part);
    if parts.iter().take(2).all(fits) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "platform {platform} cannot be run on this host, which is {}/{}; leave --platform out",
        own.os, own.architecture
    )))
}

/// Nobody has more processors than the host.
fn check_processors(shared: &Shared, nano_cpus: u64) -> ApiResult<()> {
    let processors = shared.host.info().cpus;
    if nano_cpus <= u64::from(processors) * 1_000_000_000 {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "NanoCpus: range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
    )))
}

pub(crate) async fn update(State(shared): State<Shared>, Path(id): Path<String>, body: Body) -> ApiResult<Json<Value>> {
    let change = single::change(&bodies::json(body).await?)?;
    check_processors(&shared, change.limits.nano_cpus)?;
    engine(&shared)?.update_container(&id, change).await?;
    Ok(Json(json!({ "Warnings": null })))
}
