//! One thing to do to the kernel. Made by `diff`, performed by `kernel::apply`.
//!
//! A step says what shall be true, not what to toggle: performing it twice is the same as once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use types::NetworkId;

use crate::{
    Cidr, EndpointId, InterfaceSetting, MacAddress, Stacked, WayOut,
    mesh::load::{PortLoad, PortRules},
    tunnel::TunnelStep,
};

/// A change of the host's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Swap our table for this one, in one transaction.
    LoadNft {
        ruleset: String,
        digest: String,
    },
    RemoveNft,
    /// `net.ipv4.ip_forward=1` in the host's namespace.
    EnableForwarding,
    /// Room for this many neighbours in all namespaces together.
    RaiseNeighbourLimit(u32),
    CreateBridge {
        name: String,
        mac: MacAddress,
        mtu: u32,
    },
    /// Up, with this MTU.
    SetBridge {
        name: String,
        mtu: u32,
    },
    /// No IPv6 on this bridge: else whoever may send raw packets in a container could hand the host a route.
    DisableIpv6 {
        link: String,
    },
    /// IPv6 on this bridge, deaf to router advertisements and without a search for duplicates.
    EnableIpv6 {
        link: String,
    },
    AddAddress {
        link: String,
        address: Cidr,
    },
    RemoveAddress {
        link: String,
        address: Cidr,
    },
    RemoveLink {
        name: String,
    },
    /// A change of the routing mesh or of published ports on this host.
    Mesh(MeshStep),
    /// What the way to the other hosts of encrypted overlays needs, in order; after a failure the rest of its list is
    /// left for the next time.
    Tunnel {
        steps: Vec<TunnelStep>,
    },
    /// An interface for what bears this VLAN tag on the host's interface `parent`, up.
    CreateVlan {
        name: String,
        parent: String,
        tag: u16,
    },
    /// What one of the host's own networks needs, in order; after a failure the rest of its list is left for the
    /// next time.
    Local {
        id: NetworkId,
        steps: Vec<Step>,
    },
    /// What one overlay needs, in order; after a failure the rest of its list is left for the next time.
    Overlay {
        id: NetworkId,
        steps: Vec<OverlayStep>,
    },
    /// All that one endpoint needs, in order; after a failure the rest of its list is left for the next time.
    Endpoint {
        id: EndpointId,
        steps: Vec<EndpointStep>,
    },
}

/// A change of the host's side of the routing mesh and of published ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MeshStep {
    /// The operator's own table, as far as it is missing.
    CreateUserTable,
    /// If it still is empty.
    RemoveUserTable,
    /// Load these rules, in one transaction, and end untranslated flows of datagrams to these ports.
    LoadPorts {
        load: PortLoad,
        /// From what the table is made then.
        #[serde(skip)]
        loaded: Arc<PortRules>,
    },
    RemovePorts,
    /// `net.ipv6.conf.all.forwarding=1`, and what listened to router advertisements still does.
    EnableIpv6Forwarding,
    /// The host's port in the ingress network: a veth pair between that and the host's namespace.
    CreateIngress {
        network: NetworkId,
        mac: MacAddress,
        mtu: u32,
    },
    /// The pair's end in the network: port of its bridge for this MAC address, up, with this MTU.
    PlugIngress {
        network: NetworkId,
        mac: MacAddress,
        mtu: u32,
    },
    /// The pair's end in the network, by itself: the other one is not there.
    RemoveOuterIngress {
        network: NetworkId,
    },
    /// The pair's end on the host: up, with this MTU.
    SetIngress {
        mtu: u32,
    },
    /// IPv6 on, without router advertisements and without a search for duplicates.
    EnableIngressIpv6,
    /// Replies to ::1 that come through the ingress network are this host's.
    LeadLoopback,
    /// Whether 127.0.0.0/8 may be routed through this link.
    SetLocalnet {
        link: String,
        on: bool,
    },
    AddNeighbour {
        address: IpAddr,
        mac: MacAddress,
    },
    RemoveNeighbour {
        address: IpAddr,
    },
    /// End the flows that were led to one of these addresses, which are gone.
    EndFlows {
        to: BTreeSet<IpAddr>,
    },
}

