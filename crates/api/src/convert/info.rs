//! `GET /info` and `GET /version`.

use node::{HostInfo, engine::ContainerCounts, membership::Status};
use serde_json::{Map, Value, json};
use types::{Cluster, Counts, Seccomp};

use super::{policy, swarm, writer::Fields};

/// What is counted and known when `/info` is asked.
pub(crate) struct Facts<'a> {
    pub(crate) host: &'a HostInfo,
    pub(crate) membership: &'a Status,
    /// Known on managers only.
    pub(crate) cluster: Option<&'a Cluster>,
    pub(crate) counts: Option<Counts>,
    /// Why the two above are missing although this host is a manager.
    pub(crate) cluster_error: Option<String>,
    pub(crate) containers: ContainerCounts,
    /// Those that vendors describe, by their names.
    pub(crate) devices: Vec<String>,
    pub(crate) images: usize,
    pub(crate) daemon: DaemonFacts,
    /// RFC 3339.
    pub(crate) now: String,
}

/// What is counted of the daemon itself, and of the kernel under it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DaemonFacts {
    pub(crate) open_files: usize,
    /// What runs beside each other in it: Go's word for that is in the field's name.
    pub(crate) tasks: usize,
    /// Readers of events.
    pub(crate) listeners: usize,
    pub(crate) limits_swap: bool,
}

/// The names that a container may ask its runtime by, of which each is shown the first.
const RUNTIMES: [&str; 2] = ["runc", "io.containerd.runc.v2"];

/// The runtime that has an init for those who ask for one, and the program that is it.
const EMBEDDED: &str = "embedded";
const INIT: &str = "rswarm-shim";

/// Docker's word for a part whose version it cannot tell. These are other programs than ours.
const UNKNOWN_COMMIT: &str = "N/A";

/// With the seccomp profile that containers get by default.
fn security_options(host: &HostInfo) -> Vec<String> {
    let profile = match host.settings.defaults.seccomp {
        Seccomp::Default => "builtin",
        Seccomp::Unconfined => "unconfined",
        Seccomp::Profile(_) => "custom",
    };
    let named = |option: &String| option.replace("profile=builtin", &format!("profile={profile}"));
    host.security_options.iter().map(named).collect()
}

pub(crate) fn write(facts: &Facts<'_>) -> Value {
    let (host, containers) = (facts.host, facts.containers);
    let labels: Vec<String> = host.settings.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let fields = Fields::new()
        .set("ID", facts.membership.node.map(|id| id.to_string()).unwrap_or_default())
        .set("Containers", containers.running + containers.paused + containers.stopped)
        .set("ContainersRunning", containers.running)
        .set("ContainersPaused", containers.paused)
        .set("ContainersStopped", containers.stopped)
        .set("Images", facts.images)
        .set("Driver", &host.storage_driver)
        .set("DriverStatus", json!(host.storage_status))
        .set(
            "Plugins",
            json!({
                "Volume": node::engine::VOLUME_DRIVERS,
                "Network": node::engine::NETWORK_DRIVERS,
                "Authorization": null,
                "Log": node::engine::LOG_DRIVERS,
            }),
        );
    programs(counts(limits(fields, facts), facts.daemon), host)
        .set("IPv4Forwarding", true)
        .set("Debug", host.settings.debug)
        .set("SystemTime", &facts.now)
        .set("LoggingDriver", host.settings.defaults.log_driver())
        .set("CgroupDriver", &host.cgroup_driver)
        .set("CgroupVersion", host.cgroup_version.to_string())
        .set("KernelVersion", &host.kernel_version)
        .set("OperatingSystem", &host.operating_system)
        .set("OSVersion", &host.os_version)
        .set("OSType", &host.os_type)
        .set("Architecture", &host.machine)
        .set("IndexServerAddress", "https://index.docker.io/v1/")
        .set(
            "RegistryConfig",
            json!({
                // always insecure, beside those of the configuration
                "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
                "IndexConfigs": index_configs(host),
                "Mirrors": host.settings.registry_mirrors,
            }),
        )
        .set("NCPU", host.cpus)
        .set("MemTotal", host.memory_bytes)
        .set("DockerRootDir", &host.root_dir)
        // images are fetched without one
        .set("HttpProxy", "")
        .set("HttpsProxy", "")
        .set("NoProxy", "")
        .set("Name", &host.hostname)
        .set("Labels", labels)
        .unless_empty("GenericResources", policy::write_generic(&host.settings.generic_resources))
        .set("ExperimentalBuild", false)
        .set("ServerVersion", DOCKER_VERSION)
        .set("Swarm", write_swarm(facts))
        .set("LiveRestoreEnabled", true)
        .set("Isolation", "")
        .set("SecurityOptions", security_options(host))
        .set("CDISpecDirs", &host.cdi_directories)
        .set("FirewallBackend", json!({ "Driver": "nftables" }))
        .set("DiscoveredDevices", facts.devices.iter().map(device).collect::<Vec<_>>())
        // of this engine alone
        .set("OverlayEncryption", &host.encryption)
        .set("RswarmVersion", &host.engine_version)
        .set("Warnings", &host.warnings)
        .done()
}

