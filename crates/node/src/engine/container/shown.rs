//! What of a task's container is shown beside single containers: its record, which travels with it as a label, so
//! that a daemon that finds it can show it without its assignment.

use std::path::{Path, PathBuf};

use image::RunConfig;
use runtime::ContainerConfig;
use types::{Assignment, Labels, PortConfig, Timestamp};

use super::{HOST, Made, NONE, Planned, WantedMount, image_volumes, is_on_host};
use crate::engine::{
    container_id::{container_id, container_name},
    containers::{
        Merged, MountPoint, Phase, PointKind, Record, State, exposed_by,
        spec::{AskedMount, Limits, MountForm, NamespaceRequest, NetworkRequest, PlaceRequest, SingleSpec, Streams},
    },
    network::{first_ipv4, first_ipv6},
};

pub(super) const LABEL: &str = "rswarm.record";

/// Ours alone, not for people.
const OWN: &str = "rswarm.";

/// The record's text.
pub(super) fn of_task(
    a: &Assignment,
    planned: &Planned,
    image: &RunConfig,
    made: &Made,
    config: &ContainerConfig,
    ports: &[PortConfig],
) -> String {
    let spec = &a.spec.container;
    let of_image = image_volumes(planned, image).map(|target| MountPoint {
        kind: anonymous(directory_of(made, &target)),
        target,
        read_only: false,
        mode: String::new(),
    });
    let points = planned.mounts.iter().map(|mount| point(mount, made)).chain(of_image).collect();
    let entrypoint = if spec.command.is_empty() { image.entrypoint.clone() } else { spec.command.clone() };
    let command = config.args[entrypoint.len().min(config.args.len())..].to_vec();
    let record = Record {
        id: container_id(a.id),
        name: container_name(a),
        created_at: Timestamp::EPOCH,
        image: String::new(),
        spec: single_spec(a, config),
        merged: Merged {
            health: None,
            entrypoint,
            command,
            env: config.env.clone(),
            dir: config.cwd.clone(),
            user: config.user.clone(),
            hostname: planned.hostname.clone(),
            labels: Labels::new(),
            stop_signal: spec.stop_signal.clone(),
            exposed: exposed_by(image).chain(ports.iter().map(|port| (port.target, port.protocol))).collect(),
            volumes: Vec::new(),
        },
        points,
        health: None,
        state: State { ports: ports.to_vec(), ..State::default() },
    };
    as_text(&record)
}

fn as_text(record: &Record) -> String {
    serde_json::to_string(record).expect("a record is plain JSON values")
}

/// Of a volume or a mounted image.
fn directory_of(made: &Made, target: &str) -> PathBuf {
    made.volumes.get(target).cloned().unwrap_or_default()
}

/// Of one that the user gave no name, the directory says it: `volumes/<name>/_data`.
fn anonymous(source: PathBuf) -> PointKind {
    let name = source.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    PointKind::Volume { name, source, is_anonymous: true, subpath: String::new() }
}

fn point(m: &super::PlannedMount, made: &Made) -> MountPoint {
    let kind = match &m.kind {
        WantedMount::Bind { source, propagation, non_recursive, read_only_non_recursive, .. } => PointKind::Bind {
            source: source.clone(),
            propagation: propagation.clone(),
            non_recursive: *non_recursive,
            read_only_non_recursive: *read_only_non_recursive,
        },
        WantedMount::Volume { name, .. } if name.is_empty() => anonymous(directory_of(made, &m.target)),
        WantedMount::Volume { name, subpath, .. } => PointKind::Volume {
            name: name.clone(),
            source: directory_of(made, &m.target),
            is_anonymous: false,
            subpath: subpath.clone(),
        },
        WantedMount::Image { source, subpath } => PointKind::Image {
            name: source.clone(),
            image: String::new(),
            source: directory_of(made, &m.target),
            subpath: subpath.clone(),
        },
        WantedMount::Tmpfs { size, mode, options } => {
            PointKind::Tmpfs { size_bytes: size.0, mode: *mode, options: options.clone(), is_listed: true }
        }
    };
    let read_only = m.read_only || matches!(kind, PointKind::Image { .. });
    let mode = if matches!(kind, PointKind::Volume { .. }) { "z".to_owned() } else { String::new() };
    MountPoint { kind, target: m.target.clone(), read_only, mode }
}

