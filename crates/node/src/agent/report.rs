//! Which task statuses are still to be told to the managers. Pure.
//!
//! Owned by the agent's loop. A task's state never goes backwards here, only the latest status of a
//! task is kept, and a status is kept until a manager says it is committed: a new session is told
//! everything that may have been lost with the old one. It must never forget a status that no
//! manager has committed.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use types::{AssignmentSet, TaskId, TaskReport, TaskStatus};

/// Most reports in one message; with long error texts that is still below 1 MiB.
pub(crate) const MAX_BATCH: usize = 512;

/// The reports of one node.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    pending: BTreeMap<TaskId, Pending>,
    /// Sent in this session and not yet committed, in the order of sending.
    in_flight: VecDeque<(TaskId, u64)>,
    /// Reports that the manager has committed in this session.
    committed: u64,
    revision: u64,
}

#[derive(Debug)]
struct Pending {
    status: TaskStatus,
    /// Which edition of the status this is, so that a commit of an older one does not remove it.
    revision: u64,
    sent: bool,
}

/// What survives the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Kept(pub Vec<TaskReport>);

impl Reports {
    /// Takes up what an earlier process left.
    pub(crate) fn restore(kept: Kept) -> Self {
        let mut reports = Self::default();
        for report in kept.0 {
            reports.note(report.task, report.status);
        }
        reports
    }

    /// What must survive: ends of tasks. All else can be seen again by looking.
    pub(crate) fn kept(&self) -> Kept {
        let ended = self.pending.iter().filter(|(_, p)| p.status.state.is_terminal());
        Kept(ended.map(|(task, p)| TaskReport { task: *task, status: p.status.clone() }).collect())
    }

    /// Notes a status; false if it says nothing new or would go backwards.
    pub(crate) fn note(&mut self, task: TaskId, status: TaskStatus) -> bool {
        if let Some(known) = self.pending.get(&task) {
            let terminal = known.status.state.is_terminal();
            let backwards = status.state < known.status.state;
            let same = TaskStatus { since: known.status.since, ..status.clone() } == known.status;
            if terminal || backwards || same {
                return false;
            }
        }
        self.revision += 1;
        self.pending.insert(task, Pending { status, revision: self.revision, sent: false });
        true
    }

    /// Whether there is something to send.
    pub(crate) fn has_unsent(&self) -> bool {
        self.pending.values().any(|p| !p.sent)
    }

    /// The next message, at most [`MAX_BATCH`] reports; empty when all is sent.
    pub(crate) fn take_batch(&mut self) -> Vec<TaskReport> {
        let mut batch = Vec::new();
        let unsent = self.pending.iter_mut().filter(|(_, p)| !p.sent).take(MAX_BATCH);
        for (task, pending) in unsent {
            pending.sent = true;
            self.in_flight.push_back((*task, pending.revision));
            batch.push(TaskReport { task: *task, status: pending.status.clone() });
        }
        batch
    }

    /// A manager committed the first `count` reports of this session; true if any was forgotten.
    pub(crate) fn committed(&mut self, count: u64) -> bool {
        let mut forgotten = false;
        while self.committed < count {
            let Some((task, revision)) = self.in_flight.pop_front() else { break };
            self.committed += 1;
            if self.pending.get(&task).is_some_and(|p| p.revision == revision) {
                self.pending.remove(&task);
                forgotten = true;
            }
        }
        forgotten
    }

    /// A new session: what was in flight may be lost.
    pub(crate) fn session_began(&mut self) {
        self.in_flight.clear();
        self.committed = 0;
        for pending in self.pending.values_mut() {
            pending.sent = false;
        }
    }

    /// Forgets what the value already says, or says nothing of any more. For a whole set.
    pub(crate) fn settle(&mut self, assigned: &AssignmentSet) {
        self.pending.retain(|task, pending| {
            let known = assigned.tasks.get(task).map(|a| a.state);
            known.is_some_and(|state| state < pending.status.state || !state.is_terminal())
        });
    }

    /// How many statuses no manager has committed yet.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// The end of a task that no manager has committed yet.
    pub(crate) fn ended(&self, task: TaskId) -> Option<&TaskStatus> {
        self.pending.get(&task).map(|p| &p.status).filter(|status| status.state.is_terminal())
    }
}

#[cfg(test)]
mod tests {
    use types::{TaskState, Timestamp};

    use super::*;

    fn id(n: u128) -> TaskId {
        TaskId::from_random(n)
    }

    fn status(state: TaskState) -> TaskStatus {
        let since = Timestamp::from_unix_ms(1);
        TaskStatus { state, since, message: String::new(), error: String::new(), container: None, ports: Vec::new() }
    }

    #[test]
    fn only_the_latest_state_travels_and_never_an_earlier_one() {
        let mut reports = Reports::default();
        assert!(reports.note(id(1), status(TaskState::Preparing)));
        assert!(reports.note(id(1), status(TaskState::Running)));
        assert!(!reports.note(id(1), status(TaskState::Starting)), "backwards");
        assert!(!reports.note(id(1), status(TaskState::Running)), "nothing new");
        let batch = reports.take_batch();
        assert_eq!(batch.iter().map(|r| r.status.state).collect::<Vec<_>>(), [TaskState::Running]);
        assert!(reports.take_batch().is_empty() && !reports.has_unsent());
    }

    #[test]
    fn an_end_is_final() {
        let mut reports = Reports::default();
        reports.note(id(1), status(TaskState::Complete));
        assert!(!reports.note(id(1), status(TaskState::Failed)));
    }

    #[test]
    fn a_commit_of_an_older_status_keeps_the_newer_one() {
        let mut reports = Reports::default();
        reports.note(id(1), status(TaskState::Running));
        reports.note(id(2), status(TaskState::Running));
        assert_eq!(reports.take_batch().len(), 2);
        reports.note(id(1), status(TaskState::Failed));
        assert!(reports.committed(2), "task 2 is forgotten");
        assert_eq!(reports.take_batch()[0].status.state, TaskState::Failed);
        assert!(reports.committed(3) && reports.kept().0.is_empty());
    }

    #[test]
    fn a_new_session_is_told_all_that_was_not_committed() {
        let mut reports = Reports::default();
        for n in 0..3 {
            reports.note(id(n), status(TaskState::Running));
        }
        assert_eq!(reports.take_batch().len(), 3);
        reports.committed(1);
        reports.session_began();
        assert_eq!(reports.take_batch().len(), 2);
        assert!(reports.committed(2), "the count begins anew");
    }

    #[test]
    fn batches_are_bounded() {
        let mut reports = Reports::default();
        for n in 0..MAX_BATCH as u128 + 1 {
            reports.note(id(n), status(TaskState::Running));
        }
        assert_eq!((reports.take_batch().len(), reports.take_batch().len()), (MAX_BATCH, 1));
    }

    #[test]
    fn only_ends_survive_the_process() {
        let mut reports = Reports::default();
        reports.note(id(1), status(TaskState::Running));
        reports.note(id(2), status(TaskState::Rejected));
        let restored = Reports::restore(reports.kept());
        assert!(restored.ended(id(2)).is_some() && restored.ended(id(1)).is_none());
    }
}
