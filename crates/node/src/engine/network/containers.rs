//! Single containers and their places in networks: what is asked for, and connecting and disconnecting one that is
//! there (parity E-17, N-21).

use std::net::{IpAddr, Ipv4Addr};

use overlay::{EndpointId, EndpointPlan, MacAddress, OverlayPort};
use types::{AttachRequest, Attachment, ContainerAttachment, NetworkId, NodeId};

use super::{
    LocalWanted, Network, Owner, first_ipv4, guests,
    local::{NetworkError, NetworkErrorKind as Kind},
    owned::failed,
};

/// Whose network a single container is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerNetwork {
    /// A loopback and nothing else.
    None,
    /// The host's own.
    Host,
    /// That of another container, by its id.
    Container(String),
    /// One of its own, with these places.
    Places(Vec<ContainerPlace>),
}

/// A place that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPlace {
    pub network: PlaceIn,
    /// Further names in this network.
    pub aliases: Vec<String>,
    /// None: any free one.
    pub address: Option<Ipv4Addr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceIn {
    /// The host's own bridge.
    Bridge,
    /// One of this host alone, or one of the cluster that each host has for itself.
    Network(NetworkId),
}

impl ContainerPlace {
    /// What the owner of the plan is asked for; None for a place on the host's bridge.
    pub(in crate::engine) fn wanted(self, own_name: &str, container: &str) -> Option<LocalWanted> {
        let PlaceIn::Network(network) = self.network else { return None };
        let short = container.get(..12).unwrap_or(container);
        let mut names = vec![own_name.to_ascii_lowercase()];
        names.extend(self.aliases.iter().map(|alias| alias.to_ascii_lowercase()));
        names.push(short.to_ascii_lowercase());
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Some(LocalWanted { network, address: self.address, names, mac: None })
    }
}

impl Owner {
    /// Gives a container one more place; all that it has stays as it is.
    pub(super) async fn connect(
        &mut self,
        id: &EndpointId,
        place: ContainerPlace,
        given: Option<Vec<IpAddr>>,
    ) -> Result<(), NetworkError> {
        let before = self.plan.endpoints.get(id).cloned().ok_or_else(|| no_container(id))?;
        let mut next = before.clone();
        let number = pin(&mut next);
        let own_name = before.locals.first().and_then(|port| port.names.first()).unwrap_or(&before.hostname).clone();
        match place.network {
            PlaceIn::Bridge if before.bridge.is_some() => return Err(twice(id, "bridge")),
            PlaceIn::Bridge => {
                next.bridge = Some(self.free_port(id).map_err(|why| NetworkError::new(Kind::Conflict, why))?);
                next.bridge_interface = number;
            }
            PlaceIn::Network(network) => {
                let has_overlay = before.overlays.iter().any(|port| port.network == network);
                if has_overlay || before.locals.iter().any(|port| port.network == network) {
                    return Err(twice(id, &self.name_of(network)));
                }
                let is_overlay = self.of_cluster(|known| known.id == network).is_some_and(|known| known.vni != 0);
                match given {
                    Some(addresses) if is_overlay => next.overlays.extend(overlay_port(network, &addresses)),
                    given => {
                        let address = given.as_deref().and_then(first_ipv4).or(place.address);
                        let place = ContainerPlace { address, ..place };
                        let wanted = place.wanted(&own_name, id.as_str()).expect("a place in a network is one");
                        let port = self.local_port(id, &wanted).await;
                        next.locals.push(port.map_err(|why| NetworkError::new(Kind::Conflict, why))?);
                    }
                }
                next.interfaces.insert(network, number);
            }
        }
        self.replace(id, before, next).await
    }

    /// Takes a place away.
    pub(super) async fn disconnect(&mut self, id: &EndpointId, network: PlaceIn) -> Result<(), NetworkError> {
        let before = self.plan.endpoints.get(id).cloned().ok_or_else(|| no_container(id))?;
        let mut next = before.clone();
        pin(&mut next);
        match network {
            PlaceIn::Bridge => next.bridge = None,
            PlaceIn::Network(network) => {
                next.locals.retain(|port| port.network != network);
                next.overlays.retain(|port| port.network != network);
                next.interfaces.remove(&network);
            }
        }
        let places = |endpoint: &EndpointPlan| (endpoint.bridge, endpoint.locals.len(), endpoint.overlays.len());
        if places(&next) == places(&before) {
            let name = match network {
                PlaceIn::Bridge => "bridge".to_owned(),
                PlaceIn::Network(network) => self.name_of(network),
            };
            let message = format!("container {} is not connected to network {name}", super::view::container(id));
            return Err(NetworkError::new(Kind::Forbidden, message));
        }
        self.replace(id, before, next).await
    }

