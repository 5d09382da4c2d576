//! The owner of the plan: it takes requests that wait together, follows what the cluster says, and applies what comes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::Arc,
};

use overlay::{
    BridgePort, Cidr, Client, EndpointId, EndpointPlan, Ipam, LocalPort, MacAddress, NetworkPlan, OverlayPlan, WayIn,
};
use tokio::sync::{mpsc, watch};
use types::{NetworkId, PortConfig, with_causes};

use super::{
    AttachError, Attached, ClusterNetwork, LocalNetworkView, LocalNetworks, MAX_WAITING, Publish, Request, Wanted,
    guests,
    held::{Held as HeldPorts, LOOK_EVERY},
    interfaces,
    local::first_ipv6,
    owned,
};
use crate::{
    clock::random,
    engine::host_ports::{self, Conflict, Held},
    metrics::Metrics,
};

/// Tells one asker how the application of the plan went.
type Answer = Box<dyn FnOnce(&Result<overlay::Applied, String>) + Send>;

/// What an endpoint was given in the plan.
struct Placed {
    address: Option<IpAddr>,
    address6: Option<Ipv6Addr>,
    addresses: Vec<IpAddr>,
    published: Vec<PortConfig>,
}

pub(super) struct Owner {
    pub(super) client: Client,
    pub(super) plan: NetworkPlan,
    pub(super) cluster: watch::Receiver<Option<ClusterNetwork>>,
    pub(super) networks: LocalNetworks,
    pub(super) state_dir: PathBuf,
    /// What bridge networks without a subnet of their own get one of.
    pub(super) pools: Vec<Cidr>,
    /// The part of the default bridge's subnet that endpoints get addresses of; None: all of it.
    pub(super) range: Option<Cidr>,
    pub(super) shown: watch::Sender<Arc<Vec<LocalNetworkView>>>,
    pub(super) present: watch::Sender<Arc<guests::Present>>,
    pub(super) held: HeldPorts,
    pub(super) metrics: Metrics,
}

