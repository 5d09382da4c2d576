//! The engine of one host: images, containers, local volumes and the host's side of the network.
//!
//! Started by the daemon before anything else and stopped last; used by the agent to do what its
//! assignments say and by the API to answer about images, logs and the host. Containers outlive it.

mod api_socket;
mod archive;
mod attach;
mod config;
mod container;
mod container_id;
pub mod containers;
mod defaults;
pub(crate) mod dependencies;
mod detach_keys;
mod devices;
mod dial;
mod docker_layout;
mod doctor;
mod error;
pub mod events;
mod exec;
mod files;
mod frame;
pub(crate) mod health;
mod host_info;
pub(crate) mod host_ports;
pub(crate) mod image_gc;
mod images;
mod lock;
mod log_driver;
mod logs;
mod mesh_ports;
mod netd_keeper;
mod network;
mod networks;
pub(crate) mod peers;
pub(crate) mod preflight;
mod refusal;
mod sockets;
mod stop_signal;
mod streams;
mod task_files;
pub(crate) mod tasks;
mod template;
pub mod tunnels;
mod usage;
pub mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

pub use ::runtime::{READONLY_PATHS, masked_paths};
pub use archive::TarStream;
pub use attach::{AttachOptions, Attachment};
pub use config::{EngineConfig, Settings};
pub use container_id::{container_id, container_name, task_of_container};
pub use defaults::ContainerDefaults;
pub use devices::CDI_DIRECTORIES;
pub use error::EngineError;
pub use exec::{ExecSession, ExecSpec, ExecView};
pub use frame::{FRAME_HEADER, FrameKind, frame_header};
pub use host_info::{HostInfo, NETWORK_DRIVERS, VOLUME_DRIVERS};
pub use image::{StorageDriver, Transfers};
pub use image_gc::{ImageGc, Percent};
pub use log_driver::DRIVERS as LOG_DRIVERS;
pub use logs::{LogLine, LogOptions, LogStream};
pub use network::{
    BridgeDefaults, ContainerNetwork, ContainerPlace, HostFacts, HostNetwork, LocalEndpoint, LocalNetworkView,
    LocalNetworks, NetworkError, NetworkErrorKind, PlaceIn, endpoint_id, endpoint_mac, host_network_id, option_warning,
    predefined_network, predefined_network_id,
};
pub(crate) use network::{ClusterNetwork, Place, PortHolder, Uplink};
pub use refusal::{Refusal, RefusalKind};

use overlay::{EndpointId, ProbeStream};
use runtime::{Runtime, RuntimeConfig, Status};
use tokio::sync::{Semaphore, watch};
use types::{PortConfig, TaskId, with_causes};

use self::{
    attach::Attachments,
    containers::Containers,
    dial::Dials,
    events::Events,
    exec::Execs,
    image_gc::ImageCollector,
    images::Pulls,
    lock::StateLock,
    network::{FoundEndpoint, Network},
    peers::Peers,
    preflight::{Facts, find_runtime, missing},
    tunnels::Tunnels,
    volumes::Volumes,
};
use crate::metrics::Metrics;

/// Steps that cost CPU at once. More than the cores, because each also waits for the kernel; few
/// enough that the first containers run before the last is begun.
const TURNS: usize = 8;

/// The control group below which all containers are.
const CGROUP_PARENT: &str = "rswarm";

/// The containers of a host, by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContainerCounts {
    pub running: usize,
    pub paused: usize,
    /// Also those that were never started, as Docker counts them.
    pub stopped: usize,
}

/// A cheap handle on the engine; copies share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
    host: watch::Sender<Arc<HostInfo>>,
    images: image::Store,
    runtime: Runtime,
    attachments: Attachments,
    execs: Execs,
    network: Network,
    volumes: Volumes,
    events: Events,
    containers: Containers,
    pulls: Pulls,
    collector: ImageCollector,
    peers: Peers,
    tunnels: Tunnels,
    dials: Dials,
    turns: Semaphore,
    metrics: Metrics,
    /// The containers' places in the network that were found at start.
    known: BTreeMap<EndpointId, FoundEndpoint>,
    _lock: StateLock,
}

