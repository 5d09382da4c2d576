//! Requests about networks. Creating one decides everything at once: its identifier and its subnets.

use std::{net::IpAddr, sync::Arc};

use types::{Cidr, IpvlanMode, Meta, Network, NetworkDriver, NetworkId, NetworkSpec, Subnet, SubnetSpec, Timestamp};

use super::{
    attachments::PREDEFINED,
    subnets::{self, Taken},
};
use crate::{
    Change, Ids, Proposal, Rejection, Tables,
    tables::{overlay::networks_of, pool},
};

/// Option by which a user asks for a VXLAN identifier (parity N-02).
const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";
/// Identifiers below are left to networks that others made by hand.
const VNIS: (u32, u32) = (4096, (1 << 24) - 1);
/// Smallest packet IPv4 must carry whole (RFC 791), and smallest link of IPv6 (RFC 8200), which the inside of
/// WireGuard keeps too.
const MIN_MTU: u32 = 68;
pub(super) const MIN_MTU_IPV6: u32 = 1280;
const MAX_MTU: u32 = 65_535;
/// Each is a route in every container of the network.
const MAX_SUBNETS: usize = 16;
/// How many users of a network a refusal names.
const NAMED: usize = 5;

fn invalid<T>(what: String) -> Result<T, Rejection> {
    Err(Rejection::Invalid(what))
}

/// The ingress network that a cluster begins with (parity N-07).
pub(super) fn first_ingress() -> NetworkSpec {
    let name = "ingress".parse().expect("a constant that is a name");
    NetworkSpec { ingress: true, ..NetworkSpec::overlay(name) }
}

pub(super) fn create(
    tables: &Tables,
    spec: &NetworkSpec,
    now: Timestamp,
    ids: Ids<'_>,
) -> Result<(Proposal, NetworkId), Rejection> {
    let cluster = tables.cluster().ok_or_else(|| Rejection::not_found("cluster", "default"))?;
    if PREDEFINED.contains(&spec.name.as_str()) {
        return invalid(format!("network {} is predefined on every node: take another name", spec.name));
    }
    if let Some(other) = tables.networks().find(|other| other.spec.name.reads_like(&spec.name)) {
        let name = &other.spec.name;
        let is_leaving = tables.is_leaving(other.id);
        return Err(if is_leaving { leaving(name) } else { Rejection::already_exists("network", name) });
    }
    let spec = configured(tables, spec)?;
    check(tables, &spec)?;
    let mut network = Network {
        id: NetworkId::from_random(ids()),
        meta: Meta::default(),
        vni: 0,
        subnets: Vec::new(),
        spec: Arc::new(spec),
    };
    let spec = Arc::clone(&network.spec);
    network.subnets = spec.subnets.iter().map(|wanted| subnet(&spec, wanted)).collect::<Result<_, _>>()?;
    if spec.config_only || spec.driver == NetworkDriver::Bridge {
        // a template: what is made from it has the subnets; a bridge: each node gives out the addresses of its own
        network.subnets.clear();
    } else {
        let taken = Taken::new(tables);
        let overlay = spec.driver == NetworkDriver::Overlay;
        network.vni = if overlay { vni(tables, &spec)? } else { 0 };
        taken.check(&network)?;
        if overlay {
            subnets::fill(&mut network, &cluster.spec.address_pools, &taken)?;
        }
    }
    // IPv4 before IPv6
    network.subnets.sort_by_key(|subnet| !subnet.range.address().is_ipv4());
    let id = network.id;
    Ok((Proposal { at: now, expects: Vec::new(), changes: vec![Change::PutNetwork(Box::new(network))] }, id))
}

