//! The plan with which the owner begins: what was there before, as far as it is wanted, and the bridge's subnet.

use std::net::{IpAddr, Ipv4Addr};

use overlay::{
    BridgePlan, BridgePort, Cidr, EndpointId, EndpointPlan, MacAddress, Namespace, NetworkPlan, Observed,
    choose_subnet, overlap,
};
use serde::{Deserialize, Serialize};

use super::{
    host_network::{self, HostNetwork},
    local::LocalNetworks,
};
use crate::engine::{EngineConfig, EngineError};

/// What stays over a reboot.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    subnet: Cidr,
    /// The bridge's own address in it; None: the first.
    #[serde(default)]
    gateway: Option<Ipv4Addr>,
}

/// The plan of before without the endpoints that nobody wants any more. What of the wanted ones a plan that
/// was lost does not name is taken from what the kernel has.
pub(super) fn initial_plan(
    config: &EngineConfig,
    mut plan: NetworkPlan,
    observed: &Observed,
    networks: &LocalNetworks,
    wanted: impl Fn(&EndpointId) -> bool,
) -> Result<NetworkPlan, EngineError> {
    plan.endpoints.retain(|id, _| wanted(id));
    for (id, namespace) in observed.namespaces.iter().filter(|(id, _)| wanted(id)) {
        if let Some(bridge) = observed_port(namespace) {
            let found = || EndpointPlan { bridge: Some(bridge), ..EndpointPlan::default() };
            plan.endpoints.entry(id.clone()).or_insert_with(found);
        }
    }
    let is_used = plan.endpoints.values().any(|endpoint| endpoint.bridge.is_some());
    if !is_used || plan.bridge.is_none() {
        let taken: Vec<Cidr> = observed.host_routes.iter().copied().chain(networks.bridge_subnets()).collect();
        plan.bridge = Some(bridge(config, &taken, !is_used)?);
    }
    if let Some(bridge) = &mut plan.bridge {
        config.network.settle(bridge);
        warn_of_another(&config.network, bridge);
    }
    plan.without_relay = !config.network.relay;
    Ok(plan)
}

/// Addresses of containers are not changed while they run.
fn warn_of_another(asked: &HostNetwork, bridge: &BridgePlan) {
    let Some(Ok(asked)) = asked.asked() else { return };
    if (asked.subnet, asked.gateway) != (bridge.subnet, bridge.gateway) {
        tracing::warn!(
            asked = %asked.with_prefix(asked.gateway),
            kept = %bridge.with_prefix(bridge.gateway),
            "the default bridge keeps its address, because containers are on it: stop them and start the daemon again"
        );
    }
}

fn observed_port(namespace: &Namespace) -> Option<BridgePort> {
    let Namespace::Alive(inside) = namespace else { return None };
    let interface = inside.interfaces.get("eth0")?;
    let address = interface.addresses.iter().find_map(|cidr| match cidr.address() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    })?;
    Some(BridgePort { address, mac: interface.mac.unwrap_or_else(|| MacAddress::for_ipv4(address)) })
}

/// As asked for; else that of before, unless the host has come to use its subnet otherwise and no container is on it.
fn bridge(config: &EngineConfig, routes: &[Cidr], may_change: bool) -> Result<BridgePlan, EngineError> {
    let path = config.state_dir.join("network.json");
    let kept = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).ok(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(EngineError::file("read", &path, source)),
    };
    let (network, pools) = (&config.network, &config.address_pools);
    let (bridge, is_kept) = choose(network, pools, kept, routes, may_change).map_err(EngineError::Network)?;
    if !is_kept {
        let kept = Kept { subnet: bridge.subnet, gateway: Some(bridge.gateway) };
        let text = serde_json::to_vec(&kept).map_err(|e| EngineError::file("write", &path, e.into()))?;
        std::fs::write(&path, text).map_err(|source| EngineError::file("write", &path, source))?;
        tracing::info!(subnet = %bridge.subnet, "chose the subnet of the bridge");
    }
    Ok(bridge)
}