impl Engine {
    /// Checks the host, takes the state directory and starts what belongs to the engine. Containers
    /// that run from before are found again; network objects that belong to none are removed.
    ///
    /// # Errors
    /// [`EngineError::Missing`] lists what the host lacks; [`EngineError::InUse`] names another daemon.
    pub async fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let facts = Facts::read(&config.oci_runtime);
        let lacking = missing(&facts);
        if !lacking.is_empty() {
            return Err(EngineError::Missing(lacking));
        }
        for directory in [&config.state_dir, &config.run_dir] {
            tokio::fs::create_dir_all(directory).await.map_err(|e| EngineError::file("create", directory, e))?;
        }
        let lock = StateLock::take(&config.state_dir)?;
        let images = image::Store::open_with(&config.state_dir.join("images"), config.storage_driver).await?;
        images.set_transfers(config.settings.transfers);
        if let Err(error) = docker_layout::ensure(&config.state_dir, images.driver()) {
            tracing::warn!(%error, "monitors that know Docker's data do not find the containers' layers");
        }
        let host = HostInfo::read(&config, &facts.cgroup, images.driver());
        let runtime = open_runtime(&config)?;
        let containers = runtime.list().await.map_err(|e| EngineError::Runtime(with_causes(&e)))?;
        let metrics = Metrics::of(&host);
        // a single container's endpoint bears its own id
        let endpoint = |c: &runtime::ContainerState| match task_of_container(&c.id) {
            Some(task) => Some(EndpointId::from(task)),
            None => c.id.parse().ok(),
        };
        let running: BTreeSet<EndpointId> = containers.iter().filter_map(endpoint).collect();
        let network = Network::start(&config, |id| running.contains(id), &metrics).await?;
        let singles = Containers::new(&config);
        let known = network.found().clone();
        let events = Events::default();
        let volumes = open_volumes(&config, &events, &containers, &images).await?;
        let (pulls, turns) = (Pulls::default(), Semaphore::new(TURNS));
        let (attachments, execs) = (Attachments::new(runtime.clone()), Execs::default());
        let inner = Inner {
            config,
            host: watch::Sender::new(Arc::new(host)),
            images,
            runtime,
            attachments,
            execs,
            network,
            volumes,
            events,
            containers: singles,
            pulls,
            collector: ImageCollector::default(),
            peers: Peers::default(),
            tunnels: Tunnels::default(),
            dials: Dials::default(),
            turns,
            metrics,
            known,
            _lock: lock,
        };
        let engine = Self { inner: Arc::new(inner) };
        engine.restore_containers(containers).await?;
        Ok(engine)
    }

    /// What this host is, and how it is set.
    pub fn info(&self) -> Arc<HostInfo> {
        self.inner.host.borrow().clone()
    }

    /// The same, for those who follow its settings.
    pub(crate) fn watch_info(&self) -> watch::Receiver<Arc<HostInfo>> {
        self.inner.host.subscribe()
    }

    /// Takes other settings; who is at work goes on with what it began with.
    pub fn reload(&self, settings: Settings) {
        self.inner.images.set_transfers(settings.transfers);
        let event = settings.event(&self.info().hostname);
        self.inner.host.send_modify(|host| Arc::make_mut(host).settings = settings);
        self.events().publish(event);
    }

    /// What the daemon told the engine.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// The images of this host, for all that is done with images alone.
    pub fn images(&self) -> &image::Store {
        &self.inner.images
    }

    /// The volumes of this host.
    pub fn volumes(&self) -> &Volumes {
        &self.inner.volumes
    }

    /// What happens here, to tell and to watch.
    pub fn events(&self) -> &Events {
        &self.inner.events
    }

    /// Whether the kernel bounds the swap of containers apart from their memory.
    pub fn limits_swap(&self) -> bool {
        self.inner.runtime.limits_swap()
    }

    /// All containers of this host that bear rswarm's ids, for lists.
    ///
    /// # Errors
    /// When the runtime's directory cannot be read.
    pub async fn containers(&self) -> Result<Vec<runtime::ContainerState>, EngineError> {
        self.inner.runtime.list().await.map_err(|e| EngineError::Runtime(with_causes(&e)))
    }

    /// How many of them there are, by what they do.
    ///
    /// # Errors
    /// As [`Engine::containers`].
    pub async fn container_counts(&self) -> Result<ContainerCounts, EngineError> {
        let mut counts = ContainerCounts::default();
        let started = self.containers().await?;
        let is_started = |id: &String| started.iter().any(|container| container.id == *id);
        counts.stopped += self.inner.containers.ids().iter().filter(|id| !is_started(id)).count();
        for container in &started {
            match container.status {
                Status::Running => counts.running += 1,
                Status::Paused => counts.paused += 1,
                Status::Created | Status::Stopped(_) => counts.stopped += 1,
            }
        }
        Ok(counts)
    }

    /// The ids of those that run, or will again after a pause.
    ///
    /// # Errors
    /// As [`Engine::containers`].
    pub async fn running_containers(&self) -> Result<BTreeSet<String>, EngineError> {
        let started = self.containers().await?.into_iter();
        let running = started.filter(|container| matches!(container.status, Status::Running | Status::Paused));
        Ok(running.map(|container| container.id).chain(self.inner.containers.running()).collect())
    }

    /// All metrics of this host, as Prometheus reads them.
    ///
    /// # Errors
    /// As [`Engine::containers`].
    pub async fn metrics(&self) -> Result<String, EngineError> {
        let containers = self.container_counts().await?;
        Ok(self.inner.metrics.text(containers, self.images().list().len(), self.volumes().list().len()))
    }

    /// What a task's container wrote; ends at the end of the log, or with the container when following.
    ///
    /// # Errors
    /// [`EngineError::NoSuchTask`] when this host has no log of it.
    pub fn logs(&self, task: TaskId, options: LogOptions) -> Result<LogStream, EngineError> {
        logs::open(self, task, options)
    }

    /// Ends what the engine started in this process. Containers, the network and its process stay.
    pub async fn shutdown(&self) {
        self.inner.containers.stop().await;
        self.inner.network.stop().await;
        // Made again with the next container.
        self.inner.runtime.remove_empty_parent();
    }

    /// Ranges this host has addresses in or routes to, the networks that were made for it alone included.
    pub fn routes(&self) -> &[types::Cidr] {
        self.inner.network.routes()
    }

    /// Processes of this host that listen where the mesh would.
    pub(crate) fn port_holders(&self) -> tokio::sync::watch::Receiver<Arc<Vec<PortHolder>>> {
        self.inner.network.port_holders()
    }

    /// What the cluster says of this host's network; tasks prepared after this call see it.
    pub(crate) fn set_cluster_network(&self, network: ClusterNetwork) {
        self.inner.network.set_cluster(network);
    }

    pub(crate) fn probes(&self) -> ProbeStream {
        self.inner.network.client().subscribe_probes()
    }

    /// The address of a container that was found at start.
    pub(crate) fn known_address(&self, task: TaskId) -> Option<IpAddr> {
        self.inner.known.get(&EndpointId::from(task)).and_then(|found| found.address)
    }

    /// The same for its ports on this host, which are `wanted` as the task's assignment has them.
    pub(crate) fn known_ports(&self, task: TaskId, wanted: &[PortConfig]) -> Vec<PortConfig> {
        let own = self.inner.known.get(&EndpointId::from(task)).map_or(&[][..], |found| &found.ports);
        host_ports::resolved(wanted, own)
    }
}

