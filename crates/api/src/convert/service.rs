//! Services: Docker's `ServiceSpec` to `types::ServiceSpec` and back.

use std::time::Duration;

use serde_json::{Value, json};
use types::{
    DisconnectPolicy, Name, NetworkAttachmentSpec, Rebalance, Reconcile, Service, ServiceMode, ServiceSpec,
    ServiceView, Stated, TaskSpec, Timestamp, UpdateConfig, UpdateState, UpdateStatus,
};

use super::{
    container, endpoint, job,
    network::named_network,
    network_view::{Networks, write_virtual_ips},
    policy,
    reader::{FieldError, Object},
    stack, stated,
    time::{nanos, rfc3339},
    writer::Fields,
};

/// What a request leaves to the server.
#[derive(Debug, Default)]
pub(crate) struct Given<'a> {
    /// The name of a new service that was given none.
    pub(crate) name: Option<Name>,
    /// On update, the spec before: keeps what Docker's clients do not send back (`DependsOn`, `Disconnect`, `Mesh`, `Schedule`,
    /// where ports are published).
    pub(crate) previous: Option<&'a ServiceSpec>,
}

/// A whole spec. Fields that are absent get Docker's defaults; what cannot be honoured is refused.
pub(crate) fn read(body: &Value, given: Given<'_>) -> Result<ServiceSpec, FieldError> {
    let mut from = Object::root(body)?;
    let name = from.parsed("Name", |text| text.parse::<Name>().map_err(|why| why.to_string()))?;
    let name = name
        .or(given.name)
        .ok_or(FieldError::Missing { path: "Name".to_owned(), hint: "give the name the service has" })?;
    let (has_update, has_rollback) = (from.has("UpdateConfig"), from.has("RollbackConfig"));
    let disconnect = match from.has("Disconnect") {
        true => read_disconnect(from.object("Disconnect")?)?,
        false => given.previous.map(|spec| spec.disconnect).unwrap_or_default(),
    };
    let schedule = match from.has("Schedule") {
        true => job::read_schedule(from.object("Schedule")?)?,
        false => given.previous.and_then(|spec| spec.schedule.clone()),
    };
    let needs = match from.has("DependsOn") {
        true => stack::read_needs(from.objects("DependsOn")?)?,
        false => given.previous.map(|spec| spec.needs.clone()).unwrap_or_default(),
    };
    let mode = job::read_mode(from.object("Mode")?)?;
    if has_update && mode.is_job() {
        return Err(from.bad("UpdateConfig", "jobs may not have an update config"));
    }
    let mut task = read_task(from.object("TaskTemplate")?)?;
    // Where clients before API 1.25 put them.
    let legacy = read_networks(from.objects("Networks")?)?;
    if task.networks.is_empty() {
        task.networks = legacy;
    }
    let spec = ServiceSpec {
        name,
        labels: from.labels("Labels")?,
        task,
        mode,
        update: policy::read_update(from.object("UpdateConfig")?, has_update)?,
        rollback: policy::read_update(from.object("RollbackConfig")?, has_rollback)?,
        endpoint: endpoint::read(from.object("EndpointSpec")?, given.previous.map(|spec| &spec.endpoint))?,
        disconnect,
        schedule,
        needs,
        stated: stated::read(body),
    };
    from.finish()?;
    Ok(spec)
}

fn read_task(mut from: Object<'_>) -> Result<TaskSpec, FieldError> {
    let runtime = from.string("Runtime")?;
    if !matches!(runtime.as_str(), "" | "container") {
        return Err(from.bad("Runtime", format!("{runtime:?} is not supported; services run containers")));
    }
    let spec = TaskSpec {
        container: container::read(from.object("ContainerSpec")?)?,
        resources: policy::read_resources(from.object("Resources")?)?,
        restart: policy::read_restart(from.object("RestartPolicy")?)?,
        placement: policy::read_placement(from.object("Placement")?)?,
        log_driver: policy::read_log_driver(from.object("LogDriver")?)?,
        networks: read_networks(from.objects("Networks")?)?,
        force_update: from.natural("ForceUpdate")?.unwrap_or(0),
    };
    from.finish()?;
    Ok(spec)
}

