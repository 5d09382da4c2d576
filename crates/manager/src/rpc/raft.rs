//! What managers ask of each other.

use std::{io::Cursor, pin::Pin, time::Duration};

use control::Proposal;
use futures::Stream;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use proto::v1::{
    ElectAnswer, ElectCall, HeldUsageAnswer, HeldUsageCall, NodeLogsCall, NodeLogsEvent, ProposeAnswer, RaftFrame,
    RaftJoinAnswer, RaftJoinCall, ReadIndexAnswer, ReadIndexCall, RelayAnswer, SnapshotChunk, raft_server::Raft,
};
use tonic::{Request, Response, Status, Streaming};

use super::{peer, status};
use crate::{
    dispatch::{logs::LogBroker, usage::UsageBroker},
    leader::intake::Intake,
    raft::{
        Consensus,
        membership::Membership,
        network::TARGET,
        peers,
        types::{RaftId, SNAPSHOT_TIMEOUT_MS, Snapshot, SnapshotMeta, TypeConfig, Vote},
    },
};

/// Largest snapshot taken: what a manager may hold in memory while it receives one.
const MAX_SNAPSHOT_BYTES: usize = 2 << 30;

pub(crate) struct RaftService {
    pub(crate) consensus: Consensus,
    pub(crate) membership: Membership,
    pub(crate) intake: Intake,
    pub(crate) logs: LogBroker,
    pub(crate) usage: UsageBroker,
}

fn frame<T: serde::Serialize>(answer: &T) -> Response<RaftFrame> {
    Response::new(RaftFrame { payload: proto::encode(answer) })
}

impl RaftService {
    fn not_leader(&self) -> Status {
        Status::unavailable(format!("manager {} does not lead any more; try again", self.consensus.node()))
    }

    /// Earlier versions name no target.
    fn check_target<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let me = self.consensus.raft_id();
        let target = request.metadata().get(TARGET).and_then(|value| value.to_str().ok()?.parse::<RaftId>().ok());
        match target.filter(|target| *target != me) {
            Some(_) => Err(Status::permission_denied(format!(
                "manager {} is another member of the managers' group than the one this is for: it went on without the others",
                self.consensus.node()
            ))),
            None => Ok(()),
        }
    }

    fn check_leader(&self) -> Result<(), Status> {
        if self.consensus.is_leader() && !self.consensus.is_resigning() { Ok(()) } else { Err(self.not_leader()) }
    }
}

