//! A running manager: how it comes to be, what it owns, how it ends.

use std::{path::Path, sync::Arc, time::Duration};

use control::{Change, admission};
use futures::{FutureExt as _, future::BoxFuture};
use openraft::error::{InitializeError, RaftError};
use proto::v1::{RaftJoinCall, cluster_client::ClusterClient};
use tokio::{net::TcpListener, sync::watch};
use tonic::transport::Channel;
use types::{Cluster, ManagerPeer, Node, NodeId, NodeRole, RaftMember};

use crate::{
    Config, Error,
    raft::{handover, peers, types::RaftId},
    rpc::{connection::Connection, read::Reader, server},
    store::{Owner, Store},
    wiring::{self, Parts},
};

/// For the first manager to become its own leader.
pub(crate) const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(10);
/// For one remote manager to let this one into the group.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);
/// For a new manager to receive the value before it is used.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(20);
/// For sessions to take their goodbye, and for the last handles on the database to go.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(2);
/// Bytes in flight between this process and itself.
const INSIDE_BUFFER_BYTES: usize = 256 << 10;

/// Owns everything that a manager runs. Dropping it stops all at once; prefer [`Manager::shutdown`].
pub struct Manager {
    pub(crate) config: Config,
    pub(crate) parts: Parts,
}

/// How a manager stands, for `info` and for tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerStatus {
    pub raft_id: RaftId,
    /// The node that leads, as far as this manager knows.
    pub leader: Option<NodeId>,
    pub is_leader: bool,
    pub term: u64,
    /// All managers in the value.
    pub members: Vec<ManagerPeer>,
    /// How many of them vote.
    pub voters: usize,
    /// Raft log index of the last applied entry.
    pub last_applied: u64,
    /// Nodes that hold their session with this manager.
    pub sessions: usize,
}

impl Manager {
    /// The first manager of a new cluster. `first` is this node; it becomes the only voter.
    ///
    /// # Errors
    /// When there is replicated state already, when port or disk cannot be used. Nothing stays behind.
    pub async fn bootstrap(config: Config, cluster: Cluster, first: Node) -> Result<Self, Error> {
        admission::check_new_cluster(&cluster).map_err(|refused| Error::Bootstrap(refused.to_string()))?;
        let directory = config.raft_directory();
        let listener = server::listen(config.listen).await?;
        let address = advertised(&config, &listener)?;
        let store = Store::open(&config.vault)?;
        if store.owner()?.is_some() {
            return Err(Error::NotEmpty { path: directory });
        }
        // so much at once is not for the stack of whoever waits
        let result = Box::pin(Self::bootstrap_in(config, listener, store, address, cluster, first)).await;
        if result.is_err() {
            remove(&directory)?;
        }
        result
    }

    async fn bootstrap_in(
        config: Config,
        listener: TcpListener,
        store: Store,
        address: String,
        cluster: Cluster,
        mut first: Node,
    ) -> Result<Self, Error> {
        let raft_id = crate::random::u128() as u64;
        let owner = Owner { cluster: cluster.id, node: first.id, raft_id };
        owner.check(config.identity.cluster(), config.identity.node(), &config.raft_directory())?;
        store.set_owner(&owner)?;
        (first.role, first.spec.role) = (NodeRole::Manager, NodeRole::Manager);
        first.raft = Some(RaftMember { raft_id, address: address.clone() });
        let parts = wiring::start(&config, listener, store, owner).await?;
        let manager = Self { config, parts };
        match manager.found_group(&address, cluster, first).await {
            Ok(()) => Ok(manager),
            Err(error) => {
                manager.abort().await;
                Err(error)
            }
        }
    }

