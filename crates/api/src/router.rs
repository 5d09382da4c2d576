//! From a request to the function that answers it.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{
        HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, UPGRADE},
        uri::PathAndQuery,
    },
    response::{IntoResponse as _, Response},
    routing::{delete, get, post},
};
use node::membership::Membership;
use tower::ServiceExt as _;

use crate::{
    convert::info::{API_VERSION, MIN_API_VERSION},
    error::ApiError,
    host::Host,
    remote::{self, Turn},
    routes::{
        archive, attach, backup, containers, dependencies, distribution, doctor, events, everywhere, exec, export,
        forward, images, logs, metrics, networks, nodes, plugins, rebalance, registries, services, stacks, swarm,
        system, tasks, unsupported, usage, volumes,
    },
};

/// The framework's refusals are a sentence.
const MAX_REFUSAL_BYTES: usize = 64 << 10;
/// As much as Go's servers read of what nobody asked for.
const SMALL_BODY_BYTES: usize = 256 << 10;

/// The last parts of paths that are about one container.
const OF_ONE_CONTAINER: [&str; 20] = [
    "archive", "attach", "changes", "exec", "export", "json", "kill", "logs", "pause", "rename", "resize", "restart",
    "start", "stats", "stop", "top", "unpause", "update", "wait", "forward",
];

/// What every route can reach.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) membership: Membership,
}

/// The version of the API that a request speaks; among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion(pub(crate) u32, pub(crate) u32);

