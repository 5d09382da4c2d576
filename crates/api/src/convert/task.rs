//! Tasks as Docker's API shows them, and the containers of a node made from them.
//!
//! Lists of tens of thousands are asked for, so tasks are written straight from what they are, and what many of them
//! share, their spec and their networks, is written once.

use std::{collections::HashMap, mem, num::NonZero, sync::Arc, thread};

use serde::Serialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use types::{ContainerStatus, NodeId, ServiceId, Slot, Task, TaskId, TaskSpec, TaskStatus, Version};

use super::{
    endpoint, job,
    network_view::{Networks, Places, ShownPlace},
    policy, service,
    time::rfc3339,
};

pub(crate) fn write(task: &Task, networks: &Networks) -> Value {
    let parts = Parts::of([task], networks);
    serde_json::to_value(parts.show(task)).expect("maps with text keys, texts and numbers are all JSON")
}

/// So many tasks are written at a time by one thread: some hundred KiB.
const PIECE: usize = 512;

/// A list, as text, piece by piece, until `send` says that nobody reads on. A long list is written on all processors.
pub(crate) fn write_all(tasks: &[Arc<Task>], networks: &Networks, mut send: impl FnMut(Vec<u8>) -> bool) {
    let parts = Parts::of(tasks.iter().map(|task| &**task), networks);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut begin = b'[';
    for row in tasks.chunks(PIECE * threads) {
        for mut text in parts.write_row(row) {
            text[0] = mem::replace(&mut begin, b',');
            if !send(text) {
                return;
            }
        }
    }
    send(if tasks.is_empty() { b"[]".to_vec() } else { b"]".to_vec() });
}

/// What many tasks share, as text: specs, by where these are, and networks.
struct Parts<'n> {
    specs: HashMap<usize, Box<RawValue>>,
    places: Places<'n>,
}

impl<'n> Parts<'n> {
    fn of<'t>(tasks: impl IntoIterator<Item = &'t Task> + Clone, networks: &'n Networks) -> Self {
        let mut specs = HashMap::new();
        for task in tasks.clone() {
            let text = || to_raw_value(&service::write_task(&task.spec)).expect("a value is JSON");
            specs.entry(place_of(&task.spec)).or_insert_with(text);
        }
        Self { specs, places: Places::of(tasks, networks) }
    }

    /// In order, each text a piece.
    fn write_row(&self, row: &[Arc<Task>]) -> Vec<Vec<u8>> {
        if row.len() <= PIECE {
            return vec![self.write_piece(row)];
        }
        thread::scope(|scope| {
            let writers: Vec<_> = row.chunks(PIECE).map(|piece| scope.spawn(|| self.write_piece(piece))).collect();
            writers.into_iter().map(|writer| writer.join().expect("writing does not panic")).collect()
        })
    }

    /// Objects, a comma before each.
    fn write_piece(&self, piece: &[Arc<Task>]) -> Vec<u8> {
        let mut text = Vec::with_capacity(piece.len() * 1024);
        for task in piece {
            text.push(b',');
            serde_json::to_writer(&mut text, &self.show(task)).expect("texts and numbers are JSON, memory takes all");
        }
        text
    }

    fn show<'s>(&'s self, task: &'s Task) -> Shown<'s> {
        let (slot, slot_node) = match task.slot {
            Slot::Replica(number) => (number, None),
            Slot::Node(node) => (0, Some(node)),
        };
        let generic = policy::write_generic(&task.granted);
        Shown {
            id: task.id,
            version: ShownVersion { index: task.meta.version },
            created_at: rfc3339(task.meta.created_at),
            updated_at: rfc3339(task.meta.updated_at),
            labels: Empty {},
            spec: self.specs.get(&place_of(&task.spec)).map(|text| &**text),
            service_id: task.service,
            slot,
            node_id: task.node.or(slot_node),
            status: ShownStatus::of(&task.status, &task.reason),
            desired_state: task.desired.as_str(),
            job_iteration: task.iteration.map(job::write_iteration),
            generic_resources: generic.clone(),
            assigned_generic_resources: generic,
            networks_attachments: self.places.show(task),
        }
    }
}

fn place_of(spec: &Arc<TaskSpec>) -> usize {
    Arc::as_ptr(spec).addr()
}

/// Docker's fields in Docker's order; what is empty is left out where Docker does.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'s> {
    #[serde(rename = "ID")]
    id: TaskId,
    version: ShownVersion,
    created_at: String,
    updated_at: String,
    labels: Empty,
    spec: Option<&'s RawValue>,
    #[serde(rename = "ServiceID")]
    service_id: ServiceId,
    #[serde(skip_serializing_if = "is_zero")]
    slot: u64,
    #[serde(rename = "NodeID", skip_serializing_if = "Option::is_none")]
    node_id: Option<NodeId>,
    status: ShownStatus<'s>,
    desired_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_iteration: Option<Value>,
    /// Docker's client reads the first name, its reference documents the second.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    generic_resources: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    assigned_generic_resources: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    networks_attachments: Vec<ShownPlace<'s>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownVersion {
    index: Version,
}

#[derive(Serialize)]
struct Empty {}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownStatus<'s> {
    timestamp: String,
    state: &'static str,
    message: &'s str,
    #[serde(skip_serializing_if = "str::is_empty")]
    err: &'s str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_status: Option<ShownContainer<'s>>,
    port_status: ShownPorts,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownPorts {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<Value>,
}

impl<'s> ShownStatus<'s> {
    /// Whoever did not ask for its end finds the reason where an error would be.
    fn of(status: &'s TaskStatus, reason: &'s str) -> Self {
        Self {
            timestamp: rfc3339(status.since),
            state: status.state.as_str(),
            message: &status.message,
            err: if status.error.is_empty() { reason } else { &status.error },
            container_status: status.container.as_ref().map(ShownContainer::of),
            port_status: ShownPorts { ports: endpoint::write_ports(status.ports.iter().map(|bound| &bound.port)) },
        }
    }
}

#[derive(Serialize)]
struct ShownContainer<'s> {
    #[serde(rename = "ContainerID")]
    id: &'s str,
    #[serde(rename = "PID")]
    pid: u32,
    #[serde(rename = "ExitCode")]
    exit_code: i32,
}

impl<'s> ShownContainer<'s> {
    fn of(status: &'s ContainerStatus) -> Self {
        Self { id: &status.id, pid: status.pid, exit_code: status.exit_code.unwrap_or(0) }
    }
}
