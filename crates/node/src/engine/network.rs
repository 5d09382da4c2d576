//! The host's network as the engine wants it: the bridge's subnet, an address per container, and what
//! the cluster says of overlays and probes.
//!
//! One task owns the plan. Requests that wait are taken together and cost one application of the
//! plan, so twenty containers that start at once do not wait for one another. What the plan was before
//! is asked of the data plane process at start; only the choice of the subnet is kept on disk.

mod containers;
mod definition;
mod file;
mod guests;
mod held;
mod local;
mod owned;
mod start;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};

pub(in crate::engine) use self::guests::Coming;
pub(crate) use self::guests::{Place, Uplink};
pub(crate) use self::held::PortHolder;
use self::held::{Held as HeldPorts, LOOK_EVERY};
pub use self::{
    containers::{ContainerNetwork, ContainerPlace, PlaceIn},
    local::{HostFacts, LocalNetworks, NetworkError, NetworkErrorKind},
    view::{LocalEndpoint, LocalNetworkView},
};
pub(super) use self::{
    containers::{no_container, overlay_port},
    local::first_ipv4,
};

use overlay::{
    BridgePort, Cidr, Client, DataPath, EndpointDns, EndpointId, EndpointPlan, HostPorts, Ipam, MacAddress, MeshPlan,
    NetworkPlan, OverlayPlan, OverlayPort, ProbeSettings,
    netd::{Launch, NetdConfig, NetdError, ensure_running},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::{AbortHandle, JoinHandle},
};
use types::{Attachment, Network as NetworkObject, NetworkId, NetworkSpec, OverlayContainer, PortConfig, with_causes};

use super::{
    EngineConfig, EngineError,
    host_ports::{self, Conflict, Held},
    netd_keeper,
    sockets::HostSocket,
};
use crate::{clock::random, metrics::Metrics};

/// Requests that wait at most: each container start or end is one.
const MAX_WAITING: usize = 1024;

/// A container's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attached {
    /// Its first address, if it has one.
    pub address: Option<IpAddr>,
    /// The namespace, to be joined by path.
    pub namespace: PathBuf,
    /// Published on this host, every one with its number.
    pub ports: Vec<PortConfig>,
}

/// Why a container has no place in the network.
#[derive(Debug)]
pub(super) enum AttachError {
    /// Somebody holds what it asks for.
    Held(Conflict),
    /// Trying again may help.
    Failed(String),
}

impl From<String> for AttachError {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// What a container shall have of the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    pub hostname: String,
    /// A place on the host's bridge: the way to the world.
    pub bridge: bool,
    /// Of the interface there; `None`: from the address.
    pub bridge_mac: Option<MacAddress>,
    pub overlays: Vec<OverlayPort>,
    /// In networks of this host, which gives the addresses.
    pub locals: Vec<LocalWanted>,
    pub dns: EndpointDns,
    /// To be published on this host; needs a place on the bridge.
    pub ports: Vec<PortConfig>,
    /// What processes of this host hold of its ports.
    pub sockets: Vec<HostSocket>,
}

/// A place in a network that each host has for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalWanted {
    pub network: NetworkId,
    /// None: any free one; the same again for who has one already.
    pub address: Option<Ipv4Addr>,
    /// Lower case; the first is its own.
    pub names: Vec<String>,
    /// `None`: from the address.
    pub mac: Option<MacAddress>,
}

/// What the cluster says of this host's network, beside the containers on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClusterNetwork {
    /// `None` stops probing and answering.
    pub probes: Option<ProbeSettings>,
    pub data_path: Option<DataPath>,
    pub overlays: BTreeMap<NetworkId, OverlayPlan>,
    /// All networks that this host may have endpoints in, overlays and others.
    pub networks: BTreeMap<NetworkId, Arc<NetworkObject>>,
    pub mesh: Option<MeshPlan>,
    /// Places that the value has for single containers of this host.
    pub guests: BTreeMap<Place, OverlayContainer>,
    /// From this host's disk, and so older than what the data plane holds: fills only what is missing there.
    pub is_kept: bool,
}

