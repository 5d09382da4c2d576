//! `/containers/json`: the containers of this node's tasks, in Docker's shape.

use axum::{
    Json,
    extract::{RawQuery, State},
};
use serde_json::{Value, json};
use types::{ContainerHealth, Filters, Name, Slot, Task, TaskState};

use super::{query, tasks};
use crate::{
    convert::{endpoint, mount},
    error::{ApiError, ApiResult},
    router::Shared,
};

/// A task of this node that has a container.
pub(crate) struct Container {
    task: Task,
    id: String,
    service: Option<Name>,
}

impl Container {
    pub(crate) fn is_running(&self) -> bool {
        let is_starting = self.task.status.state == TaskState::Starting && self.health().is_some();
        self.task.status.state == TaskState::Running || is_starting
    }

    /// `None` without a health check, or before the container runs.
    fn health(&self) -> Option<ContainerHealth> {
        self.task.status.container.as_ref().and_then(|container| container.health)
    }

    fn name(&self) -> String {
        let slot = match self.task.slot {
            Slot::Replica(number) => number.to_string(),
            Slot::Node(node) => node.to_string(),
        };
        let service = self.service.as_ref().map_or_else(|| self.task.service.to_string(), ToString::to_string);
        format!("{service}.{slot}.{}", self.task.id)
    }
}

/// Empty outside a cluster; only a manager knows its tasks by name.
pub(crate) async fn of_this_node(shared: &Shared) -> ApiResult<Vec<Container>> {
    let status = shared.membership.status();
    let (Some(node), Some(_)) = (status.node, status.cluster.as_ref()) else { return Ok(Vec::new()) };
    let found = tasks::fetch(shared, Filters::from([("node".to_owned(), vec![node.to_string()])])).await?;
    let services = tasks::services(shared).await?;
    let container = |task: Task| {
        let id = task.status.container.as_ref().map(|status| status.id.clone()).filter(|id| !id.is_empty())?;
        let service = services.get(&task.service).map(|view| view.service.spec.name.clone());
        Some(Container { id, service, task })
    };
    Ok(found.into_iter().filter_map(container).collect())
}

pub(crate) async fn list(State(shared): State<Shared>, raw: RawQuery) -> ApiResult<Json<Vec<Value>>> {
    let query = query(raw);
    let filters = query.filters()?;
    check_filters(&filters)?;
    let status = shared.membership.status();
    if status.node.is_some() && status.cluster.is_none() {
        return Err(ApiError::unsupported("listing containers on a worker is not supported yet; ask a manager"));
    }
    let with_ended = query.flag("all") || filters.contains_key("status");
    let mut containers = of_this_node(&shared).await?;
    containers.retain(|container| (with_ended || container.is_running()) && fits(container, &filters));
    containers.sort_by_key(|container| std::cmp::Reverse(container.task.meta.created_at));
    Ok(Json(containers.iter().map(write).collect()))
}

fn check_filters(filters: &Filters) -> ApiResult<()> {
    const KNOWN: [&str; 5] = ["health", "id", "label", "name", "status"];
    match filters.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        Some(key) => {
            Err(ApiError::bad_request(format!("invalid filter '{key}' for containers: known are {}", KNOWN.join(", "))))
        }
        None => Ok(()),
    }
}

fn fits(container: &Container, filters: &Filters) -> bool {
    let any =
        |key: &str, fits: &dyn Fn(&str) -> bool| filters.get(key).is_none_or(|values| values.iter().any(|v| fits(v)));
    let labels = labels(container);
    let label = |wanted: &str| match wanted.split_once('=') {
        Some((name, value)) => labels[name] == value,
        None => labels.get(wanted).is_some(),
    };
    any("id", &|prefix| container.id.starts_with(prefix))
        && any("name", &|part| container.name().contains(part.trim_start_matches('/')))
        && any("health", &|health| container.health().map_or("none".to_owned(), |h| h.to_string()) == health)
        && any("status", &|state| state_of(container) == state)
        && filters.get("label").is_none_or(|wanted| wanted.iter().all(|wanted| label(wanted)))
}

fn state_of(container: &Container) -> &'static str {
    match container.task.status.state {
        _ if container.is_running() => "running",
        state if state.is_terminal() => "exited",
        _ => "created",
    }
}

/// The container's own labels and those that tell where it belongs, as Docker's swarm sets them.
fn labels(container: &Container) -> Value {
    let mut labels = json!(container.task.spec.container.labels);
    labels["com.docker.swarm.node.id"] = json!(container.task.node);
    labels["com.docker.swarm.service.id"] = json!(container.task.service);
    labels["com.docker.swarm.service.name"] = json!(container.service);
    labels["com.docker.swarm.task.id"] = json!(container.task.id);
    labels["com.docker.swarm.task.name"] = json!(container.name());
    labels
}

fn write(container: &Container) -> Value {
    let spec = &container.task.spec.container;
    let status = &container.task.status;
    let command: Vec<&str> = spec.command.iter().chain(&spec.args).map(String::as_str).collect();
    let state = state_of(container);
    let seconds = |time: types::Timestamp| time.as_unix_ns() / 1_000_000_000;
    let shown = match state {
        "running" => format!("Up {}{}", since(status.since), health_text(container.health())),
        "exited" => {
            let code = status.container.as_ref().and_then(|container| container.exit_code).unwrap_or(0);
            format!("Exited ({code}) {} ago", since(status.since))
        }
        _ => "Created".to_owned(),
    };
    json!({
        "Id": container.id,
        "Names": [format!("/{}", container.name())],
        "Image": spec.image.familiar(),
        "ImageID": "",
        "Command": command.join(" "),
        "Created": seconds(container.task.meta.created_at),
        "Ports": status.ports.iter().map(|bound| endpoint::write_container_port(&bound.port)).collect::<Vec<_>>(),
        "Labels": labels(container),
        "State": state,
        "Status": shown,
        "HostConfig": { "NetworkMode": "bridge" },
        "NetworkSettings": { "Networks": {} },
        "Mounts": spec.mounts.iter().map(mount::write_mount_point).collect::<Vec<_>>(),
    })
}

/// What Docker puts behind `Up 5 seconds`.
fn health_text(health: Option<ContainerHealth>) -> String {
    match health {
        None => String::new(),
        Some(ContainerHealth::Starting) => " (health: starting)".to_owned(),
        Some(health) => format!(" ({health})"),
    }
}

/// `5 seconds`, `3 minutes`, `2 hours`, `4 days`.
fn since(time: types::Timestamp) -> String {
    let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0);
    let seconds = types::Timestamp::from_unix_ns(now).since(time).as_secs();
    let (count, unit) = match seconds {
        s if s < 60 => (s, "second"),
        s if s < 3600 => (s / 60, "minute"),
        s if s < 2 * 86400 => (s / 3600, "hour"),
        s => (s / 86400, "day"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}
