//! A network of the cluster, and the places in it that tasks and services have.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{Cidr, Meta, NetworkId, NetworkSpec, NodeId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub id: NetworkId,
    #[serde(default)]
    pub meta: Meta,
    pub spec: Arc<NetworkSpec>,
    /// VXLAN network identifier (RFC 7348), 24 bits; 0 for a network of another driver.
    #[serde(default)]
    pub vni: u32,
    /// What was allocated: IPv4 before IPv6. A family with more than one is used up in their order.
    #[serde(default)]
    pub subnets: Vec<Subnet>,
}

impl Network {
    /// One more range, behind the others of its family.
    pub fn add_subnet(&mut self, subnet: Subnet) {
        let is_ipv4 = subnet.range.address().is_ipv4();
        let behind = self.subnets.iter().rposition(|other| other.range.address().is_ipv4() == is_ipv4);
        self.subnets.insert(behind.map_or(self.subnets.len(), |at| at + 1), subnet);
    }

    /// Of how many families its endpoints have an address: one of each.
    pub fn families(&self) -> usize {
        [true, false]
            .iter()
            .filter(|is_ipv4| self.subnets.iter().any(|s| s.range.address().is_ipv4() == **is_ipv4))
            .count()
    }
}

/// A range of addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    pub range: Cidr,
    /// Never given to a task, even where the network has no router.
    pub gateway: IpAddr,
    /// Addresses are given out from here only; `None`: from all of `range`.
    #[serde(default)]
    pub ip_range: Option<Cidr>,
    /// Never given out.
    #[serde(default)]
    pub reserved: Vec<IpAddr>,
}

/// The place of one task in one network. Allocated by `plan` and the task's for life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub network: NetworkId,
    /// One of each family that the network has, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
    #[serde(default)]
    pub aliases: Vec<String>,
}

/// The place of a single container, one that is no task, in one network of the cluster (parity N-12). Its node asks
/// for it and gives it back; it goes with its node at the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerAttachment {
    #[serde(default)]
    pub meta: Meta,
    pub network: NetworkId,
    /// The container's id: it has one place in a network at most.
    pub container: String,
    pub node: NodeId,
    /// By which the others in the network find it.
    pub name: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    /// One of each family that the network has, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
}

/// The stable address of a service in one network (parity S-70).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualIp {
    pub network: NetworkId,
    /// One of each family that the network has, IPv4 before IPv6.
    pub addresses: Vec<IpAddr>,
}
