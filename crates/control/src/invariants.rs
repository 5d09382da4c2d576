//! What must hold of the value at all times. Called by tests and by the simulator after each proposal; what
//! it returns is the story of a bug, never an everyday error.

mod dependencies;
mod jobs;
mod networks;
mod ports;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use types::{
    Availability, Node, NodeId, NodeState, Service, ServiceMode, Task, TaskState, Timestamp, UpdateOrder, UpdateState,
};

use crate::{NodeLoad, Tables};

/// Checks the value by itself.
///
/// # Errors
/// The first thing that is wrong, in words.
pub fn check(tables: &Tables) -> Result<(), String> {
    indexes(tables)?;
    for node in tables.nodes() {
        capacity(node, tables.load(node.id))?;
        named_resources(tables, node.id)?;
        host_ports(node, tables.load(node.id))?;
    }
    tables.check_homes()?;
    networks::check(tables)?;
    dependencies::check(tables)?;
    ports::check(tables)
}

fn indexes(tables: &Tables) -> Result<(), String> {
    let mut loads: BTreeMap<NodeId, NodeLoad> = BTreeMap::new();
    let mut by_node: BTreeMap<NodeId, usize> = BTreeMap::new();
    for task in tables.tasks() {
        let service = tables.service(task.service);
        service.ok_or_else(|| format!("task {} belongs to the missing service {}", task.id, task.service))?;
        if !tables.tasks_of_slot(task.service, task.slot).any(|other| other.id == task.id) {
            return Err(format!("task {} is not found by its slot", task.id));
        }
        let Some(node) = task.node else { continue };
        *by_node.entry(node).or_default() += 1;
        if NodeLoad::counts(task) {
            loads.entry(node).or_default().add(task);
        }
    }
    let ids: BTreeSet<NodeId> = tables.nodes().map(|node| node.id).chain(by_node.keys().copied()).collect();
    for id in ids {
        let (found, sum) = (tables.tasks_of_node(id).count(), by_node.get(&id).copied().unwrap_or(0));
        if found != sum {
            return Err(format!("node {id} has {sum} tasks and its index {found}"));
        }
        if tables.load(id) != loads.get(&id).unwrap_or(NodeLoad::none()) {
            return Err(format!(
                "load of node {id} is {:?}, its tasks add up to {:?}",
                tables.load(id),
                loads.get(&id)
            ));
        }
    }
    for service in tables.services().filter(|service| !service.removing) {
        if tables.service_by_name(&service.spec.name).map(|s| s.id) != Some(service.id) {
            return Err(format!("service {} is not found by its name {}", service.id, service.spec.name));
        }
    }
    Ok(())
}

fn capacity(node: &Node, load: &NodeLoad) -> Result<(), String> {
    let Some(description) = &node.description else { return Ok(()) };
    let has = &description.resources;
    if load.nano_cpus > has.nano_cpus.0 || load.memory > has.memory.0 {
        return Err(format!("more is reserved on node {} than it has: {load:?} of {has:?}", node.id));
    }
    for (kind, used) in &load.generic {
        let amount = has.generic.get(kind).map_or(0, types::GenericResource::amount);
        if *used > amount {
            return Err(format!("{used} {kind} are reserved on node {}, which has {amount}", node.id));
        }
    }
    Ok(())
}

/// What has a name is one task's.
fn named_resources(tables: &Tables, node: NodeId) -> Result<(), String> {
    let tasks = tables.tasks_of_node(node).filter(|task| NodeLoad::counts(task));
    let granted = tasks.flat_map(|task| task.granted.values()).map(|amount| amount.names().len());
    let (granted, distinct) = (granted.sum::<usize>(), tables.load(node).named.len());
    if granted != distinct {
        return Err(format!("{granted} named resources of node {node} are granted, of which {distinct} are distinct"));
    }
    Ok(())
}

