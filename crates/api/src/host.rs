//! What the API asks of its host. `node::Engine` is the real one; the tests have one without
//! containers.

use futures::{FutureExt, future::BoxFuture};
use node::{Engine, HostInfo, engine::ContainerCounts, image::Store};

pub(crate) trait Host: Send + Sync + 'static {
    fn info(&self) -> &HostInfo;
    fn images(&self) -> &Store;
    /// What containers this host has; nothing if that cannot be found out.
    fn containers(&self) -> BoxFuture<'_, ContainerCounts>;
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
}
