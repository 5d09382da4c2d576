//! Requests about secrets and configs (parity ). New data is a new version under the old name: the
//! services that use it follow by their own rolling update, and a rollback finds the old version (P12).

use std::sync::Arc;

use types::{
    Dependency, DependencyId, DependencyKind, DependencyName, DependencyRef, DependencySpec, Labels, Meta, Payload,
    Service, ServiceId, ServiceSpec, Timestamp, Version, stack_of,
};

use crate::{
    Change, Ids, ObjectRef, Proposal, Rejection, Tables,
    tables::dependencies::{names, needs_dependencies},
};

/// Of all versions of all secrets and configs: so that what a node is sent, or a list holds, fits into one message
/// (64 MiB) whatever is in it.
const MAX_TOTAL_BYTES: usize = 32 << 20;

pub(super) fn create(
    tables: &Tables,
    spec: &DependencySpec,
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<(Proposal, DependencyId), Rejection> {
    tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
    check_data(tables, spec)?;
    if let Some(other) = of_name(tables, spec.kind, &spec.name) {
        return Err(Rejection::already_exists(&spec.kind.to_string(), &other.spec.name));
    }
    let id = DependencyId::from_random(ids());
    let new = Dependency { id, meta: Meta::default(), spec: Arc::new(spec.clone()), superseded: false };
    Ok((Proposal { at: now, expects: Vec::new(), changes: vec![Change::PutDependency(Box::new(new))] }, id))
}

/// The present version of what people would take for this name.
pub(super) fn of_name<'a>(
    tables: &'a Tables,
    kind: DependencyKind,
    name: &DependencyName,
) -> Option<&'a Arc<Dependency>> {
    let mut present = tables.dependencies().filter(|other| other.spec.kind == kind && !other.superseded);
    present.find(|other| other.spec.name.reads_like(name))
}

fn check_data(tables: &Tables, spec: &DependencySpec) -> Result<(), Rejection> {
    let (kind, name, size, limit) = (spec.kind, &spec.name, spec.data.len(), spec.kind.size_limit());
    if size >= limit || size == 0 {
        return Err(Rejection::Invalid(format!(
            "{kind} data must be larger than 0 and less than {limit} bytes: {kind} {name} has {size}"
        )));
    }
    let total: usize = tables.dependencies().map(|known| known.spec.data.len()).sum();
    if total + size > MAX_TOTAL_BYTES {
        return Err(Rejection::FailedPrecondition(format!(
            "{kind} {name} has {size} bytes, and all secrets and configs together may have {MAX_TOTAL_BYTES}, of \
             which {total} are in use: remove some, or put large files into an image or a volume"
        )));
    }
    Ok(())
}

pub(super) fn update(
    tables: &Tables,
    id: DependencyId,
    version: Version,
    (labels, data): (&Labels, Option<&Payload>),
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<Proposal, Rejection> {
    update_for(tables, (id, version), (labels, data), now, ids, &|_| false)
}

/// Services in `stays` do not follow: what they shall have comes in the same proposal.
pub(super) fn update_for(
    tables: &Tables,
    (id, version): (DependencyId, Version),
    (labels, data): (&Labels, Option<&Payload>),
    now: Timestamp,
    ids: Ids<'_>,
    stays: &dyn Fn(ServiceId) -> bool,
) -> Result<Proposal, Rejection> {
    let old = tables.dependency(id).ok_or_else(|| Rejection::not_found("secret or config", id))?;
    let (kind, name) = (old.spec.kind, &old.spec.name);
    if old.meta.version != version {
        return Err(Rejection::out_of_sequence(&kind.to_string(), name));
    }
    let expects = vec![(ObjectRef::Dependency(id), version)];
    let spec = DependencySpec { labels: labels.clone(), ..(*old.spec).clone() };
    let Some(data) = data.filter(|data| **data != old.spec.data) else {
        let next = Dependency { spec: Arc::new(spec), ..(**old).clone() };
        return Ok(Proposal { at: now, expects, changes: vec![Change::PutDependency(Box::new(next))] });
    };
    if old.superseded {
        return Err(Rejection::FailedPrecondition(format!(
            "this version of {kind} {name} is an old one: update the present one, by its name"
        )));
    }
    let spec = DependencySpec { data: data.clone(), ..spec };
    check_data(tables, &spec)?;
    let past = Dependency { superseded: true, ..(**old).clone() };
    let new = Dependency {
        id: DependencyId::from_random(ids()),
        meta: Meta::default(),
        spec: Arc::new(spec),
        superseded: false,
    };
    let follow = Follow { kind, old, new: new.id, now };
    let changes = [past, new].map(|version| Change::PutDependency(Box::new(version)));
    let mut proposal = Proposal { at: now, expects, changes: changes.to_vec() };
    for service in tables.services().filter(|service| !service.removing && !stays(service.id)) {
        if let Some(next) = follow.service(service) {
            proposal.expects.push((ObjectRef::Service(service.id), service.meta.version));
            proposal.changes.push(Change::PutService { service: Box::new(next), new_spec: true });
        }
    }
    let unused = versions(tables, kind, old).filter(|past| past.superseded && !is_kept(tables, past.id));
    proposal.changes.extend(unused.map(|past| Change::RemoveDependency(past.id)));
    Ok(proposal)
}

/// The way of services to a new version.
struct Follow<'a> {
    kind: DependencyKind,
    old: &'a Dependency,
    new: DependencyId,
    now: Timestamp,
}

