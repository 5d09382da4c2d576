//! Published ports of a service: what cannot be is refused in words, and each port of the routing mesh gets a
//! number that is nobody else's (parity S-72, S-73; P32).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

use types::{
    EndpointMode, PortBind, PortConfig, PortProtocol, PublishMode, ServiceId, ServiceMode, ServiceSpec, UpdateOrder,
};

use crate::{Rejection, Tables, tables::ports::Hold};

/// Numbers given to ports without one (as in swarmkit).
const DYNAMIC: RangeInclusive<u16> = 30_000..=32_767;

fn invalid<T>(what: String) -> Result<T, Rejection> {
    Err(Rejection::Invalid(what))
}

/// Ports that a task binds on its own node.
pub(crate) fn host_ports(spec: &ServiceSpec) -> impl Iterator<Item = &PortConfig> {
    spec.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Host)
}

fn ingress_ports(spec: &ServiceSpec) -> impl Iterator<Item = &PortConfig> {
    spec.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Ingress)
}

/// Whether the tasks of the service have a place in the ingress network.
pub(crate) fn publishes(spec: &ServiceSpec) -> bool {
    ingress_ports(spec).next().is_some()
}

/// What contradicts itself, whatever else is in the cluster.
pub(super) fn check(spec: &ServiceSpec) -> Result<(), Rejection> {
    let service = &spec.name;
    spec.mesh().map_err(|error| Rejection::Invalid(format!("service {service}: {error}")))?;
    for port in &spec.endpoint.ports {
        one(spec, port)?;
    }
    twice(spec)?;
    fixed_on_one_node(spec)
}

fn one(spec: &ServiceSpec, port: &PortConfig) -> Result<(), Rejection> {
    let service = &spec.name;
    if port.target == 0 {
        return invalid(format!(
            "service {service}: a published port needs the container's port: give a target of 1 to 65535"
        ));
    }
    if port.published == Some(0) {
        return invalid(format!("service {service}: port {}: published must be 1 to 65535, or left out", port.target));
    }
    if port.mode == PublishMode::Ingress && spec.endpoint.mode == EndpointMode::DnsRoundRobin {
        return invalid(format!(
            "service {service}: port {} is published through the mesh, which needs endpoint mode vip; use mode=host or vip",
            port.target
        ));
    }
    if port.proxy_protocol && port.protocol != PortProtocol::Tcp {
        return invalid(format!(
            "service {service}: port {} cannot begin with a PROXY protocol header: only connections over tcp have a \
             beginning; leave proxy_protocol out",
            port.place()
        ));
    }
    if port.proxy_protocol && port.mode == PublishMode::Host {
        return invalid(format!(
            "service {service}: port {} cannot begin with a PROXY protocol header: only the routing mesh writes one; \
             publish it with mode=ingress, or leave proxy_protocol out",
            port.place()
        ));
    }
    if port.proxy_protocol && matches!(port.bind, PortBind::Interface(_)) {
        return invalid(format!(
            "service {service}: port {} cannot both begin with a PROXY protocol header and be bound to an interface; \
             bind it to an address of that interface (host_ip), or leave proxy_protocol out",
            port.place()
        ));
    }
    match &port.bind {
        PortBind::Address(address) if address.is_unspecified() => invalid(format!(
            "service {service}: host address {address} of port {} stands for every address: leave it out to publish at \
             all addresses, IPv4 and IPv6",
            port.target
        )),
        PortBind::Interface(name) if !is_interface_name(name) => invalid(format!(
            "service {service}: {name:?}, where port {} shall be published, is no name of an interface: 1 to 15 \
             characters without '/' and blanks",
            port.target
        )),
        _ => Ok(()),
    }
}

/// Linux: `dev_valid_name` in `net/core/dev.c`.
fn is_interface_name(name: &str) -> bool {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
    (1..=15).contains(&name.len()) && !matches!(name, "." | "..") && !name.chars().any(bad)
}

fn twice(spec: &ServiceSpec) -> Result<(), Rejection> {
    let service = &spec.name;
    let mut numbered: BTreeMap<(PortProtocol, u16), Vec<&PortBind>> = BTreeMap::new();
    let mut unnumbered = BTreeSet::new();
    for port in &spec.endpoint.ports {
        let Some(number) = port.published else {
            if !unnumbered.insert((port.protocol, port.target, port.mode == PublishMode::Host, &port.bind)) {
                return invalid(format!(
                    "service {service} publishes port {} twice without a number: leave one out, or give it a number",
                    port.place()
                ));
            }
            continue;
        };
        let others = numbered.entry((port.protocol, number)).or_default();
        if others.iter().any(|other| other.overlaps(&port.bind)) {
            return invalid(format!(
                "service {service} publishes port {} twice: give one of the two another number or address",
                port.place()
            ));
        }
        others.push(&port.bind);
    }
    Ok(())
}

fn fixed_on_one_node(spec: &ServiceSpec) -> Result<(), Rejection> {
    let fixed = host_ports(spec).find_map(|port| port.published);
    let start_first = spec.update.order == UpdateOrder::StartFirst && matches!(spec.mode, ServiceMode::Global);
    match fixed {
        Some(number) if start_first => invalid(format!(
            "a global service with host port {number} cannot be updated start-first: old and new task would need \
             the port of one node at once; use stop-first"
        )),
        _ => Ok(()),
    }
}

