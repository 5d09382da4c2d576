//! The host's network as the engine wants it: the bridge's subnet, an address per container, and what
//! the cluster says of overlays and probes.
//!
//! One task owns the plan. Requests that wait are taken together and cost one application of the
//! plan, so twenty containers that start at once do not wait for one another. What the plan was before
//! is asked of the data plane process at start; only the choice of the subnet is kept on disk.

mod addresses;
mod asked;
mod bridge_defaults;
mod bridge_options;
mod containers;
mod definition;
mod file;
mod guests;
mod held;
mod host_network;
mod interfaces;
mod local;
mod owned;
mod owner;
mod predefined;
mod rename;
mod start;
mod unknown_options;
mod view;
mod wanted;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

pub(in crate::engine) use self::guests::Coming;
pub(crate) use self::guests::{Place, Uplink};
pub(crate) use self::held::PortHolder;
pub(crate) use self::wanted::ClusterNetwork;
pub(super) use self::{
    asked::check_addresses,
    bridge_options::binding_of,
    containers::{no_container, overlay_port},
    interfaces::interface_of,
    local::{first_ipv4, first_ipv6},
    wanted::{AttachError, Attached, FoundEndpoint, LocalWanted, Publish, Wanted},
};
pub use self::{
    bridge_defaults::BridgeDefaults,
    containers::{ContainerNetwork, ContainerPlace, PlaceIn},
    host_network::HostNetwork,
    local::{HostFacts, LocalNetworks, NetworkError, NetworkErrorKind},
    predefined::{endpoint_id, host_network_id, predefined_network, predefined_network_id},
    unknown_options::option_warning,
    view::{LocalEndpoint, LocalNetworkView, endpoint_mac},
};
use self::{
    held::Held as HeldPorts,
    owner::{Owner, address_of},
};

use overlay::{
    Cidr, Client, EndpointId, EndpointPlan, OverlayPlan,
    netd::{Launch, NetdConfig, NetdError, ensure_running},
};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::{AbortHandle, JoinHandle},
};
use types::{Attachment, Network as NetworkObject, NetworkId, NetworkSpec, with_causes};

use super::{EngineConfig, EngineError, netd_keeper};
use crate::metrics::Metrics;

/// Requests that wait at most: each container start or end is one.
const MAX_WAITING: usize = 1024;

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
        // The usual ranges of the default bridge and of overlays are apart; one that was named may lie anywhere.
        let named = plan.bridge.as_ref().filter(|_| config.network.address.or(config.network.range).is_some());
        let routes = observed.host_routes.iter().copied().chain(networks.bridge_subnets());
        let routes = routes.chain(named.map(|bridge| bridge.subnet)).collect();
        let (requests, inbox) = mpsc::channel(MAX_WAITING);
        let (cluster, latest) = watch::channel(None);
        let (shown, locals) = watch::channel(Arc::new(view::view(&plan, &networks)));
        let (present, there) = watch::channel(Arc::new(view::present(&plan)));
        let guests = Arc::new(guests::Guests::new(latest.clone(), there));
        let giver = tokio::spawn(Arc::clone(&guests).give_back()).abort_handle();
        let keeper = tokio::spawn(netd_keeper::keep(client.clone(), launch)).abort_handle();
        let (state_dir, pools) = (config.state_dir.clone(), config.address_pools.clone());
        let (held, port_holders) = HeldPorts::new();
        let (client_of_owner, metrics) = (client.clone(), metrics.clone());
        let owner = Owner {
            client: client_of_owner,
            plan,
            cluster: latest,
            networks,
            state_dir,
            pools,
            range: config.network.range,
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
