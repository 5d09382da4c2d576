//! What the daemon tells the engine.

use std::{ffi::OsString, path::PathBuf};

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
    /// Registries (`host[:port]`) spoken to without TLS or without checking it.
    pub insecure_registries: Vec<String>,
    /// Base URLs or hosts asked for Docker Hub's images before Docker Hub itself.
    pub registry_mirrors: Vec<String>,
    /// Program and first arguments of the network data plane: `[/proc/self/exe, netd]`.
    pub netd: Vec<OsString>,
    /// Version of this rswarm, for the node's description.
    pub version: String,
    /// Labels of this engine (`engine.labels.X` in constraints).
    pub labels: types::Labels,
    /// What this host has besides CPUs and memory, for services that reserve it.
    pub generic_resources: types::GenericResources,
    /// Where vendors describe their devices (CDI); of a device the last one that does counts.
    pub cdi_directories: Vec<PathBuf>,
    /// Who seals the packets of encrypted networks on this host.
    pub encryption: overlay::EncryptionBackend,
}
