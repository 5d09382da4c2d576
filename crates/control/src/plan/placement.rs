//! Whether a node suits a service for good: constraints and platform. What changes by the minute (room,
//! ports, other tasks) is the scheduler's.

use std::net::IpAddr;

use types::{Constraint, Node, Placement, Platform, constraint::ConstraintKey};

/// Constraints and platform together.
pub(super) fn suits(node: &Node, placement: &Placement) -> bool {
    first_unmet(node, &placement.constraints).is_none() && platform_fits(node, &placement.platforms)
}

/// The first constraint that the node does not satisfy.
pub(super) fn first_unmet<'a>(node: &Node, constraints: &'a [Constraint]) -> Option<&'a Constraint> {
    constraints.iter().find(|constraint| !is_met(node, constraint))
}

/// Values compare without regard to case; a label that is not there is empty (parity S-30).
fn is_met(node: &Node, constraint: &Constraint) -> bool {
    let description = node.description.as_ref();
    let found = match &constraint.key {
        ConstraintKey::NodeId => node.id.to_string(),
        ConstraintKey::Hostname => description.map_or(String::new(), |d| d.hostname.clone()),
        ConstraintKey::Ip => return ip_fits(node.status.address, &constraint.value) == constraint.equal,
        ConstraintKey::Role => node.role.to_string(),
        ConstraintKey::PlatformOs => description.map_or(String::new(), |d| d.platform.os.clone()),
        ConstraintKey::PlatformArch => {
            let architecture = description.map_or("", |d| d.platform.architecture.as_str());
            let same = normal_architecture(architecture) == normal_architecture(&constraint.value);
            return same == constraint.equal;
        }
        ConstraintKey::NodeLabel(name) => node.spec.labels.get(name).cloned().unwrap_or_default(),
        ConstraintKey::EngineLabel(name) => {
            description.and_then(|d| d.engine_labels.get(name)).cloned().unwrap_or_default()
        }
    };
    found.eq_ignore_ascii_case(&constraint.value) == constraint.equal
}

fn ip_fits(address: Option<IpAddr>, wanted: &str) -> bool {
    let Some(address) = address else { return false };
    let (network, length) = match wanted.split_once('/') {
        Some((network, length)) => (network, length.parse::<u32>().ok()),
        None => (wanted, None),
    };
    match (address, network.parse::<IpAddr>()) {
        (IpAddr::V4(a), Ok(IpAddr::V4(n))) => same_prefix(a.to_bits().into(), n.to_bits().into(), 32, length),
        (IpAddr::V6(a), Ok(IpAddr::V6(n))) => same_prefix(a.to_bits(), n.to_bits(), 128, length),
        _ => false,
    }
}

fn same_prefix(a: u128, b: u128, bits: u32, length: Option<u32>) -> bool {
    let rest = bits.saturating_sub(length.unwrap_or(bits));
    // shifting by the full width is an empty prefix: everything is the same
    a.checked_shr(rest).unwrap_or(0) == b.checked_shr(rest).unwrap_or(0) || rest >= bits
}

/// An image made for no particular platform runs anywhere; so does one whose index says nothing usable
/// (`unknown` entries are attestations, not platforms).
pub(super) fn platform_fits(node: &Node, platforms: &[Platform]) -> bool {
    let mut real = platforms.iter().filter(|p| p.os != "unknown" && p.architecture != "unknown").peekable();
    if real.peek().is_none() {
        return true;
    }
    let Some(description) = &node.description else { return false };
    let own = &description.platform;
    real.any(|p| {
        (p.os.is_empty() || p.os == own.os)
            && (p.architecture.is_empty()
                || normal_architecture(&p.architecture) == normal_architecture(&own.architecture))
    })
}

/// Go's word for an architecture that has several names.
fn normal_architecture(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "armhf" | "armv7l" | "armel" => "arm".to_owned(),
        "i386" | "i686" | "x86" => "386".to_owned(),
        other => other.to_owned(),
    }
}