/// One more range for a network that is there (P09). Its endpoints have one address of each family, so of those alone.
pub(super) fn add_subnet(
    tables: &Tables,
    id: NetworkId,
    wanted: &SubnetSpec,
    now: Timestamp,
) -> Result<Proposal, Rejection> {
    let network = tables.network(id).ok_or_else(|| Rejection::not_found("network", id))?;
    let name = &network.spec.name;
    if network.vni == 0 {
        return invalid(format!(
            "network {name}: only an overlay network can get another subnet: make a second network"
        ));
    }
    if network.spec.ingress {
        return invalid(format!(
            "network {name}: published ports lead into one subnet of each family: while no service publishes, remove the \
             network and make a larger one with --ingress"
        ));
    }
    if tables.is_leaving(id) {
        return Err(leaving(name));
    }
    if network.subnets.len() >= MAX_SUBNETS {
        return Err(Rejection::FailedPrecondition(format!(
            "network {name} has {MAX_SUBNETS} subnets, which is as many as there can be: make a second network"
        )));
    }
    let subnet = subnet(&network.spec, wanted)?;
    let mut added = Network { subnets: vec![subnet.clone()], ..(**network).clone() };
    Taken::new(tables).check(&added)?;
    added.subnets.extend(network.subnets.iter().cloned());
    if added.families() != network.families() {
        return invalid(format!(
            "network {name}: subnet {} is of a family that its endpoints have no address of: give one of the family of {}",
            subnet.range,
            network.subnets.first().map(|known| known.range.to_string()).unwrap_or_default()
        ));
    }
    Ok(Proposal { at: now, expects: Vec::new(), changes: vec![Change::AddSubnet { network: id, subnet }] })
}

/// The spec with what it takes from a configuration (parity N-10).
fn configured(tables: &Tables, spec: &NetworkSpec) -> Result<NetworkSpec, Rejection> {
    let Some(from) = &spec.config_from else { return Ok(spec.clone()) };
    let Some(source) = tables.network_by_name(from) else {
        // Docker's way: each node has a configuration of this name, with the name of its own interface in it
        let is_nodes = spec.driver.is_of_host() && !spec.config_only;
        let is_bare = spec.subnets.is_empty() && spec.options.is_empty() && spec.mtu.is_none();
        return if is_nodes && is_bare { Ok(spec.clone()) } else { Err(Rejection::not_found("network", from)) };
    };
    if !source.spec.config_only {
        return invalid(format!("network {from} is no configuration: create it with config-only to take it as one"));
    }
    if spec.config_only || !spec.subnets.is_empty() || !spec.options.is_empty() || spec.mtu.is_some() {
        return invalid(format!(
            "network {} takes its configuration from {from}: it can have no subnets, options or config-only of its own",
            spec.name
        ));
    }
    let NetworkSpec { options, internal, ipv6, encrypted, mtu, subnets, .. } = (*source.spec).clone();
    Ok(NetworkSpec { options, internal, ipv6, encrypted, mtu, subnets, ..spec.clone() })
}

