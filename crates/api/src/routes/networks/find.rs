//! Which network a text means: by full id, name, or the beginning of an id; one of this host or of the cluster. One of
//! this host is found by the id that it was shown with before, too.

use node::engine::{LocalNetworkView, host_network_id};
use types::{Network, NetworkView, ReadReply, ReadRequest};

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

pub(super) async fn find(shared: &Shared, text: &str) -> ApiResult<Found> {
    let is_it = |network: &Network| network.spec.name.as_str() == text || network.id.to_string() == text;
    if let Some(view) = local(shared, |network| is_it(network) || host_network_id(network.id) == text) {
        return Ok(Found::Local(view));
    }
    let begins = |network: &Network| !text.is_empty() && network.id.to_string().starts_with(text);
    let begins_here =
        |network: &Network| begins(network) || (!text.is_empty() && host_network_id(network.id).starts_with(text));
    if shared.membership.cluster().is_some() {
        return match cluster::read_current(&shared.membership, &ReadRequest::Network(text.to_owned())).await {
            Ok(ReadReply::Network(view)) => Ok(Found::Cluster(view)),
            Ok(other) => Err(cluster::unexpected(&other)),
            Err(error) => local(shared, begins_here).map(Found::Local).ok_or(error),
        };
    }
    let told_of = shared.host.cluster_networks();
    let exact = told_of.iter().find(|network| is_it(network));
    if let Some(network) = exact.or_else(|| told_of.iter().find(|network| begins(network))) {
        let places = shared.host.cluster_places();
        let containers = places.into_iter().filter(|place| place.network == network.id).collect();
        return Ok(Found::Cluster(Box::new(NetworkView { containers, ..told(network) })));
    }
    let missing = || {
        ApiError::not_found(format!(
            "network {text} not found on this host; the networks of a cluster are known to its managers"
        ))
    };
    local(shared, begins_here).map(Found::Local).ok_or_else(missing)
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