    /// All or nothing.
    pub(super) async fn replace(
        &mut self,
        id: &EndpointId,
        before: EndpointPlan,
        next: EndpointPlan,
    ) -> Result<(), NetworkError> {
        self.plan.endpoints.insert(id.clone(), next);
        self.follow_cluster().await;
        super::owned::follow(&mut self.plan, &self.networks);
        let Err(error) = self.apply_for(id).await else {
            self.show();
            return Ok(());
        };
        self.plan.endpoints.insert(id.clone(), before);
        self.follow_cluster().await;
        super::owned::follow(&mut self.plan, &self.networks);
        if let Err(second) = self.apply_for(id).await {
            return Err(failed(format!("{error}; and what was there before could not be restored: {second}")));
        }
        Err(error)
    }

    fn name_of(&self, network: NetworkId) -> String {
        let own = self.networks.get(network).cloned();
        let found = own.or_else(|| self.of_cluster(|known| known.id == network));
        found.map_or_else(|| network.to_string(), |network| network.spec.name.to_string())
    }
}

impl Network {
    /// Gives a container that is there one more place.
    pub(in crate::engine) async fn connect(
        &self,
        id: EndpointId,
        name: Option<String>,
        place: ContainerPlace,
    ) -> Result<(), NetworkError> {
        let PlaceIn::Network(network) = place.network else { return self.connect_to(id, place, None).await };
        if !self.gives_addresses(network) {
            return self.connect_to(id, place, None).await;
        }
        let there = guests::place(network, &id);
        if !self.guests.is_there(&there.1) {
            return Err(no_container(&id));
        }
        if self.guests.has(&there) {
            let name = self.of_cluster(network).map_or_else(|| network.to_string(), |n| n.spec.name.to_string());
            return Err(twice(&id, &name));
        }
        let name = name.or_else(|| self.guests.name_of(&there.1)).unwrap_or_else(|| there.1.clone());
        let address = place.address.map(IpAddr::V4);
        let coming = self.guests.attach(request(network, &there.1, &name, &place.aliases, address)).await?;
        let connected = self.connect_to(id, place, Some(coming.addresses.clone())).await;
        drop(coming);
        if connected.is_err() {
            self.give_back(&there).await;
        }
        connected
    }

    /// Takes a place away. A task's own places are its service's.
    pub(in crate::engine) async fn disconnect(&self, id: EndpointId, network: PlaceIn) -> Result<(), NetworkError> {
        let PlaceIn::Network(of) = network else { return self.disconnect_from(id, network).await };
        let there = guests::place(of, &id);
        let is_held = self.guests.holds(&there);
        self.disconnect_from(id, network).await?;
        if is_held {
            self.give_back(&there).await;
        }
        Ok(())
    }

    /// Whether a single container's address in this network is the cluster's to give.
    pub(in crate::engine) fn gives_addresses(&self, network: NetworkId) -> bool {
        self.of_cluster(network).is_some_and(|network| !network.subnets.is_empty())
    }

    /// Whether the managers hold a place in this network for a single container.
    pub(in crate::engine) fn holds(&self, network: NetworkId, container: &str) -> bool {
        self.guests.holds(&(network, container.to_owned()))
    }

    pub(in crate::engine) fn cluster_places(&self) -> Vec<ContainerAttachment> {
        self.guests.all()
    }

    pub(in crate::engine) fn set_uplink(&self, uplink: Option<guests::Uplink>) {
        self.guests.set_uplink(uplink);
    }

