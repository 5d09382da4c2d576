//! Making a container, and changing its limits.

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use node::image::Platform;
use serde_json::{Value, json};

use super::versions;
use crate::{
    bodies::JsonBody,
    convert::single,
    error::{ApiError, ApiResult},
    host::engine,
    router::{ApiVersion, Shared},
    routes::{query, services::none_if_empty},
};

pub(crate) async fn create(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    raw: RawQuery,
    JsonBody(mut body): JsonBody,
) -> ApiResult<Response> {
    let query = query(raw);
    let platform = match query.get("platform") {
        text if text.is_empty() || version < versions::HAS_PLATFORM => None,
        text => Some(text.parse::<Platform>()?),
    };
    let warnings = versions::read_create(&mut body, version)?;
    let mut spec = single::create(&body)?;
    versions::adapt_spec(&mut spec, version);
    check_processors(&shared, spec.limits.nano_cpus)?;
    let name = Some(query.get("name")).filter(|name| !name.is_empty());
    let made = engine(&shared)?.create_container(name, spec, platform.as_ref()).await?;
    let body = json!({ "Id": made.id, "Warnings": [made.warnings, warnings].concat() });
    Ok((StatusCode::CREATED, Json(body)).into_response())
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

pub(crate) async fn update(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    JsonBody(mut body): JsonBody,
) -> ApiResult<Json<Value>> {
    versions::read_update(&mut body, version);
    let change = single::change(&body)?;
    check_processors(&shared, change.limits.nano_cpus)?;
    let warnings = engine(&shared)?.update_container(&id, change).await?;
    Ok(Json(json!({ "Warnings": none_if_empty(warnings) })))
}
