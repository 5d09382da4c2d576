//! The host's network as the engine wants it: the bridge's subnet, an address per container, probes.
//!
//! One task owns the plan. Requests that wait are taken together and cost one application of the
//! plan, so twenty containers that start at once do not wait for one another. What containers have is
//! read back from the kernel at start; only the choice of the subnet is kept on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use overlay::{
    BridgePlan, BridgePort, Cidr, Client, EndpointId, EndpointPlan, Ipam, MacAddress, Namespace, NetworkPlan, Observed,
    ProbeSettings, choose_subnet, default_pools,
    netd::{Launch, NetdConfig, NetdError, ensure_running},
    overlap,
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};

use super::{EngineConfig, EngineError};

/// Requests that wait at most: each container start or end is one.
const MAX_WAITING: usize = 1024;

/// On the volatile file system, where the data plane process keeps its plan too.
const PROBES_FILE: &str = "probes.json";

/// A container's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attached {
    pub address: IpAddr,
    /// The namespace, to be joined by path.
    pub namespace: PathBuf,
}

/// A handle on the owner of the plan.
#[derive(Debug)]
pub(super) struct Network {
    requests: mpsc::Sender<Request>,
    client: Client,
    found: BTreeMap<EndpointId, IpAddr>,
    owner: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Request {
    Attach { id: EndpointId, hostname: String, reply: oneshot::Sender<Result<Attached, String>> },
    Detach { id: EndpointId, reply: oneshot::Sender<Result<(), String>> },
    Probes { settings: Option<Box<ProbeSettings>>, reply: oneshot::Sender<Result<(), String>> },
    Stop,
}

/// What stays over a reboot.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    subnet: Cidr,
}

impl Network {
    /// Starts or adopts the data plane process and takes up the endpoints in `wanted`; all others of
    /// ours are removed.
    pub(super) async fn start(
        config: &EngineConfig,
        wanted: impl Fn(&EndpointId) -> bool,
    ) -> Result<Self, EngineError> {
        let failed = |error: NetdError| EngineError::Network(explain(&error));
        let Some((exe, args)) = config.netd.split_first() else {
            return Err(EngineError::Network("the command of the data plane process is empty".into()));
        };
        let netd = NetdConfig::in_dir(&config.run_dir, &config.version);
        let client = Client::new(&netd.socket);
        let launch = Launch { exe: PathBuf::from(exe), args: args.to_vec(), config: netd };
        ensure_running(&launch).await.map_err(failed)?;
        let observed = client.observe().await.map_err(failed)?;
        let plan = initial_plan(config, &observed, wanted)?;
        let applied = client.apply(&plan).await.map_err(failed)?;
        if !applied.errors.is_empty() {
            return Err(EngineError::Network(applied.errors.join("; ")));
        }
        for note in &applied.notes {
            tracing::info!(note, "host network changed");
        }
        let found = plan.endpoints.iter();
        let found = found.filter_map(|(id, e)| Some((id.clone(), IpAddr::V4(e.bridge?.address)))).collect();
        let (requests, inbox) = mpsc::channel(MAX_WAITING);
        let probes_file = config.run_dir.join(PROBES_FILE);
        let owner = Owner { probes_file, client: client.clone(), plan };
        let owner = Mutex::new(Some(tokio::spawn(owner.run(inbox))));
        Ok(Self { requests, client, found, owner })
    }

    /// Gives a container its network; the same again gives the same.
    pub(super) async fn attach(&self, id: EndpointId, hostname: String) -> Result<Attached, String> {
        self.ask(|reply| Request::Attach { id, hostname, reply }).await
    }

    /// Takes a container's network away; none is fine.
    pub(super) async fn detach(&self, id: EndpointId) -> Result<(), String> {
        self.ask(|reply| Request::Detach { id, reply }).await
    }