fn host_ports(node: &Node, load: &NodeLoad) -> Result<(), String> {
    if let Some(((_, port, _), holders)) = load.ports.iter().find(|(_, holders)| **holders > 1) {
        return Err(format!("host port {port} of node {} is given to {holders} tasks", node.id));
    }
    // in order: all places of a number lie together
    for (at, (protocol, port, bind)) in load.ports.keys().enumerate() {
        let others = load.ports.keys().skip(at + 1).take_while(|(p, n, _)| (p, n) == (protocol, port));
        if let Some((_, _, other)) = others.into_iter().find(|(_, _, other)| other.overlaps(bind)) {
            return Err(format!("host port {port} of node {} is given at {bind:?} and at {other:?}", node.id));
        }
    }
    Ok(())
}

/// Checks what one proposal, made at `at`, did to the value.
///
/// # Errors
/// The first thing that must not have happened, in words.
pub fn check_step(before: &Tables, after: &Tables, at: Timestamp) -> Result<(), String> {
    let touched = after.touched_since(before.index());
    let services: Vec<_> = match &touched {
        Some(touched) => touched.services.iter().filter_map(|id| after.service(*id)).collect(),
        None => after.services().collect(),
    };
    for service in services {
        for task in after.tasks_of_service(service.id) {
            match before.task(task.id) {
                Some(old) => life(old, task)?,
                None => birth(after, service, task, at)?,
            }
        }
        parallelism(before, after, service)?;
        jobs::concurrency(before, after, service, at)?;
    }
    Ok(())
}

fn life(old: &Task, new: &Task) -> Result<(), String> {
    let id = new.id;
    let (was, is) = (old.status.state, new.status.state);
    if is < was {
        return Err(format!("task {id} went back from {was} to {is}"));
    }
    if was.is_terminal() && is != was && is != TaskState::Remove {
        return Err(format!("task {id} had ended as {was} and is now {is}"));
    }
    if new.desired < old.desired {
        return Err(format!("desired state of task {id} went back from {} to {}", old.desired, new.desired));
    }
    if old.node.is_some() && old.node != new.node {
        return Err(format!("task {id} changed its node"));
    }
    if (old.service, old.slot) != (new.service, new.slot) {
        return Err(format!("task {id} changed its slot"));
    }
    if new.meta.version < old.meta.version {
        return Err(format!("version of task {id} went back"));
    }
    let has_new_spec = !Arc::ptr_eq(&old.spec, &new.spec) && old.spec != new.spec;
    if has_new_spec && (was != TaskState::Running || !old.spec.becomes(&new.spec)) {
        return Err(format!("task {id}, which was {was}, changed its spec in more than the versions of its files"));
    }
    Ok(())
}

/// A task is born only into a slot whose other tasks have ended or are out of reach, unless the service
/// starts the new one first.
fn birth(after: &Tables, service: &Service, new: &Task, at: Timestamp) -> Result<(), String> {
    // one pass may make a task that a later one does not want, before it has a node
    let unborn = new.status.state == TaskState::Shutdown && new.node.is_none();
    if unborn {
        return Ok(());
    }
    if new.status.state > TaskState::Assigned {
        return Err(format!("task {} was born {}", new.id, new.status.state));
    }
    if service.removing {
        return Err(format!("task {} was born into service {}, which is being removed", new.id, service.spec.name));
    }
    jobs::birth(after, service, new)?;
    let orders = [service.spec.update.order, service.spec.rollback.order];
    if orders.contains(&UpdateOrder::StartFirst) && !service.spec.mode.is_per_node() {
        return Ok(());
    }
    let alive = |task: &Task| is_alive(after, service, task, at);
    match after.tasks_of_slot(new.service, new.slot).find(|task| task.id != new.id && alive(task)) {
        Some(other) => Err(format!(
            "slot {} of {} got task {} while {} is {} there (desired {})",
            new.slot, service.spec.name, new.id, other.id, other.status.state, other.desired
        )),
        None => Ok(()),
    }
}

