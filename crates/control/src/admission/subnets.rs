//! Which ranges of addresses are taken, and the next free ones of the cluster's pools.
//!
//! Taken is what other networks have and what any node has addresses in or routes to (P25): a subnet chosen
//! without looking there cuts containers off from hosts they must reach, or hosts from each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use types::{AddressPools, Cidr, Network, Node, Subnet};

use super::network::MIN_MTU_IPV6;
use crate::{
    Rejection, Tables,
    tables::{must_not_overlap, pool::number},
};

/// IPv6 subnets have no other length (RFC 4291, section 2.5.4).
const IPV6_SUBNET: u8 = 64;

/// Everything that a new subnet must not overlap.
pub(super) struct Taken<'a> {
    networks: Vec<(Cidr, &'a Network)>,
    /// Each range of any node, with one node that has it.
    nodes: BTreeMap<Cidr, &'a Node>,
}

impl<'a> Taken<'a> {
    pub(super) fn new(tables: &'a Tables) -> Self {
        let networks = tables.networks().flat_map(|n| n.subnets.iter().map(move |s| (s.range, &**n))).collect();
        let nodes = tables.nodes().flat_map(|node| ranges_of(node).into_iter().map(move |range| (range, &**node)));
        Self { networks, nodes: nodes.collect() }
    }

    /// Whether the subnets that a user chose are free. A network that is a part of the world outside lies where
    /// nodes have addresses: it must only stay clear of overlays.
    pub(super) fn check(&self, network: &Network) -> Result<(), Rejection> {
        let name = &network.spec.name;
        for subnet in &network.subnets {
            let range = subnet.range;
            let mut others = self.networks.iter().filter(|(_, other)| must_not_overlap(network, other));
            if let Some((other, owner)) = others.find(|(other, _)| other.overlaps(range)) {
                return Err(Rejection::Invalid(format!(
                    "network {name}: subnet {range} overlaps {other} of network {}: choose another, or none",
                    owner.spec.name
                )));
            }
            let mut nodes = self.nodes.iter().filter(|_| network.vni != 0);
            if let Some((route, node)) = nodes.find(|(route, _)| route.overlaps(range)) {
                return Err(Rejection::Invalid(format!(
                    "network {name}: subnet {range} overlaps {route}, which node {} has an address in or a route \
                     to: its containers could not reach it; choose another, or none",
                    called(node)
                )));
            }
        }
        Ok(())
    }

    /// A range that this one overlaps; of several, the one that reaches furthest.
    fn conflict(&self, range: Cidr) -> Option<Cidr> {
        let networks = self.networks.iter().map(|(other, _)| other);
        networks
            .chain(self.nodes.keys())
            .filter(|other| other.overlaps(range))
            .copied()
            .max_by_key(|o| number(o.last()))
    }
}

/// What a node has addresses in or routes to, but for its default route, and its own address.
pub(crate) fn ranges_of(node: &Node) -> BTreeSet<Cidr> {
    let routes = node.description.iter().flat_map(|d| &d.routes).map(|route| route.network());
    let own = node.status.address.filter(|address| !address.is_loopback());
    let own = own.and_then(|a| Cidr::new(a, if a.is_ipv4() { 32 } else { 128 }).ok());
    routes.filter(|route| route.prefix() > 0).chain(own).collect()
}

/// The name people know a node by.
pub(crate) fn called(node: &Node) -> String {
    let hostname = node.description.as_ref().map_or("", |d| d.hostname.as_str());
    match [node.spec.name.as_str(), hostname].into_iter().find(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => node.id.to_string(),
    }
}

