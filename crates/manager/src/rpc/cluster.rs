//! What front ends ask: reads from the local value, writes at the leader, log lines from the nodes.

use std::{pin::Pin, time::Duration};

use control::{Rejection, Tables, admission};
use futures::Stream;
use proto::v1::{
    LogsCall, LogsEvent, ReadAnswer, ReadCall, UsageAnswer, UsageCall, WriteAnswer, WriteCall,
    cluster_client::ClusterClient, cluster_server::Cluster,
};
use tonic::{Request, Response, Status};
use types::{NodeId, NodeRole, WriteReply, WriteRequest};

use super::{cluster_logs, peer, read, roots, status, usage::UsageReader};
use crate::{
    Clock,
    dispatch::logs::LogBroker,
    raft::{Consensus, Leader, ProposeError, handover, membership::Membership, receipts::Receipt},
};

/// For a forwarded write, the leader's own patience included.
const FORWARD_PATIENCE: Duration = Duration::from_secs(25);
/// Tries of a write whose proposal was refused because something else changed at the same moment.
const TRIES: usize = 4;

pub(crate) struct ClusterService {
    pub(crate) consensus: Consensus,
    pub(crate) membership: Membership,
    pub(crate) logs: LogBroker,
    pub(crate) usage: UsageReader,
    pub(crate) clock: Clock,
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn read(&self, request: Request<ReadCall>) -> Result<Response<ReadAnswer>, Status> {
        peer::manager(&request, &self.consensus.tables())?;
        let call = request.into_inner();
        let wanted = proto::decode(&call.read_request)?;
        let reply = read::read(&self.consensus, (self.clock)(), &wanted, call.linearizable).await?;
        Ok(Response::new(ReadAnswer { read_reply: proto::encode(&reply) }))
    }

    async fn write(&self, request: Request<WriteCall>) -> Result<Response<WriteAnswer>, Status> {
        let wanted: WriteRequest = proto::decode(&request.get_ref().write_request)?;
        self.check_writer(&request, &wanted)?;
        let call = request.into_inner();
        self.free_leader(&wanted).await;
        let reply = if call.forwarded {
            self.check_term(call.term)?;
            self.write_here(&wanted, call.receipt).await?
        } else if changes_group(&wanted) {
            let leader = self.consensus.wait_for_leader().await?;
            self.write_at(leader, 0, &wanted, &call).await?
        } else {
            self.consensus.write_once(|leader, receipt| self.write_at(leader, receipt, &wanted, &call)).await?
        };
        Ok(Response::new(WriteAnswer { write_reply: proto::encode(&reply) }))
    }

    type LogsStream = Pin<Box<dyn Stream<Item = Result<LogsEvent, Status>> + Send>>;

    async fn logs(&self, request: Request<LogsCall>) -> Result<Response<Self::LogsStream>, Status> {
        peer::manager(&request, &self.consensus.tables())?;
        let events = cluster_logs::collect(&self.consensus, &self.logs, request.into_inner()).await?;
        Ok(Response::new(Box::pin(events)))
    }

    async fn usage(&self, request: Request<UsageCall>) -> Result<Response<UsageAnswer>, Status> {
        peer::manager(&request, &self.consensus.tables())?;
        Ok(Response::new(UsageAnswer { cluster_usage: proto::encode(&self.usage.read().await) }))
    }
}

/// Whether the Raft group may have to change before the value: then a write is more than its proposal.
fn changes_group(wanted: &WriteRequest) -> bool {
    matches!(wanted, WriteRequest::Leave { .. } | WriteRequest::RemoveNode { .. })
}

impl ClusterService {
    fn check_writer(&self, request: &Request<WriteCall>, wanted: &WriteRequest) -> Result<(), Status> {
        let tables = self.consensus.tables();
        let subject = peer::node(request, &tables)?;
        match wanted {
            WriteRequest::Leave { id, .. } if *id == subject.node => Ok(()),
            WriteRequest::Attach(wanted) if wanted.node == subject.node => Ok(()),
            WriteRequest::Detach { node, .. } if *node == subject.node => Ok(()),
            _ => peer::manager(request, &tables).map(drop),
        }
    }

    /// On the hop: only in the term that the sender meant, for it asks again in the next.
    fn check_term(&self, term: u64) -> Result<(), Status> {
        let leads = self.consensus.leader().is_some_and(|leader| leader.here && leader.term == term);
        leads.then_some(()).ok_or_else(|| Status::unavailable("the leader changed while the write was on its way"))
    }

