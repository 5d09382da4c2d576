//! From a container's configuration and a few facts about the host to the OCI runtime
//! specification. Called by `launch`. Pure: it reads no file and asks no kernel, so every default
//! of ours can be seen in a text test. What Docker gives a container by default, this gives too.

mod capabilities;
mod check;
mod exec;
mod mounts;
mod seccomp;
mod seccomp_rules;
mod user;

use std::collections::BTreeMap;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

pub use capabilities::is_capability;
pub(crate) use capabilities::names_of as capability_names;
pub use check::InvalidConfig;
pub(crate) use exec::exec_process;
pub(crate) use mounts::options as mount_options;
pub use user::{ResolvedUser, resolve as resolve_user};

use crate::config::{ContainerConfig, HookStage, NamespaceMode, Propagation, Resources, Seccomp, ThrottleKind};

/// What the specification depends on and the configuration does not say.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Rust's name of the architecture, `std::env::consts::ARCH`.
    pub architecture: &'static str,
    /// The daemon's own capabilities, as in `CapBnd` of `/proc/self/status`.
    pub capabilities: u64,
    /// Whether the kernel can limit swap per cgroup.
    pub swap_limit: bool,
    /// The nodes to make in the container: those asked for, or all of the host's for a privileged one.
    pub devices: Vec<DeviceNode>,
    /// Where the container's cgroup is, e.g. `/rswarm/<id>`.
    pub cgroup_path: String,
    /// Names of the directories in `/sys/fs/cgroup` that are hierarchies of v1; none on v2.
    pub cgroup_hierarchies: Vec<String>,
    /// What is hidden of /proc and /sys unless the container says otherwise.
    pub masked_paths: &'static [String],
}

/// A device node of the host.
#[derive(Debug, Clone)]
pub struct DeviceNode {
    pub path: String,
    /// `b` or `c`.
    pub kind: char,
    pub major: i64,
    pub minor: i64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
}

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The length of one period of the CPU limit, the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// The specification of `config` for `user`.
///
/// # Errors
/// What in the configuration cannot work, as a sentence.
pub fn spec(config: &ContainerConfig, user: &ResolvedUser, host: &HostFacts) -> Result<Spec, InvalidConfig> {
    check::check(config)?;
    let capabilities = capabilities::resolve(
        config.privileged,
        &config.capabilities_add,
        &config.capabilities_drop,
        host.capabilities,
    )
    .map_err(InvalidConfig)?;
    let value = json!({
        "ociVersion": "1.0.2",
        "process": process(config, user, &capabilities),
        "root": {"path": config.rootfs, "readonly": config.readonly_rootfs},
        "hostname": hostname(config),
        "domainname": (!config.domainname.is_empty()).then_some(&config.domainname),
        "mounts": mounts::mounts(config, host),
        "annotations": annotations(config),
        "hooks": hooks(config),
        "linux": linux(config, host, &capabilities)?,
    });
    serde_json::from_value(value).map_err(|err| InvalidConfig(format!("it does not form an OCI specification: {err}")))
}

fn hooks(config: &ContainerConfig) -> Option<Value> {
    let of = |stage: HookStage| -> Vec<Value> {
        let hooks = config.hooks.iter().filter(|hook| hook.stage == stage);
        hooks.map(|h| json!({"path": h.path, "args": h.args, "env": h.env, "timeout": h.timeout_s})).collect()
    };
    let stages = HookStage::ALL.into_iter().map(|stage| (stage.name().to_owned(), of(stage)));
    let stages: serde_json::Map<String, Value> =
        stages.filter(|(_, hooks)| !hooks.is_empty()).map(|(name, hooks)| (name, hooks.into())).collect();
    (!stages.is_empty()).then_some(Value::Object(stages))
}

/// Whether a text can be the id of a container.
pub(crate) fn is_id(id: &str) -> bool {
    check::id(id).is_none()
}

fn process(config: &ContainerConfig, user: &ResolvedUser, capabilities: &[&str]) -> Value {
    // A process that is not root has no capability after execve, whatever it had before.
    let effective: &[&str] = if user.uid == 0 { capabilities } else { &[] };
    let limit = |u: &crate::config::Ulimit| json!({"type": format!("RLIMIT_{}", u.name.to_ascii_uppercase()), "soft": u.soft, "hard": u.hard});
    json!({
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": config.args,
        "env": environment(config, user),
        "cwd": if config.cwd.is_empty() { "/" } else { &config.cwd },
        "capabilities": {"bounding": capabilities, "effective": effective, "permitted": effective,
                         "inheritable": [], "ambient": []},
        "rlimits": config.ulimits.iter().map(limit).collect::<Vec<_>>(),
        // Left out when false: the embedded runtime asks whether it is there, not what it says.
        "noNewPrivileges": config.no_new_privileges.then_some(true),
        "oomScoreAdj": config.oom_score_adj,
    })
}

