//! What can be said about a configuration without looking at the host. Pure.

use std::fmt;

use crate::config::{ContainerConfig, NamespaceMode, Resources};

/// Why a configuration cannot work, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidConfig(pub(crate) String);

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidConfig {}

/// Less than this and the kernel kills the container before it runs.
const MEMORY_MIN_BYTES: u64 = 4 * 1024 * 1024;

/// The kernel's PATH_MAX and NAME_MAX, without the zero byte of the first.
const PATH_MAX_BYTES: usize = 4095;
const NAME_MAX_BYTES: usize = 255;
/// The kernel's MAX_ARG_STRLEN, without the zero byte.
const ARGUMENT_MAX_BYTES: usize = 131_071;

/// Where runc lets something be mounted over what is in /proc: what describes the machine.
const PROC_TARGETS: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

const RLIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub(super) fn check(config: &ContainerConfig) -> Result<(), InvalidConfig> {
    let problem = id(&config.id)
        .or_else(|| command(config))
        .or_else(|| paths(config))
        .or_else(|| resources(&config.resources))
        .or_else(|| limits(config))
        .or_else(|| config.sysctls.keys().find_map(|key| sysctl(key, config)))
        .or_else(|| names(config));
    problem.map_or(Ok(()), |problem| Err(InvalidConfig(problem)))
}

/// `None` if the id can be the name of a directory and of a cgroup.
pub(crate) fn id(id: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let good = (1..=64).contains(&id.len()) && id.bytes().all(fits) && id.as_bytes()[0].is_ascii_alphanumeric();
    (!good).then(|| {
        format!("the id {id:?} is not 1 to 64 letters, digits, '_', '-' or '.', beginning with a letter or digit")
    })
}

fn command(config: &ContainerConfig) -> Option<String> {
    match config.args.first() {
        None => return Some("no command given: the image has none, and the service names none".to_owned()),
        Some(first) if first.is_empty() => return Some("the command is an empty string".to_owned()),
        Some(first) if first.len() > PATH_MAX_BYTES => {
            return Some(format!("the command is {} bytes long, which no path can be", first.len()));
        }
        Some(_) => {}
    }
    let too_long = config.args.iter().chain(&config.env).find(|text| text.len() > ARGUMENT_MAX_BYTES);
    if let Some(text) = too_long {
        let begin: String = text.chars().take(20).collect();
        let length = text.len();
        return Some(format!("the word {begin:?}… is {length} bytes long, and the kernel takes {ARGUMENT_MAX_BYTES}"));
    }
    let all = config.args.iter().chain(&config.env).chain([&config.cwd, &config.hostname, &config.domainname]);
    let nul = all.clone().find(|text| text.contains('\0'));
    let unnamed = config.env.iter().find(|entry| !entry.contains('=') || entry.starts_with('='));
    nul.map(|text| format!("{text:?} contains a zero byte"))
        .or_else(|| unnamed.map(|entry| format!("the environment variable {entry:?} is not NAME=value")))
}

fn paths(config: &ContainerConfig) -> Option<String> {
    let targets = config.mounts.iter().map(|m| &m.target).chain(config.files.iter().map(|f| &f.target));
    let targets = targets.chain(config.host_mounts.iter().map(|m| &m.target));
    for target in targets.chain(config.devices.iter().map(|d| &d.container_path)) {
        if !target.starts_with('/') || target.split('/').any(|part| part == "..") || target.contains('\0') {
            return Some(format!("the mount target {target:?} is not an absolute path without \"..\""));
        }
        if target.trim_end_matches('/').is_empty() {
            return Some("a mount cannot have \"/\" as its target".to_owned());
        }
        if target.starts_with("/proc/") && !PROC_TARGETS.contains(&target.as_str()) {
            return Some(format!("{target:?} cannot be mounted because it is inside \"/proc\""));
        }
        if let Some(problem) = length(target) {
            return Some(problem);
        }
    }
    let hidden = [&config.masked_paths, &config.readonly_paths].into_iter().flatten().flatten();
    for path in hidden {
        if !path.starts_with('/') || path.contains('\0') {
            return Some(format!("{path:?}, which shall be masked or read-only, is not an absolute path"));
        }
        if let Some(problem) = length(path) {
            return Some(problem);
        }
    }
    let relative = !config.cwd.is_empty() && !config.cwd.starts_with('/');
    relative
        .then(|| format!("the working directory {:?} is not an absolute path", config.cwd))
        .or_else(|| length(&config.cwd))
}

/// Whether the kernel takes it for a path.
fn length(path: &str) -> Option<String> {
    let is_long = path.len() > PATH_MAX_BYTES || path.split('/').any(|name| name.len() > NAME_MAX_BYTES);
    is_long.then(|| {
        let begin: String = path.chars().take(20).collect();
        format!("the path {begin:?}… is longer than {PATH_MAX_BYTES} bytes, or a name in it than {NAME_MAX_BYTES}")
    })
}

fn resources(resources: &Resources) -> Option<String> {
    let (memory, swap) = (resources.memory_bytes, resources.memory_swap_bytes);
    if memory > 0 && memory < MEMORY_MIN_BYTES {
        return Some(format!("the memory limit {memory} is below the minimum of {MEMORY_MIN_BYTES} bytes"));
    }
    if swap > 0 && swap.cast_unsigned() < memory {
        return Some(format!("the limit of memory and swap, {swap}, is below the memory limit {memory}"));
    }
    if resources.cpu_shares == 1 || resources.cpu_shares > 262_144 {
        return Some(format!("cpu shares {} are not between 2 and 262144", resources.cpu_shares));
    }
    let list = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b',' || byte == b'-');
    [&resources.cpuset_cpus, &resources.cpuset_mems]
        .into_iter()
        .find(|text| !list(text))
        .map(|text| format!("{text:?} is not a list of processors such as 0-3,7"))
}

fn limits(config: &ContainerConfig) -> Option<String> {
    config.ulimits.iter().find_map(|limit| {
        if !RLIMITS.contains(&limit.name.as_str()) {
            return Some(format!("there is no ulimit {:?}; there are {}", limit.name, RLIMITS.join(", ")));
        }
        (limit.soft > limit.hard).then(|| format!("the soft limit of ulimit {} is above its hard limit", limit.name))
    })
}

/// Only what the kernel keeps per namespace, and only if the namespace is the container's own.
fn sysctl(key: &str, config: &ContainerConfig) -> Option<String> {
    let ipc = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let own_ipc = config.ipc != NamespaceMode::Host;
    if ipc.contains(&key) || key.starts_with("fs.mqueue.") {
        return (!own_ipc).then(|| format!("sysctl {key} would change the host, whose ipc namespace this is"));
    }
    if key.starts_with("net.") && !key.contains('/') {
        return config.netns.is_none().then(|| format!("sysctl {key} would change the host, whose network this is"));
    }
    if key == "kernel.domainname" {
        return (config.uts != NamespaceMode::Private)
            .then(|| format!("sysctl {key} would change the host, whose uts namespace this is"));
    }
    Some(format!("sysctl {key} is not kept per namespace, so a container cannot have its own"))
}

fn names(config: &ContainerConfig) -> Option<String> {
    if config.uts != NamespaceMode::Private && !(config.hostname.is_empty() && config.domainname.is_empty()) {
        return Some("a hostname can only be given to a container with its own uts namespace".to_owned());
    }
    [&config.hostname, &config.domainname]
        .into_iter()
        .find(|name| name.len() > 64)
        .map(|name| format!("the hostname {name:?} is longer than 64 bytes"))
}
