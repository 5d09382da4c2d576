//! Who may move a task from which state to which: the table as data. `apply` asks it for every change.
//!
//! Beside the table two rules hold for all rows: a state never goes backwards, and an ended task stays
//! as it ended.

use serde::{Deserialize, Serialize};
use types::{NodeId, TaskState};

/// The writers of a task's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Component {
    /// Ends tasks that never reached a node.
    Orchestrator,
    /// Explains why a task waits. (Placing it is a change of its own.)
    Scheduler,
    /// The node health pass: gives up tasks whose node is gone.
    Health,
    /// The agent of this node, for its own tasks.
    Agent(NodeId),
}

struct Row {
    who: Who,
    from: (TaskState, TaskState),
    to: (TaskState, TaskState),
}

#[derive(PartialEq, Eq)]
enum Who {
    Orchestrator,
    Scheduler,
    Health,
    Agent,
}

use TaskState::{Assigned, Complete, New, Orphaned, Pending, Rejected, Remove, Running, Shutdown};

/// Ranges are inclusive and in the order of [`TaskState`].
const TABLE: &[Row] = &[
    Row { who: Who::Scheduler, from: (New, Pending), to: (Pending, Pending) },
    Row { who: Who::Orchestrator, from: (New, Pending), to: (Shutdown, Shutdown) },
    Row { who: Who::Health, from: (Assigned, Running), to: (Orphaned, Orphaned) },
    Row { who: Who::Agent, from: (Assigned, Running), to: (Assigned, Rejected) },
    Row { who: Who::Agent, from: (Complete, Remove), to: (Complete, Remove) },
];

/// Whether `who` may move a task from `from` to `to`.
pub(crate) fn is_allowed(who: Component, from: TaskState, to: TaskState) -> bool {
    let who = match who {
        Component::Orchestrator => Who::Orchestrator,
        Component::Scheduler => Who::Scheduler,
        Component::Health => Who::Health,
        Component::Agent(_) => Who::Agent,
    };
    let forward = to >= from && (!from.is_terminal() || to == from || to == Remove);
    let within = |(low, high): (TaskState, TaskState), state| low <= state && state <= high;
    forward && TABLE.iter().any(|row| row.who == who && within(row.from, from) && within(row.to, to))
}

#[cfg(test)]
mod tests {
    use types::TaskState::*;

    use super::*;

    #[test]
    fn each_component_has_its_own_transitions_and_none_goes_back() {
        let agent = Component::Agent(NodeId::from_random(1));
        assert!(is_allowed(agent, Assigned, Running));
        assert!(is_allowed(agent, Running, Running), "a message may change within a state");
        assert!(is_allowed(agent, Preparing, Rejected));
        assert!(!is_allowed(agent, Running, Starting), "backwards");
        assert!(!is_allowed(agent, Complete, Failed), "ended is ended");
        assert!(!is_allowed(agent, Pending, Running), "a task without a node has no agent");
        assert!(!is_allowed(agent, Running, Orphaned), "only the health pass gives a task up");
        assert!(is_allowed(Component::Health, Running, Orphaned));
        assert!(!is_allowed(Component::Health, Failed, Orphaned));
        assert!(is_allowed(Component::Scheduler, Pending, Pending));
        assert!(!is_allowed(Component::Scheduler, Assigned, Pending));
        assert!(is_allowed(Component::Orchestrator, Pending, Shutdown));
        assert!(!is_allowed(Component::Orchestrator, Running, Shutdown), "its node says so, not we");
    }
}
