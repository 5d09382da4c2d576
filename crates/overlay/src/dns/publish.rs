//! From a plan to what each endpoint may know, and the wait until it can ask.
//!
//! The worker owns one. A plan costs one comparison of each network's names, whatever the number of
//! endpoints: a network that did not change keeps its table, and endpoints share tables by reference.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use types::NetworkId;

use super::{
    PORT,
    endpoint::State,
    resolv_conf::MAX_SERVERS,
    supervisor::{States, Wanted, WantedEndpoint},
    zone::{Elsewhere, View, Zone},
};
use crate::{Applied, EndpointId, EndpointPlan, EndpointResult, LocalPort, NetworkPlan};

/// A socket and three rules take milliseconds each; hundreds at once, under load, may need seconds.
const COMES_UP: Duration = Duration::from_secs(5);

pub(crate) struct Publisher {
    wanted: watch::Sender<Arc<Wanted>>,
    states: watch::Receiver<States>,
    zones: BTreeMap<NetworkId, Arc<Zone>>,
    /// Whose rules are known to stand since before the last look at the kernel.
    settled: BTreeSet<EndpointId>,
}

impl Publisher {
    pub(super) fn new(wanted: watch::Sender<Arc<Wanted>>, states: watch::Receiver<States>) -> Self {
        Self { wanted, states, zones: BTreeMap::new(), settled: BTreeSet::new() }
    }

    /// At the start of the process: whoever has a namespace gets its answers before anything is looked at.
    pub fn resume(&mut self, plan: &NetworkPlan, namespace_of: impl Fn(&EndpointId) -> PathBuf) {
        let there = plan.endpoints.keys().map(|id| (id.clone(), namespace_of(id))).filter(|(_, path)| path.exists());
        self.send(plan, there.collect());
    }

    /// Serves the endpoints that are ready, and those that were served before and have only a problem
    /// now. Returns when all of them can ask; one that cannot is not ready, and says why. True if rules were
    /// loaded into the namespace of an endpoint with overlays: what was known of the rules there is old then.
    pub async fn publish(&mut self, plan: &NetworkPlan, applied: &mut Applied) -> bool {
        let before = self.wanted.borrow().clone();
        let namespace = |(id, result): (&EndpointId, &EndpointResult)| match result {
            EndpointResult::Ready { namespace } => Some((id.clone(), namespace.clone())),
            EndpointResult::Failed { .. } => before.endpoints.get(id).map(|e| (id.clone(), e.namespace.clone())),
        };
        let revision = self.send(plan, applied.endpoints.iter().filter_map(namespace).collect());
        let is_settled = |states: &States| {
            states.revision == revision && !states.endpoints.values().any(|state| *state == State::Starting)
        };
        // Too late, or the other half has ended (and the process with it): each says how far it came.
        let _ = timeout(COMES_UP, self.states.wait_for(is_settled)).await;
        let states = self.states.borrow();
        for (id, result) in &mut applied.endpoints {
            let error = match states.endpoints.get(id) {
                Some(State::Serving) | None => continue,
                Some(State::Failed(error)) => error.clone(),
                Some(State::Starting) => format!("DNS does not come up within {} s", COMES_UP.as_secs()),
            };
            if matches!(result, EndpointResult::Ready { .. }) {
                *result = EndpointResult::Failed { error };
            }
        }
        let served: BTreeSet<EndpointId> = states.endpoints.keys().cloned().collect();
        let has_overlays = |id: &EndpointId| plan.endpoints.get(id).is_some_and(|e| !e.overlays.is_empty());
        let loaded = served.difference(&self.settled).any(has_overlays);
        drop(states);
        self.settled = served;
        loaded
    }

    fn send(&mut self, plan: &NetworkPlan, namespaces: BTreeMap<EndpointId, PathBuf>) -> u64 {
        self.adopt_zones(plan);
        let endpoint = |(id, namespace): (EndpointId, PathBuf)| {
            let endpoint = plan.endpoints.get(&id)?;
            let view = self.view(endpoint, plan.has_way_out(endpoint));
            Some((id, WantedEndpoint { namespace, view: Arc::new(view) }))
        };
        let endpoints = namespaces.into_iter().filter_map(endpoint).collect();
        let revision = self.wanted.borrow().revision + 1;
        self.wanted.send_replace(Arc::new(Wanted { revision, endpoints }));
        revision
    }

    fn adopt_zones(&mut self, plan: &NetworkPlan) {
        let mut before = std::mem::take(&mut self.zones);
        for (network, overlay) in &plan.overlays {
            let kept = before.remove(network).filter(|zone| zone.is_of(overlay));
            self.zones.insert(*network, kept.unwrap_or_else(|| Arc::new(Zone::new(overlay))));
        }
        let mut ports: BTreeMap<NetworkId, Vec<&LocalPort>> = BTreeMap::new();
        for port in plan.endpoints.values().flat_map(|endpoint| &endpoint.locals) {
            ports.entry(port.network).or_default().push(port);
        }
        for (network, local) in &plan.locals {
            let zone = Zone::of_local(local, ports.get(network).map_or(&[], Vec::as_slice));
            let kept = before.remove(network).filter(|kept| **kept == zone);
            self.zones.insert(*network, kept.unwrap_or_else(|| Arc::new(zone)));
        }
    }

    fn view(&self, endpoint: &EndpointPlan, has_way_out: bool) -> View {
        let overlays = endpoint.overlays.iter().map(|port| &port.network);
        let networks = overlays.chain(endpoint.locals.iter().map(|port| &port.network));
        let zones = networks.filter_map(|network| self.zones.get(network)).cloned().collect();
        View {
            zones,
            own: own(endpoint),
            links: endpoint.dns.links.clone(),
            elsewhere: elsewhere(endpoint, has_way_out),
        }
    }
}

/// What a container's `/etc/hosts` says of itself, so that its own name is not asked for outside either.
fn own(endpoint: &EndpointPlan) -> Option<(String, Vec<IpAddr>)> {
    let name = endpoint.hostname.to_ascii_lowercase();
    let overlay = endpoint.overlays.first().map(|port| port.addresses.clone());
    let local = || Some(endpoint.locals.first()?.addresses());
    let bridge = || endpoint.bridge.iter().map(|port| port.address.into()).collect();
    (!name.is_empty()).then(|| (name, overlay.or_else(local).unwrap_or_else(bridge)))
}

pub(super) fn elsewhere(endpoint: &EndpointPlan, has_way_out: bool) -> Elsewhere {
    if !has_way_out {
        return Elsewhere::Nobody;
    }
    match &endpoint.dns.nameservers[..] {
        [] => Elsewhere::Host,
        given => Elsewhere::Servers(given.iter().take(MAX_SERVERS).map(|a| SocketAddr::new(*a, PORT)).collect()),
    }
}
