//! Keeps the Raft group and the roles in the value in step (parity C-21).
//!
//! The value says what is wanted; one loop on the leader compares and takes one step at a time,
//! however the difference came about. Joins and forced removals use the same steps, one at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use control::{Tables, admission};
use openraft::ChangeMembers;
use tokio::sync::Mutex;
use types::{NodeId, NodeRole, RaftMember};

use super::{
    Consensus, ProposeError, handover,
    types::{Member, Metrics, RaftId},
};
use crate::{Clock, Error};

/// More managers make each write slower and no cluster safer (parity: the documented bound).
pub(crate) const MAX_MANAGERS: usize = 7;
/// A step that failed is tried again after this time.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// For a change of the group to be confirmed by majorities of the old and the new one.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// A member heard of within this time counts as reachable when a removal could cost the majority.
pub(crate) const REACHABLE_WITHIN: Duration = Duration::from_secs(2);

/// Changes the group, one change at a time.
#[derive(Clone)]
pub(crate) struct Membership {
    consensus: Consensus,
    clock: Clock,
    one_at_a_time: Arc<Mutex<()>>,
}

/// Why a change of the group was not made, for the user.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum MembershipError {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unavailable(String),
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// What to do next so that group and value agree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// A worker that shall be a manager is told so.
    Promote(NodeId),
    /// A member that shall be none leaves the group.
    Remove { id: RaftId, node: Option<NodeId> },
    /// The leader itself shall leave: another one must lead to remove it.
    Resign,
    /// Out of the group: it may hold a worker's certificate now.
    Demote(NodeId),
    /// The value says a node is in the group, and it is not (or the other way round).
    Record { node: NodeId, raft: Option<RaftMember> },
}

impl Membership {
    pub(crate) fn new(consensus: Consensus, clock: Clock) -> Self {
        Self { consensus, clock, one_at_a_time: Arc::default() }
    }

