//! `/metrics`: this host's engine and, on managers, the cluster, in Prometheus' text format.
//!
//! Served on the API's own listeners, whose clients may do anything anyway, and on a port of its own for clients that
//! may do nothing else.

use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
    routing::get,
};

use super::unsupported;
use crate::{error::ApiError, error::ApiResult, router::Shared};

/// Version 0.0.4 is what every Prometheus reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/metrics", get(metrics))
}

/// A port on which there is nothing else.
pub(crate) fn only(shared: Shared) -> Router {
    let fallback = || async { ApiError::not_found("there are only /metrics on this port") };
    routes().fallback(fallback).method_not_allowed_fallback(unsupported::fallback).with_state(shared)
}

async fn metrics(State(shared): State<Shared>) -> ApiResult<Response> {
    let mut text = shared.host.metrics().await.map_err(ApiError::internal)?;
    if let Some(manager) = shared.membership.status().metrics {
        text.push_str(&manager.text().await);
    }
    Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
}