impl Follow<'_> {
    /// The service with the new version; `None` if it does not use the name.
    fn service(&self, service: &Service) -> Option<Service> {
        let is_it =
            |wanted: &&mut DependencyRef| wanted.kind == self.kind && wanted.name.as_ref() == Some(&self.old.spec.name);
        let mut spec = (*service.spec).clone();
        let mut followed = 0;
        for wanted in spec.task.container.dependencies.iter_mut().filter(is_it) {
            wanted.id = Some(self.new);
            followed += 1;
        }
        let next = || Service { update: None, ..service.revised(Arc::new(spec), self.now) };
        (followed > 0).then(next)
    }
}

/// All versions of a name.
fn versions<'a>(
    tables: &'a Tables,
    kind: DependencyKind,
    of: &'a Dependency,
) -> impl Iterator<Item = &'a Arc<Dependency>> {
    tables.dependencies().filter(move |other| other.spec.kind == kind && other.spec.name == of.spec.name)
}

/// Whether a service, what it or its stack may be rolled back to, or a task needs this version.
pub(super) fn is_kept(tables: &Tables, id: DependencyId) -> bool {
    let of_service = |service: &Service| {
        // its present spec becomes an earlier one
        names(&service.spec, id) || service.past_specs().any(|past| names(past, id))
    };
    let of_task = |task: &types::Task| task.spec.container.dependencies.iter().any(|wanted| wanted.id == Some(id));
    tables.services().any(|service| of_service(service))
        || tables.stacks().any(|stack| stack.names(id))
        || tables.tasks().any(|task| needs_dependencies(task) && of_task(task))
}

/// All versions of secrets and configs with the label of a stack.
pub(super) fn of_stack(tables: &Tables, stack: &str) -> Vec<Arc<Dependency>> {
    tables.dependencies().filter(|found| stack_of(&found.spec.labels) == Some(stack)).cloned().collect()
}

/// The name is free; the versions stay that the stack may be rolled back to. (One that is removed has no history.)
pub(super) fn give_up(tables: &Tables, old: &Dependency, now: Timestamp) -> Result<Proposal, Rejection> {
    let whole = remove(tables, old.id, now)?;
    let is_history = |id: DependencyId| tables.stacks().any(|stack| stack.names(id));
    let changes = whole.changes.into_iter().filter_map(|change| match change {
        Change::RemoveDependency(id) if is_history(id) => {
            let kept = tables.dependency(id).filter(|kept| !kept.superseded)?;
            Some(Change::PutDependency(Box::new(Dependency { superseded: true, ..(**kept).clone() })))
        }
        other => Some(other),
    });
    Ok(Proposal { changes: changes.collect(), ..whole })
}

