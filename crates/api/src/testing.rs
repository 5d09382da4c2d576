//! A cluster in memory for tests: the real value and its real rules behind a real gRPC server, with
//! nodes that pretend to run whatever they are told.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use control::{Observed, Planner, Tables, admission, view};
use futures::{FutureExt as _, Stream, future::BoxFuture};
use node::{
    HostInfo,
    doctor::Findings,
    engine::{
        ContainerCounts, ContainerPlace, HostFacts, LocalNetworkView, LocalNetworks, NetworkError, NetworkErrorKind,
        PlaceIn,
    },
    image::Store,
    membership,
};
use proto::v1::{
    LogLine, LogsCall, LogsEvent, ReadAnswer, ReadCall, UsageAnswer, UsageCall, WriteAnswer, WriteCall,
    cluster_client::ClusterClient,
    cluster_server::{Cluster, ClusterServer},
    logs_event::Event,
};
use tokio::{net::TcpListener, net::TcpStream, sync::watch, task::JoinHandle};
use tonic::{Request, Response, Status};
use types::{Check, NodeId, ReadReply, TaskId, TaskReport, TaskState, Timestamp};

use crate::{
    host::{Done, Host},
    listener::Listeners,
    router::{Api, Shared},
    server::serve_api,
};

/// How often the pretended nodes go one step on.
const STEP: Duration = Duration::from_millis(20);

pub(crate) struct FakeHost {
    info: Arc<HostInfo>,
    images: Store,
    /// As the engine keeps them; no container is in any.
    networks: Mutex<LocalNetworks>,
}

impl FakeHost {
    fn networks(&self) -> MutexGuard<'_, LocalNetworks> {
        self.networks.lock().expect("no test panics while it holds the networks")
    }
}

impl Host for FakeHost {
    fn engine(&self) -> Option<&node::Engine> {
        None
    }

    fn info(&self) -> Arc<HostInfo> {
        self.info.clone()
    }

    fn images(&self) -> &Store {
        &self.images
    }

    fn containers(&self) -> BoxFuture<'_, ContainerCounts> {
        async { ContainerCounts { running: 2, paused: 0, stopped: 1 } }.boxed()
    }

    fn running_containers(&self) -> BoxFuture<'_, Result<BTreeSet<String>, String>> {
        std::future::ready(Ok(BTreeSet::new())).boxed()
    }

    fn metrics(&self) -> BoxFuture<'_, Result<String, String>> {
        std::future::ready(Ok("engine_metric 1\n".to_owned())).boxed()
    }

    fn network_findings(&self) -> BoxFuture<'_, Result<Findings, String>> {
        std::future::ready(Ok(Findings::default())).boxed()
    }

    fn path_checks(&self) -> BoxFuture<'_, Vec<Check>> {
        std::future::ready(Vec::new()).boxed()
    }

    fn local_networks(&self) -> Arc<Vec<LocalNetworkView>> {
        let bridge = LocalNetworkView {
            network: None,
            subnet: None,
            gateway: None,
            gateway6: None,
            bridge_options: types::Labels::new(),
            endpoints: Vec::new(),
        };
        let own = self.networks().iter().cloned().collect::<Vec<_>>();
        let own = own.into_iter().map(|network| {
            let subnet = network.subnets.first().map(|subnet| subnet.range);
            LocalNetworkView {
                network: Some(network),
                subnet,
                gateway: None,
                gateway6: None,
                bridge_options: types::Labels::new(),
                endpoints: Vec::new(),
            }
        });
        Arc::new([bridge].into_iter().chain(own).collect())
    }

    fn cluster_networks(&self) -> Vec<Arc<types::Network>> {
        Vec::new()
    }

    fn cluster_places(&self) -> Vec<types::ContainerAttachment> {
        Vec::new()
    }

    fn create_network(&self, spec: types::NetworkSpec) -> Done<'_, types::NetworkId> {
        let facts = HostFacts { interfaces: ["eth0".to_owned()].into(), ..HostFacts::default() };
        let made = self.networks().create(&spec, types::NetworkId::from_random(ids()()), now(), &facts);
        Box::pin(std::future::ready(made))
    }

    fn remove_network(&self, id: types::NetworkId) -> Done<'_, ()> {
        Box::pin(std::future::ready(self.networks().remove(id)))
    }

    fn connect<'a>(&'a self, container: &'a str, _: ContainerPlace) -> Done<'a, ()> {
        Box::pin(std::future::ready(Err(no_container(container))))
    }

    fn disconnect<'a>(&'a self, container: &'a str, _: PlaceIn) -> Done<'a, ()> {
        Box::pin(std::future::ready(Err(no_container(container))))
    }

    fn leave_none<'a>(&'a self, container: &'a str) -> Done<'a, ()> {
        Box::pin(std::future::ready(Err(no_container(container))))
    }
}

