//! Which of its networks an endpoint's way to the world leads through, and the world's to it. Pure.

use std::{
    cmp::Reverse,
    net::{Ipv4Addr, Ipv6Addr},
};

use types::{GatewayMode, NetworkId};

use super::{BridgePort, EndpointPlan, LocalNetworkPlan, LocalPort, NetworkPlan};

/// The host's bridge among networks, as its users call it.
const BRIDGE: &str = "bridge";

/// How the world reaches what an endpoint publishes, over one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayIn {
    /// By ports of this host.
    Published,
    /// At the endpoint's own address.
    Routed,
    /// Not at all: it has no address that leads out.
    None,
}

/// A place from which something that an endpoint sends to the world gets there.
enum Way<'a> {
    /// On the host's bridge.
    Bridge(&'a BridgePort),
    Local(&'a LocalPort),
}

/// Of ways out the one with the least is taken, as with Docker: the highest priority; before a bridge that only stands in for
/// overlays whatever the user chose; more families; the name.
type Rank<'a> = (Reverse<i64>, bool, Reverse<usize>, &'a str);

impl NetworkPlan {
    /// Whether something that the endpoint sends to the world can get there.
    pub(crate) fn has_way_out(&self, endpoint: &EndpointPlan) -> bool {
        let leads_out = |port: &LocalPort| self.locals.get(&port.network).is_some_and(|network| !network.internal);
        endpoint.bridge.is_some() || endpoint.locals.iter().any(leads_out)
    }

    /// The network that its default route leads through; None: the host's bridge, or none at all.
    pub(crate) fn default_way(&self, endpoint: &EndpointPlan) -> Option<NetworkId> {
        match self.way(endpoint, endpoint.publishes())? {
            Way::Bridge(_) => None,
            Way::Local(port) => Some(port.network),
        }
    }

    /// Where it publishes, the host has to be its neighbour there, as on a bridge: published ports lead in where its answers
    /// lead out.
    fn way<'a>(&'a self, endpoint: &'a EndpointPlan, publishes: bool) -> Option<Way<'a>> {
        let ways = |is_near: bool| {
            let bridge = endpoint.bridge.iter().map(|port| (rank_of_bridge(endpoint), Way::Bridge(port)));
            let locals = self.ways_out(endpoint, move |network, port| {
                network.way_out(port).is_some() && (!is_near || network.bridge().is_some())
            });
            best(bridge.chain(locals.map(|(rank, port)| (rank, Way::Local(port)))))
        };
        ways(publishes).or_else(|| ways(false))
    }

    /// The place through which it reaches the world over IPv6, and is reached from there.
    pub(crate) fn default_way6<'a>(&'a self, endpoint: &'a EndpointPlan) -> Option<&'a LocalPort> {
        // A place in the ingress network with IPv6 has its own default route.
        let mesh = self.mesh.as_ref().filter(|mesh| mesh.has_ipv6()).map(|mesh| mesh.network);
        if endpoint.overlays.iter().any(|port| Some(port.network) == mesh) {
            return None;
        }
        best(self.ways_out(endpoint, |network, port| network.way_out6(port).is_some()))
    }

    /// Where what it publishes is reached over IPv6, past the host's bridge, which has none. This host is no neighbour of
    /// interfaces on its own links, and what is routed is on no port of it.
    pub(crate) fn published6(&self, endpoint: &EndpointPlan) -> Option<(NetworkId, Ipv6Addr)> {
        let port = self.default_way6(endpoint).filter(|_| !endpoint.ports.is_empty())?;
        let network = self.locals.get(&port.network)?;
        let is_published = network.bridge().is_some() && network.gateway_mode(false) != GatewayMode::Routed;
        Some((port.network, port.address6.filter(|_| is_published)?))
    }

    /// Where what it publishes is reached over IPv4; no network: on the host's bridge.
    pub(crate) fn published4(&self, endpoint: &EndpointPlan) -> Option<(Option<NetworkId>, Ipv4Addr)> {
        match self.way(endpoint, true).filter(|_| !endpoint.ports.is_empty())? {
            Way::Bridge(port) => Some((None, port.address)),
            Way::Local(port) => {
                let network = self.locals.get(&port.network)?;
                let is_published = network.bridge().is_some() && network.gateway_mode(true) != GatewayMode::Routed;
                Some((Some(port.network), port.address.filter(|_| is_published)?))
            }
        }
    }

    /// Whether what it publishes can lead in over IPv4 only by the host's bridge, on which it has no place yet.
    pub fn needs_bridge(&self, endpoint: &EndpointPlan) -> bool {
        let is_near = match self.way(endpoint, true) {
            Some(Way::Bridge(_)) => true,
            Some(Way::Local(port)) => self.locals.get(&port.network).is_some_and(|network| network.bridge().is_some()),
            None => false,
        };
        self.ways_in(endpoint)[0] == WayIn::Published && !is_near
    }

    /// How what the endpoint publishes is reached, over IPv4 and over IPv6; also for one that has no place yet where it
    /// would be.
    pub fn ways_in(&self, endpoint: &EndpointPlan) -> [WayIn; 2] {
        let is_routed = |port: &LocalPort, is_ipv4| {
            let network = self.locals.get(&port.network);
            network.is_some_and(|network| network.gateway_mode(is_ipv4) == GatewayMode::Routed)
        };
        let local6 = self.default_way6(endpoint);
        let four = match self.way(endpoint, true) {
            Some(Way::Local(port)) if is_routed(port, true) => WayIn::Routed,
            None if local6.is_some() && endpoint.overlays.is_empty() => WayIn::None,
            _ => WayIn::Published,
        };
        let six = match local6 {
            Some(port) if is_routed(port, false) => WayIn::Routed,
            Some(port) if self.locals.get(&port.network).is_some_and(|of| of.bridge().is_some()) => WayIn::Published,
            // A process leads there from IPv6.
            _ if four == WayIn::Published => WayIn::Published,
            _ => WayIn::None,
        };
        [four, six]
    }

    fn ways_out<'a>(
        &'a self,
        endpoint: &'a EndpointPlan,
        fits: impl Fn(&LocalNetworkPlan, &LocalPort) -> bool + 'a,
    ) -> impl Iterator<Item = (Rank<'a>, &'a LocalPort)> {
        endpoint.locals.iter().filter_map(move |port| {
            let network = self.locals.get(&port.network)?;
            let priority = endpoint.priorities.get(&port.network).copied().unwrap_or_default();
            let families = [network.way_out(port), network.way_out6(port)].into_iter().flatten().count();
            let rank = (Reverse(priority), false, Reverse(families), network.name.as_str());
            (!network.internal && fits(network, port)).then_some((rank, port))
        })
    }
}

impl EndpointPlan {
    fn publishes(&self) -> bool {
        !(self.ports.is_empty() && self.open4.is_empty() && self.open6.is_empty())
    }
}

fn rank_of_bridge(endpoint: &EndpointPlan) -> Rank<'_> {
    (Reverse(endpoint.bridge_priority), !endpoint.overlays.is_empty(), Reverse(1), BRIDGE)
}

fn best<'a, T>(ways: impl Iterator<Item = (Rank<'a>, T)>) -> Option<T> {
    ways.min_by_key(|(rank, _)| *rank).map(|(_, way)| way)
}
