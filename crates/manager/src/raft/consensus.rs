//! A manager's handle on the Raft group: propose, read, who leads.
//!
//! Cheap to clone; used by the leader loop, the dispatcher and the gRPC services.

use std::{sync::Arc, time::Duration};

use control::{Proposal, Rejection, Tables};
use openraft::ServerState;
use prometheus_client::metrics::histogram::Histogram;
use proto::v1::{RaftFrame, ReadIndexCall, raft_client::RaftClient};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};
use tonic::{Code, Status, transport::Channel};
use types::{NodeId, WriteReply};

use super::{
    Peers, proposer,
    receipts::{Receipt, Receipts, Seen},
    types::{Member, Metrics, Proposed, Raft, RaftId, ServerMetrics},
};
use crate::Error;

/// How long a write waits for an election to end before it says that there is no leader: several
/// elections' worth.
pub(crate) const ELECTION_PATIENCE: Duration = Duration::from_secs(4);
/// A proposal that took this long will not make it soon: the majority is gone or its disks stall.
const COMMIT_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub(crate) struct Consensus {
    raft: Raft,
    me: RaftId,
    node: NodeId,
    peers: Peers,
    tables: watch::Receiver<Tables>,
    proposals: mpsc::Sender<proposer::Waiting>,
    receipts: Receipts,
    /// Leadership is being handed over: writes wait for the next leader.
    resigning: Arc<watch::Sender<bool>>,
    /// Of proposals that were made here.
    latency: Histogram,
}

/// What to do about a write of which nobody can say whether it happened.
const ADVICE: &str = "look, then repeat";

/// Why a proposal did not become part of the value.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ProposeError {
    #[error(transparent)]
    Rejected(Rejection),
    #[error("this manager does not lead any more; what was asked may or may not have happened: {ADVICE}")]
    NotLeader,
    #[error("no majority of the managers confirmed the write within {} s; it may still happen: {ADVICE}", COMMIT_PATIENCE.as_secs())]
    Timeout,
    #[error("the replicated state of this manager has stopped: {0}")]
    Stopped(String),
    /// The leader, or nobody, answered.
    #[error("{}", .0.message())]
    Remote(Status),
}

/// Who leads, as this manager sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) id: RaftId,
    pub(crate) node: Option<NodeId>,
    pub(crate) address: String,
    pub(crate) term: u64,
    /// It is this manager.
    pub(crate) here: bool,
}