fn no_container(name: &str) -> NetworkError {
    NetworkError::new(NetworkErrorKind::NotFound, format!("No such container: {name}"))
}

fn host_info() -> HostInfo {
    HostInfo {
        hostname: "host1".into(),
        operating_system: "Test Linux".into(),
        os_version: "1".into(),
        kernel_version: "6.0".into(),
        os_type: "linux".into(),
        machine: "x86_64".into(),
        also_runs: Vec::new(),
        architecture: "amd64".into(),
        cpus: 2,
        memory_bytes: 1 << 30,
        cgroup_version: 2,
        cgroup_driver: "cgroupfs".into(),
        cgroup_controllers: vec!["cpu".into(), "memory".into(), "pids".into()],
        storage_driver: "overlay2".into(),
        storage_status: Vec::new(),
        oci_runtime: "embedded".into(),
        root_dir: "/var/lib/rswarm".into(),
        engine_version: "0.1.0".into(),
        settings: node::engine::Settings::default(),
        security_options: Vec::new(),
        cdi_directories: Vec::new(),
        encryption: "userspace".into(),
        warnings: Vec::new(),
        since: now(),
    }
}

#[derive(Clone)]
struct Value(Arc<Mutex<Tables>>);

impl Value {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().expect("no test panics while it holds the value")
    }

    fn apply(&self, proposal: &control::Proposal) -> Result<(), control::Rejection> {
        let mut tables = self.lock();
        let index = tables.index() + 1;
        tables.apply(index, proposal)
    }

    fn read(&self, wanted: &types::ReadRequest) -> Result<ReadReply, Status> {
        let mut reply = view::read(&self.lock(), wanted).map_err(|rejection| status(&rejection))?;
        let fill = |view: &mut types::NodeView| {
            view.reachable = view.node.raft.is_some();
            view.leader = view.reachable;
        };
        match &mut reply {
            ReadReply::Nodes(nodes) => nodes.iter_mut().for_each(fill),
            ReadReply::Node(node) => fill(node),
            _ => {}
        }
        Ok(reply)
    }
}

fn now() -> Timestamp {
    Timestamp::from_unix_ns(u64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("after 1970"))
}

fn ids() -> impl FnMut() -> u128 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let half = || u128::from(RandomState::new().build_hasher().finish());
    move || half() << 64 | half()
}

pub(crate) fn node_id(number: u128) -> NodeId {
    // Ids that differ in their first letters, as random ones do.
    NodeId::from_random(number << 120 | number)
}

fn node(number: u128, manager: bool) -> types::Node {
    let role = if manager { types::NodeRole::Manager } else { types::NodeRole::Worker };
    types::Node {
        id: node_id(number),
        meta: types::Meta::default(),
        spec: types::NodeSpec { role, ..types::NodeSpec::default() },
        role,
        status: types::NodeStatus {
            state: types::NodeState::Ready,
            message: String::new(),
            since: now(),
            // where nobody answers, and says so at once
            address: Some([127, 0, 0, u8::try_from(number).expect("few nodes")].into()),
            unreachable_peers: Vec::new(),
        },
        description: Some(types::NodeDescription {
            hostname: format!("host{number}"),
            platform: types::Platform::new("linux", "amd64", ""),
            resources: types::Resources {
                nano_cpus: types::NanoCpus(4_000_000_000),
                memory: types::Bytes(8 << 30),
                ..types::Resources::default()
            },
            engine_version: "0.1.0".into(),
            ..types::NodeDescription::default()
        }),
        raft: manager.then(|| types::RaftMember { raft_id: 1, address: format!("10.0.0.{number}:2377") }),
    }
}

