//! What a user asks of a single container, as plain data (parity E-13 to E-22).
//!
//! Made by the API from Docker's JSON, kept in the container's record, read by `plan` and `view`. What can be said
//! without the host has been checked where it was made.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use types::{
    DeviceClaim, DeviceRequest, DnsConfig, HealthCheck, Labels, LogDriver, Mount, MountKind, PortProtocol, Seccomp,
    Ulimit,
};

/// One container. Empty, 0 and `None` mean the image's, else the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SingleSpec {
    /// As the user wrote it.
    pub image: String,
    /// `Some` of nothing takes the image's away.
    pub entrypoint: Option<Vec<String>>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub dir: String,
    pub user: String,
    pub groups: Vec<String>,
    pub hostname: String,
    pub domainname: String,
    pub labels: Labels,
    pub streams: Streams,
    pub stop_signal: String,
    /// Seconds; negative waits for ever.
    pub stop_timeout: Option<i64>,
    pub health: Option<HealthCheck>,
    pub exposed: BTreeSet<(u16, PortProtocol)>,
    pub ports: Vec<PortRequest>,
    pub publish_all: bool,
    pub mounts: Vec<AskedMount>,
    /// `name[:ro|:rw]` of other containers.
    pub volumes_from: Vec<String>,
    /// Of the volumes that are made for it, but for those of `Mounts`; empty: `local`, the one that there is.
    pub volume_driver: String,
    pub network: NetworkRequest,
    /// Container and alias. On the host's bridge the container by its id, which a new name does not change.
    pub links: Vec<(String, String)>,
    pub dns: DnsConfig,
    /// `name:address`, or `name:host-gateway`.
    pub extra_hosts: Vec<String>,
    pub restart: RestartPolicy,
    pub auto_remove: bool,
    pub init: Option<bool>,
    pub privileged: bool,
    pub read_only: bool,
    pub capability_add: Vec<String>,
    pub capability_drop: Vec<String>,
    pub devices: Vec<DeviceRequest>,
    #[serde(default)]
    pub claims: Vec<DeviceClaim>,
    pub device_rules: Vec<DeviceRuleRequest>,
    /// As the user wrote them, for showing.
    pub security: Vec<String>,
    pub seccomp: Seccomp,
    pub no_new_privileges: bool,
    pub writable_cgroups: bool,
    /// As the user wrote it; the one kind that there is.
    pub isolation: String,
    pub annotations: Labels,
    /// Of its terminal at the start; 0 if not known.
    pub console_rows_columns: (u16, u16),
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
    pub ulimits: Vec<Ulimit>,
    pub sysctls: Labels,
    pub shm_size_bytes: u64,
    pub pid: NamespaceRequest,
    pub ipc: NamespaceRequest,
    pub uts_of_host: bool,
    pub cgroupns_of_host: bool,
    pub limits: Limits,
    pub oom_score_adj: i32,
    pub log: Option<LogDriver>,
}

impl SingleSpec {
    /// Its first network is the host's own bridge, where links are lines of `/etc/hosts` and names of containers.
    pub fn is_on_bridge(&self) -> bool {
        matches!(&self.network, NetworkRequest::Places(places) if places.first().is_none_or(PlaceRequest::is_on_bridge))
    }
}

/// A mount, and which of Docker's ways to ask for one the user took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedMount {
    #[serde(flatten)]
    pub mount: Mount,
    #[serde(default)]
    pub form: MountForm,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MountForm {
    /// An entry of `Mounts`.
    #[default]
    Mount,
    /// An entry of `Binds`, as it was written.
    Bind(String),
    /// Options in `Tmpfs`, as they were written.
    Tmpfs(String),
    /// A place in the container's own `Volumes`.
    Volume,
}

impl AskedMount {
    /// `ro,z` of `/a:/b:ro,z`.
    pub(super) fn mode(&self) -> &str {
        match (&self.form, &self.mount.kind) {
            (MountForm::Bind(text), kind) => match (text.splitn(3, ':').nth(2).unwrap_or_default(), kind) {
                // what Docker says of its own volumes
                ("", MountKind::Volume { .. }) => "z",
                (mode, _) => mode,
            },
            (MountForm::Mount, MountKind::Volume { .. }) => "z",
            _ => "",
        }
    }
}

