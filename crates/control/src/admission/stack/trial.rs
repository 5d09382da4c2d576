//! The changes of a stack, one after the other, on a copy of the value: what fits together there becomes one proposal.

use std::collections::BTreeSet;

use types::{
    Dependency, DependencyKind, DependencyName, DependencySpec, Labels, Name, NetworkId, NetworkSpec, Service,
    ServiceId, ServiceSpec, StackAction, StackDependency, StackPart, Timestamp, stack_of,
};

use super::super::{dependency, network, ports, service};
use crate::{Change, Ids, ObjectRef, Proposal, Rejection, Tables};

/// How many problems are told at once: an answer takes no more.
const TOLD: usize = 20;

pub(super) struct Trial<'a> {
    before: &'a Tables,
    scratch: Tables,
    name: Name,
    ids: Ids<'a>,
    proposal: Proposal,
    problems: Vec<Rejection>,
    /// Names of networks, secrets and configs that were refused: what uses them cannot be judged.
    refused: BTreeSet<String>,
    parts: Vec<StackPart>,
}

impl<'a> Trial<'a> {
    pub(super) fn new(before: &'a Tables, name: Name, now: Timestamp, ids: Ids<'a>) -> Self {
        Self {
            before,
            scratch: before.clone(),
            name,
            ids,
            proposal: Proposal { at: now, ..Proposal::default() },
            problems: Vec::new(),
            refused: BTreeSet::new(),
            parts: Vec::new(),
        }
    }

