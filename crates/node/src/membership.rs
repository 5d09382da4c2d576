//! How the API asks the daemon to found, join or leave a cluster, and how it learns where the host
//! stands.
//!
//! The daemon serves the commands one at a time; the API holds a [`Membership`], which is cheap to
//! clone. Nothing here decides or does anything: it is the door between the two.

use std::sync::Arc;

use futures::future::BoxFuture;
use identity::NodeIdentity;
use proto::v1::cluster_client::ClusterClient;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::transport::Channel;
use types::{Availability, ClusterSpec, ManagerPeer, NodeId, NodeRole, Payload, ReadReply, ReadRequest, UnlockKey};

/// Commands waiting at most: people and scripts give them one by one, more is a fault.
const MAX_WAITING_COMMANDS: usize = 8;

/// Asks the daemon; copies share one daemon.
#[derive(Debug, Clone)]
pub struct Membership {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
}

/// The daemon's side of the door.
#[derive(Debug)]
pub struct Served {
    /// Ends when the last [`Membership`] is gone.
    pub commands: mpsc::Receiver<Command>,
    /// The daemon keeps this up to date.
    pub status: watch::Sender<Status>,
}

/// One thing to do. The daemon answers through `reply`; a caller that went away is no error.
#[derive(Debug)]
pub enum Command {
    /// Answered with the new node's id.
    Init {
        request: Box<InitRequest>,
        reply: oneshot::Sender<Result<NodeId, Error>>,
    },
    /// Answered with the new node's id.
    Join {
        request: JoinRequest,
        reply: oneshot::Sender<Result<NodeId, Error>>,
    },
    Leave {
        force: bool,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Answered with the new node's id.
    Restore {
        request: Box<RestoreRequest>,
        reply: oneshot::Sender<Result<NodeId, Error>>,
    },
    /// Answered with the managers that were found.
    Turn {
        remote_addrs: Vec<String>,
        reply: oneshot::Sender<Result<Vec<ManagerPeer>, Error>>,
    },
    /// Answered once the manager that was locked serves.
    Unlock {
        key: UnlockKey,
        reply: oneshot::Sender<Result<(), Error>>,
    },
}

/// Docker's own words for a node in [`LocalState::Locked`]; scripts look for them.
pub const LOCKED: &str = "Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm \
     unlock\" to unlock it.";

/// `POST /swarm/init`. Addresses are texts as the user wrote them: `host`, `host:port`, an interface
/// name, or empty for the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitRequest {
    pub listen_addr: String,
    pub advertise_addr: String,
    pub data_path_addr: String,
    pub availability: Availability,
    /// Goes on from the state on this disk as the only manager.
    pub force_new_cluster: bool,
    /// UDP port of VXLAN between all hosts, for good.
    pub data_path_port: u16,
    pub spec: ClusterSpec,
}

/// `POST /swarm/join`. Addresses as in [`InitRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    pub listen_addr: String,
    pub advertise_addr: String,
    pub data_path_addr: String,
    pub remote_addrs: Vec<String>,
    pub token: String,
    pub availability: Availability,
}

/// `POST /swarm/restore`: the first manager of a cluster that was backed up. Addresses as in [`InitRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    pub listen_addr: String,
    pub advertise_addr: String,
    pub data_path_addr: String,
    pub availability: Availability,
    /// Of the backup, opened.
    pub content: Payload,
}

/// Where this host stands.
#[derive(Debug, Clone, Default)]
pub struct Status {
    pub local_state: LocalState,
    pub node: Option<NodeId>,
    /// The address other nodes know this host by; empty outside a cluster.
    pub address: String,
    pub role: Option<NodeRole>,
    /// What is wrong when `local_state` is `Error`, what to do when it is `Locked`, else empty.
    pub error: String,
    pub managers: Vec<ManagerPeer>,
    /// Set while the host is a node: with it the API asks managers whether they are reached.
    pub identity: Option<NodeIdentity>,
    /// Set on managers while they serve.
    pub cluster: Option<ClusterClient<Channel>>,
    /// Set on managers while they serve.
    pub reader: Option<ManagerReader>,
    /// Set on managers while they serve.
    pub metrics: Option<ManagerMetrics>,
}

/// Reads this host's manager's value.
#[derive(Clone)]
pub struct ManagerReader(Arc<ReadFn>);

type ReadFn = dyn Fn(ReadRequest, bool) -> BoxFuture<'static, Result<ReadReply, tonic::Status>> + Send + Sync;

impl ManagerReader {
    /// `read` is given what is wanted, and whether it must not be older than the last accepted write.
    pub fn new<F>(read: impl Fn(ReadRequest, bool) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<ReadReply, tonic::Status>> + Send + 'static,
    {
        Self(Arc::new(move |wanted, linearizable| Box::pin(read(wanted, linearizable))))
    }

    /// # Errors
    /// As the gRPC method `Cluster.Read` has them.
    pub async fn read(&self, wanted: ReadRequest, linearizable: bool) -> Result<ReadReply, tonic::Status> {
        (self.0)(wanted, linearizable).await
    }
}

impl std::fmt::Debug for ManagerReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ManagerReader(..)")
    }
}

