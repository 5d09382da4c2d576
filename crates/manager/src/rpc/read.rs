//! Reads of the value as this manager has it: for other hosts over gRPC, for this host's API without a message, because lists of tens
//! of thousands of tasks are asked for.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use control::view;
use identity::Subject;
use tonic::Status;
use types::{NodeState, NodeView, ReadReply, ReadRequest, Timestamp};

use super::{backup, peer, status};
use crate::{Clock, raft::Consensus};

/// A manager that answered the leader within this time is reachable.
const REACHABLE_WITHIN: Duration = Duration::from_secs(2);

/// Answers reads of its own host as long as the manager is there; it keeps nothing of it open.
#[derive(Clone)]
pub struct Reader {
    consensus: Weak<Consensus>,
    subject: Subject,
    clock: Clock,
}

impl Reader {
    pub(crate) fn new(consensus: &Arc<Consensus>, subject: Subject, clock: Clock) -> Self {
        Self { consensus: Arc::downgrade(consensus), subject, clock }
    }

    /// With `linearizable`, not older than the last accepted write.
    ///
    /// # Errors
    /// As the gRPC method has them; `UNAVAILABLE` also when the manager has stopped.
    pub async fn read(&self, wanted: &ReadRequest, linearizable: bool) -> Result<ReadReply, Status> {
        let stopped = || Status::unavailable("the manager of this host has stopped");
        let consensus = self.consensus.upgrade().ok_or_else(stopped)?;
        peer::still_manager(&self.subject, &consensus.tables())?;
        read(&consensus, (self.clock)(), wanted, linearizable).await
    }
}

pub(super) async fn read(
    consensus: &Consensus,
    now: Timestamp,
    wanted: &ReadRequest,
    linearizable: bool,
) -> Result<ReadReply, Status> {
    if linearizable {
        consensus.ensure_current().await?;
    }
    if *wanted == ReadRequest::Backup {
        return backup::take(consensus, now).await;
    }
    let reply = view::read(&consensus.tables(), wanted);
    let mut reply = reply.map_err(|rejection| status::of_rejection(&rejection))?;
    complete(consensus, &mut reply);
    Ok(reply)
}

/// Fills in what is not part of the value.
fn complete(consensus: &Consensus, reply: &mut ReadReply) {
    match reply {
        ReadReply::Nodes(views) => complete_views(consensus, views),
        ReadReply::Node(view) => complete_views(consensus, std::slice::from_mut(view)),
        _ => {}
    }
}

fn complete_views(consensus: &Consensus, views: &mut [NodeView]) {
    let leader = consensus.metrics().current_leader;
    let heard = consensus.is_leader().then(|| consensus.peers().heard_within(REACHABLE_WITHIN));
    for view in views {
        let Some(raft) = &view.node.raft else { continue };
        let id = raft.raft_id;
        view.leader = leader == Some(id);
        let answers = match &heard {
            Some(heard) => heard.contains(&id),
            // a follower hears only the leader; of the others it knows what the value says
            None => view.node.status.state == NodeState::Ready,
        };
        // What the nodes' witnesses have seen end was last heard just now, too.
        let is_down = view.node.status.state == NodeState::Down;
        view.reachable = id == consensus.raft_id() || (!is_down && (view.leader || answers));
    }
}
