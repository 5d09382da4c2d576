//! Requests of nodes about single containers in the cluster's networks (parity N-12).

use std::net::IpAddr;

use types::{AttachRequest, ContainerAttachment, Meta, NetworkId, NodeId, Timestamp};

use super::attachments::check_aliases;
use crate::{
    Change, Proposal, Rejection, Tables, plan,
    tables::pool::{Exhausted, Unavailable},
};

/// As many as Docker's clients ever give; a bound on what one container puts into every node's names.
const MAX_ALIASES: usize = 64;
/// A container's id, and a name as Docker's containers have it.
const MAX_ID: usize = 64;
const MAX_NAME: usize = 253;

/// A place, or the one that is there already.
pub(super) fn attach(
    tables: &Tables,
    wanted: &AttachRequest,
    now: Timestamp,
) -> Result<(Proposal, Vec<IpAddr>), Rejection> {
    let AttachRequest { node, network, container, name, aliases, addresses } = wanted;
    tables.node(*node).ok_or_else(|| Rejection::not_found("node", node))?;
    let network = tables.network(*network).ok_or_else(|| Rejection::not_found("network", network))?;
    let called = &network.spec.name;
    if !network.spec.attachable || network.spec.ingress || network.spec.config_only {
        // Docker's own words
        return Err(Rejection::FailedPrecondition(format!(
            "Could not attach to network {called}: rpc error: code = PermissionDenied desc = network {called} not \
             manually attachable"
        )));
    }
    if tables.is_leaving(network.id) {
        return Err(super::network::leaving(called));
    }
    check(wanted, called.as_str())?;
    if let Some(known) = tables.guest(network.id, container) {
        if known.node != *node {
            return Err(Rejection::FailedPrecondition(format!(
                "container {container} is in network {called} on node {}: remove it there first",
                known.node
            )));
        }
        if !addresses.iter().all(|address| known.addresses.contains(address)) {
            return Err(Rejection::FailedPrecondition(format!(
                "container {container} is in network {called} already, under another address: disconnect it first"
            )));
        }
        return Ok((renamed(known, wanted, now), known.addresses.clone()));
    }
    let chosen = tables.pool(network.id).map_or_else(|| Ok(Vec::new()), |pool| pool.choose(addresses));
    let addresses = chosen.map_err(|why| match why {
        Unavailable::Exhausted(exhausted) => Rejection::FailedPrecondition(exhaustion(network, exhausted)),
        Unavailable::Taken(address) => Rejection::FailedPrecondition(format!(
            "network {called}: address {address} is already in use, or not to be given out: choose another, or none"
        )),
        Unavailable::Outside(address) => {
            Rejection::Invalid(format!("network {called}: no configured subnet contains IP address {address}"))
        }
    })?;
    let guest = ContainerAttachment {
        meta: Meta::default(),
        network: network.id,
        container: container.clone(),
        node: *node,
        name: name.clone(),
        aliases: aliases.clone(),
        addresses: addresses.clone(),
    };
    let proposal = Proposal { at: now, expects: Vec::new(), changes: vec![Change::Attach(Box::new(guest))] };
    Ok((proposal, addresses))
}

/// Other names for a container that keeps its place; nothing if they are the same.
fn renamed(known: &ContainerAttachment, wanted: &AttachRequest, now: Timestamp) -> Proposal {
    let (name, aliases) = (wanted.name.clone(), wanted.aliases.clone());
    let next = ContainerAttachment { name, aliases, ..known.clone() };
    let (network, container) = (known.network, known.container.clone());
    let changes = match next == *known {
        true => Vec::new(),
        false => vec![Change::Detach { network, container }, Change::Attach(Box::new(next))],
    };
    Proposal { at: now, expects: Vec::new(), changes }
}

fn exhaustion(network: &types::Network, exhausted: Exhausted) -> String {
    format!("{}, or remove tasks or containers from it", plan::full(network, exhausted))
}

fn check(wanted: &AttachRequest, network: &str) -> Result<(), Rejection> {
    let invalid = |what: String| Err(Rejection::Invalid(what));
    let AttachRequest { container, name, aliases, .. } = wanted;
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if container.is_empty() || container.len() > MAX_ID || !is_plain(container) {
        return invalid(format!("container id {container:?} is none: letters and digits, at most {MAX_ID}"));
    }
    if name.is_empty() || name.len() > MAX_NAME || !is_plain(name) {
        return invalid(format!(
            "container name {name:?} cannot be a name in network {network}: letters, digits, '-', '_' and '.', at most \
             {MAX_NAME}"
        ));
    }
    if aliases.len() > MAX_ALIASES {
        return invalid(format!(
            "container {name} asks for {} aliases in network {network}: {MAX_ALIASES} are possible",
            aliases.len()
        ));
    }
    check_aliases(aliases, network)
}

/// The place is given back. Nobody but its node may do that; one that is not there is fine.
pub(super) fn detach(
    tables: &Tables,
    node: NodeId,
    network: NetworkId,
    container: &str,
    now: Timestamp,
) -> Result<Proposal, Rejection> {
    let changes = match tables.guest(network, container) {
        None => Vec::new(),
        Some(known) if known.node == node => vec![Change::Detach { network, container: container.to_owned() }],
        Some(known) => {
            return Err(Rejection::FailedPrecondition(format!(
                "container {container} is one of node {}, which alone may take it out of a network",
                known.node
            )));
        }
    };
    Ok(Proposal { at: now, expects: Vec::new(), changes })
}
