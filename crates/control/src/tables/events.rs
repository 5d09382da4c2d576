//! What happened between two states of the value, object by object.
//!
//! Pure, and the same on every manager. What the two states share is not looked at, so the cost is that of the
//! difference.
// a difference of two maps is a few references, made to be read once
#![allow(clippy::needless_pass_by_value)]

use std::{collections::BTreeMap, sync::Arc};

use imbl::ordmap::DiffItem;
use types::{
    Availability, Dependency, DependencyKind, Node, NodeState, ObjectAction, ObjectEvent, ObjectKind, Service,
    ServiceMode, Stack, Task, UpdateState,
};

use super::Tables;

/// In the order in which one thing needs another: nodes and networks before services, services before their stacks and tasks.
pub fn events(before: &Tables, after: &Tables) -> Vec<ObjectEvent> {
    let mut all = Vec::new();
    let nodes = before.nodes.diff(&after.nodes);
    all.extend(nodes.map(|change| of(change, &|id| (ObjectKind::Node, id.to_string()), node)));
    for change in before.network_names.diff(&after.network_names) {
        all.extend(network(change));
    }
    all.extend(
        super::overlay::changed(&before.overlays, &after.overlays)
            .into_iter()
            .filter_map(|id| grown(before, after, id)),
    );
    for change in before.dependencies.diff(&after.dependencies) {
        all.extend(dependency(before, change));
    }
    for change in before.services.diff(&after.services) {
        all.extend(service_event(change));
    }
    for change in before.stacks.diff(&after.stacks) {
        all.extend(stack_event(change));
    }
    let name = |task: &Task| {
        let service = after.service(task.service).or_else(|| before.service(task.service));
        service.map_or_else(|| task.service.short(), |service| service.spec.name.to_string())
    };
    let describe = |old: Option<&Task>, new: &Task| {
        let node = new.node.and_then(|id| after.node(id).or_else(|| before.node(id)));
        task(old, new, &name(new), node.map(|node| node.shown_name()))
    };
    let tasks = before.tasks.diff(&after.tasks);
    all.extend(tasks.map(|change| of(change, &|id| (ObjectKind::Task, id.to_string()), describe)));
    all
}

/// Tasks that came or changed, each as it was and as it is.
pub fn changed_tasks<'a>(
    before: &'a Tables,
    after: &'a Tables,
) -> impl Iterator<Item = (Option<&'a Arc<Task>>, &'a Arc<Task>)> {
    before.tasks.diff(&after.tasks).filter_map(|change| match change {
        DiffItem::Add(_, new) => Some((None, new)),
        DiffItem::Update { old: (_, old), new: (_, new) } => Some((Some(old), new)),
        DiffItem::Remove(..) => None,
    })
}

type Attributes = BTreeMap<String, String>;

/// One change as it is. `describe` is given the old object when there are both.
fn of<K, V>(
    change: DiffItem<'_, '_, K, Arc<V>>,
    identify: &dyn Fn(&K) -> (ObjectKind, String),
    describe: impl Fn(Option<&V>, &V) -> Attributes,
) -> ObjectEvent {
    let (action, key, attributes) = match change {
        DiffItem::Add(key, new) => (ObjectAction::Create, key, describe(None, new)),
        DiffItem::Update { old: (_, old), new: (key, new) } => (ObjectAction::Update, key, describe(Some(old), new)),
        DiffItem::Remove(key, old) => (ObjectAction::Remove, key, describe(None, old)),
    };
    let (kind, id) = identify(key);
    ObjectEvent { kind, action, id, attributes }
}

/// Notes what changed, as Docker does.
fn changed<T: PartialEq + Copy>(to: &mut Attributes, name: &str, (old, new): (T, T), word: impl Fn(T) -> String) {
    if old != new {
        to.insert(format!("{name}.old"), word(old));
        to.insert(format!("{name}.new"), word(new));
    }
}

fn named(name: impl Into<String>) -> Attributes {
    [("name".to_owned(), name.into())].into()
}

