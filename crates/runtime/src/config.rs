//! What a container shall be, as plain data. Filled in by the engine; read by `oci` and `launch`.
//! Nothing here has been checked against the host: `Runtime::create` does that and says what is wrong.

mod log;

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use log::{
    Fluentd, FluentdAddress, Gelf, GelfCompression, GelfTransport, LogConfig, LogDriver, LogForward, LogQueue, Syslog,
    SyslogAddress, SyslogFormat,
};

/// Who sets up namespaces and executes the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OciRuntime {
    /// The library linked into the shim.
    Embedded,
    /// A program with the OCI command line, such as runc or crun.
    External(PathBuf),
}

/// Whose namespace of one kind the container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NamespaceMode {
    #[default]
    Private,
    Host,
    /// The one held open by this file, e.g. `/proc/PID/ns/ipc`.
    Path(PathBuf),
}

/// The filter on system calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    #[default]
    Default,
    Unconfined,
    /// The text of a profile, in OCI's form or in Docker's with `includes`, `excludes` and `archMap`.
    Profile(String),
}

/// How mount events travel between host and container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    Private,
    #[default]
    RPrivate,
    Shared,
    RShared,
    Slave,
    RSlave,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the host. `recursive`: with everything mounted below it. `readonly_below`: where the mount is
    /// read-only, those are too.
    Bind { source: PathBuf, recursive: bool, readonly_below: bool },
    /// A directory of the engine's, a volume or an image's files, or what is at `subpath` in it.
    Volume { source: PathBuf, subpath: String },
    /// Memory. `size_bytes` 0 is the kernel's default, half of memory. `options` come after ours and so over them.
    Tmpfs { size_bytes: u64, mode: u32, options: Vec<String> },
}

/// One mount in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountKind,
    /// Absolute path in the container.
    pub target: String,
    pub readonly: bool,
    pub propagation: Propagation,
}

/// A file the caller made for this container, such as its resolv.conf; mounted read-write unless the root is read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMount {
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
}

/// Limits. 0 or `None` means no limit, except `memory_swap_bytes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Billionths of a processor.
    pub nano_cpus: u64,
    pub memory_bytes: u64,
    /// Memory and swap together; -1 is unlimited, 0 is twice `memory_bytes`, as Docker has it.
    pub memory_swap_bytes: i64,
    pub memory_reservation_bytes: u64,
    pub pids_limit: u64,
    /// Relative weight, 2 to 262144; 0 is the default 1024.
    pub cpu_shares: u64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    /// Processor time per period, microseconds; 0 leaves it to `nano_cpus`.
    pub cpu_quota_us: i64,
    /// 0 is the kernel's default.
    pub cpu_period_us: u64,
    /// 0 to 100; `None` is the host's own. Kept by cgroup v1 only.
    pub swappiness: Option<u64>,
    pub oom_kill_disable: bool,
    /// 10 to 1000; 0 is the default.
    pub blkio_weight: u16,
    pub device_weights: Vec<DeviceWeight>,
    pub throttles: Vec<Throttle>,
}

/// A share of one block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceWeight {
    pub major: i64,
    pub minor: i64,
    /// 10 to 1000.
    pub weight: u16,
}

/// A bound on what goes to or comes from a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    pub kind: ThrottleKind,
    pub major: i64,
    pub minor: i64,
    /// Bytes or operations per second.
    pub rate: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleKind {
    ReadBytes,
    WriteBytes,
    ReadOperations,
    WriteOperations,
}

/// Devices that may be used once somebody makes a node for them. `None` is any number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRule {
    /// `a`, `b` or `c`.
    pub kind: char,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
}

/// A resource limit of the container's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// As in `setrlimit`, lower case and without `RLIMIT_`: `nofile`.
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

/// A device of the host, visible in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub host_path: PathBuf,
    pub container_path: String,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
    /// Of the node in the container; `None` is as on the host.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// A mount exactly as the OCI runtime specification has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMount {
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
    /// `bind`, or a file system's name.
    pub kind: String,
    pub options: Vec<String>,
}

