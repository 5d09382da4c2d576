//! Requests of this manager itself to a node about a volume whose data it carries (P41): the same connections as those about
//! containers, other routes.

use axum::{
    body::Body,
    http::{Method, Request, header},
    response::Response,
};
use serde_json::Value;
use types::NodeId;

use super::{
    forward::{as_answer, broken, connect, send},
    resolve::{self, There},
};
use crate::{
    error::{ApiError, ApiResult},
    router::Shared,
};

/// Below which a node answers only managers.
pub(super) const ROUTES: &str = "/migration/";
/// An answer that is no data.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// One end of the way.
pub(crate) struct Carrier {
    there: There,
    volume: String,
}

impl Carrier {
    /// # Errors
    /// No such node, or it is down.
    pub(crate) async fn to(shared: &Shared, node: &str, volume: &str) -> ApiResult<Self> {
        let there = resolve::node(shared, node, &format!("volume {volume}")).await?;
        Ok(Self { there, volume: volume.to_owned() })
    }

    pub(crate) fn node(&self) -> NodeId {
        self.there.node
    }

    pub(crate) fn hostname(&self) -> &str {
        &self.there.hostname
    }

    /// The same end for another volume.
    pub(crate) async fn with(&self, shared: &Shared, volume: &str) -> ApiResult<Self> {
        Self::to(shared, &self.there.node.to_string(), volume).await
    }

    /// An answer with its body as it comes.
    ///
    /// # Errors
    /// The node is not reached, or refuses.
    pub(crate) async fn stream(&self, method: Method, rest: &str, body: Body) -> ApiResult<Response> {
        let uri = format!("{ROUTES}{}{rest}", self.volume);
        let mut request = Request::builder().uri(uri).header(header::HOST, "rswarm");
        // what is posted is JSON, what is put is data
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.method(method).body(body);
        let request = request.map_err(|error| ApiError::bad_request(format!("volume {}: {error}", self.volume)))?;
        let stream = connect(&self.there, &format!("volume {}", self.volume)).await?;
        let (response, driver) = send(stream, request).await.map_err(|error| broken(&self.there, &error))?;
        let answer = as_answer(response, driver);
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (status, value) = (answer.status(), self.value(answer).await?);
        let message = value["message"].as_str().unwrap_or_default();
        Err(ApiError::new(status, format!("node {}: {message}", self.hostname())))
    }

    /// The answer as JSON; null if it says nothing.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub(crate) async fn ask(&self, method: Method, rest: &str, body: Body) -> ApiResult<Value> {
        let answer = self.stream(method, rest, body).await?;
        self.value(answer).await
    }

    async fn value(&self, answer: Response) -> ApiResult<Value> {
        let failed =
            |error: String| ApiError::unavailable(format!("read the answer of node {}: {error}", self.hostname()));
        let bytes = axum::body::to_bytes(answer.into_body(), MAX_ANSWER_BYTES).await;
        let bytes = bytes.map_err(|error| failed(error.to_string()))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))
    }
}
