//! Whether a node suits a service for good: constraints and platform. What changes by the minute (room,
//! ports, other tasks) is the scheduler's.

use std::net::IpAddr;

use types::{
    Constraint, Node, Placement, Platform,
    constraint::{ConstraintKey, Number, Rule},
};

/// Constraints and platform together.
pub(super) fn suits(node: &Node, placement: &Placement) -> bool {
    first_unmet(node, &placement.constraints).is_none() && platform_fits(node, &placement.platforms)
}

/// The first constraint that the node must satisfy and does not.
pub(super) fn first_unmet<'a>(node: &Node, constraints: &'a [Constraint]) -> Option<&'a Constraint> {
    constraints.iter().find(|constraint| !constraint.soft && !is_met(node, constraint))
}

/// How many of the node's wished qualities are missing.
pub(super) fn unmet_wishes(node: &Node, constraints: &[Constraint]) -> usize {
    constraints.iter().filter(|constraint| constraint.soft && !is_met(node, constraint)).count()
}

/// Values compare without regard to case; a label that is not there is empty (parity S-30).
fn is_met(node: &Node, constraint: &Constraint) -> bool {
    if constraint.is_about_neighbours() {
        return true;
    }
    let found = found(node, &constraint.key);
    let text = found.as_deref().unwrap_or_default();
    let is = |value: &String| match &constraint.key {
        ConstraintKey::Ip => ip_fits(node.status.address, value),
        ConstraintKey::PlatformArch => normal_architecture(text) == normal_architecture(value),
        _ => text.eq_ignore_ascii_case(value),
    };
    match &constraint.rule {
        Rule::Equal(value) => is(value),
        Rule::NotEqual(value) => !is(value),
        Rule::In(values) => values.iter().any(is),
        Rule::NotIn(values) => !values.iter().any(is),
        Rule::Exists => found.is_some(),
        Rule::NotExists => found.is_none(),
        Rule::Compare(how, wanted) => text.parse().is_ok_and(|number: Number| how.holds(number, *wanted)),
    }
}

/// What a node has there, if anything.
pub(super) fn found(node: &Node, key: &ConstraintKey) -> Option<String> {
    let description = node.description.as_ref();
    match key {
        ConstraintKey::NodeId => Some(node.id.to_string()),
        ConstraintKey::Hostname => description.map(|d| d.hostname.clone()),
        ConstraintKey::Ip => node.status.address.map(|address| address.to_string()),
        ConstraintKey::Role => Some(node.role.to_string()),
        ConstraintKey::PlatformOs => description.map(|d| d.platform.os.clone()),
        ConstraintKey::PlatformArch => description.map(|d| d.platform.architecture.clone()),
        ConstraintKey::NodeLabel(name) => node.spec.labels.get(name).cloned(),
        ConstraintKey::EngineLabel(name) => description.and_then(|d| d.engine_labels.get(name)).cloned(),
        // the scheduler's: it changes with every task
        ConstraintKey::Service => None,
    }
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

/// An image made for no particular platform runs anywhere; so does one whose index says nothing usable, and one of
/// which somebody said so.
pub(super) fn platform_fits(node: &Node, platforms: &[Platform]) -> bool {
    let mut real = platforms.iter().filter(|platform| !platform.is_unknown()).peekable();
    if real.peek().is_none() || platforms.iter().any(Platform::is_any) {
        return true;
    }
    let Some(description) = &node.description else { return false };
    let hosts = || std::iter::once(&description.platform).chain(&description.also_runs);
    real.any(|platform| hosts().any(|host| platform.runs_on(host)))
}

/// Go's word for an architecture that has several names.
fn normal_architecture(name: &str) -> String {
    Platform::new("", name, "").normal().architecture
}

#[cfg(test)]
mod tests {
    use super::normal_architecture;

    /// S-30: the word in a constraint may be the kernel's, as Docker's documentation has it.
    #[test]
    fn s_30_architectures_have_several_names() {
        for (one, other) in [("x86_64", "amd64"), ("X86_64", "amd64"), ("aarch64", "arm64"), ("s390x", "s390x")] {
            assert_eq!(normal_architecture(one), normal_architecture(other), "{one}");
        }
        assert_ne!(normal_architecture("x86_64"), normal_architecture("386"));
    }
}
