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
    let host = shared.host.info();
    let defaults = &host.settings.defaults;
    if defaults.ipc_shareable {
        unless_said(&mut body, "IpcMode", "shareable");
    }
    if defaults.cgroupns_of_host {
        unless_said(&mut body, "CgroupnsMode", "host");
    }
    let mut spec = single::create(&body)?;
    versions::adapt_spec(&mut spec, version);
    check_processors(&shared, spec.limits.nano_cpus)?;
    let name = Some(query.get("name")).filter(|name| !name.is_empty());
    let made = engine(&shared)?.create_container(name, spec, platform.as_ref()).await?;
    let warnings = [made.warnings, warnings].concat();
    let body = json!({ "Id": made.id, "Warnings": warnings });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Fills in whose namespace it is in, where the request does not say it.
fn unless_said(body: &mut Value, field: &str, mode: &str) {
    let Some(body) = body.as_object_mut() else { return };
    let host = body.entry("HostConfig").or_insert(Value::Null);
    if host.is_null() {
        *host = json!({});
    }
    // anything else is refused by its own name
    let Some(host) = host.as_object_mut() else { return };
    if host.get(field).is_none_or(|said| said.is_null() || said == "") {
        host.insert(field.to_owned(), mode.into());
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// E-50: `default-ipc-mode` and `default-cgroupns-mode` are for those that say nothing.
    #[test]
    fn e_50_namespaces_by_default() {
        let filled = |mut body: Value| {
            unless_said(&mut body, "IpcMode", "shareable");
            body["HostConfig"].clone()
        };
        assert_eq!(filled(json!({})), json!({"IpcMode": "shareable"}));
        assert_eq!(filled(json!({"HostConfig": null})), json!({"IpcMode": "shareable"}));
        assert_eq!(filled(json!({"HostConfig": {"IpcMode": ""}})), json!({"IpcMode": "shareable"}));
        assert_eq!(filled(json!({"HostConfig": {"IpcMode": "private"}})), json!({"IpcMode": "private"}));
        assert_eq!(filled(json!({"HostConfig": 3})), json!(3));
    }
}
