//! From a task's spec and its image's configuration to what the runtime is asked to make. Pure.

use std::{collections::BTreeMap, path::PathBuf};

use image::RunConfig;
use runtime::{ContainerConfig, Device, FileMount, LogConfig, Mount, MountKind, NamespaceMode, Propagation};
use types::{
    Assignment, DeviceRequest, HostConfig, MountKind as WantedMount, NodeId, PortConfig, Seccomp, TaskSpec, plain_path,
};

use super::{
    container_id::{container_id, container_name},
    health::HealthSettings,
    log_driver::{self, About, LogDriverError, LogPlan},
    template::{Context, TemplateError},
};

/// Docker's own keys, so that tools which read containers find what they know.
const LABEL_SERVICE: &str = "com.docker.swarm.service.id";
const LABEL_SERVICE_NAME: &str = "com.docker.swarm.service.name";
const LABEL_NODE: &str = "com.docker.swarm.node.id";
const LABEL_TASK: &str = "com.docker.swarm.task.id";
/// Says by being there that it is a task's; it has no value.
const LABEL_IS_TASK: &str = "com.docker.swarm.task";
const LABEL_TASK_NAME: &str = "com.docker.swarm.task.name";
/// The name that somebody gave this container in place of its task's.
pub(super) const LABEL_RENAMED: &str = "rswarm.renamed";
/// How to stop it, for a daemon that finds the container without its assignment.
const LABEL_STOP_SIGNAL: &str = "rswarm.stop-signal";
const LABEL_STOP_GRACE_MS: &str = "rswarm.stop-grace-ms";
/// How to see whether it is well, for the same daemon.
const LABEL_HEALTH_CHECK: &str = "rswarm.health-check";

/// Networks that every host has of its own, by name (parity N-11).
const HOST: &str = "host";
pub(super) const BRIDGE: &str = "bridge";
pub(super) const NONE: &str = "none";

/// Whether the container shares the host's network namespace.
pub(super) fn is_on_host(spec: &TaskSpec) -> bool {
    spec.networks.iter().any(|network| network.target == HOST)
}

/// Why a spec cannot be run on this host. The text goes into the task's status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error(
        "the image's HEALTHCHECK {0:?} is neither NONE nor CMD nor CMD-SHELL; correct the image, or give a check with \
         --health-cmd or --no-healthcheck"
    )]
    ImageHealthCheck(String),
    #[error(transparent)]
    LogDriver(#[from] LogDriverError),
    #[error("no command: neither the service nor the image {0} says what to run")]
    NoCommand(String),
    #[error("mount propagation {0:?} is not known; known are private, rprivate, shared, rshared, slave and rslave")]
    Propagation(String),
    #[error(
        "{0:?} is no volume name: it has letters, digits, '_', '.' and '-' and begins with a letter or digit; correct \
         the source of the mount or what its placeholders stand for"
    )]
    VolumeName(String),
    #[error("ulimit {0} is negative and not -1")]
    Ulimit(String),
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// A mount with its placeholders filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedMount {
    pub target: String,
    pub read_only: bool,
    pub kind: WantedMount,
}

/// What is known of a task before anything is touched: checked, templates filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub hostname: String,
    pub env: Vec<String>,
    pub mounts: Vec<PlannedMount>,
    pub log: LogPlan,
    /// Where the task runs.
    pub node: Option<NodeId>,
}

/// What was made for the container before the container.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub rootfs: PathBuf,
    pub netns: Option<PathBuf>,
    pub files: Vec<(PathBuf, &'static str)>,
    /// Secrets and configs, by target.
    pub dependencies: Vec<(PathBuf, String)>,
    /// The directories of volumes and mounted images, by target.
    pub volumes: BTreeMap<String, PathBuf>,
    pub log_path: PathBuf,
}

