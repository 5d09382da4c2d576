//! What a node says of its tasks, turned into one proposal.

use std::collections::BTreeMap;

use types::{NodeId, TaskId, TaskReport, TaskState, TaskStatus, Timestamp};

use crate::{Change, Component, Proposal, Tables, transition};

/// Reports of `node` that still say something: stale ones (an earlier state than the one known), ones about
/// tasks that are gone or belong to another node, and repetitions are left out; the last of several about
/// one task counts.
///
/// The first report of a task after its node came back is written even if it repeats what was known: it is
/// the proof that the task survived. If the proposal is refused (another report overtook it), call again.
pub fn report_tasks(tables: &Tables, node: NodeId, reports: &[TaskReport], now: Timestamp) -> Proposal {
    let back_since = tables.node(node).map_or(Timestamp::EPOCH, |n| n.status.since);
    let mut latest: BTreeMap<TaskId, &TaskStatus> = BTreeMap::new();
    for report in reports {
        let Some(task) = tables.task(report.task) else { continue };
        let known = latest.get(&task.id).map_or(task.status.state, |status| status.state);
        let own = task.node == Some(node) && report.status.state < TaskState::Orphaned;
        if own && transition::is_allowed(Component::Agent(node), known, report.status.state) {
            latest.insert(task.id, &report.status);
        }
    }
    let says_something = |(id, status): &(TaskId, &TaskStatus)| {
        tables.task(*id).is_some_and(|task| task.status != **status || task.meta.updated_at < back_since)
    };
    let changes = latest
        .into_iter()
        .filter(says_something)
        .map(|(task, status)| Change::TaskStatus { task, by: Component::Agent(node), status: Box::new(status.clone()) })
        .collect();
    Proposal { at: now, expects: Vec::new(), changes }
}
