//! A cluster of managers in temporary directories.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use identity::{CertificateAuthority, JoinToken, KeyPair, NodeIdentity, Subject, Vault, connect_pinned};
use manager::{Clock, Config, CredentialSource, Manager};
use proto::v1::{IssueAnswer, IssueCall, ReadCall, WriteCall, ca_client::CaClient, cluster_client::ClusterClient};
use tempfile::TempDir;
use tonic::{Status, transport::Channel};
use types::{
    Availability, Cluster, ClusterEvents, ClusterId, ClusterSpec, ContainerSpec, Counts, JoinSecrets, ManagerPeer,
    Meta, Node, NodeId, NodeRole, NodeSpec, NodeState, NodeStatus, NodeView, Payload, ReadReply, ReadRequest, RootCa,
    ServiceId, ServiceMode, ServiceSpec, Task, TaskSpec, Timestamp, WriteReply, WriteRequest,
};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_unix_ns(since.as_nanos() as u64)
}

pub fn clock() -> Clock {
    Arc::new(now)
}

/// Waits for a state, with a deadline.
pub async fn eventually<T, F, Fut>(what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub struct Host {
    pub told: Told,
    pub directory: TempDir,
    pub config: Config,
    pub manager: Option<Manager>,
}

impl Host {
    pub fn manager(&self) -> &Manager {
        self.manager.as_ref().unwrap()
    }

    pub fn node(&self) -> NodeId {
        self.config.identity.node()
    }

    pub fn client(&self) -> Client {
        Client(self.manager().cluster_client())
    }

    pub fn peer(&self) -> ManagerPeer {
        ManagerPeer { node: self.node(), address: self.manager().local_address().to_string() }
    }

    /// As a crash would.
    pub async fn kill(&mut self) {
        let bound = self.manager().local_address();
        self.manager.take().unwrap().abort().await;
        // it comes back at the same address
        self.config.listen = bound;
        self.config.advertise = bound.to_string();
    }

    pub async fn restart(&mut self) {
        self.manager = Some(Manager::open(self.config.clone()).await.unwrap());
    }
}

pub fn vault(directory: &std::path::Path) -> Vault {
    Vault::open(directory, &[manager::DATA_KEY_FILE]).unwrap()
}

/// What a manager says of the cluster, kept over its restarts.
#[derive(Clone, Default)]
pub struct Told(Arc<std::sync::Mutex<Vec<ClusterEvents>>>);

impl Told {
    fn sink(&self) -> manager::EventSink {
        let told = self.0.clone();
        Arc::new(move |step| told.lock().unwrap().push(step))
    }

    pub fn steps(&self) -> Vec<ClusterEvents> {
        self.0.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.0.lock().unwrap().clear();
    }
}

pub fn config(directory: &TempDir, identity: NodeIdentity, told: &Told) -> Config {
    Config {
        vault: vault(directory.path()),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: "127.0.0.1:0".to_owned(),
        identity,
        clock: clock(),
        events: told.sink(),
        credentials: helpers(),
    }
}

/// Each time another token; one that is called `broken` has none.
fn helpers() -> CredentialSource {
    let asked = Arc::new(AtomicU64::new(0));
    Arc::new(move |helper, scope| {
        let token = Payload::new(format!("token {}", asked.fetch_add(1, Ordering::Relaxed)).into_bytes());
        let said = match helper.as_str() {
            "broken" => Err(format!("no token for {scope}")),
            name => Ok((name.to_owned(), token)),
        };
        Box::pin(std::future::ready(said))
    })
}

pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // another test of this process may have been first
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

pub fn cluster_of(authority: &CertificateAuthority, spec: ClusterSpec) -> Cluster {
    Cluster {
        id: ClusterId::from_random(77),
        meta: Meta::default(),
        spec,
        root_ca: RootCa::new(authority.certificate_pem(), authority.key_pem()),
        join: JoinSecrets { worker: [1; 16], manager: [2; 16] },
        probe_key: [9; 32],
        data_path_port: types::DEFAULT_DATA_PATH_PORT,
        unlock_key: None,
        registries: std::collections::BTreeMap::new(),
    }
}

pub fn first_node(id: NodeId) -> Node {
    Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec { role: NodeRole::Manager, ..NodeSpec::default() },
        role: NodeRole::Manager,
        status: NodeStatus {
            state: NodeState::Ready,
            message: String::new(),
            since: now(),
            address: Some("127.0.0.1".parse().unwrap()),
            unreachable_peers: Vec::new(),
        },
        description: None,
        raft: None,
    }
}