/// A change inside an overlay's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OverlayStep {
    RemoveNamespace,
    CreateNamespace,
    RemoveLink {
        name: String,
    },
    CreateBridge {
        mac: MacAddress,
        mtu: u32,
    },
    /// Up, with this MTU.
    SetBridge {
        mtu: u32,
    },
    /// Born in the overlay's namespace, with its UDP socket in the host's.
    CreateVxlan {
        vni: u32,
        local: IpAddr,
        port: u16,
        mtu: u32,
    },
    /// The same of an encrypted overlay where the kernel seals: its UDP socket is in the tunnel's namespace, which
    /// packets leave through WireGuard only.
    CreateSealedVxlan {
        vni: u32,
        local: Ipv4Addr,
        port: u16,
        mtu: u32,
    },
    /// Port of the bridge towards the other hosts, up, with this MTU.
    PlugUplink {
        name: String,
        /// On which it listens from then on, if it is a VXLAN interface.
        udp_port: Option<u16>,
        mtu: u32,
    },
    /// The VXLAN interface sends what is for `mac` to `host`.
    AddHost {
        mac: MacAddress,
        host: IpAddr,
    },
    RemoveHost {
        mac: MacAddress,
    },
    /// The bridge sends what is for `mac` through `link`.
    AddPort {
        mac: MacAddress,
        link: String,
    },
    RemovePort {
        mac: MacAddress,
        link: String,
    },
    AddNeighbour {
        address: IpAddr,
        mac: MacAddress,
    },
    RemoveNeighbour {
        address: IpAddr,
    },
}

/// In which namespace the outer end of an endpoint's veth pair is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Place {
    Host,
    Overlay(NetworkId),
}

/// A change of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointStep {
    RemoveNamespace,
    CreateNamespace,
    LoopbackUp,
    /// By the name of the outer end; the inner end goes with it.
    RemoveVeth {
        at: Place,
        name: String,
    },
    /// Remove an interface from inside: its other end is not ours any more, or it has no place in the plan.
    RemoveInterface {
        name: String,
    },
    /// A pair: `name` outside, `inside` inside.
    CreateVeth {
        at: Place,
        name: String,
        inside: String,
        mac: MacAddress,
        mtu: u32,
    },
    /// An interface inside on the host's interface `parent`.
    CreateStacked {
        /// The network's name, for messages.
        network: String,
        parent: String,
        inside: String,
        kind: Stacked,
        mtu: u32,
    },
    /// The outer end on the host: port of this bridge, up, with this MTU.
    Attach {
        name: String,
        bridge: String,
        mtu: u32,
    },
    /// The outer end on the host: its bridge sends back to it what came from it. Where packets between ports of a bridge
    /// pass the host's rules, an endpoint reaches a published port of its own only so.
    Hairpin {
        name: String,
    },
    /// The outer end on the host: whether its bridge forwards nothing between it and other such ports.
    Isolate {
        name: String,
        apart: bool,
    },
    /// The outer end in an overlay: port of its bridge for this MAC address, up, with this MTU.
    Plug {
        network: NetworkId,
        name: String,
        mac: MacAddress,
        mtu: u32,
    },
    /// One interface inside.
    Inside {
        interface: String,
        steps: Vec<InsideStep>,
    },
    /// Load these rules for virtual addresses, in one transaction; afterwards these are balanced.
    SetVips {
        /// The number of the ruleset that these rules change; None: they replace our table.
        onto: Option<u32>,
        ruleset: String,
        digests: BTreeMap<IpAddr, String>,
    },
    /// Reply through the mesh, by the rules of `mesh::backend`: all of it, whatever is there.
    JoinMesh {
        interface: String,
        next_hops: Vec<IpAddr>,
        ruleset: String,
    },
    /// Nothing of that is left.
    LeaveMesh,
    /// End the flows that were balanced to one of these addresses, which are gone.
    EndFlows {
        to: BTreeSet<IpAddr>,
    },
}

/// A change of an interface inside an endpoint's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InsideStep {
    DisableIpv6,
    /// IPv6 on, without router advertisements and without a search for duplicates.
    EnableIpv6,
    SetMtu(u32),
    /// A setting of this one interface, which its user chose.
    Set(InterfaceSetting),
    AddAddress(Cidr),
    RemoveAddress(Cidr),
    InterfaceUp,
    /// Whoever is in this range is on the interface's link.
    AddRoute(Cidr),
    RemoveRoute(Cidr),
    DefaultRoute(WayOut),
    /// The same of IPv6.
    DefaultRoute6(WayOut),
}

/// Whom a step serves: errors are collected by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    Host,
    Overlay(NetworkId),
    /// One of the host's own networks.
    Local(NetworkId),
    Endpoint(EndpointId),
}

impl Step {
    pub fn subject(&self) -> Subject {
        match self {
            Self::Endpoint { id, .. } => Subject::Endpoint(id.clone()),
            Self::Overlay { id, .. } => Subject::Overlay(*id),
            Self::Local { id, .. } => Subject::Local(*id),
            _ => Subject::Host,
        }
    }
}

impl EndpointStep {
    /// The overlay whose namespace it changes.
    pub fn overlay(&self) -> Option<NetworkId> {
        match self {
            Self::Plug { network, .. } => Some(*network),
            Self::RemoveVeth { at: Place::Overlay(network), .. }
            | Self::CreateVeth { at: Place::Overlay(network), .. } => Some(*network),
            _ => None,
        }
    }
}
