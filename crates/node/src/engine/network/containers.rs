//! Single containers and their places in networks: what is asked for, and connecting and disconnecting one that is
//! there (parity E-17, N-21).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use overlay::{BridgePort, EndpointId, EndpointPlan, InterfacePlan, MacAddress, OverlayPort, plan::is_link_local};
use types::{AttachRequest, Attachment, ContainerAttachment, Network as NetworkObject, NetworkId, NodeId};

use super::{
    LocalWanted, Network, Owner, Publish, first_ipv4, first_ipv6, guests, interfaces,
    local::{NetworkError, NetworkErrorKind as Kind},
    owned::{self, Published, failed},
};
use crate::engine::{containers::spec::PlaceRequest, host_ports};

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
    pub asked: PlaceRequest,
    /// Names of its own for others, by which those are known; filled in by the engine.
    pub links: BTreeMap<String, String>,
    /// The container's host name, and that with its domain, which are names in its networks too; filled in by the engine.
    pub hosts: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceIn {
    /// The host's own bridge.
    Bridge,
    /// One of this host alone, or one of the cluster that each host has for itself.
    Network(NetworkId),
}

impl PlaceIn {
    /// Whose interface one has there.
    pub(in crate::engine) fn interface(self) -> interfaces::InterfaceOf {
        match self {
            Self::Bridge => None,
            Self::Network(network) => Some(network),
        }
    }
}

impl ContainerPlace {
    pub fn new(network: PlaceIn, asked: PlaceRequest) -> Self {
        Self { network, asked, links: BTreeMap::new(), hosts: Vec::new() }
    }

    /// What the owner of the plan is asked for; None for a place on the host's bridge.
    ///
    /// # Errors
    /// When what is asked for is no such thing.
    pub(in crate::engine) fn wanted(
        self,
        own_name: &str,
        container: &str,
    ) -> Result<Option<LocalWanted>, NetworkError> {
        let mac = self.mac()?;
        let PlaceIn::Network(network) = self.network else { return Ok(None) };
        let PlaceRequest { aliases, address, address6, link_local, priority, .. } = self.asked;
        if let Some(strange) = link_local.iter().find(|address| !is_link_local(address)) {
            let message = format!("invalid link-local IP address {strange}: it is not of 169.254.0.0/16 or fe80::/10");
            return Err(NetworkError::new(Kind::Invalid, message));
        }
        let short = container.get(..12).unwrap_or(container);
        let mut names = vec![own_name.to_ascii_lowercase()];
        names.extend(aliases.iter().map(|alias| alias.to_ascii_lowercase()));
        names.push(short.to_ascii_lowercase());
        names.extend(self.hosts.iter().map(|host| host.to_ascii_lowercase()));
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(Some(LocalWanted { network, address, address6, link_local, priority, names, mac }))
    }

    /// None: from the address.
    ///
    /// # Errors
    /// When it is none.
    pub(in crate::engine) fn mac(&self) -> Result<Option<MacAddress>, NetworkError> {
        let text = self.asked.mac.replace('-', ":");
        let good = |mac: &MacAddress| mac.bytes()[0] & 1 == 0;
        match text.parse::<MacAddress>().ok().filter(good) {
            Some(mac) => Ok(Some(mac)),
            None if text.is_empty() => Ok(None),
            None => Err(NetworkError::new(
                Kind::Invalid,
                format!("invalid MAC address {text:?}: write one of a single interface, 02:42:ac:11:00:02 for example"),
            )),
        }
    }

    /// On the host's bridge nobody chooses his address, and nobody is found by a name.
    pub(in crate::engine) fn check_bridge(&self) -> Result<(), NetworkError> {
        let PlaceRequest { address, address6, link_local, aliases, .. } = &self.asked;
        if !aliases.is_empty() {
            // Docker's own words
            let message = "invalid config for network bridge: invalid endpoint settings:\nnetwork-scoped alias is supported \
                           only for containers in user defined networks";
            return Err(NetworkError::new(Kind::Invalid, message));
        }
        if let Some(strange) = link_local.iter().find(|address| address.is_ipv6() || !is_link_local(address)) {
            let message = format!(
                "invalid link-local IP address {strange}: the host's bridge has no IPv6, and of IPv4 they are of \
                 169.254.0.0/16"
            );
            return Err(NetworkError::new(Kind::Invalid, message));
        }
        if address.is_none() && address6.is_none() {
            return Ok(());
        }
        // Docker's own words
        Err(NetworkError::new(Kind::Invalid, "user specified IP address is supported on user defined networks only"))
    }