    /// Runs as long as the manager; acts only while it leads.
    pub(crate) async fn run(self) -> Result<(), Error> {
        let mut tables = self.consensus.watch_tables();
        let mut metrics = self.consensus.raft().server_metrics();
        loop {
            tables.borrow_and_update();
            metrics.borrow_and_update();
            let acted = self.consensus.is_leader() && self.reconcile().await;
            if acted {
                continue;
            }
            let changed = async {
                tokio::select! {
                    changed = tables.changed() => changed,
                    changed = metrics.changed() => changed,
                }
            };
            match tokio::time::timeout(RETRY_PAUSE * 5, changed).await {
                Ok(Err(_)) => return Ok(()),
                // many small changes are looked at together
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// One step; true if it was made and there may be more.
    async fn reconcile(&self) -> bool {
        let _turn = self.one_at_a_time.lock().await;
        let Some(step) = next_step(&self.consensus.tables(), &self.consensus.metrics()) else { return false };
        match self.perform(&step).await {
            Ok(()) => {
                tracing::info!(?step, "changed the managers' group");
                true
            }
            Err(error) => {
                tracing::warn!(?step, %error, "the managers' group could not be changed; trying again");
                tokio::time::sleep(RETRY_PAUSE).await;
                false
            }
        }
    }

    async fn perform(&self, step: &Step) -> Result<(), MembershipError> {
        match step {
            Step::Promote(node) => self.set_role(*node, NodeRole::Manager).await,
            Step::Demote(node) => self.set_role(*node, NodeRole::Worker).await,
            Step::Remove { id, node } => self.remove_member(*id, *node, false).await,
            Step::Record { node, raft } => self.record(*node, raft.clone()).await,
            Step::Resign if handover::hand_over(&self.consensus).await => Ok(()),
            Step::Resign => Err(MembershipError::Unavailable(
                "this manager shall leave the group, but no other one could take the lead".to_owned(),
            )),
        }
    }

    async fn set_role(&self, node: NodeId, role: NodeRole) -> Result<(), MembershipError> {
        let proposal = admission::set_role(&self.consensus.tables(), node, role, (self.clock)());
        self.consensus.propose_here(proposal.map_err(ProposeError::Rejected)?).await?;
        Ok(())
    }

    async fn record(&self, node: NodeId, raft: Option<RaftMember>) -> Result<(), MembershipError> {
        let proposal = admission::set_raft_member(&self.consensus.tables(), node, raft, (self.clock)());
        self.consensus.propose_here(proposal.map_err(ProposeError::Rejected)?).await?;
        Ok(())
    }

    /// Takes a manager out of the group before it leaves or is removed. Nothing to do for others.
    ///
    /// # Errors
    /// When the rest would have no majority, unless `force`; when the group cannot be changed now.
    pub(crate) async fn expel(&self, node: NodeId, force: bool) -> Result<(), MembershipError> {
        let _turn = self.one_at_a_time.lock().await;
        let metrics = self.consensus.metrics();
        let found = metrics.membership_config.nodes().find(|(_, member)| member.node_id() == Some(node));
        let Some((id, _)) = found else {
            let recorded = self.consensus.tables().node(node).is_some_and(|n| n.raft.is_some());
            return if recorded { self.record(node, None).await } else { Ok(()) };
        };
        self.remove_member(*id, Some(node), force).await
    }

    /// Whether a manager may leave the group without costing the rest its majority.
    ///
    /// # Errors
    /// In words, if not.
    pub(crate) fn check_leaving(&self, node: NodeId) -> Result<(), MembershipError> {
        let metrics = self.consensus.metrics();
        let found = metrics.membership_config.nodes().find(|(_, member)| member.node_id() == Some(node));
        found.map_or(Ok(()), |(id, _)| self.check_majority_without(&metrics, *id))
    }

    fn check_majority_without(&self, metrics: &Metrics, leaving: RaftId) -> Result<(), MembershipError> {
        let voters: BTreeSet<_> = metrics.membership_config.membership().voter_ids().collect();
        if !voters.contains(&leaving) {
            return Ok(());
        }
        let mut reachable = self.consensus.peers().heard_within(REACHABLE_WITHIN);
        reachable.insert(metrics.id);
        check_majority(&voters, &reachable, leaving)
    }

    async fn remove_member(&self, id: RaftId, node: Option<NodeId>, force: bool) -> Result<(), MembershipError> {
        let metrics = self.consensus.metrics();
        if !force {
            self.check_majority_without(&metrics, id)?;
        }
        let is_voter = metrics.membership_config.membership().voter_ids().any(|voter| voter == id);
        let change = if is_voter {
            ChangeMembers::RemoveVoters(BTreeSet::from([id]))
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([id]))
        };
        self.change(change).await?;
        match node {
            Some(node) if self.consensus.tables().node(node).is_some() => self.record(node, None).await,
            _ => Ok(()),
        }
    }

    async fn change(&self, change: ChangeMembers<RaftId, Member>) -> Result<(), MembershipError> {
        let unavailable =
            |why: String| MembershipError::Unavailable(format!("the managers' group cannot change now: {why}"));
        let changing = self.consensus.raft().change_membership(change, false);
        let changed = tokio::time::timeout(CHANGE_PATIENCE, changing).await;
        changed
            .map_err(|_| unavailable("no majority confirmed it in time".to_owned()))?
            .map_err(|e| unavailable(e.to_string()))?;
        Ok(())
    }

    /// Lets a node into the group: first as a learner until it has the log, then as a voter. A
    /// member that is in it already only has its address renewed.
    ///
    /// # Errors
    /// When the node is not to be a manager, when there are too many, when it cannot be reached.
    pub(crate) async fn admit(&self, node: NodeId, held: RaftId, address: &str) -> Result<RaftId, MembershipError> {
        let _turn = self.one_at_a_time.lock().await;
        let tables = self.consensus.tables();
        let wanted = tables.node(node).is_some_and(|n| n.spec.role == NodeRole::Manager);
        if !wanted {
            return Err(MembershipError::Refused(format!(
                "node {node} shall not be a manager: promote it first with `rswarm node promote {node}`"
            )));
        }
        let metrics = self.consensus.metrics();
        let membership = metrics.membership_config.membership();
        let before = metrics.membership_config.nodes().find(|(_, m)| m.node_id() == Some(node)).map(|(id, _)| *id);
        if let Some(id) = before.filter(|id| *id != held) {
            // its disk is new: what the old one had promised does not bind it
            self.remove_member(id, None, false).await?;
        }
        let others = membership.voter_ids().filter(|id| Some(*id) != before).count();
        if others >= MAX_MANAGERS {
            return Err(MembershipError::Refused(format!(
                "there are {others} managers already, and that is the most: \
                 more would make writes slower and the cluster no safer"
            )));
        }
        let id = if before == Some(held) { held } else { self.fresh_id(&metrics)? };
        let member = Member::new(node, address);
        if before == Some(id) {
            let renamed = membership.get_node(&id) != Some(&member);
            if renamed {
                self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, member)]))).await?;
            }
        } else {
            self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, member)]))).await?;
        }
        self.record(node, Some(RaftMember { raft_id: id, address: address.to_owned() })).await?;
        Ok(id)
    }

    /// Makes a learner a voter once it has caught up.
    ///
    /// # Errors
    /// When it does not catch up in time; it stays a learner and is tried again by the loop.
    async fn promote_learner(&self, id: RaftId) -> Result<(), MembershipError> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    fn fresh_id(&self, metrics: &Metrics) -> Result<RaftId, MembershipError> {
        let tables = self.consensus.tables();
        let taken = |id: RaftId| {
            let in_value = tables.nodes().any(|n| n.raft.as_ref().is_some_and(|r| r.raft_id == id));
            id == 0 || in_value || metrics.membership_config.nodes().any(|(other, _)| *other == id)
        };
        std::iter::repeat_with(|| crate::random::u128() as u64)
            .take(8)
            .find(|id| !taken(*id))
            .ok_or_else(|| MembershipError::Unavailable("no free Raft id was found; try again".to_owned()))
    }

    /// Follows learners and makes them voters when they are near the end of the log.
    pub(crate) async fn run_learners(self) -> Result<(), Error> {
        let mut metrics = self.consensus.raft().metrics();
        loop {
            if metrics.changed().await.is_err() {
                return Ok(());
            }
            let Some(id) = caught_up_learner(&metrics.borrow_and_update()) else { continue };
            let _turn = self.one_at_a_time.lock().await;
            match self.promote_learner(id).await {
                Ok(()) => {
                    let voters = self.consensus.metrics().membership_config.membership().voter_ids().count();
                    if voters.is_multiple_of(2) {
                        tracing::info!(voters, "an even number of managers survives no more losses than one less");
                    }
                }
                Err(error) => tracing::warn!(raft_id = id, %error, "learner could not become a voter; trying again"),
            }
        }
    }
}

