//! Ramp-in: a node that has just joined does not get everything at once (P49).
//!
//! It has the fewest tasks, so whatever waits would go there: all images are pulled and all containers started on one
//! host, and what is wrong with it befalls all that was begun in its first minute. It is no filter: what fits nowhere
//! else is placed there.

use std::time::Duration;

use types::{Availability, NodeState, Timestamp};

use super::candidate::Candidate;

/// So long a node counts as new.
const NEW_FOR: Duration = Duration::from_secs(60);
/// So many tasks a new node takes like any other: few enough to start together, and a small cluster is even at once.
const AT_ONCE: u64 = 4;

/// From how many tasks on a new node comes after the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ramp {
    tasks: u64,
    now: Timestamp,
}

impl Ramp {
    /// Half of what the others have on average. None where no node is new, or all are.
    pub(super) fn of(candidates: &[Candidate<'_>], now: Timestamp) -> Option<Self> {
        let (mut others, mut tasks, mut is_any_new) = (0, 0, false);
        for candidate in candidates.iter().filter(|candidate| is_available(candidate)) {
            if is_new(candidate, now) {
                is_any_new = true;
            } else {
                others += 1;
                tasks += candidate.tasks;
            }
        }
        let half = u64::checked_div(tasks, 2 * others)?;
        is_any_new.then(|| Self { tasks: half.max(AT_ONCE), now })
    }

    /// Whether the node is new and has enough for now.
    pub(super) fn holds_back(&self, candidate: &Candidate<'_>) -> bool {
        candidate.tasks >= self.tasks && is_new(candidate, self.now)
    }
}

fn is_new(candidate: &Candidate<'_>, now: Timestamp) -> bool {
    now < candidate.node.meta.created_at + NEW_FOR
}

fn is_available(candidate: &Candidate<'_>) -> bool {
    let node = candidate.node;
    node.status.state == NodeState::Ready && node.spec.availability == Availability::Active
}
