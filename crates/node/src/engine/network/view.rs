//! The networks of this host alone as others see them, with the endpoints in each. Pure.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use overlay::{Cidr, EndpointId, LocalDriver, MacAddress, NetworkPlan};
use types::{Labels, Network, NetworkDriver, NetworkId, TaskId};

use super::{
    bridge_options,
    guests::{self, Present},
    local::{LocalNetworks, first_ipv4},
};
use crate::engine::container_id;

/// A network of this host alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalNetworkView {
    /// None: the host's own bridge, which every host has.
    pub network: Option<Arc<Network>>,
    /// As it stands; None for a configuration.
    pub subnet: Option<Cidr>,
    /// By which its containers leave: nobody leaves an internal one, whatever address its bridge has.
    pub gateway: Option<Ipv4Addr>,
    /// Of IPv6, if it has that.
    pub gateway6: Option<Ipv6Addr>,
    /// What the host's own bridge is, as Docker names it; of users' networks their spec says it.
    pub bridge_options: Labels,
    pub endpoints: Vec<LocalEndpoint>,
}

/// A container's place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Of the container.
    pub container: String,
    /// By which others in the network find it; else its host name.
    pub name: String,
    /// None: it has IPv6 alone.
    pub address: Option<Cidr>,
    pub address6: Option<Cidr>,
    /// None: that of the link its interface is on.
    pub mac: Option<MacAddress>,
}

/// The host's bridge first.
pub(super) fn view(plan: &NetworkPlan, networks: &LocalNetworks) -> Vec<LocalNetworkView> {
    let bridge = plan.bridge.as_ref();
    let on_bridge = plan.endpoints.iter().filter_map(|(id, endpoint)| {
        let port = endpoint.bridge?;
        let address = bridge?.with_prefix(port.address);
        let (container, name, mac) = (container(id), endpoint.hostname.clone(), Some(port.mac));
        Some(LocalEndpoint { container, name, address: Some(address), address6: None, mac })
    });
    let first = LocalNetworkView {
        network: None,
        subnet: bridge.map(|bridge| bridge.subnet),
        gateway: bridge.map(|bridge| bridge.gateway),
        gateway6: None,
        bridge_options: bridge.map(bridge_options::of_host).unwrap_or_default(),
        endpoints: on_bridge.collect(),
    };
    let own = networks.iter().map(|network| {
        let planned = plan.locals.get(&network.id);
        let asked = network.subnets.first();
        let first = planned.and_then(|local| local.ranges().first().map(|(subnet, _)| *subnet));
        let subnet = first.or_else(|| asked.map(|subnet| subnet.range));
        let endpoints = endpoints(plan, network.id);
        let leads_out = planned.filter(|local| !local.internal);
        let gateway = leads_out.filter(|_| network.spec.has_gateway(true)).and_then(|local| local.ipv4);
        let gateway = gateway.map(|ipv4| ipv4.gateway);
        let gateway6 = leads_out.filter(|_| network.spec.has_gateway(false)).and_then(|local| local.ipv6);
        let gateway6 = gateway6.map(|ipv6| ipv6.gateway);
        let bridge_options = Labels::new();
        LocalNetworkView { network: Some(Arc::clone(network)), subnet, gateway, gateway6, bridge_options, endpoints }
    });
    [first].into_iter().chain(own).collect()
}

/// The hardware address of whoever has these addresses in a network of the cluster; None: that of the link its interface
/// is on.
pub fn endpoint_mac(network: &Network, addresses: &[IpAddr]) -> Option<MacAddress> {
    let first = first_ipv4(addresses).map(IpAddr::V4).or(addresses.first().copied());
    first.filter(|_| network.spec.driver != NetworkDriver::Ipvlan).map(MacAddress::for_address)
}

/// What is there of containers, for whoever asks the managers for their places.
pub(super) fn present(plan: &NetworkPlan) -> Present {
    let mut present = Present::default();
    for (id, endpoint) in &plan.endpoints {
        let own_name = endpoint.locals.first().and_then(|port| port.names.first()).unwrap_or(&endpoint.hostname);
        present.containers.insert(container(id), own_name.clone());
        let networks = endpoint.overlays.iter().map(|port| port.network);
        let networks = networks.chain(endpoint.locals.iter().map(|port| port.network));
        present.places.extend(networks.map(|network| guests::place(network, id)));
    }
    present
}

fn endpoints(plan: &NetworkPlan, network: NetworkId) -> Vec<LocalEndpoint> {
    let place = |(id, endpoint): (&EndpointId, &overlay::EndpointPlan)| {
        let port = endpoint.locals.iter().find(|port| port.network == network)?;
        let name = port.names.first().unwrap_or(&endpoint.hostname).clone();
        let local = plan.locals.get(&network)?;
        let is_links = matches!(local.driver, LocalDriver::Ipvlan { .. });
        let mac = (!is_links).then_some(port.mac);
        let address = local.ipv4.zip(port.address);
        let address = address.and_then(|(ipv4, address)| Cidr::new(address.into(), ipv4.subnet.prefix()).ok());
        let address6 = local.ipv6.zip(port.address6);
        let address6 = address6.and_then(|(ipv6, address)| Cidr::new(address.into(), ipv6.subnet.prefix()).ok());
        Some(LocalEndpoint { container: container(id), name, address, address6, mac })
    };
    plan.endpoints.iter().filter_map(place).collect()
}

/// A task's endpoint has the task's id, a single container's the container's.
pub(super) fn container(id: &EndpointId) -> String {
    id.as_str().parse::<TaskId>().map_or_else(|_| id.to_string(), container_id)
}
