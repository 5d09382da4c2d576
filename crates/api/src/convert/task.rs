//! Tasks as Docker's API shows them, and the containers of a node made from them.

use serde_json::{Value, json};
use types::{ContainerStatus, Slot, Task, TaskStatus};

use super::{
    endpoint, job,
    network_view::{Networks, write_attachments},
    policy, service,
    time::rfc3339,
    writer::Fields,
};

pub(crate) fn write(task: &Task, networks: &Networks) -> Value {
    let (slot, slot_node) = match task.slot {
        Slot::Replica(number) => (number, None),
        Slot::Node(node) => (0, Some(node)),
    };
    let mut attachments = write_attachments(&task.attachments, networks);
    // A task in no network of the cluster has an address on its host.
    let address = task.status.container.as_ref().and_then(|container| container.address);
    if let (true, Some(address)) = (attachments.is_empty(), address) {
        attachments.push(json!({ "Addresses": [address] }));
    }
    Fields::new()
        .set("ID", task.id)
        .set("Version", json!({ "Index": task.meta.version }))
        .set("CreatedAt", rfc3339(task.meta.created_at))
        .set("UpdatedAt", rfc3339(task.meta.updated_at))
        .set("Labels", json!({}))
        .set("Spec", service::write_task(&task.spec))
        .set("ServiceID", task.service)
        .unless_empty("Slot", slot)
        .some("NodeID", task.node.or(slot_node))
        .set("Status", write_status(&task.status))
        .set("DesiredState", task.desired.to_string())
        .some("JobIteration", task.iteration.map(job::write_iteration))
        // Docker's client reads the first name, its reference documents the second
        .unless_empty("GenericResources", policy::write_generic(&task.granted))
        .unless_empty("AssignedGenericResources", policy::write_generic(&task.granted))
        .unless_empty("NetworksAttachments", attachments)
        .done()
}

fn write_status(status: &TaskStatus) -> Value {
    let ports: Vec<_> = status.ports.iter().map(|bound| bound.port.clone()).collect();
    Fields::new()
        .set("Timestamp", rfc3339(status.since))
        .set("State", status.state.to_string())
        .set("Message", &status.message)
        .unless_empty("Err", &status.error)
        .some("ContainerStatus", status.container.as_ref().map(write_container_status))
        .set("PortStatus", Fields::new().unless_empty("Ports", endpoint::write_ports(&ports)).done())
        .done()
}

fn write_container_status(status: &ContainerStatus) -> Value {
    json!({ "ContainerID": status.id, "PID": status.pid, "ExitCode": status.exit_code.unwrap_or(0) })
}
