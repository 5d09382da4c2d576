//! Takes what nodes said into the value: statuses of many tasks in one proposal.
//!
//! Used on the leader, by the relay service and by the leader's own dispatcher.

use control::{Proposal, Tables, admission};
use tokio::sync::mpsc;
use types::NodeId;

use super::{Notice, upward::Upward};
use crate::{
    Clock,
    raft::{Consensus, ProposeError},
};

/// Tries for one batch when other changes come first.
const TRIES: usize = 5;

#[derive(Clone)]
pub(crate) struct Intake {
    consensus: Consensus,
    clock: Clock,
    notices: mpsc::Sender<Notice>,
}

impl Intake {
    pub(crate) fn new(consensus: Consensus, clock: Clock, notices: mpsc::Sender<Notice>) -> Self {
        Self { consensus, clock, notices }
    }

    /// Returns when all that must be in the value is committed.
    ///
    /// # Errors
    /// When this manager does not lead, or there is no majority; the batch may be sent again.
    pub(crate) async fn take(&self, mut batch: Upward) -> Result<(), ProposeError> {
        if !self.consensus.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        let stopped = |_| ProposeError::Stopped("the manager is stopping".to_owned());
        let heard = std::mem::take(&mut batch.heard);
        if !heard.is_empty() {
            self.notices.send(Notice::Heard(heard)).await.map_err(stopped)?;
        }
        for (by, reports) in std::mem::take(&mut batch.probes) {
            self.notices.send(Notice::Probes { by, reports }).await.map_err(stopped)?;
        }
        warn_of_overlaps(&self.consensus.tables(), &batch);
        for _ in 0..TRIES {
            let proposal = together(&self.consensus.tables(), &batch, &self.clock);
            match self.propose(proposal).await {
                Err(ProposeError::Rejected(_)) => {}
                result => return result,
            }
        }
        self.take_one_by_one(&batch).await
    }

    /// One bad report must not hold up the others.
    async fn take_one_by_one(&self, batch: &Upward) -> Result<(), ProposeError> {
        let nodes: std::collections::BTreeSet<NodeId> =
            batch.described.keys().chain(batch.tasks.keys()).copied().collect();
        for node in nodes {
            let own = Upward {
                described: batch.described.get(&node).map(|d| (node, d.clone())).into_iter().collect(),
                tasks: batch.tasks.get(&node).map(|t| (node, t.clone())).into_iter().collect(),
                ..Upward::default()
            };
            let proposal = together(&self.consensus.tables(), &own, &self.clock);
            match self.propose(proposal).await {
                Err(ProposeError::Rejected(reason)) => {
                    tracing::warn!(node.id = %node, %reason, "what a node reported was refused");
                }
                result => result?,
            }
        }
        Ok(())
    }

    async fn propose(&self, proposal: Proposal) -> Result<(), ProposeError> {
        if proposal.changes.is_empty() {
            return Ok(());
        }
        self.consensus.propose_here(proposal).await.map(drop)
    }
}

/// A host whose own networks lie where one of the cluster's does takes part all the same: its containers only
/// cannot reach everything, and somebody must know (P25). Said once for each set of routes.
fn warn_of_overlaps(tables: &Tables, batch: &Upward) {
    for (id, described) in &batch.described {
        let Some(node) = tables.node(*id) else { continue };
        let known = node.description.as_ref().is_some_and(|d| d.routes == described.description.routes);
        if known && node.status.address == described.address {
            continue;
        }
        let mut node = (**node).clone();
        node.description = Some(described.description.clone());
        node.status.address = described.address;
        for conflict in admission::route_conflicts(tables, &node) {
            tracing::warn!(node.id = %id, "{conflict}");
        }
    }
}

/// One proposal of all that the batch says.
fn together(tables: &Tables, batch: &Upward, clock: &Clock) -> Proposal {
    let now = clock();
    let mut all = Proposal { at: now, expects: Vec::new(), changes: Vec::new() };
    let described = batch
        .described
        .iter()
        .filter_map(|(node, d)| admission::describe_node(tables, *node, &d.description, d.address, now));
    let tasks = batch.tasks.iter().map(|(node, reports)| admission::report_tasks(tables, *node, reports, now));
    for proposal in described.chain(tasks) {
        all.expects.extend(proposal.expects);
        all.changes.extend(proposal.changes);
    }
    all
}
