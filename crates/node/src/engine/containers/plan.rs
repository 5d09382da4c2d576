//! From a record and what was made for its start to what the runtime is asked to make. Looks at devices, nothing else.

use runtime::{
    ContainerConfig, DeviceRule, DeviceWeight, FileMount, LogConfig, Mount, MountKind, NamespaceMode, Propagation,
    Resources, Throttle,
};
use std::{os::unix::fs::MetadataExt as _, path::PathBuf};

use types::with_causes;

use super::{
    ContainerError, Record,
    spec::{Limits, NamespaceRequest, ThrottleKind, WeightRequest},
    store::{MountPoint, PointKind},
};
use crate::engine::{
    container::{given_env, merge_env, propagation, runtime_device, runtime_seccomp, ulimit},
    log_driver::{self, About, LogPlan},
};

/// What was made for one start.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub rootfs: PathBuf,
    pub netns: Option<PathBuf>,
    pub files: Vec<(PathBuf, &'static str)>,
    pub pid: NamespaceMode,
    pub ipc: NamespaceMode,
    pub log_path: PathBuf,
    /// What its `/dev/shm` is, if it is not its own.
    pub shared_memory: Option<PathBuf>,
    /// What it is told of the containers it is linked to.
    pub link_env: Vec<String>,
    /// This host's name.
    pub host: String,
}

/// The container as the runtime shall make it.
pub(super) fn config(record: &Record, prepared: Prepared) -> Result<ContainerConfig, ContainerError> {
    let (spec, merged) = (&record.spec, &record.merged);
    let invalid = |e: crate::engine::container::SpecError| ContainerError::invalid(with_causes(&e));
    let about = About {
        id: &record.id,
        name: &record.name,
        image: &record.spec.image,
        hostname: &prepared.host,
        labels: &record.spec.labels,
        env: &record.merged.env,
    };
    let log = log_driver::plan(spec.log.as_ref(), &about).map_err(|e| ContainerError::invalid(e.to_string()))?;
    let args = [&merged.entrypoint[..], &merged.command[..]].concat();
    let LogPlan { driver, forward } = log;
    let log = LogConfig { path: prepared.log_path, driver, forward };
    let mut config = ContainerConfig::new(&record.id, prepared.rootfs, args, log);
    log_driver::complete(&mut config.log, &record.image, &config.args, record.created_at);
    // The container's own stand over those.
    config.env = merge_env(&prepared.link_env, &given_env(&merged.env));
    config.cwd.clone_from(&merged.dir);
    config.user.clone_from(&merged.user);
    config.additional_groups.clone_from(&spec.groups);
    if spec.uts_of_host {
        config.uts = NamespaceMode::Host;
    } else {
        config.hostname.clone_from(&merged.hostname);
        config.domainname.clone_from(&spec.domainname);
    }
    config.netns = prepared.netns;
    (config.pid, config.ipc) = (prepared.pid, prepared.ipc);
    if spec.cgroupns_of_host {
        config.cgroupns = NamespaceMode::Host;
    }
    config.mounts = record.points.iter().map(mount).collect::<Result<_, _>>()?;
    // What the user mounts at such a place is meant.
    let files = prepared.files.into_iter().filter(|(_, place)| !record.points.iter().any(|p| p.target == *place));
    config.files = files.map(|(source, target)| FileMount { source, target: target.to_owned() }).collect();
    config.readonly_rootfs = spec.read_only;
    (config.tty, config.open_stdin) = (spec.streams.tty, spec.streams.open_stdin);
    config.init = spec.init.unwrap_or(false);
    config.privileged = spec.privileged;
    config.capabilities_add.clone_from(&spec.capability_add);
    config.capabilities_drop.clone_from(&spec.capability_drop);
    config.no_new_privileges = spec.no_new_privileges;
    config.writable_cgroups = spec.writable_cgroups;
    config.shm_source = prepared.shared_memory;
    config.no_shm = spec.ipc == NamespaceRequest::None;
    config.annotations.clone_from(&spec.annotations);
    config.seccomp = runtime_seccomp(&spec.seccomp);
    config.masked_paths.clone_from(&spec.masked_paths);
    config.readonly_paths.clone_from(&spec.readonly_paths);
    config.resources = resources(&spec.limits)?;
    config.cgroup_parent.clone_from(&spec.limits.cgroup_parent);
    config.ulimits = spec.ulimits.iter().map(ulimit).collect::<Result<_, _>>().map_err(invalid)?;
    config.sysctls.clone_from(&spec.sysctls);
    config.shm_size_bytes = spec.shm_size_bytes;
    config.oom_score_adj = spec.oom_score_adj;
    config.devices = spec.devices.iter().map(runtime_device).collect();
    let rule = |r: &super::spec::DeviceRuleRequest| DeviceRule {
        kind: r.kind,
        major: r.major,
        minor: r.minor,
        permissions: r.permissions.clone(),
    };
    config.device_rules = spec.device_rules.iter().map(rule).collect();
    config.labels.clone_from(&merged.labels);
    Ok(config)
}

