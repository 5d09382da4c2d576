//! The networks of this host alone as a value: what is there, what may be added, what may go (parity N-10, E-31).
//! Pure; the owner of the plan keeps it and writes it to disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use overlay::{Cidr, Ipam, Ipam6, LocalDriver, ParentLink, choose_ipv6_subnet, choose_subnet, overlap};
use serde::{Deserialize, Serialize};
use types::{Meta, Name, Network, NetworkDriver, NetworkId, NetworkSpec, Subnet, Timestamp};

use super::definition::{Definition, Subnets, whole};

/// Why something about a network was not done. The message says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NetworkError {
    pub kind: NetworkErrorKind,
    pub message: String,
}

/// What a front end turns into a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkErrorKind {
    NotFound,
    /// The name or the address is another's.
    Conflict,
    Invalid,
    /// Not as things stand: it is in use, or not for this.
    Forbidden,
    /// The host could not do it.
    Failed,
}

impl NetworkError {
    pub fn new(kind: NetworkErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What must be known of the host before a network is made.
#[derive(Debug, Clone)]
pub struct HostFacts {
    /// Ranges that are in use: the host's routes and addresses, the networks that containers here can be in.
    pub taken: Vec<Cidr>,
    /// The host's interfaces, but for rswarm's own.
    pub interfaces: BTreeSet<String>,
    /// What a bridge network without a subnet of its own gets one of.
    pub pools: Vec<Cidr>,
    /// Kinds of interfaces that the kernel lacks, with what to do (`overlay::capabilities`).
    pub lacking: BTreeMap<String, String>,
}

/// Of a host that has nothing, with the usual pools.
impl Default for HostFacts {
    fn default() -> Self {
        Self {
            taken: Vec::new(),
            interfaces: BTreeSet::new(),
            pools: overlay::default_pools(),
            lacking: BTreeMap::new(),
        }
    }
}

/// All networks that were made for this host alone, configurations included. `vni` is 0 in all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocalNetworks {
    networks: BTreeMap<NetworkId, Arc<Network>>,
}

impl LocalNetworks {
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Network>> {
        self.networks.values()
    }