impl ApiVersion {
    fn of(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// The whole API as one function of requests.
pub(crate) struct Api {
    router: Router,
    /// Of an API that has requests about other nodes' containers answered there.
    diverts: Option<Shared>,
    server: HeaderValue,
}

impl Api {
    pub(crate) fn new(host: Arc<dyn Host>, membership: Membership) -> Self {
        let shared = Shared { host, membership };
        Self { diverts: Some(shared.clone()), ..Self::serving(router, shared) }
    }

    /// Of all that only the metrics: whoever may read them may not touch a container, on whatever node.
    pub(crate) fn metrics_only(host: Arc<dyn Host>, membership: Membership) -> Self {
        Self::serving(metrics::only, Shared { host, membership })
    }

    fn serving(router: fn(Shared) -> Router, shared: Shared) -> Self {
        let host = &shared.host;
        let name = format!("rswarm/{} ({})", host.info().engine_version, host.info().os_type);
        let server = HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("rswarm"));
        Self { router: router(shared), diverts: None, server }
    }

    pub(crate) async fn answer(&self, mut request: Request) -> Response {
        let mut response = match (with_single_slashes(request.uri()), strip_version(request.uri())) {
            (Some(location), _) => {
                archive::drain_refused(request.into_body()).await;
                (StatusCode::MOVED_PERMANENTLY, [(LOCATION, location)]).into_response()
            }
            (None, Ok((uri, version))) => {
                *request.uri_mut() = uri;
                request.extensions_mut().insert(version);
                self.route(request).await
            }
            (None, Err(error)) => error.into_response(),
        };
        if response.status().is_client_error() || response.status().is_server_error() {
            response = in_our_words(response).await;
        }
        let headers = response.headers_mut();
        for (name, value) in [
            ("api-version", API_VERSION),
            ("docker-experimental", "false"),
            ("ostype", "linux"),
            ("cache-control", "no-cache, no-store, must-revalidate"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.insert("server", self.server.clone());
        response
    }

    async fn route(&self, request: Request) -> Response {
        tracing::debug!(method = %request.method(), uri = %request.uri(), "request");
        let turn = match &self.diverts {
            Some(_) if request.method() == Method::HEAD && !has_head(request.uri().path()) => {
                return unsupported::refusal(request.method(), request.uri().path()).into_response();
            }
            Some(shared) => remote::divert(shared, request).await,
            None => Turn::Here(request),
        };
        let request = match turn {
            Turn::Here(request) => request,
            Turn::Answered(response) => return response,
        };
        match self.router.clone().oneshot(with_small_body(request).await).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Whether Docker has this method there; elsewhere the framework would take it for GET without the body.
fn has_head(path: &str) -> bool {
    path == "/_ping" || (path.starts_with("/containers/") && path.ends_with("/archive"))
}

/// Where Docker sends clients that write more slashes than one; `None` for all others.
fn with_single_slashes(uri: &Uri) -> Option<String> {
    if !uri.path().contains("//") {
        return None;
    }
    let mut path = String::new();
    for part in uri.path().chars() {
        if part != '/' || !path.ends_with('/') {
            path.push(part);
        }
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    Some(path + &query)
}

/// With its body read, where that is small. A client that is answered before it has written all of it, which no handler may
/// have asked for, gets an error of its socket in place of the answer; Go's servers read what is left first.
async fn with_small_body(request: Request) -> Request {
    let headers = request.headers();
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let is_small = length.is_some_and(|length| (1..=SMALL_BODY_BYTES).contains(&length));
    if !is_small || headers.contains_key(UPGRADE) {
        return request;
    }
    let (parts, body) = request.into_parts();
    // of a body that broke off nothing is left: it is judged as if there were none
    let bytes = axum::body::to_bytes(body, SMALL_BODY_BYTES).await.unwrap_or_default();
    Request::from_parts(parts, Body::from(bytes))
}

/// Refusals of the framework itself, of a path that is no UTF-8 for example, as clients read ours.
async fn in_our_words(response: Response) -> Response {
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/json");
    if is_json {
        return response;
    }
    let status = response.status();
    let text = axum::body::to_bytes(response.into_body(), MAX_REFUSAL_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let reason = if text.is_empty() { status.canonical_reason().unwrap_or_default() } else { &text };
    ApiError::new(status, reason).into_response()
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/build/prune", post(system::prune_builds))
        .route("/doctor", get(doctor::checks))
        .route("/doctor/networks", get(doctor::networks))
        .route("/doctor/networks/all", get(doctor::all_networks))
        .route("/swarm", get(swarm::inspect))
        .route("/swarm/init", post(swarm::init))
        .route("/swarm/join", post(swarm::join))
        .route("/swarm/leave", post(swarm::leave))
        .route("/swarm/update", post(swarm::update))
        .route("/swarm/unlockkey", get(swarm::unlock_key))
        .route("/swarm/unlock", post(swarm::unlock))
        .route("/swarm/backup", post(backup::create))
        .route("/swarm/restore", post(backup::restore))
        .route("/swarm/managers", post(backup::turn))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{id}", get(nodes::inspect).merge(delete(nodes::remove)))
        .route("/nodes/{id}/update", post(nodes::update))
        .route("/services", get(services::list))
        .route("/services/create", post(services::create))
        .route("/services/{id}", get(services::inspect).merge(delete(services::remove)))
        .route("/services/{id}/update", post(services::update))
        .route("/services/{id}/revisions", get(services::revisions))
        .route("/services/{id}/logs", get(logs::of_service))
        .route("/tasks", get(tasks::list))
        .route("/tasks/usage", get(tasks::usage))
        .route("/tasks/{id}", get(tasks::inspect))
        .route("/tasks/{id}/logs", get(logs::of_task))
        .route("/networks", get(networks::list))
        .route("/networks/", get(networks::list))
        .route("/networks/create", post(networks::create))
        .route("/networks/prune", post(networks::prune))
        .route("/networks/{id}", get(networks::inspect).merge(delete(networks::remove)))
        .route("/networks/{id}/connect", post(networks::connect))
        .route("/networks/{id}/subnets", post(networks::add_subnet))
        .route("/networks/{id}/disconnect", post(networks::disconnect))
        .merge(dependencies::routes())
        .merge(distribution::routes())
        .merge(rebalance::routes())
        .merge(registries::routes())
        .merge(events::routes())
        .merge(everywhere::routes())
        .merge(images::routes())
        .merge(metrics::routes())
        .merge(plugins::routes())
        .merge(stacks::routes())
        .merge(usage::routes())
        .merge(volumes::routes())
        .merge(containers::routes())
        .merge(archive::routes())
        .merge(attach::routes())
        .merge(exec::routes())
        .merge(export::routes())
        .merge(forward::routes())
        .fallback(unsupported::fallback)
        .method_not_allowed_fallback(unsupported::fallback)
        .with_state(shared)
}

/// `/v1.44/info` to `/info` and the version; one out of range is refused as Docker does.
fn strip_version(uri: &Uri) -> Result<(Uri, ApiVersion), ApiError> {
    let path = uri.path();
    let versioned = path.strip_prefix("/v").and_then(|rest| rest.split_once('/'));
    let Some((version, rest)) = versioned.filter(|(version, _)| version.starts_with(|c: char| c.is_ascii_digit()))
    else {
        return Ok((at(path, uri)?, ApiVersion::of(API_VERSION).unwrap_or(ApiVersion(1, 0))));
    };
    let wanted = ApiVersion::of(version)
        .ok_or_else(|| ApiError::bad_request(format!("invalid API version {version:?}: write v1.44, for example")))?;
    if ApiVersion::of(MIN_API_VERSION).is_some_and(|least| wanted < least) {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade \
             your client to a newer version"
        )));
    }
    if ApiVersion::of(API_VERSION).is_some_and(|most| wanted > most) {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    Ok((at(&format!("/{rest}"), uri)?, wanted))
}

/// Another path with the same query.
fn at(path: &str, uri: &Uri) -> Result<Uri, ApiError> {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = linked(path).unwrap_or_else(|| path.to_owned());
    let whole = PathAndQuery::try_from(format!("{path}{query}"));
    Ok(Uri::from(whole.map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "invalid path"))?))
}

/// `/containers/web/db/json` is about the container that `web` has linked as `db`: its name has a slash.
fn linked(path: &str) -> Option<String> {
    let (name, action) = path.strip_prefix("/containers/")?.rsplit_once('/')?;
    let (parent, alias) = name.split_once('/').filter(|(parent, alias)| !parent.is_empty() && !alias.contains('/'))?;
    OF_ONE_CONTAINER.contains(&action).then(|| format!("/containers/{parent}%2F{alias}/{action}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, wanted: Result<&str, &str>) {
        let stripped = strip_version(&path.parse().expect("path"));
        match wanted {
            Ok(wanted) => assert_eq!(stripped.expect(path).0.to_string(), wanted),
            Err(part) => assert!(stripped.expect_err(path).message.contains(part)),
        }
    }

    #[test]
    fn versions_are_cut_off_and_checked() {
        check("/info", Ok("/info"));
        check("/v1.44/info?x=1", Ok("/info?x=1"));
        check("/volumes", Ok("/volumes"));
        check("/v1.44/containers/web/db/json?size=1", Ok("/containers/web%2Fdb/json?size=1"));
        check("/containers/web/db/start", Ok("/containers/web%2Fdb/start"));
        check("/containers/web/attach/ws", Ok("/containers/web/attach/ws"));
        check("/v1.20/info", Err("too old"));
        check("/v1.99/info", Err("too new"));
        check("/v1/info", Err("invalid API version"));
    }
}
