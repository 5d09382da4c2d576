//! What a user wants of a network (parity N-01 to N-12).

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{GatewayMode, INHIBIT_IPV4};
use crate::{Cidr, Labels, Name};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Almost any text, of a network of one host; in the cluster one that [`Name`] parses.
    #[serde(deserialize_with = "crate::name::read_network_name")]
    pub name: Name,
    #[serde(default)]
    pub labels: Labels,
    #[serde(default)]
    pub driver: NetworkDriver,
    /// The driver's options as the user wrote them; what rswarm understands of them is parsed beside.
    #[serde(default)]
    pub options: Labels,
    /// Single containers may join, not only tasks (parity N-05).
    #[serde(default)]
    pub attachable: bool,
    /// No way out of the network (parity N-06).
    #[serde(default)]
    pub internal: bool,
    /// The one network of the routing mesh (parity N-07).
    #[serde(default)]
    pub ingress: bool,
    /// An IPv4 subnet; what has none has an IPv6 one.
    #[serde(default = "usually")]
    pub ipv4: bool,
    /// An IPv6 subnet.
    #[serde(default)]
    pub ipv6: bool,
    /// Its packets leave a host only inside WireGuard (parity N-04).
    #[serde(default)]
    pub encrypted: bool,
    /// Of the containers' interfaces, in bytes; `None`: from the underlay.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// As asked for; empty: chosen from the cluster's address pools.
    #[serde(default)]
    pub subnets: Vec<SubnetSpec>,
    /// Of address management, as the user wrote them, an empty list too: they are kept and shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam_options: Option<Labels>,
    /// A template for other networks: nothing is made of it (parity N-10).
    #[serde(default)]
    pub config_only: bool,
    /// Where the configuration comes from, by name.
    #[serde(default)]
    pub config_from: Option<Name>,
}

impl NetworkSpec {
    /// An overlay network of this name with every other field at its default.
    pub fn overlay(name: Name) -> Self {
        Self {
            name,
            labels: Labels::new(),
            driver: NetworkDriver::Overlay,
            options: Labels::new(),
            attachable: false,
            internal: false,
            ingress: false,
            ipv4: true,
            ipv6: false,
            encrypted: false,
            mtu: None,
            subnets: Vec::new(),
            ipam_options: None,
            config_only: false,
            config_from: None,
        }
    }
}

impl NetworkSpec {
    /// Whether an address of this family is set apart in it for a gateway.
    pub fn has_gateway(&self, is_ipv4: bool) -> bool {
        match self.driver {
            NetworkDriver::Bridge => self.has_bridge_address(is_ipv4),
            NetworkDriver::Macvlan => !self.internal,
            // The host routes for the other modes.
            NetworkDriver::Ipvlan => !self.internal && IpvlanMode::of(&self.options) == Ok(IpvlanMode::L2),
            _ => true,
        }
    }

    fn has_bridge_address(&self, is_ipv4: bool) -> bool {
        let is_isolated = GatewayMode::of(&self.options, is_ipv4) == Ok(GatewayMode::Isolated);
        let inhibited = self
            .options
            .get(INHIBIT_IPV4)
            .is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"));
        !(is_isolated || (is_ipv4 && inhibited && self.internal))
    }
}

/// Networks of before have IPv4.
fn usually() -> bool {
    true
}

/// Who makes a network on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum NetworkDriver {
    #[default]
    Overlay,
    Bridge,
    Macvlan,
    Ipvlan,
    Host,
    Null,
}

/// Up to where the host takes part in what an ipvlan network sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpvlanMode {
    /// Containers are neighbours of whatever is on the link.
    #[default]
    L2,
    /// The host routes for them, without broadcasts.
    L3,
    /// The same, with what they send and get passing the host's rules.
    L3s,
}

/// The option by which a user asks for it.
pub const IPVLAN_MODE: &str = "ipvlan_mode";

impl IpvlanMode {
    /// As the user wrote it; nothing is the first.
    ///
    /// # Errors
    /// A sentence that names what can be written.
    pub fn of(options: &Labels) -> Result<Self, String> {
        match options.get(IPVLAN_MODE).map_or("", String::as_str) {
            "" | "l2" => Ok(Self::L2),
            "l3" => Ok(Self::L3),
            "l3s" => Ok(Self::L3s),
            other => Err(format!("option {IPVLAN_MODE}={other}: ipvlan networks have mode l2, l3 or l3s")),
        }
    }

    /// As users write it.
    pub fn text(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::L3s => "l3s",
        }
    }
}

impl NetworkDriver {
    /// Whether each host makes its own, where the user wants one.
    pub fn is_of_host(self) -> bool {
        matches!(self, Self::Bridge | Self::Macvlan | Self::Ipvlan)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetSpec {
    pub subnet: Cidr,
    /// `None`: the first host address.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Addresses are given out from here only.
    #[serde(default)]
    pub ip_range: Option<Cidr>,
    /// Never given out, by the name of whom they belong to.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

/// One network that the tasks of a service join (parity S-75).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachmentSpec {
    /// Name or id; in the value always the id. `host`, `bridge` and `none` are every node's own.
    pub target: String,
    /// Further names of the tasks in this network.
    #[serde(default)]
    pub aliases: Vec<String>,
    #[serde(default)]
    pub options: Labels,
}
