//! Which network a text means: by full id, name, or the beginning of an id; one of this host or of the cluster. One of
//! this host is found by the id that it was shown with before, too.

use axum::http::StatusCode;
use node::engine::{LocalNetworkView, host_network_id};
use types::{Network, NetworkId, NetworkView, ReadReply, ReadRequest};

use crate::{
    cluster,
    error::{ApiError, ApiResult},
    router::Shared,
};

pub(super) enum Found {
    /// Of this host alone.
    Local(LocalNetworkView),
    Cluster(Box<NetworkView>),
}

/// # Errors
/// When there is none, or several have ids that begin so: who removes one means one.
pub(super) async fn find(shared: &Shared, text: &str) -> ApiResult<Found> {
    let is_it = |network: &Network| network.spec.name.as_str() == text || network.id.to_string() == text;
    if let Some(view) = local(shared, |network| is_it(network) || host_network_id(network.id) == text) {
        return Ok(Found::Local(view));
    }
    let here = beginning(shared, text);
    if shared.membership.cluster().is_some() {
        return match cluster::read_current(&shared.membership, &ReadRequest::Network(text.to_owned())).await {
            Ok(ReadReply::Network(view)) if here.is_empty() || is_it(&view.network) => Ok(Found::Cluster(view)),
            Ok(ReadReply::Network(_)) => Err(ambiguous(text, here.len() + 1)),
            Ok(other) => Err(cluster::unexpected(&other)),
            // several of the cluster
            Err(error) if error.status == StatusCode::BAD_REQUEST => Err(error),
            Err(error) => only(text, here, error),
        };
    }
    let begins = |network: &Network| !text.is_empty() && network.id.to_string().starts_with(text);
    let told_of = shared.host.cluster_networks();
    let mut meant: Vec<&Network> = told_of.iter().map(|network| &**network).filter(|network| is_it(network)).collect();
    if meant.is_empty() {
        meant = told_of.iter().map(|network| &**network).filter(|network| begins(network)).collect();
    }
    match meant[..] {
        [] => {
            let missing =
                format!("network {text} not found on this host; the networks of a cluster are known to its managers");
            only(text, here, ApiError::not_found(missing))
        }
        [network] if here.is_empty() || is_it(network) => {
            let places = shared.host.cluster_places();
            let containers = places.into_iter().filter(|place| place.network == network.id).collect();
            Ok(Found::Cluster(Box::new(NetworkView { containers, ..told(network) })))
        }
        _ => Err(ambiguous(text, here.len() + meant.len())),
    }
}

/// Those of this host's own networks whose ids begin so; by the ids of before where none is shown so.
fn beginning(shared: &Shared, text: &str) -> Vec<LocalNetworkView> {
    let all = shared.host.local_networks();
    let by = |id_of: fn(NetworkId) -> String| -> Vec<LocalNetworkView> {
        let begins = |network: &Network| !text.is_empty() && id_of(network.id).starts_with(text);
        all.iter().filter(|view| view.network.as_ref().is_some_and(|network| begins(network))).cloned().collect()
    };
    let shown = by(host_network_id);
    if shown.is_empty() { by(|id| id.to_string()) } else { shown }
}

fn only(text: &str, found: Vec<LocalNetworkView>, missing: ApiError) -> ApiResult<Found> {
    let count = found.len();
    match found.into_iter().next() {
        None => Err(missing),
        Some(view) if count == 1 => Ok(Found::Local(view)),
        Some(_) => Err(ambiguous(text, count)),
    }
}

fn ambiguous(text: &str, count: usize) -> ApiError {
    ApiError::bad_request(format!("network {text} is ambiguous ({count} matches found on ID prefix): give its name"))
}

/// The first of this host's own networks that is meant.
pub(super) fn local(shared: &Shared, is_it: impl Fn(&Network) -> bool) -> Option<LocalNetworkView> {
    let all = shared.host.local_networks();
    all.iter().find(|view| view.network.as_ref().is_some_and(|network| is_it(network))).cloned()
}

/// A network of the cluster as a host knows it that is no manager: without what is in it.
pub(super) fn told(network: &Network) -> NetworkView {
    NetworkView {
        network: network.clone(),
        usage: Vec::new(),
        services: Vec::new(),
        tasks: Vec::new(),
        containers: Vec::new(),
    }
}
