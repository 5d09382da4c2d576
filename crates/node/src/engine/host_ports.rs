//! From a task's host-mode ports to what its endpoint publishes on this host (S-34, P31). Pure.
//!
//! Called by the owner of the network's plan, which knows what the other endpoints hold; what processes hold
//! is handed in. A port that somebody has is never taken away from them: the task is refused and told who.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use overlay::{EndpointId, HostPorts, OpenPorts, WayIn};
use types::{PortBind, PortConfig, PortProtocol, PublishMode};

use super::sockets::HostSocket;

/// Of these a port is chosen for a task that names none: the kernel's own ephemeral range
/// (`net.ipv4.ip_local_port_range`), as Docker does.
const DYNAMIC: (u16, u16) = (32768, 60999);

/// Why a port cannot be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Conflict {
    /// A process of this host listens there.
    Process { protocol: PortProtocol, port: u16, inode: u64 },
    /// Another container of this host publishes it.
    Endpoint { protocol: PortProtocol, port: u16, endpoint: EndpointId },
    /// It is asked for twice.
    Twice { protocol: PortProtocol, port: u16 },
    /// Every port of the dynamic range is in use.
    NoneFree { protocol: PortProtocol },
}

/// A port as it is asked for: at its number, or at the first free one from that up to `last`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedPort {
    pub port: PortConfig,
    pub last: Option<u16>,
}

impl From<PortConfig> for WantedPort {
    fn from(port: PortConfig) -> Self {
        Self { port, last: None }
    }
}

/// What is held on this host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'a> {
    pub sockets: &'a [HostSocket],
    /// The other endpoints' ports.
    pub endpoints: &'a [(&'a EndpointId, &'a HostPorts)],
    /// The endpoint's own, from before.
    pub own: &'a [HostPorts],
}

/// The ports with every published one filled in. The same again, with what was chosen before as its own, gives the
/// same. `random` spreads the dynamic ones.
pub(super) fn choose(wanted: &[WantedPort], held: Held<'_>, random: u64) -> Result<Vec<PortConfig>, Conflict> {
    let mut chosen: Vec<PortConfig> = Vec::new();
    // Fixed ones first, so that no dynamic one takes what a fixed one names.
    let (fixed, dynamic): (Vec<_>, Vec<_>) = wanted.iter().partition(|wanted| wanted.port.published.is_some());
    for WantedPort { port, last } in fixed.into_iter().chain(dynamic) {
        let any = PortConfig { published: None, ..port.clone() };
        let kept = of_own(&any, held.own, are_alike);
        let published = match port.published {
            Some(first) => {
                let numbers = first..=last.unwrap_or(first);
                let kept = kept.filter(|number| numbers.contains(number));
                first_free(&any, kept.into_iter().chain(numbers), held, &chosen)?
            }
            None => match kept.filter(|number| conflict(&any, *number, held, &chosen).is_none()) {
                Some(number) => number,
                None => free(&any, held, &chosen, random)?,
            },
        };
        chosen.push(PortConfig { published: Some(published), ..any });
    }
    // In the order of the spec, which is how people read them.
    let is_same = |one: &PortConfig, other: &PortConfig| (one.target, one.protocol) == (other.target, other.protocol);
    chosen.sort_by_key(|port| wanted.iter().position(|wanted| is_same(&wanted.port, port)));
    Ok(chosen)
}

