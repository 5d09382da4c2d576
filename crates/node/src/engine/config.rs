//! What the daemon tells the engine.

use std::{ffi::OsString, path::PathBuf};

use image::{StorageDriver, Transfers};

use super::{
    defaults::ContainerDefaults,
    events::{Event, EventKind},
    image_gc::ImageGc,
    network::{BridgeDefaults, HostNetwork},
};

/// Where things are and which helpers to start.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Survives a reboot: images, volumes, container records. `/var/lib/rswarm`.
    pub state_dir: PathBuf,
    /// Gone after a reboot: sockets, namespaces, mounts. `/run/rswarm`.
    pub run_dir: PathBuf,
    /// The per-container shim's binary.
    pub shim: PathBuf,
    /// The OCI runtime: `embedded`, a name looked up in PATH, or a path (`runc`, `/usr/bin/crun`).
    pub oci_runtime: String,
    /// How root filesystems of new containers are made; nothing: the best way that works in the state directory.
    pub storage_driver: Option<StorageDriver>,
    /// What may change while the daemon runs.
    pub settings: Settings,
    /// Program and first arguments of the network data plane: `[/proc/self/exe, netd]`.
    pub netd: Vec<OsString>,
    /// Version of this rswarm, for the node's description.
    pub version: String,
    /// Where vendors describe their devices (CDI); of a device the last one that does counts.
    pub cdi_directories: Vec<PathBuf>,
    /// Who seals the packets of encrypted networks on this host.
    pub encryption: overlay::EncryptionBackend,
    /// What bridge networks without a subnet of their own get one of, the first that is free.
    pub address_pools: Vec<overlay::Cidr>,
    /// The default bridge and what leads to published ports.
    pub network: HostNetwork,
}

/// What the daemon reads again on SIGHUP (parity E-50).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// For `info` alone.
    pub debug: bool,
    /// Labels of this engine (`engine.labels.X` in constraints).
    pub labels: types::Labels,
    /// What this host has besides CPUs and memory, for services that reserve it.
    pub generic_resources: types::GenericResources,
    /// Registries (`host[:port]`, networks) spoken to with TLS without checking it, or without TLS.
    pub insecure_registries: Vec<String>,
    /// Base URLs or hosts asked for Docker Hub's images before Docker Hub itself.
    pub registry_mirrors: Vec<String>,
    /// Blobs that go over the network at once, each way.
    pub transfers: Transfers,
    /// When images that tasks brought are removed to make room.
    pub image_gc: ImageGc,
    /// For containers that are made from now on.
    pub defaults: ContainerDefaults,
    /// For bridge networks of this host that are made from now on.
    pub bridge_defaults: BridgeDefaults,
}

impl Settings {
    /// What `/events` tells of a reload, in Docker's words.
    pub(super) fn event(&self, hostname: &str) -> Event {
        let list = |words: &[String]| serde_json::to_string(words).expect("plain strings");
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Event::new(EventKind::Daemon, "reload", hostname)
            .with("name", hostname)
            .with("debug", self.debug.to_string())
            .with("labels", list(&labels))
            .with("insecure-registries", list(&self.insecure_registries))
            .with("registry-mirrors", list(&self.registry_mirrors))
            .with("max-concurrent-downloads", self.transfers.downloads.to_string())
            .with("max-concurrent-uploads", self.transfers.uploads.to_string())
    }
}