/// A cluster with short heartbeats.
pub fn quick_spec() -> ClusterSpec {
    let mut spec = ClusterSpec::default();
    spec.dispatcher.heartbeat_period = Duration::from_millis(300);
    spec
}

pub async fn found(spec: ClusterSpec) -> Host {
    found_called(spec, "127.0.0.1:0").await
}

/// The same, with an address that others are told.
pub async fn found_called(spec: ClusterSpec, advertise: &str) -> Host {
    log_to_stderr();
    let authority = CertificateAuthority::generate(now()).unwrap();
    let cluster = cluster_of(&authority, spec);
    let node = NodeId::from_random(1);
    let key = KeyPair::generate().unwrap();
    let subject = Subject { node, role: NodeRole::Manager, cluster: cluster.id };
    let chain = authority.sign(key.csr_pem(), &subject, now(), cluster.spec.ca.node_cert_expiry).unwrap();
    let identity = NodeIdentity::from_pem(key.pem(), &chain).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let told = Told::default();
    let config = Config { advertise: advertise.to_owned(), ..config(&directory, identity, &told) };
    let manager = Manager::bootstrap(config.clone(), cluster, first_node(node)).await.unwrap();
    Host { told, directory, config, manager: Some(manager) }
}

/// The token that the cluster gives out now.
pub fn token(host: &Host, role: NodeRole) -> JoinToken {
    let tables = host.manager().watch().borrow().clone();
    let cluster = tables.cluster().unwrap();
    let authority = CertificateAuthority::from_pem(&cluster.root_ca.certificate_pem, &cluster.root_ca.key_pem).unwrap();
    let secret = match role {
        NodeRole::Worker => cluster.join.worker,
        NodeRole::Manager => cluster.join.manager,
    };
    JoinToken { ca_digest: authority.digest(), secret }
}

pub fn pinned_channel(host: &Host, digest: [u8; 32]) -> Channel {
    let address = host.manager().local_address().to_string();
    proto::transport::channel(&address, move |address| connect_pinned(address, digest))
}

pub async fn issue(host: &Host, pin: [u8; 32], token: &str, csr: &str) -> Result<IssueAnswer, Status> {
    let call = IssueCall { csr_pem: csr.to_owned(), token: token.to_owned(), availability: "active".to_owned() };
    CaClient::new(pinned_channel(host, pin)).issue(call).await.map(tonic::Response::into_inner)
}

/// A certificate for a new node.
pub async fn join_identity(host: &Host, role: NodeRole) -> NodeIdentity {
    let token = token(host, role);
    let key = KeyPair::generate().unwrap();
    let answer = issue(host, token.ca_digest, &token.to_string(), key.csr_pem()).await.unwrap();
    NodeIdentity::from_pem(key.pem(), &answer.chain_pem).unwrap()
}

pub async fn join_manager(through: &Host) -> Host {
    let identity = join_identity(through, NodeRole::Manager).await;
    start_manager(through, identity).await
}

pub async fn start_manager(through: &Host, identity: NodeIdentity) -> Host {
    let directory = tempfile::tempdir().unwrap();
    let told = Told::default();
    let config = config(&directory, identity, &told);
    let manager = Manager::join(config.clone(), &[through.peer()]).await.unwrap();
    Host { told, directory, config, manager: Some(manager) }
}

/// Three managers that all vote.
pub async fn three(spec: ClusterSpec) -> Vec<Host> {
    let first = found(spec).await;
    let second = join_manager(&first).await;
    let third = join_manager(&second).await;
    let hosts = vec![first, second, third];
    wait_for_voters(&hosts, 3).await;
    hosts
}

pub async fn wait_for_voters(hosts: &[Host], count: usize) {
    eventually(&format!("{count} voters everywhere"), || async {
        let all = hosts.iter().filter_map(|host| host.manager.as_ref());
        let mut statuses = all.map(Manager::status);
        statuses.all(|s| s.voters == count && s.leader.is_some() && s.members.len() == count).then_some(())
    })
    .await;
}

