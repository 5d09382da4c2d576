//! The bridges of users' networks: what of them the user chose, and the link that is made of it. Plain data.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use types::{GatewayMode, NetworkId};

use super::{
    BRIDGE_MTU, BRIDGE_PREFIX, BridgePlan, LINK_NAME_MAX, LocalDriver, LocalNetworkPlan, VETH_PREFIX,
    local::{hash, is_link_name},
};
use crate::{Cidr, MacAddress};

/// The bridges of users' networks start with this. No veth of ours does: `r` is no hexadecimal digit.
pub const USER_BRIDGE_PREFIX: &str = "rs-br";

/// What a user chose of a network's bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalBridge {
    /// Whether endpoints reach the world under the host's own address, where the gateway's mode translates addresses.
    pub masquerade: bool,
    /// As its user calls it, or whoever makes the plan; None: [`bridge_name`].
    #[serde(default)]
    pub name: Option<String>,
    /// Its endpoints do not reach each other.
    #[serde(default)]
    pub apart: bool,
    #[serde(default)]
    pub gateway4: BridgeGateway,
    #[serde(default)]
    pub gateway6: BridgeGateway,
}

impl Default for LocalBridge {
    fn default() -> Self {
        let (gateway4, gateway6) = (BridgeGateway::default(), BridgeGateway::default());
        Self { masquerade: true, name: None, apart: false, gateway4, gateway6 }
    }
}

/// How the world and a bridge's endpoints reach each other over one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BridgeGateway {
    #[serde(default)]
    pub mode: GatewayMode,
    /// The bridge does not bear the gateway's address, by which endpoints leave all the same: it is somebody else's there.
    #[serde(default)]
    pub inhibited: bool,
    /// What leaves bears this address of the host's; None: that of the interface by which it leaves.
    #[serde(default)]
    pub source: Option<IpAddr>,
}

impl BridgeGateway {
    /// Whether the bridge bears the gateway's address.
    fn has_address(&self) -> bool {
        self.mode != GatewayMode::Isolated && !self.inhibited
    }
}

impl LocalBridge {
    pub(crate) fn gateway(&self, is_ipv4: bool) -> &BridgeGateway {
        if is_ipv4 { &self.gateway4 } else { &self.gateway6 }
    }

    pub(super) fn problem(&self, is_internal: bool) -> Option<String> {
        let is_isolated = [self.gateway4, self.gateway6].iter().any(|gateway| gateway.mode == GatewayMode::Isolated);
        if is_isolated && !is_internal {
            return Some("gateway mode isolated: only an internal network can have it".to_owned());
        }
        for (gateway, is_ipv4) in [(self.gateway4, true), (self.gateway6, false)] {
            let family = if is_ipv4 { "IPv4" } else { "IPv6" };
            let is_source = |source: &IpAddr| source.is_ipv4() == is_ipv4 && !source.is_unspecified();
            if let Some(source) = gateway.source.filter(|source| !is_source(source)) {
                return Some(format!("source {source}: what leaves over {family} cannot bear it"));
            }
        }
        self.name.as_deref().and_then(bridge_name_problem)
    }
}

/// A bridge as it shall be among the host's links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeLink {
    pub name: String,
    /// A fixed one: else it takes the least of its ports' and changes it whenever an endpoint comes or goes, which breaks
    /// every neighbour's ARP entry.
    pub mac: MacAddress,
    pub mtu: u32,
    pub addresses: Vec<Cidr>,
    /// Whether it speaks IPv6.
    pub ipv6: bool,
}

impl BridgePlan {
    pub(crate) fn link(&self) -> BridgeLink {
        let addresses = vec![self.with_prefix(self.gateway)];
        let mac = MacAddress::for_ipv4(self.gateway);
        BridgeLink { name: self.name.clone(), mac, mtu: self.mtu, addresses, ipv6: false }
    }
}

impl LocalNetworkPlan {
    /// What its user chose of its bridge, if it is made of one.
    pub(crate) fn bridge(&self) -> Option<&LocalBridge> {
        match &self.driver {
            LocalDriver::Bridge(bridge) => Some(bridge),
            LocalDriver::Macvlan { .. } | LocalDriver::Ipvlan { .. } => None,
        }
    }

