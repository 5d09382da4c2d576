//! Filters of lists. Values of one key are alternatives, except labels, which must all be there; different
//! keys must all hold. An unknown key is refused rather than ignored.

use std::{collections::BTreeSet, sync::Arc};

use types::{
    Availability, Dependency, Filters, Labels, Network, NetworkDriver, Node, NodeId, NodeState, Service, ServiceId,
    Slot, Task, TaskState,
};

use super::find;
use crate::{Rejection, Tables};

pub(super) const NODE_KEYS: &[&str] = &["id", "name", "label", "node.label", "role", "membership", "availability"];
pub(super) const SERVICE_KEYS: &[&str] = &["id", "name", "label", "mode", "runtime"];
pub(super) const NETWORK_KEYS: &[&str] = &["id", "name", "driver", "label", "scope", "type", "dangling"];
pub(super) const DEPENDENCY_KEYS: &[&str] = &["id", "name", "names", "label"];
const TASK_KEYS: &[&str] = &["id", "name", "label", "service", "node", "desired-state", "runtime"];

/// Keys whose values are a few words: another word is a mistake, not a list of none. Capitals do not count.
const WORDS: [(&str, &[&str]); 4] = [
    ("availability", &["active", "pause", "drain"]),
    (
        "desired-state",
        &[
            "running",
            "accepted",
            "complete",
            "shutdown",
            "remove",
            "new",
            "pending",
            "assigned",
            "preparing",
            "ready",
            "starting",
            "failed",
            "rejected",
            "orphaned",
        ],
    ),
    ("membership", &["accepted", "pending"]),
    ("role", &["manager", "worker"]),
];

pub(super) fn check(kind: &str, filters: &Filters, known: &[&str]) -> Result<(), Rejection> {
    for (key, words) in WORDS {
        let is_known = |value: &str| words.iter().any(|word| word.eq_ignore_ascii_case(value));
        let strange = filters.get(key).and_then(|values| values.iter().find(|value| !is_known(value)));
        if let Some(value) = strange {
            let text = format!("invalid {key} filter: '{value}' is none of {}", words.join(", "));
            return Err(Rejection::Invalid(text));
        }
    }
    match filters.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            Err(Rejection::Invalid(format!("invalid filter '{key}' for {kind}s: known are {}", known.join(", "))))
        }
        None => Ok(()),
    }
}

/// Whether one of the values of `key` fits, or there is no such key.
fn any(filters: &Filters, key: &str, fits: impl Fn(&str) -> bool) -> bool {
    filters.get(key).is_none_or(|values| values.is_empty() || values.iter().any(|value| fits(value)))
}

fn labels_fit(filters: &Filters, key: &str, labels: &Labels) -> bool {
    let fits = |wanted: &String| match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|v| v == value),
        None => labels.contains_key(wanted),
    };
    filters.get(key).is_none_or(|values| values.iter().all(fits))
}

pub(super) fn node_fits(node: &Node, filters: &Filters) -> bool {
    let name = |prefix: &str| node.spec.name.starts_with(prefix) || find::hostname(node).starts_with(prefix);
    let availability = match node.spec.availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    };
    let none = Labels::new();
    let engine_labels = node.description.as_ref().map_or(&none, |d| &d.engine_labels);
    any(filters, "id", |prefix| node.id.to_string().starts_with(prefix))
        && any(filters, "name", name)
        && any(filters, "role", |role| node.spec.role.to_string().eq_ignore_ascii_case(role))
        && any(filters, "membership", |membership| membership.eq_ignore_ascii_case("accepted"))
        && any(filters, "availability", |wanted| wanted.eq_ignore_ascii_case(availability))
        && labels_fit(filters, "label", engine_labels)
        && labels_fit(filters, "node.label", &node.spec.labels)
}

pub(super) fn service_fits(service: &Service, filters: &Filters) -> bool {
    let mode = service.spec.mode.as_str();
    any(filters, "id", |prefix| service.id.to_string().starts_with(prefix))
        && any(filters, "name", |prefix| service.spec.name.as_str().starts_with(prefix))
        && any(filters, "mode", |wanted| wanted == mode)
        && any(filters, "runtime", |wanted| wanted == "container")
        && labels_fit(filters, "label", &service.spec.labels)
}

/// `name` is the beginning of one, `names` a whole one (as in Docker).
pub(super) fn dependency_fits(version: &Dependency, filters: &Filters) -> bool {
    let name = version.spec.name.as_str();
    any(filters, "id", |prefix| version.id.to_string().starts_with(prefix))
        && any(filters, "name", |prefix| name.starts_with(prefix))
        && any(filters, "names", |wanted| name == wanted)
        && labels_fit(filters, "label", &version.spec.labels)
}

