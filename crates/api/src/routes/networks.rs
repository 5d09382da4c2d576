//! `/networks…`.
//!
//! Networks of the cluster are the managers', and on other hosts those that the host was told of; the three that
//! every host has and those of this host alone are put beside them.

mod connect;
mod filter;
mod find;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State},
    http::StatusCode,
};
use node::engine::{
    NetworkErrorKind,
    events::{Event, EventKind},
    host_network_id, option_warning, predefined_network,
};
use serde_json::{Value, json};
use types::{Filters, Name, NetworkId, NetworkView, ReadReply, ReadRequest, WriteReply, WriteRequest};

use super::{query, tasks};
use crate::{
    bodies::JsonBody,
    cluster,
    convert::{
        network::{PREDEFINED, Wanted, add_defaults, driver_name, is_predefined, read, read_added},
        network_inspected::{write_inspected, write_verbose},
        network_view::{
            Networks, predefined, write, write_bridge, write_bridge_inspected, write_local, write_local_inspected,
            write_predefined,
        },
        writer::Fields,
    },
    error::{ApiError, ApiResult},
    query::Query,
    router::{ApiVersion, Shared},
};
pub(crate) use connect::{connect, disconnect};
use filter::{Criteria, Subject, check_keys};
use find::{Found, find};

/// For tasks of removed services to end: longer than the usual grace period of a stop.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// All networks of the cluster; on a host that is no manager those that it was told of (P30).
async fn of_cluster(shared: &Shared) -> ApiResult<Vec<NetworkView>> {
    if shared.membership.cluster().is_none() {
        return Ok(shared.host.cluster_networks().iter().map(|network| find::told(network)).collect());
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
    let networks = of_cluster(shared).await?;
    used.extend(networks.iter().filter(|view| !view.containers.is_empty()).map(|view| view.network.id));
    let ingress = networks.into_iter().map(|view| view.network).find(|network| network.spec.ingress);
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

/// Lists without what is in the networks.
const LISTS_WITHOUT_CONTAINERS: ApiVersion = ApiVersion(1, 28);
/// `EnableIPv4` of new networks.
const ASKS_FOR_IPV4: ApiVersion = ApiVersion(1, 48);

pub(crate) async fn list(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    raw: RawQuery,
) -> ApiResult<Json<Vec<Value>>> {
    let is_detailed = version < LISTS_WITHOUT_CONTAINERS;
    let filters = query(raw).filters()?;
    check_keys(&filters, &["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let criteria = Criteria::read(&filters)?;
    let used = if criteria.asks_for_use() { in_use(&shared).await? } else { BTreeSet::new() };
    let mut shown = Vec::new();
    let since = shared.host.info().since;
    for (name, driver) in PREDEFINED {
        let subject = Subject::predefined(name, driver_name(driver));
        if criteria.fits(&subject) {
            let locals = shared.host.local_networks();
            let bridge = locals.first().filter(|view| name == "bridge" && view.network.is_none());
            shown.push(match bridge {
                Some(bridge) if is_detailed => with_names(&shared, write_bridge_inspected(bridge, "", since)),
                Some(bridge) => write_bridge(bridge, "", since),
                None => write_predefined(name, driver, "", since),
            });
        }
    }
    for view in shared.host.local_networks().iter() {
        let Some(network) = &view.network else { continue };
        if criteria.fits(&Subject::local(network, !view.endpoints.is_empty())) {
            let written = if is_detailed { write_local_inspected(view) } else { write_local(view) };
            shown.extend(written.map(Fields::done));
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
    let since = shared.host.info().since;
    let locals = shared.host.local_networks();
    let name = predefined_network(&name).map_or(name, str::to_owned);
    if let Some(bridge) = locals.first().filter(|view| name == "bridge" && view.network.is_none()) {
        return Ok(Json(with_names(&shared, write_bridge_inspected(bridge, scope, since))));
    }
    if let Some(found) = predefined(&name, scope, since) {
        return Ok(Json(found));
    }
    let elsewhere = || ApiError::not_found(format!("network {name} not found with scope {scope}"));
    let view = match find(&shared, &name).await {
        Ok(Found::Local(view)) if matches!(scope, "" | "local") => {
            return write_local_inspected(&view).map(|fields| Json(fields.done())).ok_or_else(elsewhere);
        }
        Ok(Found::Cluster(view)) if matches!(scope, "" | "swarm") => view,
        Ok(_) => return Err(elsewhere()),
        Err(error) => return Err(error),
    };
    let here = shared.membership.status().node;
    let is_verbose = query.flag("verbose");
    // the other nodes are known to managers
    if !is_verbose && shared.membership.cluster().is_none() {
        return Ok(Json(write_inspected(&view, here, &[]).done()));
    }
    let nodes = match cluster::read(&shared.membership, &ReadRequest::Nodes(Filters::new())).await? {
        ReadReply::Nodes(nodes) => nodes,
        other => return Err(cluster::unexpected(&other)),
    };
    let shown = match is_verbose {
        true => write_verbose(&view, here, &nodes),
        false => write_inspected(&view, here, &nodes),
    };
    Ok(Json(shown.done()))
}

pub(crate) async fn create(
    State(shared): State<Shared>,
    Extension(version): Extension<ApiVersion>,
    JsonBody(mut body): JsonBody,
) -> ApiResult<(StatusCode, Json<Value>)> {
    if version < ASKS_FOR_IPV4
        && let Some(body) = body.as_object_mut()
    {
        body.remove("EnableIPv4");
    }
    add_defaults(&mut body, &shared.host.info().settings.bridge_defaults);
    let made = |id: String, warning: Option<String>| {
        let warning = warning.unwrap_or_default();
        Ok((StatusCode::CREATED, Json(json!({ "Id": id, "Warning": warning }))))
    };
    let spec = match read(&body)? {
        Wanted::Cluster(spec) => spec,
        Wanted::HostOnly(spec) => {
            check_name(&shared, &spec.name).await?;
            let warning = option_warning(&spec);
            let id = shared.host.create_network(*spec).await?;
            return made(host_network_id(id), warning);
        }
        Wanted::Predefined(name) => {
            let message = format!("operation is not permitted on predefined {name} network: choose another name");
            return Err(ApiError::new(StatusCode::FORBIDDEN, message));
        }
    };
    if find::local(&shared, |network| network.spec.name == spec.name).is_some() {
        return Err(name_taken(&spec.name, "on this host"));
    }
    let warning = option_warning(&spec);
    match cluster::write(&shared.membership, &WriteRequest::CreateNetwork(spec)).await? {
        WriteReply::CreatedNetwork(id) => made(id.to_string(), warning),
        other => Err(cluster::unexpected(&other)),
    }
}

/// Of this engine alone: one more subnet for an overlay network that is there, which what is in it goes on to use as it is
/// (P09). The body is one entry of `IPAM.Config`.
pub(crate) async fn add_subnet(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody,
) -> ApiResult<StatusCode> {
    let subnet = read_added(&body)?;
    let network = match find(&shared, &name).await? {
        Found::Cluster(view) => view.network.id,
        Found::Local(_) => {
            let message =
                format!("network {name} is of this host alone: only an overlay network can get another subnet");
            return Err(ApiError::bad_request(message));
        }
    };
    cluster::write(&shared.membership, &WriteRequest::AddSubnet { network, subnet }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Names lead to one network: those of the host and of the cluster must differ, as far as this host can see.
async fn check_name(shared: &Shared, name: &Name) -> ApiResult<()> {
    match of_cluster(shared).await?.iter().any(|view| view.network.spec.name == *name) {
        true => Err(name_taken(name, "in the cluster")),
        false => Ok(()),
    }
}

fn name_taken(name: &Name, place: &str) -> ApiError {
    let message = format!("network with name {name} already exists {place}: choose another, or remove that one first");
    ApiError::new(StatusCode::CONFLICT, message)
}

pub(crate) async fn remove(State(shared): State<Shared>, Path(name): Path<String>) -> ApiResult<StatusCode> {
    let meant = predefined_network(&name).unwrap_or(name.as_str());
    if is_predefined(meant) {
        let message = format!("{meant} is a pre-defined network and cannot be removed");
        return Err(ApiError::new(StatusCode::FORBIDDEN, message));
    }
    let id = match find(&shared, &name).await? {
        Found::Local(view) => {
            let id = view.network.map(|network| network.id);
            let id = id.ok_or_else(|| ApiError::not_found(format!("network {name} not found")))?;
            shared.host.remove_network(id).await?;
            return Ok(StatusCode::NO_CONTENT);
        }
        Found::Cluster(view) => view.network.id,
    };
    let until = Instant::now() + SETTLES_WITHIN;
    loop {
        match cluster::write(&shared.membership, &WriteRequest::RemoveNetwork(id)).await {
            Ok(_) => return Ok(StatusCode::NO_CONTENT),
            // tasks of removed services are ending: `stack rm` removes a service and its network in one breath
            Err(error) if error.status == StatusCode::CONFLICT && Instant::now() < until => {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
            // The request has nothing in it that could be wrong: the network is in use.
            Err(error) if matches!(error.status, StatusCode::BAD_REQUEST | StatusCode::CONFLICT) => {
                return Err(ApiError::new(StatusCode::FORBIDDEN, error.message));
            }
            Err(error) => return Err(error),
        }
    }
}

/// On the host's bridge, where nobody is found by a name, containers are shown by the names that they have.
fn with_names(shared: &Shared, mut bridge: Value) -> Value {
    if let (Some(engine), Some(containers)) = (shared.host.engine(), bridge["Containers"].as_object_mut()) {
        let names = engine.container_names();
        for (id, place) in containers {
            if let Some(name) = names.get(id) {
                place["Name"] = json!(name);
            }
        }
    }
    bridge
}

/// Removes the networks of this host and, on a manager, of the cluster that nothing uses. One that is taken into
/// use meanwhile stays.
pub(crate) async fn prune(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Value>> {
    let query: Query = query(raw);
    let filters = query.filters()?;
    check_keys(&filters, &["label", "label!", "until"])?;
    let criteria = Criteria::read(&filters)?;
    let mut deleted = Vec::new();
    for view in shared.host.local_networks().iter().filter(|view| view.endpoints.is_empty()) {
        let Some(network) = view.network.as_ref().filter(|network| !network.spec.config_only) else { continue };
        if criteria.fits(&Subject::local(network, false)) {
            match shared.host.remove_network(network.id).await {
                Ok(()) => deleted.push(network.spec.name.to_string()),
                Err(error) if error.kind == NetworkErrorKind::Failed => return Err(error.into()),
                Err(_) => {}
            }
        }
    }
    let (used, of_cluster) = match shared.membership.cluster() {
        Some(_) => (in_use(&shared).await?, of_cluster(&shared).await?),
        None => Default::default(),
    };
    for NetworkView { network, .. } in of_cluster {
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
    if let Some(engine) = shared.host.engine() {
        engine.events().publish(Event::new(EventKind::Network, "prune", "").with("reclaimed", "0"));
    }
    Ok(Json(json!({ "NetworksDeleted": (!deleted.is_empty()).then_some(deleted) })))
}