/// A handle on the owner of the plan.
#[derive(Debug)]
pub(super) struct Network {
    requests: mpsc::Sender<Request>,
    /// `None` until the cluster has spoken: then things stay as they were before.
    cluster: watch::Sender<Option<ClusterNetwork>>,
    client: Client,
    found: BTreeMap<EndpointId, FoundEndpoint>,
    routes: Vec<Cidr>,
    locals: watch::Receiver<Arc<Vec<LocalNetworkView>>>,
    guests: Arc<guests::Guests>,
    /// Gives back places that nothing here has.
    giver: AbortHandle,
    port_holders: watch::Receiver<Arc<Vec<PortHolder>>>,
    owner: Mutex<Option<JoinHandle<()>>>,
    /// Starts the data plane process again whenever it ends.
    keeper: AbortHandle,
}

/// An endpoint that was there at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundEndpoint {
    pub address: Option<IpAddr>,
    pub ports: Vec<HostPorts>,
}

#[derive(Debug)]
enum Request {
    Attach { id: EndpointId, wanted: Box<Wanted>, reply: oneshot::Sender<Result<Attached, AttachError>> },
    Detach { id: EndpointId, reply: oneshot::Sender<Result<(), String>> },
    Local(owned::Request),
    Stop,
}

impl Network {
    /// Starts or adopts the data plane process and takes up the endpoints in `wanted`; all others of
    /// ours are removed.
    pub(super) async fn start(
        config: &EngineConfig,
        wanted: impl Fn(&EndpointId) -> bool,
        metrics: &Metrics,
    ) -> Result<Self, EngineError> {
        let failed = |error: NetdError| EngineError::Network(with_causes(&error));
        let Some((exe, args)) = config.netd.split_first() else {
            return Err(EngineError::Network("the command of the data plane process is empty".into()));
        };
        let netd = NetdConfig::in_dir(&config.run_dir, &config.version);
        let client = Client::new(&netd.socket);
        let launch = Launch { exe: PathBuf::from(exe), args: args.to_vec(), config: netd };
        ensure_running(&launch).await.map_err(failed)?;
        let observed = client.observe().await.map_err(failed)?;
        let before = client.plan().await.map_err(failed)?.unwrap_or_default();
        let networks = file::load(&config.state_dir)?;
        let mut plan = start::initial_plan(config, before, &observed, &networks, wanted)?;
        owned::follow(&mut plan, &networks);
        let applied = client.apply(&plan).await.map_err(failed)?;
        if !applied.errors.is_empty() {
            return Err(EngineError::Network(applied.errors.join("; ")));
        }
        for note in &applied.notes {
            tracing::info!(note, "host network changed");
        }
        let found = |e: &EndpointPlan| FoundEndpoint { address: address_of(e), ports: e.ports.clone() };
        let found = plan.endpoints.iter().map(|(id, e)| (id.clone(), found(e))).collect();
        let routes = observed.host_routes.iter().copied().chain(networks.bridge_subnets()).collect();
        let (requests, inbox) = mpsc::channel(MAX_WAITING);
        let (cluster, latest) = watch::channel(None);
        let (shown, locals) = watch::channel(Arc::new(view::view(&plan, &networks)));
        let (present, there) = watch::channel(Arc::new(view::present(&plan)));
        let guests = Arc::new(guests::Guests::new(latest.clone(), there));
        let giver = tokio::spawn(Arc::clone(&guests).give_back()).abort_handle();
        let keeper = tokio::spawn(netd_keeper::keep(client.clone(), launch)).abort_handle();
        let state_dir = config.state_dir.clone();
        let (held, port_holders) = HeldPorts::new();
        let (client_of_owner, metrics) = (client.clone(), metrics.clone());
        let owner = Owner {
            client: client_of_owner,
            plan,
            cluster: latest,
            networks,
            state_dir,
            shown,
            present,
            held,
            metrics,
        };
        let owner = Mutex::new(Some(tokio::spawn(owner.run(inbox))));
        Ok(Self { requests, cluster, client, found, routes, locals, guests, giver, port_holders, owner, keeper })
    }

    /// Gives a container its network; the same again gives the same.
    pub(super) async fn attach(&self, id: EndpointId, wanted: Wanted) -> Result<Attached, AttachError> {
        let wanted = Box::new(wanted);
        self.ask(|reply| Request::Attach { id, wanted, reply }).await
    }

    /// Takes a container's network away; none is fine.
    pub(super) async fn detach(&self, id: EndpointId) -> Result<(), String> {
        self.ask(|reply| Request::Detach { id, reply }).await
    }