/// Parity S-75.
fn read_networks(entries: Vec<Object<'_>>) -> Result<Vec<NetworkAttachmentSpec>, FieldError> {
    let mut networks: Vec<NetworkAttachmentSpec> = Vec::new();
    for mut from in entries {
        let network = NetworkAttachmentSpec {
            target: named_network(from.string("Target")?),
            aliases: from.strings("Aliases")?,
            options: from.labels("DriverOpts")?,
        };
        if network.target.is_empty() {
            return Err(FieldError::Missing { path: from.path("Target"), hint: "give the name or id of a network" });
        }
        if networks.iter().any(|other| other.target == network.target) {
            return Err(from.bad("Target", format!("the service is attached to network {} twice", network.target)));
        }
        from.finish()?;
        networks.push(network);
    }
    Ok(networks)
}

fn read_disconnect(mut from: Object<'_>) -> Result<DisconnectPolicy, FieldError> {
    let default = DisconnectPolicy::default();
    let reconcile = from.parsed("Reconcile", |text| match text {
        "keep-original" => Ok(Reconcile::KeepOriginal),
        "keep-replacement" => Ok(Reconcile::KeepReplacement),
        other => Err(format!("{other:?} is unknown; use keep-original or keep-replacement")),
    })?;
    let policy = DisconnectPolicy {
        lost_after: from.duration("LostAfter")?.unwrap_or(default.lost_after),
        reconcile: reconcile.unwrap_or(default.reconcile),
    };
    if policy.lost_after > MAX_LOST_AFTER {
        return Err(from.bad("LostAfter", "must not be longer than a year"));
    }
    from.finish()?;
    Ok(policy)
}

/// Far beyond any use, near enough that adding it to a time cannot overflow.
const MAX_LOST_AFTER: Duration = Duration::from_secs(366 * 24 * 3600);

/// Everything that holds of the service, whether it was said or not.
pub(crate) fn write_whole_spec(spec: &ServiceSpec) -> Value {
    let of_updates = |config: &UpdateConfig| (!spec.mode.is_job()).then(|| policy::write_update(config));
    let mut written = write_with(spec, of_updates);
    // there is no default to fill in: without a window all restarts count
    stated::leave_out(&spec.stated, &mut written, |part| part == Stated::RestartWindow);
    written
}

/// As it was given: clients send back what they got.
pub(crate) fn write_spec(spec: &ServiceSpec) -> Value {
    let mut written = write_with(spec, |config| Some(policy::write_update(config)));
    stated::leave_out(&spec.stated, &mut written, |_| true);
    written
}

fn write_with(spec: &ServiceSpec, of_updates: impl Fn(&UpdateConfig) -> Option<Value>) -> Value {
    Fields::new()
        .set("Name", &spec.name)
        .set("Labels", &spec.labels)
        .put("TaskTemplate", write_task(&spec.task))
        .put("Mode", job::write_mode(spec.mode))
        .some("UpdateConfig", of_updates(&spec.update))
        .some("RollbackConfig", of_updates(&spec.rollback))
        .put("EndpointSpec", endpoint::write_spec(&spec.endpoint))
        .some("Disconnect", (spec.disconnect != DisconnectPolicy::default()).then(|| write_disconnect(spec.disconnect)))
        .some("Schedule", spec.schedule.as_ref().map(job::write_schedule))
        .unless_empty("DependsOn", stack::write_needs(&spec.needs))
        .done()
}

fn write_disconnect(policy: DisconnectPolicy) -> Value {
    let reconcile = match policy.reconcile {
        Reconcile::KeepOriginal => "keep-original",
        Reconcile::KeepReplacement => "keep-replacement",
    };
    json!({ "LostAfter": nanos(policy.lost_after), "Reconcile": reconcile })
}