/// Whether a service that published this port publishes it no more with the spec. One without a number in the spec
/// keeps the number it was given.
pub(super) fn gives_up(port: &PortConfig, spec: &ServiceSpec) -> bool {
    let is_given = port.published.is_some_and(|number| DYNAMIC.contains(&number));
    let is_same = |next: &PortConfig| {
        let number =
            next.published == port.published || next.published.is_none() && is_given && next.target == port.target;
        number && (next.protocol, next.mode, &next.bind) == (port.protocol, port.mode, &port.bind)
    };
    !spec.endpoint.ports.iter().any(is_same)
}

/// The ports of the mesh with their numbers: as asked for, else as `before`, else free ones.
///
/// # Errors
/// A number is another service's, none is left, or there is no ingress network.
pub(super) fn published(
    tables: &Tables,
    id: ServiceId,
    spec: &ServiceSpec,
    before: &[PortConfig],
) -> Result<Arc<Vec<PortConfig>>, Rejection> {
    for port in &spec.endpoint.ports {
        if let Some(hold) = tables.ports().rival(id, port) {
            return Err(taken(tables, spec, port, hold));
        }
    }
    let Some(first) = ingress_ports(spec).next() else { return Ok(Arc::default()) };
    if tables.ingress().is_none() {
        return Err(Rejection::FailedPrecondition(format!(
            "service {} publishes port {} through the mesh, and there is no ingress network: make one with \
             `network create --driver overlay --ingress ingress`, or publish with mode=host",
            spec.name,
            first.place()
        )));
    }
    let mut numbers = Numbers::new(tables, id, spec, before);
    let number = |port: &PortConfig| match port.published {
        Some(_) => Ok(port.clone()),
        None => match numbers.next(port) {
            Some(number) => Ok(PortConfig { published: Some(number), ..port.clone() }),
            None => Err(none_left(spec, port)),
        },
    };
    ingress_ports(spec).map(number).collect::<Result<Vec<_>, _>>().map(Arc::new)
}

fn taken(tables: &Tables, spec: &ServiceSpec, port: &PortConfig, hold: &Hold) -> Rejection {
    let owner = tables.service(hold.service).map_or_else(|| hold.service.to_string(), |s| s.spec.name.to_string());
    let held = PortConfig { bind: hold.bind.clone(), ..port.clone() }.place();
    let how = if hold.on_host { "on the nodes of its tasks (mode host)" } else { "through the mesh" };
    Rejection::FailedPrecondition(format!(
        "service {} cannot publish port {}: service {owner} publishes {held} {how}; take another number or address, or \
         let {owner} give it up first",
        spec.name,
        port.place()
    ))
}

fn none_left(spec: &ServiceSpec, port: &PortConfig) -> Rejection {
    Rejection::FailedPrecondition(format!(
        "service {}: no number is left for port {}: all of {} to {} are published over {}; give it a number outside of \
         these, or remove services that publish",
        spec.name,
        port.place(),
        DYNAMIC.start(),
        DYNAMIC.end(),
        port.protocol
    ))
}

/// Gives numbers to the ports of one service that have none.
struct Numbers<'a> {
    tables: &'a Tables,
    service: ServiceId,
    /// Numbers that the service asked for itself, and those given to it since.
    own: BTreeSet<(PortProtocol, u16)>,
    /// What ports that have none in the spec had before, by protocol, target and place.
    kept: BTreeMap<(PortProtocol, u16, &'a PortBind), u16>,
    /// What is still to be tried.
    left: BTreeMap<PortProtocol, std::vec::IntoIter<u16>>,
}

impl<'a> Numbers<'a> {
    fn new(tables: &'a Tables, service: ServiceId, spec: &'a ServiceSpec, before: &'a [PortConfig]) -> Self {
        let key = |port: &'a PortConfig| (port.protocol, port.target, &port.bind);
        let asked = spec.endpoint.ports.iter().filter_map(|port| Some((port.protocol, port.published?)));
        let mut own: BTreeSet<_> = asked.collect();
        let wanting: BTreeSet<_> = ingress_ports(spec).filter(|port| port.published.is_none()).map(key).collect();
        let mut kept = BTreeMap::new();
        for port in before.iter().filter(|port| wanting.contains(&key(port))) {
            let Some(number) = port.published.filter(|number| DYNAMIC.contains(number)) else { continue };
            let is_free = tables.ports().is_free(service, port.protocol, number);
            // taken from what is left at once: no port that comes before it gets it
            if is_free && own.insert((port.protocol, number)) {
                kept.insert(key(port), number);
            }
        }
        Self { tables, service, own, kept, left: BTreeMap::new() }
    }

    fn next(&mut self, port: &PortConfig) -> Option<u16> {
        if let Some(kept) = self.kept.get(&(port.protocol, port.target, &port.bind)) {
            return Some(*kept);
        }
        let (tables, service) = (self.tables, self.service);
        let left = self.left.entry(port.protocol).or_insert_with(|| candidates(service).into_iter());
        let is_free = |number: &u16| {
            !self.own.contains(&(port.protocol, *number)) && tables.ports().is_free(service, port.protocol, *number)
        };
        let number = left.find(is_free)?;
        self.own.insert((port.protocol, number));
        Some(number)
    }
}

/// All dynamic numbers, beginning at another one for each service: a number that was given back is not likely to
/// be the next one's, whom the clients of the last one would reach.
fn candidates(service: ServiceId) -> Vec<u16> {
    let count = u128::from(*DYNAMIC.end() - *DYNAMIC.start()) + 1;
    let first = u16::try_from(service.as_u128() % count).unwrap_or(0) + *DYNAMIC.start();
    (first..=*DYNAMIC.end()).chain(*DYNAMIC.start()..first).collect()
}