    /// Whom to probe; `None` stops probing and answering.
    pub(super) async fn set_probes(&self, settings: Option<ProbeSettings>) -> Result<(), String> {
        self.ask(|reply| Request::Probes { settings: settings.map(Box::new), reply }).await
    }

    /// The addresses of endpoints that were there at start.
    pub(super) fn found(&self) -> &BTreeMap<EndpointId, IpAddr> {
        &self.found
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Ends the owner of the plan. The network and its process stay.
    pub(super) async fn stop(&self) {
        // An owner that is gone already needs no word.
        let _ = self.requests.send(Request::Stop).await;
        if let Some(owner) = self.owner.lock().await.take() {
            // It does not panic; and if it did, there is nothing left to undo here.
            let _ = owner.await;
        }
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Request) -> Result<T, String> {
        let stopping = "the engine is stopping";
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| stopping.to_owned())?;
        answer.await.map_err(|_| stopping.to_owned())?
    }
}

/// Tells one asker how the application of the plan went.
type Answer = Box<dyn FnOnce(&Result<overlay::Applied, String>) + Send>;

struct Owner {
    /// Where the probe settings are kept, so that probes are answered while a daemon restarts.
    probes_file: PathBuf,
    client: Client,
    plan: NetworkPlan,
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut batch = Vec::new();
        while inbox.recv_many(&mut batch, MAX_WAITING).await > 0 {
            let stop = batch.iter().any(|r| matches!(r, Request::Stop));
            self.serve(std::mem::take(&mut batch)).await;
            if stop {
                return;
            }
        }
    }

    /// Notes all requests in the plan, applies it once, answers all.
    async fn serve(&mut self, batch: Vec<Request>) {
        let before = self.plan.clone();
        let mut answers: Vec<Answer> = Vec::new();
        for request in batch {
            match request {
                Request::Attach { id, hostname, reply } => match self.place(&id, hostname) {
                    Ok(address) => answers.push(Box::new(move |applied| {
                        // Nobody waits any more: the step was broken off and its cleanup detaches.
                        let _ = reply.send(attached(&id, address, applied));
                    })),
                    Err(error) => drop(reply.send(Err(error))),
                },
                Request::Detach { id, reply } => {
                    self.plan.endpoints.remove(&id);
                    answers.push(Box::new(move |applied| {
                        drop(reply.send(applied.as_ref().map(drop).map_err(Clone::clone)));
                    }));
                }
                Request::Probes { settings, reply } => {
                    self.plan.probes = settings.map(|s| *s);
                    if let Err(error) = keep_probes(&self.probes_file, self.plan.probes.as_ref()) {
                        tracing::warn!(%error, "the probe settings could not be kept");
                    }
                    answers.push(Box::new(move |applied| {
                        drop(reply.send(applied.as_ref().map(drop).map_err(Clone::clone)));
                    }));
                }
                Request::Stop => {}
            }
        }
        if answers.is_empty() {
            return;
        }
        // Applied even if the plan is the same: asking twice may mean that something was lost.
        let applied = self.client.apply(&self.plan).await.map_err(|error| explain(&error));
        if let Err(error) = &applied {
            tracing::warn!(error, "the host network could not be changed");
            // What was added is asked for again by whoever needs it; what was removed stays removed.
            self.plan.endpoints.retain(|id, _| before.endpoints.contains_key(id));
        }
        if let Ok(applied) = &applied {
            for error in &applied.errors {
                tracing::warn!(error, "a part of the host network is not as it should be");
            }
        }
        for answer in answers {
            answer(&applied);
        }
    }

    fn place(&mut self, id: &EndpointId, hostname: String) -> Result<Ipv4Addr, String> {
        if let Some(endpoint) = self.plan.endpoints.get_mut(id)
            && let Some(port) = endpoint.bridge
        {
            endpoint.hostname = hostname;
            return Ok(port.address);
        }
        let bridge = self.plan.bridge.as_ref().ok_or("this host has no bridge")?;
        let ipam = Ipam::with_gateway(bridge.subnet, bridge.gateway).map_err(|e| e.to_string())?;
        let taken: BTreeSet<Ipv4Addr> = self.plan.endpoints.values().filter_map(|e| Some(e.bridge?.address)).collect();
        let address = ipam.allocate(&taken, id.as_str()).map_err(|e| e.to_string())?;
        let port = BridgePort { address, mac: MacAddress::for_ipv4(address) };
        let endpoint = EndpointPlan { bridge: Some(port), hostname, ..EndpointPlan::default() };
        self.plan.endpoints.insert(id.clone(), endpoint);
        Ok(address)
    }
}

