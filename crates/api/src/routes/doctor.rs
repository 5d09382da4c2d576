//! `/doctor…`: what this host finds when it looks at itself. Beside Docker's API, for `rswarm` alone.

use axum::{Json, extract::State};
use node::{checkup, membership::LocalState};
use serde_json::Value;
use types::Check;

use crate::{
    convert::doctor::{write_check, write_findings},
    error::{ApiError, ApiResult},
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
