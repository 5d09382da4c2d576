//! What the owner of the plan is asked for and answers, and what the cluster says: plain data.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
};

use overlay::{
    DataPath, EndpointDns, HostPorts, InterfacePlan, MacAddress, MeshPlan, OverlayPlan, OverlayPort, ProbeSettings,
};
use types::{Network, NetworkId, OverlayContainer, PortConfig};

use super::{guests::Place, interfaces::InterfaceOf};
use crate::engine::{
    host_ports::{Conflict, WantedPort},
    sockets::HostSocket,
};

/// A container's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct Attached {
    /// Its first address, if it has one.
    pub address: Option<IpAddr>,
    /// Of IPv6 in the same network, beside one of IPv4.
    pub address6: Option<Ipv6Addr>,
    /// In all networks that it is in by its own wish.
    pub addresses: Vec<IpAddr>,
    /// The namespace, to be joined by path.
    pub namespace: PathBuf,
    /// Published on this host, every one with its number.
    pub ports: Vec<PortConfig>,
}

/// Why a container has no place in the network.
#[derive(Debug)]
pub(in crate::engine) enum AttachError {
    /// Somebody holds what it asks for.
    Held(Conflict),
    /// Trying again may help.
    Failed(String),
}

impl From<String> for AttachError {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// What a container shall have of the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::engine) struct Wanted {
    pub hostname: String,
    /// A place on the host's bridge: the way to the world.
    pub bridge: bool,
    /// A place there if its ports need one.
    pub bridge_for_ports: bool,
    /// Of the interface there; `None`: from the address.
    pub bridge_mac: Option<MacAddress>,
    /// Of networks that lead out, that with the highest is the default route.
    pub bridge_priority: i64,
    /// Further addresses there, for neighbours.
    pub bridge_link_local: Vec<IpAddr>,
    /// What is special about its interfaces.
    pub interfaces: BTreeMap<InterfaceOf, InterfacePlan>,
    pub overlays: Vec<OverlayPort>,
    /// In networks of this host, which gives the addresses.
    pub locals: Vec<LocalWanted>,
    pub dns: EndpointDns,
    pub publish: Publish,
}

/// What it shall publish.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::engine) struct Publish {
    /// On this host, or at its own addresses where its network is routed.
    pub ports: Vec<WantedPort>,
    /// What processes of this host hold of its ports.
    pub sockets: Vec<HostSocket>,
}

/// A place in a network that each host has for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct LocalWanted {
    pub network: NetworkId,
    /// None: any free one; the same again for who has one already.
    pub address: Option<Ipv4Addr>,
    /// The same of IPv6, where the network has it.
    pub address6: Option<Ipv6Addr>,
    /// Further ones that only its neighbours reach.
    pub link_local: Vec<IpAddr>,
    /// As that of the bridge.
    pub priority: i64,
    /// Lower case; the first is its own.
    pub names: Vec<String>,
    /// `None`: from the address.
    pub mac: Option<MacAddress>,
}

impl LocalWanted {
    /// Any place in this network.
    pub(in crate::engine) fn of(network: NetworkId) -> Self {
        let (address, address6, mac) = (None, None, None);
        Self { network, address, address6, link_local: Vec::new(), priority: 0, names: Vec::new(), mac }
    }
}

/// What the cluster says of this host's network, beside the containers on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClusterNetwork {
    /// `None` stops probing and answering.
    pub probes: Option<ProbeSettings>,
    pub data_path: Option<DataPath>,
    pub overlays: BTreeMap<NetworkId, OverlayPlan>,
    /// All networks that this host may have endpoints in, overlays and others.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    pub mesh: Option<MeshPlan>,
    /// Places that the value has for single containers of this host.
    pub guests: BTreeMap<Place, OverlayContainer>,
    /// From this host's disk, and so older than what the data plane holds: fills only what is missing there.
    pub is_kept: bool,
}

/// An endpoint that was there at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct FoundEndpoint {
    pub address: Option<IpAddr>,
    pub ports: Vec<HostPorts>,
}
