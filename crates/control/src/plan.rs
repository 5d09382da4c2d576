//! What must change next: the one question the leader's loop asks.
//!
//! Passes run in a fixed order over a working copy of the value, each seeing the changes of those before
//! it. They decide and never do; what they decide is proposed, and if the proposal is refused because the
//! value moved on meanwhile, the question is asked again.

mod draft;
mod global;
mod global_job;
mod health;
mod job;
mod migration;
mod needs;
mod networks;
mod placement;
mod planner;
mod reaper;
mod replicated;
mod replicated_job;
mod restart;
mod rollout;
mod schedule;
mod scheduler;
mod slots;
mod work;

use types::{Timestamp, Version};

pub(crate) use networks::full;
pub use planner::Planner;
pub(crate) use scheduler::{preview as rebalance_preview, why_not_on};

use crate::{Change, ObjectRef, Proposal};

/// The answer of [`Planner::plan`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Planned {
    /// The services and nodes the changes were decided on.
    pub expects: Vec<(ObjectRef, Version)>,
    /// Empty when the cluster is at rest.
    pub changes: Vec<Change>,
    /// Ask again at this time even if nothing happens until then.
    pub wake_at: Option<Timestamp>,
}

impl Planned {
    /// What to propose.
    pub fn proposal(self, now: Timestamp) -> Proposal {
        Proposal { at: now, expects: self.expects, changes: self.changes }
    }
}
