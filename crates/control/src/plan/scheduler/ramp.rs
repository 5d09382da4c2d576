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
/// So many tasks a new node takes like any other: few enough to start together. One that has no more than so many less
/// than the others has nothing to catch up with: in a cluster that begins, most nodes are new.
const AT_ONCE: u64 = 4;

/// Says of new nodes with far fewer tasks than the others how many are enough: half of what those have on average, and
/// their share of the tasks that come.
pub(super) fn bound(candidates: &mut [Candidate<'_>], coming: u64, now: Timestamp) {
    let (mut new, mut others, mut tasks) = (0_u64, 0_u64, 0_u64);
    for candidate in candidates.iter().filter(|candidate| is_available(candidate)) {
        if is_new(candidate, now) {
            new += 1;
        } else {
            others += 1;
            tasks += candidate.tasks;
        }
    }
    let Some(average) = u64::checked_div(tasks, others) else { return };
    let enough = (average / 2).max(coming.div_ceil(new + others)).max(AT_ONCE);
    for candidate in candidates {
        if is_new(candidate, now) && candidate.tasks + AT_ONCE <= average {
            candidate.enough = Some(enough);
        }
    }
}

fn is_new(candidate: &Candidate<'_>, now: Timestamp) -> bool {
    now < candidate.node.meta.created_at + NEW_FOR
}

fn is_available(candidate: &Candidate<'_>) -> bool {
    let node = candidate.node;
    node.status.state == NodeState::Ready && node.spec.availability == Availability::Active
}