/// The container's standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Streams {
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    pub target: u16,
    pub protocol: PortProtocol,
    /// `None`: all addresses.
    pub address: Option<IpAddr>,
    /// The first free one of these; `None`: any.
    pub host: Option<(u16, u16)>,
}

/// Whose network it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkRequest {
    None,
    Host,
    /// That of another container, by name or id.
    Container(String),
    /// Its own, with these places; the first is the mode that Docker shows.
    Places(Vec<PlaceRequest>),
}

impl Default for NetworkRequest {
    fn default() -> Self {
        Self::Places(vec![PlaceRequest::of("bridge")])
    }
}

/// A place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PlaceRequest {
    /// Name or id.
    pub network: String,
    pub aliases: Vec<String>,
    pub address: Option<Ipv4Addr>,
    pub address6: Option<Ipv6Addr>,
    /// Further ones that only its neighbours reach.
    pub link_local: Vec<IpAddr>,
    /// Of networks that lead out, that with the highest is the default route.
    pub priority: i64,
    /// Names of its own for other containers, given when it was connected: container and alias.
    pub links: Vec<(String, String)>,
    /// Empty: from the address.
    pub mac: String,
    /// For drivers that are not here, and of its interface; shown as they were given.
    pub options: Labels,
}

impl PlaceRequest {
    /// On the host's own bridge, where nobody has names.
    pub fn is_on_bridge(&self) -> bool {
        matches!(self.network.as_str(), "" | "bridge" | "default")
    }

    pub fn of(network: &str) -> Self {
        Self { network: network.to_owned(), ..Self::default() }
    }
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RestartPolicy {
    #[default]
    No,
    Always,
    UnlessStopped,
    /// At most so often; 0 is without bound.
    OnFailure(u32),
}

/// `c 42:* rmw`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRuleRequest {
    pub kind: char,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub permissions: String,
}

/// Whose namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NamespaceRequest {
    #[default]
    Private,
    /// For ipc: others may join it.
    Shareable,
    /// For ipc: its own, and without memory to share.
    None,
    Host,
    Container(String),
}

/// Bounds on what it uses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub nano_cpus: u64,
    pub cpu_shares: u64,
    pub cpu_quota_us: i64,
    pub cpu_period_us: u64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub memory_bytes: u64,
    pub memory_swap_bytes: i64,
    pub memory_reservation_bytes: u64,
    pub swappiness: Option<u64>,
    pub pids: u64,
    /// An update took the bound away: shown as 0, where one that never was is shown as nothing.
    pub pids_lifted: bool,
    pub oom_kill_disable: bool,
    pub blkio_weight: u16,
    pub device_weights: Vec<WeightRequest>,
    pub throttles: Vec<ThrottleRequest>,
    /// The cgroup that its own is made in, as it was written; empty is the engine's.
    pub cgroup_parent: String,
}

/// Of one name, and of a path that has a hierarchy's place before it and the container's id behind it (Linux `limits.h`).
const MOST_NAME_BYTES: usize = 255;
const MOST_PARENT_BYTES: usize = 1024;

/// Why control groups cannot be made in `parent`: it is below the root of the hierarchy, whether it begins with `/` or not,
/// and leads no way out of it.
pub fn cgroup_parent_problem(parent: &str) -> Option<String> {
    let is_name = |part: &str| part != ".." && part.len() <= MOST_NAME_BYTES && !part.chars().any(char::is_control);
    if parent.len() <= MOST_PARENT_BYTES && parent.split('/').all(is_name) {
        return None;
    }
    let parent: String = parent.chars().take(MOST_NAME_BYTES).collect();
    Some(format!("{parent:?} is not the path of a control group: write /a/b"))
}

/// A share of a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightRequest {
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A bound for a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottleRequest {
    pub kind: ThrottleKind,
    pub path: String,
    pub rate: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ThrottleKind {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}

/// What `update` may change; `None` leaves it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    pub restart: Option<RestartPolicy>,
    /// 0 takes the bound away.
    pub pids: Option<u64>,
    pub limits: Limits,
}

