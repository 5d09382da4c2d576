//! `/services…`, without logs.

mod pin;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use axum::{
    Json,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
};
use node::image::Credentials;
use serde_json::{Value, json};
use types::{
    Name, Payload, ReadReply, ReadRequest, Service, ServiceChange, ServiceSpec, ServiceView, WriteReply, WriteRequest,
};

use super::{networks, query, registry_credentials};
use crate::{
    bodies::JsonBody,
    cluster,
    convert::{
        network_view::Networks,
        service::{Given, read, write, write_revisions, write_whole_spec},
    },
    error::{ApiError, ApiResult},
    router::Shared,
};

pub(crate) async fn list(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Vec<Value>>> {
    let query = query(raw);
    let with_status = query.strict_flag("status")?;
    match cluster::read(&shared.membership, &ReadRequest::Services(query.filters()?)).await? {
        ReadReply::Services(services) => {
            let networks = networks_of(&shared, &services).await?;
            Ok(Json(services.iter().map(|view| write(view, with_status, &networks)).collect()))
        }
        other => Err(cluster::unexpected(&other)),
    }
}

async fn networks_of(shared: &Shared, services: &[ServiceView]) -> ApiResult<Networks> {
    match services.iter().all(|view| view.service.virtual_ips.is_empty()) {
        true => Ok(Networks::new()),
        false => networks::known(shared).await,
    }
}

pub(crate) async fn create(
    State(shared): State<Shared>,
    raw: RawQuery,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> ApiResult<(StatusCode, Json<Value>)> {
    let credentials = registry_credentials(&headers)?;
    let mut spec = read(&body, Given { name: Some(made_up_name()), previous: None })?;
    spec.task.container.registry_auth = packed(credentials.as_ref());
    let mut warnings = Vec::new();
    if pin::is_asked(&query(raw), &headers) {
        warnings = pin::pin(&shared, &mut spec, None, credentials).await?;
    }
    warnings.extend(spec.task.placement.warnings());
    match cluster::write(&shared.membership, &WriteRequest::CreateService(Box::new(spec))).await? {
        WriteReply::Created(id) => {
            Ok((StatusCode::CREATED, Json(json!({ "ID": id, "Warnings": none_if_empty(warnings) }))))
        }
        other => Err(cluster::unexpected(&other)),
    }
}

/// Go's clients know an absent list as null.
pub(crate) fn none_if_empty(warnings: Vec<String>) -> Option<Vec<String>> {
    (!warnings.is_empty()).then_some(warnings)
}

/// As a spec keeps them.
fn packed(credentials: Option<&Credentials>) -> Payload {
    credentials.map(|credentials| Payload::new(credentials.pack())).unwrap_or_default()
}

/// The credentials that an updated spec gets: new ones from the request, else those it had (parity S-21).
fn kept_auth(service: &Service, from: &str) -> ApiResult<Payload> {
    let auth_of = |spec: &ServiceSpec| spec.task.container.registry_auth.clone();
    match from {
        "" | "spec" => Ok(auth_of(&service.spec)),
        "previous-spec" => match service.shown_previous() {
            Some(previous) => Ok(auth_of(previous)),
            None => Err(ApiError::bad_request(format!(
                "service {} does not have a previous spec: leave registryAuthFrom=previous-spec out",
                service.spec.name
            ))),
        },
        other => Err(ApiError::bad_request(format!(
            "unsupported registryAuthFrom value {other:?}: it is spec or previous-spec"
        ))),
    }
}

pub(crate) async fn inspect(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<Json<Value>> {
    let with_defaults = query(raw).strict_flag("insertDefaults")?;
    let view = *cluster::service(&shared.membership, &id).await?;
    let networks = networks_of(&shared, std::slice::from_ref(&view)).await?;
    let mut written = write(&view, false, &networks);
    if with_defaults {
        written["Spec"] = write_whole_spec(&view.service.spec);
    }
    Ok(Json(written))
}

pub(crate) async fn update(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    raw: RawQuery,
    JsonBody(body): JsonBody,
) -> ApiResult<Json<Value>> {
    let credentials = registry_credentials(&headers)?;
    let query = query(raw);
    let version = query.version()?;
    let service = cluster::service(&shared.membership, &id).await?.service;
    let kept = kept_auth(&service, query.get("registryAuthFrom"))?;
    let mut warnings = Vec::new();
    let change = match (query.get("rollout"), query.get("rollback")) {
        ("pause", _) => ServiceChange::PauseUpdate,
        ("resume", _) => ServiceChange::ResumeUpdate,
        ("", "previous") => ServiceChange::Rollback,
        ("", "" | "none") => {
            let given = Given { name: None, previous: Some(&service.spec) };
            let mut spec = read(&body, given)?;
            let auth = if credentials.is_some() { packed(credentials.as_ref()) } else { kept };
            if pin::is_asked(&query, &headers) {
                let credentials = credentials.or_else(|| Credentials::unpack(auth.bytes()));
                warnings = pin::pin(&shared, &mut spec, Some(&service.spec), credentials).await?;
            }
            spec.task.container.registry_auth = auth;
            warnings.extend(spec.task.placement.warnings());
            ServiceChange::Spec(Box::new(spec))
        }
        ("", number) => match number.parse() {
            Ok(number) => ServiceChange::RollbackTo(number),
            Err(_) => {
                let forms = "it is \"previous\", the number of a revision, or absent";
                return Err(ApiError::bad_request(format!("invalid rollback {number:?}: {forms}")));
            }
        },
        (other, _) => {
            return Err(ApiError::bad_request(format!(
                "invalid rollout {other:?}: it is \"pause\", \"resume\" or absent"
            )));
        }
    };
    cluster::write(&shared.membership, &WriteRequest::UpdateService { id: service.id, version, change }).await?;
    Ok(Json(json!({ "Warnings": none_if_empty(warnings) })))
}

/// All specs that are known of a service, the present one first.
pub(crate) async fn revisions(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    let service = cluster::service(&shared.membership, &id).await?.service;
    Ok(Json(write_revisions(&service)))
}

pub(crate) async fn remove(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<()> {
    let id = cluster::service(&shared.membership, &id).await?.service.id;
    cluster::write(&shared.membership, &WriteRequest::RemoveService(id)).await?;
    Ok(())
}

/// For services that are given no name. 24 * 24 * 10,000 of them: a clash is refused, not harmful.
fn made_up_name() -> Name {
    const QUALITIES: [&str; 24] = [
        "amber", "brisk", "calm", "daring", "eager", "fair", "gentle", "hardy", "ivory", "jolly", "keen", "lively",
        "merry", "noble", "olive", "proud", "quick", "rapid", "steady", "tidy", "upbeat", "vivid", "warm", "young",
    ];
    const ANIMALS: [&str; 24] = [
        "adder", "beaver", "crane", "dipper", "egret", "falcon", "gecko", "heron", "ibex", "jackdaw", "kestrel",
        "lynx", "marten", "newt", "otter", "plover", "quail", "raven", "stoat", "tern", "urchin", "vole", "wren",
        "yak",
    ];
    // The standard library seeds its hashers at random; that is random enough for a name.
    let random = RandomState::new().build_hasher().finish();
    let pick = |words: [&'static str; 24], shift: u32| words[((random >> shift) % 24) as usize];
    let name = format!("{}_{}{}", pick(QUALITIES, 0), pick(ANIMALS, 16), (random >> 32) % 10_000);
    name.parse().expect("lower-case words, '_' and digits are a name")
}

#[cfg(test)]
mod tests {
    #[test]
    fn made_up_names_differ() {
        assert_ne!(super::made_up_name(), super::made_up_name());
    }
}