fn first_cluster() -> types::Cluster {
    types::Cluster {
        id: types::ClusterId::from_random(77),
        meta: types::Meta::default(),
        spec: types::ClusterSpec::default(),
        root_ca: types::RootCa::new("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""),
        join: types::JoinSecrets { worker: [1; 16], manager: [2; 16] },
        probe_key: [0; 32],
        data_path_port: types::DEFAULT_DATA_PATH_PORT,
        unlock_key: None,
        registries: std::collections::BTreeMap::new(),
    }
}

struct Service {
    value: Value,
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn read(&self, request: Request<ReadCall>) -> Result<Response<ReadAnswer>, Status> {
        let wanted = proto::decode(&request.into_inner().read_request)?;
        let reply = self.value.read(&wanted)?;
        Ok(Response::new(ReadAnswer { read_reply: proto::encode(&reply) }))
    }

    async fn write(&self, request: Request<WriteCall>) -> Result<Response<WriteAnswer>, Status> {
        let wanted = proto::decode(&request.into_inner().write_request)?;
        let tables = self.value.lock().clone();
        let (proposal, reply) =
            admission::admit(&tables, &wanted, now(), &mut ids()).map_err(|rejection| status(&rejection))?;
        self.value.apply(&proposal).map_err(|rejection| status(&rejection))?;
        Ok(Response::new(WriteAnswer { write_reply: proto::encode(&reply) }))
    }

    type LogsStream = Pin<Box<dyn Stream<Item = Result<LogsEvent, Status>> + Send>>;

    /// Two lines of every task that was asked for.
    async fn logs(&self, request: Request<LogsCall>) -> Result<Response<Self::LogsStream>, Status> {
        let call = request.into_inner();
        let tables = self.value.lock().clone();
        let wanted =
            |task: &&Arc<types::Task>| task.id.to_string() == call.task || task.service.to_string() == call.service;
        let mut events = Vec::new();
        for task in tables.tasks().filter(wanted) {
            for (is_stderr, text) in [(false, "hello\n"), (true, "oops\n")] {
                let node = task.node.map(|node| node.to_string()).unwrap_or_default();
                let line = LogLine {
                    task: task.id.to_string(),
                    node,
                    is_stderr,
                    time_ns: 1_700_000_000_000_000_000,
                    data: text.into(),
                };
                events.push(Ok(LogsEvent { event: Some(Event::Line(line)) }));
            }
        }
        Ok(Response::new(Box::pin(futures::stream::iter(events))))
    }

    /// Each task that has a node uses the same; nothing is known of the last node.
    async fn usage(&self, _: Request<UsageCall>) -> Result<Response<UsageAnswer>, Status> {
        let tables = self.value.lock().clone();
        let mut nodes: Vec<NodeId> = tables.nodes().map(|node| node.id).collect();
        let last = nodes.pop().into_iter();
        let missing = last.map(|node| types::MissingUsage { node, why: "it is down".to_owned() }).collect();
        let of = |task: &Arc<types::Task>| types::TaskUsage {
            task: task.id,
            cpu_ns: 1_500_000_000,
            memory_bytes: 3 << 20,
            rss_bytes: 2 << 20,
            memory_limit_bytes: None,
            processes: 2,
            network: Some(types::Traffic { received_bytes: 10, sent_bytes: 20 }),
            disk: types::Traffic::default(),
        };
        let usage = |node: NodeId| types::NodeUsage {
            node,
            at: now(),
            memory_bytes: 1 << 30,
            tasks: tables.tasks().filter(|task| task.node == Some(node)).map(of).collect(),
        };
        let usage = types::ClusterUsage { nodes: nodes.into_iter().map(usage).collect(), missing };
        Ok(Response::new(UsageAnswer { cluster_usage: proto::encode(&usage) }))
    }
}

fn status(rejection: &control::Rejection) -> Status {
    use control::Rejection as R;
    let text = rejection.to_string();
    match rejection {
        R::NotFound { .. } => Status::not_found(text),
        R::AlreadyExists { .. } => Status::already_exists(text),
        R::OutOfSequence { .. } => Status::aborted(text),
        R::FailedPrecondition(_) => Status::failed_precondition(text),
        _ => Status::invalid_argument(text),
    }
}

/// Plans like a leader and reports like nodes.
async fn live(value: Value) {
    let mut planner = Planner::default();
    let mut observed = Observed::new(node_id(1), now());
    loop {
        tokio::time::sleep(STEP).await;
        let tables = value.lock().clone();
        observed.last_heard.extend(tables.nodes().map(|node| (node.id, now())));
        let planned = planner.plan(&tables, &observed, now(), &mut ids());
        if !planned.changes.is_empty() {
            // A refusal means the value changed meanwhile: the next turn plans again.
            let _ = value.apply(&planned.proposal(now()));
        }
        let tables = value.lock().clone();
        for node in tables.nodes() {
            let reports: Vec<TaskReport> = tables.tasks_of_node(node.id).filter_map(|task| report(task)).collect();
            if !reports.is_empty() {
                let _ = value.apply(&admission::report_tasks(&tables, node.id, &reports, now()));
            }
        }
    }
}

/// One step towards what the task shall be.
fn report(task: &types::Task) -> Option<TaskReport> {
    use TaskState as S;
    let state = match (task.desired, task.status.state) {
        (S::Running, S::Assigned) => S::Accepted,
        (S::Running, S::Accepted) => S::Preparing,
        (S::Running, S::Preparing) => S::Starting,
        (S::Running, S::Starting) => S::Running,
        (S::Shutdown | S::Remove, state) if state <= S::Running => S::Shutdown,
        _ => return None,
    };
    let container = types::ContainerStatus { id: container_id(task.id), pid: 42, ..types::ContainerStatus::default() };
    let mut status = task.status.clone();
    status.state = state;
    status.since = now();
    status.container = (state >= S::Starting).then_some(container);
    Some(TaskReport { task: task.id, status })
}

fn container_id(task: TaskId) -> String {
    format!("{:064x}", task.as_u128())
}

/// A served API; everything ends when it is dropped.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    pub(crate) api: Arc<Api>,
    /// What its routes reach.
    pub(crate) shared: Shared,
    /// What the daemon would say of this host.
    pub(crate) status: watch::Sender<membership::Status>,
    _commands: tokio::sync::mpsc::Receiver<membership::Command>,
    _directory: tempfile::TempDir,
    _stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Fake {
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// A host outside any cluster.
    pub(crate) async fn alone() -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let images = Store::open(&directory.path().join("images")).await.expect("image store");
        let (membership, served) = membership::channel();
        let (stop, stopping) = watch::channel(false);
        let socket = directory.path().join("api.sock");
        let host: Arc<dyn Host> = Arc::new(FakeHost { info: host_info().into(), images, networks: Mutex::default() });
        let shared = Shared { host: Arc::clone(&host), membership: membership.clone() };
        let api = Arc::new(Api::new(host, membership));
        let listeners = Listeners::bind(socket.clone(), None, None).await.expect("a socket");
        let serving = tokio::spawn(serve_api(listeners, Arc::clone(&api), stopping));
        Self {
            socket,
            api,
            shared,
            status: served.status,
            _commands: served.commands,
            _directory: directory,
            _stop: stop,
            tasks: vec![serving],
        }
    }

    /// The first manager of a cluster of three.
    pub(crate) async fn manager() -> Self {
        let mut fake = Self::alone().await;
        let value = Value(Arc::new(Mutex::new(Tables::default())));
        value.apply(&admission::bootstrap(first_cluster(), node(1, true), now(), &mut || 0xffff)).expect("bootstrap");
        for number in [2, 3] {
            let changes = vec![control::Change::PutNode(Box::new(node(number, false)))];
            value.apply(&control::Proposal { at: now(), expects: Vec::new(), changes }).expect("another node");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound").to_string();
        let service = Service { value: value.clone() };
        let server = tonic::transport::Server::builder().add_service(ClusterServer::new(service));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        fake.tasks.push(tokio::spawn(async move { server.serve_with_incoming(incoming).await.expect("serve gRPC") }));
        let read = value.clone();
        let reader = membership::ManagerReader::new(move |wanted, _| std::future::ready(read.read(&wanted)));
        fake.tasks.push(tokio::spawn(live(value)));
        let channel = proto::transport::channel(&address, TcpStream::connect::<String>);
        fake.status.send_replace(membership::Status {
            local_state: membership::LocalState::Active,
            node: Some(node_id(1)),
            address: "10.0.0.1".into(),
            role: Some(types::NodeRole::Manager),
            error: String::new(),
            managers: vec![types::ManagerPeer { node: node_id(1), address: "10.0.0.1:2377".into() }],
            identity: None,
            cluster: Some(ClusterClient::new(channel)),
            reader: Some(reader),
            metrics: Some(membership::ManagerMetrics::new(|| Box::pin(async { "swarm_metric 1\n".to_owned() }))),
        });
        fake
    }
}
