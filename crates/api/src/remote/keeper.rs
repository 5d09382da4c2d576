//! Requests of this manager itself to every node about what it has on its disk, and that it shall remove what nothing uses (P27). No node is
//! asked more than it would do for its own clients, and each writes down for whom.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use serde_json::Value;
use tokio::time::timeout;
use types::{Filters, Node, NodeView, ReadReply, ReadRequest};

use super::{
    Caller,
    guard::ON_BEHALF,
    question,
    resolve::{self, There},
};
use crate::{
    cluster,
    error::{ApiError, ApiResult},
    router::Shared,
};

/// What a node does about the whole host for any manager.
const OPEN: [(&str, &str); 5] = [
    ("GET", "/system/df"),
    ("POST", "/containers/prune"),
    ("POST", "/images/prune"),
    ("POST", "/networks/prune"),
    ("POST", "/volumes/prune"),
];

pub(super) fn is_open(method: &Method, path: &str) -> bool {
    OPEN.contains(&(method.as_str(), path))
}

/// The way to one node.
pub(crate) struct Keeper {
    there: There,
    /// For whom it asks.
    caller: String,
}

impl Keeper {
    /// To all nodes by their names, this one too; or why one cannot be asked.
    ///
    /// # Errors
    /// This host is no manager.
    pub(crate) async fn of_all(shared: &Shared, caller: &Caller) -> ApiResult<Vec<(Node, ApiResult<Self>)>> {
        let mut nodes = match cluster::read(&shared.membership, &ReadRequest::Nodes(Filters::new())).await? {
            ReadReply::Nodes(nodes) => nodes,
            other => return Err(cluster::unexpected(&other)),
        };
        nodes.sort_by_cached_key(|view| view.node.shown_name().to_owned());
        let keeper = |NodeView { node, .. }: NodeView| {
            let there = resolve::way(shared, &node, "");
            (node, there.map(|there| Self { there, caller: caller.to_string() }))
        };
        Ok(nodes.into_iter().map(keeper).collect())
    }

    /// # Errors
    /// The node is not reached, refuses, or does not answer in time.
    pub(crate) async fn ask(&self, method: Method, uri: &str, patience: Duration) -> ApiResult<Value> {
        let name = &self.there.hostname;
        let request = Request::builder().method(method).uri(uri).header(header::HOST, "rswarm");
        let request = request.header(ON_BEHALF, &self.caller).body(Body::empty());
        let request = request.map_err(|error| ApiError::bad_request(format!("ask node {name} for {uri}: {error}")))?;
        let asking = async {
            let answer = question::stream(&self.there, "", request).await?;
            question::value(&self.there, answer).await
        };
        timeout(patience, asking).await.unwrap_or_else(|_| {
            let seconds = patience.as_secs();
            Err(ApiError::unavailable(format!(
                "node {name} took the question and has not answered within {seconds} s: look at the load of that host and the \
                 log of its daemon"
            )))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P27: exactly these; what lists, or goes on to other nodes, is not among them.
    #[test]
    fn p27_what_a_manager_may_ask_about_a_whole_host() {
        for (method, path) in OPEN {
            assert!(is_open(&method.parse().expect("a method"), path), "{method} {path}");
        }
        for (method, path) in [
            (Method::POST, "/system/df"),
            (Method::GET, "/system/df/all"),
            (Method::POST, "/system/prune/all"),
            (Method::GET, "/images/json"),
            (Method::GET, "/images/prune"),
            (Method::POST, "/build/prune"),
        ] {
            assert!(!is_open(&method, path), "{method} {path}");
        }
    }
}
