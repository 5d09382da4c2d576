//! What must hold of networks: nothing is anybody's twice (P09), and what is kept beside the objects follows
//! from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use types::{Network, NetworkId, NodeId, Subnet, TaskId};

use crate::{
    Tables,
    tables::overlay::{endpoint, networks_of, shown, takes_part},
};

pub(super) fn check(tables: &Tables) -> Result<(), String> {
    ranges(tables)?;
    for task in tables.tasks().filter(|task| task.node.is_some() && !task.status.state.is_terminal()) {
        let has: Vec<NetworkId> = task.attachments.iter().map(|place| place.network).collect();
        let ingress = tables.ingress().filter(|_| task.publishes).map(|network| network.id);
        let asked: Vec<NetworkId> = networks_of(&task.spec).map(|(id, _)| id).chain(ingress).collect();
        if has != asked {
            return Err(format!("task {} asks for networks {asked:?} and has places in {has:?}", task.id));
        }
    }
    for guest in tables.guests() {
        let (network, node) = (tables.network(guest.network), tables.node(guest.node));
        if !network.is_some_and(|network| network.spec.attachable) || node.is_none() {
            return Err(format!("container {} is in no network that it could be in, or on no node", guest.container));
        }
        if !tables.guests_of_node(guest.node).any(|own| own == guest) {
            return Err(format!("container {} is not found by its node", guest.container));
        }
    }
    for network in tables.networks() {
        addresses(tables, network)?;
        contents(tables, network)?;
    }
    Ok(())
}

fn ranges(tables: &Tables) -> Result<(), String> {
    let overlays: Vec<&Network> = tables.networks().map(|n| &**n).filter(|n| n.vni != 0).collect();
    let mut vnis = BTreeMap::new();
    for (at, network) in overlays.iter().enumerate() {
        if let Some(other) = vnis.insert(network.vni, network.id) {
            return Err(format!("networks {other} and {} have one identifier, {}", network.id, network.vni));
        }
        for other in &overlays[at + 1..] {
            let both = network.subnets.iter().flat_map(|a| other.subnets.iter().map(move |b| (a.range, b.range)));
            if let Some((a, b)) = both.into_iter().find(|(a, b)| a.overlaps(*b)) {
                return Err(format!("{a} of network {} overlaps {b} of {}", network.id, other.id));
            }
        }
    }
    for network in tables.networks() {
        if tables.network_by_name(&network.spec.name).map(|found| found.id) != Some(network.id) {
            return Err(format!("network {} is not found by its name", network.id));
        }
    }
    Ok(())
}

/// Every address has one holder, lies where addresses are given out, and is counted.
fn addresses(tables: &Tables, network: &Network) -> Result<(), String> {
    let mut holders: BTreeMap<IpAddr, String> = BTreeMap::new();
    let mut hold = |address: IpAddr, who: String| {
        if !network.subnets.iter().any(|subnet| may_be_given(subnet, address)) {
            return Err(format!("{who} has {address}, which {} does not give out", network.spec.name));
        }
        match holders.insert(address, who.clone()) {
            Some(other) => Err(format!("{address} of network {} is {other}'s and {who}'s", network.spec.name)),
            None => Ok(()),
        }
    };
    for service in tables.services() {
        for vip in service.virtual_ips.iter().filter(|vip| vip.network == network.id) {
            for address in &vip.addresses {
                hold(*address, format!("service {}", service.spec.name))?;
            }
        }
    }
    for task in tables.tasks().filter(|task| takes_part(task)) {
        for place in task.attachments.iter().filter(|place| place.network == network.id) {
            if !is_one_of_each_family(network, &place.addresses) {
                return Err(format!("task {} has not one address of each family of {}", task.id, network.spec.name));
            }
            for address in &place.addresses {
                hold(*address, format!("task {}", task.id))?;
            }
        }
    }
    for guest in tables.guests_of_network(network.id) {
        if !is_one_of_each_family(network, &guest.addresses) {
            let name = &network.spec.name;
            return Err(format!("container {} has not one address of each family of {name}", guest.container));
        }
        for address in &guest.addresses {
            hold(*address, format!("container {}", guest.container))?;
        }
    }
    let usage = tables.pool(network.id).map_or_else(Vec::new, crate::tables::pool::Pool::usage);
    let kept = |subnet: &Subnet| {
        let all: BTreeSet<_> = subnet.reserved.iter().chain([&subnet.gateway]).copied().collect();
        all.into_iter().filter(|address| subnet.ip_range.is_none_or(|range| range.contains(*address))).count()
    };
    for (subnet, usage) in network.subnets.iter().zip(usage) {
        let held = holders.keys().filter(|address| subnet.range.contains(**address)).count() + kept(subnet);
        if usage.used != held as u64 {
            return Err(format!("{} addresses of {} are counted, {held} are held", usage.used, subnet.range));
        }
    }
    Ok(())
}

fn is_one_of_each_family(network: &Network, addresses: &[IpAddr]) -> bool {
    let ipv4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    addresses.len() == network.families() && ipv4 <= 1 && addresses.len() - ipv4 <= 1
}

fn may_be_given(subnet: &Subnet, address: IpAddr) -> bool {
    let edge = address == subnet.range.address() || (address.is_ipv4() && address == subnet.range.last());
    subnet.range.contains(address)
        && subnet.ip_range.is_none_or(|range| range.contains(address))
        && address != subnet.gateway
        && !subnet.reserved.contains(&address)
        && !edge
}

/// What nodes are told of a network is what its tasks and services make of it.
fn contents(tables: &Tables, network: &Network) -> Result<(), String> {
    let Some(overlay) = tables.overlay(network.id) else { return Ok(()) };
    let (mut endpoints, mut nodes, mut tasks) = (BTreeMap::new(), BTreeSet::<NodeId>::new(), Vec::<TaskId>::new());
    for task in tables.tasks().filter(|task| takes_part(task)) {
        let Some(place) = task.attachments.iter().find(|place| place.network == network.id) else { continue };
        tasks.push(task.id);
        nodes.extend(task.node);
        let node = task.node.and_then(|id| tables.node(id));
        if let Some(endpoint) = endpoint(task, node.map(|node| &**node), place) {
            endpoints.insert(task.id, endpoint);
        }
    }
    nodes.extend(tables.guests_of_network(network.id).map(|guest| guest.node));
    let name = &network.spec.name;
    let guests = tables.guests_of_network(network.id);
    let guests = guests.filter_map(|guest| Some((guest.container.clone(), tables.shown_guest(guest)?)));
    let known = overlay.containers.iter().map(|(id, container)| (id.clone(), (**container).clone()));
    if !known.eq(guests) {
        return Err(format!("network {name} shows other single containers than have places in it"));
    }
    let known: BTreeMap<_, _> = overlay.endpoints.iter().map(|(id, e)| (*id, (**e).clone())).collect();
    if known != endpoints {
        return Err(format!("network {name} has endpoints {known:?}, its tasks make {endpoints:?}"));
    }
    if !overlay.nodes.iter().eq(&nodes) || !tables.tasks_of_network(network.id).map(|task| task.id).eq(tasks) {
        return Err(format!("nodes or tasks of network {name} are not those that have places in it"));
    }
    let services = tables.services().filter_map(|service| Some((service.id, shown(service, network)?)));
    let services: BTreeMap<_, _> = services.collect();
    let known: BTreeMap<_, _> = overlay.services.iter().map(|(id, s)| (*id, (**s).clone())).collect();
    if known != services {
        return Err(format!("network {name} shows services {known:?}, there are {services:?}"));
    }
    Ok(())
}
