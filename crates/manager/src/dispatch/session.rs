//! One node's stream: reads what the node says, writes what it shall know.
//!
//! Spawned by the session service for each stream; ends when the stream, the manager or the node's
//! membership ends, or when a newer session of the same node comes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use control::Tables;
use proto::v1::{
    AgentMessage, Goodbye, Hello, ManagerMessage, Welcome, agent_message, manager_message::Message as Down,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use types::{ManagerPeer, NodeDescription, NodeId, NodeRole, ProbeReport, TaskReport};

use super::{Hub, Said, assigner::Assigner, hub::Handle};
use crate::{
    leader::upward::Description,
    raft::{Consensus, peers},
};

/// Messages on their way to one node.
pub(crate) const MAX_DOWN: usize = 16;
/// A node that takes nothing for this long is not there.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
/// For a node to hang up after a goodbye; a fraction of what the manager waits for all of them.
const HANG_UP: Duration = Duration::from_millis(300);
/// Changes that follow each other closely become one difference.
const PACE: Duration = Duration::from_millis(5);
/// A manager whose words have not reached the leader for this long (cut off, or no manager any more
/// and not told) sends its nodes to other managers. Longer than an election takes.
const STUCK_PATIENCE: Duration = Duration::from_millis(1500);
/// Heartbeats that may be missing before the stream is taken for dead; the leader judges earlier.
const SILENT_HEARTBEATS: u32 = 10;

pub(crate) struct Session {
    node: NodeId,
    tables: watch::Receiver<Tables>,
    hub: Hub,
    handle: Arc<Handle>,
    asked: mpsc::Receiver<ManagerMessage>,
    said: mpsc::Sender<Said>,
    stuck_since: watch::Receiver<Option<Instant>>,
    down: mpsc::Sender<Result<ManagerMessage, Status>>,
    assigner: Assigner,
    managers: Vec<ManagerPeer>,
    role: Option<NodeRole>,
    /// The roots that this session told the node to trust.
    trust: Option<[u8; 32]>,
    reports: u64,
}

/// What a session needs of its manager.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) consensus: Consensus,
    pub(crate) tables: watch::Receiver<Tables>,
    pub(crate) hub: Hub,
    pub(crate) said: mpsc::Sender<Said>,
    /// Since when the uplink has not reached the leader.
    pub(crate) stuck_since: watch::Receiver<Option<Instant>>,
    pub(crate) stopping: CancellationToken,
}

/// Serves one stream to its end.
pub(crate) async fn serve(
    context: Context,
    node: NodeId,
    mut up: Streaming<AgentMessage>,
    down: mpsc::Sender<Result<ManagerMessage, Status>>,
) {
    let outcome = async {
        if !context.consensus.is_member(node).await? {
            return Err(removed(node));
        }
        let hello = first_message(&mut up).await?;
        let mut session = Session::enter(&context, node, down.clone());
        tracing::debug!(node.id = %node, "session begins");
        let result = session.run(hello, up, &context.stopping).await;
        if context.hub.leave(&session.handle) {
            let _ = session.said.send(Said::Gone(node)).await;
        }
        result
    };
    if let Err(status) = outcome.await {
        tracing::debug!(node.id = %node, %status, "session ends");
        // the node may be gone already
        let _ = timeout(SEND_PATIENCE, down.send(Err(status))).await;
    }
}

pub(crate) fn removed(node: NodeId) -> Status {
    Status::permission_denied(format!("node {node} was removed from the cluster: join it again with a token"))
}

async fn first_message(up: &mut Streaming<AgentMessage>) -> Result<Hello, Status> {
    match timeout(SEND_PATIENCE, up.message()).await {
        Ok(Ok(Some(AgentMessage { message: Some(agent_message::Message::Hello(hello)) }))) => Ok(hello),
        Ok(Ok(_)) => Err(Status::invalid_argument("a session begins with hello")),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::deadline_exceeded("no hello came on the session")),
    }
}

impl Session {
    fn enter(context: &Context, node: NodeId, down: mpsc::Sender<Result<ManagerMessage, Status>>) -> Self {
        let (handle, asked) = context.hub.enter(node);
        Self {
            node,
            tables: context.tables.clone(),
            hub: context.hub.clone(),
            handle,
            asked,
            said: context.said.clone(),
            stuck_since: context.stuck_since.clone(),
            down,
            assigner: Assigner::new(node),
            managers: Vec::new(),
            role: None,
            trust: None,
            reports: 0,
        }
    }

