//! The filters, in the order in which they are asked and in which an explanation counts them.

use types::{Availability, GenericResource, NodeState, PortConfig, Resources, TaskSpec, resolve_claims};

use super::{
    candidate::{Candidate, Order},
    neighbours::{Against, Neighbours},
};
use crate::plan::placement;

/// What a group of equal tasks asks of a node.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) spec: &'a TaskSpec,
    pub(super) host_ports: &'a [PortConfig],
    pub(super) neighbours: &'a Neighbours,
    pub(super) order: Order,
}

/// Why a node is no choice, in the order of the filters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Refusal {
    NotConnected,
    Unreachable,
    Down,
    Paused,
    Drained,
    Cpus,
    Memory,
    Generic(String),
    Devices,
    Constraint(String),
    Neighbours(Against),
    Platform,
    MaxReplicas,
    /// Where it is published.
    HostPort(String),
}

type Filter = fn(&Ask<'_>, &Candidate<'_>) -> Option<Refusal>;

const PIPELINE: [Filter; 8] = [available, room, devices, constraints, neighbours, platform, max_replicas, host_ports];

impl<'a> Ask<'a> {
    pub(super) fn reserved(&self) -> &Resources {
        &self.spec.resources.reservations
    }

    /// The first filter's reason against a node.
    pub(super) fn refuses(&self, candidate: &Candidate<'_>) -> Option<Refusal> {
        PIPELINE.iter().find_map(|filter| filter(self, candidate))
    }

    /// How many wishes the node leaves open.
    pub(super) fn unmet_wishes(&self, candidate: &Candidate<'_>) -> usize {
        let qualities = placement::unmet_wishes(candidate.node, &self.spec.placement.constraints);
        qualities + self.neighbours.unmet_wishes(candidate.node.id, candidate.service_tasks)
    }

    /// Whether a node that was fine takes no more now that it got a task of this group.
    pub(super) fn is_used_up(&self, candidate: &Candidate<'_>) -> bool {
        let takes_ports = self.host_ports.iter().any(|port| port.published.is_some());
        // what has a name is there once
        let named = |amount: &GenericResource| !amount.names().is_empty();
        let takes_names = self.reserved().generic.values().any(named);
        let keeps_apart = self.neighbours.keeps_own_apart();
        takes_ports
            || takes_names
            || keeps_apart
            || room(self, candidate).is_some()
            || max_replicas(self, candidate).is_some()
    }
}

fn available(_: &Ask<'_>, candidate: &Candidate<'_>) -> Option<Refusal> {
    match (candidate.node.status.state, candidate.node.spec.availability) {
        (NodeState::Unknown, _) => Some(Refusal::NotConnected),
        (NodeState::Unreachable, _) => Some(Refusal::Unreachable),
        (NodeState::Down, _) => Some(Refusal::Down),
        (NodeState::Ready, Availability::Pause) => Some(Refusal::Paused),
        (NodeState::Ready, Availability::Drain) => Some(Refusal::Drained),
        (NodeState::Ready, Availability::Active) => None,
    }
}

fn room(ask: &Ask<'_>, candidate: &Candidate<'_>) -> Option<Refusal> {
    let want = ask.reserved();
    if want.nano_cpus.0 > candidate.free_cpus {
        return Some(Refusal::Cpus);
    }
    if want.memory.0 > candidate.free_memory {
        return Some(Refusal::Memory);
    }
    let lacks = |kind: &String, amount: &GenericResource| {
        let is_short = candidate.free_generic.get(kind).copied().unwrap_or(0) < amount.amount();
        is_short || !candidate.has_names(kind, amount.names())
    };
    want.generic.iter().find(|(kind, amount)| lacks(kind, amount)).map(|(kind, _)| Refusal::Generic(kind.clone()))
}

/// Which host gets the task matters here only: which of a host's devices it gets, the host says when it starts it.
fn devices(ask: &Ask<'_>, candidate: &Candidate<'_>) -> Option<Refusal> {
    let claims = &ask.spec.container.host.claims;
    if claims.is_empty() {
        return None;
    }
    let there = candidate.node.description.as_ref().map(|described| &described.devices);
    there.is_none_or(|there| resolve_claims(claims, there).is_err()).then_some(Refusal::Devices)
}

fn constraints(ask: &Ask<'_>, candidate: &Candidate<'_>) -> Option<Refusal> {
    placement::first_unmet(candidate.node, &ask.spec.placement.constraints)
        .map(|constraint| Refusal::Constraint(constraint.to_string()))
}

fn neighbours(ask: &Ask<'_>, candidate: &Candidate<'_>) -> Option<Refusal> {
    ask.neighbours.refuses(candidate.node.id, candidate.service_tasks).map(Refusal::Neighbours)
}

fn platform(ask: &Ask<'_>, candidate: &Candidate<'_>) -> Option<Refusal> {
    (!placement::platform_fits(candidate.node, &ask.spec.placement.platforms)).then_some(Refusal::Platform)
}

fn max_replicas(ask: &Ask<'_>, candidate: &Candidate<'_>) -> Option<Refusal> {
    let most = ask.spec.placement.max_replicas;
    (most > 0 && candidate.service_tasks >= most).then_some(Refusal::MaxReplicas)
}

fn host_ports(ask: &Ask<'_>, candidate: &Candidate<'_>) -> Option<Refusal> {
    let held = ask.host_ports.iter().find(|port| candidate.held.holds_port(port));
    held.map(|port| Refusal::HostPort(port.place()))
}
