//! Hands leadership to another manager, so that a planned stop costs half a second and not an election.
//!
//! The library has no transfer of its own: the leader falls silent until the followers' lease on it
//! has run out, then asks the one with the longest log to stand for election. Called when a manager
//! stops or is about to leave the group.

use std::time::Duration;

use openraft::ServerState;
use proto::v1::ElectCall;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Consensus,
    types::{ELECTION_MAX_MS, Metrics, RaftId},
};

/// The followers' lease, and a little for their clocks' ticks.
const SILENCE: Duration = Duration::from_millis(ELECTION_MAX_MS + 20);
/// For the chosen follower to win.
const TERM_PATIENCE: Duration = Duration::from_millis(400);
/// For the whole of it; a stopping manager does not wait longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// True when another manager leads afterwards (or did all along).
pub(crate) async fn hand_over(consensus: &Consensus) -> bool {
    if !consensus.is_leader() {
        return true;
    }
    if candidates(&consensus.metrics()).is_empty() {
        return false;
    }
    consensus.set_resigning(true);
    consensus.raft().runtime_config().heartbeat(false);
    let done = timeout(PATIENCE, elect_another(consensus)).await.is_ok();
    consensus.raft().runtime_config().heartbeat(true);
    consensus.set_resigning(false);
    if !done {
        tracing::warn!("leadership could not be handed over: no other manager answered in time");
    }
    done
}

async fn elect_another(consensus: &Consensus) {
    sleep(SILENCE).await;
    loop {
        for target in candidates(&consensus.metrics()) {
            ask(consensus, target).await;
            if wait_until_follower(consensus).await {
                return;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn ask(consensus: &Consensus, target: RaftId) {
    let metrics = consensus.metrics();
    let Some(member) = metrics.membership_config.membership().get_node(&target) else { return };
    let address = consensus.peers().address_of(target, member);
    let mut call = tonic::Request::new(ElectCall {});
    call.set_timeout(TERM_PATIENCE);
    if let Err(status) = consensus.client(&address).elect(call).await {
        tracing::debug!(%address, %status, "manager did not take leadership");
    }
}

async fn wait_until_follower(consensus: &Consensus) -> bool {
    let mut metrics = consensus.raft().server_metrics();
    let deadline = Instant::now() + TERM_PATIENCE;
    let me = consensus.raft_id();
    let other_leads = metrics.wait_for(|m| m.state != ServerState::Leader && m.current_leader.is_some_and(|l| l != me));
    tokio::time::timeout_at(deadline, other_leads).await.is_ok()
}

/// The other voters, the one with the longest log first.
fn candidates(metrics: &Metrics) -> Vec<RaftId> {
    let voters = metrics.membership_config.membership().voter_ids().filter(|id| *id != metrics.id);
    let matched = |id: &RaftId| {
        let replication = metrics.replication.as_ref()?;
        replication.get(id).copied().flatten().map(|log_id| log_id.index)
    };
    let mut candidates: Vec<_> = voters.collect();
    candidates.sort_by_key(|id| std::cmp::Reverse(matched(id)));
    candidates
}