/// Checks a task and fills in its templates.
pub(super) fn plan(context: &Context<'_>) -> Result<Planned, SpecError> {
    let assignment = context.assignment;
    let spec = &assignment.spec.container;
    let expand = |text: &String| context.expand(text);
    let mount = |m: &types::Mount| {
        let kind = match &m.kind {
            WantedMount::Bind { source, propagation, create, non_recursive, read_only_non_recursive } => {
                WantedMount::Bind {
                    source: plain_path(&expand(source)?),
                    propagation: propagation.clone(),
                    create: *create,
                    non_recursive: *non_recursive,
                    read_only_non_recursive: *read_only_non_recursive,
                }
            }
            WantedMount::Volume { name, no_copy, labels, driver_options, subpath } => {
                let expand_all = |texts: &types::Labels| {
                    texts.iter().map(|(k, v)| Ok((k.clone(), expand(v)?))).collect::<Result<_, TemplateError>>()
                };
                let name = expand(name)?;
                if !name.is_empty() && !types::is_volume_name(&name) {
                    return Err(SpecError::VolumeName(name));
                }
                let (labels, driver_options) = (expand_all(labels)?, expand_all(driver_options)?);
                WantedMount::Volume { name, no_copy: *no_copy, labels, driver_options, subpath: subpath.clone() }
            }
            WantedMount::Image { .. } | WantedMount::Tmpfs { .. } => m.kind.clone(),
        };
        Ok::<_, SpecError>(PlannedMount { target: plain_path(&expand(&m.target)?), read_only: m.read_only, kind })
    };
    let hostname = expand(&spec.hostname)?;
    let mut env: Vec<String> = spec.env.iter().map(expand).collect::<Result<_, _>>()?;
    env.extend(types::generic_resource_env(&assignment.granted));
    let (id, name, image) = (container_id(assignment.id), container_name(assignment), spec.image.familiar());
    let (hostname_of_host, labels) = (context.node_hostname, &spec.labels);
    let about = About { id: &id, name: &name, image: &image, hostname: hostname_of_host, labels, env: &env };
    let log = log_driver::plan(assignment.log_driver(), &about)?;
    Ok(Planned {
        hostname: match hostname.is_empty() {
            false => hostname,
            true if is_on_host(&assignment.spec) => context.node_hostname.to_owned(),
            true => id[..12].to_owned(),
        },
        env,
        mounts: spec.mounts.iter().map(mount).collect::<Result<_, _>>()?,
        log,
        node: context.node,
    })
}

/// The container as the runtime shall make it.
pub(super) fn container_config(
    assignment: &Assignment,
    planned: &Planned,
    image: &RunConfig,
    made: &Made,
    health: Option<&HealthSettings>,
    ports: &[PortConfig],
) -> Result<ContainerConfig, SpecError> {
    let spec = &assignment.spec.container;
    let args = command(&spec.command, &spec.args, image);
    if args.is_empty() {
        return Err(SpecError::NoCommand(spec.image.familiar()));
    }
    let or = |own: &str, other: &str| if own.is_empty() { other.to_owned() } else { own.to_owned() };
    let LogPlan { driver, forward } = planned.log.clone();
    let log = LogConfig { path: made.log_path.clone(), driver, forward };
    let mut config = ContainerConfig::new(&container_id(assignment.id), made.rootfs.clone(), args, log);
    config.env = given_env(&merge_env(&image.env, &planned.env));
    config.cwd = or(&spec.dir, &image.working_dir);
    config.user = or(&spec.user, &image.user);
    config.additional_groups = spec.groups.clone();
    config.hostname = planned.hostname.clone();
    config.netns = made.netns.clone();
    config.mounts = planned.mounts.iter().map(|m| mount(m, made)).collect::<Result<_, _>>()?;
    config.mounts.extend(image_volumes(planned, image).map(|target| volume(&target, "", false, made)));
    config.mounts.extend(made.dependencies.iter().map(|(source, target)| dependency(source, target)));
    config.files =
        made.files.iter().map(|(source, t)| FileMount { source: source.clone(), target: (*t).to_owned() }).collect();
    config.readonly_rootfs = spec.read_only;
    config.tty = spec.tty;
    config.open_stdin = spec.open_stdin;
    config.init = spec.init;
    config.capabilities_add = spec.capability_add.clone();
    config.capabilities_drop = spec.capability_drop.clone();
    config.no_new_privileges = spec.no_new_privileges;
    config.seccomp = runtime_seccomp(&spec.seccomp);
    let limits = &assignment.spec.resources.limits;
    config.resources.nano_cpus = limits.nano_cpus.0;
    config.resources.memory_bytes = limits.memory.0;
    config.resources.pids_limit = limits.pids;
    (config.resources.memory_swap_bytes, config.resources.swappiness) = swap(&assignment.spec.resources);
    config.resources.memory_reservation_bytes = assignment.spec.resources.reservations.memory.0;
    config.ulimits = spec.ulimits.iter().map(ulimit).collect::<Result<_, _>>()?;
    config.sysctls = spec.sysctls.clone();
    config.oom_score_adj = spec.oom_score_adj;
    host_config(&mut config, &spec.host);
    config.labels = labels(assignment, planned.node, image, health);
    let shown = shown::of_task(assignment, planned, image, made, &config, ports);
    config.labels.insert(shown::LABEL.to_owned(), shown);
    Ok(config)
}

