//! The way of encrypted overlays to the other hosts where the kernel's WireGuard seals them. Pure.
//!
//! One network namespace of a host holds its WireGuard device and nothing else that leads anywhere. The device's UDP
//! socket stays in the host's namespace, where it speaks to the peers; the VXLAN interfaces of encrypted overlays have
//! theirs in here. So what a VXLAN interface sends can leave through WireGuard only, or not at all: when the device is
//! down, its key wrong or the namespace gone, nothing passes. And no process of the host, whatever its privileges over
//! its own namespace, has a route to the tunnel's addresses: what it forges never gets in (CVE-2026-92542, P15 c).
//!
//! [`wanted`] says what shall be there, `diff::tunnel` compares, `kernel::tunnel` does it. Inside the tunnel travels what
//! [`crate::wireguard`] sends too, so peers cannot tell who sealed.

mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::{
    Cidr, NetworkPlan, PrivateKey,
    diff::hosts_of,
    wireguard::{public_key, tunnel_address},
};

/// The WireGuard device in the tunnel's namespace.
pub const DEVICE: &str = "wg0";
/// The block that all tunnel addresses are of: the device leads to each of them.
const BLOCK: u8 = 4;
/// Seconds between two signs of life to a peer that is not spoken to otherwise. The first one is sent when the peer
/// becomes known, so that a replaced key has its session before the first packet waits for it.
pub const KEEPALIVE_S: u16 = 25;

/// What shall be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub private_key: PrivateKey,
    pub public_key: [u8; 32],
    /// UDP port of WireGuard, in the host's namespace.
    pub port: u16,
    /// The host's address in the tunnel, with the block's prefix.
    pub address: Cidr,
    /// By public key.
    pub peers: BTreeMap<[u8; 32], WantedPeer>,
    /// The table for nft.
    pub ruleset: String,
}

/// Another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedPeer {
    pub endpoint: SocketAddr,
    /// What it may send from, and what is sent to it.
    pub address: Ipv4Addr,
}

/// None where the kernel has nothing to seal.
pub fn wanted(plan: &NetworkPlan) -> Option<Wanted> {
    let path = plan.data_path.as_ref().filter(|_| plan.is_sealed_by_kernel())?;
    let encryption = path.encryption.as_ref()?;
    let own = tunnel_address(path.address);
    let mut taken = BTreeSet::from([own]);
    let mut peers = BTreeMap::new();
    for peer in encryption.peers.values() {
        let (endpoint, address) = (SocketAddr::new(peer.address, encryption.port), tunnel_address(peer.address));
        // An address or a key leads to one peer: a second one with the same is no peer, rather than one that takes
        // turns with the first.
        if !peers.contains_key(&peer.public_key) && taken.insert(address) {
            peers.insert(peer.public_key, WantedPeer { endpoint, address });
        }
    }
    let sealed = plan.overlays.iter().filter(|(_, overlay)| overlay.encrypted);
    let senders = sealed.map(|(id, overlay)| {
        let hosts = hosts_of(plan, *id, overlay);
        (overlay.vni, hosts.into_values().map(tunnel_address).collect())
    });
    Some(Wanted {
        public_key: public_key(&encryption.private_key),
        private_key: encryption.private_key.clone(),
        port: encryption.port,
        address: Cidr::new(own.into(), BLOCK).expect("4 is a prefix of IPv4"),
        peers,
        ruleset: rules::render(path.port, &senders.collect()),
    })
}

/// What stands under the name of the tunnel's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelNamespace {
    /// A file without a namespace behind it: left by a crash between two steps.
    Stale,
    Alive(TunnelInside),
}

/// The inside of the tunnel's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TunnelInside {
    /// What bears the device's name, of whatever kind.
    pub device: Option<TunnelDevice>,
    /// Digest of the rules that were loaded and that nobody has changed since; None: to be loaded.
    pub rules: Option<String>,
}

/// The WireGuard device as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TunnelDevice {
    pub kind: String,
    pub up: bool,
    pub mtu: u32,
    pub addresses: Vec<Cidr>,
    pub public_key: Option<[u8; 32]>,
    pub port: u16,
    pub peers: Vec<TunnelPeer>,
}

/// A peer as the device knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelPeer {
    pub public_key: [u8; 32],
    pub endpoint: Option<SocketAddr>,
    /// What it may send from, and what is sent to it.
    pub allowed: Vec<Cidr>,
    /// In seconds; 0: none are sent.
    pub keepalive: u16,
    /// Whether there was a handshake within the time that a session lives.
    pub is_established: bool,
}

/// A change of the tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelStep {
    RemoveNamespace,
    CreateNamespace,
    /// Swap the rules of the namespace for these, in one transaction.
    LoadRules {
        ruleset: String,
        digest: String,
    },
    /// With its UDP socket, which is free for others at once.
    RemoveDevice,
    /// Born in the namespace, with its UDP socket in the host's.
    CreateDevice,
    /// Sessions under another key are not sent on any more; what comes in under them still is opened.
    SetKey {
        private_key: PrivateKey,
        port: u16,
    },
    /// In one go: who goes, and who comes or changes.
    SetPeers {
        remove: Vec<[u8; 32]>,
        set: Vec<([u8; 32], WantedPeer)>,
    },
    AddAddress(Cidr),
    RemoveAddress(Cidr),
    /// Up, with this MTU. `port` is the one it listens on from then on.
    DeviceUp {
        mtu: u32,
        port: u16,
    },
}