fn namespace(of_host: bool) -> NamespaceRequest {
    if of_host { NamespaceRequest::Host } else { NamespaceRequest::Private }
}

fn single_spec(a: &Assignment, config: &ContainerConfig) -> SingleSpec {
    let spec = &a.spec.container;
    let place = |attachment: &types::Attachment| PlaceRequest {
        aliases: attachment.aliases.clone(),
        address: first_ipv4(&attachment.addresses),
        address6: first_ipv6(&attachment.addresses),
        ..PlaceRequest::of(&attachment.network.to_string())
    };
    let network = match a.spec.networks.iter().find(|n| n.target == NONE || n.target == HOST) {
        _ if is_on_host(&a.spec) => NetworkRequest::Host,
        Some(_) => NetworkRequest::None,
        None if a.attachments.is_empty() => NetworkRequest::default(),
        None => NetworkRequest::Places(a.attachments.iter().map(place).collect()),
    };
    SingleSpec {
        image: spec.image.familiar(),
        streams: Streams { tty: spec.tty, open_stdin: spec.open_stdin, ..Streams::default() },
        groups: spec.groups.clone(),
        health: spec.health_check.clone(),
        network,
        dns: spec.dns.clone(),
        mounts: spec.mounts.iter().map(|mount| AskedMount { mount: mount.clone(), form: MountForm::Mount }).collect(),
        init: spec.init_asked(),
        read_only: spec.read_only,
        capability_add: spec.capability_add.clone(),
        capability_drop: spec.capability_drop.clone(),
        no_new_privileges: spec.no_new_privileges,
        privileged: spec.host.privileged,
        devices: spec.host.devices.clone(),
        claims: spec.host.claims.clone(),
        pid: namespace(spec.host.pid_of_host),
        ipc: namespace(spec.host.ipc_of_host),
        shm_size_bytes: spec.host.shm_size.0,
        ulimits: spec.ulimits.clone(),
        sysctls: spec.sysctls.clone(),
        limits: Limits {
            nano_cpus: config.resources.nano_cpus,
            memory_bytes: config.resources.memory_bytes,
            memory_reservation_bytes: config.resources.memory_reservation_bytes,
            memory_swap_bytes: config.resources.memory_swap_bytes,
            swappiness: config.resources.swappiness,
            pids: config.resources.pids_limit,
            cpuset_cpus: spec.host.cpuset_cpus.clone(),
            cpuset_mems: spec.host.cpuset_mems.clone(),
            ..Limits::default()
        },
        oom_score_adj: spec.oom_score_adj,
        log: a.log_driver().cloned(),
        ..SingleSpec::default()
    }
}

/// The label that bears the record, with other limits; `None` of a container from an older version, which has none.
pub(in crate::engine) fn with_limits(labels: &Labels, limits: Limits) -> Option<(&'static str, String)> {
    let mut record: Record = serde_json::from_str(labels.get(LABEL)?).ok()?;
    record.spec.limits = limits;
    Some((LABEL, as_text(&record)))
}

/// The record that a container bears as a label; one from an older version has little of it.
pub(in crate::engine) fn record_of_labels(id: &str, labels: &Labels) -> Record {
    let known = labels.get(LABEL).and_then(|text| serde_json::from_str::<Record>(text).ok());
    let mut record = known.unwrap_or_else(|| Record {
        id: id.to_owned(),
        name: labels.get(super::LABEL_TASK_NAME).cloned().unwrap_or_else(|| id.to_owned()),
        created_at: Timestamp::EPOCH,
        image: String::new(),
        spec: SingleSpec::default(),
        merged: Merged::default(),
        points: Vec::new(),
        health: None,
        state: State::default(),
    });
    record.state.phase = Phase::Running;
    if let Some(name) = labels.get(super::LABEL_RENAMED) {
        record.name.clone_from(name);
    }
    let shown = labels.iter().filter(|(key, _)| !key.starts_with(OWN));
    record.merged.labels = shown.map(|(key, value)| (key.clone(), value.clone())).collect();
    record
}
