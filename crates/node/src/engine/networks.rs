//! The engine's networks for whoever asks from outside the agent: the API lists, makes and removes those of this
//! host, and gives single containers their places.

use std::{path::PathBuf, sync::Arc};

use overlay::EndpointId;
use types::{ContainerAttachment, Network, NetworkDriver, NetworkId, NetworkSpec, PortConfig};

use super::{
    Engine, LocalNetworkView, NetworkError, NetworkErrorKind as Kind,
    container::name_of_labels,
    container_id::task_of_container,
    events::{Event, EventKind},
    files::use_resolver,
    network::{
        AttachError, Coming, ContainerNetwork, ContainerPlace, PlaceIn, Publish, Uplink, Wanted, host_network_id,
        interface_of, no_container, overlay_port, predefined_network_id,
    },
};

/// A container that has no record here, a task's.
struct Unrecorded {
    endpoint: EndpointId,
    id: String,
    name: Option<String>,
}

impl Engine {
    /// The networks of this host alone with the endpoints in each; first the host's own bridge.
    pub fn local_networks(&self) -> Arc<Vec<LocalNetworkView>> {
        self.inner.network.locals()
    }

    /// The cluster's networks that containers of this host may be in, as managers told them last: with no manager
    /// in reach too (P30).
    pub fn cluster_networks(&self) -> Vec<Arc<Network>> {
        self.inner.network.all_of_cluster()
    }

    /// Places in the cluster's networks that this host's single containers hold, as managers told them last.
    pub fn cluster_places(&self) -> Vec<ContainerAttachment> {
        self.inner.network.cluster_places()
    }

