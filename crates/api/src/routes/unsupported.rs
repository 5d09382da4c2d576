//! What is not there: said in words, apart from what never was.

use axum::http::{Method, Uri};

use crate::error::ApiError;

/// Docker's endpoints that rswarm does not have, and what to say.
const KNOWN: [(&str, &str); 13] = [
    ("/auth", "logging in to registries"),
    ("/build", "building images"),
    ("/commit", "making an image from a container"),
    ("/configs", "the use of configs"),
    ("/containers", "managing single containers"),
    ("/distribution", "asking a registry about an image"),
    ("/events", "watching events"),
    ("/exec", "running commands in containers"),
    ("/plugins", "the use of plugins"),
    ("/secrets", "the use of secrets"),
    ("/session", "an interactive session"),
    ("/system", "showing disk usage"),
    ("/volumes", "managing volumes"),
];

pub(crate) async fn fallback(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    let is_below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match KNOWN.iter().find(|(root, _)| is_below(root)) {
        Some((_, what)) => ApiError::unsupported(format!("{what} is not supported yet ({method} {path})")),
        None => ApiError::not_found("page not found"),
    }
}
