//! Asking a manager: the one this host is.

use node::membership::{LOCKED, LocalState, Membership, Status};
use proto::v1::{WriteCall, cluster_client::ClusterClient};
use tonic::{Code, transport::Channel};
use types::{Cluster, NodeView, ReadReply, ReadRequest, ServiceView, Task, WriteReply, WriteRequest};

use crate::error::{ApiError, ApiResult, NOT_A_MANAGER, NOT_IN_A_CLUSTER};

/// A connection to this host's manager, or Docker's words for why there is none.
pub(crate) fn client(membership: &Membership) -> ApiResult<ClusterClient<Channel>> {
    let status = membership.status();
    if let Some(client) = status.cluster {
        let client: ClusterClient<Channel> = client;
        return Ok(client
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES));
    }
    Err(no_manager(&status))
}

fn no_manager(status: &Status) -> ApiError {
    ApiError::unavailable(match status.local_state {
        LocalState::Inactive => NOT_IN_A_CLUSTER.to_owned(),
        LocalState::Locked => LOCKED.to_owned(),
        LocalState::Error => format!("this host's part of the cluster does not work: {}", status.error),
        LocalState::Pending => "this host is still joining its cluster; try again in a moment".to_owned(),
        LocalState::Active => NOT_A_MANAGER.to_owned(),
    })
}

/// From the manager's own state, which may lag a little behind the leader's.
pub(crate) async fn read(membership: &Membership, request: &ReadRequest) -> ApiResult<ReadReply> {
    ask(membership, request, false).await
}

/// Not older than the last accepted write; while there is no leader to ask, the manager's own state.
pub(crate) async fn read_current(membership: &Membership, request: &ReadRequest) -> ApiResult<ReadReply> {
    match ask(membership, request, true).await {
        Err(error) if error.status == axum::http::StatusCode::SERVICE_UNAVAILABLE => {
            ask(membership, request, false).await
        }
        other => other,
    }
}

async fn ask(membership: &Membership, request: &ReadRequest, linearizable: bool) -> ApiResult<ReadReply> {
    let status = membership.status();
    match &status.reader {
        Some(reader) => reader.read(request.clone(), linearizable).await.map_err(explain),
        None => Err(no_manager(&status)),
    }
}

pub(crate) async fn write(membership: &Membership, request: &WriteRequest) -> ApiResult<WriteReply> {
    let call = WriteCall { write_request: proto::encode(request), ..WriteCall::default() };
    let answer = client(membership)?.write(call).await.map_err(explain)?;
    Ok(proto::decode(&answer.into_inner().write_reply)?)
}

/// A transport that broke says little by itself.
pub(crate) fn explain(status: tonic::Status) -> ApiError {
    let is_transport = std::error::Error::source(&status).is_some();
    match (status.code(), is_transport) {
        (Code::Unavailable | Code::Unknown | Code::Cancelled, true) => {
            ApiError::unavailable(format!("this host's manager does not answer: {}; try again", status.message()))
        }
        _ => status.into(),
    }
}

pub(crate) async fn cluster(membership: &Membership) -> ApiResult<Box<Cluster>> {
    match read_current(membership, &ReadRequest::Cluster).await? {
        ReadReply::Cluster(cluster) => Ok(cluster),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn node(membership: &Membership, name: &str) -> ApiResult<Box<NodeView>> {
    match read_current(membership, &ReadRequest::Node(name.to_owned())).await? {
        ReadReply::Node(node) => Ok(node),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn service(membership: &Membership, name: &str) -> ApiResult<Box<ServiceView>> {
    match read_current(membership, &ReadRequest::Service(name.to_owned())).await? {
        ReadReply::Service(service) => Ok(service),
        other => Err(unexpected(&other)),
    }
}

pub(crate) async fn task(membership: &Membership, name: &str) -> ApiResult<Box<Task>> {
    match read_current(membership, &ReadRequest::Task(name.to_owned())).await? {
        ReadReply::Task(task) => Ok(task),
        other => Err(unexpected(&other)),
    }
}

pub(crate) fn unexpected(reply: &impl std::fmt::Debug) -> ApiError {
    let kind: String = format!("{reply:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
    ApiError::internal(format!("this host's manager answered with {kind} to another question; are versions mixed?"))
}
