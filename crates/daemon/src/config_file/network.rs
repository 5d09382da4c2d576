//! The keys of the default bridge, of published ports and of new networks. Pure.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use node::engine::{BridgeDefaults, HostNetwork};

use super::ConfigFile;

impl ConfigFile {
    /// What it says of them, and rswarm's own where it says nothing.
    pub(super) fn host_network(&self) -> Result<HostNetwork> {
        let usual = HostNetwork::default();
        let binding = match self.ip {
            None => None,
            Some(IpAddr::V4(address)) => Some(address).filter(|address| !address.is_unspecified()),
            Some(IpAddr::V6(address)) => bail!(
                "\"ip\": {address} is IPv6, which the default bridge has not; give an IPv4 address of this host, and IPv6 ones \
                 with the ports: -p [{address}]:80:80"
            ),
        };
        let network = HostNetwork {
            address: self.bip,
            range: self.fixed_cidr,
            // 0 is Docker's word for the usual one
            mtu: self.mtu.filter(|mtu| *mtu != 0).unwrap_or(usual.mtu),
            masquerade: self.ip_masq.unwrap_or(usual.masquerade),
            apart: self.icc.map_or(usual.apart, |reach| !reach),
            binding,
            relay: self.userland_proxy.unwrap_or(usual.relay),
        };
        network.check().map_err(anyhow::Error::msg)?;
        Ok(network)
    }

    /// What bridge networks get.
    pub(super) fn bridge_defaults(&self) -> Result<BridgeDefaults> {
        let mut defaults = BridgeDefaults::default();
        for (driver, options) in self.default_network_opts.iter().flatten() {
            match driver.as_str() {
                "bridge" => defaults.0.clone_from(options),
                _ if options.is_empty() => {}
                _ => bail!(
                    "\"default-network-opts\": {driver}: only networks of the driver bridge have such options; give them with \
                     `network create --driver {driver} --opt`"
                ),
            }
        }
        defaults.check().map_err(anyhow::Error::msg).context("\"default-network-opts\": bridge")?;
        Ok(defaults)
    }

    /// The default bridge is rswarm's own.
    pub(super) fn check_bridge(&self) -> Result<()> {
        match self.bridge.as_deref() {
            None | Some("" | overlay::BRIDGE_NAME) => Ok(()),
            Some("none") => bail!(
                "\"bridge\": none: the default bridge is also the way to the world of containers in overlays, and the way to \
                 published ports; leave it out, and run what shall have no network with --network none"
            ),
            Some(name) => bail!(
                "\"bridge\": {name}: the default bridge is {}, which rswarm makes and keeps itself; leave it out, set its address \
                 with \"bip\", or make a network with `network create --opt com.docker.network.bridge.name={name}`",
                overlay::BRIDGE_NAME
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::read, *};

    fn network(text: &str) -> Result<HostNetwork, String> {
        read(&[], text).map(|config| config.of_file.network)
    }

    /// E-50: what a file of Docker's says of the default bridge.
    #[test]
    fn e_50_the_default_bridge() {
        let text = r#"{"bip": "10.9.0.1/24", "fixed-cidr": "10.9.0.128/25", "mtu": 1400, "icc": false, "ip": "127.0.0.1",
            "ip-masq": false, "userland-proxy": false, "bridge": "rswarm0"}"#;
        let found = network(text).expect("a good file");
        let wanted = HostNetwork {
            address: "10.9.0.1/24".parse().ok(),
            range: "10.9.0.128/25".parse().ok(),
            mtu: 1400,
            masquerade: false,
            apart: true,
            binding: Some([127, 0, 0, 1].into()),
            relay: false,
        };
        assert_eq!(found, wanted);
        let usual =
            r#"{"mtu": 0, "icc": true, "ip": "0.0.0.0", "ip-masq": true, "userland-proxy": true, "bridge": ""}"#;
        assert_eq!(network(usual), Ok(HostNetwork::default()));
        let refused = |text: &str| network(text).expect_err(text);
        assert!(refused(r#"{"bip": "10.9.0.0/24"}"#).contains("give the bridge's own address"));
        assert!(refused(r#"{"bip": "ten"}"#).contains("at line 1"));
        assert!(refused(r#"{"fixed-cidr": "10.9.0.0/31"}"#).starts_with("\"fixed-cidr\": "));
        assert!(refused(r#"{"mtu": 9}"#).starts_with("\"mtu\": 9 is no MTU"));
        assert!(refused(r#"{"ip": "::1"}"#).contains("-p [::1]:80:80"));
        assert!(refused(r#"{"bridge": "none"}"#).contains("--network none"));
        assert!(refused(r#"{"bridge": "br0"}"#).contains("com.docker.network.bridge.name=br0"));
    }

    /// E-50
    #[test]
    fn e_50_options_of_new_networks() {
        let options = |text: &str| {
            let config = read(&[], &format!(r#"{{"default-network-opts": {text}}}"#))?;
            Ok::<_, String>(config.settings().expect("good").bridge_defaults.0)
        };
        let found = options(r#"{"bridge": {"com.docker.network.driver.mtu": "1400"}, "macvlan": {}}"#).expect("good");
        assert_eq!(found, [("com.docker.network.driver.mtu".to_owned(), "1400".to_owned())].into());
        assert!(options(r#"{"overlay": {"encrypted": ""}}"#).expect_err("refused").contains("--driver overlay --opt"));
        let unknown = options(r#"{"bridge": {"speed": "high"}}"#).expect_err("refused");
        assert!(unknown.starts_with("\"default-network-opts\": bridge: option speed"), "{unknown}");
    }
}
