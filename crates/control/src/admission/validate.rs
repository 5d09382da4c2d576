//! What a service spec must fulfil, in words. Syntax was settled when the spec was parsed; this is about
//! values that contradict each other or the machine.

use std::collections::BTreeSet;

use types::{
    Bytes, Constraint, ContainerSpec, ImageReference, Mount, MountKind, NanoCpus, OnMissing, REBALANCE_LABEL,
    REFRESH_LABEL, RebalancePolicy, ResourceRequirements, Resources, STRATEGY_LABEL, ServiceMode, ServiceSpec,
    Strategy, TaskSpec, UpdateConfig, stack_of, template,
};

use crate::Rejection;

/// More replicas than this in one service is a slip of the finger: the whole system is made for a million.
const MAX_REPLICAS: u64 = 1_000_000;
/// A thousand thousandths.
const MAX_PERMILLE: u16 = 1000;

fn invalid<T>(what: String) -> Result<T, Rejection> {
    Err(Rejection::Invalid(what))
}

pub(super) fn service(spec: &ServiceSpec) -> Result<(), Rejection> {
    mode(spec)?;
    update("update", &spec.update)?;
    update("rollback", &spec.rollback)?;
    super::ports::check(spec)?;
    steering(spec)?;
    refresh(spec)?;
    templates(spec)?;
    task(&spec.task)
}

/// Labels that steer, and whether they can.
fn steering(spec: &ServiceSpec) -> Result<(), Rejection> {
    let name = &spec.name;
    // in a stack a service is called by its short name, too
    let is_itself = |called: &str| {
        called == name.as_str()
            || stack_of(&spec.labels).is_some_and(|stack| format!("{stack}_{called}") == name.as_str())
    };
    let wants_itself = |constraint: &Constraint| {
        let (names, wants) = constraint.neighbours()?;
        let is_alone = !names.is_empty() && names.iter().all(|called| is_itself(called));
        (wants && !constraint.soft && is_alone).then(|| constraint.to_string())
    };
    if let Some(constraint) = spec.task.placement.constraints.iter().find_map(wants_itself) {
        return invalid(format!(
            "service {name}: constraint {constraint} would have its first task wait for itself: name another service"
        ));
    }
    let steering = match spec.steering() {
        Ok(steering) => steering,
        Err(why) => return invalid(format!("service {name}: {why}")),
    };
    let Some(policy) = steering.rebalance.filter(|policy| *policy != RebalancePolicy::Off) else { return Ok(()) };
    let volume = spec.task.container.node_volumes().next().filter(|_| steering.on_missing == OnMissing::Wait);
    match (spec.mode, volume) {
        (ServiceMode::Replicated { .. }, Some(volume)) => invalid(format!(
            "service {name}: label {REBALANCE_LABEL}={policy} would move tasks away from their data in volume {volume}, which \
             each node has for itself: leave it off, or use storage that all nodes reach"
        )),
        (ServiceMode::Replicated { .. }, None) if steering.strategy == Strategy::BinPack => invalid(format!(
            "service {name}: labels {REBALANCE_LABEL}={policy} and {STRATEGY_LABEL}=binpack contradict each other: even out or \
             fill up, not both"
        )),
        (ServiceMode::Replicated { .. }, None) => Ok(()),
        (mode, _) => invalid(format!(
            "service {name}: label {REBALANCE_LABEL}={policy} is for replicated services; a {} service has nothing to even out",
            mode.as_str()
        )),
    }
}

/// Whether files can change in containers that stay (P12).
fn refresh(spec: &ServiceSpec) -> Result<(), Rejection> {
    let name = &spec.name;
    match spec.refresh() {
        Err(why) => invalid(format!("service {name}: {why}")),
        Ok(Some(_)) if spec.mode.is_job() => invalid(format!(
            "service {name}: label {REFRESH_LABEL} is for services that go on running; the next tasks of a {} have the new \
             files by themselves: leave it off",
            spec.mode.as_str()
        )),
        Ok(_) => Ok(()),
    }
}

/// What a node could not fill in is refused before any task is made (parity S-52).
fn templates(spec: &ServiceSpec) -> Result<(), Rejection> {
    for (what, text) in spec.task.container.templates() {
        if let Err(why) = template::check(text) {
            return invalid(format!("service {}: {what} {text:?}: {why}", spec.name));
        }
    }
    Ok(())
}

fn mode(spec: &ServiceSpec) -> Result<(), Rejection> {
    let name = &spec.name;
    match spec.mode {
        ServiceMode::Replicated { replicas } if replicas > MAX_REPLICAS => {
            invalid(format!("service {name} asks for {replicas} replicas, at most {MAX_REPLICAS} are possible"))
        }
        ServiceMode::ReplicatedJob { total_completions, .. } if total_completions > MAX_REPLICAS => {
            invalid(format!("job {name} asks for {total_completions} completions, at most {MAX_REPLICAS} are possible"))
        }
        ServiceMode::ReplicatedJob { max_concurrent: 0, total_completions: 1.. } => {
            invalid(format!("job {name} allows 0 tasks at a time and would never end: give max concurrent 1 or more"))
        }
        // Docker's words
        _ if spec.mode.is_job() && spec.update != UpdateConfig::default() => {
            invalid("jobs may not have an update config".to_owned())
        }
        _ => Ok(()),
    }
}