    /// Makes a network of this host alone; a configuration if the spec says so.
    ///
    /// # Errors
    /// When the name is taken, or in a sentence what the spec, the host or the kernel does not allow. Nothing is
    /// left then.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<NetworkId, NetworkError> {
        let random = || u128::from(crate::clock::random());
        let id = NetworkId::from_random(random() << 64 | random());
        let (name, driver) = (spec.name.to_string(), spec.driver);
        let id = self.inner.network.create(spec, id).await?;
        self.events().publish(event_of("create", host_network_id(id), &name, driver));
        Ok(id)
    }

    /// An event of a network that containers can be in; `None` of one that this host does not know.
    pub(super) fn network_event(&self, action: &str, place: PlaceIn) -> Option<Event> {
        let PlaceIn::Network(id) = place else {
            return Some(predefined_event(action, "bridge", NetworkDriver::Bridge));
        };
        let network = self.network_of(id)?;
        let is_host_only = self.local_networks().iter().any(|view| view.network.as_ref().is_some_and(|n| n.id == id));
        let shown = if is_host_only { host_network_id(id) } else { id.to_string() };
        Some(event_of(action, shown, network.spec.name.as_str(), network.spec.driver))
    }

    /// One of this host's networks, or of the cluster's.
    pub(super) fn network_of(&self, id: NetworkId) -> Option<Arc<Network>> {
        let locals = self.local_networks();
        let of_host = locals.iter().filter_map(|view| view.network.clone());
        of_host.chain(self.cluster_networks()).find(|network| network.id == id)
    }

    /// Removes a network of this host alone that no container is in.
    ///
    /// # Errors
    /// When there is none, or it is in use.
    pub async fn remove_network(&self, id: NetworkId) -> Result<(), NetworkError> {
        let event = self.network_event("destroy", PlaceIn::Network(id));
        self.inner.network.remove(id).await?;
        self.tell_all(event);
        Ok(())
    }

    /// Gives a single container its network; the same again gives the same. `None` is the host's own namespace.
    ///
    /// # Errors
    /// In a sentence, what of it cannot be had.
    pub async fn attach_container(
        &self,
        container: &str,
        name: &str,
        network: ContainerNetwork,
    ) -> Result<Option<PathBuf>, NetworkError> {
        let id = endpoint(container)?;
        let places = match network {
            ContainerNetwork::Host => return Ok(None),
            ContainerNetwork::Container(other) => return self.namespace_of(&other).await,
            ContainerNetwork::None => Vec::new(),
            ContainerNetwork::Places(places) => places,
        };
        let network = &self.inner.network;
        let hostname = container.get(..12).unwrap_or(container).to_owned();
        let mut wanted = Wanted { hostname, ..Wanted::default() };
        let (mut coming, mut spread) = (Vec::new(), Vec::new());
        for place in places {
            wanted.interfaces.insert(place.network.interface(), interface_of(&place.asked.options)?);
            match place.network {
                PlaceIn::Bridge => wanted.bridge = true,
                PlaceIn::Network(of) if network.gives_addresses(of) => {
                    let (given, is_overlay) = self.ask_for(&mut wanted, container, name, of, place).await?;
                    spread.extend(is_overlay.then_some(of));
                    coming.push(given);
                }
                PlaceIn::Network(_) => wanted.locals.extend(place.wanted(name, container)?),
            }
        }
        wanted.bridge |= wanted.locals.is_empty() && network.leaves_by_bridge(&spread);
        let attached = network.attach(id, wanted).await;
        drop(coming);
        match attached {
            Ok(attached) => Ok(Some(attached.namespace)),
            Err(AttachError::Failed(why)) => Err(NetworkError::new(Kind::Failed, why)),
            // None were asked for.
            Err(AttachError::Held(_)) => Err(NetworkError::new(Kind::Conflict, "a port of the host is in use")),
        }
    }

    /// A place whose address is the cluster's to give: asked for and noted, with whether it is in an overlay. Nobody gives
    /// it back before the answer is dropped; after that it is given back if no endpoint has it.
    pub(super) async fn ask_for(
        &self,
        wanted: &mut Wanted,
        container: &str,
        name: &str,
        of: NetworkId,
        place: ContainerPlace,
    ) -> Result<(Coming<'_>, bool), NetworkError> {
        let network = &self.inner.network;
        let given = network.attach_single(container, of, name, &place).await?;
        let is_overlay = network.of_cluster(of).is_some_and(|of| of.vni != 0);
        if is_overlay {
            wanted.overlays.extend(overlay_port(of, &given.addresses));
        } else {
            wanted.locals.extend(place.with_addresses(&given.addresses).wanted(name, container)?);
        }
        Ok((given, is_overlay))
    }

    /// Takes a single container's network away; none is fine.
    ///
    /// # Errors
    /// When the host could not do it.
    pub async fn detach_container(&self, container: &str) -> Result<(), NetworkError> {
        let detached = self.inner.network.detach(endpoint(container)?).await;
        detached.map_err(|why| NetworkError::new(Kind::Failed, why))?;
        self.inner.network.detach_single(container).await;
        Ok(())
    }

    /// Gives a container that is there one more place.
    ///
    /// # Errors
    /// When there is no such container, it is a task's, or the place cannot be had; it is as before then.
    pub async fn connect(&self, container: &str, mut place: ContainerPlace) -> Result<(), NetworkError> {
        place.links = self.names_of(&place.asked.links).await;
        if let Some(single) = self.recorded(container).await? {
            return self.connect_single(&single, place).await;
        }
        let network = place.network;
        let is_clusters = self.is_clusters(network);
        let other = self.unrecorded(container, |_| is_clusters).await?;
        self.connect_endpoint(other.endpoint, other.name, place, None).await?;
        self.tell_all(self.place_event("connect", &other.id, network));
        Ok(())
    }

    /// Of a container that runs; tells how its ports are published then. Its resolver learns of names if there were none
    /// before.
    pub(super) async fn connect_endpoint(
        &self,
        id: EndpointId,
        name: Option<String>,
        place: ContainerPlace,
        publish: Option<Publish>,
    ) -> Result<Option<Vec<PortConfig>>, NetworkError> {
        let directory = self.config().run_dir.join("etc").join(id.as_str());
        let has_names = place.network != PlaceIn::Bridge;
        let published = self.inner.network.connect(id, name, place, publish).await?;
        if has_names {
            let written = tokio::task::spawn_blocking(move || use_resolver(&directory)).await;
            if let Err(error) = written.map_err(std::io::Error::other).and_then(|written| written) {
                tracing::warn!(%error, "names of its new network are not known in a container");
            }
        }
        Ok(published)
    }

    /// Takes a place away from a container that is there.
    ///
    /// # Errors
    /// When there is no such container, it is a task's, or it has no such place.
    pub async fn disconnect(&self, container: &str, network: PlaceIn) -> Result<(), NetworkError> {
        if let Some(single) = self.recorded(container).await? {
            return self.disconnect_single(&single, network).await;
        }
        // of a task's places those that were connected by hand
        let may_go = |id: &str| matches!(network, PlaceIn::Network(of) if self.inner.network.holds(of, id));
        let other = self.unrecorded(container, may_go).await?;
        // the host may not know the network any more when nobody is in it
        let event = self.place_event("disconnect", &other.id, network);
        self.inner.network.disconnect(other.endpoint, network, Vec::new(), None).await?;
        self.tell_all(event);
        Ok(())
    }

    /// Takes a container out of `none`: it is in no network then, and may be connected to any.
    ///
    /// # Errors
    /// When there is no such container, it is a task's, or it is not there.
    pub async fn leave_none(&self, container: &str) -> Result<(), NetworkError> {
        match self.recorded(container).await? {
            Some(single) => self.leave_none_single(&single).await,
            None => {
                let other = self.unrecorded(container, |_| false).await?;
                Err(not_in_none(&other.id))
            }
        }
    }

    /// The session with a manager, through which places in networks of the cluster are asked for.
    pub(crate) fn set_uplink(&self, uplink: Option<Uplink>) {
        self.inner.network.set_uplink(uplink);
    }

    fn is_clusters(&self, network: PlaceIn) -> bool {
        matches!(network, PlaceIn::Network(of) if self.inner.network.gives_addresses(of))
    }

    /// By full id or by a beginning of it that no other has. A task's container belongs to its service, but for what
    /// `of_task` allows to be done by hand.
    async fn unrecorded(&self, text: &str, of_task: impl Fn(&str) -> bool) -> Result<Unrecorded, NetworkError> {
        let known = self.containers().await.map_err(|error| NetworkError::new(Kind::Failed, error.to_string()))?;
        let is_named = |container: &&runtime::ContainerState| {
            container.id.starts_with(text) || name_of_labels(&container.labels).is_some_and(|name| name == text)
        };
        let found: Vec<_> = known.iter().filter(is_named).collect();
        match found[..] {
            [] => Ok(Unrecorded { endpoint: endpoint(text)?, id: text.to_owned(), name: None }),
            [one] => match task_of_container(&one.id) {
                Some(task) if of_task(&one.id) => Ok(Unrecorded {
                    endpoint: EndpointId::from(task),
                    id: one.id.clone(),
                    name: one.labels.get("com.docker.swarm.task.name").cloned(),
                }),
                Some(_) => Err(NetworkError::new(
                    Kind::Forbidden,
                    format!(
                        "container {text} is a task's, and its networks are its service's: use `service update \
                         --network-add` or `--network-rm`"
                    ),
                )),
                None => Ok(Unrecorded { endpoint: endpoint(&one.id)?, id: one.id.clone(), name: None }),
            },
            _ => Err(NetworkError::new(Kind::Invalid, format!("container {text}: {} ids begin with it", found.len()))),
        }
    }

    /// The namespace that `container:<id>` joins.
    pub(super) async fn namespace_of(&self, other: &str) -> Result<Option<PathBuf>, NetworkError> {
        let id = match task_of_container(other) {
            Some(task) => EndpointId::from(task),
            None => endpoint(other)?,
        };
        if let Some(namespace) = self.inner.network.namespace(id.clone()).await? {
            return Ok(Some(namespace));
        }
        let known = self.containers().await.map_err(|error| NetworkError::new(Kind::Failed, error.to_string()))?;
        match known.iter().any(|container| container.id == other) {
            // It has none of its own: it is in the host's.
            true => Ok(None),
            false => Err(no_container(&id)),
        }
    }
}

/// An event of one of the networks that every host has.
pub(super) fn predefined_event(action: &str, name: &str, driver: NetworkDriver) -> Event {
    event_of(action, predefined_network_id(name), name, driver)
}

pub(super) fn not_in_none(container: &str) -> NetworkError {
    NetworkError::new(Kind::Forbidden, format!("container {container} is not connected to network none"))
}

fn event_of(action: &str, id: String, name: &str, driver: NetworkDriver) -> Event {
    let kind = match driver {
        NetworkDriver::Bridge => "bridge",
        NetworkDriver::Macvlan => "macvlan",
        NetworkDriver::Overlay => "overlay",
        NetworkDriver::Ipvlan => "ipvlan",
        NetworkDriver::Host => "host",
        NetworkDriver::Null => "null",
    };
    Event::new(EventKind::Network, action, id).with("name", name).with("type", kind)
}

fn endpoint(container: &str) -> Result<EndpointId, NetworkError> {
    let id = container.parse();
    id.map_err(|error: overlay::EndpointIdError| {
        NetworkError::new(Kind::NotFound, format!("No such container: {error}"))
    })
}