/// The bridge, and whether it is that of before.
fn choose(
    network: &HostNetwork,
    pools: &[Cidr],
    kept: Option<Kept>,
    routes: &[Cidr],
    may_change: bool,
) -> Result<(BridgePlan, bool), String> {
    if let Some(asked) = network.asked().filter(|_| may_change || kept.is_none()) {
        let asked = asked?;
        let is_same = kept.is_some_and(|kept| (kept.subnet, kept.gateway) == (asked.subnet, Some(asked.gateway)));
        match overlap(asked.subnet, routes) {
            // it worked so far, and no daemon would help nobody
            Some(with) if is_same => {
                tracing::warn!(subnet = %asked.subnet, %with, "the subnet of the default bridge overlaps a network or route of this host");
            }
            Some(with) => {
                return Err(format!(
                    "the subnet {} that daemon.json names for the default bridge overlaps {with}, which this host has a \
                     network in or a route to: name another with \"bip\" or \"fixed-cidr\", or remove that one",
                    asked.subnet
                ));
            }
            None => {}
        }
        return Ok((asked, is_same));
    }
    if let Some(Kept { subnet, gateway }) = kept.filter(|kept| !may_change || overlap(kept.subnet, routes).is_none()) {
        let mut bridge = host_network::bridge(subnet, None)?;
        bridge.gateway = gateway.unwrap_or(bridge.gateway);
        return Ok((bridge, true));
    }
    let subnet = choose_subnet(pools, routes).map_err(|error| error.to_string())?;
    Ok((host_network::bridge(subnet, None)?, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().expect("a range")
    }

    /// E-50: what is asked for takes the place of what was, unless containers are on it or the host uses it.
    #[test]
    fn e_50_the_subnet_of_the_default_bridge() {
        let pools = overlay::default_pools();
        let asked = HostNetwork { address: Some(cidr("10.9.0.7/24")), ..HostNetwork::default() };
        let kept = |subnet: &str, gateway| Some(Kept { subnet: cidr(subnet), gateway });
        let of = |network: &HostNetwork, kept, routes: &[Cidr], may_change| {
            let chosen = choose(network, &pools, kept, routes, may_change);
            chosen.map(|(bridge, is_kept)| format!("{} {} {is_kept}", bridge.subnet, bridge.gateway))
        };
        let own = HostNetwork::default();
        assert_eq!(of(&own, None, &[], true), Ok("172.17.0.0/16 172.17.0.1 false".into()));
        let before = || kept("172.18.0.0/16", None);
        assert_eq!(of(&own, before(), &[], true), Ok("172.18.0.0/16 172.18.0.1 true".into()));
        assert_eq!(of(&own, before(), &[cidr("172.18.0.0/24")], true), Ok("172.17.0.0/16 172.17.0.1 false".into()));
        assert_eq!(of(&asked, before(), &[], true), Ok("10.9.0.0/24 10.9.0.7 false".into()));
        assert_eq!(
            of(&asked, before(), &[], false),
            Ok("172.18.0.0/16 172.18.0.1 true".into()),
            "containers are on it"
        );
        let same = || kept("10.9.0.0/24", Some(Ipv4Addr::new(10, 9, 0, 7)));
        assert_eq!(of(&asked, same(), &[cidr("10.0.0.0/8")], true), Ok("10.9.0.0/24 10.9.0.7 true".into()));
        assert_eq!(of(&own, same(), &[], true), Ok("10.9.0.0/24 10.9.0.7 true".into()), "no longer asked for");
        let refused = of(&asked, before(), &[cidr("10.0.0.0/8")], true).expect_err("in use");
        assert!(refused.contains("10.9.0.0/24") && refused.contains("overlaps 10.0.0.0/8"), "{refused}");
        let old: Kept = serde_json::from_str(r#"{"subnet": "172.18.0.0/16"}"#).expect("as written before");
        assert_eq!(old.gateway, None);
    }
}