fn check(tables: &Tables, spec: &NetworkSpec) -> Result<(), Rejection> {
    let name = &spec.name;
    if let Err(why) = name.as_str().parse::<types::Name>() {
        return invalid(format!("network {name}: {why}; in a cluster names of networks are names in its DNS"));
    }
    let overlay = spec.driver == NetworkDriver::Overlay;
    if matches!(spec.driver, NetworkDriver::Host | NetworkDriver::Null) {
        return invalid(format!("network {name}: the host and null networks are each node's own and cannot be made"));
    }
    if !overlay && (spec.encrypted || spec.ingress) {
        let what = if spec.encrypted { "encrypted" } else { "the ingress network" };
        return invalid(format!("network {name} cannot be {what}: only overlay networks can"));
    }
    if !spec.ipv4 {
        return invalid(format!(
            "network {name}: IPv4 cannot be disabled in a network of the cluster: leave it out, or make one of one host"
        ));
    }
    match spec.driver {
        driver if driver.is_of_host() && spec.ipv6 => {
            return invalid(format!(
                "network {name}: networks that a cluster has on each host by itself have IPv4 only in this version of rswarm"
            ));
        }
        NetworkDriver::Macvlan | NetworkDriver::Ipvlan => of_parent(tables, spec)?,
        _ => {}
    }
    if spec.ingress {
        if let Some(other) = tables.networks().find(|network| network.spec.ingress) {
            return Err(Rejection::AlreadyExists {
                kind: "ingress network".to_owned(),
                name: other.spec.name.to_string(),
            });
        }
        if spec.attachable || spec.internal || spec.config_only {
            return invalid(format!("ingress network {name} cannot be attachable, internal or a configuration"));
        }
    }
    mtu(spec)?;
    for (first, second) in pairs(&spec.subnets) {
        if first.subnet.overlaps(second.subnet) {
            return invalid(format!("network {name}: its subnets {} and {} overlap", first.subnet, second.subnet));
        }
        if spec.ingress && first.subnet.address().is_ipv4() == second.subnet.address().is_ipv4() {
            return invalid(format!(
                "network {name}: {} and {} are of one family: published ports lead into one subnet of each family, give a \
                 larger one",
                first.subnet, second.subnet
            ));
        }
    }
    if spec.subnets.len() > MAX_SUBNETS {
        return invalid(format!(
            "network {name}: {} subnets are too many, there can be {MAX_SUBNETS}: give fewer and larger ones",
            spec.subnets.len()
        ));
    }
    Ok(())
}

/// What a network on the hosts' links cannot be without, unless the nodes' configurations have it, and what its links
/// cannot bear.
fn of_parent(tables: &Tables, spec: &NetworkSpec) -> Result<(), Rejection> {
    let name = &spec.name;
    let is_ipvlan = spec.driver == NetworkDriver::Ipvlan;
    let kind = if is_ipvlan { "an ipvlan network" } else { "a macvlan network" };
    let mode = if is_ipvlan { Some(mode(spec)?) } else { None };
    let Some(parent) = parent_of(spec) else {
        if spec.config_from.is_some() {
            return Ok(());
        }
        return invalid(format!(
            "network {name}: {kind} needs an interface of each host: give the option parent=eth0, or take the nodes' own \
             configurations with config-from"
        ));
    };
    if spec.subnets.is_empty() && spec.config_from.is_none() {
        return invalid(match mode {
            Some(IpvlanMode::L3 | IpvlanMode::L3s) => {
                format!("network {name}: {kind} of this mode needs a subnet that is routed to its hosts: give it")
            }
            _ => format!("network {name}: {kind} needs the subnet its parents are on: give it"),
        });
    }
    for other in tables.networks().filter(|other| parent_of(&other.spec) == Some(parent) && !other.spec.config_only) {
        let is_same = match other.spec.driver {
            NetworkDriver::Ipvlan => IpvlanMode::of(&other.spec.options).ok() == mode,
            NetworkDriver::Macvlan => !is_ipvlan,
            _ => true,
        };
        if !is_same {
            return invalid(format!(
                "network {name}: its parent {parent} is that of network {} too, of another driver or mode, and an \
                 interface of a host bears one: choose another parent, or a VLAN of it (parent={parent}.50)",
                other.spec.name
            ));
        }
    }
    Ok(())
}

fn mode(spec: &NetworkSpec) -> Result<IpvlanMode, Rejection> {
    IpvlanMode::of(&spec.options).map_err(|why| Rejection::Invalid(format!("network {}: {why}", spec.name)))
}

fn parent_of(spec: &NetworkSpec) -> Option<&String> {
    spec.options.get("parent").filter(|parent| !parent.is_empty())
}

fn pairs(all: &[SubnetSpec]) -> impl Iterator<Item = (&SubnetSpec, &SubnetSpec)> {
    all.iter().enumerate().flat_map(|(at, first)| all[at + 1..].iter().map(move |second| (first, second)))
}

