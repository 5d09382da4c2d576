//! `/doctor…`: what this host finds when it looks at itself. Beside Docker's API, for `rswarm` alone.

use axum::{Json, extract::State};
use futures::{StreamExt as _, stream};
use identity::NodeIdentity;
use node::{checkup, doctor::Findings, membership::LocalState};
use serde_json::Value;
use types::{Check, Node, NodeState, ReadReply, ReadRequest};

use crate::{
    cluster,
    convert::doctor::{write_check, write_findings, write_node},
    error::{ApiError, ApiResult, NOT_IN_A_CLUSTER},
    router::Shared,
};

/// `GET /doctor`: what the daemon knows beside what anybody can see on the host.
pub(crate) async fn checks(State(shared): State<Shared>) -> Json<Value> {
    let status = shared.membership.status();
    let mut checks = vec![Check::pass("rswarm daemon", format!("runs, version {}", shared.host.info().engine_version))];
    match status.local_state {
        LocalState::Active => {}
        LocalState::Inactive => checks.push(Check::pass("cluster", "this host is in none")),
        state => checks.push(Check::fail("cluster", format!("this node is {state}: {}", status.error))),
    }
    if let Some(identity) = &status.identity {
        let (managers, paths) = tokio::join!(checkup::managers(identity, &status.managers), shared.host.path_checks());
        checks.extend(managers.into_iter().chain(paths));
    }
    Json(checks.iter().map(write_check).collect())
}

/// `GET /doctor/networks`
pub(crate) async fn networks(State(shared): State<Shared>) -> ApiResult<Json<Value>> {
    let found = shared.host.network_findings().await;
    let found = found.map_err(|why| ApiError::internal(format!("look at the networks of this host: {why}")))?;
    Ok(Json(write_findings(&found)))
}

/// Nodes that look at once: each look is theirs, but the answers are gathered here.
const ASKED_AT_ONCE: usize = 16;

/// `GET /doctor/networks/all`: the same of every node, for managers. A node that says nothing has a reason.
pub(crate) async fn all_networks(State(shared): State<Shared>) -> ApiResult<Json<Value>> {
    let mut nodes = match cluster::read(&shared.membership, &ReadRequest::Nodes(types::Filters::default())).await? {
        ReadReply::Nodes(nodes) => nodes,
        other => return Err(cluster::unexpected(&other)),
    };
    let identity = shared.membership.status().identity.ok_or_else(|| ApiError::unavailable(NOT_IN_A_CLUSTER))?;
    nodes.sort_by_cached_key(|view| hostname(&view.node).to_owned());
    let asked = nodes.into_iter().map(|view| {
        let (shared, identity, node) = (shared.clone(), identity.clone(), view.node);
        async move {
            let said = findings(&shared, &identity, &node).await;
            write_node(node.id, hostname(&node), node.status.address, &said)
        }
    });
    let answers: Vec<Value> = stream::iter(asked).buffered(ASKED_AT_ONCE).collect().await;
    Ok(Json(answers.into()))
}

async fn findings(shared: &Shared, identity: &NodeIdentity, node: &Node) -> Result<Findings, String> {
    if node.id == identity.node() {
        return shared.host.network_findings().await;
    }
    let status = &node.status;
    match status.address {
        _ if status.state == NodeState::Down => Err(format!("the node is down: {}", status.message)),
        None => Err("the managers do not know its address yet: it has had no session with one".to_owned()),
        Some(address) => checkup::networks(identity, node.id, address).await,
    }
}

fn hostname(node: &Node) -> &str {
    node.description.as_ref().map_or("", |description| &description.hostname)
}