    pub(super) fn before(&self) -> &'a Tables {
        self.before
    }

    pub(super) fn scratch(&self) -> &Tables {
        &self.scratch
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.proposal.changes.is_empty()
    }

    pub(super) fn told(&mut self, kind: &str, name: &str, action: StackAction) {
        self.parts.push(StackPart { kind: kind.to_owned(), name: name.to_owned(), action });
    }

    /// A problem, with the name of its object where the text has it not.
    pub(super) fn note<T>(&mut self, kind: &str, name: &str, judged: Result<T, Rejection>) -> Option<T> {
        match judged {
            Ok(good) => Some(good),
            Err(why) if why.to_string().contains(name) => self.problem(why),
            Err(Rejection::Unsettled(text)) => self.problem(Rejection::Unsettled(format!("{kind} {name}: {text}"))),
            Err(why) => self.problem(Rejection::Invalid(format!("{kind} {name}: {why}"))),
        }
    }

    fn problem<T>(&mut self, why: Rejection) -> Option<T> {
        if !self.problems.contains(&why) {
            self.problems.push(why);
        }
        None
    }

    /// One change that was decided on the copy.
    pub(super) fn make(&mut self, change: Change) {
        let at = self.proposal.at;
        self.take(Proposal { at, expects: Vec::new(), changes: vec![change] });
    }

    fn take(&mut self, part: Proposal) {
        let is_of_before = |(object, version): &(ObjectRef, types::Version)| match object {
            ObjectRef::Service(id) => self.before.service(*id).is_some_and(|found| found.meta.version == *version),
            ObjectRef::Dependency(id) => {
                self.before.dependency(*id).is_some_and(|found| found.meta.version == *version)
            }
            _ => false,
        };
        for expected in part.expects.iter().filter(|expected| is_of_before(expected)) {
            if !self.proposal.expects.contains(expected) {
                self.proposal.expects.push(*expected);
            }
        }
        match self.scratch.apply(self.scratch.index() + 1, &part) {
            Ok(()) => self.proposal.changes.extend(part.changes),
            Err(why) => self.problems.push(why),
        }
    }

    /// Whether an object is of another stack, or of none.
    fn is_strange(&mut self, kind: &str, name: &str, labels: &Labels) -> bool {
        let text = match stack_of(labels) {
            Some(owner) if owner == self.name.as_str() => return false,
            Some(owner) => format!("{kind} {name} is there already and is of stack {owner}: give another name"),
            None => format!(
                "{kind} {name} is there already and is of no stack: remove it, give another name, or say external: true"
            ),
        };
        self.problems.push(Rejection::Invalid(text));
        true
    }

    /// One that is there stays as it is: a network cannot change.
    pub(super) fn network(&mut self, spec: &NetworkSpec) {
        let name = spec.name.as_str();
        if let Some(found) = self.scratch.network_by_name(&spec.name).cloned()
            && !self.scratch.is_leaving(found.id)
        {
            if self.is_strange("network", name, &found.spec.labels) {
                self.refused.insert(name.to_owned());
            } else {
                self.told("network", name, StackAction::Unchanged);
            }
            return;
        }
        let made = network::create(&self.scratch, spec, self.proposal.at, self.ids);
        match self.note("network", name, made) {
            Some((part, _)) => {
                self.take(part);
                self.told("network", name, StackAction::Created);
            }
            None => _ = self.refused.insert(name.to_owned()),
        }
    }

    /// New data makes a new version, which services follow; those in `own` come with what they shall have.
    pub(super) fn dependency(&mut self, spec: &DependencySpec, own: &BTreeSet<&Name>) {
        let (kind, name, at) = (spec.kind.to_string(), spec.name.as_str(), self.proposal.at);
        let judged = match self.scratch.dependency_by_name(spec.kind, &spec.name).cloned() {
            None => {
                let made = dependency::create(&self.scratch, spec, at, self.ids);
                made.map(|(part, _)| Some((part, StackAction::Created)))
            }
            Some(found) if self.is_strange(&kind, name, &found.spec.labels) => Ok(None),
            Some(found) if *found.spec == *spec => {
                self.told(&kind, name, StackAction::Unchanged);
                return;
            }
            Some(found) if found.spec.is_template != spec.is_template => Err(Rejection::Invalid(format!(
                "{kind} {name}: only its labels and its data can change, not its template driver: give another name"
            ))),
            Some(found) => {
                let scratch = &self.scratch;
                let is_own = |id: ServiceId| scratch.service(id).is_some_and(|found| own.contains(&found.spec.name));
                let wanted = (&spec.labels, Some(&spec.data));
                let part =
                    dependency::update_for(scratch, (found.id, found.meta.version), wanted, at, self.ids, &is_own);
                part.map(|part| Some((part, StackAction::Updated)))
            }
        };
        match self.note(&kind, name, judged).flatten() {
            Some((part, action)) => {
                self.take(part);
                self.told(&kind, name, action);
            }
            None => _ = self.refused.insert(name.to_owned()),
        }
    }

    /// Whether the spec names something that was refused.
    pub(super) fn is_out(&self, spec: &ServiceSpec) -> bool {
        let networks = spec.task.networks.iter().map(|network| network.target.as_str());
        let others = spec.task.container.dependencies.iter().filter_map(|wanted| wanted.name.as_ref());
        networks.chain(others.map(DependencyName::as_str)).any(|name| self.refused.contains(name))
    }

    /// Services of the stack may take from each other what they publish: what one gives up is free for all, whatever
    /// their order. What the result cannot have is refused when the one that comes second is judged.
    pub(super) fn free_ports(&mut self, specs: &[ServiceSpec]) {
        for spec in specs {
            let found = self.before.service_by_name(&spec.name);
            if let Some(own) = found.filter(|found| stack_of(&found.spec.labels) == Some(self.name.as_str())) {
                self.scratch.release_ports(own, |port| ports::gives_up(port, spec));
            }
        }
    }

    /// Gives the spec as the stack keeps it: secrets and configs by their versions, networks by their names.
    pub(super) fn service(&mut self, spec: &ServiceSpec) -> Option<ServiceSpec> {
        if self.is_out(spec) {
            return None;
        }
        let (name, at) = (spec.name.as_str(), self.proposal.at);
        let found = self.scratch.service_by_name(&spec.name).cloned();
        let (service, action) = match &found {
            None => {
                let made = service::fresh(&self.scratch, spec, at, self.ids);
                (self.note("service", name, made)?, StackAction::Created)
            }
            Some(found) if self.is_strange("service", name, &found.spec.labels) => return None,
            Some(found) => {
                let next = service::with_spec(&self.scratch, found, &carried_over(spec, &found.spec), at);
                (self.note("service", name, next)?, StackAction::Updated)
            }
        };
        let mut kept = (*service.spec).clone();
        kept.task.networks.clone_from(&spec.task.networks);
        self.put(found.as_deref(), service, action);
        Some(kept)
    }

    /// As an earlier revision of the stack has it.
    pub(super) fn service_again(&mut self, spec: &ServiceSpec, number: u64) {
        if self.is_out(spec) {
            return;
        }
        let (name, at) = (spec.name.as_str(), self.proposal.at);
        let found = self.scratch.service_by_name(&spec.name).cloned();
        let judged = match &found {
            None => service::fresh(&self.scratch, spec, at, self.ids).map(|made| (made, StackAction::Created)),
            Some(found) if self.is_strange("service", name, &found.spec.labels) => return,
            Some(found) => service::as_in_stack(&self.scratch, found, spec, number, at)
                .map(|service| (service, StackAction::Updated)),
        };
        if let Some((service, action)) = self.note("service", name, judged) {
            self.put(found.as_deref(), service, action);
        }
    }

    fn put(&mut self, old: Option<&Service>, service: Service, action: StackAction) {
        let name = service.spec.name.to_string();
        if old.is_some_and(|old| old.spec == service.spec) {
            return self.told("service", &name, StackAction::Unchanged);
        }
        let new_spec = old.is_none_or(|old| service::replaces_tasks(&old.spec, &service.spec));
        let expects = old.map(|old| (ObjectRef::Service(old.id), old.meta.version)).into_iter().collect();
        let changes = vec![Change::PutService { service: Box::new(service), new_spec }];
        self.take(Proposal { at: self.proposal.at, expects, changes });
        self.told("service", &name, action);
    }

    /// Services of the stack by name, as the copy has them now, that are not being removed.
    pub(super) fn remove_services(&mut self, goes: impl Fn(&Name) -> bool) {
        let name = self.name.to_string();
        let all = self.scratch.services_of_stack(&name).filter(|service| !service.removing);
        let gone: Vec<(ServiceId, Name)> = all
            .filter(|service| goes(&service.spec.name))
            .map(|service| (service.id, service.spec.name.clone()))
            .collect();
        for (id, name) in gone {
            let judged = service::remove(&self.scratch, id, self.proposal.at);
            if let Some(part) = self.note("service", name.as_str(), judged) {
                self.take(part);
                self.told("service", name.as_str(), StackAction::Removed);
            }
        }
    }

    /// A version that the stack may be rolled back to gives up its name only.
    pub(super) fn remove_dependencies(&mut self, goes: impl Fn(DependencyKind, &DependencyName) -> bool) {
        let all = dependency::of_stack(&self.scratch, self.name.as_str());
        for found in all.into_iter().filter(|found| !found.superseded && goes(found.spec.kind, &found.spec.name)) {
            let (kind, name) = (found.spec.kind.to_string(), found.spec.name.as_str());
            let judged = dependency::give_up(&self.scratch, &found, self.proposal.at);
            if let Some(part) = self.note(&kind, name, judged) {
                self.take(part);
                self.told(&kind, name, StackAction::Removed);
            }
        }
    }

    /// A version that gave up its name has it again, unless a newer one has.
    pub(super) fn name_again(&mut self, wanted: &StackDependency) {
        let is_free = dependency::of_name(&self.scratch, wanted.kind, &wanted.name).is_none();
        if let Some(found) = self.scratch.dependency(wanted.id).filter(|_| is_free).cloned() {
            let next = Dependency { superseded: false, ..(*found).clone() };
            self.make(Change::PutDependency(Box::new(next)));
            self.told(&wanted.kind.to_string(), wanted.name.as_str(), StackAction::Created);
        }
    }

    /// Old versions that nothing names any more.
    pub(super) fn forget_unused(&mut self) {
        let all = dependency::of_stack(&self.scratch, self.name.as_str());
        let unused = all.into_iter().filter(|found| found.superseded && !dependency::is_kept(&self.scratch, found.id));
        let gone: Vec<_> = unused.map(|found| found.id).collect();
        gone.into_iter().for_each(|id| self.make(Change::RemoveDependency(id)));
    }

    /// Networks of the stack that are not on their way out.
    pub(super) fn networks(&self) -> Vec<(NetworkId, Name)> {
        let is_ours = |labels| stack_of(labels) == Some(self.name.as_str());
        let all = self.scratch.networks().filter(|network| is_ours(&network.spec.labels));
        let present = all.filter(|network| !self.scratch.is_leaving(network.id));
        present.map(|network| (network.id, network.spec.name.clone())).collect()
    }

    pub(super) fn leave_networks(&mut self, goes: impl Fn(&Name) -> bool) {
        for (id, name) in self.networks().into_iter().filter(|(_, name)| goes(name)) {
            let judged = network::leave(&self.scratch, id, self.proposal.at);
            if let Some(part) = self.note("network", name.as_str(), judged) {
                self.take(part);
                self.told("network", name.as_str(), StackAction::Removed);
            }
        }
    }

    /// Whether anything has the label of the stack.
    pub(super) fn has_parts(&self) -> bool {
        let name = self.name.as_str();
        let networks = || self.scratch.networks().any(|network| stack_of(&network.spec.labels) == Some(name));
        self.scratch.services_of_stack(name).next().is_some()
            || !dependency::of_stack(&self.scratch, name).is_empty()
            || networks()
    }

    /// # Errors
    /// All that stands in the way. What only has to be waited for says so, if there is nothing else.
    pub(super) fn verdict(&self) -> Result<(), Rejection> {
        let is_unsettled = |why: &Rejection| matches!(why, Rejection::Unsettled(_));
        let mut shown: Vec<String> = self.problems.iter().take(TOLD).map(ToString::to_string).collect();
        let (stack, count) = (&self.name, self.problems.len());
        if count > TOLD {
            shown.push(format!("and {} more", count - TOLD));
        }
        let text = match count {
            0 => return Ok(()),
            1 => format!("nothing of stack {stack} was changed: {}", shown.concat()),
            _ => {
                format!("nothing of stack {stack} was changed, {count} things stand in the way:\n{}", shown.join("\n"))
            }
        };
        match self.problems.iter().all(is_unsettled) {
            true => Err(Rejection::Unsettled(text)),
            false => Err(Rejection::Invalid(text)),
        }
    }

    /// # Errors
    /// A change did not fit, which says the same as a problem.
    pub(super) fn done(self) -> Result<(Proposal, Vec<StackPart>), Rejection> {
        self.verdict()?;
        Ok((self.proposal, self.parts))
    }
}

/// What the file says, with what is counted up by the cluster and credentials that were sent once.
fn carried_over(spec: &ServiceSpec, old: &ServiceSpec) -> ServiceSpec {
    let mut next = spec.clone();
    next.task.force_update = next.task.force_update.max(old.task.force_update);
    if next.task.container.registry_auth.is_empty() {
        next.task.container.registry_auth = old.task.container.registry_auth.clone();
    }
    next
}
