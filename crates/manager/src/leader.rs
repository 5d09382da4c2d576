//! The leader's loop: look at value, witnesses and time; ask what must change; propose it; again.
//!
//! Runs on every manager and acts on the one that leads. It decides nothing itself: `control` does.
//! It must never replan for a mere heartbeat.

pub(crate) mod intake;
pub(crate) mod renewal;
pub(crate) mod upward;

use std::time::Duration;

use control::{Observed, Planner, Tables};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use types::{NodeId, NodeState, ProbeReport, Timestamp};

use crate::{
    Clock, Error,
    raft::{Consensus, ProposeError},
};

/// Notices that may wait while the loop proposes; beyond it whoever noticed waits.
pub(crate) const MAX_NOTICES: usize = 1024;
/// After a refused or lost proposal, so that a disagreement cannot spin.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A plan is asked for at least this often: nothing depends on it, it bounds what a lost wake-up costs.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What the loop is told beside the value.
#[derive(Debug)]
pub(crate) enum Notice {
    /// These nodes said something just now.
    Heard(Vec<NodeId>),
    Probes {
        by: NodeId,
        reports: Vec<ProbeReport>,
    },
}

/// Runs as long as the manager.
pub(crate) async fn run(consensus: Consensus, clock: Clock, mut notices: mpsc::Receiver<Notice>) -> Result<(), Error> {
    let mut metrics = consensus.raft().server_metrics();
    loop {
        metrics.borrow_and_update();
        if consensus.is_leader() && consensus.ensure_current().await.is_ok() && consensus.is_leader() {
            tracing::info!(node = %consensus.node(), term = consensus.metrics().current_term, "leads the cluster");
            let Some(()) = Term::new(&consensus, &clock).lead(&mut notices).await else { return Ok(()) };
            tracing::info!(node = %consensus.node(), "does not lead any more");
            continue;
        }
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return Ok(()) },
            // what was noticed before this manager leads does not count
            notice = notices.recv() => if notice.is_none() { return Ok(()) },
            () = tokio::time::sleep(RETRY_PAUSE), if consensus.is_leader() => {}
        }
    }
}

/// One time of leading.
struct Term<'a> {
    consensus: &'a Consensus,
    clock: &'a Clock,
    tables: watch::Receiver<Tables>,
    observed: Observed,
    planner: Planner,
    /// Index of the value whose removed nodes are forgotten.
    pruned_at: u64,
}

/// Why the loop looks again.
enum Wake {
    Look,
    Lost,
    Stopped,
}

impl<'a> Term<'a> {
    fn new(consensus: &'a Consensus, clock: &'a Clock) -> Self {
        let observed = Observed::new(consensus.node(), clock());
        let tables = consensus.watch_tables();
        let pruned_at = tables.borrow().index();
        Self { consensus, clock, tables, observed, planner: Planner::default(), pruned_at }
    }

    /// Until another manager leads; `None` when the manager stops.
    async fn lead(mut self, notices: &mut mpsc::Receiver<Notice>) -> Option<()> {
        loop {
            let tables = self.tables.borrow_and_update().clone();
            let now = (self.clock)();
            let planned = self.planner.plan(&tables, &self.observed, now, &mut crate::random::u128);
            if planned.changes.is_empty() {
                self.prune(&tables);
                match self.rest(planned.wake_at, now, notices).await {
                    Wake::Look => continue,
                    Wake::Lost => return Some(()),
                    Wake::Stopped => return None,
                }
            }
            tracing::debug!(changes = planned.changes.len(), "proposes a plan");
            match self.consensus.propose_here(planned.proposal(now)).await {
                Ok(_) => {}
                Err(ProposeError::NotLeader) if !self.consensus.is_leader() => return Some(()),
                Err(error) => {
                    // another change came first, as may happen: what it means now is looked at anew
                    tracing::debug!(%error, "plan was not taken");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
            if !self.consensus.is_leader() {
                return Some(());
            }
        }
    }

    /// Forgets what was noticed of nodes that were removed.
    fn prune(&mut self, tables: &Tables) {
        let touched = tables.touched_since(self.pruned_at);
        self.pruned_at = tables.index();
        let known: Vec<NodeId> = match touched {
            Some(touched) => touched.nodes.into_iter().collect(),
            None => self.observed.last_heard.keys().copied().collect(),
        };
        for id in known.into_iter().filter(|id| tables.node(*id).is_none()) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: NodeId) {
        self.observed.last_heard.remove(&id);
        self.observed.probes.remove(&id);
        for verdicts in self.observed.probes.values_mut() {
            verdicts.remove(&id);
        }
    }

    /// Sleeps until there is a reason to look again.
    async fn rest(&mut self, wake_at: Option<Timestamp>, now: Timestamp, notices: &mut mpsc::Receiver<Notice>) -> Wake {
        let asked = wake_at.map_or(LONGEST_REST, |at| at.since(now)).min(LONGEST_REST);
        let wake = Instant::now() + asked;
        let mut metrics = self.consensus.raft().server_metrics();
        loop {
            if !self.consensus.is_leader() {
                return Wake::Lost;
            }
            tokio::select! {
                changed = self.tables.changed() => return if changed.is_ok() { Wake::Look } else { Wake::Stopped },
                notice = notices.recv() => {
                    let Some(notice) = notice else { return Wake::Stopped };
                    if self.take(notice) {
                        return Wake::Look;
                    }
                }
                changed = metrics.changed() => if changed.is_err() { return Wake::Stopped },
                () = sleep_until(wake) => return Wake::Look,
            }
        }
    }

    /// True if the plan may come out differently now.
    fn take(&mut self, notice: Notice) -> bool {
        let now = (self.clock)();
        match notice {
            Notice::Heard(nodes) => {
                let tables = self.tables.borrow();
                let mut news = false;
                for node in nodes {
                    self.observed.last_heard.insert(node, now);
                    news |= tables.node(node).is_some_and(|n| n.status.state != NodeState::Ready);
                }
                news
            }
            Notice::Probes { by, reports } => {
                let mut news = false;
                for report in reports {
                    news |= self.take_probe(by, report, now);
                }
                news
            }
        }
    }

    fn take_probe(&mut self, by: NodeId, report: ProbeReport, now: Timestamp) -> bool {
        let verdicts = self.observed.probes.entry(report.peer).or_default();
        let ProbeReport { answered, impaired, detail, .. } = report;
        if answered.is_none() && !impaired {
            // it does not ask that node any more: what it said before says nothing now
            return verdicts.remove(&by).is_some();
        }
        let verdict = control::ProbeVerdict { answered, impaired, at: now, detail };
        match verdicts.insert(by, verdict.clone()) {
            Some(before) => before != control::ProbeVerdict { at: before.at, ..verdict },
            None => true,
        }
    }
}