/// The caller's variables after those they may override.
fn environment(config: &ContainerConfig, user: &ResolvedUser) -> Vec<String> {
    let mut defaults = vec![DEFAULT_PATH.to_owned()];
    if let Some(name) = hostname(config) {
        defaults.push(format!("HOSTNAME={name}"));
    }
    if config.tty {
        defaults.push("TERM=xterm".to_owned());
    }
    defaults.push(format!("HOME={}", user.home));
    let name = |entry: &str| entry.split('=').next().map(str::to_owned);
    defaults.retain(|entry| !config.env.iter().any(|given| name(given) == name(entry)));
    defaults.extend(config.env.iter().cloned());
    defaults
}

fn hostname(config: &ContainerConfig) -> Option<String> {
    match (&config.uts, config.hostname.as_str()) {
        (NamespaceMode::Private, "") => Some(config.id.chars().take(12).collect()),
        (NamespaceMode::Private, name) => Some(name.to_owned()),
        _ => None,
    }
}

/// The user's own, over the labels that runtimes are shown.
fn annotations(config: &ContainerConfig) -> BTreeMap<&str, &str> {
    let all = config.labels.iter().chain(&config.annotations);
    all.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn linux(config: &ContainerConfig, host: &HostFacts, capabilities: &[&str]) -> Result<Value, InvalidConfig> {
    let seccomp = match &config.seccomp {
        Seccomp::Unconfined => None,
        // A profile of one's own holds for privileged containers too, as in Docker.
        Seccomp::Default if config.privileged => None,
        Seccomp::Default => Some(seccomp::default_profile(capabilities, host.architecture)),
        Seccomp::Profile(text) => {
            Some(seccomp::custom_profile(text, capabilities, host.architecture).map_err(InvalidConfig)?)
        }
    };
    let chosen_or = |chosen: &Option<Vec<String>>, default: &dyn Fn() -> Vec<String>| match chosen {
        Some(paths) => paths.clone(),
        None if config.privileged => Vec::new(),
        None => default(),
    };
    let masked = chosen_or(&config.masked_paths, &|| host.masked_paths.to_vec());
    let readonly = chosen_or(&config.readonly_paths, &|| READONLY_PATHS.map(str::to_owned).to_vec());
    let node = |d: &DeviceNode| {
        json!({"path": d.path, "type": d.kind.to_string(), "major": d.major, "minor": d.minor,
               "fileMode": d.mode, "uid": d.uid, "gid": d.gid})
    };
    let readonly = [readonly, readonly_cgroups(config, host)].concat();
    Ok(json!({
        "namespaces": namespaces(config),
        "cgroupsPath": host.cgroup_path,
        "sysctl": sysctls(config),
        "resources": resources(config, host),
        "devices": host.devices.iter().map(node).collect::<Vec<_>>(),
        "maskedPaths": masked,
        "readonlyPaths": readonly,
        "rootfsPropagation": root_propagation(config),
        "seccomp": seccomp,
    }))
}

/// The embedded runtime mounts hierarchies of v1 writable whatever is said of their mount: a container could lift its
/// own limits there.
fn readonly_cgroups(config: &ContainerConfig, host: &HostFacts) -> Vec<String> {
    const ROOT: &str = "/sys/fs/cgroup";
    let is_users = config.mounts.iter().any(|mount| mount.target.starts_with(ROOT) || ROOT.starts_with(&mount.target));
    if config.privileged || config.writable_cgroups || is_users || host.cgroup_hierarchies.is_empty() {
        return Vec::new();
    }
    let hierarchies = host.cgroup_hierarchies.iter().map(|name| format!("{ROOT}/{name}"));
    hierarchies.chain([ROOT.to_owned()]).collect()
}

/// Mounts go on to the host, or come from it, only below a root that does so too. One of the four words of the
/// OCI runtime specification (config-linux.md, rootfsPropagation).
fn root_propagation(config: &ContainerConfig) -> Option<&'static str> {
    let any = |wanted: &[Propagation]| config.mounts.iter().any(|mount| wanted.contains(&mount.propagation));
    if any(&[Propagation::Shared, Propagation::RShared]) {
        return Some("shared");
    }
    any(&[Propagation::Slave, Propagation::RSlave]).then_some("slave")
}

fn namespaces(config: &ContainerConfig) -> Vec<Value> {
    let mut list = vec![json!({"type": "mount"})];
    if let Some(path) = &config.netns {
        list.push(json!({"type": "network", "path": path}));
    }
    let modes = [("uts", &config.uts), ("pid", &config.pid), ("ipc", &config.ipc), ("cgroup", &config.cgroupns)];
    list.extend(modes.into_iter().filter_map(|(kind, mode)| match mode {
        NamespaceMode::Private => Some(json!({"type": kind})),
        NamespaceMode::Path(path) => Some(json!({"type": kind, "path": path})),
        NamespaceMode::Host => None,
    }));
    list
}

