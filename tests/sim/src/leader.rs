//! One manager's view while it leads: what it has applied, what it observed, and its planner. Leaders
//! change; what they had proposed and not yet seen applied may still be applied after them.

use control::{Observed, Planner};
use types::{NodeId, Timestamp};

pub struct Leader {
    pub observed: Observed,
    pub planner: Planner,
    /// Raft's word for a reign: messages to an earlier leader reach nobody.
    pub term: u64,
    /// Its own plan is on its way through Raft: no new one until the outcome is known.
    pub busy: bool,
    /// A plan is already due at this time.
    pub plan_at: Option<Timestamp>,
}

impl Leader {
    pub fn new(me: NodeId, now: Timestamp, term: u64) -> Self {
        Self { observed: Observed::new(me, now), planner: Planner::default(), term, busy: false, plan_at: None }
    }
}
