//! From the name in a request to the node that has the container. Decides from the value; asks this host's manager.

use std::net::IpAddr;

use axum::http::StatusCode;
use identity::NodeIdentity;
use node::engine::{container_id, containers::ContainerErrorKind, task_of_container};
use types::{Node, NodeId, NodeState, ReadReply, ReadRequest, Task, TaskState};

use super::{
    ids,
    target::{Noun, Target},
};
use crate::{
    cluster,
    error::{ApiError, ApiResult},
    router::Shared,
};

/// Of an id at least so much must be said: a shorter word is a name that somebody mistyped rather than a task's.
const MIN_PREFIX: usize = 4;
/// As much of a container's id as lists show.
const SHORT_ID: usize = 12;

/// Who answers a request.
#[derive(Debug)]
pub(super) enum Place {
    /// This host; about this id, if the request names it otherwise.
    Here(Option<String>),
    There(Box<There>),
}

/// Another node.
#[derive(Debug)]
pub(super) struct There {
    pub(super) node: NodeId,
    pub(super) hostname: String,
    pub(super) address: IpAddr,
    /// Of the container or command, as that node knows it.
    pub(super) id: String,
    pub(super) identity: NodeIdentity,
}

/// What the value says.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Here(String),
    There { node: NodeId, hostname: String, address: IpAddr, id: String },
}

pub(super) async fn place(shared: &Shared, target: &Target) -> ApiResult<Place> {
    let status = shared.membership.status();
    // Who is no manager knows of its own containers alone.
    let (Some(own), Some(identity), true) = (status.node, status.identity, status.cluster.is_some()) else {
        return Ok(Place::Here(None));
    };
    let decision = match target.noun {
        Noun::Exec => of_exec(shared, &target.name, own).await?,
        Noun::Container => of_container(shared, target, own).await?,
    };
    Ok(match decision {
        None => Place::Here(None),
        Some(Decision::Here(id)) => Place::Here(Some(id)),
        Some(Decision::There { node, hostname, address, id }) => {
            Place::There(Box::new(There { node, hostname, address, id, identity }))
        }
    })
}

/// Any node of the cluster, this one too: a manager asks itself by the same way. `what`: which of the things it has is meant.
pub(super) async fn node(shared: &Shared, name: &str, what: &str) -> ApiResult<There> {
    way(shared, &cluster::node(&shared.membership, name).await?.node, what)
}

/// The same of a node that is known; nothing that it has is meant if `what` is empty.
pub(super) fn way(shared: &Shared, node: &Node, what: &str) -> ApiResult<There> {
    let identity = shared.membership.status().identity;
    let identity = identity.ok_or_else(|| ApiError::unavailable(crate::error::NOT_IN_A_CLUSTER))?;
    match there(node, String::new(), what)? {
        Decision::There { node, hostname, address, id } => Ok(There { node, hostname, address, id, identity }),
        Decision::Here(_) => Err(ApiError::internal("a node is no container")),
    }
}

async fn of_exec(shared: &Shared, name: &str, own: NodeId) -> ApiResult<Option<Decision>> {
    let Some((id, node)) = ids::apart(name) else { return Ok(None) };
    if node == own {
        return Ok(Some(Decision::Here(id.to_owned())));
    }
    match found(cluster::node(&shared.membership, &node.to_string()).await)? {
        Some(view) => there(&view.node, id.to_owned(), "this command").map(Some),
        None => Err(ApiError::not_found(format!("No such exec instance: {name}"))),
    }
}

async fn of_container(shared: &Shared, target: &Target, own: NodeId) -> ApiResult<Option<Decision>> {
    if let Some(engine) = shared.host.engine() {
        let local = engine.has_container(&target.name).await;
        if !local.is_err_and(|error| error.kind == ContainerErrorKind::NotFound) {
            return Ok(None);
        }
    }
    let Some(task) = task(shared, target).await? else { return Ok(None) };
    let node = match task.node {
        Some(node) => found(cluster::node(&shared.membership, &node.to_string()).await)?,
        None => None,
    };
    decide(&task, node.as_ref().map(|view| &view.node), own, target).map(Some)
}

/// The task that is meant, if one is.
async fn task(shared: &Shared, target: &Target) -> ApiResult<Option<Task>> {
    let name = target.name.as_str();
    if name.contains('.') {
        return by_task(shared, name).await;
    }
    if name.len() < MIN_PREFIX {
        return Ok(None);
    }
    if name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        let known = cluster::read_current(&shared.membership, &ReadRequest::TaskOfContainer(name.to_owned())).await;
        let known = found(known.and_then(as_task))?;
        let is_whole = name.len() > 32;
        if let Some(task) = known.filter(|task| !is_whole || container_id(task.id).starts_with(name)) {
            return Ok(Some(task));
        }
    }
    let Some(task) = by_task(shared, name).await? else { return Ok(None) };
    // `docker inspect` asks for a container first and means the task, as ever.
    match target.is_inspect() {
        false => Ok(Some(task)),
        true => Err(ApiError::not_found(meant(shared, name, &task).await)),
    }
}

