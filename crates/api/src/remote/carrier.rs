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
    question,
    resolve::{self, There},
};
use crate::{
    error::{ApiError, ApiResult},
    router::Shared,
};

/// Below which a node answers only managers.
pub(super) const ROUTES: &str = "/migration/";

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
        question::stream(&self.there, &format!("volume {}", self.volume), request).await
    }

    /// The answer as JSON; null if it says nothing.
    ///
    /// # Errors
    /// As [`Self::stream`].
    pub(crate) async fn ask(&self, method: Method, rest: &str, body: Body) -> ApiResult<Value> {
        let answer = self.stream(method, rest, body).await?;
        question::value(&self.there, answer).await
    }
}
