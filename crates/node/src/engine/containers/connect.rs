//! Connecting and disconnecting a container with a record: at once if it runs, and with each later start (N-21, E-35).

use std::sync::Arc;

use types::{NetworkDriver, PortConfig};

use super::{
    ContainerErrorKind, Engine, Meant, Phase, Record, Single,
    spec::{NetworkRequest, PlaceRequest},
};
use crate::engine::{
    network::{
        ContainerPlace, NetworkError, NetworkErrorKind as Kind, PlaceIn, Publish, check_addresses, interface_of,
    },
    networks::{not_in_none, predefined_event},
};

impl Engine {
    /// The single container that is meant, if it is one with a record.
    pub(in crate::engine) async fn recorded(&self, text: &str) -> Result<Option<Arc<Single>>, NetworkError> {
        match self.meant(text).await {
            Ok(Meant::Single(single)) => Ok(Some(single)),
            Ok(Meant::Task(_)) => Ok(None),
            Err(error) if error.kind == ContainerErrorKind::NotFound => Ok(None),
            Err(error) => Err(NetworkError::new(Kind::Invalid, error.message)),
        }
    }

    pub(in crate::engine) async fn connect_single(
        &self,
        single: &Single,
        place: ContainerPlace,
    ) -> Result<(), NetworkError> {
        let _turn = single.turn.lock().await;
        let record = single.record();
        let mut places = own_places(&record.spec.network, &record.name)?;
        let network = self.name_in(place.network);
        let known = places.iter().position(|known| self.is_same(known, place.network));
        if known.is_some() && record.state.phase == Phase::Running {
            let name = &record.name;
            let message = format!(
                "endpoint with name {name} already exists in network {network}: container {name} is already attached to \
                 network {network}; disconnect it first"
            );
            return Err(NetworkError::new(Kind::Forbidden, message));
        }
        match place.network {
            PlaceIn::Bridge => place.check_bridge()?,
            PlaceIn::Network(of) => {
                self.network_of(of).map_or(Ok(()), |network| check_addresses(&network, &place.asked))?;
            }
        }
        interface_of(&place.asked.options)?;
        let mut place = place;
        place.hosts = record.host_names();
        place.asked.network.clone_from(&network);
        let (request, joined) = (place.asked.clone(), place.network);
        // what does not run has no place yet: it is asked for anew
        match known {
            Some(at) => places[at] = request,
            None => places.push(request),
        }
        let is_running = record.state.phase == Phase::Running;
        let mut published = None;
        if is_running {
            let id = Self::endpoint_of(single)?;
            let publish = self.publish_in(&record, &places).await?;
            published = self.connect_endpoint(id, Some(record.name.clone()), place, Some(publish)).await?;
        }
        self.is_in(single, places, published);
        if is_running {
            self.tell_all(self.place_event("connect", &record.id, joined));
        }
        Ok(())
    }

    pub(in crate::engine) async fn disconnect_single(
        &self,
        single: &Single,
        network: PlaceIn,
    ) -> Result<(), NetworkError> {
        let _turn = single.turn.lock().await;
        let record = single.record();
        let mut places = own_places(&record.spec.network, &record.name)?;
        let Some(at) = places.iter().position(|known| self.is_same(known, network)) else {
            let message = format!("container {} is not connected to network {}", record.id, self.name_in(network));
            return Err(NetworkError::new(Kind::Forbidden, message));
        };
        let is_running = record.state.phase == Phase::Running;
        // the host may not know the network any more when nobody is in it
        let event = self.place_event("disconnect", &record.id, network).filter(|_| is_running);
        let left = places.remove(at);
        let mut published = None;
        if is_running {
            let id = Self::endpoint_of(single)?;
            let unlink = left.links.iter().map(|(_, alias)| alias.to_ascii_lowercase()).collect();
            let publish = self.publish_in(&record, &places).await?;
            published = self.inner.network.disconnect(id, network, unlink, Some(publish)).await?;
        }
        self.is_in(single, places, published);
        self.tell_all(event);
        Ok(())
    }

    /// Nothing of it is in that network: only what is noted changes, and with it what later connections may add.
    pub(in crate::engine) async fn leave_none_single(&self, single: &Single) -> Result<(), NetworkError> {
        let _turn = single.turn.lock().await;
        let record = single.record();
        if record.spec.network != NetworkRequest::None {
            return Err(not_in_none(&record.id));
        }
        self.is_in(single, Vec::new(), None);
        if record.state.phase == Phase::Running {
            let event = predefined_event("disconnect", "none", NetworkDriver::Null);
            self.tell_all([event.with("container", &record.id)]);
        }
        Ok(())
    }

    async fn publish_in(&self, record: &Record, places: &[PlaceRequest]) -> Result<Publish, NetworkError> {
        let publish = self.publish(record, places).await;
        publish.map_err(|error| NetworkError::new(Kind::Failed, error.message))
    }

    /// Notes its networks, and how its ports are published now if that may have changed.
    fn is_in(&self, single: &Single, places: Vec<PlaceRequest>, published: Option<Vec<PortConfig>>) {
        single.change(&self.inner.containers.store, |record| {
            record.spec.network = NetworkRequest::Places(places);
            if let Some(published) = published {
                record.state.ports = published;
            }
        });
    }

    pub(super) async fn rename_endpoint(&self, id: &str, old: &str, new: &str) -> Result<(), NetworkError> {
        let Ok(id) = id.parse() else { return Ok(()) };
        self.inner.network.rename(id, old, new).await
    }

    fn endpoint_of(single: &Single) -> Result<overlay::EndpointId, NetworkError> {
        let id = single.id.parse();
        id.map_err(|_| NetworkError::new(Kind::NotFound, format!("No such container: {}", single.id)))
    }

    fn is_same(&self, request: &PlaceRequest, network: PlaceIn) -> bool {
        self.place_in(&request.network).is_ok_and(|(place, _)| place == network)
    }

    fn name_in(&self, network: PlaceIn) -> String {
        let PlaceIn::Network(id) = network else { return "bridge".to_owned() };
        self.network_of(id).map_or_else(|| id.to_string(), |network| network.spec.name.to_string())
    }
}

/// Docker's words for those that have no places of their own.
fn own_places(network: &NetworkRequest, name: &str) -> Result<Vec<PlaceRequest>, NetworkError> {
    let refused = |message: String| Err(NetworkError::new(Kind::Forbidden, message));
    match network {
        NetworkRequest::Places(places) => Ok(places.clone()),
        NetworkRequest::Host => {
            refused("container cannot be disconnected from host network or connected to host network".to_owned())
        }
        NetworkRequest::None => refused(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                .to_owned(),
        ),
        NetworkRequest::Container(other) => {
            refused(format!("container {name} shares the network of {other}: connect that one"))
        }
    }
}