/// Labels can be filtered by; what is said already stays.
fn with_labels(mut attributes: Attributes, labels: &types::Labels) -> Attributes {
    for (key, value) in labels {
        attributes.entry(key.clone()).or_insert_with(|| value.clone());
    }
    attributes
}

fn node(old: Option<&Node>, new: &Node) -> Attributes {
    let mut attributes = named(new.shown_name());
    if let Some(old) = old {
        let availability = |of| match of {
            Availability::Active => "active".to_owned(),
            Availability::Pause => "pause".to_owned(),
            Availability::Drain => "drain".to_owned(),
        };
        changed(&mut attributes, "availability", (old.spec.availability, new.spec.availability), availability);
        changed(&mut attributes, "role", (old.role, new.role), |role| role.to_string());
        changed(&mut attributes, "state", (old.status.state, new.status.state), |state| node_state(state).to_owned());
    }
    with_labels(attributes, &new.spec.labels)
}

/// Docker's words.
fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Unknown => "unknown",
        NodeState::Ready => "ready",
        NodeState::Unreachable => "disconnected",
        NodeState::Down => "down",
    }
}

/// Its name comes, goes, or is another network's.
fn network(change: DiffItem<'_, '_, types::Name, types::NetworkId>) -> Vec<ObjectEvent> {
    let one = |action, name: &types::Name, id: &types::NetworkId| ObjectEvent {
        kind: ObjectKind::Network,
        action,
        id: id.to_string(),
        attributes: named(name.to_string()),
    };
    match change {
        DiffItem::Add(name, id) => vec![one(ObjectAction::Create, name, id)],
        DiffItem::Remove(name, id) => vec![one(ObjectAction::Remove, name, id)],
        DiffItem::Update { old, new } => {
            vec![one(ObjectAction::Remove, old.0, old.1), one(ObjectAction::Create, new.0, new.1)]
        }
    }
}

/// One that has another subnet now. Nothing else of a network changes.
fn grown(before: &Tables, after: &Tables, id: types::NetworkId) -> Option<ObjectEvent> {
    let (old, new) = (before.network(id)?, after.network(id)?);
    (old.subnets != new.subnets).then(|| ObjectEvent {
        kind: ObjectKind::Network,
        action: ObjectAction::Update,
        id: id.to_string(),
        attributes: named(new.spec.name.to_string()),
    })
}

/// A new version is an update of what has the name; that the old one stays a while is nobody's news.
fn dependency(before: &Tables, change: DiffItem<'_, '_, types::DependencyId, Arc<Dependency>>) -> Option<ObjectEvent> {
    let (action, new) = match change {
        DiffItem::Add(_, new) => {
            let known = before.dependency_by_name(new.spec.kind, &new.spec.name).is_some();
            (if known { ObjectAction::Update } else { ObjectAction::Create }, new)
        }
        DiffItem::Update { new: (_, new), .. } => (ObjectAction::Update, new),
        DiffItem::Remove(_, old) => (ObjectAction::Remove, old),
    };
    let kind = match new.spec.kind {
        DependencyKind::Secret => ObjectKind::Secret,
        DependencyKind::Config => ObjectKind::Config,
    };
    let attributes = with_labels(named(new.spec.name.to_string()), &new.spec.labels);
    (!new.superseded).then(|| ObjectEvent { kind, action, id: new.id.to_string(), attributes })
}

/// For its user a service is gone when its removal was asked for; that its tasks have stopped is told of them.
fn service_event(change: DiffItem<'_, '_, types::ServiceId, Arc<Service>>) -> Option<ObjectEvent> {
    let (action, attributes, id) = match change {
        DiffItem::Add(id, new) => (ObjectAction::Create, service(None, new), id),
        DiffItem::Update { old: (_, old), .. } if old.removing => return None,
        DiffItem::Update { new: (id, new), .. } if new.removing => (ObjectAction::Remove, service(None, new), id),
        DiffItem::Update { old: (_, old), new: (id, new) } => (ObjectAction::Update, service(Some(old), new), id),
        DiffItem::Remove(_, old) if old.removing => return None,
        DiffItem::Remove(id, old) => (ObjectAction::Remove, service(None, old), id),
    };
    Some(ObjectEvent { kind: ObjectKind::Service, action, id: id.to_string(), attributes })
}

