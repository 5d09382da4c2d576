//! What the API asks of its host. `node::Engine` is the real one; the tests have one without
//! containers.

use futures::{FutureExt as _, future::BoxFuture};
use node::{Engine, HostInfo, doctor::Findings, engine::ContainerCounts, image::Store};
use types::Check;

pub(crate) trait Host: Send + Sync + 'static {
    fn info(&self) -> &HostInfo;
    fn images(&self) -> &Store;
    /// What containers this host has; nothing if that cannot be found out.
    fn containers(&self) -> BoxFuture<'_, ContainerCounts>;
    fn network_findings(&self) -> BoxFuture<'_, Result<Findings, String>>;
    fn path_checks(&self) -> BoxFuture<'_, Vec<Check>>;
}

impl Host for Engine {
    fn info(&self) -> &HostInfo {
        Engine::info(self)
    }

    fn images(&self) -> &Store {
        Engine::images(self)
    }

    fn containers(&self) -> BoxFuture<'_, ContainerCounts> {
        Engine::container_counts(self).map(Result::unwrap_or_default).boxed()
    }

    fn network_findings(&self) -> BoxFuture<'_, Result<Findings, String>> {
        Engine::network_findings(self).boxed()
    }

    fn path_checks(&self) -> BoxFuture<'_, Vec<Check>> {
        Engine::path_checks(self).boxed()
    }
}