/// With all its versions, when no service uses it.
pub(super) fn remove(tables: &Tables, id: DependencyId, now: Timestamp) -> Result<Proposal, Rejection> {
    let old = tables.dependency(id).ok_or_else(|| Rejection::not_found("secret or config", id))?;
    let (kind, name) = (old.spec.kind, &old.spec.name);
    let all: Vec<DependencyId> = versions(tables, kind, old).map(|version| version.id).collect();
    let uses = |service: &&Arc<Service>| !service.removing && all.iter().any(|id| names(&service.spec, *id));
    let users: Vec<String> = tables.services().filter(uses).map(|service| service.spec.name.to_string()).collect();
    if !users.is_empty() {
        let services = if users.len() == 1 { "service" } else { "services" };
        return Err(Rejection::Invalid(format!(
            "{kind} '{name}' is in use by the following {services}: {}; take it from them with `service update \
             --{kind}-rm {name}`, or remove them, first",
            users.join(", ")
        )));
    }
    let changes = all.into_iter().map(Change::RemoveDependency).collect();
    Ok(Proposal { at: now, expects: vec![(ObjectRef::Dependency(id), old.meta.version)], changes })
}

/// The spec with the id and the name of each secret and config, as the value has it.
pub(super) fn resolved(tables: &Tables, spec: ServiceSpec) -> Result<ServiceSpec, Rejection> {
    let mut next = spec;
    let mut targets = std::collections::BTreeMap::new();
    for kind in [DependencyKind::Secret, DependencyKind::Config] {
        let wanted = next.task.container.dependencies.iter_mut().filter(|wanted| wanted.kind == kind);
        let mut missing = Vec::new();
        for wanted in wanted {
            match find(tables, wanted) {
                Some(found) => {
                    wanted.id = Some(found.id);
                    wanted.name = Some(found.spec.name.clone());
                }
                None => missing.push(wanted.shown()),
            }
        }
        if !missing.is_empty() {
            let plural = if missing.len() == 1 { "" } else { "s" };
            return Err(Rejection::Invalid(format!(
                "{kind}{plural} not found: {}; create them first, service {} asks for them",
                missing.join(", "),
                next.name
            )));
        }
    }
    for wanted in &next.task.container.dependencies {
        check_target(wanted)?;
        let target = wanted.kind.target(&wanted.file.name);
        if let Some(other) = targets.insert(target, wanted) {
            return Err(Rejection::Invalid(format!(
                "{} references '{}' and '{}' have a conflicting target: '{}'; give one of them another target",
                wanted.kind,
                other.shown(),
                wanted.shown(),
                wanted.file.name
            )));
        }
    }
    Ok(next)
}

/// By id, which must be of that name if one is given; else by name.
fn find<'a>(tables: &'a Tables, wanted: &DependencyRef) -> Option<&'a Arc<Dependency>> {
    let found = match (wanted.id, &wanted.name) {
        (Some(id), _) => tables.dependency(id),
        (None, Some(name)) => tables.dependency_by_name(wanted.kind, name),
        (None, None) => None,
    };
    let is_it = |found: &&Arc<Dependency>| {
        found.spec.kind == wanted.kind && wanted.name.as_ref().is_none_or(|name| *name == found.spec.name)
    };
    found.filter(is_it)
}

fn check_target(wanted: &DependencyRef) -> Result<(), Rejection> {
    let file = &wanted.file;
    let invalid = |why: &str| {
        Err(Rejection::Invalid(format!("{} {}: invalid target {:?}: {why}", wanted.kind, wanted.shown(), file.name)))
    };
    if file.name.is_empty() || file.name.ends_with('/') {
        return invalid("give the name or the absolute path of a file");
    }
    if file.name.split('/').any(|part| part == ".." || part == ".") || file.name.contains('\0') {
        return invalid("a path cannot have . or .. in it");
    }
    if file.mode > 0o7777 {
        return Err(Rejection::Invalid(format!(
            "{} {}: invalid mode {:o}: give permissions such as 0444",
            wanted.kind,
            wanted.shown(),
            file.mode
        )));
    }
    Ok(())
}