    async fn found_group(&self, address: &str, cluster: Cluster, first: Node) -> Result<(), Error> {
        let consensus = &self.parts.consensus;
        let member = crate::raft::types::Member::new(consensus.node(), address);
        let members = std::collections::BTreeMap::from([(consensus.raft_id(), member)]);
        match consensus.raft().initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(Error::Bootstrap(error.to_string())),
        }
        let me = consensus.raft_id();
        let leads = consensus.raft().wait(Some(BOOTSTRAP_PATIENCE)).current_leader(me, "bootstrap").await;
        leads.map_err(|e| Error::Bootstrap(format!("this manager did not become leader: {e}")))?;
        let proposal = admission::bootstrap(cluster, first, (self.config.clock)(), &mut crate::random::u128);
        if !proposal.changes.iter().any(|change| matches!(change, Change::PutNetwork(_))) {
            tracing::warn!(
                "the address pools have no place for an ingress network: no port can be published through the mesh \
                 until one is made with `network create --driver overlay --ingress --subnet SUBNET ingress`"
            );
        }
        consensus.propose_here(proposal).await.map_err(|e| Error::Bootstrap(e.to_string()))?;
        Ok(())
    }

    /// A node that holds a manager's certificate enters the group through one of `remote`.
    ///
    /// # Errors
    /// When no remote manager lets it in (each one's reason is in the text), when port or disk
    /// cannot be used.
    pub async fn join(config: Config, remote: &[ManagerPeer]) -> Result<Self, Error> {
        let directory = config.raft_directory();
        let listener = server::listen(config.listen).await?;
        let address = advertised(&config, &listener)?;
        let held = held_raft_id(&config, &directory)?;
        let raft_id = ask_to_join(&config, remote, &address, held).await?;
        if raft_id != held {
            // what an earlier membership left behind is no part of the new one
            remove(&directory)?;
        }
        let store = Store::open(&config.vault)?;
        let owner = Owner { cluster: config.identity.cluster(), node: config.identity.node(), raft_id };
        store.set_owner(&owner)?;
        let parts = Box::pin(wiring::start(&config, listener, store, owner)).await?;
        let manager = Self { config, parts };
        manager.wait_for_value().await;
        Ok(manager)
    }

    async fn wait_for_value(&self) {
        let mut tables = self.parts.consensus.watch_tables();
        let arrived = tables.wait_for(|tables| tables.cluster().is_some());
        if tokio::time::timeout(CATCH_UP_PATIENCE, arrived).await.is_err() {
            tracing::warn!("the cluster's state has not arrived yet; this manager answers once it has");
        }
    }

    /// A manager that was stopped, from its disk.
    ///
    /// # Errors
    /// When the state is missing, damaged or of another cluster; when the port cannot be used.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let directory = config.raft_directory();
        if !directory.join("db").exists() {
            return Err(Error::Empty { path: directory });
        }
        let store = Store::open(&config.vault)?;
        let owner = store.owner()?.ok_or_else(|| Error::Empty { path: directory.clone() })?;
        owner.check(config.identity.cluster(), config.identity.node(), &directory)?;
        let listener = server::listen(config.listen).await?;
        let parts = Box::pin(wiring::start(&config, listener, store, owner)).await?;
        Ok(Self { config, parts })
    }

    /// Whether `config` names a directory that [`Self::open`] can open.
    pub fn exists(config: &Config) -> bool {
        config.raft_directory().join("db").exists()
    }

    /// The address that was bound.
    pub fn local_address(&self) -> std::net::SocketAddr {
        self.parts.bound
    }

    /// A client of this manager that does not leave the process.
    pub fn cluster_client(&self) -> ClusterClient<Channel> {
        let (accepted, identity) = (self.parts.accepted.clone(), self.config.identity.clone());
        let stopping = self.parts.stopping.clone();
        let channel = proto::transport::channel("inside", move |_| {
            let (accepted, subject, stopping) = (accepted.clone(), identity.subject(), stopping.clone());
            async move {
                let (near, far) = tokio::io::duplex(INSIDE_BUFFER_BYTES);
                let gone = |_| std::io::Error::new(std::io::ErrorKind::NotConnected, "the manager has stopped");
                accepted.send(Connection::from_inside(far, subject, stopping)).await.map_err(gone)?;
                Ok(near)
            }
        });
        ClusterClient::new(channel)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES)
    }

    /// Reads without a message, for this process.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.parts.consensus, self.config.identity.subject(), self.config.clock.clone())
    }

    /// Follows the applied state.
    pub fn watch(&self) -> watch::Receiver<control::Tables> {
        self.parts.consensus.watch_tables()
    }

    pub fn status(&self) -> ManagerStatus {
        let consensus = &self.parts.consensus;
        let metrics = consensus.metrics();
        ManagerStatus {
            raft_id: consensus.raft_id(),
            leader: consensus.leader().and_then(|leader| leader.node),
            is_leader: consensus.is_leader(),
            term: metrics.current_term,
            members: peers::managers(&consensus.tables()),
            voters: metrics.membership_config.membership().voter_ids().count(),
            last_applied: metrics.last_applied.map_or(0, |id| id.index),
            sessions: self.parts.hub.len(),
        }
    }

    /// Its metrics as Prometheus reads them, whenever the function is called; of a manager that is gone none.
    pub fn metrics(&self) -> impl Fn() -> BoxFuture<'static, String> + Send + Sync + 'static {
        let told = Arc::downgrade(&self.parts.metrics);
        move || {
            let told = told.upgrade();
            async move {
                match told {
                    Some(told) => told.text().await,
                    None => String::new(),
                }
            }
            .boxed()
        }
    }

    /// Resolves with the reason when a part of the manager has died; the rest is stopped by then.
    pub fn failed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut failure = self.parts.failure.clone();
        async move {
            let reason = failure.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
            match reason {
                Some(reason) => reason,
                // the manager was stopped on purpose
                None => std::future::pending().await,
            }
        }
    }

    /// Hands leadership over, says goodbye to the nodes, and stops.
    pub async fn shutdown(self) {
        handover::hand_over(&self.parts.consensus).await;
        self.parts.farewell.cancel();
        self.parts.sessions.close();
        // sessions that do not take their goodbye lose their connection
        let _ = tokio::time::timeout(FAREWELL_PATIENCE, self.parts.sessions.wait()).await;
        self.abort().await;
    }

    /// Stops without a word, as a crash would; acknowledged writes are on disk.
    pub async fn abort(self) {
        self.parts.farewell.cancel();
        self.parts.stopping.cancel();
        // the library only fails to stop if it has stopped
        let _ = self.parts.consensus.raft().shutdown().await;
        let closing = self.parts.stop().await;
        let closed = async {
            while !closing.is_closed() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(FAREWELL_PATIENCE, closed).await.is_err() {
            tracing::warn!("the replicated state is still in use after the manager stopped");
        }
    }
}

