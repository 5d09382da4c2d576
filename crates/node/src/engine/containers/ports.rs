//! What of a container is published: its ports as its spec and its networks have them. Decided here for its start, for its
//! changes of networks, and for what is said when it is made (parity E-14, N-21).

use std::net::IpAddr;

use types::{PortBind, PortConfig, PublishMode};

use super::{
    ContainerError, Engine, Record,
    spec::{NetworkRequest, PlaceRequest, PortRequest, SingleSpec},
    stopping,
};
use crate::engine::{
    host_ports::WantedPort,
    network::{Publish, binding_of},
    sockets,
};

impl Engine {
    /// What is to be published of a container that is in these networks.
    pub(super) async fn publish(&self, record: &Record, places: &[PlaceRequest]) -> Result<Publish, ContainerError> {
        // What has no way out has no way in, as with Docker.
        let asked = if self.are_internal(places) { Vec::new() } else { asked_ports(record) };
        if asked.is_empty() {
            return Ok(Publish::default());
        }
        let of_place = |place: &PlaceRequest| match place.is_on_bridge() {
            true => self.config().network.binding.map(IpAddr::V4),
            false => binding_of(&self.network_meant(&place.network).ok()?.spec.options).ok()?,
        };
        let binding = places.iter().find_map(of_place).filter(|address| !address.is_unspecified());
        let ports = asked.iter().map(|port| wanted(port, binding)).collect();
        let sockets = tokio::task::spawn_blocking(sockets::of_host).await.map_err(|_| stopping())?;
        Ok(Publish { ports, sockets })
    }

    /// What is said of ports that nothing leads to.
    pub(super) fn discards_ports(&self, spec: &SingleSpec) -> Option<String> {
        if spec.ports.is_empty() && !spec.publish_all {
            return None;
        }
        let why = match &spec.network {
            // Docker's own words
            NetworkRequest::Host => "Published ports are discarded when using host network mode",
            NetworkRequest::Places(places) if !places.is_empty() && self.are_internal(places) => {
                "Published ports are discarded, because all networks of the container are internal: connect it to one that \
                 is not"
            }
            _ => return None,
        };
        Some(why.to_owned())
    }

    /// Whether none of these networks has a way out.
    fn are_internal(&self, places: &[PlaceRequest]) -> bool {
        places.iter().all(|place| self.place_in(&place.network).is_ok_and(|(_, is_internal)| is_internal))
    }
}

fn asked_ports(record: &Record) -> Vec<PortRequest> {
    let mut asked = record.spec.ports.clone();
    if record.spec.publish_all {
        let exposed = record.merged.exposed.iter();
        let missing = exposed.filter(|(number, protocol)| {
            !record.spec.ports.iter().any(|port| (port.target, port.protocol) == (*number, *protocol))
        });
        let any = |(target, protocol): &(u16, _)| PortRequest {
            target: *target,
            protocol: *protocol,
            address: None,
            host: None,
        };
        asked.extend(missing.map(any));
    }
    asked
}

/// `binding`: what is meant where no address is said.
fn wanted(port: &PortRequest, binding: Option<IpAddr>) -> WantedPort {
    let bind = port.address.or(binding).map_or(PortBind::All, PortBind::Address);
    let (first, last) = port.host.unzip();
    let port = PortConfig { bind, ..PortConfig::new(port.protocol, port.target, first, PublishMode::Host) };
    WantedPort { port, last }
}