fn mtu(spec: &NetworkSpec) -> Result<(), Rejection> {
    let Some(mtu) = spec.mtu else { return Ok(()) };
    let ipv6 = spec.ipv6 || spec.subnets.iter().any(|subnet| !subnet.subnet.address().is_ipv4());
    let (least, why) = match (ipv6, spec.encrypted) {
        (true, _) => (MIN_MTU_IPV6, " with IPv6"),
        (_, true) => (MIN_MTU_IPV6, " when encrypted"),
        _ => (MIN_MTU, ""),
    };
    if !(least..=MAX_MTU).contains(&mtu) {
        return invalid(format!("network {}: MTU {mtu} is out of range: give {least} to {MAX_MTU}{why}", spec.name));
    }
    Ok(())
}

fn subnet(spec: &NetworkSpec, wanted: &SubnetSpec) -> Result<Subnet, Rejection> {
    let (name, range) = (&spec.name, wanted.subnet.network());
    let most = if range.address().is_ipv4() { 30 } else { 126 };
    if range.prefix() == 0 || range.prefix() > most {
        return invalid(format!("network {name}: subnet {range} cannot be used: give a prefix length of 1 to {most}"));
    }
    let gateway = wanted.gateway.unwrap_or_else(|| subnets::first_host(range));
    inside(name, range, "gateway", gateway)?;
    for (owner, address) in &wanted.auxiliary {
        inside(name, range, &format!("auxiliary address {owner}"), *address)?;
    }
    if let Some(part) = wanted.ip_range
        && !(part.prefix() >= range.prefix() && range.contains(part.address()))
    {
        return invalid(format!("network {name}: ip range {part} is not within its subnet {range}"));
    }
    let ip_range = wanted.ip_range.map(Cidr::network);
    Ok(Subnet { range, gateway, ip_range, reserved: wanted.auxiliary.values().copied().collect() })
}

fn inside(name: &types::Name, range: Cidr, what: &str, address: IpAddr) -> Result<(), Rejection> {
    if !range.contains(address) {
        return invalid(format!("network {name}: {what} {address} is outside of its subnet {range}"));
    }
    if address == range.address() {
        return invalid(format!("network {name}: {what} {address} is the address of the subnet {range} itself"));
    }
    if address.is_ipv4() && pool::number(address) == pool::number(range.last()) {
        return invalid(format!("network {name}: {what} {address} is the broadcast address of {range}"));
    }
    Ok(())
}

/// As asked for, else the one above the highest in use, so that one just given up is not used again at once.
fn vni(tables: &Tables, spec: &NetworkSpec) -> Result<u32, Rejection> {
    let (first, last) = VNIS;
    let used = tables.vnis();
    if let Some(text) = spec.options.get(VNI_OPTION) {
        let asked = text.split(',').next().unwrap_or(text).trim();
        let Some(vni) = asked.parse::<u32>().ok().filter(|vni| (first..=last).contains(vni)) else {
            return invalid(format!(
                "network {}: {VNI_OPTION}={text} is no VXLAN identifier: give {first} to {last}",
                spec.name
            ));
        };
        let owner = used.get(&vni).and_then(|id| tables.network(*id));
        return match owner {
            Some(owner) => invalid(format!(
                "network {}: VXLAN identifier {vni} belongs to network {}: give another, or none",
                spec.name, owner.spec.name
            )),
            None => Ok(vni),
        };
    }
    let above = used.get_max().map_or(first, |(highest, _)| highest + 1);
    let free = if above <= last { Some(above) } else { (first..=last).find(|vni| !used.contains_key(vni)) };
    free.ok_or_else(|| {
        Rejection::FailedPrecondition(format!(
            "network {}: all VXLAN identifiers are in use: remove networks",
            spec.name
        ))
    })
}

