//! What the API asks of its host. `node::Engine` is the real one; the tests have one without
//! containers.

use std::{collections::BTreeSet, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use node::{
    Engine, HostInfo,
    doctor::Findings,
    engine::{ContainerCounts, ContainerPlace, LocalNetworkView, NetworkError, PlaceIn},
    image::Store,
};
use types::{Check, ContainerAttachment, Network, NetworkId, NetworkSpec};

use crate::{
    error::{ApiError, ApiResult},
    router::Shared,
};

/// The engine, where containers are asked for.
pub(crate) fn engine(shared: &Shared) -> ApiResult<&Engine> {
    shared.host.engine().ok_or_else(|| ApiError::unsupported("this host runs no containers"))
}

/// What becomes of a request about the host's networks.
pub(crate) type Done<'a, T> = BoxFuture<'a, Result<T, NetworkError>>;

pub(crate) trait Host: Send + Sync + 'static {
    /// For what is done with single containers, volumes and events; a host of the tests has none.
    fn engine(&self) -> Option<&Engine>;
    fn info(&self) -> Arc<HostInfo>;
    fn images(&self) -> &Store;
    /// What containers this host has; nothing if that cannot be found out.
    fn containers(&self) -> BoxFuture<'_, ContainerCounts>;
    /// The ids of those that run; or why they cannot be found out.
    fn running_containers(&self) -> BoxFuture<'_, Result<BTreeSet<String>, String>>;
    /// This host's metrics, as Prometheus reads them; or why not.
    fn metrics(&self) -> BoxFuture<'_, Result<String, String>>;
    fn network_findings(&self) -> BoxFuture<'_, Result<Findings, String>>;
    fn path_checks(&self) -> BoxFuture<'_, Vec<Check>>;
    /// Those of this host alone; first the host's own bridge.
    fn local_networks(&self) -> Arc<Vec<LocalNetworkView>>;
    /// Those of the cluster that this host was told of.
    fn cluster_networks(&self) -> Vec<Arc<Network>>;
    /// Places of this host's single containers in them.
    fn cluster_places(&self) -> Vec<ContainerAttachment>;
    fn create_network(&self, spec: NetworkSpec) -> Done<'_, NetworkId>;
    fn remove_network(&self, id: NetworkId) -> Done<'_, ()>;
    fn connect<'a>(&'a self, container: &'a str, place: ContainerPlace) -> Done<'a, ()>;
    fn disconnect<'a>(&'a self, container: &'a str, network: PlaceIn) -> Done<'a, ()>;
    /// The same of `none`, where nobody has a place.
    fn leave_none<'a>(&'a self, container: &'a str) -> Done<'a, ()>;
}

impl Host for Engine {
    fn engine(&self) -> Option<&Engine> {
        Some(self)
    }

    fn info(&self) -> Arc<HostInfo> {
        Engine::info(self)
    }

    fn images(&self) -> &Store {
        Engine::images(self)
    }

    fn containers(&self) -> BoxFuture<'_, ContainerCounts> {
        Engine::container_counts(self).map(Result::unwrap_or_default).boxed()
    }

    fn running_containers(&self) -> BoxFuture<'_, Result<BTreeSet<String>, String>> {
        Engine::running_containers(self).map(|found| found.map_err(|error| error.to_string())).boxed()
    }

    fn metrics(&self) -> BoxFuture<'_, Result<String, String>> {
        Engine::metrics(self).map(|text| text.map_err(|error| error.to_string())).boxed()
    }

    fn network_findings(&self) -> BoxFuture<'_, Result<Findings, String>> {
        Engine::network_findings(self).boxed()
    }

    fn path_checks(&self) -> BoxFuture<'_, Vec<Check>> {
        Engine::path_checks(self).boxed()
    }

    fn local_networks(&self) -> Arc<Vec<LocalNetworkView>> {
        Engine::local_networks(self)
    }

    fn cluster_networks(&self) -> Vec<Arc<Network>> {
        Engine::cluster_networks(self)
    }

    fn cluster_places(&self) -> Vec<ContainerAttachment> {
        Engine::cluster_places(self)
    }

    fn create_network(&self, spec: NetworkSpec) -> Done<'_, NetworkId> {
        Box::pin(Engine::create_network(self, spec))
    }

    fn remove_network(&self, id: NetworkId) -> Done<'_, ()> {
        Box::pin(Engine::remove_network(self, id))
    }

    fn connect<'a>(&'a self, container: &'a str, place: ContainerPlace) -> Done<'a, ()> {
        Box::pin(Engine::connect(self, container, place))
    }

    fn disconnect<'a>(&'a self, container: &'a str, network: PlaceIn) -> Done<'a, ()> {
        Box::pin(Engine::disconnect(self, container, network))
    }

    fn leave_none<'a>(&'a self, container: &'a str) -> Done<'a, ()> {
        Box::pin(Engine::leave_none(self, container))
    }
}
