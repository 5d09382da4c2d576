//! Whether a network can have the addresses that a container asks for: told before there is a container, in Docker's
//! words (parity E-17, N-21). Pure. Whether they are free is seen when it starts.

use std::net::IpAddr;

use types::{Cidr, Network};

use super::local::{NetworkError, NetworkErrorKind as Kind};
use crate::engine::containers::spec::PlaceRequest;

/// # Errors
/// When an address lies in no subnet that somebody chose: one that was chosen by rswarm may be another when the network
/// is made again.
pub(in crate::engine) fn check_addresses(network: &Network, asked: &PlaceRequest) -> Result<(), NetworkError> {
    let (four, six) = (asked.address.map(IpAddr::V4), asked.address6.map(IpAddr::V6));
    match four.into_iter().chain(six).find_map(|address| problem(network, address)) {
        Some(problem) => Err(NetworkError::new(Kind::Invalid, format!("invalid endpoint settings:\n{problem}"))),
        None => Ok(()),
    }
}

fn problem(network: &Network, address: IpAddr) -> Option<String> {
    let (name, spec) = (&network.spec.name, &network.spec);
    let is_ipv4 = address.is_ipv4();
    let mut ranges = ranges(network)?;
    if ranges.iter().any(|range| range.contains(address)) {
        return None;
    }
    ranges.retain(|range| range.address().is_ipv4() == is_ipv4);
    if !ranges.is_empty() {
        let has = ranges.iter().map(Cidr::to_string).collect::<Vec<_>>().join(", ");
        return Some(format!(
            "no configured subnet or ip-range contain the IP address {address}: network {name} has {has}"
        ));
    }
    let (family, has_family) = if is_ipv4 { ("IPv4", spec.ipv4) } else { ("IPv6", spec.ipv6) };
    let why = match has_family {
        true => format!("network {name} was created without --subnet; give it one, or leave {address} out"),
        false => format!("network {name}: it has no {family}; leave {address} out"),
    };
    Some(format!(
        "user specified IP address is supported only when connecting to networks with user configured subnets: {why}"
    ))
}

/// What users may choose addresses of: in an overlay all, as the cluster keeps its subnets. None: a configuration that is
/// not seen from here may say it.
fn ranges(network: &Network) -> Option<Vec<Cidr>> {
    if network.vni != 0 {
        return Some(network.subnets.iter().map(|subnet| subnet.range).collect());
    }
    let given: Vec<Cidr> = network.spec.subnets.iter().map(|subnet| subnet.subnet).collect();
    (!given.is_empty() || network.spec.config_from.is_none()).then_some(given)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use types::{Meta, NetworkDriver, NetworkId, NetworkSpec, Subnet, SubnetSpec};

    use super::*;

    fn network(vni: u32, given: &[&str], made: &[&str]) -> Network {
        let driver = if vni == 0 { NetworkDriver::Bridge } else { NetworkDriver::Overlay };
        let range = |text: &str| text.parse::<Cidr>().expect("range");
        let asked = |text: &&str| SubnetSpec {
            subnet: range(text),
            gateway: None,
            ip_range: None,
            auxiliary: Default::default(),
        };
        let chosen = |text: &&str| Subnet {
            range: range(text),
            gateway: range(text).address(),
            ip_range: None,
            reserved: Vec::new(),
        };
        let subnets = given.iter().map(asked).collect();
        let spec = NetworkSpec { driver, subnets, ..NetworkSpec::overlay("net".parse().expect("name")) };
        let subnets = made.iter().map(chosen).collect();
        Network { id: NetworkId::from_random(1), meta: Meta::default(), spec: Arc::new(spec), vni, subnets }
    }

    /// E-17, N-21
    #[test]
    fn e_17_addresses_are_of_subnets_that_somebody_gave() {
        let check = |network: &Network, address: &str| {
            let (address, address6) = match address.parse().expect("an address") {
                IpAddr::V4(four) => (Some(four), None),
                IpAddr::V6(six) => (None, Some(six)),
            };
            let asked = PlaceRequest { address, address6, ..PlaceRequest::default() };
            check_addresses(network, &asked).map_err(|error| error.message)
        };
        let given = network(0, &["10.1.0.0/24"], &["10.1.0.0/24"]);
        assert_eq!(check_addresses(&given, &PlaceRequest::default()), Ok(()));
        assert_eq!(check(&given, "10.1.0.9"), Ok(()));
        let said = |network: &Network, address: &str| check(network, address).expect_err("refused");
        assert_eq!(
            said(&given, "10.2.0.9"),
            "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.2.0.9: network net has \
             10.1.0.0/24"
        );
        assert!(said(&given, "fd00::9").ends_with("network net: it has no IPv6; leave fd00::9 out"));
        let chosen = network(0, &[], &["172.18.0.0/16"]);
        assert_eq!(
            said(&chosen, "172.18.0.9"),
            "invalid endpoint settings:\nuser specified IP address is supported only when connecting to networks with user \
             configured subnets: network net was created without --subnet; give it one, or leave 172.18.0.9 out"
        );
        let overlay = network(4097, &[], &["10.0.1.0/24"]);
        assert_eq!(check(&overlay, "10.0.1.9"), Ok(()));
        assert!(said(&overlay, "10.9.0.9").contains("no configured subnet"));
        let mut of_nodes = chosen;
        Arc::make_mut(&mut of_nodes.spec).config_from = "conf".parse().ok();
        assert_eq!(check(&of_nodes, "192.0.2.9"), Ok(()), "the node's configuration has the subnet");
    }
}