    async fn run(
        &mut self,
        hello: Hello,
        mut up: Streaming<AgentMessage>,
        stopping: &CancellationToken,
    ) -> Result<(), Status> {
        let address: Option<IpAddr> = parse_address(&hello.data_address)?;
        self.describe(&hello.node_description, address).await?;
        self.welcome().await?;
        let mut committed = self.handle.committed.subscribe();
        let replaced = self.handle.replaced.clone();
        let mut silent_at = Instant::now() + self.silence();
        loop {
            tokio::select! {
                message = up.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    silent_at = Instant::now() + self.silence();
                    if self.stuck_since.borrow().is_some_and(|since| since.elapsed() > STUCK_PATIENCE) {
                        return self.send(Down::Goodbye(Goodbye {})).await;
                    }
                    self.hear(message, address).await?;
                }
                () = self.handle.dirty.notified() => {
                    sleep(PACE).await;
                    self.update().await?;
                }
                changed = committed.changed() => {
                    let count = *committed.borrow_and_update();
                    if changed.is_ok() {
                        self.send(Down::ReportsCommitted(count)).await?;
                    }
                }
                Some(request) = self.asked.recv() => {
                    if let Some(message) = request.message {
                        self.send(message).await?;
                    }
                }
                () = replaced.cancelled() => {
                    return Err(Status::aborted("a newer session of this node replaces this one"));
                }
                () = stopping.cancelled() => {
                    self.send(Down::Goodbye(Goodbye {})).await?;
                    // the connection must not go before the word has arrived: the node hangs up then
                    let hung_up = async { while let Ok(Some(_)) = up.message().await {} };
                    let _ = timeout(HANG_UP, hung_up).await;
                    return Ok(());
                }
                () = tokio::time::sleep_until(silent_at) => {
                    return Err(Status::deadline_exceeded("nothing was heard on the session"));
                }
            }
        }
    }

    fn silence(&self) -> Duration {
        self.heartbeat_period() * SILENT_HEARTBEATS
    }

    fn heartbeat_period(&self) -> Duration {
        let tables = self.tables.borrow();
        tables.cluster().map_or(Duration::from_secs(1), |c| c.spec.dispatcher.heartbeat_period)
    }

    async fn welcome(&mut self) -> Result<(), Status> {
        let tables = self.tables.borrow_and_update().clone();
        let role = tables.node(self.node).ok_or_else(|| removed(self.node))?.role;
        self.managers = peers::managers(&tables);
        self.role = Some(role);
        let welcome = Welcome {
            heartbeat_ms: u64::try_from(self.heartbeat_period().as_millis()).unwrap_or(u64::MAX),
            managers: proto::encode(&self.managers),
            desired_role: role.to_string(),
        };
        self.send(Down::Welcome(welcome)).await?;
        self.update().await
    }

    /// Tells the node what is new for it in the value.
    async fn update(&mut self) -> Result<(), Status> {
        let tables = self.tables.borrow_and_update().clone();
        let role = tables.node(self.node).ok_or_else(|| removed(self.node))?.role;
        if self.role != Some(role) {
            self.role = Some(role);
            self.send(Down::DesiredRole(role.to_string())).await?;
        }
        let managers = peers::managers(&tables);
        if self.managers != managers {
            self.managers = managers;
            self.send(Down::Managers(proto::encode(&self.managers))).await?;
        }
        self.tell_trust(&tables).await?;
        match self.assigner.next(&tables) {
            Some(message) => self.send(Down::Assignments(message)).await,
            None => Ok(()),
        }
    }

    /// A node whose turn it is renews its certificate; one that was told of other roots and has followed meanwhile learns
    /// that it need not do it again.
    async fn tell_trust(&mut self, tables: &Tables) -> Result<(), Status> {
        let Some((trust, is_its_turn)) = self.hub.trust(self.node).filter(|(trust, _)| self.trust != Some(*trust))
        else {
            return Ok(());
        };
        let told = tables.node(self.node).and_then(|node| node.description.as_ref());
        let follows = told.zip(tables.cluster()).is_some_and(|(told, cluster)| cluster.root_ca.is_followed_by(told));
        if is_its_turn || (self.trust.is_some() && follows) {
            self.trust = Some(trust);
            self.send(Down::Trust(trust.to_vec())).await?;
        }
        Ok(())
    }

    async fn send(&self, message: Down) -> Result<(), Status> {
        let message = ManagerMessage { message: Some(message) };
        match timeout(SEND_PATIENCE, self.down.send(Ok(message))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the node ended its session")),
            Err(_) => Err(Status::deadline_exceeded("the node takes no messages")),
        }
    }

    async fn hear(&mut self, message: AgentMessage, address: Option<IpAddr>) -> Result<(), Status> {
        use agent_message::Message as Up;
        match message.message {
            None | Some(Up::Heartbeat(_)) => self.say(Said::Heartbeat(self.node)).await,
            Some(Up::Hello(_)) => Err(Status::invalid_argument("hello comes only once on a session")),
            Some(Up::TaskReports(bytes)) => {
                let reports: Vec<TaskReport> = proto::decode(&bytes)?;
                self.reports += reports.len() as u64;
                let session = self.handle.clone();
                self.say(Said::Tasks { session, reports, total: self.reports }).await
            }
            Some(Up::NodeDescription(bytes)) => self.describe(&bytes, address).await,
            Some(Up::ProbeReports(bytes)) => {
                let reports: Vec<ProbeReport> = proto::decode(&bytes)?;
                self.say(Said::Probes { node: self.node, reports }).await
            }
            Some(Up::Resync(_)) => {
                self.assigner.forget();
                self.update().await
            }
        }
    }

    async fn describe(&self, bytes: &[u8], address: Option<IpAddr>) -> Result<(), Status> {
        let description: NodeDescription = proto::decode(bytes)?;
        let description = Box::new(Description { description, address });
        self.say(Said::Described { node: self.node, description }).await
    }

    async fn say(&self, said: Said) -> Result<(), Status> {
        self.said.send(said).await.map_err(|_| Status::unavailable("the manager is stopping"))
    }
}

fn parse_address(text: &str) -> Result<Option<IpAddr>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let bad = |_| Status::invalid_argument(format!("data address {text:?} is not an IP address"));
    text.parse().map(Some).map_err(bad)
}

/// A session that is dropped in the middle (the connection broke) leaves the hub all the same.
impl Drop for Session {
    fn drop(&mut self) {
        self.hub.leave(&self.handle);
    }
}
