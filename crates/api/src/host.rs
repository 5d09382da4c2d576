//! What the API asks of its host. `node::Engine` is the real one; the tests have one without
//! containers.

use node::{Engine, HostInfo, image::Store};

pub(crate) trait Host: Send + Sync + 'static {
    fn info(&self) -> &HostInfo;
    fn images(&self) -> &Store;
}

impl Host for Engine {
    fn info(&self) -> &HostInfo {
        Engine::info(self)
    }

    fn images(&self) -> &Store {
        Engine::images(self)
    }
}