/// The index of the host that leads.
pub async fn leader(hosts: &[Host]) -> usize {
    eventually("a leader", || async {
        hosts.iter().position(|host| host.manager.as_ref().is_some_and(|m| m.status().is_leader))
    })
    .await
}

#[derive(Clone)]
pub struct Client(pub ClusterClient<Channel>);

impl Client {
    pub fn remote(identity: &NodeIdentity, address: &str) -> Self {
        let identity = identity.clone();
        Self(ClusterClient::new(proto::transport::channel(address, move |a| identity.clone().connect(a))))
    }

    pub async fn try_read(&self, request: ReadRequest, linearizable: bool) -> Result<ReadReply, Status> {
        let call = ReadCall { read_request: proto::encode(&request), linearizable };
        let answer = self.0.clone().read(call).await?.into_inner();
        Ok(proto::decode(&answer.read_reply).unwrap())
    }

    pub async fn read(&self, request: ReadRequest) -> ReadReply {
        self.try_read(request, false).await.unwrap()
    }

    pub async fn write(&self, request: WriteRequest) -> Result<WriteReply, Status> {
        let call = WriteCall { write_request: proto::encode(&request), ..WriteCall::default() };
        let answer = self.0.clone().write(call).await?.into_inner();
        Ok(proto::decode(&answer.write_reply).unwrap())
    }

    pub async fn create(&self, name: &str, replicas: u64) -> Result<ServiceId, Status> {
        match self.write(WriteRequest::CreateService(Box::new(service(name, replicas)))).await? {
            WriteReply::Created(id) => Ok(id),
            other => panic!("{other:?}"),
        }
    }

    pub async fn counts(&self) -> Counts {
        match self.read(ReadRequest::Counts).await {
            ReadReply::Counts(counts) => counts,
            other => panic!("{other:?}"),
        }
    }

    pub async fn nodes(&self) -> Vec<NodeView> {
        match self.read(ReadRequest::Nodes(types::Filters::new())).await {
            ReadReply::Nodes(nodes) => nodes,
            other => panic!("{other:?}"),
        }
    }

    pub async fn node(&self, id: NodeId) -> Option<NodeView> {
        self.nodes().await.into_iter().find(|view| view.node.id == id)
    }

    pub async fn tasks(&self) -> Vec<Task> {
        match self.read(ReadRequest::Tasks(types::Filters::new())).await {
            ReadReply::Tasks(tasks) => tasks.into_iter().map(std::sync::Arc::unwrap_or_clone).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Changes a node's spec, whatever its version is.
    pub async fn update_node(&self, id: NodeId, change: impl Fn(&mut NodeSpec)) -> Result<WriteReply, Status> {
        for _ in 0..20 {
            let node = self.node(id).await.unwrap().node;
            let mut spec = node.spec.clone();
            change(&mut spec);
            match self.write(WriteRequest::UpdateNode { id, version: node.meta.version, spec }).await {
                Err(status) if status.code() == tonic::Code::Aborted => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                result => return result,
            }
        }
        panic!("node {id} changes all the time");
    }
}

pub fn service(name: &str, replicas: u64) -> ServiceSpec {
    let container = ContainerSpec::of_image("busybox:1".parse().unwrap());
    ServiceSpec {
        name: name.parse().unwrap(),
        labels: types::Labels::new(),
        task: TaskSpec {
            container,
            resources: types::ResourceRequirements::default(),
            restart: types::RestartPolicy::default(),
            placement: types::Placement::default(),
            log_driver: None,
            networks: Vec::new(),
            force_update: 0,
        },
        mode: ServiceMode::Replicated { replicas },
        update: types::UpdateConfig::default(),
        rollback: types::UpdateConfig::default(),
        endpoint: types::EndpointSpec::default(),
        disconnect: types::DisconnectPolicy::default(),
        schedule: None,
        needs: Vec::new(),
        stated: Default::default(),
    }
}

pub fn drain(spec: &mut NodeSpec) {
    spec.availability = Availability::Drain;
}
