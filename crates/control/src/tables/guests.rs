//! Single containers in the cluster's networks: their places, kept by network and by node (parity N-12).
//!
//! A place is a node's to ask for and to give back. It holds its addresses as a task's does, and goes with its node.

use std::sync::Arc;

use types::{ContainerAttachment, NetworkId, NodeId, NodeState, OverlayContainer};

use super::{
    Tables, Touched,
    apply::{Moment, next_meta},
};
use crate::Rejection;

const FIRST_NETWORK: NetworkId = NetworkId::from_random(0);

impl Tables {
    /// The place of a single container in a network.
    pub fn guest(&self, network: NetworkId, container: &str) -> Option<&Arc<ContainerAttachment>> {
        self.guests.get(&(network, container.to_owned()))
    }

    /// All places of single containers.
    pub fn guests(&self) -> impl Iterator<Item = &Arc<ContainerAttachment>> {
        self.guests.values()
    }

    /// Single containers with a place in the network.
    pub fn guests_of_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<ContainerAttachment>> {
        let from = self.guests.range((network, String::new())..);
        from.take_while(move |((of, _), _)| *of == network).map(|(_, guest)| guest)
    }

    /// Places of the single containers of a node.
    pub fn guests_of_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<ContainerAttachment>> {
        let from = self.guests_by_node.range((node, FIRST_NETWORK, String::new())..);
        let own = from.take_while(move |(of, _, _)| *of == node);
        own.filter_map(|(_, network, container)| self.guests.get(&(*network, container.clone())))
    }

    /// What was free when it was asked for may be somebody's by now: then it is asked for again.
    pub(super) fn attach(
        &mut self,
        moment: Moment,
        guest: &ContainerAttachment,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let network = self.network(guest.network).ok_or_else(|| Rejection::not_found("network", guest.network))?;
        self.node(guest.node).ok_or_else(|| Rejection::not_found("node", guest.node))?;
        let is_free = self.pool(guest.network).is_some_and(|pool| pool.are_free(&guest.addresses));
        if !network.spec.attachable || !is_free || self.guest(guest.network, &guest.container).is_some() {
            return Err(Rejection::out_of_sequence("network", &network.spec.name));
        }
        touched.node_tasks.insert(guest.node);
        touched.taken = true;
        self.insert_guest(&Arc::new(ContainerAttachment { meta: next_meta(None, moment), ..guest.clone() }));
        Ok(())
    }

    /// One that is gone already is fine: two may have given it back at once.
    pub(super) fn detach(&mut self, network: NetworkId, container: &str, touched: &mut Touched) {
        if let Some(node) = self.guest(network, container).map(|guest| guest.node) {
            touched.node_tasks.insert(node);
            touched.freed = true;
            self.drop_guest(network, container);
        }
    }

    /// Keeps the indexes in step; also used when a snapshot is read.
    pub(super) fn insert_guest(&mut self, guest: &Arc<ContainerAttachment>) {
        let (network, container, node) = (guest.network, guest.container.clone(), guest.node);
        if let Some(pool) = self.pools.get_mut(&network) {
            pool.claim(&guest.addresses);
        }
        if let Some(overlay) = self.overlays.get_mut(&network) {
            overlay.sit(node);
        }
        self.guests_by_node.insert((node, network, container.clone()));
        self.guests.insert((network, container), Arc::clone(guest));
        self.show_guest(guest);
    }

    pub(super) fn drop_guest(&mut self, network: NetworkId, container: &str) {
        let Some(guest) = self.guests.remove(&(network, container.to_owned())) else { return };
        self.guests_by_node.remove(&(guest.node, network, container.to_owned()));
        if let Some(pool) = self.pools.get_mut(&network) {
            pool.release(&guest.addresses);
        }
        if let Some(overlay) = self.overlays.get_mut(&network) {
            overlay.set_container(container, None);
            overlay.leave(guest.node);
        }
    }

    /// With their node, which nobody will hear of again. True if there were any.
    pub(super) fn drop_guests_of(&mut self, node: NodeId) -> bool {
        let own: Vec<_> = self.guests_of_node(node).map(|guest| (guest.network, guest.container.clone())).collect();
        for (network, container) in &own {
            self.drop_guest(*network, container);
        }
        !own.is_empty()
    }

    /// A node's containers as they are seen now: it went down, or is back.
    pub(super) fn show_guests_of(&mut self, node: NodeId) {
        let own: Vec<_> = self.guests_of_node(node).cloned().collect();
        for guest in own {
            self.show_guest(&guest);
        }
    }

    fn show_guest(&mut self, guest: &ContainerAttachment) {
        let shown = self.shown_guest(guest);
        if let Some(overlay) = self.overlays.get_mut(&guest.network) {
            overlay.set_container(&guest.container, shown);
        }
    }

    /// What the others see of it; nothing while its node is down.
    pub(crate) fn shown_guest(&self, guest: &ContainerAttachment) -> Option<OverlayContainer> {
        let node = self.node(guest.node).filter(|node| node.status.state != NodeState::Down)?;
        Some(OverlayContainer {
            node: node.id,
            name: guest.name.clone(),
            aliases: guest.aliases.clone(),
            addresses: guest.addresses.clone(),
        })
    }
}