/// Memory and swap together as the runtime counts them, and the swappiness (S-42).
fn swap(wanted: &types::ResourceRequirements) -> (i64, Option<u64>) {
    let memory = i64::try_from(wanted.limits.memory.0).unwrap_or(i64::MAX);
    let together = match wanted.swap_bytes {
        None => 0,
        Some(bytes) if bytes < 0 => -1,
        Some(bytes) => memory.saturating_add(bytes),
    };
    (together, wanted.swappiness.and_then(|value| u64::try_from(value).ok()))
}

fn host_config(config: &mut ContainerConfig, wanted: &HostConfig) {
    config.privileged = wanted.privileged;
    config.devices = wanted.devices.iter().map(runtime_device).collect();
    if wanted.pid_of_host {
        config.pid = NamespaceMode::Host;
    }
    if wanted.ipc_of_host {
        config.ipc = NamespaceMode::Host;
    }
    config.shm_size_bytes = wanted.shm_size.0;
    config.resources.cpuset_cpus.clone_from(&wanted.cpuset_cpus);
    config.resources.cpuset_mems.clone_from(&wanted.cpuset_mems);
}

pub(super) fn runtime_device(wanted: &DeviceRequest) -> Device {
    Device {
        host_path: (&wanted.host).into(),
        container_path: wanted.container.clone(),
        permissions: wanted.permissions.clone(),
        mode: None,
        uid: None,
        gid: None,
    }
}

pub(super) fn runtime_seccomp(wanted: &Seccomp) -> runtime::Seccomp {
    match wanted {
        Seccomp::Default => runtime::Seccomp::Default,
        Seccomp::Unconfined => runtime::Seccomp::Unconfined,
        Seccomp::Profile(text) => runtime::Seccomp::Profile(text.clone()),
    }
}

/// An entrypoint in the spec also switches off the image's command, as in Docker.
fn command(command: &[String], args: &[String], image: &RunConfig) -> Vec<String> {
    let entrypoint = if command.is_empty() { &image.entrypoint[..] } else { command };
    let rest = match (args.is_empty(), command.is_empty()) {
        (false, _) => args,
        (true, true) => &image.cmd[..],
        (true, false) => &[],
    };
    [entrypoint, rest].concat()
}

/// The image's variables with the spec's over them; a spec's `NAME` without `=` stands for one that shall not be there.
pub(super) fn merge_env(image: &[String], spec: &[String]) -> Vec<String> {
    fn name(variable: &str) -> &str {
        variable.split_once('=').map_or(variable, |(name, _)| name)
    }
    let overridden = |variable: &&String| spec.iter().any(|own| name(own) == name(variable));
    let kept = image.iter().filter(|v| !overridden(v));
    kept.chain(spec).cloned().collect()
}

/// Those of them that have a value: what a process is given.
pub(super) fn given_env(merged: &[String]) -> Vec<String> {
    merged.iter().filter(|variable| variable.contains('=')).cloned().collect()
}

fn mount(planned: &PlannedMount, made: &Made) -> Result<Mount, SpecError> {
    let (kind, propagation) = match &planned.kind {
        WantedMount::Bind { source, propagation: wanted, non_recursive, read_only_non_recursive, .. } => {
            let (recursive, readonly_below) = (!non_recursive, !read_only_non_recursive);
            (MountKind::Bind { source: source.into(), recursive, readonly_below }, propagation(wanted)?)
        }
        WantedMount::Volume { subpath, .. } => return Ok(volume(&planned.target, subpath, planned.read_only, made)),
        WantedMount::Image { subpath, .. } => return Ok(volume(&planned.target, subpath, true, made)),
        WantedMount::Tmpfs { size, mode, options } => {
            let mode = if *mode == 0 { 0o1777 } else { *mode };
            (MountKind::Tmpfs { size_bytes: size.0, mode, options: options.clone() }, Propagation::default())
        }
    };
    Ok(Mount { kind, target: planned.target.clone(), readonly: planned.read_only, propagation })
}

