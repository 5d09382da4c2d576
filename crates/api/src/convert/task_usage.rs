//! What tasks of the whole cluster use, which Docker's API has for one container at a time. The form is rswarm's own.

use std::{borrow::Borrow, collections::HashMap};

use serde_json::{Value, json};
use types::{ClusterUsage, NodeId, NodeView, ServiceId, ServiceView, Task, TaskId, TaskUsage, Traffic};

use super::{time::rfc3339, writer::Fields};

/// Tasks that ended meanwhile are left out.
pub(crate) fn write(
    usage: &ClusterUsage,
    tasks: &[impl Borrow<Task>],
    services: &HashMap<ServiceId, ServiceView>,
    nodes: &[NodeView],
) -> Value {
    let tasks: HashMap<TaskId, &Task> = tasks.iter().map(|task| (task.borrow().id, task.borrow())).collect();
    let names: HashMap<NodeId, &str> = nodes.iter().map(|view| (view.node.id, view.node.shown_name())).collect();
    let name = |node: NodeId| names.get(&node).copied().unwrap_or_default();
    let mut lines = Vec::new();
    for node in &usage.nodes {
        for used in &node.tasks {
            let Some(task) = tasks.get(&used.task) else { continue };
            let Some(service) = services.get(&task.service) else { continue };
            let service = &service.service.spec.name;
            let line = Fields::new()
                .set("ID", used.task)
                .set("Name", format!("{service}.{}", task.slot))
                .set("ServiceID", task.service)
                .set("Service", service)
                .set("NodeID", node.node)
                .set("Node", name(node.node))
                .set("Read", rfc3339(node.at));
            lines.push(numbers(line, used, node.memory_bytes).done());
        }
    }
    let missing = usage
        .missing
        .iter()
        .map(|missing| json!({ "NodeID": missing.node, "Node": name(missing.node), "Reason": missing.why }));
    json!({ "Tasks": lines, "Missing": missing.collect::<Vec<_>>() })
}

fn numbers(line: Fields, used: &TaskUsage, host_memory_bytes: u64) -> Fields {
    let limit = used.memory_limit_bytes.unwrap_or(host_memory_bytes).min(host_memory_bytes);
    let traffic = |of: &Traffic| json!({ "Received": of.received_bytes, "Sent": of.sent_bytes });
    line.set("CPUNanoseconds", used.cpu_ns)
        .set("Memory", used.memory_bytes)
        .set("MemoryRSS", used.rss_bytes)
        .set("MemoryLimit", limit)
        .set("Processes", used.processes)
        .some("Network", used.network.as_ref().map(traffic))
        .set("Disk", json!({ "Read": used.disk.received_bytes, "Written": used.disk.sent_bytes }))
}