    /// Its bridge's name, if it has one.
    pub(crate) fn bridge_name(&self, id: NetworkId) -> Option<String> {
        let bridge = self.bridge()?;
        Some(bridge.name.clone().unwrap_or_else(|| bridge_name(id)))
    }

    /// Its bridge as a link, if it has one.
    pub(crate) fn link(&self, id: NetworkId) -> Option<BridgeLink> {
        let bridge = self.bridge()?;
        let bears = |(subnet, gateway): (Cidr, IpAddr)| {
            let is_borne = bridge.gateway(gateway.is_ipv4()).has_address();
            Cidr::new(gateway, subnet.prefix()).ok().filter(|_| is_borne)
        };
        Some(BridgeLink {
            name: self.bridge_name(id)?,
            mac: MacAddress::for_address(self.ranges().first()?.1),
            mtu: self.mtu.unwrap_or(BRIDGE_MTU),
            addresses: self.ranges().into_iter().filter_map(bears).collect(),
            ipv6: self.ipv6.is_some(),
        })
    }

    /// The mode of its gateway of this family; that of what has neither a bridge nor the family is the usual one.
    pub(crate) fn gateway_mode(&self, is_ipv4: bool) -> GatewayMode {
        let has_family = self.ranges().iter().any(|(_, gateway)| gateway.is_ipv4() == is_ipv4);
        self.bridge().filter(|_| has_family).map(|bridge| bridge.gateway(is_ipv4).mode).unwrap_or_default()
    }
}

/// The bridge of a network: `rs-br` and 10 hexadecimal digits that depend on the id alone.
pub fn bridge_name(id: NetworkId) -> String {
    format!("{USER_BRIDGE_PREFIX}{}", &hash(&id.to_string())[..10])
}

/// Why a user's bridge cannot have this name.
pub fn bridge_name_problem(name: &str) -> Option<String> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !is_link_name(name) || !plain || name.starts_with('.') || matches!(name, "all" | "default") {
        return Some(format!(
            "bridge name {name:?}: use 1 to {LINK_NAME_MAX} letters, digits, '-', '_' or '.', and neither all nor default"
        ));
    }
    let own = [VETH_PREFIX, BRIDGE_PREFIX].into_iter().find(|prefix| name.starts_with(prefix));
    own.map(|prefix| format!("bridge name {name:?}: names that begin with {prefix} are rswarm's own; choose another"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e31_bridges_have_names_of_their_own() {
        let id = NetworkId::from_random(1);
        assert!(bridge_name(id).len() <= LINK_NAME_MAX && bridge_name(id) != bridge_name(NetworkId::from_random(2)));
    }

    /// E-31: a plan from before there were modes is read as it was meant.
    #[test]
    fn e31_a_bridge_of_before_translates_addresses() {
        let read = |text: &str| serde_json::from_str::<LocalDriver>(text).expect("a driver");
        let usual = read(r#"{"bridge":{"masquerade":true,"name":null,"apart":false}}"#);
        assert_eq!(usual, LocalDriver::Bridge(LocalBridge::default()));
        let text = serde_json::to_string(&usual).expect("encode");
        assert!(text.starts_with(r#"{"bridge":{"masquerade":true,"#), "{text}");
        assert_eq!(read(&text), usual);
    }

    /// E-31: what leaves bears an address of its own family.
    #[test]
    fn e31_a_source_is_of_its_family() {
        let with = |source: &str| {
            let gateway4 = BridgeGateway { source: source.parse().ok(), ..BridgeGateway::default() };
            LocalBridge { gateway4, ..LocalBridge::default() }.problem(false)
        };
        assert_eq!(with("192.0.2.1"), None);
        for bad in ["fd00::1", "0.0.0.0"] {
            assert_eq!(with(bad), Some(format!("source {bad}: what leaves over IPv4 cannot bear it")));
        }
    }

    /// E-31: what is isolated has no way out in any family.
    #[test]
    fn e31_only_an_internal_network_is_isolated() {
        let gateway6 = BridgeGateway { mode: GatewayMode::Isolated, ..BridgeGateway::default() };
        let bridge = LocalBridge { gateway6, ..LocalBridge::default() };
        assert!(bridge.problem(false).expect("it leads out").contains("only an internal network"));
        assert_eq!(bridge.problem(true), None);
    }
}
