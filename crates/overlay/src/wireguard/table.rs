//! What the workers look up for each packet: peers, tunnels and networks. Swapped whole by the control.
//!
//! A worker takes the table once for each batch; so a change of the plan costs no lock per packet.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use types::NodeId;

use super::{
    envelope::{Envelope, Opened, tunnel_address},
    keys::OwnKey,
    packet::{destination, is_group, source},
    socket::Socket,
    tap::Tap,
    tunnel::{Peer, Tunnel},
};
use crate::{MacAddress, OverlayPlan};

pub struct Table {
    pub socket: Arc<Socket>,
    /// This host's tunnel address.
    pub address: Ipv4Addr,
    /// UDP port of VXLAN inside tunnels.
    pub port: u16,
    /// The present key first.
    pub keys: Vec<OwnKey>,
    pub peers: HashMap<NodeId, Peer>,
    /// By index.
    pub tunnels: HashMap<u32, (NodeId, Arc<Tunnel>)>,
    /// By VNI.
    pub overlays: HashMap<u32, Overlay>,
}

/// One encrypted network.
pub struct Overlay {
    pub tap: Arc<Tap>,
    macs: HashMap<MacAddress, NodeId>,
    neighbours: HashMap<IpAddr, MacAddress>,
    envelopes: HashMap<NodeId, Envelope>,
}

impl Overlay {
    pub fn new(plan: &OverlayPlan, tap: Arc<Tap>, own: Ipv4Addr, port: u16) -> Self {
        let remotes = || plan.remotes.iter();
        let to = |host: IpAddr| Envelope::new(own, tunnel_address(host), port, plan.vni);
        Self {
            tap,
            macs: remotes().map(|(mac, remote)| (*mac, remote.node)).collect(),
            neighbours: remotes().flat_map(|(mac, remote)| remote.addresses.iter().map(|ip| (*ip, *mac))).collect(),
            envelopes: remotes().map(|(_, remote)| (remote.node, to(remote.host))).collect(),
        }
    }

    /// Where a frame from the bridge goes.
    pub fn way(&self, frame: &[u8]) -> Way<'_> {
        let Some(to) = destination(frame) else { return Way::Nowhere };
        if is_group(to) {
            return Way::Group;
        }
        let Some(node) = self.macs.get(&to) else { return Way::Nowhere };
        match self.envelopes.get(node) {
            Some(envelope) => Way::Peer(*node, envelope),
            None => Way::Nowhere,
        }
    }

    pub fn neighbour(&self, address: IpAddr) -> Option<MacAddress> {
        self.neighbours.get(&address).copied()
    }

    /// Whether this peer has an endpoint in the network that bears the frame's source address.
    fn allows(&self, frame: &[u8], peer: NodeId) -> bool {
        source(frame).is_some_and(|mac| self.macs.get(&mac) == Some(&peer))
    }
}

pub enum Way<'a> {
    Peer(NodeId, &'a Envelope),
    /// A question to all, perhaps: answered here or dropped.
    Group,
    Nowhere,
}

impl Table {
    /// Whether what a peer sent may enter; the network and where its frame ends.
    pub fn admit(&self, packet: &[u8], node: NodeId, peer: &Peer) -> Option<Opened> {
        let opened = Opened::parse(packet, self.port)?;
        let is_of_peer = opened.from == tunnel_address(peer.endpoint.ip()) && opened.to == self.address;
        let frame = &packet[super::envelope::ENVELOPE..opened.end];
        let overlay = self.overlays.get(&opened.vni)?;
        let is_single = destination(frame).is_some_and(|mac| !is_group(mac));
        (is_of_peer && is_single && overlay.allows(frame, node)).then_some(opened)
    }
}

/// The table of now, and what was counted.
#[derive(Default)]
pub struct Shared {
    table: RwLock<Option<Arc<Table>>>,
    pub counters: Counters,
}

impl Shared {
    pub fn table(&self) -> Option<Arc<Table>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn swap(&self, table: Option<Table>) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table.map(Arc::new);
    }
}

#[derive(Default)]
pub struct Counters {
    pub unknown_destination: AtomicU64,
    pub malformed: AtomicU64,
    pub not_sent: AtomicU64,
    pub not_opened: AtomicU64,
    pub not_allowed: AtomicU64,
    pub not_delivered: AtomicU64,
}

/// Packets that did not pass since the process started, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dropped {
    /// From an endpoint to an address that no endpoint of the plan has, or to all.
    pub unknown_destination: u64,
    /// From the TAP, contradicting themselves.
    pub malformed: u64,
    /// The underlay refused them.
    pub not_sent: u64,
    /// From the underlay: of no session, of a wrong key, forged or seen before.
    pub not_opened: u64,
    /// Opened, but not VXLAN of a network and endpoint of that peer.
    pub not_allowed: u64,
    /// The TAP did not take them.
    pub not_delivered: u64,
}

impl Counters {
    pub fn snapshot(&self) -> Dropped {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Dropped {
            unknown_destination: value(&self.unknown_destination),
            malformed: value(&self.malformed),
            not_sent: value(&self.not_sent),
            not_opened: value(&self.not_opened),
            not_allowed: value(&self.not_allowed),
            not_delivered: value(&self.not_delivered),
        }
    }
}

pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