/// Gives a manager's metrics as Prometheus reads them.
#[derive(Clone)]
pub struct ManagerMetrics(Arc<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>);

impl ManagerMetrics {
    pub fn new(text: impl Fn() -> BoxFuture<'static, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(text))
    }

    /// With what tasks of all nodes use, which may take a few seconds where a node does not answer.
    pub async fn text(&self) -> String {
        (self.0)().await
    }
}

impl std::fmt::Debug for ManagerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ManagerMetrics(..)")
    }
}

/// Docker's `LocalNodeState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LocalState {
    #[default]
    Inactive,
    Pending,
    Active,
    Error,
    Locked,
}

impl std::fmt::Display for LocalState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Error => "error",
            Self::Locked => "locked",
        })
    }
}

/// Why a command was not done. The message is for people and says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
}

/// What a front end turns into a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself is wrong.
    BadRequest,
    /// Not in this state: already in a cluster, not in one, last manager.
    Conflict,
    /// Somebody else must act or answer first: no manager reachable, no leader.
    Unavailable,
    /// Who asks has not shown that it may: a wrong unlock key.
    Unauthorized,
    Internal,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// A connected pair: the handle for the API, the other end for the daemon.
pub fn channel() -> (Membership, Served) {
    let (commands, receiver) = mpsc::channel(MAX_WAITING_COMMANDS);
    let (sender, status) = watch::channel(Status::default());
    (Membership { commands, status }, Served { commands: receiver, status: sender })
}

impl Membership {
    /// Founds a cluster with this host as its first manager; gives the node's id.
    ///
    /// # Errors
    /// As the daemon answers.
    pub async fn init(&self, request: InitRequest) -> Result<NodeId, Error> {
        self.ask(|reply| Command::Init { request: Box::new(request), reply }).await
    }

    /// Makes this host a node of an existing cluster; gives the node's id.
    ///
    /// # Errors
    /// As the daemon answers.
    pub async fn join(&self, request: JoinRequest) -> Result<NodeId, Error> {
        self.ask(|reply| Command::Join { request, reply }).await
    }

    /// Takes this host out of its cluster and removes its tasks.
    ///
    /// # Errors
    /// As the daemon answers.
    pub async fn leave(&self, force: bool) -> Result<(), Error> {
        self.ask(|reply| Command::Leave { force, reply }).await
    }

    /// Makes this host the first manager of a cluster that was backed up; gives the node's id.
    ///
    /// # Errors
    /// As the daemon answers.
    pub async fn restore(&self, request: RestoreRequest) -> Result<NodeId, Error> {
        self.ask(|reply| Command::Restore { request: Box::new(request), reply }).await
    }

    /// Tells this host where managers of its cluster are now, when all that it knows are gone.
    ///
    /// # Errors
    /// As the daemon answers.
    pub async fn turn_to(&self, remote_addrs: Vec<String>) -> Result<Vec<ManagerPeer>, Error> {
        self.ask(|reply| Command::Turn { remote_addrs, reply }).await
    }

    /// Opens the keys of a manager that is locked, and lets it take its place.
    ///
    /// # Errors
    /// As the daemon answers.
    pub async fn unlock(&self, key: UnlockKey) -> Result<(), Error> {
        self.ask(|reply| Command::Unlock { key, reply }).await
    }

    /// Where the host stands now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// For waiting until the status changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The cluster's API, if this host is a serving manager.
    pub fn cluster(&self) -> Option<ClusterClient<Channel>> {
        self.status.borrow().cluster.clone()
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command) -> Result<T, Error> {
        let stopping = || Error::new(ErrorKind::Unavailable, "the daemon is stopping; try again once it runs");
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn commands_reach_the_daemon_and_answers_come_back() {
        let (membership, mut served) = channel();
        let daemon = tokio::spawn(async move {
            while let Some(command) = served.commands.recv().await {
                match command {
                    Command::Leave { force, reply } => {
                        let refused = Err(Error::new(ErrorKind::Conflict, "this host is not in a cluster"));
                        reply.send(if force { Ok(()) } else { refused }).expect("the caller waits");
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        assert_eq!(membership.leave(true).await, Ok(()));
        assert_eq!(membership.leave(false).await.expect_err("refused").kind, ErrorKind::Conflict);
        assert_eq!(membership.status().local_state, LocalState::Inactive);
        drop(membership);
        daemon.await.expect("the daemon's loop ends");
    }

    #[tokio::test]
    async fn a_daemon_that_stops_is_said_in_words() {
        let (membership, served) = channel();
        drop(served);
        let error = membership.leave(false).await.expect_err("nobody serves");
        assert_eq!((error.kind, error.message.contains("stopping")), (ErrorKind::Unavailable, true));
    }
}
