//! What is not there: said in words, apart from what never was.

use axum::http::{Method, Uri};

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

pub(crate) async fn fallback(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    let is_below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match KNOWN.iter().find(|(root, _)| is_below(root)) {
        Some((_, what)) => ApiError::unsupported(format!("{what} ({method} {path})")),
        None => ApiError::not_found("page not found"),
    }
}
