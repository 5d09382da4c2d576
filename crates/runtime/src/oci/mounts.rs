//! The container's mounts, in the order in which they must be made. Pure.

use std::path::Path;

use serde_json::{Value, json};

use super::HostFacts;
use crate::config::{ContainerConfig, HostMount, Mount, MountKind, NamespaceMode, Propagation};

/// Controllers that the embedded runtime puts a container into on hierarchies of v1: elsewhere it has no cgroup.
const JOINED: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// What every container has, then what the caller asked for, shallow targets first.
pub(super) fn mounts(config: &ContainerConfig, host: &HostFacts) -> Vec<Value> {
    let mut wanted: Vec<(usize, Value)> =
        config.mounts.iter().map(|mount| (depth(&mount.target), one(mount))).collect();
    wanted.extend(config.files.iter().map(|file| {
        let mut options = vec!["rbind", "rprivate"];
        if config.readonly_rootfs {
            options.push("ro");
        }
        (
            depth(&file.target),
            json!({"destination": file.target, "type": "bind", "source": file.source, "options": options}),
        )
    }));
    wanted.extend(config.host_mounts.iter().map(|HostMount { source, target, kind, options }| {
        (depth(target), json!({"destination": target, "type": kind, "source": source, "options": options}))
    }));
    wanted.sort_by_key(|(depth, _)| *depth); // stable: the caller's order among equals
    let asked = |target: &str| config.mounts.iter().any(|mount| mount.target.trim_end_matches('/') == target);
    standard(config, host)
        .into_iter()
        .filter(|mount| !asked(mount["destination"].as_str().unwrap_or_default()))
        .chain(wanted.into_iter().map(|(_, mount)| mount))
        .collect()
}

fn depth(target: &str) -> usize {
    target.split('/').filter(|part| !part.is_empty()).count()
}

fn standard(config: &ContainerConfig, host: &HostFacts) -> Vec<Value> {
    let access = if config.privileged { "rw" } else { "ro" };
    let shm_kib = if config.shm_size_bytes == 0 { 65_536 } else { config.shm_size_bytes.div_ceil(1024) };
    let bound = |source: &Path| json!({"destination": "/dev/shm", "type": "bind", "source": source, "options": ["rbind", "rprivate"]});
    let shm = match (&config.shm_source, &config.ipc) {
        (Some(source), _) => bound(source),
        (None, NamespaceMode::Host) => bound(Path::new("/dev/shm")),
        (None, NamespaceMode::Private | NamespaceMode::Path(_)) => json!({"destination": "/dev/shm", "type": "tmpfs",
            "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", format!("size={shm_kib}k")]}),
    };
    let cgroup_access = if config.writable_cgroups { "rw" } else { access };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", access]}),
    ];
    mounts.extend(cgroups(config, host, cgroup_access));
    mounts.push(json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}));
    mounts.extend((!config.no_shm).then_some(shm));
    mounts
}

/// What the container sees of its cgroup. In another's pid namespace the embedded runtime looks for itself in the host's
/// /proc by its pid in there (libcontainer 0.7, `rootfs/mount.rs`), where mostly nobody is or somebody else: there the
/// hierarchies of v1 are bound one by one.
fn cgroups(config: &ContainerConfig, host: &HostFacts, access: &str) -> Vec<Value> {
    const ROOT: &str = "/sys/fs/cgroup";
    if !matches!(config.pid, NamespaceMode::Path(_)) || host.cgroup_hierarchies.is_empty() {
        return vec![json!({"destination": ROOT, "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", access]})];
    }
    let is_joined = |name: &&String| name.split(',').all(|controller| JOINED.contains(&controller));
    let bound = host.cgroup_hierarchies.iter().filter(is_joined).map(|name| {
        json!({"destination": format!("{ROOT}/{name}"), "type": "bind", "source": format!("{ROOT}/{name}{}", host.cgroup_path),
            "options": ["bind", "nosuid", "noexec", "nodev", "relatime", access]})
    });
    // made read-only, where it shall be, when all are there
    let root = json!({"destination": ROOT, "type": "tmpfs", "source": "tmpfs",
        "options": ["nosuid", "noexec", "nodev", "mode=755", "size=64k"]});
    [root].into_iter().chain(bound).collect()
}

fn one(mount: &Mount) -> Value {
    let (kind, source) = match &mount.kind {
        MountKind::Bind { source, .. } | MountKind::Volume { source, .. } => ("bind", source.clone()),
        MountKind::Tmpfs { .. } => ("tmpfs", "tmpfs".into()),
    };
    json!({"destination": mount.target, "type": kind, "source": source, "options": options(mount)})
}

pub(crate) fn options(mount: &Mount) -> Vec<String> {
    let propagation = match mount.propagation {
        Propagation::Private => "private",
        Propagation::RPrivate => "rprivate",
        Propagation::Shared => "shared",
        Propagation::RShared => "rshared",
        Propagation::Slave => "slave",
        Propagation::RSlave => "rslave",
    };
    let mut options: Vec<String> = vec![propagation.to_owned()];
    if mount.readonly {
        options.push("ro".to_owned());
    }
    match &mount.kind {
        MountKind::Bind { recursive, readonly_below, .. } => {
            options.insert(0, if *recursive { "rbind" } else { "bind" }.to_owned());
            if mount.readonly && *recursive && *readonly_below {
                options.push("rro".to_owned());
            }
        }
        MountKind::Volume { .. } => options.insert(0, "rbind".to_owned()),
        MountKind::Tmpfs { size_bytes, mode, options: wanted } => {
            options.extend(["noexec", "nosuid", "nodev"].map(str::to_owned));
            options.push(format!("mode={:o}", if *mode == 0 { 0o1777 } else { *mode }));
            if *size_bytes > 0 {
                options.push(format!("size={size_bytes}"));
            }
            options.extend(wanted.iter().cloned());
        }
    }
    options
}