/// Unlike the others' names, part of a network's is enough (as in Docker).
pub(super) fn network_fits(tables: &Tables, network: &Network, filters: &Filters) -> bool {
    let driver = match network.spec.driver {
        NetworkDriver::Overlay => "overlay",
        NetworkDriver::Bridge => "bridge",
        NetworkDriver::Macvlan => "macvlan",
        NetworkDriver::Ipvlan => "ipvlan",
        NetworkDriver::Host => "host",
        NetworkDriver::Null => "null",
    };
    let used =
        tables.services_of_network(network.id).next().is_some() || tables.tasks_of_network(network.id).next().is_some();
    any(filters, "id", |prefix| network.id.to_string().starts_with(prefix))
        && any(filters, "name", |part| network.spec.name.as_str().contains(part))
        && any(filters, "driver", |wanted| wanted == driver)
        && any(filters, "scope", |wanted| wanted == "swarm")
        && any(filters, "type", |wanted| wanted == "custom")
        && any(filters, "dangling", |wanted| matches!(wanted, "true" | "1") != used)
        && labels_fit(filters, "label", &network.spec.labels)
}

pub(super) fn tasks(tables: &Tables, filters: &Filters) -> Result<Vec<Arc<Task>>, Rejection> {
    check("task", filters, TASK_KEYS)?;
    let services = services_named(tables, filters)?;
    let nodes = nodes_named(tables, filters)?;
    let fits = |task: &&Arc<Task>| {
        services.as_ref().is_none_or(|ids| ids.contains(&task.service))
            && nodes.as_ref().is_none_or(|ids| task.node.is_some_and(|node| ids.contains(&node)))
            && task_fits(tables, task, filters)
    };
    Ok(match &services {
        // the common case, `service ps`, reads only what it shows
        Some(ids) => ids.iter().flat_map(|id| tables.tasks_of_service(*id)).filter(fits).cloned().collect(),
        None => tables.tasks().filter(fits).cloned().collect(),
    })
}

fn services_named(tables: &Tables, filters: &Filters) -> Result<Option<BTreeSet<ServiceId>>, Rejection> {
    let Some(values) = filters.get("service").filter(|values| !values.is_empty()) else { return Ok(None) };
    values
        .iter()
        .map(|value| find::service(tables, value).map(|service| service.id))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn nodes_named(tables: &Tables, filters: &Filters) -> Result<Option<BTreeSet<NodeId>>, Rejection> {
    let Some(values) = filters.get("node").filter(|values| !values.is_empty()) else { return Ok(None) };
    values.iter().map(|value| find::node(tables, value).map(|node| node.id)).collect::<Result<_, _>>().map(Some)
}

fn task_fits(tables: &Tables, task: &Task, filters: &Filters) -> bool {
    let name = |prefix: &str| {
        let service = tables.service(task.service).map_or_else(String::new, |s| s.spec.name.to_string());
        let slot = match task.slot {
            Slot::Replica(number) => number.to_string(),
            Slot::Node(node) => node.to_string(),
        };
        format!("{service}.{slot}.{}", task.id).starts_with(prefix)
    };
    // "accepted" is Docker's word for what is on its way to running
    let desired = |wanted: &str| match wanted.to_ascii_lowercase().as_str() {
        "running" | "accepted" => shown_desired(tables, task) == TaskState::Running,
        "complete" => shown_desired(tables, task) == TaskState::Complete,
        "shutdown" => shown_desired(tables, task) == TaskState::Shutdown,
        "remove" => task.desired == TaskState::Remove,
        _ => false,
    };
    any(filters, "id", |prefix| task.id.to_string().starts_with(prefix))
        && any(filters, "name", name)
        && any(filters, "desired-state", desired)
        && any(filters, "runtime", |wanted| wanted == "container")
        && labels_fit(filters, "label", &task.spec.container.labels)
}

/// What people see as wanted of a task. One that ended for good keeps RUNNING as its desired state (that
/// is how its slot stays finished), and so does one whose node is lost (it may come back with its node);
/// people expect to see both among those shut down.
///
/// A task of a job is wanted to be complete, and stays so when it is.
pub(super) fn shown_desired(tables: &Tables, task: &Task) -> TaskState {
    let completes = task.iteration.is_some() && task.desired == TaskState::Running;
    if completes && task.status.state == TaskState::Complete {
        return TaskState::Complete;
    }
    if task.desired == TaskState::Running && (task.status.state.is_terminal() || is_on_lost_node(tables, task)) {
        TaskState::Shutdown
    } else if completes {
        TaskState::Complete
    } else {
        task.desired
    }
}

fn is_on_lost_node(tables: &Tables, task: &Task) -> bool {
    let lost = |id| tables.node(id).is_none_or(|node| node.status.state == NodeState::Down);
    task.node.is_some_and(lost)
}