pub(super) fn resources(limits: &Limits) -> Result<Resources, ContainerError> {
    let weight = |wanted: &WeightRequest| {
        let (major, minor) = block_device(&wanted.path)?;
        Ok(DeviceWeight { major, minor, weight: wanted.weight })
    };
    let device_weights = limits.device_weights.iter().map(weight).collect::<Result<_, ContainerError>>()?;
    let mut throttles = Vec::new();
    for wanted in &limits.throttles {
        let (major, minor) = block_device(&wanted.path)?;
        throttles.push(Throttle {
            kind: match wanted.kind {
                ThrottleKind::ReadBytes => runtime::ThrottleKind::ReadBytes,
                ThrottleKind::WriteBytes => runtime::ThrottleKind::WriteBytes,
                ThrottleKind::ReadOperations => runtime::ThrottleKind::ReadOperations,
                ThrottleKind::WriteOperations => runtime::ThrottleKind::WriteOperations,
            },
            major,
            minor,
            rate: wanted.rate,
        });
    }
    Ok(Resources {
        nano_cpus: limits.nano_cpus,
        memory_bytes: limits.memory_bytes,
        memory_swap_bytes: limits.memory_swap_bytes,
        memory_reservation_bytes: limits.memory_reservation_bytes,
        pids_limit: limits.pids,
        cpu_shares: limits.cpu_shares,
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        cpu_quota_us: limits.cpu_quota_us,
        cpu_period_us: limits.cpu_period_us,
        swappiness: limits.swappiness,
        oom_kill_disable: limits.oom_kill_disable,
        blkio_weight: limits.blkio_weight,
        device_weights,
        throttles,
    })
}

/// Major and minor number.
fn block_device(path: &str) -> Result<(i64, i64), ContainerError> {
    match std::fs::metadata(path).map(|metadata| metadata.rdev()).unwrap_or(0) {
        0 => Err(ContainerError::invalid(format!("{path} is not a device of this host: limit another"))),
        number => {
            let part = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            Ok((part(nix::sys::stat::major(number)), part(nix::sys::stat::minor(number))))
        }
    }
}

fn mount(point: &MountPoint) -> Result<Mount, ContainerError> {
    let (kind, spread) = match &point.kind {
        PointKind::Bind { source, propagation: wanted, non_recursive, read_only_non_recursive } => {
            let spread = propagation(wanted).map_err(|e| ContainerError::invalid(with_causes(&e)))?;
            let (recursive, readonly_below) = (!non_recursive, !read_only_non_recursive);
            (MountKind::Bind { source: source.into(), recursive, readonly_below }, spread)
        }
        PointKind::Volume { source, subpath, .. } | PointKind::Image { source, subpath, .. } => {
            (MountKind::Volume { source: source.clone(), subpath: subpath.clone() }, Propagation::default())
        }
        PointKind::Tmpfs { size_bytes, mode, options, .. } => {
            let kind = MountKind::Tmpfs { size_bytes: *size_bytes, mode: *mode, options: options.clone() };
            (kind, Propagation::default())
        }
    };
    Ok(Mount { kind, target: point.target.clone(), readonly: point.read_only, propagation: spread })
}