impl Limits {
    /// Of memory and swap together: with memory bounded and swap not said, twice the memory.
    pub fn swap_bytes(&self) -> i64 {
        match self.memory_swap_bytes {
            0 => i64::try_from(self.memory_bytes.saturating_mul(2)).unwrap_or(i64::MAX),
            swap => swap,
        }
    }

    /// With those of `change` that say something.
    pub(super) fn changed(&self, change: &Self) -> Self {
        let mut next = self.clone();
        // what follows from the memory at first does not follow it later
        next.memory_swap_bytes = self.swap_bytes();
        let numbers = [
            (&mut next.cpu_shares, change.cpu_shares),
            (&mut next.cpu_period_us, change.cpu_period_us),
            (&mut next.nano_cpus, change.nano_cpus),
            (&mut next.memory_bytes, change.memory_bytes),
            (&mut next.memory_reservation_bytes, change.memory_reservation_bytes),
        ];
        for (own, other) in numbers.into_iter().filter(|(_, other)| *other != 0) {
            *own = other;
        }
        if change.cpu_quota_us != 0 {
            next.cpu_quota_us = change.cpu_quota_us;
        }
        if change.memory_swap_bytes != 0 {
            next.memory_swap_bytes = change.memory_swap_bytes;
        }
        if change.blkio_weight != 0 {
            next.blkio_weight = change.blkio_weight;
        }
        if !change.device_weights.is_empty() {
            next.device_weights.clone_from(&change.device_weights);
        }
        for (own, other) in [(&mut next.cpuset_cpus, &change.cpuset_cpus), (&mut next.cpuset_mems, &change.cpuset_mems)]
        {
            if !other.is_empty() {
                own.clone_from(other);
            }
        }
        next
    }

    /// Docker's rule: a container keeps the one way in which its processors are bounded (moby `container_unix.go`).
    pub(super) fn cpu_conflict(&self, change: &Self) -> Option<&'static str> {
        match change {
            _ if change.nano_cpus > 0 && self.cpu_period_us > 0 => {
                Some("Nano CPUs cannot be updated as CPU Period has already been set")
            }
            _ if change.nano_cpus > 0 && self.cpu_quota_us > 0 => {
                Some("Nano CPUs cannot be updated as CPU Quota has already been set")
            }
            _ if change.cpu_period_us > 0 && self.nano_cpus > 0 => {
                Some("CPU Period cannot be updated as NanoCPUs has already been set")
            }
            _ if change.cpu_quota_us > 0 && self.nano_cpus > 0 => {
                Some("CPU Quota cannot be updated as NanoCPUs has already been set")
            }
            _ => None,
        }
    }

    /// Docker's rule for memory that grows past what it and swap have together (moby `daemon/update.go`).
    pub(super) fn swap_conflict(&self, change: &Self) -> bool {
        let all = u64::try_from(self.swap_bytes()).unwrap_or(0);
        change.memory_bytes > 0 && change.memory_swap_bytes == 0 && all > 0 && change.memory_bytes > all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-25: memory and swap together stay what they were, and memory does not grow past them.
    #[test]
    fn e_25_swap_stays_when_memory_changes() {
        let memory = |mib: u64| Limits { memory_bytes: mib << 20, ..Limits::default() };
        let next = memory(100).changed(&memory(150));
        assert_eq!((next.memory_bytes, next.swap_bytes()), (150 << 20, 200 << 20));
        assert!(!memory(100).swap_conflict(&memory(200)) && memory(100).swap_conflict(&memory(201)));
        let none = Limits::default();
        assert!(!none.swap_conflict(&memory(100)), "none was set");
        assert_eq!(none.changed(&memory(100)).swap_bytes(), 200 << 20);
        let endless = Limits { memory_swap_bytes: -1, ..memory(100) };
        assert!(!endless.swap_conflict(&memory(500)));
        assert_eq!(endless.changed(&memory(500)).swap_bytes(), -1);
    }
}