impl Consensus {
    /// The handle, and the loop that must run for proposals to get anywhere.
    pub(crate) fn new(
        raft: Raft,
        me: RaftId,
        node: NodeId,
        peers: Peers,
        tables: watch::Receiver<Tables>,
        receipts: Receipts,
        metrics: &crate::metrics::Metrics,
    ) -> (Self, impl Future<Output = Result<(), Error>> + Send + 'static) {
        let (proposals, waiting) = mpsc::channel(proposer::MAX_WAITING);
        let run = proposer::run(raft.clone(), waiting);
        let resigning = Arc::new(watch::channel(false).0);
        let latency = metrics.proposals.clone();
        (Self { raft, me, node, peers, tables, proposals, receipts, resigning, latency }, run)
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(crate) fn raft_id(&self) -> RaftId {
        self.me
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    pub(crate) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The value as of now.
    pub(crate) fn tables(&self) -> Tables {
        self.tables.borrow().clone()
    }

    pub(crate) fn watch_tables(&self) -> watch::Receiver<Tables> {
        self.tables.clone()
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow().clone()
    }

    pub(crate) fn is_leader(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        metrics.state == ServerState::Leader && metrics.current_leader == Some(self.me)
    }

    /// Who leads and takes writes; nobody while this manager hands leadership over.
    pub(crate) fn leader(&self) -> Option<Leader> {
        let leader = leader_of(&self.raft.server_metrics().borrow(), self.me, &self.peers)?;
        (!leader.here || !self.is_resigning()).then_some(leader)
    }

    pub(crate) fn is_resigning(&self) -> bool {
        *self.resigning.borrow()
    }

    /// While set, this manager takes no writes although it may still lead.
    pub(crate) fn set_resigning(&self, resigning: bool) {
        self.resigning.send_replace(resigning);
    }

    /// Who leads, waiting for an election to end.
    ///
    /// # Errors
    /// `UNAVAILABLE` with a sentence when nobody leads after [`ELECTION_PATIENCE`].
    pub(crate) async fn wait_for_leader(&self) -> Result<Leader, Status> {
        let mut metrics = self.raft.server_metrics();
        let mut resigning = self.resigning.subscribe();
        let deadline = Instant::now() + ELECTION_PATIENCE;
        loop {
            metrics.borrow_and_update();
            resigning.borrow_and_update();
            if let Some(leader) = self.leader() {
                return Ok(leader);
            }
            let changed = async {
                tokio::select! {
                    changed = metrics.changed() => changed,
                    changed = resigning.changed() => changed,
                }
            };
            if !matches!(timeout_at(deadline, changed).await, Ok(Ok(()))) {
                return Err(Status::unavailable(self.no_leader_text()));
            }
        }
    }

    /// Waits until another term has begun than the one in which `leader` leads.
    pub(crate) async fn end_of_term(&self, leader: &Leader) {
        let mut metrics = self.raft.server_metrics();
        let over = metrics.wait_for(|metrics| metrics.vote.leader_id().get_term() > leader.term).await.is_ok();
        if !over {
            // the group has stopped: so will whoever waits
            std::future::pending::<()>().await;
        }
    }

    /// What a call at the leader gives, or that its term ended first.
    async fn during_term<T>(
        &self,
        leader: &Leader,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        tokio::select! {
            biased;
            result = call => result,
            () = self.end_of_term(leader) => Err(Status::unavailable("the leader was lost before it answered")),
        }
    }

    fn no_leader_text(&self) -> String {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let voters = metrics.membership_config.membership().voter_ids().count();
        let majority = voters / 2 + 1;
        format!(
            "no leader: of {voters} managers fewer than {majority} answer each other; writes wait for a majority, \
             reads go on. Start the managers that are down, or check that they reach each other's control port"
        )
    }

    /// Proposes here; only the leader can.
    ///
    /// # Errors
    /// The rejection, or why it is not known whether it was committed.
    pub(crate) async fn propose_here(&self, proposal: Proposal) -> Result<u64, ProposeError> {
        self.propose_with(proposal, None).await
    }

    /// The same; whoever applies it tells the receipt's asker.
    pub(crate) async fn propose_with(&self, proposal: Proposal, receipt: Option<Receipt>) -> Result<u64, ProposeError> {
        if self.is_resigning() {
            return Err(ProposeError::NotLeader);
        }
        let (answer, outcome) = oneshot::channel();
        let stopped = || ProposeError::Stopped("the manager is stopping".to_owned());
        let waiting = proposer::Waiting { proposed: Proposed { proposal, receipt }, answer };
        let began = Instant::now();
        self.proposals.send(waiting).await.map_err(|_| stopped())?;
        let result = match tokio::time::timeout(COMMIT_PATIENCE, outcome).await {
            Ok(result) => result.map_err(|_| stopped())?,
            Err(_) => Err(ProposeError::Timeout),
        };
        if result.is_ok() {
            self.latency.observe(began.elapsed().as_secs_f64());
        }
        result
    }

    /// Proposes here or, in one hop, at the leader.
    ///
    /// # Errors
    /// As [`Self::propose_here`], and when there is no leader.
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<u64, ProposeError> {
        let leader = self.wait_for_leader().await.map_err(ProposeError::Remote)?;
        if leader.here {
            return self.propose_here(proposal).await;
        }
        let mut call = tonic::Request::new(RaftFrame { payload: proto::encode(&proposal) });
        call.set_timeout(COMMIT_PATIENCE);
        let answer = self.client(&leader.address).propose(call).await.map_err(ProposeError::Remote)?;
        Ok(answer.into_inner().index)
    }

    pub(crate) fn client(&self, address: &str) -> RaftClient<Channel> {
        RaftClient::new(self.peers.channel(address))
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES)
    }

    /// On the leader: the log index that a read must have seen, confirmed by a majority (ReadIndex).
    ///
    /// # Errors
    /// `UNAVAILABLE` when this manager does not lead or no majority answers.
    pub(crate) async fn read_index_here(&self) -> Result<u64, Status> {
        let confirm = self.raft.get_read_log_id();
        let (read, _) = tokio::time::timeout(ELECTION_PATIENCE, confirm)
            .await
            .map_err(|_| Status::unavailable(self.no_leader_text()))?
            .map_err(|e| Status::unavailable(format!("a consistent read needs the leader: {e}")))?;
        Ok(read.map_or(0, |id| id.index))
    }

    async fn read_index_at(&self, leader: &Leader) -> Result<u64, Status> {
        if leader.here {
            return self.read_index_here().await;
        }
        let mut call = tonic::Request::new(ReadIndexCall {});
        call.set_timeout(ELECTION_PATIENCE);
        Ok(self.client(&leader.address).read_index(call).await?.into_inner().index)
    }

    /// Makes a write at the leader, once: if the leader is lost before it answers, the next leader's log says
    /// whether the write is in it, and one that is not is made again.
    ///
    /// `at` makes the write at a leader under the number it is given.
    ///
    /// # Errors
    /// The write's own; `UNAVAILABLE` when no leader is found in time, or when what became of the write cannot be
    /// said, in a sentence that says so.
    pub(crate) async fn write_once<F, Fut>(&self, at: F) -> Result<WriteReply, Status>
    where
        F: Fn(Leader, u64) -> Fut,
        Fut: Future<Output = Result<WriteReply, Status>>,
    {
        let mut awaited = self.receipts.wait_for(random_number());
        loop {
            let leader = self.wait_for_leader().await?;
            let answer = self.during_term(&leader, at(leader.clone(), awaited.number())).await;
            let lost = match answer {
                Err(status) if is_of_transport(&status) => status,
                answer => return answer,
            };
            let next_term = tokio::time::timeout(ELECTION_PATIENCE, self.end_of_term(&leader)).await;
            next_term.map_err(|_| uncertain(&lost))?;
            self.ensure_current().await.map_err(|_| uncertain(&lost))?;
            match awaited.look() {
                Seen::Applied(reply) => return Ok(reply),
                Seen::NotApplied => {}
                Seen::Unknown => return Err(uncertain(&lost)),
            }
        }
    }

    /// Whether a node is part of the cluster. That it is not is said only after asking the leader: a
    /// manager that lags must not tell a node that it was removed.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the local value lacks the node and there is no leader to ask.
    pub(crate) async fn is_member(&self, node: NodeId) -> Result<bool, Status> {
        let is_known = || self.tables.borrow().node(node).is_some();
        if is_known() {
            return Ok(true);
        }
        self.ensure_current().await?;
        Ok(is_known())
    }

    /// Waits until the local value is not older than the leader's is now. A leader that is lost meanwhile is no
    /// failure: the next one is asked.
    ///
    /// # Errors
    /// `UNAVAILABLE` when there is no leader, or this manager cannot catch up in time.
    pub(crate) async fn ensure_current(&self) -> Result<(), Status> {
        let deadline = Instant::now() + ELECTION_PATIENCE;
        let index = loop {
            let leader = self.wait_for_leader().await?;
            match self.during_term(&leader, self.read_index_at(&leader)).await {
                Ok(index) => break index,
                Err(status) => {
                    timeout_at(deadline, self.end_of_term(&leader)).await.map_err(|_| status)?;
                }
            }
        };
        let applied = self.raft.wait(Some(ELECTION_PATIENCE)).applied_index_at_least(Some(index), "read").await;
        applied.map(drop).map_err(|_| {
            Status::unavailable(format!("this manager has not yet received the changes up to log index {index}"))
        })
    }
}

/// Nothing that a manager says of a write: it did not lead, or nothing was heard of it.
fn is_of_transport(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
    )
}

/// A manager that was asked says the same by itself.
fn uncertain(lost: &Status) -> Status {
    if lost.message().ends_with(ADVICE) {
        return lost.clone();
    }
    Status::unavailable(format!(
        "the leader did not answer ({}) and no other took its place; what was asked may or may not have happened: \
         {ADVICE}",
        lost.message()
    ))
}

fn random_number() -> u64 {
    // the low half; 0 is nobody's
    (crate::random::u128() as u64).max(1)
}

pub(crate) fn is_leading(metrics: &Metrics) -> bool {
    metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id)
}

/// Read from the channel that waiting is done on: the other ones are filled a moment later.
fn leader_of(metrics: &ServerMetrics, me: RaftId, peers: &Peers) -> Option<Leader> {
    let id = metrics.current_leader?;
    if id == me && metrics.state != ServerState::Leader {
        return None;
    }
    let unknown = Member::default();
    let member = metrics.membership_config.membership().get_node(&id).unwrap_or(&unknown);
    let address = peers.address_of(id, member);
    if address.is_empty() {
        return None;
    }
    let term = metrics.vote.leader_id().get_term();
    Some(Leader { id, node: member.node_id(), address, term, here: id == me })
}