/// A stack that is there changes by its next revision alone.
fn stack_event(change: DiffItem<'_, '_, types::Name, Arc<Stack>>) -> Option<ObjectEvent> {
    let (action, name, new, old) = match change {
        DiffItem::Add(name, new) => (ObjectAction::Create, name, new, None),
        DiffItem::Update { old: (_, old), new: (_, new) } if old.present.number == new.present.number => return None,
        DiffItem::Update { old: (_, old), new: (name, new) } => (ObjectAction::Update, name, new, Some(old)),
        DiffItem::Remove(name, old) => (ObjectAction::Remove, name, old, None),
    };
    let action = if old.is_some() && new.present.back_to.is_some() { ObjectAction::Rollback } else { action };
    let mut attributes = named(name.to_string());
    match old {
        Some(old) => changed(&mut attributes, "revision", (old.present.number, new.present.number), |n| n.to_string()),
        None => _ = attributes.insert("revision".to_owned(), new.present.number.to_string()),
    }
    if action != ObjectAction::Remove {
        let back_to = new.present.back_to.map(|number| ("backto", number.to_string()));
        let by = Some(("by", new.present.by.clone())).filter(|(_, by)| !by.is_empty());
        attributes.extend(back_to.into_iter().chain(by).map(|(key, value)| (key.to_owned(), value)));
    }
    Some(ObjectEvent { kind: ObjectKind::Stack, action, id: name.to_string(), attributes })
}

fn service(old: Option<&Service>, new: &Service) -> Attributes {
    let mut attributes = named(new.spec.name.to_string());
    if let Some(old) = old {
        let image = |of: &Service| of.spec.task.container.image.familiar();
        let (was, is) = (image(old), image(new));
        changed(&mut attributes, "image", (was.as_str(), is.as_str()), str::to_owned);
        if let (ServiceMode::Replicated { replicas: was }, ServiceMode::Replicated { replicas: is }) =
            (&old.spec.mode, &new.spec.mode)
        {
            changed(&mut attributes, "replicas", (*was, *is), |count| count.to_string());
        }
        let state = |of: &Service| of.update.as_ref().map(|update| update.state);
        match (state(old), state(new)) {
            (None, Some(is)) => _ = attributes.insert("updatestate.new".to_owned(), update_state(is).to_owned()),
            (Some(was), Some(is)) => {
                changed(&mut attributes, "updatestate", (was, is), |state| update_state(state).to_owned());
            }
            (_, None) => {}
        }
    }
    with_labels(attributes, &new.spec.labels)
}

/// Docker's words.
fn update_state(state: UpdateState) -> &'static str {
    match state {
        UpdateState::Updating => "updating",
        UpdateState::Paused => "paused",
        UpdateState::Completed => "completed",
        UpdateState::RollbackStarted => "rollback_started",
        UpdateState::RollbackPaused => "rollback_paused",
        UpdateState::RollbackCompleted => "rollback_completed",
    }
}

fn task(old: Option<&Task>, new: &Task, service: &str, node_name: Option<&str>) -> Attributes {
    let mut attributes = named(format!("{service}.{}", new.slot));
    let mut say = |key: &str, value: String| _ = attributes.insert(key.to_owned(), value);
    say("service", service.to_owned());
    say("service.id", new.service.to_string());
    say("slot", new.slot.to_string());
    say("image", new.spec.container.image.familiar());
    if let Some(node) = new.node {
        say("node", node.to_string());
    }
    if let Some(name) = node_name {
        say("node.name", name.to_owned());
    }
    if !new.status.error.is_empty() {
        say("error", new.status.error.clone());
    }
    match old {
        None => say("state", new.status.state.to_string()),
        Some(old) => {
            let word = |state: types::TaskState| state.to_string();
            changed(&mut attributes, "state", (old.status.state, new.status.state), word);
            changed(&mut attributes, "desired", (old.desired, new.desired), word);
            if old.refreshed_at != new.refreshed_at {
                attributes.insert("refreshed".to_owned(), "true".to_owned());
            }
        }
    }
    attributes
}