/// Gives the network the subnets it needs and the user did not choose.
pub(super) fn fill(network: &mut Network, pools: &AddressPools, taken: &Taken<'_>) -> Result<(), Rejection> {
    let has = |ipv4: bool, network: &Network| network.subnets.iter().any(|s| s.range.address().is_ipv4() == ipv4);
    // an interface's hardware address follows from its IPv4 address, so each has one
    if !has(true, network) {
        let usual = network.spec.ingress.then(usual_ingress).filter(|range| is_open(*range, pools, taken));
        let range = match usual {
            Some(range) => range,
            None => cut(network, pools, true, pools.mask_length, taken)?,
        };
        network.subnets.push(whole(range));
    }
    // the mesh serves clients of both families, where it can
    let can = network.spec.mtu.is_none_or(|mtu| mtu >= MIN_MTU_IPV6);
    if network.spec.ingress
        && !has(false, network)
        && can
        && let Ok(range) = cut(network, pools, false, IPV6_SUBNET, taken)
    {
        network.subnets.push(whole(range));
    }
    if network.spec.ipv6 && !has(false, network) {
        let range = cut(network, pools, false, IPV6_SUBNET, taken)?;
        network.subnets.push(whole(range));
    }
    Ok(())
}

/// What the ingress network has unless it is taken: Docker's first choice, too, was this large, since each task that
/// publishes needs an address in it (P09).
fn usual_ingress() -> Cidr {
    "10.255.0.0/16".parse().expect("a constant that is a subnet")
}

/// Whether a range is in the pools and free.
fn is_open(range: Cidr, pools: &AddressPools, taken: &Taken<'_>) -> bool {
    let within = |pool: &Cidr| pool.prefix() <= range.prefix() && pool.contains(range.address());
    pools.pools.iter().any(within) && taken.conflict(range).is_none()
}

fn whole(range: Cidr) -> Subnet {
    Subnet { range, gateway: first_host(range), ip_range: None, reserved: Vec::new() }
}

/// The first free range of this length, in the order of the pools.
fn cut(network: &Network, pools: &AddressPools, ipv4: bool, prefix: u8, taken: &Taken<'_>) -> Result<Cidr, Rejection> {
    let fitting: Vec<Cidr> = pools.pools.iter().filter(|pool| pool.address().is_ipv4() == ipv4).copied().collect();
    if let Some(range) = fitting.iter().find_map(|pool| first_free(*pool, prefix, taken)) {
        return Ok(range);
    }
    let name = &network.spec.name;
    let all = fitting.iter().map(Cidr::to_string).collect::<Vec<_>>().join(", ");
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    Err(Rejection::FailedPrecondition(if fitting.is_empty() {
        format!("network {name}: the cluster has no {family} address pool: give a subnet, or the cluster a pool")
    } else {
        format!(
            "network {name}: no /{prefix} is left in the address pools {all}: all are used by networks or \
             overlap routes of nodes; give a subnet, or the cluster another pool"
        )
    }))
}

/// Steps over what is taken instead of trying every range in it.
fn first_free(pool: Cidr, prefix: u8, taken: &Taken<'_>) -> Option<Cidr> {
    let bits: u32 = if pool.address().is_ipv4() { 32 } else { 128 };
    let size = 1u128.checked_shl(bits - u32::from(prefix))?;
    let mut at = number(pool.network().address());
    loop {
        let range = Cidr::new(address(at, pool), prefix).ok()?;
        if prefix < pool.prefix() || !pool.contains(range.address()) {
            return None;
        }
        let Some(conflict) = taken.conflict(range) else { return Some(range) };
        let end = number(conflict.last()).max(number(range.last()));
        at = end.checked_add(1)?.div_ceil(size).checked_mul(size)?;
        if bits == 32 && at > u128::from(u32::MAX) {
            return None;
        }
    }
}

fn address(number: u128, like: Cidr) -> IpAddr {
    match like.address() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

pub(super) fn first_host(range: Cidr) -> IpAddr {
    address(number(range.network().address()) + 1, range)
}

/// Networks of the cluster that lie where the node has addresses or routes, in words: for a warning when it
/// joins (P25). Containers there cannot reach what the node reaches by that route.
pub fn route_conflicts(tables: &Tables, node: &Node) -> Vec<String> {
    let mut all = Vec::new();
    for route in ranges_of(node) {
        for network in tables.networks().filter(|network| network.vni != 0) {
            all.extend(network.subnets.iter().filter(|subnet| subnet.range.overlaps(route)).map(|subnet| {
                format!(
                    "network {} ({}) overlaps {route} of node {}: containers in it cannot reach that range",
                    network.spec.name,
                    subnet.range,
                    called(node)
                )
            }));
        }
    }
    all
}
