//! The part of `apply` about networks and addresses: what is checked here holds whatever was proposed at the
//! same time.

use std::sync::Arc;

use types::{Attachment, Network, NetworkId, Service, ServiceId, Subnet, VirtualIp};

use super::{
    Tables, Touched,
    apply::{Moment, next_meta},
    overlay::networks_of,
};
use crate::{Change, Rejection};

impl Tables {
    /// Two networks that were chosen at the same time may have been given the same place; whoever comes
    /// second is to choose again.
    pub(super) fn put_network(
        &mut self,
        moment: Moment,
        network: &Network,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let name = &network.spec.name;
        if self.network(network.id).is_some() || self.network_by_name(name).is_some() {
            return Err(Rejection::already_exists("network", name));
        }
        let vni_taken = network.vni != 0 && self.vnis.contains_key(&network.vni);
        if vni_taken || self.networks().any(|other| must_not_overlap(network, other) && overlap(network, other)) {
            return Err(Rejection::out_of_sequence("network", name));
        }
        if network.spec.ingress && self.networks().any(|other| other.spec.ingress) {
            return Err(Rejection::out_of_sequence("network", name));
        }
        touched.networks.insert(network.id);
        self.insert_network(Arc::new(Network { meta: next_meta(None, moment), ..network.clone() }));
        Ok(())
    }

    /// Whoever waits for an address of it may have one now.
    pub(super) fn add_subnet(
        &mut self,
        moment: Moment,
        id: NetworkId,
        subnet: &Subnet,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let network = self.network(id).ok_or_else(|| Rejection::not_found("network", id))?;
        let mut next = Network { meta: next_meta(Some(network.meta), moment), ..(**network).clone() };
        next.add_subnet(subnet.clone());
        let lies_in = |other: &&Arc<Network>| {
            let is_beside = other.id == id || must_not_overlap(network, other);
            is_beside && other.subnets.iter().any(|known| known.range.overlaps(subnet.range))
        };
        if next.families() != network.families() || self.networks().any(|other| lies_in(&other)) {
            return Err(Rejection::out_of_sequence("network", &network.spec.name));
        }
        touched.networks.insert(id);
        touched.freed = true;
        self.grow_network(Arc::new(next), subnet);
        Ok(())
    }

    pub(super) fn remove_network(&mut self, id: NetworkId, touched: &mut Touched) -> Result<(), Rejection> {
        let network = self.network(id).ok_or_else(|| Rejection::not_found("network", id))?;
        let has_guests = self.guests_of_network(id).next().is_some();
        if has_guests || self.services_of_network(id).next().is_some() || self.tasks_of_network(id).next().is_some() {
            return Err(Rejection::out_of_sequence("network", &network.spec.name));
        }
        touched.networks.insert(id);
        self.drop_network(id);
        Ok(())
    }

    pub(super) fn service_addresses(
        &mut self,
        moment: Moment,
        id: ServiceId,
        virtual_ips: &[VirtualIp],
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let mut service = Arc::clone(self.service(id).ok_or_else(|| Rejection::not_found("service", id))?);
        let kept = |vip: &&VirtualIp| service.virtual_ips.contains(vip);
        for vip in virtual_ips.iter().filter(|vip| !kept(vip)) {
            let free = self.pool(vip.network).is_some_and(|pool| pool.are_free(&vip.addresses));
            if !free {
                return Err(Rejection::out_of_sequence("network", vip.network));
            }
        }
        touched.services.insert(id);
        touched.freed |= service.virtual_ips.iter().any(|old| !virtual_ips.contains(old));
        let inner = Arc::make_mut(&mut service);
        inner.virtual_ips = virtual_ips.to_vec();
        inner.meta = next_meta(Some(inner.meta), moment);
        self.insert_service(service);
        Ok(())
    }

    /// A network may have been removed since the service was admitted.
    pub(super) fn check_networks_of(&self, service: &Service) -> Result<(), Rejection> {
        match networks_of(&service.spec.task).find(|(id, _)| self.network(*id).is_none()) {
            Some((id, _)) => Err(Rejection::not_found("network", id)),
            None if service.publishes() && self.ingress().is_none() => {
                Err(Rejection::out_of_sequence("network", "ingress"))
            }
            None => Ok(()),
        }
    }

    /// Two services that were given or asked for the same number at the same time: whoever comes second is to
    /// choose again, or be told whose it is. Looked at when all changes are made: in one proposal services may swap numbers.
    pub(super) fn check_ports(&self, changes: &[Change]) -> Result<(), Rejection> {
        let put = changes.iter().filter_map(|change| match change {
            Change::PutService { service, .. } => self.service(service.id),
            _ => None,
        });
        for service in put.filter(|service| !service.removing) {
            if let Some(port) = service.ports().find(|port| self.ports().rival(service.id, port).is_some()) {
                return Err(Rejection::out_of_sequence("port", port.place()));
            }
        }
        Ok(())
    }

    /// Each address of a network that is there, and nobody else's.
    pub(super) fn check_attachments(&self, attachments: &[Attachment]) -> Result<(), Rejection> {
        for place in attachments {
            let pool = self.pool(place.network).ok_or_else(|| Rejection::not_found("network", place.network))?;
            if !pool.are_free(&place.addresses) {
                return Err(Rejection::out_of_sequence("network", place.network));
            }
        }
        Ok(())
    }
}

/// Networks of other drivers are parts of the world outside, where two may lie in one range.
pub(crate) fn must_not_overlap(one: &Network, other: &Network) -> bool {
    one.vni != 0 || other.vni != 0
}

fn overlap(one: &Network, other: &Network) -> bool {
    one.subnets.iter().any(|a| other.subnets.iter().any(|b| a.range.overlaps(b.range)))
}