fn open_runtime(config: &EngineConfig) -> Result<Runtime, EngineError> {
    let oci_runtime = find_runtime(&config.oci_runtime)
        .ok_or_else(|| EngineError::Missing(vec![format!("the OCI runtime {}", config.oci_runtime)]))?;
    let runtime = RuntimeConfig {
        run_dir: config.run_dir.join("containers"),
        shim: config.shim.clone(),
        oci_runtime,
        cgroup_parent: CGROUP_PARENT.to_owned(),
    };
    Runtime::new(runtime).map_err(|e| EngineError::Runtime(with_causes(&e)))
}

/// The volumes, without the users that went while no daemon ran. A container has a root filesystem as long as
/// it has anything.
async fn open_volumes(
    config: &EngineConfig,
    events: &Events,
    running: &[runtime::ContainerState],
    images: &image::Store,
) -> Result<Volumes, EngineError> {
    let mut known: BTreeSet<String> = running.iter().map(|container| container.id.clone()).collect();
    known.extend(images.snapshot_list().into_iter().map(|snapshot| snapshot.container));
    let (state_dir, events) = (config.state_dir.clone(), events.clone());
    let failed = |operation, source| EngineError::file(operation, config.state_dir.join("volumes"), source);
    let work = move || {
        let volumes = Volumes::open(&state_dir, events)?;
        // Only a mount that stays busy can fail here, which is no reason to run no containers.
        if let Err(error) = volumes.retain_users(|id| known.contains(id)) {
            tracing::warn!(error = with_causes(&error), "a volume nobody uses any more is still mounted");
        }
        Ok(volumes)
    };
    let opened = tokio::task::spawn_blocking(work).await.map_err(|e| failed("read", std::io::Error::other(e)))?;
    opened.map_err(|e| failed("read", e))
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("state_dir", &self.inner.config.state_dir).finish_non_exhaustive()
    }
}