impl Owner {
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        let mut clock = tokio::time::interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let count = tokio::select! {
                count = inbox.recv_many(&mut batch, MAX_WAITING) => count,
                changed = self.cluster.changed() => {
                    if changed.is_err() { return }
                    0
                }
                _ = clock.tick(), if self.publishes() => 0,
            };
            let stop = batch.iter().any(|r| matches!(r, Request::Stop)) || (count == 0 && inbox.is_closed());
            self.serve(std::mem::take(&mut batch)).await;
            if stop {
                return;
            }
        }
    }

    /// Notes all requests in the plan, applies it once, answers all.
    async fn serve(&mut self, batch: Vec<Request>) {
        let before: BTreeSet<EndpointId> = self.plan.endpoints.keys().cloned().collect();
        let mut answers: Vec<Answer> = Vec::new();
        let mut later = Vec::new();
        for request in batch {
            match request {
                Request::Attach { id, wanted, reply } => match self.place(&id, *wanted).await {
                    Ok(placed) => answers.push(Box::new(move |applied| {
                        // Nobody waits any more: the step was broken off and its cleanup detaches.
                        let _ = reply.send(attached(&id, placed, applied).map_err(AttachError::Failed));
                    })),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::Detach { id, reply } => {
                    self.plan.endpoints.remove(&id);
                    answers.push(Box::new(move |applied| {
                        drop(reply.send(applied.as_ref().map(drop).map_err(Clone::clone)));
                    }));
                }
                Request::Local(request) => later.push(request),
                Request::Stop => {}
            }
        }
        let changed = self.follow_cluster().await;
        owned::follow(&mut self.plan, &self.networks);
        if !answers.is_empty() || changed {
            self.apply(&before, answers).await;
        }
        for request in later {
            self.serve_local(request).await;
        }
        self.show();
        self.held.tell().await;
    }

    /// Whether the cluster publishes ports through its mesh here.
    fn publishes(&self) -> bool {
        self.cluster.borrow().as_ref().is_some_and(|cluster| cluster.mesh.is_some())
    }

    async fn apply(&mut self, before: &BTreeSet<EndpointId>, answers: Vec<Answer>) {
        // Applied even if the plan is the same: asking twice may mean that something was lost.
        let began = std::time::Instant::now();
        let applied = self.client.apply(&self.plan).await.map_err(|error| with_causes(&error));
        self.metrics.network_applied.observe(began.elapsed().as_secs_f64());
        if let Err(error) = &applied {
            self.metrics.network_failures.inc();
            tracing::warn!(error, "the host network could not be changed");
            // What was added is asked for again by whoever needs it; what was removed stays removed.
            self.plan.endpoints.retain(|id, _| before.contains(id));
        }
        if let Ok(applied) = &applied {
            for error in &applied.errors {
                tracing::warn!(error, "a part of the host network is not as it should be");
            }
        }
        // Before anybody is answered: who has its place now need not be told that it is coming.
        self.show();
        for answer in answers {
            answer(&applied);
        }
    }

    /// Brings what the cluster says into the plan: the mesh, its overlay, and of the other overlays those that
    /// have an endpoint here. An overlay that the cluster no longer names stays while an endpoint is on it.
    pub(super) async fn follow_cluster(&mut self) -> bool {
        if self.publishes() {
            self.held.look().await;
        }
        let latest = self.cluster.borrow_and_update();
        let Some(cluster) = latest.as_ref() else { return false };
        let mesh = if cluster.is_kept { self.plan.mesh.clone().or(cluster.mesh.clone()) } else { cluster.mesh.clone() };
        let mesh = self.held.yielding(mesh, self.plan.mesh.as_ref());
        let used = self.plan.endpoints.values().flat_map(|e| e.overlays.iter().map(|port| port.network));
        let used: BTreeSet<NetworkId> = used.chain(mesh.iter().map(|mesh| mesh.network)).collect();
        let (said, held) = (&cluster.overlays, &self.plan.overlays);
        let (first, second) = if cluster.is_kept { (held, said) } else { (said, held) };
        let overlay = |id: &NetworkId| first.get(id).or_else(|| second.get(id));
        let overlays: BTreeMap<NetworkId, OverlayPlan> =
            used.iter().filter_map(|id| Some((*id, overlay(id)?.clone()))).collect();
        let (mut probes, mut data_path) = (cluster.probes.clone(), cluster.data_path.clone());
        if cluster.is_kept {
            (probes, data_path) = (self.plan.probes.clone().or(probes), self.plan.data_path.clone().or(data_path));
        }
        let before = (&self.plan.overlays, &self.plan.mesh, &self.plan.probes, &self.plan.data_path);
        let changed = before != (&overlays, &mesh, &probes, &data_path);
        if changed {
            (self.plan.overlays, self.plan.mesh) = (overlays, mesh);
            (self.plan.probes, self.plan.data_path) = (probes, data_path);
        }
        changed
    }

    async fn place(&mut self, id: &EndpointId, wanted: Wanted) -> Result<Placed, AttachError> {
        let mut places = Vec::new();
        for local in &wanted.locals {
            places.push(self.local_port(id, local).await?);
        }
        let priorities = wanted.locals.iter().filter(|local| local.priority != 0);
        let mut endpoint = EndpointPlan {
            bridge: if wanted.bridge { Some(self.bridge_port(id, &wanted)?) } else { None },
            overlays: wanted.overlays.clone(),
            locals: places,
            priorities: priorities.map(|local| (local.network, local.priority)).collect(),
            bridge_priority: wanted.bridge_priority,
            bridge_link_local: wanted.bridge_link_local.clone(),
            hostname: wanted.hostname.clone(),
            dns: wanted.dns.clone(),
            ..EndpointPlan::default()
        };
        if wanted.bridge_for_ports && self.plan.needs_bridge(&endpoint) {
            endpoint.bridge = Some(self.bridge_port(id, &wanted)?);
        }
        let published = self.publish(id, &mut endpoint, &wanted.publish).map_err(AttachError::Held)?;
        interfaces::name_all(&mut endpoint, wanted.interfaces, |network| self.prefix_of(network))?;
        let address = address_of(&endpoint);
        let address6 = address6_of(&endpoint).filter(|six| address != Some(IpAddr::V6(*six)));
        let addresses = addresses_of(&endpoint);
        self.plan.endpoints.insert(id.clone(), endpoint);
        Ok(Placed { address, address6, addresses, published })
    }

    /// Gives the endpoint its ports as its networks are reached.
    pub(super) fn publish(
        &self,
        id: &EndpointId,
        endpoint: &mut EndpointPlan,
        wanted: &Publish,
    ) -> Result<Vec<PortConfig>, Conflict> {
        let ways = self.plan.ways_in(endpoint);
        let others = self.plan.endpoints.iter().filter(|(other, _)| *other != id);
        let others: Vec<_> = others.flat_map(|(other, e)| e.ports.iter().map(move |port| (other, port))).collect();
        let own = self.plan.endpoints.get(id).map_or(&[][..], |endpoint| &endpoint.ports);
        let held = Held { sockets: &wanted.sockets, endpoints: &others, own };
        let of_host = host_ports::of_host(&wanted.ports, ways);
        let mut published = host_ports::choose(&of_host, held, random())?;
        endpoint.ports = host_ports::ranges(&published);
        (endpoint.open4, endpoint.open6) = (Vec::new(), Vec::new());
        for (is_ipv4, _) in [true, false].into_iter().zip(ways).filter(|(_, way)| *way == WayIn::Routed) {
            let (open, shown) = host_ports::routed(&wanted.ports, is_ipv4);
            if is_ipv4 {
                endpoint.open4 = open;
            } else {
                endpoint.open6 = open;
            }
            published.extend(shown);
        }
        Ok(published)
    }

    /// The one it has, else a free one.
    fn bridge_port(&self, id: &EndpointId, wanted: &Wanted) -> Result<BridgePort, String> {
        let known = self.plan.endpoints.get(id).and_then(|endpoint| endpoint.bridge);
        let port = known.map_or_else(|| self.free_port(id), Ok)?;
        Ok(BridgePort { mac: wanted.bridge_mac.unwrap_or(port.mac), ..port })
    }

    pub(super) fn free_port(&self, id: &EndpointId) -> Result<BridgePort, String> {
        let bridge = self.plan.bridge.as_ref().ok_or("this host has no bridge")?;
        let ipam = Ipam::with_gateway(bridge.subnet, bridge.gateway).map_err(|e| e.to_string())?;
        let taken: BTreeSet<Ipv4Addr> = self.plan.endpoints.values().filter_map(|e| Some(e.bridge?.address)).collect();
        // Where the bridge has kept another subnet, the part is none of it.
        let part = self.range.filter(|part| bridge.subnet.overlaps(*part));
        let address = match part {
            Some(part) => ipam.allocate_in(part, &taken, id.as_str()),
            None => ipam.allocate(&taken, id.as_str()),
        };
        let address = address.map_err(|e| e.to_string())?;
        Ok(BridgePort { address, mac: MacAddress::for_ipv4(address) })
    }
}