/// What Docker says of it.
pub(super) fn refusal(conflict: &Conflict, wanted: &[WantedPort]) -> String {
    let (protocol, number) = match conflict {
        Conflict::Process { protocol, port, .. }
        | Conflict::Endpoint { protocol, port, .. }
        | Conflict::Twice { protocol, port } => (*protocol, *port),
        Conflict::NoneFree { protocol } => return format!("no free port of this host is left for {protocol}"),
    };
    let names = |wanted: &&WantedPort| {
        let first = wanted.port.published.filter(|_| wanted.port.protocol == protocol);
        first.is_some_and(|first| (first..=wanted.last.unwrap_or(first)).contains(&number))
    };
    let address = match wanted.iter().find(names).map(|wanted| &wanted.port.bind) {
        Some(PortBind::Address(address)) => *address,
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    format!("Bind for {address}:{number} failed: port is already allocated")
}

/// The ports as an endpoint from before has them; those it does not have are left out.
pub(super) fn resolved(wanted: &[PortConfig], own: &[HostPorts]) -> Vec<PortConfig> {
    let number = |port: &PortConfig| of_own(port, own, are_alike);
    let found = |port: &PortConfig| Some(PortConfig { published: Some(number(port)?), ..port.clone() });
    wanted.iter().filter_map(found).collect()
}

/// Successive ports as one: a rule per range, not per port (P53).
pub(super) fn ranges(ports: &[PortConfig]) -> Vec<HostPorts> {
    let range = |(first, last, port): (u16, u16, &PortConfig)| HostPorts {
        bind: port.bind.clone(),
        protocol: port.protocol,
        published: (first, last),
        target: port.target,
    };
    runs(ports).into_iter().map(range).collect()
}

/// Ports whose numbers follow one another on both sides, as first and last published number and the first port.
pub(crate) fn runs(ports: &[PortConfig]) -> Vec<(u16, u16, &PortConfig)> {
    let mut sorted: Vec<(u16, &PortConfig)> = ports.iter().filter_map(|port| Some((port.published?, port))).collect();
    sorted.sort_by_key(|(number, port)| (&port.bind, port.protocol, port.proxy_protocol, *number, port.target));
    let mut runs: Vec<(u16, u16, &PortConfig)> = Vec::new();
    for (number, port) in sorted {
        let goes_on = |(first, last, begin): &&mut (u16, u16, &PortConfig)| {
            let alike =
                (&begin.bind, begin.protocol, begin.proxy_protocol) == (&port.bind, port.protocol, port.proxy_protocol);
            alike
                && last.checked_add(1) == Some(number)
                && begin.target.checked_add(number - *first) == Some(port.target)
        };
        match runs.last_mut().filter(goes_on) {
            Some((_, last, _)) => *last = number,
            None => runs.push((number, number, port)),
        }
    }
    runs
}

/// Those that are ports of this host, for an endpoint that is reached so over IPv4 and over IPv6. What is at all addresses is
/// at those of one family where it is reached over the host in that alone: the other family's are left to others.
pub(super) fn of_host(wanted: &[WantedPort], ways: [WayIn; 2]) -> Vec<WantedPort> {
    let is_published = |wanted: &&WantedPort| match &wanted.port.bind {
        PortBind::Address(address) => ways[usize::from(address.is_ipv6())] == WayIn::Published,
        PortBind::All | PortBind::Interface(_) => ways.contains(&WayIn::Published),
    };
    let at_all = match ways.map(|way| way == WayIn::Published) {
        [true, false] => PortBind::Address(Ipv4Addr::UNSPECIFIED.into()),
        [false, true] => PortBind::Address(Ipv6Addr::UNSPECIFIED.into()),
        _ => PortBind::All,
    };
    let of_family = |wanted: &WantedPort| {
        let mut wanted = wanted.clone();
        if wanted.port.bind == PortBind::All {
            wanted.port.bind.clone_from(&at_all);
        }
        wanted
    };
    wanted.iter().filter(is_published).map(of_family).collect()
}

/// Those that are open at the endpoint's own address of this family, and how they are shown: on no port of this host.
pub(super) fn routed(wanted: &[WantedPort], is_ipv4: bool) -> (Vec<OpenPorts>, Vec<PortConfig>) {
    let is_of_family = |bind: &PortBind| !matches!(bind, PortBind::Address(address) if address.is_ipv4() != is_ipv4);
    let of_family = wanted.iter().map(|wanted| &wanted.port).filter(|port| is_of_family(&port.bind));
    let targets: BTreeSet<(PortProtocol, u16)> = of_family.map(|port| (port.protocol, port.target)).collect();
    let any = if is_ipv4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let shown = targets.iter().map(|(protocol, target)| PortConfig {
        bind: PortBind::Address(any),
        ..PortConfig::new(*protocol, *target, None, PublishMode::Host)
    });
    let shown = shown.collect();
    let mut open: Vec<OpenPorts> = Vec::new();
    for (protocol, target) in targets {
        let goes_on = |last: &&mut OpenPorts| last.protocol == protocol && last.ports.1.checked_add(1) == Some(target);
        match open.last_mut().filter(goes_on) {
            Some(last) => last.ports.1 = target,
            None => open.push(OpenPorts { protocol, ports: (target, target) }),
        }
    }
    (open, shown)
}

/// The published port that an endpoint from before has for this one, where what it is bound to fits.
fn of_own(port: &PortConfig, own: &[HostPorts], fits: fn(&PortBind, &PortBind) -> bool) -> Option<u16> {
    own.iter().filter(|range| fits(&range.bind, &port.bind) && range.protocol == port.protocol).find_map(|range| {
        let published = range.published.0.checked_add(port.target.checked_sub(range.target)?)?;
        let fits = published <= range.published.1 && port.published.is_none_or(|wanted| wanted == published);
        fits.then_some(published)
    })
}

fn has(own: &[HostPorts], port: &PortConfig, number: u16) -> bool {
    of_own(&PortConfig { published: Some(number), ..port.clone() }, own, covers) == Some(number)
}

/// Whether who is bound to one of them holds the other one too.
fn covers(one: &PortBind, other: &PortBind) -> bool {
    one == other || (*one == PortBind::All && is_at_all(other))
}

/// The same but for the families, which may have changed with the endpoint's networks.
fn are_alike(one: &PortBind, other: &PortBind) -> bool {
    one == other || (is_at_all(one) && is_at_all(other))
}

/// At all addresses, be it of one family.
fn is_at_all(bind: &PortBind) -> bool {
    match bind {
        PortBind::All => true,
        PortBind::Address(address) => address.is_unspecified(),
        PortBind::Interface(_) => false,
    }
}

/// Why the port cannot have this number, beside those that were chosen already.
fn conflict(port: &PortConfig, number: u16, held: Held<'_>, chosen: &[PortConfig]) -> Option<Conflict> {
    let has_it = |other: &PortConfig| {
        (other.protocol, other.published) == (port.protocol, Some(number)) && other.bind.overlaps(&port.bind)
    };
    match chosen.iter().any(has_it) {
        true => Some(Conflict::Twice { protocol: port.protocol, port: number }),
        false if has(held.own, port, number) => None,
        false => holder(port, number, held),
    }
}

fn first_free(
    port: &PortConfig,
    numbers: impl Iterator<Item = u16>,
    held: Held<'_>,
    chosen: &[PortConfig],
) -> Result<u16, Conflict> {
    let mut why = Conflict::NoneFree { protocol: port.protocol };
    for number in numbers {
        match conflict(port, number, held, chosen) {
            None => return Ok(number),
            Some(conflict) => why = conflict,
        }
    }
    Err(why)
}

fn holder(port: &PortConfig, number: u16, held: Held<'_>) -> Option<Conflict> {
    let protocol = port.protocol;
    let holds = |range: &HostPorts| {
        range.protocol == protocol
            && (range.published.0..=range.published.1).contains(&number)
            && range.bind.overlaps(&port.bind)
    };
    if let Some((endpoint, _)) = held.endpoints.iter().find(|(_, range)| holds(range)) {
        return Some(Conflict::Endpoint { protocol, port: number, endpoint: (*endpoint).clone() });
    }
    let listens = |socket: &&HostSocket| {
        socket.is_listening && socket.protocol == protocol && socket.port == number && meets(&port.bind, socket)
    };
    held.sockets.iter().find(listens).map(|socket| Conflict::Process { protocol, port: number, inode: socket.inode })
}

fn free(port: &PortConfig, held: Held<'_>, chosen: &[PortConfig], random: u64) -> Result<u16, Conflict> {
    let (first, last) = DYNAMIC;
    let count = u64::from(last - first) + 1;
    let number = |step: u64| u16::try_from(u64::from(first) + (random % count + step) % count).unwrap_or(first);
    // Also not one that a client of this host talks from: its answers would look like the task's.
    let is_free = |number: &u16| {
        let used = |socket: &HostSocket| socket.protocol == port.protocol && socket.port == *number;
        conflict(port, *number, held, chosen).is_none() && !held.sockets.iter().any(used)
    };
    (0..count).map(number).find(is_free).ok_or(Conflict::NoneFree { protocol: port.protocol })
}

/// An interface may have any address but the loopback's.
pub(super) fn meets(bind: &PortBind, socket: &HostSocket) -> bool {
    match bind {
        PortBind::All => true,
        PortBind::Address(address) => {
            // A socket of all addresses of IPv6 is one of IPv4 too, as a rule.
            let is_all6 = socket.address.is_ipv6() && socket.address.is_unspecified();
            let is_wide = address.is_unspecified() || socket.address.is_unspecified();
            is_all6 || socket.address == *address || (is_wide && socket.address.is_ipv4() == address.is_ipv4())
        }
        PortBind::Interface(name) => name == "lo" || !socket.address.is_loopback(),
    }
}

#[cfg(test)]
#[path = "host_ports_tests.rs"]
mod tests;