    async fn write_at(
        &self,
        leader: Leader,
        receipt: u64,
        wanted: &WriteRequest,
        call: &WriteCall,
    ) -> Result<WriteReply, Status> {
        if leader.here {
            return self.write_here(wanted, receipt).await;
        }
        let write_request = call.write_request.clone();
        let mut onward = Request::new(WriteCall { write_request, forwarded: true, receipt, term: leader.term });
        onward.set_timeout(FORWARD_PATIENCE);
        let answer = ClusterClient::new(self.consensus.peers().channel(&leader.address))
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES)
            .write(onward)
            .await?;
        Ok(proto::decode(&answer.into_inner().write_reply)?)
    }

    /// A leader that is to leave lets another one lead first, which then removes it.
    async fn free_leader(&self, wanted: &WriteRequest) {
        let leaving = match wanted {
            WriteRequest::Leave { id, .. } | WriteRequest::RemoveNode { id, force: true } => *id,
            _ => return,
        };
        if leaving == self.consensus.node() && self.consensus.is_leader() {
            handover::hand_over(&self.consensus).await;
        }
    }

    async fn write_here(&self, wanted: &WriteRequest, receipt: u64) -> Result<WriteReply, Status> {
        self.change_group_first(wanted).await?;
        let mut tries = 0;
        loop {
            let tables = self.consensus.tables();
            let now = (self.clock)();
            let wanted = roots::prepare(&tables, wanted, now)?;
            let admitted = admission::admit(&tables, &wanted, now, &mut crate::random::u128);
            let (proposal, reply) = admitted.map_err(|rejection| status::of_rejection(&rejection))?;
            tries += 1;
            let receipt = Receipt { number: receipt, reply: reply.clone() };
            match self.consensus.propose_with(proposal, Some(receipt)).await {
                Ok(_) => return Ok(reply),
                // if the request itself names an old version, asking once more says so
                Err(ProposeError::Rejected(Rejection::OutOfSequence { .. })) if tries < TRIES => {}
                Err(error) => return Err(status::of_propose(error)),
            }
        }
    }

    /// A manager that leaves or is removed is out of the Raft group before the value forgets it.
    async fn change_group_first(&self, wanted: &WriteRequest) -> Result<(), Status> {
        let tables = self.consensus.tables();
        let in_group = |id: NodeId| tables.node(id).is_some_and(|node| node.raft.is_some());
        let result = match wanted {
            WriteRequest::Leave { id, force } if in_group(*id) && !self.is_last(*id) => {
                self.membership.expel(*id, *force).await
            }
            WriteRequest::RemoveNode { id, force: true } if in_group(*id) => self.membership.expel(*id, false).await,
            WriteRequest::UpdateNode { id, spec, .. } if in_group(*id) && spec.role == NodeRole::Worker => {
                self.membership.check_leaving(*id)
            }
            _ => Ok(()),
        };
        result.map_err(status::of_membership)
    }

    /// The only member of the group does not leave it: with it the cluster ends.
    fn is_last(&self, id: NodeId) -> bool {
        let metrics = self.consensus.metrics();
        let mut members = metrics.membership_config.nodes();
        id == self.consensus.node() && members.next().is_some() && members.next().is_none()
    }
}

/// What is needed of the value to find log lines.
pub(super) fn tasks_by_node(tables: &Tables, call: &LogsCall) -> Result<Vec<(NodeId, Vec<String>)>, Status> {
    let bad = |e: types::IdError| Status::invalid_argument(e.to_string());
    let mut nodes = std::collections::BTreeMap::<NodeId, Vec<String>>::new();
    let mut add = |task: &types::Task| {
        if let Some(node) = task.node {
            nodes.entry(node).or_default().push(task.id.to_string());
        }
    };
    if call.task.is_empty() {
        let id = call.service.parse().map_err(bad)?;
        tables.service(id).ok_or_else(|| Status::not_found(format!("service {id} not found")))?;
        // one that never had a container has said nothing, which is no warning
        let has_log = |task: &&types::Task| task.status.container.as_ref().is_some_and(|c| !c.id.is_empty());
        tables.tasks_of_service(id).map(|task| &**task).filter(has_log).for_each(&mut add);
    } else {
        let id = call.task.parse().map_err(bad)?;
        add(tables.task(id).ok_or_else(|| Status::not_found(format!("task {id} not found")))?);
    }
    Ok(nodes.into_iter().collect())
}
