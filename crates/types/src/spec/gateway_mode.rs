//! How the world and a bridge network reach each other over one address family (parity E-31).

use serde::{Deserialize, Serialize};

use crate::Labels;

/// The options by which a user asks for it, IPv4 before IPv6.
pub const GATEWAY_MODES: [&str; 2] =
    ["com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"];

/// The option by which a user wants a bridge without an IPv4 address.
pub const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayMode {
    /// Out under an address of the host's, in by published ports of the host.
    #[default]
    Nat,
    /// The same; and whoever has a route to the network reaches every port in it.
    NatUnprotected,
    /// Under the containers' own addresses both ways: what they publish is open at these, on no port of the host.
    Routed,
    /// Of an internal network: the host itself has no address in it.
    Isolated,
}

impl GatewayMode {
    /// As the user wrote it for this family; nothing is the first.
    ///
    /// # Errors
    /// A sentence that names what can be written.
    pub fn of(options: &Labels, is_ipv4: bool) -> Result<Self, String> {
        let option = GATEWAY_MODES[usize::from(!is_ipv4)];
        match options.get(option).map_or("", String::as_str) {
            "" | "nat" => Ok(Self::Nat),
            "nat-unprotected" => Ok(Self::NatUnprotected),
            "routed" => Ok(Self::Routed),
            "isolated" => Ok(Self::Isolated),
            other => Err(format!(
                "option {option}={other}: unknown gateway mode; bridge networks have nat, nat-unprotected, routed or \
                 isolated"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E-31: each family has its own, and what is none is said with those that there are.
    #[test]
    fn e31_each_family_has_a_mode() {
        let options: Labels = [(GATEWAY_MODES[1].to_owned(), "routed".to_owned())].into();
        assert_eq!(GatewayMode::of(&options, true), Ok(GatewayMode::Nat));
        assert_eq!(GatewayMode::of(&options, false), Ok(GatewayMode::Routed));
        let wrong: Labels = [(GATEWAY_MODES[0].to_owned(), "bridge".to_owned())].into();
        let said = GatewayMode::of(&wrong, true).expect_err("none");
        assert!(said.starts_with("option com.docker.network.bridge.gateway_mode_ipv4=bridge: unknown"), "{said}");
    }
}