/// Which container is the task's, and how to get into it.
async fn meant(shared: &Shared, name: &str, task: &Task) -> String {
    let service = cluster::service(&shared.membership, &task.service.to_string()).await;
    let service = service.map_or_else(|_| task.service.to_string(), |view| view.service.spec.name.to_string());
    let node = match task.node {
        Some(node) => cluster::node(&shared.membership, &node.to_string()).await.ok(),
        None => None,
    };
    let node = node.map(|view| view.node.shown_name().to_owned());
    which(name, task, &format!("{service}.{}", task.slot), node.as_deref())
}

fn which(name: &str, task: &Task, place: &str, node: Option<&str>) -> String {
    let what = format!("No such container: {name}; this is the id of task {place}");
    match node {
        Some(node) if task.status.state >= TaskState::Ready => {
            let id: String = container_id(task.id).chars().take(SHORT_ID).collect();
            format!("{what}, whose container {id} is on node {node}: say {id}, or `rswarm exec {place} COMMAND`")
        }
        _ => format!(
            "{what}, which is {} and has no container: `rswarm service ps` shows how it goes",
            task.status.state
        ),
    }
}

async fn by_task(shared: &Shared, name: &str) -> ApiResult<Option<Task>> {
    found(cluster::task(&shared.membership, name).await.map(|task| *task))
}

fn as_task(reply: ReadReply) -> ApiResult<Task> {
    match reply {
        ReadReply::Task(task) => Ok(*task),
        other => Err(cluster::unexpected(&other)),
    }
}

/// What is not there is no failure: the route says so in its own words.
fn found<T>(result: ApiResult<T>) -> ApiResult<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status == StatusCode::NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}

fn decide(task: &Task, node: Option<&Node>, own: NodeId, target: &Target) -> ApiResult<Decision> {
    let name = &target.name;
    let why = match (&task.status.error, &task.status.message) {
        (error, _) if !error.is_empty() => format!(": {error}"),
        (_, message) if !message.is_empty() => format!(": {message}"),
        _ => String::new(),
    };
    let conflict = |text: String| Err(ApiError::new(StatusCode::CONFLICT, text));
    let state = task.status.state;
    let Some(on) = task.node else {
        return conflict(format!(
            "container {name} is not running: task {} has no node yet{why}; `service ps` shows how it goes",
            task.id
        ));
    };
    if state < TaskState::Ready {
        return conflict(format!(
            "container {name} is not running: task {} is {state} and has no container yet{why}; `service ps` shows how \
             it goes",
            task.id
        ));
    }
    if state.is_terminal() && target.needs_running() {
        return conflict(format!(
            "container {name} is not running: task {} is {state}{why}; `service ps` shows which task took its place",
            task.id
        ));
    }
    let id = container_id(task.id);
    if on == own {
        return Ok(Decision::Here(id));
    }
    match node {
        Some(node) => there(node, id, name),
        None => {
            conflict(format!("container {name} is gone: node {on}, which had it, is no part of the cluster any more"))
        }
    }
}

/// `node w1, which has web.1,`, for what is wrong with it.
pub(super) fn named(hostname: &str, what: &str) -> String {
    match what {
        "" => format!("node {hostname}"),
        what => format!("node {hostname}, which has {what},"),
    }
}

fn there(node: &Node, id: String, name: &str) -> ApiResult<Decision> {
    let hostname = match node.shown_name() {
        "" => node.id.to_string(),
        name => name.to_owned(),
    };
    let named = named(&hostname, name);
    let message = match node.status.message.as_str() {
        "" => String::new(),
        text => format!(" ({text})"),
    };
    match (node.status.state, node.status.address) {
        (NodeState::Down, _) => Err(ApiError::unavailable(format!(
            "{named} is down{message}; see `node ls`, and try again once it is back"
        ))),
        (_, None) => Err(ApiError::unavailable(format!(
            "{named} has not said yet where it is reached; try again once it is ready"
        ))),
        (_, Some(address)) => Ok(Decision::There { node: node.id, hostname, address, id }),
    }
}

/// Whether an id on this node is that of a task's container.
pub(super) fn is_of_task(container: &str) -> bool {
    task_of_container(container).is_some()
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
