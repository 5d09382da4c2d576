//! Carries the consensus library's messages to the other managers.
//!
//! Called by the library only. Decides nothing: failures are reported as the library names them.

use std::{future::Future, io::Cursor, time::Duration};

use openraft::{
    AnyError, RaftNetwork, RaftNetworkFactory,
    error::{Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, SnapshotResponse,
        VoteRequest, VoteResponse,
    },
};
use proto::v1::{RaftFrame, SnapshotChunk, raft_client::RaftClient};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Code, Status, transport::Channel};

use super::{
    Peers,
    types::{Member, RaftId, SNAPSHOT_TIMEOUT_MS, Snapshot, TypeConfig, Vote},
};

/// Bytes of a snapshot per message.
const SNAPSHOT_CHUNK_BYTES: usize = 256 << 10;
/// Between two tries to reach a member that does not answer: short, so that a restarted manager is
/// back in the group before anybody notices.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

pub(crate) struct Network {
    peers: Peers,
}

/// The way to one member.
pub(crate) struct Link {
    peers: Peers,
    target: RaftId,
    member: Member,
    /// Forgotten after a failure, so that a new address is looked up.
    client: Option<RaftClient<Channel>>,
}

impl Network {
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: RaftId, member: &Member) -> Link {
        Link { peers: self.peers.clone(), target, member: member.clone(), client: None }
    }
}

impl Link {
    fn client(&mut self) -> RaftClient<Channel> {
        let open = || {
            let address = self.peers.address_of(self.target, &self.member);
            RaftClient::new(self.peers.channel(&address))
                .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
                .max_encoding_message_size(proto::MAX_MESSAGE_BYTES)
        };
        self.client.get_or_insert_with(open).clone()
    }

    #[expect(clippy::result_large_err, reason = "the library's own error type")]
    /// The answer in a frame, or why there is none.
    fn answer<R, E>(&mut self, result: Result<RaftFrame, Status>) -> Result<R, RPCError<RaftId, Member, E>>
    where
        R: DeserializeOwned,
        E: DeserializeOwned + std::error::Error,
    {
        let frame = result.map_err(|status| {
            self.client = None;
            rpc_error(&status)
        })?;
        self.peers.note_answer(self.target);
        let answer: Result<R, E> =
            proto::decode(&frame.payload).map_err(|e| RPCError::Network(NetworkError::new(&e)))?;
        answer.map_err(|e| RPCError::RemoteError(RemoteError::new(self.target, e)))
    }
}

/// Names the member that a call is for. A manager that went on alone is another member than before, and what others still
/// say to the one before must not reach it.
pub(crate) const TARGET: &str = "raft-target";

fn request<T: Serialize>(message: &T, target: RaftId, deadline: Duration) -> tonic::Request<RaftFrame> {
    let mut request = tonic::Request::new(RaftFrame { payload: proto::encode(message) });
    request.set_timeout(deadline);
    request.metadata_mut().insert(TARGET, target.into());
    request
}

fn rpc_error<E: std::error::Error>(status: &Status) -> RPCError<RaftId, Member, E> {
    match status.code() {
        Code::Unavailable | Code::PermissionDenied | Code::Unauthenticated => {
            RPCError::Unreachable(Unreachable::new(status))
        }
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<RaftId>, RPCError<RaftId, Member, RaftError<RaftId>>> {
        let result = self.client().append(request(&rpc, self.target, option.hard_ttl())).await;
        self.answer(result.map(tonic::Response::into_inner))
    }

    /// Never called: [`Self::full_snapshot`] replaces sending by pieces.
    async fn install_snapshot(
        &mut self,
        _rpc: InstallSnapshotRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<
        InstallSnapshotResponse<RaftId>,
        RPCError<RaftId, Member, RaftError<RaftId, openraft::error::InstallSnapshotError>>,
    > {
        let unused = AnyError::error("snapshots are sent whole, not by pieces");
        Err(RPCError::Unreachable(Unreachable::new(&unused)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<RaftId>,
        option: RPCOption,
    ) -> Result<VoteResponse<RaftId>, RPCError<RaftId, Member, RaftError<RaftId>>> {
        let result = self.client().vote(request(&rpc, self.target, option.hard_ttl())).await;
        self.answer(result.map(tonic::Response::into_inner))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<RaftId>, StreamingError<TypeConfig, Fatal<RaftId>>> {
        let header = proto::encode(&(vote, &snapshot.meta));
        let mut call = tonic::Request::new(tokio_stream::iter(chunks(header, *snapshot.snapshot)));
        call.set_timeout(Duration::from_millis(SNAPSHOT_TIMEOUT_MS));
        call.metadata_mut().insert(TARGET, self.target.into());
        let mut client = self.client();
        let frame = tokio::select! {
            answer = client.snapshot(call) => answer.map(tonic::Response::into_inner),
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let frame = frame.map_err(|status| {
            self.client = None;
            StreamingError::Unreachable(Unreachable::new(&status))
        })?;
        let answer: Result<SnapshotResponse<RaftId>, Fatal<RaftId>> =
            proto::decode(&frame.payload).map_err(|e| StreamingError::Network(NetworkError::new(&e)))?;
        answer.map_err(|e| StreamingError::RemoteError(RemoteError::new(self.target, e)))
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY_PAUSE))
    }
}

fn chunks(header: Vec<u8>, data: Cursor<Vec<u8>>) -> impl Iterator<Item = SnapshotChunk> + Send + 'static {
    let data = data.into_inner();
    let pieces = data.len().div_ceil(SNAPSHOT_CHUNK_BYTES);
    let first = SnapshotChunk { header, data: Vec::new() };
    let rest = (0..pieces).map(move |piece| {
        let from = piece * SNAPSHOT_CHUNK_BYTES;
        let to = data.len().min(from + SNAPSHOT_CHUNK_BYTES);
        SnapshotChunk { header: Vec::new(), data: data[from..to].to_vec() }
    });
    std::iter::once(first).chain(rest)
}