/// A program that the OCI runtime executes while it makes or ends the container (config.md of the OCI runtime specification, POSIX-platform
/// hooks). It is the vendor's of a device; nobody who starts containers can name one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    pub stage: HookStage,
    pub path: PathBuf,
    /// The program's name first.
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub timeout_s: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookStage {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl HookStage {
    pub(crate) const ALL: [Self; 6] = [
        Self::Prestart,
        Self::CreateRuntime,
        Self::CreateContainer,
        Self::StartContainer,
        Self::Poststart,
        Self::Poststop,
    ];

    /// The specification's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// One container.
#[derive(Debug, Clone)]
pub struct ContainerConfig {
    /// Letters, digits, `_`, `-`, `.`; at most 64.
    pub id: String,
    /// The root filesystem, already mounted. Not changed by this crate.
    pub rootfs: PathBuf,
    pub args: Vec<String>,
    /// `NAME=value`. `PATH`, `HOME`, `HOSTNAME` and, with a tty, `TERM` are added where missing.
    pub env: Vec<String>,
    /// Working directory in the container; empty is `/`. Made if missing.
    pub cwd: String,
    /// `name|uid[:group|gid]`, looked up in the root filesystem; empty is root.
    pub user: String,
    /// Names or numbers, looked up in the root filesystem.
    pub additional_groups: Vec<String>,
    /// Empty: the host's if `uts` is the host's, else the first twelve characters of the id.
    pub hostname: String,
    pub domainname: String,
    /// The network namespace to be in; `None` is the host's.
    pub netns: Option<PathBuf>,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    pub uts: NamespaceMode,
    pub cgroupns: NamespaceMode,
    pub mounts: Vec<Mount>,
    pub files: Vec<FileMount>,
    pub readonly_rootfs: bool,
    pub tty: bool,
    pub open_stdin: bool,
    /// An init of ours as process 1, which reaps orphans and forwards signals.
    pub init: bool,
    /// With or without `CAP_`, any case; `ALL`.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    pub privileged: bool,
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// `None`: Docker's default.
    pub masked_paths: Option<Vec<String>>,
    /// `None`: Docker's default.
    pub readonly_paths: Option<Vec<String>>,
    pub resources: Resources,
    /// The cgroup that its own is made in; empty is [`crate::RuntimeConfig::cgroup_parent`].
    pub cgroup_parent: String,
    pub ulimits: Vec<Ulimit>,
    pub sysctls: BTreeMap<String, String>,
    /// Size of `/dev/shm`; 0 is 64 MiB.
    pub shm_size_bytes: u64,
    /// There is no `/dev/shm`.
    pub no_shm: bool,
    /// A directory of the host that is `/dev/shm`, for memory that containers share; `None` is one of its own.
    pub shm_source: Option<PathBuf>,
    /// The container may write to its own cgroup.
    pub writable_cgroups: bool,
    pub oom_score_adj: i32,
    pub devices: Vec<Device>,
    pub device_rules: Vec<DeviceRule>,
    /// What devices of vendors bring with them, as their hooks.
    pub host_mounts: Vec<HostMount>,
    pub hooks: Vec<Hook>,
    pub labels: BTreeMap<String, String>,
    /// For OCI runtimes and their hooks.
    pub annotations: BTreeMap<String, String>,
    pub log: LogConfig,
}

impl ContainerConfig {
    /// A container with Docker's defaults for everything that is not named here.
    pub fn new(id: &str, rootfs: PathBuf, args: Vec<String>, log: LogConfig) -> Self {
        Self {
            id: id.to_owned(),
            rootfs,
            args,
            env: Vec::new(),
            cwd: String::new(),
            user: String::new(),
            additional_groups: Vec::new(),
            hostname: String::new(),
            domainname: String::new(),
            netns: None,
            pid: NamespaceMode::Private,
            ipc: NamespaceMode::Private,
            uts: NamespaceMode::Private,
            cgroupns: NamespaceMode::Private,
            mounts: Vec::new(),
            files: Vec::new(),
            readonly_rootfs: false,
            tty: false,
            open_stdin: false,
            init: false,
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            privileged: false,
            no_new_privileges: false,
            seccomp: Seccomp::Default,
            masked_paths: None,
            readonly_paths: None,
            resources: Resources::default(),
            cgroup_parent: String::new(),
            ulimits: Vec::new(),
            sysctls: BTreeMap::new(),
            shm_size_bytes: 0,
            no_shm: false,
            shm_source: None,
            writable_cgroups: false,
            oom_score_adj: 0,
            devices: Vec::new(),
            device_rules: Vec::new(),
            host_mounts: Vec::new(),
            hooks: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            log,
        }
    }
}