/// What an endpoint is known by: its address in its first network.
pub(super) fn address_of(endpoint: &EndpointPlan) -> Option<IpAddr> {
    let overlay = endpoint.overlays.first().and_then(|port| port.addresses.first().copied());
    let local = || endpoint.locals.first()?.addresses().first().copied();
    overlay.or_else(local).or_else(|| Some(IpAddr::V4(endpoint.bridge?.address)))
}

/// In all of its networks. The host's bridge is no network of one that is in an overlay: it only leaves by it.
fn addresses_of(endpoint: &EndpointPlan) -> Vec<IpAddr> {
    let overlays = endpoint.overlays.iter().flat_map(|port| port.addresses.iter().copied());
    let bridge = endpoint.bridge.iter().filter(|_| endpoint.overlays.is_empty());
    let bridge = bridge.map(|port| IpAddr::V4(port.address));
    overlays.chain(endpoint.locals.iter().flat_map(LocalPort::addresses)).chain(bridge).collect()
}

/// Of IPv6 in the same network.
fn address6_of(endpoint: &EndpointPlan) -> Option<Ipv6Addr> {
    match endpoint.overlays.first() {
        Some(overlay) => first_ipv6(&overlay.addresses),
        None => endpoint.locals.first()?.address6,
    }
}

fn attached(id: &EndpointId, placed: Placed, applied: &Result<overlay::Applied, String>) -> Result<Attached, String> {
    let Placed { address, address6, addresses, published: ports } = placed;
    match applied.as_ref().map_err(Clone::clone)?.endpoints.get(id) {
        Some(overlay::EndpointResult::Ready { namespace }) => {
            Ok(Attached { address, address6, addresses, namespace: namespace.clone(), ports })
        }
        Some(overlay::EndpointResult::Failed { error }) => Err(error.clone()),
        None => Err("the data plane process did not say what became of it".to_owned()),
    }
}
