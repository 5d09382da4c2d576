//! One thing to do to the kernel. Made by `diff`, performed by `kernel::apply`.
//!
//! A step says what shall be true, not what to toggle: performing it twice is the same as once.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{Cidr, EndpointId, MacAddress};

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
    /// All that one endpoint needs, in order; after a failure the rest of its list is left for the next time.
    Endpoint {
        id: EndpointId,
        steps: Vec<EndpointStep>,
    },
}

/// A change of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointStep {
    RemoveNamespace,
    CreateNamespace,
    /// By the name of the host's end; the other end goes with it.
    RemoveVeth {
        name: String,
    },
    /// Remove `eth0` from inside: its other end is not ours any more.
    RemoveInterface,
    /// A pair: `name` on the host, `eth0` inside.
    CreateVeth {
        name: String,
        mac: MacAddress,
        mtu: u32,
    },
    /// The host's end: port of this bridge, up, with this MTU.
    Attach {
        name: String,
        bridge: String,
        mtu: u32,
    },
    /// The inside.
    Inside {
        steps: Vec<InsideStep>,
    },
}

/// A change inside an endpoint's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum InsideStep {
    LoopbackUp,
    DisableIpv6,
    SetMtu(u32),
    AddAddress(Cidr),
    RemoveAddress(Cidr),
    InterfaceUp,
    DefaultRoute(Ipv4Addr),
}

/// Whom a step serves: errors are collected by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Subject {
    Host,
    Endpoint(EndpointId),
}

impl Step {
    pub fn subject(&self) -> Subject {
        match self {
            Self::Endpoint { id, .. } => Subject::Endpoint(id.clone()),
            _ => Subject::Host,
        }
    }
}
