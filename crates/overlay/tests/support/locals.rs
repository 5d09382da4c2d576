//! Users' networks of one host: bridges, and places in them, whose addresses follow from the network's number.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use overlay::{
    Ipv4Range, Ipv6Range, Kernel, LocalBridge, LocalDriver, LocalNetworkPlan, LocalPort, MacAddress, NetworkPlan, diff,
    explain,
};
use types::NetworkId;

use super::RUN_DIR;

pub fn network(number: u8) -> NetworkId {
    NetworkId::from_random(number.into())
}

/// 172.30.N.0/24
pub fn bridge(number: u8, internal: bool) -> (NetworkId, LocalNetworkPlan) {
    let plan = LocalNetworkPlan {
        name: format!("net{number}"),
        ipv4: Some(Ipv4Range {
            subnet: format!("172.30.{number}.0/24").parse().expect("subnet"),
            gateway: Ipv4Addr::new(172, 30, number, 1),
        }),
        mtu: None,
        internal,
        driver: LocalDriver::Bridge(LocalBridge::default()),
        ipv6: None,
    };
    (network(number), plan)
}

/// The same with fd00:N::/64 beside it.
pub fn bridge6(number: u8, internal: bool) -> (NetworkId, LocalNetworkPlan) {
    let (id, plan) = bridge(number, internal);
    let subnet = format!("fd00:{number}::/64").parse().expect("subnet");
    let ipv6 = Some(Ipv6Range { subnet, gateway: Ipv6Addr::new(0xfd00, number.into(), 0, 0, 0, 0, 0, 1) });
    (id, LocalNetworkPlan { ipv6, ..plan })
}

pub fn port(network: NetworkId, address: [u8; 4], name: &str) -> LocalPort {
    let address = Ipv4Addr::from(address);
    LocalPort {
        network,
        address: Some(address),
        address6: None,
        link_local: Vec::new(),
        mac: MacAddress::for_ipv4(address),
        names: vec![name.to_owned()],
    }
}

/// In a bridge of both families.
pub fn port6(number: u8, last: u8, name: &str) -> LocalPort {
    let address6 = Some(Ipv6Addr::new(0xfd00, number.into(), 0, 0, 0, 0, 0, last.into()));
    LocalPort { address6, ..port(network(number), [172, 30, number, last], name) }
}

pub fn kernel() -> Kernel {
    Kernel::new(Path::new(RUN_DIR))
}

pub async fn failures(kernel: &Kernel, plan: &NetworkPlan) -> Vec<String> {
    let steps = diff(plan, &kernel.observe().await.expect("observe"));
    kernel.apply(steps).await.iter().map(|failure| explain(&failure.error)).collect()
}

pub async fn apply(kernel: &Kernel, plan: &NetworkPlan) {
    assert_eq!(failures(kernel, plan).await, [""; 0]);
    assert_eq!(diff(plan, &kernel.observe().await.expect("observe")), [], "the second time there is nothing to do");
}