pub(crate) fn write_task(spec: &TaskSpec) -> Value {
    Fields::new()
        .put("ContainerSpec", container::write(&spec.container))
        .put("Resources", policy::write_resources(&spec.resources))
        .put("RestartPolicy", policy::write_restart(&spec.restart))
        .put("Placement", policy::write_placement(&spec.placement))
        .unless_empty("Networks", spec.networks.iter().map(write_network).collect::<Vec<_>>())
        .some("LogDriver", spec.log_driver.as_ref().map(policy::write_log_driver))
        .set("ForceUpdate", spec.force_update)
        .set("Runtime", "container")
        .done()
}

fn write_network(network: &NetworkAttachmentSpec) -> Value {
    Fields::new()
        .set("Target", &network.target)
        .unless_empty("Aliases", &network.aliases)
        .unless_empty("DriverOpts", &network.options)
        .done()
}

/// A service as the API lists it; `with_status` adds the task counts.
pub(crate) fn write(view: &ServiceView, with_status: bool, networks: &Networks) -> Value {
    let service = &view.service;
    let desired = match service.spec.mode {
        // in Docker as many as may run at once, also when all are done
        ServiceMode::ReplicatedJob { max_concurrent, .. } => max_concurrent,
        _ => view.desired,
    };
    let status = || json!({ "RunningTasks": view.running, "DesiredTasks": desired, "CompletedTasks": view.completed });
    Fields::new()
        .set("ID", service.id)
        .put("Version", json!({ "Index": service.meta.version }))
        .set("CreatedAt", rfc3339(service.meta.created_at))
        .set("UpdatedAt", rfc3339(service.meta.updated_at))
        .put("Spec", write_spec(&service.spec))
        .some("PreviousSpec", service.shown_previous().map(|spec| write_spec(spec)))
        .set("Revision", service.revision)
        .put("Endpoint", endpoint::write(service, write_virtual_ips(&service.virtual_ips, networks)))
        .some("UpdateStatus", service.update.as_ref().map(write_update_status))
        .some("Rebalance", service.rebalance.as_ref().map(write_rebalance))
        .some("JobStatus", service.job.as_ref().map(job::write_status))
        .some("ServiceStatus", with_status.then(status))
        .done()
}

/// All specs of a service, the present one first.
pub(crate) fn write_revisions(service: &Service) -> Value {
    let one = |number: u64, at: Timestamp, spec: &ServiceSpec| {
        let present = number == service.revision;
        json!({ "Revision": number, "CreatedAt": rfc3339(at), "Present": present, "Spec": write_spec(spec) })
    };
    let earlier = service.earlier.iter().rev().map(|past| one(past.number, past.at, &past.spec));
    [one(service.revision, service.revised_at, &service.spec)].into_iter().chain(earlier).collect()
}

fn write_rebalance(rebalance: &Rebalance) -> Value {
    Fields::new()
        .set("State", rebalance.state.as_str())
        .set("StartedAt", rfc3339(rebalance.started_at))
        .some("EndedAt", rebalance.ended_at.map(rfc3339))
        .unless_empty("Budget", rebalance.budget)
        .set("Moved", rebalance.moved)
        .unless_empty("Message", &rebalance.message)
        .done()
}

fn write_update_status(status: &UpdateStatus) -> Value {
    let state = match status.state {
        UpdateState::Updating => "updating",
        UpdateState::Paused => "paused",
        UpdateState::Completed => "completed",
        UpdateState::RollbackStarted => "rollback_started",
        UpdateState::RollbackPaused => "rollback_paused",
        UpdateState::RollbackCompleted => "rollback_completed",
    };
    Fields::new()
        .set("State", state)
        .set("StartedAt", rfc3339(status.started_at))
        .some("CompletedAt", status.completed_at.map(rfc3339))
        .set("Message", &status.message)
        .done()
}
