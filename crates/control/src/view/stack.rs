//! Stacks as they are read: by the labels of the objects, so that one that Docker's clients deployed is one too.

use std::{collections::BTreeMap, sync::Arc};

use types::{
    DependencyKind, Name, Service, ServiceMode, Slot, Stack, StackResult, StackRevision, StackState, StackView, Task,
    TaskState, UpdateState, stack_of,
};

use super::replicas;
use crate::{Rejection, Tables};

/// Ordered by name.
pub(super) fn all(tables: &Tables) -> Vec<StackView> {
    let mut stacks = BTreeMap::new();
    for stack in tables.stacks() {
        entry(&mut stacks, stack.name.as_str()).revision = stack.present.number;
    }
    for service in tables.services() {
        if let Some(name) = stack_of(&service.spec.labels) {
            entry(&mut stacks, name).services.push(service.spec.name.to_string());
        }
    }
    for network in tables.networks() {
        if let Some(name) = stack_of(&network.spec.labels) {
            entry(&mut stacks, name).networks.push(network.spec.name.to_string());
        }
    }
    for version in tables.dependencies().filter(|version| !version.superseded) {
        let Some(name) = stack_of(&version.spec.labels) else { continue };
        let view = entry(&mut stacks, name);
        let names = match version.spec.kind {
            DependencyKind::Secret => &mut view.secrets,
            DependencyKind::Config => &mut view.configs,
        };
        names.push(version.spec.name.to_string());
    }
    for view in stacks.values_mut() {
        for names in [&mut view.services, &mut view.networks, &mut view.secrets, &mut view.configs] {
            names.sort_unstable();
            names.dedup();
        }
    }
    stacks.into_values().collect()
}

fn entry<'a>(stacks: &'a mut BTreeMap<String, StackView>, name: &str) -> &'a mut StackView {
    stacks.entry(name.to_owned()).or_insert_with(|| StackView { name: name.to_owned(), ..StackView::default() })
}

pub(super) fn one(tables: &Tables, name: &str) -> Result<StackView, Rejection> {
    let found = all(tables).into_iter().find(|view| view.name == name);
    let view = found.ok_or_else(|| Rejection::not_found("stack", name))?;
    let stack = name.parse::<Name>().ok().and_then(|name| tables.stack(&name)).map(|stack| {
        let present = StackRevision { result: Some(result(tables, stack)), ..(*stack.present).clone() };
        Stack { present: Arc::new(present), ..(**stack).clone() }
    });
    Ok(StackView { stack, ..view })
}

/// What has become of the present revision: as its worst service.
pub(crate) fn result(tables: &Tables, stack: &Stack) -> StackResult {
    let revision = &stack.present;
    let mut worst = StackResult { state: StackState::Done, reason: String::new() };
    for spec in &revision.spec.services {
        let found = tables.service_by_name(&spec.name).filter(|service| !service.removing);
        let (state, reason) = match found {
            Some(service) => of_service(tables, revision, service),
            None => (StackState::Failed, "it is not there any more".to_owned()),
        };
        if state > worst.state {
            worst = StackResult { state, reason: format!("service {}: {reason}", spec.name) };
        }
    }
    worst
}

fn of_service(tables: &Tables, revision: &StackRevision, service: &Service) -> (StackState, String) {
    // what was rolled out before is another story
    let update = service.update.as_ref().filter(|update| update.started_at >= revision.at);
    if let Some(update) = update {
        let state = match update.state {
            UpdateState::Paused | UpdateState::RollbackPaused => Some(StackState::Failed),
            UpdateState::RollbackStarted | UpdateState::RollbackCompleted if revision.back_to.is_none() => {
                Some(StackState::RolledBack)
            }
            UpdateState::Updating | UpdateState::RollbackStarted => Some(StackState::Deploying),
            UpdateState::Completed | UpdateState::RollbackCompleted => None,
        };
        if let Some(state) = state {
            return (state, update.message.clone());
        }
    }
    of_tasks(tables, service)
}

/// By the newest task of each slot.
fn of_tasks(tables: &Tables, service: &Service) -> (StackState, String) {
    let mut newest: BTreeMap<Slot, &Task> = BTreeMap::new();
    for task in tables.tasks_of_service(service.id).filter(|task| task.iteration == service.iteration()) {
        let known = newest.entry(task.slot).or_insert(task);
        if (task.meta.created_at, task.id) >= (known.meta.created_at, known.id) {
            *known = task;
        }
    }
    let is_job = service.job.is_some();
    let in_state = |is_it: &dyn Fn(&Task) -> bool| newest.values().filter(|task| is_it(task)).count() as u64;
    let shall_go_on = |task: &Task| !task.status.state.is_terminal() && task.desired <= TaskState::Complete;
    let good = in_state(&|task| match task.status.state {
        TaskState::Complete => true,
        state => !is_job && state == TaskState::Running && shall_go_on(task),
    });
    let wanted = match service.spec.mode {
        _ if service.job.as_ref().is_some_and(|job| job.last_execution.is_none()) => 0,
        ServiceMode::ReplicatedJob { total_completions, .. } => total_completions,
        ServiceMode::GlobalJob => newest.len() as u64,
        ServiceMode::Replicated { .. } | ServiceMode::Global => replicas(tables, service).desired.max(good),
    };
    if good >= wanted {
        return (StackState::Done, String::new());
    }
    let why = tables.tasks_of_service(service.id).filter(|task| !task.status.error.is_empty());
    let why = why.max_by_key(|task| task.meta.updated_at);
    let why = why.map_or_else(String::new, |task| format!("; last error: {}", task.status.error));
    let what = if is_job { "have completed" } else { "run" };
    // tasks that failed and are followed by none
    let has_ended = in_state(&shall_go_on) == 0 && in_state(&|task| task.status.state.is_terminal()) > 0;
    let state = if has_ended { StackState::Failed } else { StackState::Deploying };
    (state, format!("{good} of {wanted} tasks {what}{why}"))
}