/// What the kernel bounds.
fn limits(fields: Fields, facts: &Facts<'_>) -> Fields {
    let has = |controller: &str| facts.host.cgroup_controllers.iter().any(|name| name == controller);
    fields
        .set("MemoryLimit", has("memory"))
        .set("SwapLimit", facts.daemon.limits_swap)
        .set("PidsLimit", has("pids"))
        .set("CPUShares", has("cpu"))
        .set("CPUSet", has("cpuset"))
        .set("CpuCfsPeriod", has("cpu"))
        .set("CpuCfsQuota", has("cpu"))
        .set("OomKillDisable", false)
}

fn counts(fields: Fields, daemon: DaemonFacts) -> Fields {
    fields.set("NFd", daemon.open_files).set("NGoroutines", daemon.tasks).set("NEventsListener", daemon.listeners)
}

/// Those that Docker runs containers with; here one stands behind all names of the runtime.
fn programs(fields: Fields, host: &HostInfo) -> Fields {
    let commit = json!({ "ID": UNKNOWN_COMMIT });
    let runtime = |name: &&str| ((*name).to_owned(), json!({ "path": host.oci_runtime }));
    fields
        .set("Runtimes", RUNTIMES.iter().map(runtime).collect::<Map<String, Value>>())
        .set("DefaultRuntime", RUNTIMES[0])
        .set("InitBinary", if host.oci_runtime == EMBEDDED { INIT } else { "" })
        .set("ContainerdCommit", &commit)
        .set("RuncCommit", &commit)
        .set("InitCommit", &commit)
}

/// Until version 1.49 beside each commit that the daemon has stood the one that it wants.
pub(crate) fn add_expected_commits(info: &mut Value) {
    for part in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
        info[part]["Expected"] = info[part]["ID"].clone();
    }
}

fn device(name: &String) -> Value {
    json!({ "Source": "cdi", "ID": name })
}

fn index_configs(host: &HostInfo) -> Value {
    let entry =
        |name: &String| (name.clone(), json!({ "Name": name, "Mirrors": [], "Secure": false, "Official": false }));
    let mut all: Map<String, Value> = host.settings.insecure_registries.iter().map(entry).collect();
    let hub =
        json!({ "Name": "docker.io", "Mirrors": host.settings.registry_mirrors, "Secure": true, "Official": true });
    all.insert("docker.io".to_owned(), hub);
    Value::Object(all)
}

/// Parity C-40.
fn write_swarm(facts: &Facts<'_>) -> Value {
    let status = facts.membership;
    let peer = |peer: &types::ManagerPeer| json!({ "NodeID": peer.node, "Addr": peer.address });
    let remote: Vec<Value> = status.managers.iter().map(peer).collect();
    let error = match status.error.is_empty() {
        true => facts.cluster_error.clone().unwrap_or_default(),
        false => status.error.clone(),
    };
    let managers = facts.counts.map_or(0, |counts| counts.managers);
    Fields::new()
        .set("NodeID", status.node.map(|id| id.to_string()).unwrap_or_default())
        .set("NodeAddr", &status.address)
        .set("LocalNodeState", status.local_state.to_string())
        .set("ControlAvailable", status.cluster.is_some())
        .set("Error", error)
        .set("RemoteManagers", if remote.is_empty() { Value::Null } else { Value::Array(remote) })
        .unless_empty("Nodes", facts.counts.map_or(0, |counts| counts.nodes))
        .unless_empty("Managers", managers)
        .some("Cluster", facts.cluster.map(swarm::write_public))
        .unless_empty("Warnings", manager_warnings(managers))
        .done()
}

/// An even number of managers survives no more losses than one fewer.
fn manager_warnings(managers: u64) -> Vec<String> {
    match managers {
        0 | 1 => Vec::new(),
        2 => vec![
            "Running a cluster with two managers provides no fault tolerance: losing either stops all changes. Add a \
             third manager or demote one."
                .to_owned(),
        ],
        even if even % 2 == 0 => vec![format!(
            "Running a cluster with an even number of managers ({even}) tolerates no more losses than with {}. Use an \
             odd number.",
            even - 1
        )],
        _ => Vec::new(),
    }
}

/// The API versions spoken: what `Api-Version` and `/version` say.
pub(crate) const API_VERSION: &str = "1.51";
pub(crate) const MIN_API_VERSION: &str = "1.24";

/// What the engine calls itself to clients of Docker: the last of Docker's versions that speaks [`API_VERSION`]. They compare
/// it with those that they know (cAdvisor, Salt, Shepherd), and refuse one below 1. rswarm's own version stands beside it.
pub(crate) const DOCKER_VERSION: &str = "28.5.2";

pub(crate) fn write_version(host: &HostInfo) -> Value {
    let details = json!({
        "ApiVersion": API_VERSION,
        "Arch": host.architecture,
        "Experimental": "false",
        "KernelVersion": host.kernel_version,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": host.os_type,
    });
    let own = &host.engine_version;
    json!({
        "Platform": { "Name": format!("rswarm {own}") },
        "Components": [
            { "Name": "Engine", "Version": DOCKER_VERSION, "Details": details },
            { "Name": "rswarm", "Version": own, "Details": {} },
        ],
        "Version": DOCKER_VERSION,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": host.os_type,
        "Arch": host.architecture,
        "KernelVersion": host.kernel_version,
        "BuildTime": "",
    })
}