fn volume(target: &str, subpath: &str, readonly: bool, made: &Made) -> Mount {
    let source =
        made.volumes.get(target).cloned().expect("there is a directory for every volume and image of the plan");
    Mount {
        kind: MountKind::Volume { source, subpath: subpath.to_owned() },
        target: target.to_owned(),
        readonly,
        propagation: Propagation::default(),
    }
}

/// A file that nobody in the container can change.
fn dependency(source: &std::path::Path, target: &str) -> Mount {
    Mount {
        kind: MountKind::Bind { source: source.to_owned(), recursive: false, readonly_below: false },
        target: target.to_owned(),
        readonly: true,
        propagation: Propagation::default(),
    }
}

/// The image's own volumes that no mount of the spec stands in for.
pub(super) fn image_volumes(planned: &Planned, image: &RunConfig) -> impl Iterator<Item = String> {
    let targets: Vec<String> = planned.mounts.iter().map(|m| m.target.trim_end_matches('/').to_owned()).collect();
    let declared: Vec<String> = image.volumes.keys().cloned().collect();
    declared.into_iter().filter(move |v| !targets.iter().any(|t| t == v.trim_end_matches('/')))
}

pub(super) fn propagation(text: &str) -> Result<Propagation, SpecError> {
    Ok(match text {
        "" | "rprivate" => Propagation::RPrivate,
        "private" => Propagation::Private,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::RShared,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::RSlave,
        other => return Err(SpecError::Propagation(other.to_owned())),
    })
}

pub(super) fn ulimit(wanted: &types::Ulimit) -> Result<runtime::Ulimit, SpecError> {
    let value = |n: i64| match n {
        -1 => Ok(u64::MAX),
        n => u64::try_from(n).map_err(|_| SpecError::Ulimit(wanted.name.clone())),
    };
    Ok(runtime::Ulimit { name: wanted.name.clone(), soft: value(wanted.soft)?, hard: value(wanted.hard)? })
}

fn labels(
    assignment: &Assignment,
    node: Option<NodeId>,
    image: &RunConfig,
    health: Option<&HealthSettings>,
) -> BTreeMap<String, String> {
    let spec = &assignment.spec.container;
    let mut labels = image.labels.clone();
    labels.extend(spec.labels.clone());
    let signal = if spec.stop_signal.is_empty() { &image.stop_signal } else { &spec.stop_signal };
    let own = [
        (LABEL_SERVICE, assignment.service.to_string()),
        (LABEL_SERVICE_NAME, assignment.service_name.to_string()),
        (LABEL_NODE, node.map(|id| id.to_string()).unwrap_or_default()),
        (LABEL_TASK, assignment.id.to_string()),
        (LABEL_IS_TASK, String::new()),
        (LABEL_TASK_NAME, container_name(assignment)),
        (LABEL_STOP_SIGNAL, signal.clone()),
        (LABEL_STOP_GRACE_MS, spec.stop_grace_period.as_millis().to_string()),
    ];
    labels.extend(own.map(|(key, value)| (key.to_owned(), value)));
    // An image cannot bring a check by this way: without one the label must not be there.
    labels.remove(LABEL_HEALTH_CHECK);
    if let Some(health) = health {
        let text = serde_json::to_string(health).expect("settings are plain JSON values");
        labels.insert(LABEL_HEALTH_CHECK.to_owned(), text);
    }
    labels
}

/// How a found container wants to be stopped: signal (empty for the default) and milliseconds.
pub(super) fn stop_of_labels(labels: &BTreeMap<String, String>) -> (String, Option<u64>) {
    let signal = labels.get(LABEL_STOP_SIGNAL).cloned().unwrap_or_default();
    (signal, labels.get(LABEL_STOP_GRACE_MS).and_then(|ms| ms.parse().ok()))
}

/// How a found container wants to be looked at.
pub(super) fn health_of_labels(labels: &BTreeMap<String, String>) -> Option<HealthSettings> {
    serde_json::from_str(labels.get(LABEL_HEALTH_CHECK)?).ok()
}

/// What people call a task's container: as its task, unless somebody gave it another name.
pub(super) fn name_of_labels(labels: &BTreeMap<String, String>) -> Option<&String> {
    labels.get(LABEL_RENAMED).or_else(|| labels.get(LABEL_TASK_NAME))
}

mod shown;
pub(super) use shown::{record_of_labels, with_limits};

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