fn update(which: &str, config: &UpdateConfig) -> Result<(), Rejection> {
    if config.max_failure_permille > MAX_PERMILLE {
        let ratio = f64::from(config.max_failure_permille) / f64::from(MAX_PERMILLE);
        return invalid(format!("{which}: max failure ratio {ratio} is out of range: give 0 to 1"));
    }
    Ok(())
}

fn task(spec: &TaskSpec) -> Result<(), Rejection> {
    container(&spec.container)?;
    let (limits, reservations) = (&spec.resources.limits, &spec.resources.reservations);
    amounts("limit", limits)?;
    amounts("reservation", reservations)?;
    if limits.nano_cpus.0 > 0 && reservations.nano_cpus > limits.nano_cpus {
        return invalid(format!(
            "reservation of {} CPUs is above the limit of {}",
            cpus(reservations.nano_cpus),
            cpus(limits.nano_cpus)
        ));
    }
    if limits.memory.0 > 0 && reservations.memory > limits.memory {
        return invalid(format!(
            "reservation of {} bytes of memory is above the limit of {}",
            reservations.memory.0, limits.memory.0
        ));
    }
    if !limits.generic.is_empty() {
        return invalid("generic resources can be reserved, not limited".to_owned());
    }
    swap(&spec.resources)
}

/// S-42.
fn swap(resources: &ResourceRequirements) -> Result<(), Rejection> {
    if let Some(bytes) = resources.swap_bytes {
        if bytes < -1 {
            return invalid(format!("invalid swap value {bytes}: give a number of bytes, or -1 for no bound"));
        }
        if resources.limits.memory.0 == 0 {
            return invalid(
                "swap can only be bounded beside memory: set a memory limit too (--limit-memory)".to_owned(),
            );
        }
    }
    if let Some(value) = resources.swappiness.filter(|value| !ResourceRequirements::SWAPPINESS.contains(value)) {
        return invalid(format!("invalid memory swappiness {value}: give 0 to 100, or -1 for the host's own"));
    }
    Ok(())
}

fn amounts(which: &str, resources: &Resources) -> Result<(), Rejection> {
    let (cpu, memory) = (resources.nano_cpus, resources.memory);
    if cpu.0 > 0 && cpu < NanoCpus::MIN {
        return invalid(format!(
            "invalid cpu value {} in {which}: must be at least {}",
            cpus(cpu),
            cpus(NanoCpus::MIN)
        ));
    }
    if memory.0 > 0 && memory < Bytes::MIN_MEMORY {
        return invalid(format!("invalid memory value {} in {which}: must be at least 4MiB", memory.0));
    }
    match resources.generic.iter().find(|(kind, amount)| kind.is_empty() || amount.amount() == 0) {
        Some((kind, _)) => invalid(format!("generic resource {kind:?} in {which} needs a name and an amount")),
        None => Ok(()),
    }
}

#[allow(clippy::cast_precision_loss)] // for showing
fn cpus(amount: NanoCpus) -> f64 {
    amount.0 as f64 / 1e9
}

fn container(spec: &ContainerSpec) -> Result<(), Rejection> {
    let mut targets = BTreeSet::new();
    for mount in &spec.mounts {
        self::mount(mount)?;
        let target = mount.target.trim_end_matches('/');
        if !targets.insert(target) {
            return invalid(format!("duplicate mount point: {}", mount.target));
        }
    }
    if let Some(bad) = spec.env.iter().find(|env| env.is_empty() || env.starts_with('=')) {
        return invalid(format!("invalid environment variable {bad:?}: write NAME=value"));
    }
    if !spec.dir.is_empty() && !spec.dir.starts_with('/') {
        return invalid(format!("the working directory {:?} needs to be an absolute path", spec.dir));
    }
    if !(-1000..=1000).contains(&spec.oom_score_adj) {
        return invalid(format!("oom score adjustment {} is out of range: give -1000 to 1000", spec.oom_score_adj));
    }
    match spec.ulimits.iter().find(|u| u.hard >= 0 && (u.soft < 0 || u.soft > u.hard)) {
        Some(u) => invalid(format!("ulimit {}: soft limit {} is above the hard limit {}", u.name, u.soft, u.hard)),
        None => Ok(()),
    }
}

fn mount(mount: &Mount) -> Result<(), Rejection> {
    if !mount.target.starts_with('/') {
        return invalid(format!("invalid mount target, must be an absolute path: {:?}", mount.target));
    }
    if mount.target.trim_matches('/').is_empty() {
        return invalid("invalid mount target: the root of the container cannot be mounted over".to_owned());
    }
    match &mount.kind {
        MountKind::Bind { source, .. } if !source.starts_with('/') => {
            invalid(format!("invalid bind mount source, must be an absolute path: {source:?}"))
        }
        MountKind::Image { source, .. } => match source.parse::<ImageReference>() {
            Ok(_) => Ok(()),
            Err(why) => invalid(format!(
                "invalid image mount source {source:?}: {why}; name an image that every node can get, without placeholders"
            )),
        },
        _ => Ok(()),
    }
}