    pub fn get(&self, id: NetworkId) -> Option<&Arc<Network>> {
        self.networks.get(&id)
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<Network>> {
        self.iter().find(|network| network.spec.name.as_str() == name)
    }

    /// Adds a network, with a subnet if it needs one.
    ///
    /// # Errors
    /// A sentence that begins with the network and says what cannot be; nothing is added then.
    pub fn create(
        &mut self,
        spec: &NetworkSpec,
        id: NetworkId,
        now: Timestamp,
        facts: &HostFacts,
    ) -> Result<NetworkId, NetworkError> {
        use NetworkErrorKind as Kind;
        let name = spec.name.clone();
        if self.by_name(name.as_str()).is_some() {
            return Err(NetworkError::new(Kind::Conflict, format!("network with name {name} already exists")));
        }
        let spec = self.configured(spec)?;
        let mut subnets = Vec::new();
        if !spec.config_only {
            let invalid = |why: String| NetworkError::new(Kind::Invalid, format!("network {name}: {why}"));
            let definition = Definition::of(&spec).map_err(invalid)?;
            check_driver(&definition, facts).map_err(invalid)?;
            self.check_parent(&definition.driver)
                .map_err(|why| NetworkError::new(Kind::Conflict, format!("network {name}: {why}")))?;
            let Subnets { four, six } = subnets_of(&definition, id, facts).map_err(invalid)?;
            subnets.extend(four.into_iter().chain(six));
        }
        let meta = Meta { created_at: now, updated_at: now, ..Meta::default() };
        self.networks.insert(id, Arc::new(Network { id, meta, spec: Arc::new(spec), vni: 0, subnets }));
        Ok(id)
    }

    /// Takes a network away that nobody is in.
    ///
    /// # Errors
    /// When there is none, or another network has its configuration from it.
    pub fn remove(&mut self, id: NetworkId) -> Result<(), NetworkError> {
        let missing = || NetworkError::new(NetworkErrorKind::NotFound, format!("network {id} not found"));
        let network = self.networks.get(&id).ok_or_else(missing)?;
        let name = &network.spec.name;
        let user = self.iter().find(|other| network.spec.config_only && other.spec.config_from.as_ref() == Some(name));
        if let Some(user) = user {
            let message =
                format!("configuration network {name} is in use by network {}: remove it first", user.spec.name);
            return Err(NetworkError::new(NetworkErrorKind::Forbidden, message));
        }
        self.networks.remove(&id);
        Ok(())
    }

    /// The spec with what it takes from a configuration of this host.
    fn configured(&self, spec: &NetworkSpec) -> Result<NetworkSpec, NetworkError> {
        let Some(from) = &spec.config_from else { return Ok(spec.clone()) };
        if spec.config_only || !spec.subnets.is_empty() || !spec.options.is_empty() || spec.mtu.is_some() {
            let message = format!(
                "network {} takes its configuration from {from}: it can have no subnets, options or config-only of its own",
                spec.name
            );
            return Err(NetworkError::new(NetworkErrorKind::Invalid, message));
        }
        let source =
            self.configuration(from).map_err(|message| NetworkError::new(NetworkErrorKind::NotFound, message))?;
        Ok(merged(spec, &source.spec))
    }

    /// Whether its parent is free for interfaces of this kind.
    fn check_parent(&self, driver: &LocalDriver) -> Result<(), String> {
        let others = self.iter().filter(|other| !other.spec.config_only);
        let others =
            others.filter_map(|other| Some((other.spec.name.as_str(), Definition::of(&other.spec).ok()?.driver)));
        for (name, other) in others {
            check_beside(driver, name, &other)?;
        }
        Ok(())
    }

    fn configuration(&self, name: &Name) -> Result<&Network, String> {
        match self.by_name(name.as_str()) {
            Some(source) if source.spec.config_only => Ok(source),
            Some(_) => Err(format!("network {name} is no configuration: create it with config-only to take it as one")),
            None => {
                Err(format!("configuration network {name} not found on this host: create it here with config-only"))
            }
        }
    }

    /// What a network is on this host: one of its own, or one of the cluster that is each node's own. The latter
    /// may leave its configuration to the nodes.
    pub(super) fn definition(&self, network: &Network) -> Result<Definition, String> {
        let spec = &network.spec;
        let is_left_to_us = spec.subnets.is_empty() && spec.options.is_empty();
        let merged = match spec.config_from.as_ref().filter(|_| is_left_to_us) {
            Some(from) => merged(spec, &self.configuration(from)?.spec),
            None => (**spec).clone(),
        };
        let definition = Definition::of(&merged)?;
        let given = |is_ipv4: bool| network.subnets.iter().find(|s| s.range.address().is_ipv4() == is_ipv4).cloned();
        let subnet = given(true).or_else(|| definition.subnet.clone());
        let subnet6 = given(false).or_else(|| definition.subnet6.clone());
        Ok(Definition { subnet, subnet6, ..definition })
    }

    /// The subnets of the bridges.
    pub fn bridge_subnets(&self) -> impl Iterator<Item = Cidr> {
        let bridges = self.iter().filter(|network| network.spec.driver == NetworkDriver::Bridge);
        bridges.flat_map(|network| network.subnets.iter().map(|subnet| subnet.range))
    }
}

/// As asked for, if they are free; else the first free ones. What is on a link of the host's lies where the host's own
/// network does.
pub(super) fn subnets_of(definition: &Definition, id: NetworkId, facts: &HostFacts) -> Result<Subnets, String> {
    let is_bridge = matches!(definition.driver, LocalDriver::Bridge(_));
    let checked = |subnet: &Subnet| match overlap(subnet.range, &facts.taken).filter(|_| is_bridge) {
        Some(with) => Err(format!(
            "subnet {} overlaps {with}, which this host has a network in or a route to: choose another, or none",
            subnet.range
        )),
        None => Ok(subnet.clone()),
    };
    let four = || definition.subnet.as_ref().map_or_else(|| choose(&facts.pools, &facts.taken), checked);
    let six = || definition.subnet6.as_ref().map_or_else(|| choose6(id, &facts.taken), checked);
    let (four, six) = (definition.ipv4.then(four).transpose()?, definition.ipv6.then(six).transpose()?);
    Ok(Subnets { four, six })
}

/// The same for the same network, unless that is taken.
fn choose6(id: NetworkId, taken: &[Cidr]) -> Result<Subnet, String> {
    let range = choose_ipv6_subnet(&id.to_string(), taken).map_err(|error| error.to_string())?;
    let gateway = Ipam6::new(range).map_err(|error| error.to_string())?.gateway();
    Ok(whole(range, gateway))
}

fn choose(pools: &[Cidr], taken: &[Cidr]) -> Result<Subnet, String> {
    let range = choose_subnet(pools, taken).map_err(|error| error.to_string())?;
    let gateway = Ipam::new(range).map_err(|error| error.to_string())?.gateway();
    Ok(whole(range, gateway))
}

/// Encrypted are overlays alone: to what a host makes of a configuration that option says nothing.
fn merged(spec: &NetworkSpec, from: &NetworkSpec) -> NetworkSpec {
    let NetworkSpec { options, internal, ipv4, ipv6, mtu, subnets, .. } = from.clone();
    let internal = internal || spec.internal;
    NetworkSpec { options, internal, ipv4, ipv6, mtu, subnets, ..spec.clone() }
}

/// Whether this kernel and this host have what the driver needs.
fn check_driver(definition: &Definition, facts: &HostFacts) -> Result<(), String> {
    let (parent, kind) = match &definition.driver {
        LocalDriver::Bridge(bridge) => {
            return match bridge.name.as_ref().filter(|name| facts.interfaces.contains(*name)) {
                Some(name) => Err(format!(
                    "bridge name {name}: this host has an interface of that name, which rswarm has not made: choose \
                     another, or remove that one"
                )),
                None => Ok(()),
            };
        }
        LocalDriver::Macvlan { parent } => (parent, overlay::capabilities::MACVLAN),
        LocalDriver::Ipvlan { parent, .. } => (parent, overlay::capabilities::IPVLAN),
    };
    let lacks = |kind: &str| facts.lacking.get(kind).map_or(Ok(()), |advice| Err(format!("driver {kind}: {advice}")));
    lacks(kind)?;
    let ParentLink { interface, vlan } = parent;
    if facts.interfaces.contains(&parent.text()) {
        return Ok(());
    }
    if !facts.interfaces.contains(interface) {
        let known = Vec::from_iter(facts.interfaces.iter().map(String::as_str)).join(", ");
        return Err(format!("parent {}: this host has no interface {interface}; it has {known}", parent.text()));
    }
    if vlan.is_none() {
        return Ok(());
    }
    lacks(overlay::capabilities::VLAN).map_err(|why| format!("parent {}: {why}", parent.text()))
}

/// Whether a network of this driver can be beside another one.
pub(super) fn check_beside(driver: &LocalDriver, name: &str, other: &LocalDriver) -> Result<(), String> {
    if let (LocalDriver::Bridge(one), LocalDriver::Bridge(two)) = (driver, other)
        && let Some(bridge) = one.name.as_ref().filter(|_| one.name == two.name)
    {
        return Err(format!("bridge name {bridge}: network {name} has it: choose another"));
    }
    if !driver.excludes(other) {
        return Ok(());
    }
    let parent = driver.parent().map(ParentLink::text).unwrap_or_default();
    Err(format!(
        "parent {parent}: network {name} has {} on it, and an interface bears those of one kind and mode: choose another \
         parent, or a VLAN of it (parent={parent}.50)",
        other.describe()
    ))
}

/// The first IPv4 address, which a macvlan network of the cluster was given for the endpoint.
pub(in crate::engine) fn first_ipv4(addresses: &[IpAddr]) -> Option<std::net::Ipv4Addr> {
    addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    })
}

/// The same of IPv6.
pub(in crate::engine) fn first_ipv6(addresses: &[IpAddr]) -> Option<std::net::Ipv6Addr> {
    addresses.iter().find_map(|address| match address {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    })
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
