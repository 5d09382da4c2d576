//! The agent: makes this host do what the managers assigned to it, and tells them how it went.
//!
//! Started by the daemon for as long as the host is a node; owns four tasks: the session with a
//! manager, the renewal of the certificate, the listening to probes, and the loop in `follower` that
//! owns all state. Without managers it goes on as it was told last. Stopping it leaves containers alone.

mod abandon;
mod assigned;
mod data_key;
mod described;
mod doctor_server;
mod ends;
mod follower;
mod image_care;
mod image_server;
mod keeper;
mod local;
mod mesh;
mod monitors;
mod outcomes;
mod overlays;
mod perform;
mod probes;
mod publish;
mod reconcile;
mod refresh;
mod renewal;
mod report;
mod restore;
mod session;
#[cfg(test)]
pub(crate) mod testing;
mod tunnels;

use std::{net::IpAddr, path::PathBuf};

use identity::{NodeIdentity, Vault};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use types::{ManagerPeer, NodeRole};

use self::follower::Follower;
pub use self::{abandon::abandon, assigned::StateFileError, data_key::DataKeyError};
use crate::engine::{Engine, EngineError};

/// Events that wait for the daemon; there is one at most for each change of role or managers.
const MAX_WAITING_EVENTS: usize = 64;

/// What the daemon tells the agent.
#[derive(Clone)]
pub struct AgentConfig {
    pub identity: NodeIdentity,
    /// Where renewed identities are saved (`NodeIdentity::save`).
    pub vault: Vault,
    /// Whom to turn to first; those kept on disk from before are tried too.
    pub managers: Vec<ManagerPeer>,
    /// Those kept on disk are gone: only `managers` are turned to.
    pub others_are_gone: bool,
    /// Where other hosts reach this one's data plane.
    pub data_address: IpAddr,
    /// Where assignments and reports are kept.
    pub state_dir: PathBuf,
}

/// What the daemon should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEvent {
    /// The certificate now carries this role: start or stop being a manager.
    DesiredRole(NodeRole),
    /// The managers of the cluster changed.
    Managers(Vec<ManagerPeer>),
    /// The cluster removed this node; the agent no longer seeks a session.
    Removed,
}

/// What the agent is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentStatus {
    /// The manager of the present session.
    pub manager: Option<ManagerPeer>,
    pub tasks: usize,
    pub running: usize,
    /// Reports that no manager has committed yet.
    pub reports_waiting: usize,
}

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    #[error(transparent)]
    DataKey(#[from] DataKeyError),
    #[error("look for this host's containers")]
    Engine(#[from] EngineError),
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    events: mpsc::Receiver<AgentEvent>,
    status: watch::Receiver<AgentStatus>,
    leave: mpsc::Sender<oneshot::Sender<()>>,
    stop: CancellationToken,
    owner: JoinHandle<()>,
}

impl Agent {
    /// Takes up what is kept on disk and what runs, and begins.
    ///
    /// # Errors
    /// When the kept state or the host's containers cannot be read.
    pub async fn start(engine: Engine, config: AgentConfig) -> Result<Self, AgentError> {
        let (events, receiver) = mpsc::channel(MAX_WAITING_EVENTS);
        let (status, status_receiver) = watch::channel(AgentStatus::default());
        let (leave, leave_receiver) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let follower = Follower::restore(engine, config, events, status).await?;
        let owner = tokio::spawn(follower.run(leave_receiver, stop.clone()));
        Ok(Self { events: receiver, status: status_receiver, leave, stop, owner })
    }

    /// What the daemon should know; `None` when the agent has ended.
    pub fn events(&mut self) -> &mut mpsc::Receiver<AgentEvent> {
        &mut self.events
    }

    pub fn status(&self) -> AgentStatus {
        self.status.borrow().clone()
    }

    /// For waiting until the status changes.
    pub fn watch(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }

    /// Ends the agent. Containers go on.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.owner.await {
            tracing::error!(%error, "the agent ended badly");
        }
    }

    /// Stops and removes all of the cluster's tasks from this host, forgets the assignments, and ends.
    /// Takes as long as the longest grace period.
    pub async fn leave(self) {
        let (reply, done) = oneshot::channel();
        if self.leave.send(reply).await.is_ok() {
            // An agent that ended meanwhile has nothing more to wait for.
            let _ = done.await;
        }
        self.shutdown().await;
    }
}
