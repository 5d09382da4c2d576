//! The networks a service asks for: names become ids, and what cannot be is refused in words.

use std::collections::BTreeSet;

use types::{Name, Network, NetworkAttachmentSpec, ServiceSpec};

use crate::{Rejection, Tables};

/// Every node's own networks, kept by name (parity N-11).
pub(super) const PREDEFINED: [&str; 3] = ["host", "bridge", "none"];
/// A name in DNS (RFC 1035, section 2.3.4).
const MAX_ALIAS: usize = 253;

fn invalid<T>(what: String) -> Result<T, Rejection> {
    Err(Rejection::Invalid(what))
}

/// The spec with each network by its id, as the value has it.
pub(super) fn resolved(tables: &Tables, spec: &ServiceSpec) -> Result<ServiceSpec, Rejection> {
    let service = &spec.name;
    let mut next = spec.clone();
    let mut seen = BTreeSet::new();
    for attachment in &mut next.task.networks {
        let named = attachment.target.clone();
        attachment.target = target(tables, spec, attachment)?;
        aliases(attachment, &named)?;
        if !seen.insert(attachment.target.clone()) {
            return invalid(format!("service {service} names network {named} twice"));
        }
    }
    let alone = seen.iter().find(|target| matches!(target.as_str(), "host" | "none"));
    if let Some(alone) = alone.filter(|_| seen.len() > 1) {
        return invalid(format!(
            "service {service} asks for network {alone} and others: a container on {alone} can join no other network"
        ));
    }
    if let (Some(alone), Some(port)) = (alone, spec.endpoint.ports.first()) {
        let why = match alone.as_str() {
            "host" => "its containers have the host's own ports: they listen there by themselves",
            _ => "its containers have no network that a port could lead to",
        };
        let number = port.published.unwrap_or(port.target);
        return invalid(format!(
            "service {service} publishes port {number} and asks for network {alone}: {why}; leave one of the two out"
        ));
    }
    Ok(next)
}

fn target(tables: &Tables, spec: &ServiceSpec, attachment: &NetworkAttachmentSpec) -> Result<String, Rejection> {
    let (service, wanted) = (&spec.name, &attachment.target);
    if PREDEFINED.contains(&wanted.as_str()) {
        return match attachment.aliases.first() {
            Some(alias) => invalid(format!("alias {alias} of service {service}: network {wanted} has no names")),
            None => Ok(wanted.clone()),
        };
    }
    let Some(network) = find(tables, wanted) else {
        return Err(Rejection::NotFound {
            kind: "network".to_owned(),
            name: format!("{wanted} (asked for by service {service}; create it first)"),
        });
    };
    if tables.is_leaving(network.id) {
        return Err(super::network::leaving(&network.spec.name));
    }
    if network.spec.config_only {
        return invalid(format!("network {wanted} is a configuration only: no task can join it"));
    }
    if network.spec.ingress {
        return invalid(format!(
            "network {wanted} is the routing mesh's own: service {service} gets into it by publishing a port"
        ));
    }
    Ok(network.id.to_string())
}

/// By full id or by name.
pub(super) fn find<'a>(tables: &'a Tables, text: &str) -> Option<&'a Network> {
    let by_id = text.parse().ok().and_then(|id| tables.network(id));
    by_id.or_else(|| text.parse::<Name>().ok().and_then(|name| tables.network_by_name(&name))).map(|found| &**found)
}

fn aliases(attachment: &NetworkAttachmentSpec, network: &str) -> Result<(), Rejection> {
    check_aliases(&attachment.aliases, network)
}

/// Further names in a network, each a DNS name and given once.
pub(super) fn check_aliases(aliases: &[String], network: &str) -> Result<(), Rejection> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = |alias: &str| alias.starts_with(['-', '.']) || alias.ends_with(['-', '.']);
    let mut seen = BTreeSet::new();
    for alias in aliases {
        if alias.is_empty() || alias.len() > MAX_ALIAS || !alias.bytes().all(good) || ends(alias) {
            return invalid(format!(
                "alias {alias:?} in network {network} is no DNS name: letters, digits, '-', '_' and '.', at most \
                 {MAX_ALIAS} characters, beginning and ending with a letter or digit"
            ));
        }
        if !seen.insert(alias.to_ascii_lowercase()) {
            return invalid(format!("alias {alias} is given twice in network {network}"));
        }
    }
    Ok(())
}
