//! What an endpoint can know by name: the tables of its networks. Plain data, shared, swapped whole.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use types::Cidr;

use crate::{LocalNetworkPlan, LocalPort, OverlayPlan};

/// The names of one network. All endpoints in it share one; it never changes, a new one takes its place.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// Of the network, lower case: behind a name of its own and a dot it means that one in this network.
    pub name: String,
    /// Lower case, without the final dot.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    pub reverse: BTreeMap<IpAddr, String>,
    /// Every address in here is the network's own business, named or not.
    pub subnets: Vec<Cidr>,
}

/// All that the answers to one endpoint are made of.
#[derive(Debug, Default)]
pub struct View {
    /// Of the endpoint's networks, in its order: the first that knows a name answers.
    pub zones: Vec<Arc<Zone>>,
    /// The endpoint's own name and addresses, asked last.
    pub own: Option<(String, Vec<IpAddr>)>,
    /// What it calls others.
    pub links: BTreeMap<String, String>,
    pub elsewhere: Elsewhere,
}

/// Who is asked what no network of the endpoint knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// Nobody. An endpoint without a way to the world must not get one through questions (CVE-2024-29018 in Docker).
    #[default]
    Nobody,
    /// The host's resolvers, as its `resolv.conf` names them at that moment.
    Host,
    Servers(Arc<[SocketAddr]>),
}

impl Zone {
    pub fn new(overlay: &OverlayPlan) -> Self {
        let OverlayPlan { name, names, reverse, subnets, .. } = overlay;
        let name = name.to_ascii_lowercase();
        Self { name, names: names.clone(), reverse: reverse.clone(), subnets: subnets.clone() }
    }

    /// Of a network of this host alone: its endpoints by the names that they have in it.
    pub fn of_local(network: &LocalNetworkPlan, ports: &[&LocalPort]) -> Self {
        let subnets = network.ranges().into_iter().map(|(subnet, _)| subnet.network()).collect();
        let mut zone = Self { name: network.name.to_ascii_lowercase(), subnets, ..Self::default() };
        for port in ports {
            let addresses = port.addresses();
            for name in &port.names {
                zone.names.entry(name.clone()).or_default().extend(&addresses);
            }
            let own_name = |address| Some((address, port.names.first()?.clone()));
            zone.reverse.extend(addresses.into_iter().filter_map(own_name));
        }
        zone
    }

    /// Whether it says exactly what the plan says.
    pub fn is_of(&self, overlay: &OverlayPlan) -> bool {
        self.name == overlay.name.to_ascii_lowercase()
            && self.names == overlay.names
            && self.reverse == overlay.reverse
            && self.subnets == overlay.subnets
    }

    /// The addresses of `db.shop`, where this is the network shop and knows a db.
    fn qualified(&self, name: &str) -> Option<&Vec<IpAddr>> {
        let own = name.strip_suffix(self.name.as_str())?.strip_suffix('.')?;
        self.names.get(own)
    }
}

impl View {
    /// The addresses of a lower-case name; an empty list when the name is known but has none.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        let name = self.links.get(name).map_or(name, String::as_str);
        let in_zones = self.zones.iter().find_map(|zone| zone.names.get(name));
        let own = || self.own.as_ref().filter(|(own, _)| own == name).map(|(_, addresses)| addresses);
        let qualified = || self.zones.iter().find_map(|zone| zone.qualified(name));
        in_zones.or_else(qualified).or_else(own).map(Vec::as_slice)
    }

    /// The name of an address.
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        let in_zones = self.zones.iter().find_map(|zone| zone.reverse.get(&address).map(String::as_str));
        let own = || self.own.as_ref().filter(|(_, own)| own.contains(&address)).map(|(name, _)| name.as_str());
        in_zones.or_else(own)
    }

    /// Whether the address belongs to one of the networks, so that nobody else can know its name.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.zones.iter().flat_map(|zone| &zone.subnets).any(|subnet| subnet.contains(address))
    }
}