fn attached(
    id: &EndpointId,
    address: Ipv4Addr,
    applied: &Result<overlay::Applied, String>,
) -> Result<Attached, String> {
    match applied.as_ref().map_err(Clone::clone)?.endpoints.get(id) {
        Some(overlay::EndpointResult::Ready { namespace }) => {
            Ok(Attached { address: IpAddr::V4(address), namespace: namespace.clone() })
        }
        Some(overlay::EndpointResult::Failed { error }) => Err(error.clone()),
        None => Err("the data plane process did not say what became of it".to_owned()),
    }
}

/// The plan that keeps what is wanted of what is there.
fn initial_plan(
    config: &EngineConfig,
    observed: &Observed,
    wanted: impl Fn(&EndpointId) -> bool,
) -> Result<NetworkPlan, EngineError> {
    let mut endpoints = BTreeMap::new();
    for (id, namespace) in &observed.namespaces {
        let Namespace::Alive(inside) = namespace else { continue };
        let Some(interface) = inside.interfaces.get("eth0").filter(|_| wanted(id)) else { continue };
        let address = interface.addresses.iter().find_map(|cidr| match cidr.address() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        if let Some(address) = address {
            let mac = interface.mac.unwrap_or_else(|| MacAddress::for_ipv4(address));
            let bridge = Some(BridgePort { address, mac });
            endpoints.insert(id.clone(), EndpointPlan { bridge, ..EndpointPlan::default() });
        }
    }
    let subnet = subnet(&config.state_dir, observed, endpoints.is_empty())?;
    let bridge = BridgePlan::new(subnet).map_err(|e| EngineError::Network(e.to_string()))?;
    // A file that is damaged or not there costs nothing: the agent sets the probes again.
    let probes = std::fs::read(config.run_dir.join(PROBES_FILE)).ok();
    let probes = probes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(NetworkPlan { bridge: Some(bridge), endpoints, probes, ..NetworkPlan::default() })
}

/// The file holds the cluster's probe key: for root only.
fn keep_probes(path: &Path, settings: Option<&ProbeSettings>) -> std::io::Result<()> {
    let Some(settings) = settings else {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, &serde_json::to_vec(settings)?)
}

/// The subnet of before, unless the host has come to use it otherwise and no container is on it.
fn subnet(state_dir: &Path, observed: &Observed, may_change: bool) -> Result<Cidr, EngineError> {
    let path = state_dir.join("network.json");
    let kept = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Kept>(&bytes).ok().map(|k| k.subnet),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(EngineError::file("read", &path, source)),
    };
    if let Some(subnet) = kept.filter(|s| !may_change || overlap(*s, &observed.host_routes).is_none()) {
        return Ok(subnet);
    }
    let subnet =
        choose_subnet(&default_pools(), &observed.host_routes).map_err(|e| EngineError::Network(e.to_string()))?;
    let text = serde_json::to_vec(&Kept { subnet }).map_err(|e| EngineError::file("write", &path, e.into()))?;
    std::fs::write(&path, text).map_err(|source| EngineError::file("write", &path, source))?;
    tracing::info!(%subnet, "chose the subnet of the bridge");
    Ok(subnet)
}

/// An error with its causes in one line.
pub(super) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