    /// The namespace of an endpoint that is there.
    pub(super) async fn namespace(&self, id: EndpointId) -> Result<Option<PathBuf>, NetworkError> {
        self.ask_local(|reply| owned::Request::Namespace { id, reply }).await
    }

    pub(super) async fn create(&self, spec: NetworkSpec, id: NetworkId) -> Result<NetworkId, NetworkError> {
        self.ask_local(|reply| owned::Request::Create { spec: Box::new(spec), id, reply }).await
    }

    pub(super) async fn remove(&self, id: NetworkId) -> Result<(), NetworkError> {
        self.ask_local(|reply| owned::Request::Remove { id, reply }).await
    }

    /// `given`: what the cluster gave for it, where it is the cluster that gives addresses.
    async fn connect_to(
        &self,
        id: EndpointId,
        place: ContainerPlace,
        given: Option<Vec<IpAddr>>,
    ) -> Result<(), NetworkError> {
        self.ask_local(|reply| owned::Request::Connect { id, place: Box::new(place), given, reply }).await
    }

    async fn disconnect_from(&self, id: EndpointId, network: PlaceIn) -> Result<(), NetworkError> {
        self.ask_local(|reply| owned::Request::Disconnect { id, network, reply }).await
    }

    /// What the cluster says now. Whatever is attached after this call sees it.
    pub(super) fn set_cluster(&self, network: ClusterNetwork) {
        self.cluster.send_if_modified(|known| {
            let differs = known.as_ref() != Some(&network);
            *known = Some(network);
            differs
        });
    }

    /// The cluster's network of this id, as it was told last.
    pub(super) fn of_cluster(&self, id: NetworkId) -> Option<Arc<NetworkObject>> {
        self.cluster.borrow().as_ref()?.networks.get(&id).cloned()
    }

    /// The overlays as managers last spoke of them; None until one has.
    pub(super) fn overlays_of_cluster(&self) -> Option<BTreeMap<NetworkId, OverlayPlan>> {
        self.cluster.borrow().as_ref().filter(|cluster| !cluster.is_kept).map(|cluster| cluster.overlays.clone())
    }

    /// All of the cluster's networks that containers here may be in.
    pub(super) fn all_of_cluster(&self) -> Vec<Arc<NetworkObject>> {
        self.cluster.borrow().iter().flat_map(|cluster| cluster.networks.values().cloned()).collect()
    }

    /// The networks of this host alone, with what is in them.
    pub(super) fn locals(&self) -> Arc<Vec<LocalNetworkView>> {
        Arc::clone(&self.locals.borrow())
    }

    /// Processes of this host that listen where the mesh would.
    pub(super) fn port_holders(&self) -> watch::Receiver<Arc<Vec<PortHolder>>> {
        self.port_holders.clone()
    }

    /// Whether something that is in all of these networks, and in no other, needs the host's bridge as its way out.
    pub(super) fn need_way_out(&self, attachments: &[Attachment]) -> bool {
        let mut networks = attachments.iter().filter_map(|place| self.of_cluster(place.network));
        let has_own = networks.any(|network| network.vni == 0 && !network.spec.internal);
        !has_own && !self.are_internal(attachments)
    }

    /// Whether these are networks without a way out, all of them. One that is not known is taken for an overlay
    /// with one, as most are.
    pub(super) fn are_internal(&self, attachments: &[Attachment]) -> bool {
        let is_internal = |place: &Attachment| self.of_cluster(place.network).is_some_and(|n| n.spec.internal);
        !attachments.is_empty() && attachments.iter().all(is_internal)
    }

    /// Networks this host had addresses in or routes to when the engine started, and those made for it alone: no
    /// overlay may lie there (P25).
    pub(super) fn routes(&self) -> &[Cidr] {
        &self.routes
    }