/// A network goes when nobody uses it, the ingress network when no port is published through it (N-07).
pub(super) fn remove(tables: &Tables, id: NetworkId, now: Timestamp) -> Result<Proposal, Rejection> {
    let network = tables.network(id).ok_or_else(|| Rejection::not_found("network", id))?;
    let name = &network.spec.name;
    let names = |removing: bool| -> Vec<String> {
        let users = tables.services_of_network(id).filter(|service| service.removing == removing);
        users.map(|service| service.spec.name.to_string()).collect()
    };
    let (services, leaving) = (names(false), names(true));
    if !services.is_empty() {
        return refuse_use(name, "service", &services, "update or remove them first");
    }
    if !leaving.is_empty() {
        let text = format!("network {name} still has tasks of {}, being removed: wait for their end", named(&leaving));
        return Err(Rejection::Unsettled(text));
    }
    let tasks: Vec<String> = tables.tasks_of_network(id).map(|task| task_name(tables, task)).collect();
    if !tasks.is_empty() {
        return refuse_use(name, "task", &tasks, "they are being replaced, wait for their end");
    }
    has_no_guests(tables, network)?;
    let from: Vec<String> = tables
        .networks()
        .filter(|other| network.spec.config_only && other.spec.config_from.as_ref() == Some(name))
        .map(|other| other.spec.name.to_string())
        .collect();
    if !from.is_empty() {
        return refuse_use(name, "network", &from, "remove them first");
    }
    Ok(Proposal { at: now, expects: Vec::new(), changes: vec![Change::RemoveNetwork(id)] })
}

fn has_no_guests(tables: &Tables, network: &Network) -> Result<(), Rejection> {
    let guests: Vec<&str> = tables.guests_of_network(network.id).map(|guest| guest.name.as_str()).collect();
    if guests.is_empty() {
        return Ok(());
    }
    // Docker's words, with who they are
    Err(Rejection::FailedPrecondition(format!(
        "network {} has active endpoints ({}): disconnect or remove their containers first",
        network.spec.name,
        named(&guests)
    )))
}

/// It is still there, for the last of its tasks.
pub(super) fn leaving(name: &types::Name) -> Rejection {
    Rejection::Unsettled(format!("network {name} is being removed: wait until the last tasks in it have ended"))
}

/// The network goes when the last task has left it, of services that are being removed or do not ask for it any more.
pub(super) fn leave(tables: &Tables, id: NetworkId, now: Timestamp) -> Result<Proposal, Rejection> {
    let wants = |service: &&Arc<types::Service>| {
        !service.removing && networks_of(&service.spec.task).any(|(wanted, _)| wanted == id)
    };
    // nobody sees to it that a single container ends
    has_no_guests(tables, tables.network(id).ok_or_else(|| Rejection::not_found("network", id))?)?;
    let is_settled = tables.services_of_network(id).any(|service| wants(&service));
    match remove(tables, id, now) {
        // those that are on their way out are waited for
        Err(Rejection::Unsettled(_)) => {}
        Err(Rejection::FailedPrecondition(_)) if !is_settled => {}
        other => return other,
    }
    Ok(Proposal { at: now, expects: Vec::new(), changes: vec![Change::NetworkLeaves(id)] })
}

fn task_name(tables: &Tables, task: &types::Task) -> String {
    let service = tables.service(task.service).map_or_else(|| task.service.to_string(), |s| s.spec.name.to_string());
    format!("{service}.{}.{}", task.slot, task.id)
}

fn refuse_use(network: &types::Name, kind: &str, users: &[String], advice: &str) -> Result<Proposal, Rejection> {
    let shown = named(users);
    let plural = if users.len() == 1 { "" } else { "s" };
    Err(Rejection::FailedPrecondition(format!("network {network} is in use by {kind}{plural} {shown}: {advice}")))
}

/// Some of them by name, the others by number.
fn named<T: std::borrow::Borrow<str>>(all: &[T]) -> String {
    let shown = all.iter().take(NAMED).map(T::borrow).collect::<Vec<&str>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