/// In a network namespace of its own a container may bind low ports and ping without a capability.
fn sysctls(config: &ContainerConfig) -> Value {
    let mut all = std::collections::BTreeMap::new();
    if config.netns.is_some() {
        all.insert("net.ipv4.ip_unprivileged_port_start", "0");
        all.insert("net.ipv4.ping_group_range", "0 2147483647");
    }
    all.extend(config.sysctls.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    json!(all)
}

fn resources(config: &ContainerConfig, host: &HostFacts) -> Value {
    let limits = &config.resources;
    let mut value = json!({"devices": device_rules(config, host)});
    if let Some(memory) = memory(limits, host.swap_limit) {
        value["memory"] = memory;
    }
    if let Some(cpu) = cpu(limits) {
        value["cpu"] = cpu;
    }
    if limits.pids_limit > 0 {
        value["pids"] = json!({"limit": limits.pids_limit});
    }
    if let Some(block_io) = block_io(limits) {
        value["blockIO"] = block_io;
    }
    value
}

fn memory(limits: &Resources, swap_limit: bool) -> Option<Value> {
    let mut memory = serde_json::Map::new();
    if limits.memory_bytes > 0 {
        memory.insert("limit".into(), limits.memory_bytes.into());
        if swap_limit {
            let twice = i64::try_from(limits.memory_bytes).unwrap_or(i64::MAX).saturating_mul(2);
            let swap = if limits.memory_swap_bytes == 0 { twice } else { limits.memory_swap_bytes };
            memory.insert("swap".into(), swap.into());
        }
    }
    if limits.memory_reservation_bytes > 0 {
        memory.insert("reservation".into(), limits.memory_reservation_bytes.into());
    }
    if let Some(swappiness) = limits.swappiness {
        memory.insert("swappiness".into(), swappiness.into());
    }
    if limits.oom_kill_disable {
        memory.insert("disableOOMKiller".into(), true.into());
    }
    (!memory.is_empty()).then_some(Value::Object(memory))
}

fn block_io(limits: &Resources) -> Option<Value> {
    let mut io = serde_json::Map::new();
    if limits.blkio_weight > 0 {
        io.insert("weight".into(), limits.blkio_weight.into());
    }
    for (key, kind) in [
        ("throttleReadBpsDevice", ThrottleKind::ReadBytes),
        ("throttleWriteBpsDevice", ThrottleKind::WriteBytes),
        ("throttleReadIOPSDevice", ThrottleKind::ReadOperations),
        ("throttleWriteIOPSDevice", ThrottleKind::WriteOperations),
    ] {
        let rates = limits.throttles.iter().filter(|throttle| throttle.kind == kind);
        let rates: Vec<Value> = rates.map(|t| json!({"major": t.major, "minor": t.minor, "rate": t.rate})).collect();
        if !rates.is_empty() {
            io.insert(key.into(), rates.into());
        }
    }
    (!io.is_empty()).then_some(Value::Object(io))
}

fn cpu(limits: &Resources) -> Option<Value> {
    let mut cpu = serde_json::Map::new();
    if limits.nano_cpus > 0 {
        // The kernel refuses a quota below one millisecond.
        let quota = u128::from(limits.nano_cpus) * u128::from(CPU_PERIOD_US) / 1_000_000_000;
        let quota = i64::try_from(quota).unwrap_or(i64::MAX).max(1000);
        cpu.insert("quota".into(), quota.into());
        cpu.insert("period".into(), CPU_PERIOD_US.into());
    }
    if limits.cpu_quota_us != 0 {
        cpu.insert("quota".into(), limits.cpu_quota_us.into());
    }
    if limits.cpu_period_us > 0 {
        cpu.insert("period".into(), limits.cpu_period_us.into());
    }
    if limits.cpu_shares > 0 {
        cpu.insert("shares".into(), limits.cpu_shares.into());
    }
    for (key, value) in [("cpus", &limits.cpuset_cpus), ("mems", &limits.cpuset_mems)] {
        if !value.is_empty() {
            cpu.insert(key.into(), value.as_str().into());
        }
    }
    (!cpu.is_empty()).then_some(Value::Object(cpu))
}

/// Nothing, then the devices that every program expects, then those asked for.
fn device_rules(config: &ContainerConfig, host: &HostFacts) -> Vec<Value> {
    if config.privileged {
        return vec![json!({"allow": true, "access": "rwm"})];
    }
    let allow =
        |major: i64, minor: i64| json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"});
    let mut rules = vec![
        json!({"allow": false, "access": "rwm"}),
        json!({"allow": true, "type": "c", "access": "m"}),
        json!({"allow": true, "type": "b", "access": "m"}),
    ];
    // null, zero, full, random, urandom, tty, console
    rules.extend(
        [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)].map(|(major, minor)| allow(major, minor)),
    );
    rules.push(json!({"allow": true, "type": "c", "major": 136, "access": "rwm"}));
    rules.extend(host.devices.iter().map(|d| {
        json!({"allow": true, "type": d.kind.to_string(), "major": d.major, "minor": d.minor, "access": d.permissions})
    }));
    rules.extend(config.device_rules.iter().map(|rule| {
        json!({"allow": true, "type": rule.kind.to_string(), "major": rule.major, "minor": rule.minor,
               "access": rule.permissions})
    }));
    rules
}

#[cfg(test)]
mod tests;
