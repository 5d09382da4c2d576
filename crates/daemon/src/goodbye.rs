//! How a node that leaves tells its cluster.
//!
//! Called by the supervisor before anything of the node is undone: a cluster that says no keeps it.

use std::time::Duration;

use node::membership::{Error, ErrorKind};
use proto::v1::{WriteCall, cluster_client::ClusterClient};
use tonic::transport::Channel;
use types::{ManagerPeer, WriteRequest};

use crate::member::Member;

/// Leaving asks the cluster first. It must not hang when the cluster is gone and `--force` is given.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Tells the cluster that this node goes. With `force` a cluster that does not answer is left too.
pub async fn say_goodbye(member: &Member, force: bool) -> Result<(), Error> {
    let is_manager = member.manager.is_some();
    if is_manager && !force {
        let message = "You are attempting to leave the swarm on a node that is participating as a manager. Demote it first \
                       with `rswarm node demote`, or use --force: the other managers then need a majority without it, and \
                       leaving with the last manager erases the cluster's state.";
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    let request = WriteRequest::Leave { id: member.identity.node(), force };
    let call = WriteCall { write_request: proto::encode(&request), ..WriteCall::default() };
    let mut failed = "no manager's address is known".to_owned();
    for mut client in clients(member) {
        match tokio::time::timeout(LEAVE_TIMEOUT, client.write(call.clone())).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) => failed = status.message().to_owned(),
            Err(_) => failed = format!("no manager answered within {} s", LEAVE_TIMEOUT.as_secs()),
        }
    }
    if force {
        tracing::warn!(reason = failed, "leaves although the cluster could not be told");
        return Ok(());
    }
    let message =
        format!("the cluster could not be told that this node leaves: {failed}; to leave all the same use --force");
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// Whom a leaving node can tell: itself where it is a manager, else each manager it knows.
fn clients(member: &Member) -> Vec<ClusterClient<Channel>> {
    if let Some(manager) = &member.manager {
        return vec![manager.cluster_client()];
    }
    let client = |peer: &ManagerPeer| {
        let identity = member.identity.clone();
        let connect = move |address| identity.clone().connect(address);
        ClusterClient::new(proto::transport::channel(&peer.address, connect))
    };
    member.file.managers.iter().map(client).collect()
}
