//! Requests about services.

use std::sync::Arc;

use types::{Meta, Service, ServiceChange, ServiceId, ServiceSpec, Timestamp, UpdateState, UpdateStatus, Version};

use super::{attachments, dependency, job, needs, ports, privileges, validate};
use crate::{
    Change, Ids, ObjectRef, Proposal, Rejection, Tables,
    tables::{dependencies::missing_dependency, overlay::networks_of},
};

pub(super) fn create(
    tables: &Tables,
    spec: &ServiceSpec,
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<(Proposal, ServiceId), Rejection> {
    let service = fresh(tables, spec, now, ids)?;
    needs::check(tables, spec, None)?;
    let id = service.id;
    let changes = vec![Change::PutService { service: Box::new(service), new_spec: true }];
    Ok((Proposal { at: now, expects: Vec::new(), changes }, id))
}

/// A new service, but for what it waits for.
pub(super) fn fresh(tables: &Tables, spec: &ServiceSpec, now: Timestamp, ids: Ids<'_>) -> Result<Service, Rejection> {
    tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
    validate::service(spec)?;
    privileges::check(tables, spec, None)?;
    let mut others = tables.services().filter(|other| !other.removing);
    if let Some(other) = others.find(|other| other.spec.name.reads_like(&spec.name)) {
        return Err(Rejection::already_exists("service", &other.spec.name));
    }
    let spec = dependency::resolved(tables, attachments::resolved(tables, spec)?)?;
    let id = ServiceId::from_random(ids());
    let published = ports::published(tables, id, &spec, &[])?;
    let job = job::of_new(&spec, now)?;
    Ok(Service {
        id,
        meta: Meta::default(),
        task_spec: Arc::new(spec.task.clone()),
        spec: Arc::new(spec),
        spec_version: Version::default(),
        previous: None,
        repeated: false,
        revision: 1,
        revised_at: now,
        earlier: Vec::new(),
        update: None,
        job,
        rebalance: None,
        removing: false,
        virtual_ips: Vec::new(),
        published,
    })
}

fn find(tables: &Tables, id: ServiceId) -> Result<&Service, Rejection> {
    tables.service(id).map(|service| &**service).ok_or_else(|| Rejection::not_found("service", id))
}

pub(super) fn update(
    tables: &Tables,
    id: ServiceId,
    version: Version,
    change: &ServiceChange,
    now: Timestamp,
) -> Result<Proposal, Rejection> {
    let service = find(tables, id)?;
    if service.removing {
        return Err(Rejection::not_found("service", &service.spec.name));
    }
    if !service.meta.is_known_at(version) {
        return Err(Rejection::out_of_sequence("service", &service.spec.name));
    }
    let next = match change {
        ServiceChange::Spec(spec) => {
            needs::check(tables, spec, Some(&service.spec))?;
            with_spec(tables, service, spec, now)?
        }
        ServiceChange::Rollback => {
            let target = service.previous.as_ref().or(service.shown_previous());
            to_previous(tables, service, target, now, "rollback requested".to_owned())?
        }
        ServiceChange::RollbackTo(number) => back_to_revision(tables, service, *number, now)?,
        ServiceChange::PauseUpdate => paused(service)?,
        ServiceChange::ResumeUpdate => resumed(service, now)?,
    };
    let new_spec = replaces_tasks(&service.spec, &next.spec);
    let expects = vec![(ObjectRef::Service(id), service.meta.version)];
    let changes = vec![Change::PutService { service: Box::new(next), new_spec }];
    Ok(Proposal { at: now, expects, changes })
}

/// The service with another spec, but for what it waits for.
pub(super) fn with_spec(
    tables: &Tables,
    service: &Service,
    spec: &ServiceSpec,
    now: Timestamp,
) -> Result<Service, Rejection> {
    validate::service(spec)?;
    privileges::check(tables, spec, Some(&service.spec))?;
    let spec = &dependency::resolved(tables, attachments::resolved(tables, spec)?)?;
    let old = &service.spec;
    if spec.name != old.name {
        return Err(Rejection::Invalid(format!(
            "renaming services is not supported: {} cannot become {}",
            old.name, spec.name
        )));
    }
    if spec.mode.as_str() != old.mode.as_str() {
        return Err(Rejection::Invalid(format!("service mode change is not allowed: {}", old.name)));
    }
    let replaces = replaces_tasks(old, spec);
    // an update that touches no task leaves a running rollout as it is
    let update = if replaces { None } else { service.update.clone() };
    // one that changes nothing leaves what it can be rolled back to
    let next = match spec == &**old {
        true => Service { repeated: true, ..service.clone() },
        false => service.revised(Arc::new(spec.clone()), now),
    };
    let published = ports::published(tables, service.id, spec, &service.published)?;
    let job = job::after_change(service, spec, now)?;
    Ok(Service { update, job, published, ..next })
}

/// The service as it was before an update that failed. That one is not its previous spec: nothing leads to it by
/// itself again (parity S-13).
///
/// # Errors
/// There is no spec before, or one with networks, secrets or configs that are gone or ports that are another service's
/// by now.
pub(crate) fn undone(
    tables: &Tables,
    service: &Service,
    now: Timestamp,
    message: String,
) -> Result<Service, Rejection> {
    let next = to_previous(tables, service, service.previous.as_ref(), now, message)?;
    Ok(Service { previous: None, ..next })
}

fn to_previous(
    tables: &Tables,
    service: &Service,
    target: Option<&Arc<ServiceSpec>>,
    now: Timestamp,
    message: String,
) -> Result<Service, Rejection> {
    match target {
        Some(spec) => back_to(tables, service, (Arc::clone(spec), "its previous spec"), now, message),
        None => {
            Err(Rejection::FailedPrecondition(format!("service {} does not have a previous spec", service.spec.name)))
        }
    }
}

/// The earlier revisions there are, for a refusal of another.
pub(super) fn kept_words(numbers: &[String]) -> String {
    match numbers {
        [] => "none before it is kept".to_owned(),
        [number] => format!("kept is {number}"),
        numbers => format!("kept are {}", numbers.join(", ")),
    }
}

/// The service with an earlier spec, which is its newest from now on.
fn back_to_revision(tables: &Tables, service: &Service, number: u64, now: Timestamp) -> Result<Service, Rejection> {
    let Some(past) = service.earlier.iter().find(|past| past.number == number) else {
        let known: Vec<String> = service.earlier.iter().map(|past| past.number.to_string()).collect();
        let kept = kept_words(&known);
        let (name, present) = (&service.spec.name, service.revision);
        return Err(Rejection::FailedPrecondition(format!(
            "service {name} has no earlier revision {number}: present is {present}, {kept}"
        )));
    };
    let (which, message) = (format!("revision {number}"), format!("rollback to revision {number} requested"));
    let mut next = back_to(tables, service, (Arc::clone(&past.spec), &which), now, message)?;
    next.earlier.retain(|past| past.number != number);
    Ok(next)
}

/// The service as an earlier revision of its stack has it; as it is if that is the same.
pub(super) fn as_in_stack(
    tables: &Tables,
    service: &Service,
    spec: &ServiceSpec,
    number: u64,
    now: Timestamp,
) -> Result<Service, Rejection> {
    validate::service(spec)?;
    let spec = Arc::new(dependency::resolved(tables, attachments::resolved(tables, spec)?)?);
    if spec == service.spec {
        return Ok(service.clone());
    }
    let (which, message) =
        (format!("revision {number} of its stack"), format!("rollback to revision {number} of the stack"));
    back_to(tables, service, (spec, &which), now, message)
}

/// What it was until now is its previous spec then, so that who goes back twice is where he was, as in Docker.
fn back_to(
    tables: &Tables,
    service: &Service,
    (spec, which): (Arc<ServiceSpec>, &str),
    now: Timestamp,
    message: String,
) -> Result<Service, Rejection> {
    let name = &service.spec.name;
    let refuse = |why: String| Err(Rejection::FailedPrecondition(why));
    if networks_of(&spec.task).any(|(id, _)| tables.network(id).is_none()) {
        return refuse(format!("service {name} cannot be rolled back: a network of {which} is gone"));
    }
    if let Some((kind, missing)) = missing_dependency(tables, &spec) {
        return refuse(format!("service {name} cannot be rolled back: {kind} {missing} of {which} is gone"));
    }
    let published = match ports::published(tables, service.id, &spec, &service.published) {
        Ok(published) => published,
        Err(why) => return refuse(format!("service {name} cannot be rolled back: {why}")),
    };
    let job = match job::after_change(service, &spec, now) {
        Ok(job) => job,
        Err(why) => return refuse(format!("service {name} cannot be rolled back: {why}")),
    };
    let update = UpdateStatus { state: UpdateState::RollbackStarted, started_at: now, completed_at: None, message };
    // a job has no rollout: going back is another iteration
    let update = job.is_none().then_some(update);
    let next = if spec == service.spec { service.clone() } else { service.revised(spec, now) };
    Ok(Service { update, job, published, ..next })
}

fn paused(service: &Service) -> Result<Service, Rejection> {
    let (state, what) = match service.update.as_ref().map(|update| update.state) {
        Some(UpdateState::Updating) => (UpdateState::Paused, "update"),
        Some(UpdateState::RollbackStarted) => (UpdateState::RollbackPaused, "rollback"),
        _ => {
            let name = &service.spec.name;
            return Err(Rejection::FailedPrecondition(format!(
                "service {name} is not being updated: there is nothing to pause"
            )));
        }
    };
    let update = service.update.clone().map(|update| UpdateStatus {
        state,
        message: format!("{what} paused by request"),
        ..update
    });
    Ok(Service { update, ..service.clone() })
}

fn resumed(service: &Service, now: Timestamp) -> Result<Service, Rejection> {
    let (state, what) = match service.update.as_ref().map(|update| update.state) {
        Some(UpdateState::Paused) => (UpdateState::Updating, "update"),
        Some(UpdateState::RollbackPaused) => (UpdateState::RollbackStarted, "rollback"),
        _ => {
            let name = &service.spec.name;
            return Err(Rejection::FailedPrecondition(format!(
                "service {name} has no paused update: there is nothing to resume"
            )));
        }
    };
    let update = UpdateStatus { state, started_at: now, completed_at: None, message: format!("{what} resumed") };
    Ok(Service { update: Some(update), ..service.clone() })
}

/// Whether tasks made from `old` may have to be replaced for `new`: the rollout looks at each. Which numbers the
/// mesh publishes is no task's matter, only whether it leads to them at all.
pub(crate) fn replaces_tasks(old: &ServiceSpec, new: &ServiceSpec) -> bool {
    old.task != new.task
        || !ports::host_ports(old).eq(ports::host_ports(new))
        || ports::publishes(old) != ports::publishes(new)
}

/// Its name is free at once; the service goes when its tasks are gone. Asking twice is no error.
pub(super) fn remove(tables: &Tables, id: ServiceId, now: Timestamp) -> Result<Proposal, Rejection> {
    let service = find(tables, id)?;
    if service.removing {
        return Ok(Proposal { at: now, ..Proposal::default() });
    }
    let expects = vec![(ObjectRef::Service(id), service.meta.version)];
    let next = Service { removing: true, ..service.clone() };
    Ok(Proposal { at: now, expects, changes: vec![Change::PutService { service: Box::new(next), new_spec: false }] })
}
