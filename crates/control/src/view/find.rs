//! Look-ups by full id, by name, or by a prefix of the id that only one object has.

use std::{fmt::Display, sync::Arc};

use types::{Dependency, DependencyKind, Name, Network, Node, Service, ServiceId, Slot, Task, TaskState};

use crate::{Rejection, Tables};

pub(crate) fn node<'a>(tables: &'a Tables, text: &str) -> Result<&'a Arc<Node>, Rejection> {
    if let Some(found) = text.parse().ok().and_then(|id| tables.node(id)) {
        return Ok(found);
    }
    let named = |node: &&Arc<Node>| node.spec.name == text || hostname(node) == text;
    let mut by_name = tables.nodes().filter(named);
    if let Some(found) = by_name.next().filter(|_| !text.is_empty()) {
        return match by_name.count() {
            0 => Ok(found),
            more => Err(ambiguous("node name", text, more as u64 + 1)),
        };
    }
    by_prefix("node", text, tables.nodes().map(|n| (n.id, n)))
}

pub(super) fn hostname(node: &Node) -> &str {
    node.description.as_ref().map_or("", |description| description.hostname.as_str())
}

/// One that is being removed is there only until its tasks have ended, and nobody's to find any more.
pub(crate) fn service<'a>(tables: &'a Tables, text: &str) -> Result<&'a Arc<Service>, Rejection> {
    let stays = |service: &&Arc<Service>| !service.removing;
    if let Some(found) = text.parse().ok().and_then(|id| tables.service(id)).filter(stays) {
        return Ok(found);
    }
    if let Some(found) = text.parse::<Name>().ok().and_then(|name| tables.service_by_name(&name)) {
        return Ok(found);
    }
    by_prefix("service", text, tables.services().filter(stays).map(|s| (s.id, s)))
}

pub(super) fn network<'a>(tables: &'a Tables, text: &str) -> Result<&'a Arc<Network>, Rejection> {
    if let Some(found) = text.parse().ok().and_then(|id| tables.network(id)) {
        return Ok(found);
    }
    if let Some(found) = text.parse::<Name>().ok().and_then(|name| tables.network_by_name(&name)) {
        return Ok(found);
    }
    by_prefix("network", text, tables.networks().map(|n| (n.id, n)))
}

/// A name stands for its present version.
pub(super) fn dependency<'a>(
    tables: &'a Tables,
    kind: DependencyKind,
    text: &str,
) -> Result<&'a Arc<Dependency>, Rejection> {
    let of_kind = |version: &&Arc<Dependency>| version.spec.kind == kind;
    if let Some(found) = text.parse().ok().and_then(|id| tables.dependency(id)).filter(of_kind) {
        return Ok(found);
    }
    if let Some(found) = text.parse().ok().and_then(|name| tables.dependency_by_name(kind, &name)) {
        return Ok(found);
    }
    by_prefix(&kind.to_string(), text, tables.dependencies().filter(of_kind).map(|version| (version.id, version)))
}

pub(super) fn task<'a>(tables: &'a Tables, text: &str) -> Result<&'a Arc<Task>, Rejection> {
    if let Some(found) = text.parse().ok().and_then(|id| tables.task(id)) {
        return Ok(found);
    }
    let Some((place, last)) = text.rsplit_once('.') else {
        return by_prefix("task", text, tables.tasks().map(|t| (t.id, t)));
    };
    // `web.1` is what its slot comes to now; `web.1.<id>`, as lists show it, is one of its tasks.
    let found = match slot(tables, text) {
        Some((service, slot)) => tables.tasks_of_slot(service, slot).max_by_key(|t| (is_wanted(t), t.meta.created_at)),
        None => match slot(tables, place) {
            Some((service, slot)) => {
                return by_prefix("task", last, tables.tasks_of_slot(service, slot).map(|t| (t.id, t)));
            }
            None => None,
        },
    };
    found.ok_or_else(|| Rejection::not_found("task", text))
}

/// A container's id begins with its task's as 32 hexadecimal digits (`node/engine/container_id`).
pub(super) fn task_of_container<'a>(tables: &'a Tables, text: &str) -> Result<&'a Arc<Task>, Rejection> {
    let digits = |task: &Arc<Task>| format!("{:032x}", task.id.as_u128());
    let fits = |task: &&Arc<Task>| {
        let digits = digits(task);
        digits.starts_with(text) || text.starts_with(&digits)
    };
    let mut fitting = tables.tasks().filter(fits);
    let found = fitting.next().filter(|_| !text.is_empty()).ok_or_else(|| Rejection::not_found("container", text))?;
    match fitting.count() {
        0 => Ok(found),
        more => Err(ambiguous("container", text, more as u64 + 1)),
    }
}

fn is_wanted(task: &Task) -> bool {
    matches!(task.desired, TaskState::Running | TaskState::Complete)
}

/// Of `web.1`, or of `web.<node id>` for a global service. Names may have dots themselves.
fn slot(tables: &Tables, text: &str) -> Option<(ServiceId, Slot)> {
    let (name, slot) = text.rsplit_once('.')?;
    let service = tables.service_by_name(&name.parse().ok()?)?;
    let slot = slot.parse().map(Slot::Replica).ok().or_else(|| slot.parse().map(Slot::Node).ok())?;
    Some((service.id, slot))
}

fn by_prefix<'a, I: Display, T>(
    kind: &str,
    prefix: &str,
    all: impl Iterator<Item = (I, &'a Arc<T>)>,
) -> Result<&'a Arc<T>, Rejection> {
    if prefix.is_empty() {
        return Err(Rejection::not_found(kind, "\"\""));
    }
    let mut fitting = all.filter(|(id, _)| id.to_string().starts_with(prefix));
    let (_, found) = fitting.next().ok_or_else(|| Rejection::not_found(kind, prefix))?;
    match fitting.count() {
        0 => Ok(found),
        more => Err(ambiguous(kind, prefix, more as u64 + 1)),
    }
}

fn ambiguous(kind: &str, prefix: &str, count: u64) -> Rejection {
    Rejection::Ambiguous { kind: kind.to_owned(), prefix: prefix.to_owned(), count }
}
