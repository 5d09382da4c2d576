//! Devices that vendors of this host describe (CDI): given to containers when they are made, listed in `info`.

use runtime::{
    ContainerConfig,
    cdi::{CdiError, DEFAULT_DIRECTORIES, Registry},
};
use types::DeviceClaim;

use super::Engine;

/// Where vendors' descriptions are by default.
pub const CDI_DIRECTORIES: [&str; 2] = DEFAULT_DIRECTORIES;

impl Engine {
    /// `vendor/class=name` of each device, as the files say now.
    pub async fn cdi_devices(&self) -> Vec<String> {
        let registry = self.read_cdi().await;
        registry.problems().iter().for_each(|problem| tracing::debug!(problem, "device description"));
        registry.names().map(str::to_owned).collect()
    }

    /// The configuration with what the claimed devices need.
    pub(super) async fn with_devices(
        &self,
        claims: &[DeviceClaim],
        mut config: ContainerConfig,
    ) -> Result<ContainerConfig, CdiError> {
        if !claims.is_empty() {
            self.read_cdi().await.inject(claims, &mut config)?;
        }
        Ok(config)
    }

    async fn read_cdi(&self) -> Registry {
        let directories = self.config().cdi_directories.clone();
        // it only fails when the daemon stops
        tokio::task::spawn_blocking(move || Registry::read(&directories)).await.unwrap_or_default()
    }
}