    /// Asks the managers for a place for a single container that is about to start; what it asked for already it
    /// gets again. The place is its own once an endpoint has it, and until the answer is dropped.
    pub(in crate::engine) async fn attach_single(
        &self,
        container: &str,
        network: NetworkId,
        name: &str,
        aliases: &[String],
        address: Option<IpAddr>,
    ) -> Result<guests::Coming<'_>, NetworkError> {
        self.guests.attach(request(network, container, name, aliases, address)).await
    }

    /// Gives back all that the managers hold for a single container.
    pub(in crate::engine) async fn detach_single(&self, container: &str) {
        for network in self.guests.of_container(container) {
            self.give_back(&(network, container.to_owned())).await;
        }
    }

    /// What cannot be given back now is given back later.
    async fn give_back(&self, place: &guests::Place) {
        if let Err(error) = self.guests.detach(place).await {
            tracing::info!(%error, container = place.1, "a place in a network is given back later");
        }
    }

    /// What the first of these networks of the cluster is to a container that has no other: whether it needs the
    /// host's bridge as its way out.
    pub(in crate::engine) fn leaves_by_bridge(&self, networks: &[NetworkId]) -> bool {
        let place = |network: &NetworkId| Attachment { network: *network, addresses: Vec::new(), aliases: Vec::new() };
        let places: Vec<Attachment> = networks.iter().map(place).collect();
        !places.is_empty() && self.need_way_out(&places)
    }
}

/// The node is filled in where the request is sent.
fn request(
    network: NetworkId,
    container: &str,
    name: &str,
    aliases: &[String],
    address: Option<IpAddr>,
) -> AttachRequest {
    AttachRequest {
        node: NodeId::from_random(0),
        network,
        container: container.to_owned(),
        name: name.to_owned(),
        aliases: aliases.to_vec(),
        addresses: address.into_iter().collect(),
    }
}

/// `None` without an IPv4 address, which the value does not give.
pub(in crate::engine) fn overlay_port(network: NetworkId, addresses: &[IpAddr]) -> Option<OverlayPort> {
    let first = first_ipv4(addresses)?;
    Some(OverlayPort { network, addresses: addresses.to_vec(), mac: MacAddress::for_ipv4(first) })
}

/// Notes the number of each interface, so that none changes its name when others come and go; gives a free one.
fn pin(endpoint: &mut EndpointPlan) -> u32 {
    let on_bridge = u32::from(endpoint.bridge.is_some());
    let overlays = endpoint.overlays.iter().map(|port| port.network);
    let networks: Vec<NetworkId> = overlays.chain(endpoint.locals.iter().map(|port| port.network)).collect();
    for (network, position) in networks.into_iter().zip(on_bridge..) {
        endpoint.interfaces.entry(network).or_insert(position);
    }
    let is_taken = |number: u32| {
        (endpoint.bridge.is_some() && endpoint.bridge_interface == number)
            || endpoint.interfaces.values().any(|taken| *taken == number)
    };
    (0..).find(|number| !is_taken(*number)).expect("there are more numbers than interfaces")
}

pub(in crate::engine) fn no_container(id: &EndpointId) -> NetworkError {
    NetworkError::new(Kind::NotFound, format!("No such container: {id}"))
}

fn twice(id: &EndpointId, network: &str) -> NetworkError {
    let container = super::view::container(id);
    let message =
        format!("container {container} is in network {network} already: disconnect it first to change its place");
    NetworkError::new(Kind::Forbidden, message)
}

#[cfg(test)]
mod tests {
    use overlay::{BridgePort, LocalPort, MacAddress};

    use super::*;

    /// N-21: numbers stay with their networks, and the least free one is given.
    #[test]
    fn n21_interfaces_keep_their_numbers() {
        let port = |number: u8| {
            let address = Ipv4Addr::new(10, number, 0, 2);
            let network = NetworkId::from_random(number.into());
            LocalPort { network, address, mac: MacAddress::for_ipv4(address), names: Vec::new() }
        };
        let address = Ipv4Addr::new(172, 17, 0, 2);
        let bridge = Some(BridgePort { address, mac: MacAddress::for_ipv4(address) });
        let mut endpoint = EndpointPlan { bridge, locals: vec![port(1), port(2)], ..EndpointPlan::default() };
        assert_eq!(pin(&mut endpoint), 3);
        let gone = endpoint.locals.remove(0);
        endpoint.interfaces.remove(&gone.network);
        assert_eq!(pin(&mut endpoint), 1, "the one that went");
        assert_eq!(endpoint.interfaces[&NetworkId::from_random(2)], 2, "the other keeps its own");
        endpoint.bridge = None;
        assert_eq!(pin(&mut endpoint), 0);
    }
}
