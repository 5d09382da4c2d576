//! Which addresses an endpoint gets in a network of this host: as wished, else what it has already, else any. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use overlay::{EndpointId, Ipam, Ipam6, LocalPort, NetworkPlan};
use types::{NetworkId, Subnet};

use super::{
    LocalWanted,
    definition::Subnets,
    local::{first_ipv4, first_ipv6},
};

/// Of each family that the network has; says what of the wish cannot be.
pub(super) fn free(
    plan: &NetworkPlan,
    id: &EndpointId,
    wanted: &LocalWanted,
    subnets: &Subnets,
) -> Result<(Option<Ipv4Addr>, Option<Ipv6Addr>), String> {
    let there = There::of(plan, id, wanted.network);
    let four = match (&subnets.four, wanted.address) {
        (Some(subnet), wished) => Some(there.four(id, subnet, wished)?),
        (None, None) => None,
        (None, Some(address)) => {
            return Err(format!(
                "address {address}: it has no IPv4; take a network that was created without --ipv4=false, or leave it out"
            ));
        }
    };
    let six = match (&subnets.six, wanted.address6) {
        (Some(subnet), wished) => Some(there.six(id, subnet, wished)?),
        (None, None) => None,
        (None, Some(address)) => {
            return Err(format!(
                "address {address}: it has no IPv6; take a network that was created with --ipv6, or leave it out"
            ));
        }
    };
    Ok((four, six))
}

/// Who has which address already.
struct There {
    own: Vec<IpAddr>,
    others: Vec<IpAddr>,
}

impl There {
    fn of(plan: &NetworkPlan, id: &EndpointId, network: NetworkId) -> Self {
        let ports = plan.endpoints.iter().flat_map(|(id, endpoint)| endpoint.locals.iter().map(move |port| (id, port)));
        let (own, others): (Vec<_>, Vec<_>) =
            ports.filter(|(_, port)| port.network == network).partition(|(owner, _)| *owner == id);
        let addresses = |ports: Vec<(&EndpointId, &LocalPort)>| ports.iter().flat_map(|(_, p)| p.addresses()).collect();
        Self { own: addresses(own), others: addresses(others) }
    }

    fn four(&self, id: &EndpointId, subnet: &Subnet, wished: Option<Ipv4Addr>) -> Result<Ipv4Addr, String> {
        let IpAddr::V4(gateway) = subnet.gateway else { return Err("its gateway is not IPv4".to_owned()) };
        let ipam = Ipam::with_gateway(subnet.range, gateway).map_err(|error| error.to_string())?;
        if let Some(address) = wished {
            let can_be = ipam.is_host_address(address) && address != gateway;
            return self.wished(address.into(), subnet, can_be).map(|()| address);
        }
        let mut taken: BTreeSet<Ipv4Addr> = self.others.iter().filter_map(|a| first_ipv4(&[*a])).collect();
        taken.extend(subnet.reserved.iter().filter_map(|address| first_ipv4(&[*address])));
        if let Some(address) = first_ipv4(&self.own).filter(|address| !taken.contains(address)) {
            return Ok(address);
        }
        let found = match subnet.ip_range {
            Some(part) => ipam.allocate_in(part, &taken, id.as_str()),
            None => ipam.allocate(&taken, id.as_str()),
        };
        found.map_err(|error| error.to_string())
    }

    fn six(&self, id: &EndpointId, subnet: &Subnet, wished: Option<Ipv6Addr>) -> Result<Ipv6Addr, String> {
        let IpAddr::V6(gateway) = subnet.gateway else { return Err("its gateway is not IPv6".to_owned()) };
        let ipam = Ipam6::with_gateway(subnet.range, gateway).map_err(|error| error.to_string())?;
        if let Some(address) = wished {
            let can_be = ipam.is_host_address(address) && address != gateway;
            return self.wished(address.into(), subnet, can_be).map(|()| address);
        }
        let mut taken: BTreeSet<Ipv6Addr> = self.others.iter().filter_map(|a| first_ipv6(&[*a])).collect();
        taken.extend(subnet.reserved.iter().filter_map(|address| first_ipv6(&[*address])));
        if let Some(address) = first_ipv6(&self.own).filter(|address| !taken.contains(address)) {
            return Ok(address);
        }
        ipam.allocate(subnet.ip_range, &taken, id.as_str()).map_err(|error| error.to_string())
    }

    fn wished(&self, address: IpAddr, subnet: &Subnet, can_be: bool) -> Result<(), String> {
        if !can_be {
            return Err(format!("address {address} cannot be a container's in {}", subnet.range));
        }
        if self.others.contains(&address) { Err(format!("address {address} is already in use")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use overlay::{EndpointPlan, MacAddress};

    use super::{super::definition::whole, *};

    /// E-17: of both families, kept while it has them, and what cannot be is said.
    #[test]
    fn e17_addresses_of_both_families() {
        let network = NetworkId::from_random(1);
        let six = whole("fd00:1::/64".parse().expect("subnet"), "fd00:1::1".parse::<Ipv6Addr>().expect("gateway"));
        let four = whole("10.1.0.0/24".parse().expect("subnet"), Ipv4Addr::new(10, 1, 0, 1));
        let subnets = Subnets { four: Some(four), six: Some(six) };
        let wanted = LocalWanted { address6: "fd00:1::9".parse().ok(), ..LocalWanted::of(network) };
        let (one, two): (EndpointId, EndpointId) = ("one".parse().expect("id"), "two".parse().expect("id"));
        let mut plan = NetworkPlan::default();
        let (address, address6) = free(&plan, &one, &wanted, &subnets).expect("free");
        assert_eq!(address6, wanted.address6);
        let mac = MacAddress::for_ipv4(address.expect("it has IPv4"));
        let port = LocalPort { network, address, address6, link_local: Vec::new(), mac, names: Vec::new() };
        plan.endpoints.insert(one.clone(), EndpointPlan { locals: vec![port], ..EndpointPlan::default() });
        let any = LocalWanted::of(network);
        assert_eq!(free(&plan, &one, &any, &subnets), Ok((address, address6)), "the same again");
        let (other, other6) = free(&plan, &two, &any, &subnets).expect("free");
        assert!(other != address && other6.is_some() && other6 != address6);
        let taken = free(&plan, &two, &wanted, &subnets).expect_err("taken");
        assert_eq!(taken, "address fd00:1::9 is already in use");
        for bad in ["fd00:1::", "fd00:1::1", "fd00:2::5"] {
            let wanted = LocalWanted { address6: bad.parse().ok(), ..LocalWanted::of(network) };
            let said = free(&plan, &two, &wanted, &subnets).expect_err("not one of its");
            assert_eq!(said, format!("address {bad} cannot be a container's in fd00:1::/64"));
        }
        let six_alone = Subnets { four: None, ..subnets.clone() };
        let (none, six) = free(&plan, &two, &any, &six_alone).expect("free");
        assert!(none.is_none() && six.is_some());
        let four = LocalWanted { address: Some([10, 1, 0, 9].into()), ..LocalWanted::of(network) };
        let said = free(&plan, &two, &four, &six_alone).expect_err("no IPv4");
        assert!(said.starts_with("address 10.1.0.9: it has no IPv4"), "{said}");
        let without = Subnets { six: None, ..subnets };
        let said = free(&plan, &two, &wanted, &without).expect_err("no IPv6");
        assert!(said.starts_with("address fd00:1::9: it has no IPv6"), "{said}");
        assert_eq!(free(&plan, &two, &any, &without).expect("free").1, None);
    }
}
