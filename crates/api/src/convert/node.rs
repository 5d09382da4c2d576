//! Nodes: `NodeView` to Docker's `Node`, and a `NodeSpec` from a request.

use serde_json::{Value, json};
use types::{Availability, Drivers, NodeDescription, NodeRole, NodeSpec, NodeState, NodeView, PeerProblem, Platform};

use super::{
    info::DOCKER_VERSION,
    policy,
    reader::{FieldError, Object},
    swarm,
    time::rfc3339,
    writer::Fields,
};

pub(crate) fn read_spec(body: &Value) -> Result<NodeSpec, FieldError> {
    let mut from = Object::root(body)?;
    let role = from.parsed("Role", |text| match text {
        "worker" => Ok(NodeRole::Worker),
        "manager" => Ok(NodeRole::Manager),
        other => Err(format!("{other:?} is no role; use worker or manager")),
    })?;
    let availability = from.parsed("Availability", read_availability)?;
    let spec = NodeSpec {
        name: from.string("Name")?,
        labels: from.labels("Labels")?,
        role: role.ok_or(FieldError::Missing { path: from.path("Role"), hint: "use worker or manager" })?,
        availability: availability
            .ok_or(FieldError::Missing { path: from.path("Availability"), hint: "use active, pause or drain" })?,
    };
    from.finish()?;
    Ok(spec)
}

pub(crate) fn read_availability(text: &str) -> Result<Availability, String> {
    match text {
        "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        other => Err(format!("{other:?} is no availability; use active, pause or drain")),
    }
}

pub(crate) fn write(view: &NodeView) -> Value {
    let node = &view.node;
    Fields::new()
        .set("ID", node.id)
        .set("Version", json!({ "Index": node.meta.version }))
        .set("CreatedAt", rfc3339(node.meta.created_at))
        .set("UpdatedAt", rfc3339(node.meta.updated_at))
        .set("Spec", write_spec(&node.spec))
        .set("Description", node.description.as_ref().map_or_else(|| json!({}), write_description))
        .set("Status", write_status(view))
        .some(
            "ManagerStatus",
            node.raft.as_ref().map(|raft| {
                Fields::new()
                    .unless_empty("Leader", view.leader)
                    .set("Reachability", if view.reachable { "reachable" } else { "unreachable" })
                    .set("Addr", &raft.address)
                    .done()
            }),
        )
        .done()
}

fn write_spec(spec: &NodeSpec) -> Value {
    let availability = match spec.availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    };
    Fields::new()
        .unless_empty("Name", &spec.name)
        .set("Labels", &spec.labels)
        .set("Role", spec.role.to_string())
        .set("Availability", availability)
        .done()
}

fn write_description(description: &NodeDescription) -> Value {
    let engine = Fields::new()
        .set("EngineVersion", DOCKER_VERSION)
        .set("RswarmVersion", &description.engine_version)
        .unless_empty("Labels", &description.engine_labels)
        .unless_empty("Plugins", write_drivers(&description.drivers))
        .done();
    Fields::new()
        .set("Hostname", &description.hostname)
        .set("Platform", write_platform(&description.platform))
        .set("Resources", policy::write_amounts(&description.resources))
        .set("Engine", engine)
        .set("TLSInfo", write_tls_info(description))
        .done()
}

/// In Docker's order: by kind, then by name.
fn write_drivers(drivers: &Drivers) -> Vec<Value> {
    let kinds = [("Log", &drivers.logs), ("Network", &drivers.networks), ("Volume", &drivers.volumes)];
    let of_kind = |(kind, names): (&str, &Vec<String>)| -> Vec<Value> {
        names.iter().map(|name| json!({ "Type": kind, "Name": name })).collect()
    };
    kinds.into_iter().flat_map(of_kind).collect()
}

/// Specs have Go's words for architectures (`amd64`), nodes the kernel's (`x86_64`).
fn write_platform(platform: &Platform) -> Value {
    policy::write_platform(&Platform { architecture: platform.machine(), ..platform.clone() })
}

fn write_tls_info(description: &NodeDescription) -> Value {
    let NodeDescription { tls_issuer_pem: issuer, tls_roots_pem: roots, .. } = description;
    swarm::write_tls_info(if roots.is_empty() { issuer } else { roots }, issuer)
}

/// Docker's word for a node whose tasks are left alone is `disconnected`. A node that works but is
/// not reached by peers stays `ready`; which ones is added for `node ls` and `node inspect`.
fn write_status(view: &NodeView) -> Value {
    let status = &view.node.status;
    let state = match status.state {
        NodeState::Unknown => "unknown",
        NodeState::Ready => "ready",
        NodeState::Unreachable => "disconnected",
        NodeState::Down => "down",
    };
    let problem = |peer: &PeerProblem| json!({ "NodeID": peer.by, "Detail": peer.detail });
    let problems: Vec<Value> = status.unreachable_peers.iter().map(problem).collect();
    // A node that works is not open at every published port; who asks for its state shall see it.
    let troubles = view.node.description.iter().flat_map(|described| &described.port_troubles);
    let message = match status.state {
        NodeState::Ready if status.message.is_empty() => troubles.cloned().collect::<Vec<_>>().join("; "),
        _ => status.message.clone(),
    };
    Fields::new()
        .set("State", state)
        .unless_empty("Message", &message)
        .set("Addr", status.address.map_or_else(|| "0.0.0.0".to_owned(), |address| address.to_string()))
        .unless_empty("UnreachablePeers", status.unreachable_peers.iter().map(|peer| peer.by).collect::<Vec<_>>())
        .unless_empty("PeerProblems", problems)
        .done()
}
