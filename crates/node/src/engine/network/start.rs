//! The plan with which the owner begins: what was there before, as far as it is wanted, and the bridge's subnet.

use std::net::IpAddr;

use overlay::{
    BridgePlan, BridgePort, Cidr, EndpointId, EndpointPlan, MacAddress, Namespace, NetworkPlan, Observed,
    choose_subnet, overlap,
};
use serde::{Deserialize, Serialize};

use super::local::LocalNetworks;
use crate::engine::{EngineConfig, EngineError};

/// What stays over a reboot.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    subnet: Cidr,
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
    if plan.endpoints.is_empty() || plan.bridge.is_none() {
        let taken: Vec<Cidr> = observed.host_routes.iter().copied().chain(networks.bridge_subnets()).collect();
        let subnet = subnet(config, &taken, plan.endpoints.is_empty())?;
        plan.bridge = Some(BridgePlan::new(subnet).map_err(|e| EngineError::Network(e.to_string()))?);
    }
    Ok(plan)
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

/// The subnet of before, unless the host has come to use it otherwise and no container is on it.
fn subnet(config: &EngineConfig, routes: &[Cidr], may_change: bool) -> Result<Cidr, EngineError> {
    let path = config.state_dir.join("network.json");
    let kept = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).ok().map(|k| k.subnet),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(EngineError::file("read", &path, source)),
    };
    if let Some(subnet) = kept.filter(|s| !may_change || overlap(*s, routes).is_none()) {
        return Ok(subnet);
    }
    let subnet = choose_subnet(&config.address_pools, routes).map_err(|e| EngineError::Network(e.to_string()))?;
    let text = serde_json::to_vec(&Kept { subnet }).map_err(|e| EngineError::file("write", &path, e.into()))?;
    std::fs::write(&path, text).map_err(|source| EngineError::file("write", &path, source))?;
    tracing::info!(%subnet, "chose the subnet of the bridge");
    Ok(subnet)
}