/// Whether a task runs or shall run, and its node can be counted on.
fn is_alive(tables: &Tables, service: &Service, task: &Task, at: Timestamp) -> bool {
    let lost = |id| match tables.node(id).map(|node| &node.status) {
        None => true,
        Some(status) if status.state == NodeState::Unreachable => {
            status.since + service.spec.disconnect.lost_after <= at
        }
        Some(status) => status.state == NodeState::Down,
    };
    match task.node {
        _ if task.status.state.is_terminal() => false,
        None => task.desired == TaskState::Running,
        Some(node) => !lost(node),
    }
}

/// One step of a rollout takes no more running tasks away, or sets no more successors beside them, than may be
/// under way at once.
fn parallelism(before: &Tables, after: &Tables, service: &Service) -> Result<(), String> {
    let config = match service.update.as_ref().map(|update| update.state) {
        Some(UpdateState::Updating) => service.spec.update,
        Some(UpdateState::RollbackStarted) => service.spec.rollback,
        _ => return Ok(()),
    };
    let placement = &service.task_spec.placement;
    let moves_for_labels = !placement.constraints.is_empty() || !placement.platforms.is_empty();
    if config.parallelism == 0 || moves_for_labels {
        return Ok(());
    }
    let stays = |id| {
        let node = after.node(id);
        node.is_some_and(|n| n.status.state == NodeState::Ready && n.spec.availability != Availability::Drain)
    };
    let runs = |task: &Task| task.desired == TaskState::Running && task.status.state == TaskState::Running;
    let ran = |task: &Task| before.task(task.id).is_some_and(|old| runs(old)) && task.node.is_some_and(stays);
    let mut opened = BTreeSet::new();
    for task in after.tasks_of_service(service.id).filter(|task| ran(task)) {
        let others = || after.tasks_of_slot(service.id, task.slot).filter(|other| other.id != task.id);
        // what makes room for others is no step of the rollout's, and says why it ends
        let stopped = task.desired == TaskState::Shutdown && !task.status.state.is_terminal() && task.reason.is_empty();
        let alone = !others().any(|other| other.desired == TaskState::Running);
        let succeeded = runs(task) && others().any(|other| before.task(other.id).is_none() && other.failures == 0);
        if (stopped && alone) || succeeded {
            opened.insert(task.slot);
        }
    }
    if opened.len() as u64 > config.parallelism {
        return Err(format!(
            "{} slots of {} were opened at once, {} may be under way",
            opened.len(),
            service.spec.name,
            config.parallelism
        ));
    }
    Ok(())
}

/// What a cluster at rest looks like: each service has exactly the tasks it asks for, as far as nodes take
/// them. Returns what is missing or too much.
pub fn unrest(tables: &Tables) -> Vec<String> {
    let mut all = Vec::new();
    for service in tables.services() {
        if service.removing {
            all.push(format!("service {} is still being removed", service.spec.name));
        }
        let mut slots: BTreeMap<types::Slot, usize> = BTreeMap::new();
        for task in tables.tasks_of_service(service.id) {
            let wanted = task.desired == TaskState::Running && !task.status.state.is_terminal();
            let ready = |id| tables.node(id).is_some_and(|node| node.status.state == NodeState::Ready);
            if wanted && task.node.is_some_and(ready) {
                *slots.entry(task.slot).or_default() += 1;
                if task.status.state != TaskState::Running {
                    all.push(format!("{}.{} is {}", service.spec.name, task.slot, task.status.state));
                }
                if service.job.is_none() && task.spec.container != service.task_spec.container {
                    all.push(format!("{}.{} runs an old spec", service.spec.name, task.slot));
                }
            } else if wanted && task.node.is_none() {
                *slots.entry(task.slot).or_default() += 1;
                all.push(format!("{}.{} waits: {}", service.spec.name, task.slot, task.status.error));
            }
        }
        all.extend(
            slots
                .iter()
                .filter(|(_, count)| **count > 1)
                .map(|(slot, count)| format!("{}.{slot} has {count} tasks", service.spec.name)),
        );
        all.extend(jobs::unrest(tables, service));
        if let ServiceMode::Replicated { replicas } = service.spec.mode
            && slots.len() as u64 != replicas
            && !service.removing
        {
            all.push(format!("{} has {} of {replicas} tasks", service.spec.name, slots.len()));
        }
    }
    all
}
