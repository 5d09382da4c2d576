//! A network of the cluster as Docker's API inspects it: who is in it, where, and how full it is (parity N-22, P09).

use std::collections::BTreeSet;

use node::engine::{endpoint_id, endpoint_mac};
use serde_json::{Map, Value, json};
use types::{
    Attachment, ContainerAttachment, Network, NetworkId, NetworkView, NodeId, NodeState, NodeView, Service, Slot, Task,
};

use super::{
    endpoint,
    network_view::{with_prefix, write},
    writer::Fields,
};

/// With its containers on `here`, the use of its addresses, and those of the nodes that have it.
pub(crate) fn write_inspected(view: &NetworkView, here: Option<NodeId>, nodes: &[NodeView]) -> Fields {
    let subnets = view.network.subnets.iter().zip(&view.usage).map(|(subnet, usage)| {
        let free = usage.total.saturating_sub(usage.used);
        (subnet.range.to_string(), json!({ "IPsInUse": usage.used, "DynamicIPsAvailable": free }))
    });
    let subnets: Map<String, Value> = subnets.collect();
    let fields = write(&view.network).set("Containers", write_containers(view, here));
    let fields = fields.unless_empty("Peers", peers(view, nodes));
    match subnets.is_empty() {
        true => fields,
        false => fields.set("Status", json!({ "IPAM": { "Subnets": subnets } })),
    }
}

/// Services with their tasks on all nodes too.
pub(crate) fn write_verbose(view: &NetworkView, here: Option<NodeId>, nodes: &[NodeView]) -> Fields {
    let mut services = Map::new();
    for service in &view.services {
        let tasks = view.tasks.iter().filter(|task| task.service == service.id && is_alive(task)).map(|task| {
            json!({
                "Name": task_name(&view.services, task),
                "EndpointID": container_of(task).map(|container| endpoint_of(&view.network, container)).unwrap_or_default(),
                "EndpointIP": place(task, view.network.id).and_then(|place| place.addresses.first()),
                "Info": { "Host IP": address(nodes, task.node) },
            })
        });
        let vip = service.virtual_ips.iter().find(|vip| vip.network == view.network.id);
        let vip = vip.and_then(|vip| vip.addresses.first()).map(ToString::to_string).unwrap_or_default();
        let ports = service.ports().map(endpoint::port_text);
        let shown = json!({
            "VIP": vip,
            "Ports": ports.collect::<Vec<_>>(),
            "LocalLBIndex": 0,
            "Tasks": tasks.collect::<Vec<_>>(),
        });
        services.insert(service.spec.name.to_string(), shown);
    }
    write_inspected(view, here, nodes).set("Services", services)
}

/// The nodes that take part: those with tasks or containers in it, all of them in the ingress network.
fn peers(view: &NetworkView, nodes: &[NodeView]) -> Vec<Value> {
    let guests = view.containers.iter().map(|guest| guest.node);
    let hosts: BTreeSet<NodeId> =
        view.tasks.iter().filter(|task| is_alive(task)).filter_map(|task| task.node).chain(guests).collect();
    let takes_part = |node: &&NodeView| match view.network.spec.ingress {
        true => node.node.status.state != NodeState::Down,
        false => hosts.contains(&node.node.id),
    };
    let peer = |node: &NodeView| {
        let hostname = node.node.description.as_ref().map_or("", |description| &description.hostname);
        json!({ "Name": hostname, "IP": address(nodes, Some(node.node.id)) })
    };
    nodes.iter().filter(takes_part).map(peer).collect()
}

fn address(nodes: &[NodeView], id: Option<NodeId>) -> String {
    let node = nodes.iter().find(|node| Some(node.node.id) == id);
    node.and_then(|node| node.node.status.address).map(|address| address.to_string()).unwrap_or_default()
}

fn is_alive(task: &Task) -> bool {
    !task.status.state.is_terminal()
}

fn place(task: &Task, network: NetworkId) -> Option<&Attachment> {
    task.attachments.iter().find(|place| place.network == network)
}

/// Once it is made.
fn container_of(task: &Task) -> Option<&str> {
    task.status.container.as_ref().map(|container| container.id.as_str()).filter(|id| !id.is_empty())
}

fn endpoint_of(network: &Network, container: &str) -> String {
    endpoint_id(&network.id.to_string(), container)
}

fn task_name(services: &[Service], task: &Task) -> String {
    let service = services.iter().find(|service| service.id == task.service);
    let service = service.map_or_else(|| task.service.to_string(), |service| service.spec.name.to_string());
    let slot = match task.slot {
        Slot::Replica(number) => number.to_string(),
        Slot::Node(node) => node.to_string(),
    };
    format!("{service}.{slot}.{}", task.id)
}

/// The containers of one node that are in the network, by container id.
fn write_containers(view: &NetworkView, here: Option<NodeId>) -> Map<String, Value> {
    let ours = view.tasks.iter().filter(|task| task.node.is_some() && task.node == here && is_alive(task));
    let tasks = ours.filter_map(|task| {
        let (place, container) = (place(task, view.network.id)?, container_of(task)?);
        let name = task_name(&view.services, task);
        Some((container.to_owned(), write_container(&view.network, container, &name, &place.addresses)))
    });
    let guests = view.containers.iter().filter(|guest| Some(guest.node) == here).map(|guest| {
        let ContainerAttachment { container, name, addresses, .. } = guest;
        (container.clone(), write_container(&view.network, container, name, addresses))
    });
    tasks.chain(guests).collect()
}

fn write_container(network: &Network, container: &str, name: &str, addresses: &[std::net::IpAddr]) -> Value {
    let first = |is_v4: bool| {
        let address = addresses.iter().find(|address| address.is_ipv4() == is_v4);
        address.map(|address| with_prefix(Some(network), *address)).unwrap_or_default()
    };
    json!({
        "Name": name,
        "EndpointID": endpoint_of(network, container),
        "MacAddress": endpoint_mac(network, addresses).map(|mac| mac.to_string()).unwrap_or_default(),
        "IPv4Address": first(true),
        "IPv6Address": first(false),
    })
}
