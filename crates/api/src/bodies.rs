//! Request bodies.

use axum::body::{Body, Bytes};
use serde_json::Value;

use crate::error::{ApiError, ApiResult};

/// A spec that publishes each port of one protocol, and says all of each, takes half of this.
const MAX_JSON_BYTES: usize = 16 << 20;

/// The JSON of a body; null if there is none.
pub(crate) async fn json(body: Body) -> ApiResult<Value> {
    let bytes = axum::body::to_bytes(body, MAX_JSON_BYTES).await.map_err(|error| {
        ApiError::bad_request(format!("read the request body (at most {MAX_JSON_BYTES} bytes): {error}"))
    })?;
    parse(&bytes)
}

fn parse(bytes: &Bytes) -> ApiResult<Value> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad_request(format!("the request body is not JSON: {error}")))
}
