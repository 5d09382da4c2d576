//! What is not there: said in words, apart from what never was.

use axum::{
    body::Body,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};

use super::archive;
use crate::error::ApiError;

/// Docker's endpoints that rswarm does not have, and what to say.
const KNOWN: [(&str, &str); 3] = [
    (
        "/build",
        "building images is not supported: build with `docker buildx` or `buildah`, then push or load the image",
    ),
    (
        "/plugins",
        "plugins are not supported: volumes have the driver local (also for nfs), networks bridge, ipvlan, macvlan and overlay",
    ),
    ("/session", "sessions of BuildKit are not supported: use a builder of its own, then push or load the image"),
];

/// Docker answers who asks what may be asked, whatever the path is; there are no words in it.
pub(crate) async fn fallback(method: Method, uri: Uri, body: Body) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::OK.into_response();
    }
    archive::drain_refused(body).await;
    refusal(&method, uri.path()).into_response()
}

pub(crate) fn refusal(method: &Method, path: &str) -> ApiError {
    let is_below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match KNOWN.iter().find(|(root, _)| is_below(root)) {
        Some((_, what)) => ApiError::unsupported(format!("{what} ({method} {path})")),
        None => ApiError::not_found("page not found"),
    }
}
