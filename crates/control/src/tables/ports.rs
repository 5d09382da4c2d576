//! Which service holds which published number, so that two that publish the same are told so at the door.
//!
//! Everything here follows from the services. Kept by the index; read by admission, `apply` and invariants.

use imbl::OrdMap;
use types::{PortBind, PortConfig, PortProtocol, PublishMode, Service, ServiceId};

/// Holds by protocol and number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ports {
    holds: OrdMap<(PortProtocol, u16), Vec<Hold>>,
}

/// One service's hold on one number. Most numbers have one; several are at different addresses of a node, or of
/// tasks that publish on their own nodes, where the scheduler keeps them apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hold {
    pub(crate) service: ServiceId,
    pub(crate) bind: PortBind,
    pub(crate) on_host: bool,
}

impl Ports {
    /// The hold of another service that leaves no place for this port of `service`. A port without a number takes
    /// nobody's place.
    pub(crate) fn rival(&self, service: ServiceId, port: &PortConfig) -> Option<&Hold> {
        let holds = self.holds.get(&(port.protocol, port.published?))?;
        let on_host = port.mode == PublishMode::Host;
        holds
            .iter()
            .find(|hold| hold.service != service && hold.bind.overlaps(&port.bind) && !(hold.on_host && on_host))
    }

    /// Whether nobody but `service` holds the number, at whatever address.
    pub(crate) fn is_free(&self, service: ServiceId, protocol: PortProtocol, number: u16) -> bool {
        self.holds.get(&(protocol, number)).is_none_or(|holds| holds.iter().all(|hold| hold.service == service))
    }

    /// All holds, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&(PortProtocol, u16), &Vec<Hold>)> {
        self.holds.iter()
    }

    pub(super) fn claim(&mut self, service: &Service) {
        for (at, hold) in holds(service) {
            let all = self.holds.entry(at).or_default();
            if let Err(place) = all.binary_search(&hold) {
                all.insert(place, hold);
            }
        }
    }

    pub(super) fn release(&mut self, service: &Service) {
        self.release_those(service, |_| true);
    }

    pub(super) fn release_those(&mut self, service: &Service, goes: impl Fn(&PortConfig) -> bool) {
        for (at, hold) in service.ports().filter(|port| goes(port)).filter_map(|port| hold_of(service, port)) {
            let Some(all) = self.holds.get_mut(&at) else { continue };
            all.retain(|other| *other != hold);
            if all.is_empty() {
                self.holds.remove(&at);
            }
        }
    }
}

/// What a service holds: nothing as soon as its removal was asked for, as with its name.
pub(crate) fn holds(service: &Service) -> impl Iterator<Item = ((PortProtocol, u16), Hold)> {
    service.ports().filter(|_| !service.removing).filter_map(|port| hold_of(service, port))
}

fn hold_of(service: &Service, port: &PortConfig) -> Option<((PortProtocol, u16), Hold)> {
    let on_host = port.mode == PublishMode::Host;
    Some(((port.protocol, port.published?), Hold { service: service.id, bind: port.bind.clone(), on_host }))
}

/// Whether two states of one service hold the same.
pub(super) fn hold_the_same(old: &Service, new: &Service) -> bool {
    old.removing == new.removing && old.published == new.published && old.spec.endpoint.ports == new.spec.endpoint.ports
}
