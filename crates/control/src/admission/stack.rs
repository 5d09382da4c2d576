//! Requests about stacks: many objects, judged and changed together or not at all (parity K-01 to K-03, P28, P33).
//!
//! Each part is judged as if it came alone, after those before it: networks, secrets and configs, services, and what they
//! wait for. Ports alone are judged by what all services publish in the end. All that stands in the way is told at once.

mod trial;

use std::{collections::BTreeSet, sync::Arc};

use types::{
    Labels, Name, NetworkSpec, STACK_LABEL, ServiceSpec, StackAction, StackDependency, StackDeploy, StackRevision,
    StackSpec, Timestamp, WriteReply,
};

use super::{dependency, needs};
use crate::{Change, Ids, Proposal, Rejection, Tables, view};
use trial::Trial;

/// Of one revision. Eleven of them, those before included, fit into one message (64 MiB) with room for the rest.
const MAX_STACK_BYTES: usize = 4 << 20;
/// Services, networks, secrets and configs of one stack.
const MAX_PARTS: usize = 2000;

pub(super) fn deploy(
    tables: &Tables,
    wanted: &StackDeploy,
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<(Proposal, WriteReply), Rejection> {
    tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
    let wanted = labelled(wanted);
    is_whole(&wanted)?;
    let mut trial = Trial::new(tables, wanted.name.clone(), now, ids);
    if wanted.prune {
        trial.remove_services(|name| !wanted.services.iter().any(|spec| spec.name == *name));
    }
    wanted.networks.iter().for_each(|spec| trial.network(spec));
    let own: BTreeSet<&Name> = wanted.services.iter().map(|spec| &spec.name).collect();
    wanted.dependencies.iter().for_each(|spec| trial.dependency(spec, &own));
    trial.free_ports(&wanted.services);
    let services: Vec<ServiceSpec> = wanted.services.iter().filter_map(|spec| trial.service(spec)).collect();
    trial.judge_needs(&wanted.services);
    trial.rest(&wanted);
    let dependencies = wanted.dependencies.iter().filter_map(|spec| {
        let id = trial.scratch().dependency_by_name(spec.kind, &spec.name)?.id;
        Some(StackDependency { kind: spec.kind, name: spec.name.clone(), id })
    });
    let spec = StackSpec { services, networks: wanted.networks.clone(), dependencies: dependencies.collect() };
    finish(trial, spec, (None, &wanted.by))
}

/// Each part says of which stack it is.
fn labelled(wanted: &StackDeploy) -> StackDeploy {
    let mut next = wanted.clone();
    let name = next.name.to_string();
    let label = |labels: &mut Labels| _ = labels.insert(STACK_LABEL.to_owned(), name.clone());
    next.services.iter_mut().for_each(|spec| label(&mut spec.labels));
    next.networks.iter_mut().for_each(|spec| label(&mut spec.labels));
    next.dependencies.iter_mut().for_each(|spec| label(&mut spec.labels));
    next
}

fn is_whole(wanted: &StackDeploy) -> Result<(), Rejection> {
    let (stack, mut seen) = (&wanted.name, BTreeSet::new());
    let services = wanted.services.iter().map(|spec| ("service".to_owned(), spec.name.to_string()));
    let networks = wanted.networks.iter().map(|spec| ("network".to_owned(), spec.name.to_string()));
    let others = wanted.dependencies.iter().map(|spec| (spec.kind.to_string(), spec.name.to_string()));
    for part in services.chain(networks).chain(others) {
        let text = format!("stack {stack} has {} {} twice: give one of them another name", part.0, part.1);
        if !seen.insert(part) {
            return Err(Rejection::Invalid(text));
        }
    }
    match (wanted.services.is_empty(), seen.len()) {
        (true, _) => Err(Rejection::Invalid(format!(
            "stack {stack} has no services: give one at least, or take the stack away with `stack rm {stack}`"
        ))),
        (_, parts) if parts > MAX_PARTS => Err(Rejection::Invalid(format!(
            "stack {stack} has {parts} parts, at most {MAX_PARTS} are possible: make several stacks of it"
        ))),
        _ => Ok(()),
    }
}

/// Puts the revision into the value if it is another than the present one.
fn finish(
    mut trial: Trial<'_>,
    spec: StackSpec,
    (back_to, by): (Option<u64>, &str),
) -> Result<(Proposal, WriteReply), Rejection> {
    let name = trial.name().clone();
    trial.verdict()?;
    let before = trial.scratch().stack(&name).map(|stack| Arc::clone(&stack.present));
    let number = before.as_ref().map_or(0, |present| present.number);
    let is_same = before.is_some_and(|present| *present.spec == spec);
    if !is_same || trial.has_changes() {
        let size = rmp_serde::to_vec_named(&spec).map_or(usize::MAX, |bytes| bytes.len());
        if size > MAX_STACK_BYTES {
            return Err(Rejection::Invalid(format!(
                "the specs of stack {name} have {size} bytes, and a stack may have {MAX_STACK_BYTES}: make several \
                 stacks of it, or put large values into configs"
            )));
        }
    }
    if !is_same {
        let (by, spec) = (by.to_owned(), Box::new(spec));
        let result = trial.before().stack(&name).map(|stack| view::stack_result(trial.before(), stack));
        trial.make(Change::PutStack { name: name.clone(), before: number, back_to, by, result, spec });
        trial.forget_unused();
    }
    let revision = number + u64::from(!is_same);
    let (proposal, parts) = trial.done()?;
    Ok((proposal, WriteReply::Deployed { revision, parts }))
}

/// The stack as an earlier revision has it: services that the present one has beyond it go.
pub(super) fn roll_back(
    tables: &Tables,
    name: &Name,
    (to, by): (Option<u64>, &str),
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<(Proposal, WriteReply), Rejection> {
    let target = target(tables, name, to)?;
    let present = tables.stack(name).map(|stack| Arc::clone(&stack.present.spec)).unwrap_or_default();
    let number = target.number;
    let mut trial = Trial::new(tables, name.clone(), now, ids);
    let has = |service: &Name| target.spec.services.iter().any(|spec| spec.name == *service);
    trial.remove_services(|service| !has(service) && present.services.iter().any(|spec| spec.name == *service));
    target.spec.networks.iter().for_each(|spec: &NetworkSpec| trial.network(spec));
    target.spec.dependencies.iter().for_each(|wanted| trial.name_again(wanted));
    trial.free_ports(&target.spec.services);
    target.spec.services.iter().for_each(|spec| trial.service_again(spec, number));
    trial.judge_circles(&target.spec.services);
    let kept = |network: &Name| target.spec.networks.iter().any(|spec| spec.name == *network);
    trial.leave_networks(|network| !kept(network) && present.networks.iter().any(|spec| spec.name == *network));
    finish(trial, (*target.spec).clone(), (Some(number), by))
}

fn target(tables: &Tables, name: &Name, to: Option<u64>) -> Result<Arc<StackRevision>, Rejection> {
    let refuse = |why: String| Err(Rejection::FailedPrecondition(why));
    let Some(stack) = tables.stack(name) else {
        return match tables.services_of_stack(name.as_str()).next() {
            Some(_) => refuse(format!(
                "stack {name} was deployed object by object, as docker does, and has no revisions: deploy it with \
                 rswarm, or take single services back with `service rollback`"
            )),
            None => Err(Rejection::not_found("stack", name)),
        };
    };
    let known: Vec<String> = stack.earlier.iter().map(|past| past.number.to_string()).collect();
    let kept = super::service::kept_words(&known);
    let present = stack.present.number;
    match (to, stack.earlier.last()) {
        (None, Some(_)) if stack.present.back_to.is_some() => refuse(format!(
            "stack {name} was taken back already, its revision {present} is an earlier one: say which is wanted with \
             --to; {kept}"
        )),
        (None, Some(last)) => Ok(Arc::clone(last)),
        (None, None) => refuse(format!("stack {name} has no revision before the present one, {present}")),
        (Some(to), _) => match stack.earlier.iter().find(|past| past.number == to) {
            Some(past) => Ok(Arc::clone(past)),
            None => refuse(format!("stack {name} has no earlier revision {to}: present is {present}, {kept}")),
        },
    }
}

/// All with the label of the stack, by whomever it was made. Networks go when the last task has left them.
pub(super) fn remove(
    tables: &Tables,
    name: &str,
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<(Proposal, WriteReply), Rejection> {
    let nothing = || Rejection::not_found("stack", name);
    let name: Name = name.parse().map_err(|_| nothing())?;
    let revision = tables.stack(&name).map(|stack| stack.present.number);
    let mut trial = Trial::new(tables, name.clone(), now, ids);
    let is_there = trial.has_parts() || revision.is_some();
    if !is_there {
        return Err(nothing());
    }
    if revision.is_some() {
        // first: what only its history has goes with it
        trial.make(Change::RemoveStack(name));
    }
    trial.remove_services(|_| true);
    trial.remove_dependencies(|_, _| true);
    trial.forget_unused();
    trial.leave_networks(|_| true);
    let (proposal, parts) = trial.done()?;
    Ok((proposal, WriteReply::Deployed { revision: revision.unwrap_or(0), parts }))
}

impl Trial<'_> {
    fn judge_needs(&mut self, services: &[ServiceSpec]) {
        for spec in services {
            let before = self.before().service_by_name(&spec.name).map(|service| Arc::clone(&service.spec));
            // one of the stack that is not there was refused, which has been told
            let is_refused = |name: &Name| {
                services.iter().any(|other| other.name == *name) && self.scratch().service_by_name(name).is_none()
            };
            if !self.is_out(spec) && !spec.needs.iter().any(|need| is_refused(&need.service)) {
                let judged = needs::check(self.scratch(), spec, before.as_deref());
                self.note("service", spec.name.as_str(), judged);
            }
        }
    }

    /// Of specs that were admitted once: only what came after them may stand in their way.
    fn judge_circles(&mut self, services: &[ServiceSpec]) {
        for spec in services {
            let judged = needs::check(self.scratch(), spec, Some(spec));
            self.note("service", spec.name.as_str(), judged);
        }
    }

    /// What is of the stack and not in what is deployed: it goes, or is said to stay.
    fn rest(&mut self, wanted: &StackDeploy) {
        let network = |name: &Name| !wanted.networks.iter().any(|spec| spec.name == *name);
        let dependency = |kind, name: &types::DependencyName| {
            !wanted.dependencies.iter().any(|spec| spec.kind == kind && spec.name == *name)
        };
        if wanted.prune {
            self.remove_dependencies(dependency);
            self.leave_networks(network);
            return;
        }
        let name = wanted.name.to_string();
        let before = self.before();
        let services = before.services_of_stack(&name).filter(|service| !service.removing);
        let services = services.map(|service| &service.spec.name);
        let services = services.filter(|name| !wanted.services.iter().any(|spec| spec.name == **name));
        let mut kept: Vec<(String, String)> = services.map(|name| ("service".to_owned(), name.to_string())).collect();
        let networks = self.networks().into_iter().filter(|(_, name)| network(name));
        kept.extend(networks.map(|(_, name)| ("network".to_owned(), name.to_string())));
        let others = dependency::of_stack(self.scratch(), &name).into_iter();
        let others = others.filter(|found| !found.superseded && dependency(found.spec.kind, &found.spec.name));
        kept.extend(others.map(|found| (found.spec.kind.to_string(), found.spec.name.to_string())));
        for (kind, name) in kept {
            self.told(&kind, &name, StackAction::Kept);
        }
    }
}