pub(crate) fn advertised(config: &Config, listener: &TcpListener) -> Result<String, Error> {
    let bound = listener.local_addr().map_err(|source| Error::Listen { address: config.listen, source })?;
    Ok(config.advertised(bound))
}

pub(crate) fn remove(directory: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::File { operation: "remove", path: directory.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// The Raft id of the state on disk, if it is of this node; 0 if there is none.
fn held_raft_id(config: &Config, directory: &Path) -> Result<RaftId, Error> {
    if !directory.join("db").exists() {
        return Ok(0);
    }
    let owner = Store::open(&config.vault)?.owner()?;
    match owner {
        Some(owner) => {
            owner.check(config.identity.cluster(), config.identity.node(), directory)?;
            Ok(owner.raft_id)
        }
        None => Ok(0),
    }
}

async fn ask_to_join(config: &Config, remote: &[ManagerPeer], address: &str, held: RaftId) -> Result<RaftId, Error> {
    let mut reasons = Vec::new();
    for peer in remote {
        let identity = config.identity.clone();
        let channel = proto::transport::channel(&peer.address, move |address| identity.clone().connect(address));
        let mut client = proto::v1::raft_client::RaftClient::new(channel);
        let call = RaftJoinCall { address: address.to_owned(), forwarded: false, raft_id: held, node: String::new() };
        match tokio::time::timeout(JOIN_PATIENCE, client.join(call)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner().raft_id),
            Ok(Err(status)) => reasons.push(format!("{}: {}", peer.address, status.message())),
            Err(_) => reasons.push(format!("{}: no answer within {} s", peer.address, JOIN_PATIENCE.as_secs())),
        }
    }
    if reasons.is_empty() {
        reasons.push("no manager's address is known".to_owned());
    }
    Err(Error::Join(reasons.join("; ")))
}
