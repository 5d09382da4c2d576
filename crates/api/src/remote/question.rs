//! Requests of this manager itself to a node, over the same connections as those of its clients.

use axum::{body::Body, http::Request, response::Response};
use serde_json::Value;

use super::{
    forward::{as_answer, broken, connect, send},
    resolve::There,
};
use crate::error::{ApiError, ApiResult};

/// An answer that is no data: the names of all that was removed, at most.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// An answer with its body as it comes. `what`: which of the things the node has it is about, if it is about one.
///
/// # Errors
/// The node is not reached, or refuses.
pub(super) async fn stream(there: &There, what: &str, request: Request<Body>) -> ApiResult<Response> {
    let stream = connect(there, what).await?;
    let (response, driver) = send(stream, request).await.map_err(|error| broken(there, &error))?;
    let answer = as_answer(response, driver);
    if answer.status().is_success() {
        return Ok(answer);
    }
    let (status, value) = (answer.status(), value(there, answer).await?);
    let message = value["message"].as_str().unwrap_or_default();
    Err(ApiError::new(status, format!("node {}: {message}", there.hostname)))
}

/// The answer as JSON; null if it says nothing.
///
/// # Errors
/// It ends early, or is no JSON.
pub(super) async fn value(there: &There, answer: Response) -> ApiResult<Value> {
    let failed = |error: String| ApiError::unavailable(format!("read the answer of node {}: {error}", there.hostname));
    let bytes = axum::body::to_bytes(answer.into_body(), MAX_ANSWER_BYTES).await;
    let bytes = bytes.map_err(|error| failed(error.to_string()))?;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))
}
