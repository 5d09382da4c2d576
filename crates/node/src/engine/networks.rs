//! The engine's networks for whoever asks from outside the agent: the API lists, makes and removes those of this
//! host, and gives single containers their places.

use std::{path::PathBuf, sync::Arc};

use overlay::EndpointId;
use types::{Network, NetworkDriver, NetworkId, NetworkSpec};

use super::{
    Engine, LocalNetworkView, NetworkError, NetworkErrorKind as Kind,
    container_id::task_of_container,
    events::{Event, EventKind},
    network::{AttachError, ContainerNetwork, ContainerPlace, PlaceIn, Wanted, no_container},
};

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
        self.announce_network("create", id.to_string(), &name, driver, None);
        Ok(id)
    }

    /// Tells what happened to a network of this host.
    fn announce_network(&self, action: &str, id: String, name: &str, driver: NetworkDriver, container: Option<&str>) {
        let kind = match driver {
            NetworkDriver::Bridge => "bridge",
            NetworkDriver::Macvlan => "macvlan",
            NetworkDriver::Overlay => "overlay",
            NetworkDriver::Ipvlan => "ipvlan",
            NetworkDriver::Host => "host",
            NetworkDriver::Null => "null",
        };
        let event = Event::new(EventKind::Network, action, id).with("name", name).with("type", kind);
        self.events().publish(match container {
            Some(container) => event.with("container", container),
            None => event,
        });
    }

    /// Of one of this host's networks: id, name and driver, for an event.
    fn network_facts(&self, place: PlaceIn) -> (String, String, NetworkDriver) {
        let found = match place {
            PlaceIn::Network(id) => {
                self.local_networks().iter().find_map(|view| view.network.clone().filter(|n| n.id == id))
            }
            PlaceIn::Bridge => None,
        };
        match found {
            Some(network) => (network.id.to_string(), network.spec.name.to_string(), network.spec.driver),
            None => ("bridge".to_owned(), "bridge".to_owned(), NetworkDriver::Bridge),
        }
    }

    /// Removes a network of this host alone that no container is in.
    ///
    /// # Errors
    /// When there is none, or it is in use.
    pub async fn remove_network(&self, id: NetworkId) -> Result<(), NetworkError> {
        let (text, name, driver) = self.network_facts(PlaceIn::Network(id));
        self.inner.network.remove(id).await?;
        self.announce_network("destroy", text, &name, driver, None);
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
        let bridge = places.iter().any(|place| place.network == PlaceIn::Bridge);
        let locals = places.into_iter().filter_map(|place: ContainerPlace| place.wanted(name, container)).collect();
        let hostname = container.get(..12).unwrap_or(container).to_owned();
        let wanted = Wanted { hostname, bridge, locals, ..Wanted::default() };
        let attached = self.inner.network.attach(id, wanted).await;
        match attached {
            Ok(attached) => Ok(Some(attached.namespace)),
            Err(AttachError::Failed(why)) => Err(NetworkError::new(Kind::Failed, why)),
            // None were asked for.
            Err(AttachError::Held(_)) => Err(NetworkError::new(Kind::Conflict, "a port of the host is in use")),
        }
    }

    /// Takes a single container's network away; none is fine.
    ///
    /// # Errors
    /// When the host could not do it.
    pub async fn detach_container(&self, container: &str) -> Result<(), NetworkError> {
        let detached = self.inner.network.detach(endpoint(container)?).await;
        detached.map_err(|why| NetworkError::new(Kind::Failed, why))
    }

    /// Gives a container that is there one more place.
    ///
    /// # Errors
    /// When there is no such container, it is a task's, or the place cannot be had; it is as before then.
    pub async fn connect(&self, container: &str, place: ContainerPlace) -> Result<(), NetworkError> {
        let id = self.single_container(container).await?;
        let (network, name, driver) = self.network_facts(place.network);
        self.inner.network.connect(id, place).await?;
        self.announce_network("connect", network, &name, driver, Some(container));
        Ok(())
    }

    /// Takes a place away from a container that is there.
    ///
    /// # Errors
    /// When there is no such container, it is a task's, or it has no such place.
    pub async fn disconnect(&self, container: &str, network: PlaceIn) -> Result<(), NetworkError> {
        let id = self.single_container(container).await?;
        let (text, name, driver) = self.network_facts(network);
        self.inner.network.disconnect(id, network).await?;
        self.announce_network("disconnect", text, &name, driver, Some(container));
        Ok(())
    }

    /// By full id or by a beginning of it that no other has. A task's container belongs to its service.
    async fn single_container(&self, text: &str) -> Result<EndpointId, NetworkError> {
        let known = self.containers().await.map_err(|error| NetworkError::new(Kind::Failed, error.to_string()))?;
        let task_name = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get("com.docker.swarm.task.name").is_some_and(|name| name == text)
        };
        let found: Vec<&str> = known
            .iter()
            .filter(|container| container.id.starts_with(text) || task_name(&container.labels))
            .map(|container| container.id.as_str())
            .collect();
        match found[..] {
            [] => endpoint(text),
            [one] if task_of_container(one).is_some() => Err(NetworkError::new(
                Kind::Forbidden,
                format!(
                    "container {text} is a task's, and its networks are its service's: use `service update \
                     --network-add` or `--network-rm`"
                ),
            )),
            [one] => endpoint(one),
            _ => Err(NetworkError::new(Kind::Invalid, format!("container {text}: {} ids begin with it", found.len()))),
        }
    }

    /// The namespace that `container:<id>` joins.
    async fn namespace_of(&self, other: &str) -> Result<Option<PathBuf>, NetworkError> {
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

fn endpoint(container: &str) -> Result<EndpointId, NetworkError> {
    let id = container.parse();
    id.map_err(|error: overlay::EndpointIdError| {
        NetworkError::new(Kind::NotFound, format!("No such container: {error}"))
    })
}