/// A learner less than this many entries behind takes part in votes without slowing them.
const NEAR_ENTRIES: u64 = 64;

fn caught_up_learner(metrics: &Metrics) -> Option<RaftId> {
    if !super::consensus::is_leading(metrics) {
        return None;
    }
    let last = metrics.last_log_index.unwrap_or(0);
    let replication = metrics.replication.as_ref()?;
    let near = |id: &RaftId| {
        let matched = replication.get(id).copied().flatten();
        matched.is_some_and(|log_id| log_id.index + NEAR_ENTRIES >= last)
    };
    metrics.membership_config.membership().learner_ids().find(near)
}

/// Refuses a removal after which those that answer are no majority.
fn check_majority(
    voters: &BTreeSet<RaftId>,
    reachable: &BTreeSet<RaftId>,
    leaving: RaftId,
) -> Result<(), MembershipError> {
    let rest = voters.iter().filter(|id| **id != leaving).count();
    let answering = voters.iter().filter(|id| **id != leaving && reachable.contains(id)).count();
    let majority = rest / 2 + 1;
    if rest == 0 {
        return Err(MembershipError::Refused(
            "this is the last manager: without it the cluster's state is gone; promote another node first".to_owned(),
        ));
    }
    if answering < majority {
        return Err(MembershipError::Refused(format!(
            "without this manager {rest} would be left, of which only {answering} answer and {majority} are needed \
             for a majority: bring the others back first, or use force"
        )));
    }
    Ok(())
}

/// The first difference between value and group, in the order in which they must be mended.
fn next_step(tables: &Tables, metrics: &Metrics) -> Option<Step> {
    // nothing is known before the first entries are applied
    tables.cluster()?;
    let members: BTreeMap<NodeId, (RaftId, &Member)> =
        metrics.membership_config.nodes().filter_map(|(id, member)| Some((member.node_id()?, (*id, member)))).collect();
    for (node, (id, _)) in &members {
        let stays = tables.node(*node).is_some_and(|n| n.spec.role == NodeRole::Manager);
        match (stays, *id == metrics.id) {
            (true, _) => {}
            (false, true) => return Some(Step::Resign),
            (false, false) => return Some(Step::Remove { id: *id, node: Some(*node) }),
        }
    }
    tables.nodes().find_map(|node| {
        let member = members.get(&node.id);
        let recorded = node.raft.as_ref();
        match (member, recorded) {
            (None, Some(_)) => return Some(Step::Record { node: node.id, raft: None }),
            (Some((id, member)), recorded) if recorded.is_none_or(|r| r.raft_id != *id) => {
                let raft = RaftMember { raft_id: *id, address: member.address.clone() };
                return Some(Step::Record { node: node.id, raft: Some(raft) });
            }
            _ => {}
        }
        match (node.spec.role, node.role) {
            (NodeRole::Manager, NodeRole::Worker) => Some(Step::Promote(node.id)),
            (NodeRole::Worker, NodeRole::Manager) if member.is_none() => Some(Step::Demote(node.id)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn majority(voters: &[u64], reachable: &[u64], leaving: u64) -> Result<(), String> {
        let set = |ids: &[u64]| ids.iter().copied().collect();
        check_majority(&set(voters), &set(reachable), leaving).map_err(|e| e.to_string())
    }

    #[test]
    fn c_21_a_removal_that_costs_the_majority_is_refused_in_words() {
        assert_eq!(majority(&[1, 2, 3], &[1, 2, 3], 3), Ok(()));
        assert_eq!(majority(&[1, 2, 3], &[1, 2], 3), Ok(()), "the dead one may go");
        let refused = majority(&[1, 2, 3], &[1, 2], 2).expect_err("one of two left answers");
        assert!(refused.contains("only 1 answer and 2 are needed"), "{refused}");
        assert!(majority(&[1], &[1], 1).expect_err("last").contains("last manager"));
    }
}
