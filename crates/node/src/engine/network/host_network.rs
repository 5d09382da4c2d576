//! What an operator says of the host's own network in `daemon.json` (parity E-50): the default bridge, and what leads to
//! published ports. Pure.

use std::net::{IpAddr, Ipv4Addr};

use overlay::{BridgePlan, Cidr, Ipam, MTU_RANGE};

/// All of it; the default is what rswarm does of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNetwork {
    /// The default bridge's own address with the prefix of its subnet; None: the first of a free subnet.
    pub address: Option<Cidr>,
    /// The part of its subnet that containers get addresses of; None: all of it.
    pub range: Option<Cidr>,
    /// In bytes.
    pub mtu: u32,
    /// Whether containers reach the world under the host's own address.
    pub masquerade: bool,
    /// Its containers do not reach each other but by published ports.
    pub apart: bool,
    /// The host's address that ports of its containers are bound to unless they say another.
    pub binding: Option<Ipv4Addr>,
    /// Whether a process of ours leads to published ports what comes over IPv6 and has nowhere to go there.
    pub relay: bool,
}

impl Default for HostNetwork {
    fn default() -> Self {
        Self {
            address: None,
            range: None,
            mtu: overlay::BRIDGE_MTU,
            masquerade: true,
            apart: false,
            binding: None,
            relay: true,
        }
    }
}

impl HostNetwork {
    /// Whether it can be so.
    ///
    /// # Errors
    /// A sentence that begins with the key of `daemon.json`.
    pub fn check(&self) -> Result<(), String> {
        if !MTU_RANGE.contains(&self.mtu) {
            let (least, most) = (MTU_RANGE.start(), MTU_RANGE.end());
            return Err(format!("\"mtu\": {} is no MTU of a bridge; give {least} to {most}", self.mtu));
        }
        let Some(address) = self.address else { return self.check_range(None) };
        let (IpAddr::V4(gateway), subnet) = (address.address(), address.network()) else {
            return Err(format!("\"bip\": {address} is IPv6; give an IPv4 address, such as 172.17.0.1/16"));
        };
        if let Err(error) = Ipam::with_gateway(subnet, gateway) {
            return Err(format!("\"bip\": {address}: {error}; give the bridge's own address, such as 172.17.0.1/16"));
        }
        self.check_range(Some(subnet))
    }

    fn check_range(&self, subnet: Option<Cidr>) -> Result<(), String> {
        let Some(range) = self.range else { return Ok(()) };
        let Some(subnet) = subnet else {
            return Ipam::new(range).map(drop).map_err(|error| format!("\"fixed-cidr\": {error}"));
        };
        if range.prefix() < subnet.prefix() || !subnet.contains(range.address()) {
            return Err(format!("\"fixed-cidr\": {range} is not within {subnet}, the subnet of \"bip\""));
        }
        Ok(())
    }

    /// The subnet that was asked for and the bridge's address in it: that of the address, else the whole range.
    pub(super) fn asked(&self) -> Option<Result<BridgePlan, String>> {
        let subnet = self.address.or(self.range)?;
        Some(bridge(subnet.network(), self.address))
    }

    /// What counts at once, also for containers that are on the bridge.
    pub(super) fn settle(&self, bridge: &mut BridgePlan) {
        (bridge.mtu, bridge.masquerade, bridge.apart) = (self.mtu, self.masquerade, self.apart);
    }
}

/// The bridge of a subnet; without an address of its own it has the first one.
pub(super) fn bridge(subnet: Cidr, address: Option<Cidr>) -> Result<BridgePlan, String> {
    let mut bridge = BridgePlan::new(subnet).map_err(|error| error.to_string())?;
    if let Some(IpAddr::V4(gateway)) = address.map(Cidr::address) {
        bridge.gateway = gateway;
    }
    Ok(bridge)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Option<Cidr> {
        Some(text.parse().expect("a range"))
    }

    /// E-50: `bip` is an address in its subnet, `fixed-cidr` a part of that, or all of it.
    #[test]
    fn e_50_the_default_bridge_as_asked_for() {
        let asked = |address, range| HostNetwork { address, range, ..HostNetwork::default() };
        let both = asked(cidr("10.9.0.7/24"), cidr("10.9.0.128/25"));
        assert_eq!(both.check(), Ok(()));
        let plan = both.asked().expect("asked for").expect("good");
        assert_eq!((plan.subnet.to_string(), plan.gateway), ("10.9.0.0/24".to_owned(), Ipv4Addr::new(10, 9, 0, 7)));
        let range = asked(None, cidr("10.9.1.0/24")).asked().expect("asked for").expect("good");
        assert_eq!((range.subnet.to_string(), range.gateway), ("10.9.1.0/24".to_owned(), Ipv4Addr::new(10, 9, 1, 1)));
        assert_eq!(HostNetwork::default().asked(), None);
        let refused = |network: HostNetwork| network.check().expect_err("refused");
        assert!(refused(asked(cidr("10.9.0.0/24"), None)).contains("give the bridge's own address"));
        assert!(refused(asked(cidr("fd00::1/64"), None)).starts_with("\"bip\": fd00::1/64 is IPv6"));
        let outside = refused(asked(cidr("10.9.0.1/24"), cidr("10.8.0.0/25")));
        assert_eq!(outside, "\"fixed-cidr\": 10.8.0.0/25 is not within 10.9.0.0/24, the subnet of \"bip\"");
        assert!(refused(asked(None, cidr("fd00::/64"))).starts_with("\"fixed-cidr\": fd00::/64 is not an IPv4"));
        assert!(refused(HostNetwork { mtu: 20, ..HostNetwork::default() }).contains("give 68 to 65535"));
    }
}