    /// The endpoints that were there at start.
    pub(super) fn found(&self) -> &BTreeMap<EndpointId, FoundEndpoint> {
        &self.found
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Ends the owner of the plan. The network and its process stay.
    pub(super) async fn stop(&self) {
        self.keeper.abort();
        self.giver.abort();
        // An owner that is gone already needs no word.
        let _ = self.requests.send(Request::Stop).await;
        if let Some(owner) = self.owner.lock().await.take() {
            // It does not panic; and if it did, there is nothing left to undo here.
            let _ = owner.await;
        }
    }

    async fn ask_local<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, NetworkError>>) -> owned::Request,
    ) -> Result<T, NetworkError> {
        let stopping = || owned::failed("the engine is stopping");
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Local(request(reply))).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    async fn ask<T, E: From<String>>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, E>>) -> Request,
    ) -> Result<T, E> {
        let stopping = || E::from("the engine is stopping".to_owned());
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// Tells one asker how the application of the plan went.
type Answer = Box<dyn FnOnce(&Result<overlay::Applied, String>) + Send>;

/// What an endpoint was given in the plan.
struct Placed {
    address: Option<IpAddr>,
    published: Vec<PortConfig>,
}

struct Owner {
    client: Client,
    plan: NetworkPlan,
    cluster: watch::Receiver<Option<ClusterNetwork>>,
    networks: LocalNetworks,
    state_dir: PathBuf,
    shown: watch::Sender<Arc<Vec<LocalNetworkView>>>,
    present: watch::Sender<Arc<guests::Present>>,
    held: HeldPorts,
    metrics: Metrics,
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
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
    async fn follow_cluster(&mut self) -> bool {
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
        let known = self.plan.endpoints.get(id).and_then(|endpoint| endpoint.bridge);
        let bridge = match known {
            _ if !wanted.bridge => None,
            Some(port) => Some(port),
            None => Some(self.free_port(id)?),
        };
        let bridge = bridge.map(|port| BridgePort { mac: wanted.bridge_mac.unwrap_or(port.mac), ..port });
        let Wanted { hostname, overlays, locals, dns, ports, sockets, .. } = wanted;
        let mut places = Vec::new();
        for local in &locals {
            places.push(self.local_port(id, local).await?);
        }
        let others = self.plan.endpoints.iter().filter(|(other, _)| *other != id);
        let others: Vec<_> = others.flat_map(|(other, e)| e.ports.iter().map(move |port| (other, port))).collect();
        let own = self.plan.endpoints.get(id).map_or(&[][..], |endpoint| &endpoint.ports);
        let held = Held { sockets: &sockets, endpoints: &others, own };
        let published = host_ports::choose(&ports, held, random()).map_err(AttachError::Held)?;
        let ports = host_ports::ranges(&published);
        let endpoint =
            EndpointPlan { bridge, overlays, locals: places, hostname, dns, ports, ..EndpointPlan::default() };
        let address = address_of(&endpoint);
        self.plan.endpoints.insert(id.clone(), endpoint);
        Ok(Placed { address, published })
    }

    fn free_port(&self, id: &EndpointId) -> Result<BridgePort, String> {
        let bridge = self.plan.bridge.as_ref().ok_or("this host has no bridge")?;
        let ipam = Ipam::with_gateway(bridge.subnet, bridge.gateway).map_err(|e| e.to_string())?;
        let taken: BTreeSet<Ipv4Addr> = self.plan.endpoints.values().filter_map(|e| Some(e.bridge?.address)).collect();
        let address = ipam.allocate(&taken, id.as_str()).map_err(|e| e.to_string())?;
        Ok(BridgePort { address, mac: MacAddress::for_ipv4(address) })
    }
}

/// What an endpoint is known by: its address in its first network.
fn address_of(endpoint: &EndpointPlan) -> Option<IpAddr> {
    let overlay = endpoint.overlays.first().and_then(|port| port.addresses.first().copied());
    let local = || Some(IpAddr::V4(endpoint.locals.first()?.address));
    overlay.or_else(local).or_else(|| Some(IpAddr::V4(endpoint.bridge?.address)))
}

fn attached(id: &EndpointId, placed: Placed, applied: &Result<overlay::Applied, String>) -> Result<Attached, String> {
    let Placed { address, published: ports } = placed;
    match applied.as_ref().map_err(Clone::clone)?.endpoints.get(id) {
        Some(overlay::EndpointResult::Ready { namespace }) => {
            Ok(Attached { address, namespace: namespace.clone(), ports })
        }
        Some(overlay::EndpointResult::Failed { error }) => Err(error.clone()),
        None => Err("the data plane process did not say what became of it".to_owned()),
    }
}
