//! `/networks…`.
//!
//! Networks of the cluster are the managers'; the three that every host has are put beside them.

mod filter;

use std::collections::BTreeSet;

use axum::{
    Json,
    body::Body,
    extract::{Path, RawQuery, State},
    http::StatusCode,
};
use serde_json::{Value, json};
use types::{Filters, NetworkId, NetworkView, ReadReply, ReadRequest, WriteReply, WriteRequest};

use super::{query, tasks};
use crate::{
    bodies, cluster,
    convert::{
        network::{PREDEFINED, Wanted, driver_name, is_predefined, read},
        network_view::{Networks, predefined, write, write_inspected, write_predefined, write_verbose},
    },
    error::{ApiError, ApiResult},
    query::Query,
    router::Shared,
};
use filter::{Criteria, Subject, check_keys};

/// All networks of the cluster; none on a host that is no manager.
async fn of_cluster(shared: &Shared) -> ApiResult<Vec<NetworkView>> {
    if shared.membership.cluster().is_none() {
        return Ok(Vec::new());
    }
    match cluster::read(&shared.membership, &ReadRequest::Networks(Filters::new())).await? {
        ReadReply::Networks(networks) => Ok(networks),
        other => Err(cluster::unexpected(&other)),
    }
}

/// Those that tasks or services refer to, for the parts of them that name networks.
pub(crate) async fn known(shared: &Shared) -> ApiResult<Networks> {
    Ok(of_cluster(shared).await?.into_iter().map(|view| (view.network.id, view.network)).collect())
}

/// Networks that some service or task has a place in.
async fn in_use(shared: &Shared) -> ApiResult<BTreeSet<NetworkId>> {
    if shared.membership.cluster().is_none() {
        return Ok(BTreeSet::new());
    }
    let mut used = BTreeSet::new();
    let ingress = of_cluster(shared).await?.into_iter().map(|view| view.network).find(|network| network.spec.ingress);
    for view in tasks::services(shared).await?.values() {
        used.extend(ingress.as_ref().filter(|_| view.service.publishes()).map(|network| network.id));
        used.extend(view.service.virtual_ips.iter().map(|vip| vip.network));
        used.extend(
            view.service.spec.task.networks.iter().filter_map(|network| network.target.parse::<NetworkId>().ok()),
        );
    }
    for task in tasks::fetch(shared, Filters::new()).await? {
        used.extend(task.attachments.iter().map(|place| place.network));
    }
    Ok(used)
}

pub(crate) async fn list(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Vec<Value>>> {
    let filters = query(raw).filters()?;
    check_keys(&filters, &["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let criteria = Criteria::read(&filters)?;
    let used = if criteria.asks_for_use() { in_use(&shared).await? } else { BTreeSet::new() };
    let mut shown = Vec::new();
    for (name, driver) in PREDEFINED {
        let subject = Subject::predefined(name, driver_name(driver));
        if criteria.fits(&subject) {
            shown.push(write_predefined(name, driver, ""));
        }
    }
    for NetworkView { network, .. } in of_cluster(&shared).await? {
        if criteria.fits(&Subject::of(&network, used.contains(&network.id))) {
            shown.push(write(&network).done());
        }
    }
    Ok(Json(shown))
}

pub(crate) async fn inspect(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    raw: RawQuery,
) -> ApiResult<Json<Value>> {
    let query = query(raw);
    let scope = query.get("scope");
    if let Some(found) = predefined(&name, scope) {
        return Ok(Json(found));
    }
    if !matches!(scope, "" | "swarm") {
        return Err(ApiError::not_found(format!("network {name} not found with scope {scope}")));
    }
    let view = find(&shared, &name).await?;
    let here = shared.membership.status().node;
    if !query.flag("verbose") {
        return Ok(Json(write_inspected(&view, here).done()));
    }
    let nodes = match cluster::read(&shared.membership, &ReadRequest::Nodes(Filters::new())).await? {
        ReadReply::Nodes(nodes) => nodes,
        other => return Err(cluster::unexpected(&other)),
    };
    Ok(Json(write_verbose(&view, here, &nodes).done()))
}

/// By full id, name, or the beginning of an id.
async fn find(shared: &Shared, name: &str) -> ApiResult<Box<NetworkView>> {
    if shared.membership.cluster().is_none() {
        return Err(ApiError::not_found(format!(
            "network {name} not found on this host; the networks of a cluster are known to its managers"
        )));
    }
    match cluster::read_current(&shared.membership, &ReadRequest::Network(name.to_owned())).await? {
        ReadReply::Network(view) => Ok(view),
        other => Err(cluster::unexpected(&other)),
    }
}

pub(crate) async fn create(State(shared): State<Shared>, body: Body) -> ApiResult<(StatusCode, Json<Value>)> {
    let spec = match read(&bodies::json(body).await?)? {
        Wanted::Cluster(spec) => spec,
        Wanted::HostOnly(driver) => {
            return Err(ApiError::unsupported(format!(
                "networks of a single host (driver {}) are not there yet; make one for the cluster with --driver overlay",
                driver_name(driver)
            )));
        }
        Wanted::Predefined(name) => {
            let message = format!("operation is not permitted on predefined {name} network: choose another name");
            return Err(ApiError::new(StatusCode::FORBIDDEN, message));
        }
    };
    match cluster::write(&shared.membership, &WriteRequest::CreateNetwork(spec)).await? {
        WriteReply::CreatedNetwork(id) => Ok((StatusCode::CREATED, Json(json!({ "Id": id, "Warning": "" })))),
        other => Err(cluster::unexpected(&other)),
    }
}

pub(crate) async fn remove(State(shared): State<Shared>, Path(name): Path<String>) -> ApiResult<StatusCode> {
    if is_predefined(&name) {
        let message = format!("{name} is a pre-defined network and cannot be removed");
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    }
    let id = find(&shared, &name).await?.network.id;
    let removed = cluster::write(&shared.membership, &WriteRequest::RemoveNetwork(id)).await;
    // The request has nothing in it that could be wrong: the network is in use.
    removed.map(|_| StatusCode::NO_CONTENT).map_err(|error| match error.status {
        StatusCode::BAD_REQUEST => ApiError::new(StatusCode::FORBIDDEN, error.message),
        _ => error,
    })
}

/// Removes the networks of the cluster that nothing uses. One that is taken into use meanwhile stays.
pub(crate) async fn prune(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Value>> {
    let query: Query = query(raw);
    let filters = query.filters()?;
    check_keys(&filters, &["label", "label!", "until"])?;
    let criteria = Criteria::read(&filters)?;
    let used = in_use(&shared).await?;
    let mut deleted = Vec::new();
    for NetworkView { network, .. } in of_cluster(&shared).await? {
        let is_spare = !network.spec.ingress && !network.spec.config_only && !used.contains(&network.id);
        if !is_spare || !criteria.fits(&Subject::of(&network, false)) {
            continue;
        }
        match cluster::write(&shared.membership, &WriteRequest::RemoveNetwork(network.id)).await {
            Ok(_) => deleted.push(network.spec.name.to_string()),
            Err(error) if error.status.is_client_error() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Json(json!({ "NetworksDeleted": deleted })))
}

pub(crate) async fn connect() -> ApiError {
    ApiError::unsupported(
        "connecting single containers to networks is not there yet; attach a service with `service update --network-add`",
    )
}

pub(crate) async fn disconnect() -> ApiError {
    ApiError::unsupported(
        "disconnecting single containers from networks is not there yet; detach a service with `service update \
         --network-rm`",
    )
}