async fn receive_snapshot(mut chunks: Streaming<SnapshotChunk>) -> Result<(Vote, Snapshot), Status> {
    let empty = || Status::invalid_argument("a snapshot begins with its header");
    let first = chunks.message().await?.ok_or_else(empty)?;
    let (vote, meta): (Vote, SnapshotMeta) = proto::decode(&first.header)?;
    let mut data = first.data;
    while let Some(mut chunk) = chunks.message().await? {
        if data.len() + chunk.data.len() > MAX_SNAPSHOT_BYTES {
            return Err(Status::resource_exhausted(format!("the snapshot is larger than {MAX_SNAPSHOT_BYTES} bytes")));
        }
        data.append(&mut chunk.data);
    }
    Ok((vote, Snapshot { meta, snapshot: Box::new(Cursor::new(data)) }))
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn append(&self, request: Request<RaftFrame>) -> Result<Response<RaftFrame>, Status> {
        peer::certified_manager(&request)?;
        self.check_target(&request)?;
        let rpc: AppendEntriesRequest<TypeConfig> = proto::decode(&request.into_inner().payload)?;
        Ok(frame(&self.consensus.raft().append_entries(rpc).await))
    }

    async fn vote(&self, request: Request<RaftFrame>) -> Result<Response<RaftFrame>, Status> {
        peer::certified_manager(&request)?;
        self.check_target(&request)?;
        let rpc: VoteRequest<RaftId> = proto::decode(&request.into_inner().payload)?;
        Ok(frame(&self.consensus.raft().vote(rpc).await))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<RaftFrame>, Status> {
        peer::certified_manager(&request)?;
        self.check_target(&request)?;
        let receiving = receive_snapshot(request.into_inner());
        let (vote, snapshot) = tokio::time::timeout(Duration::from_millis(SNAPSHOT_TIMEOUT_MS), receiving)
            .await
            .map_err(|_| Status::deadline_exceeded("the snapshot did not arrive in time"))??;
        Ok(frame(&self.consensus.raft().install_full_snapshot(vote, snapshot).await))
    }

    async fn join(&self, request: Request<RaftJoinCall>) -> Result<Response<RaftJoinAnswer>, Status> {
        // the value may not say yet that the node is a manager: its certificate does
        let tables = self.consensus.tables();
        let origin = peer::caller(&request);
        let subject = peer::certified_manager(&request)?;
        let call = request.get_ref();
        let (node, address) = if call.forwarded {
            peer::manager(&request, &tables)?;
            let node = call.node.parse().map_err(|e: types::IdError| Status::invalid_argument(e.to_string()))?;
            (node, call.address.clone())
        } else {
            (subject.node, with_host(&call.address, origin.ip())?)
        };
        let leader = self.consensus.wait_for_leader().await?;
        if !leader.here {
            if call.forwarded {
                return Err(self.not_leader());
            }
            let node = node.to_string();
            let onward = RaftJoinCall { address, forwarded: true, raft_id: call.raft_id, node };
            return self.consensus.client(&leader.address).join(onward).await;
        }
        let admitted = self.membership.admit(node, call.raft_id, &address).await;
        let raft_id = admitted.map_err(status::of_membership)?;
        let managers = peers::managers(&self.consensus.tables());
        Ok(Response::new(RaftJoinAnswer { raft_id, managers: proto::encode(&managers) }))
    }

    async fn elect(&self, request: Request<ElectCall>) -> Result<Response<ElectAnswer>, Status> {
        peer::certified_manager(&request)?;
        let asked = self.consensus.raft().trigger().elect().await;
        asked.map_err(|e| Status::unavailable(e.to_string()))?;
        Ok(Response::new(ElectAnswer {}))
    }

    async fn relay(&self, request: Request<RaftFrame>) -> Result<Response<RelayAnswer>, Status> {
        peer::manager(&request, &self.consensus.tables())?;
        self.check_leader()?;
        let batch = proto::decode(&request.into_inner().payload)?;
        self.intake.take(batch).await.map_err(status::of_propose)?;
        Ok(Response::new(RelayAnswer {}))
    }

    async fn propose(&self, request: Request<RaftFrame>) -> Result<Response<ProposeAnswer>, Status> {
        peer::manager(&request, &self.consensus.tables())?;
        self.check_leader()?;
        let proposal: Proposal = proto::decode(&request.into_inner().payload)?;
        let index = self.consensus.propose_here(proposal).await.map_err(status::of_propose)?;
        Ok(Response::new(ProposeAnswer { index }))
    }

    async fn read_index(&self, request: Request<ReadIndexCall>) -> Result<Response<ReadIndexAnswer>, Status> {
        peer::manager(&request, &self.consensus.tables())?;
        let index = self.consensus.read_index_here().await?;
        Ok(Response::new(ReadIndexAnswer { index }))
    }

    type NodeLogsStream = Pin<Box<dyn Stream<Item = Result<NodeLogsEvent, Status>> + Send>>;

    async fn node_logs(&self, request: Request<NodeLogsCall>) -> Result<Response<Self::NodeLogsStream>, Status> {
        peer::manager(&request, &self.consensus.tables())?;
        let events = self.logs.node_logs(request.into_inner())?;
        Ok(Response::new(Box::pin(futures::StreamExt::map(events, Ok))))
    }

    async fn held_usage(&self, request: Request<HeldUsageCall>) -> Result<Response<HeldUsageAnswer>, Status> {
        peer::manager(&request, &self.consensus.tables())?;
        Ok(Response::new(HeldUsageAnswer { held_usage: proto::encode(&self.usage.held().await) }))
    }
}

/// `host:port`, with the host the call came from if none was given.
fn with_host(address: &str, origin: Option<std::net::IpAddr>) -> Result<String, Status> {
    let bad = || Status::invalid_argument(format!("{address:?} is not host:port, where other managers reach this one"));
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    match (host, origin) {
        ("", Some(ip)) => Ok(std::net::SocketAddr::new(ip, port).to_string()),
        ("", None) => Err(bad()),
        _ => Ok(address.to_owned()),
    }
}