    /// As managers are asked for them.
    pub(in crate::engine) fn addresses(&self) -> Vec<IpAddr> {
        let six = self.asked.address6.map(IpAddr::V6);
        self.asked.address.map(IpAddr::V4).into_iter().chain(six).collect()
    }

    /// With those that managers gave.
    pub(in crate::engine) fn with_addresses(mut self, given: &[IpAddr]) -> Self {
        self.asked.address = first_ipv4(given).or(self.asked.address);
        self.asked.address6 = first_ipv6(given).or(self.asked.address6);
        self
    }
}

impl Owner {
    /// Gives a container one more place; all that it has stays as it is, but for the ways of its ports.
    pub(super) async fn connect(
        &mut self,
        id: &EndpointId,
        place: ContainerPlace,
        given: Option<Vec<IpAddr>>,
        publish: Option<Publish>,
    ) -> Result<Published, NetworkError> {
        let before = self.plan.endpoints.get(id).cloned().ok_or_else(|| no_container(id))?;
        let mut next = before.clone();
        let special = interfaces::interface_of(&place.asked.options)?;
        interfaces::pin(&mut next);
        next.dns.links.extend(place.links.clone());
        let own_name = before.locals.first().and_then(|port| port.names.first()).unwrap_or(&before.hostname).clone();
        match place.network {
            PlaceIn::Bridge if before.bridge.is_some() => return Err(twice(id, "bridge")),
            PlaceIn::Bridge => {
                place.check_bridge()?;
                let mac = place.mac()?;
                let port = self.free_port(id).map_err(|why| NetworkError::new(Kind::Conflict, why))?;
                next.bridge = Some(BridgePort { mac: mac.unwrap_or(port.mac), ..port });
                next.bridge_priority = place.asked.priority;
                next.bridge_link_local = place.asked.link_local;
                interfaces::add(&mut next, None, special, None)?;
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
                        let place = place.with_addresses(given.as_deref().unwrap_or_default());
                        let wanted = place.wanted(&own_name, id.as_str())?.expect("a place in a network is one");
                        let port = self.local_port(id, &wanted).await;
                        next.locals.push(port.map_err(|why| NetworkError::new(Kind::Conflict, why))?);
                        next.priorities.extend((wanted.priority != 0).then_some((network, wanted.priority)));
                    }
                }
                interfaces::add(&mut next, Some(network), special, self.prefix_of(network).as_deref())?;
            }
        }
        let published = self.move_ports(id, &mut next, publish)?;
        self.replace(id, before, next).await.map(|()| published)
    }

    /// The ports follow where the endpoint's networks lead now, under the numbers that they have.
    fn move_ports(
        &self,
        id: &EndpointId,
        next: &mut EndpointPlan,
        publish: Option<Publish>,
    ) -> Result<Published, NetworkError> {
        let Some(publish) = publish else { return Ok(None) };
        if !publish.ports.is_empty() && self.plan.needs_bridge(next) {
            next.bridge = Some(self.free_port(id).map_err(failed)?);
            interfaces::add(next, None, InterfacePlan::default(), None)?;
        }
        let published = self.publish(id, next, &publish);
        published.map(Some).map_err(|conflict| failed(host_ports::refusal(&conflict, &publish.ports)))
    }

    /// Takes a place away. Ports that cannot be where they would lead then are published no longer.
    pub(super) async fn disconnect(
        &mut self,
        id: &EndpointId,
        network: PlaceIn,
        unlink: &[String],
        publish: Option<Publish>,
    ) -> Result<Published, NetworkError> {
        let before = self.plan.endpoints.get(id).cloned().ok_or_else(|| no_container(id))?;
        let mut next = before.clone();
        interfaces::pin(&mut next);
        next.dns.links.retain(|alias, _| !unlink.contains(alias));
        match network {
            PlaceIn::Bridge => {
                (next.bridge, next.bridge_priority) = (None, 0);
                next.bridge_link_local.clear();
                interfaces::forget(&mut next, None);
            }
            PlaceIn::Network(network) => {
                next.priorities.remove(&network);
                next.locals.retain(|port| port.network != network);
                next.overlays.retain(|port| port.network != network);
                interfaces::forget(&mut next, Some(network));
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
        let published = self.move_ports(id, &mut next, publish).unwrap_or_else(|error| {
            tracing::warn!(%error, container = %super::view::container(id), "a container's ports are published no longer");
            (next.ports, next.open4, next.open6) = (Vec::new(), Vec::new(), Vec::new());
            Some(Vec::new())
        });
        self.replace(id, before, next).await.map(|()| published)
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

    /// What interfaces in this network are called before their number, if it says so.
    pub(super) fn prefix_of(&self, network: NetworkId) -> Option<String> {
        let found = self.object(network)?;
        interfaces::prefix_of(&found.spec.options).ok()?.map(str::to_owned)
    }

    /// A network of this host, or one of the cluster.
    fn object(&self, network: NetworkId) -> Option<Arc<NetworkObject>> {
        let own = self.networks.get(network).cloned();
        own.or_else(|| self.of_cluster(|known| known.id == network))
    }

    fn name_of(&self, network: NetworkId) -> String {
        self.object(network).map_or_else(|| network.to_string(), |network| network.spec.name.to_string())
    }
}

impl Network {
    /// Gives a container that is there one more place, and tells how its ports are published then. None: those of a task
    /// stay as they are.
    pub(in crate::engine) async fn connect(
        &self,
        id: EndpointId,
        name: Option<String>,
        place: ContainerPlace,
        publish: Option<Publish>,
    ) -> Result<Published, NetworkError> {
        let network = match place.network {
            PlaceIn::Network(network) if self.gives_addresses(network) => network,
            _ => return self.connect_to(id, place, None, publish).await,
        };
        self.check_mac(network, &place)?;
        let there = guests::place(network, &id);
        if !self.guests.is_there(&there.1) {
            return Err(no_container(&id));
        }
        if self.guests.has(&there) {
            let name = self.of_cluster(network).map_or_else(|| network.to_string(), |n| n.spec.name.to_string());
            return Err(twice(&id, &name));
        }
        let name = name.or_else(|| self.guests.name_of(&there.1)).unwrap_or_else(|| there.1.clone());
        let wanted = request(network, &there.1, &name, &place.asked.aliases, place.addresses());
        let coming = self.guests.attach(wanted).await?;
        let connected = self.connect_to(id, place, Some(coming.addresses.clone()), publish).await;
        drop(coming);
        if connected.is_err() {
            self.give_back(&there).await;
        }
        connected
    }

    async fn connect_to(
        &self,
        id: EndpointId,
        place: ContainerPlace,
        given: Option<Vec<IpAddr>>,
        publish: Option<Publish>,
    ) -> Result<Published, NetworkError> {
        let place = Box::new(place);
        self.ask_local(|reply| owned::Request::Connect { id, place, given, publish, reply }).await
    }

    /// Takes a place away. A task's own places are its service's, and its ports stay as they are.
    pub(in crate::engine) async fn disconnect(
        &self,
        id: EndpointId,
        network: PlaceIn,
        unlink: Vec<String>,
        publish: Option<Publish>,
    ) -> Result<Published, NetworkError> {
        let there = match network {
            PlaceIn::Network(of) => Some(guests::place(of, &id)).filter(|there| self.guests.holds(there)),
            PlaceIn::Bridge => None,
        };
        let disconnect = |reply| owned::Request::Disconnect { id, network, unlink, publish, reply };
        let published = self.ask_local(disconnect).await?;
        if let Some(there) = there {
            self.give_back(&there).await;
        }
        Ok(published)
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
        place: &ContainerPlace,
    ) -> Result<guests::Coming<'_>, NetworkError> {
        self.check_mac(network, place)?;
        self.guests
            .attach(request(
                network,
                container,
                name,
                &[&place.asked.aliases[..], &place.hosts].concat(),
                place.addresses(),
            ))
            .await
    }

    /// In an overlay all hosts know everybody's MAC address by his IP address, and nobody has another.
    fn check_mac(&self, network: NetworkId, place: &ContainerPlace) -> Result<(), NetworkError> {
        let Some(overlay) = self.of_cluster(network).filter(|network| network.vni != 0) else { return Ok(()) };
        let Some(mac) = place.mac()? else { return Ok(()) };
        let message = format!(
            "network {}: MAC address {mac} cannot be had: in an overlay it is made of the IP address; leave it out, or choose \
             the address with --ip",
            overlay.spec.name
        );
        Err(NetworkError::new(Kind::Invalid, message))
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
    addresses: Vec<IpAddr>,
) -> AttachRequest {
    AttachRequest {
        node: NodeId::from_random(0),
        network,
        container: container.to_owned(),
        name: name.to_owned(),
        aliases: aliases.to_vec(),
        addresses,
    }
}

/// `None` without an IPv4 address, which the value does not give.
pub(in crate::engine) fn overlay_port(network: NetworkId, addresses: &[IpAddr]) -> Option<OverlayPort> {
    let first = first_ipv4(addresses)?;
    Some(OverlayPort { network, addresses: addresses.to_vec(), mac: MacAddress::for_ipv4(first) })
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
