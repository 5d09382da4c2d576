//! `/containers/{id}/forward`, an addition to Docker's API: a TCP connection to a port inside a container, for clients
//! that reach the API and not the container (`rswarm port-forward`). Docker has none.

use axum::{
    Extension, Json, Router,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    response::Response,
    routing::post,
};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::io::{copy_bidirectional, join};

use super::query;
use crate::{
    error::{ApiError, ApiResult},
    hijack::{Head, Slot},
    host::engine,
    router::{ApiVersion, Shared},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/containers/{id}/forward", post(connect).get(look))
}

/// Which container a connection would reach.
async fn look(State(shared): State<Shared>, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    let engine = engine(&shared)?;
    let container = engine.find_container(&id).await?;
    Ok(Json(json!({
        "Id": container.id,
        "Name": container.name,
        "Running": container.is_running,
        "Host": engine.info().hostname,
    })))
}

/// With `?port=`; afterwards both sides send bytes as they like.
async fn connect(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Extension(slot): Extension<Slot>,
    Extension(version): Extension<ApiVersion>,
    headers: HeaderMap,
    raw: RawQuery,
) -> ApiResult<Response> {
    let query = query(raw);
    let text = query.get("port");
    let port = text.parse::<u16>().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| {
        ApiError::bad_request(format!("invalid port {text:?}: say port=80, for example; it is TCP, from 1 to 65535"))
    })?;
    let engine = engine(&shared)?;
    let container = engine.find_container(&id).await?;
    let mut server = engine.dial_container(&container, port).await?;
    slot.take(Head::new(&headers, version, true), move |wire| {
        async move {
            let mut client = join(wire.reader, wire.writer);
            // how it ended the two tell each other
            copy_bidirectional(&mut client, &mut server).await.ok();
        }
        .boxed()
    })
    .await
}
