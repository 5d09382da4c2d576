//! `POST /containers/{id}/wait`: the head of the answer goes out at once, so that a client may start the container
//! after it and miss nothing.

use axum::{
    Extension,
    body::Body,
    extract::{Path, RawQuery, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{FutureExt as _, stream};
use node::engine::containers::WaitCondition;
use serde_json::json;

use super::versions::WAITS_FOR_CONDITION;
use crate::{
    error::{ApiError, ApiResult},
    host::engine,
    router::{ApiVersion, Shared},
    routes::query,
};

pub(crate) async fn wait(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    Path(id): Path<String>,
    raw: RawQuery,
) -> ApiResult<Response> {
    let condition = match query(raw).get("condition") {
        _ if version < WAITS_FOR_CONDITION => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => {
            let known = "use not-running, next-exit or removed";
            return Err(ApiError::bad_request(format!("invalid condition: \"{other}\": {known}")));
        }
    };
    let waiting = engine(&shared)?.wait_container(&id, condition).await?;
    let line = waiting.map(|end| {
        let said = match end {
            Ok(end) if end.error.is_empty() => json!({ "StatusCode": end.exit_code }),
            Ok(end) => json!({ "StatusCode": end.exit_code, "Error": { "Message": end.error } }),
            Err(error) => json!({ "StatusCode": 125, "Error": { "Message": error.message } }),
        };
        Ok::<_, std::convert::Infallible>(Bytes::from(format!("{said}\n")))
    });
    let body = Body::from_stream(stream::once(line));
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}
