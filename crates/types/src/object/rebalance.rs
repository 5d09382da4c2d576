//! A request to even services out (P19): what it moves, and how far a service is with it.

use serde::{Deserialize, Serialize};

use crate::{NodeId, ServiceId, Slot, Timestamp};

/// Of a service whose tasks were asked to move to where it is more even. Stays until the next such request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalance {
    pub state: RebalanceState,
    pub started_at: Timestamp,
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// So many tasks of all services move at once; 0 for as many as the update settings of each allow.
    #[serde(default)]
    pub budget: u32,
    /// Moves begun so far.
    #[serde(default)]
    pub moved: u64,
    /// Why it stopped.
    #[serde(default)]
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RebalanceState {
    Moving,
    /// The service is even.
    Completed,
    /// Something came in between.
    Stopped,
}

impl Rebalance {
    pub const fn is_open(&self) -> bool {
        matches!(self.state, RebalanceState::Moving)
    }
}

impl RebalanceState {
    /// The word of API and command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Moving => "moving",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

/// A move that evens a service out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalanceMove {
    pub service: ServiceId,
    pub name: String,
    pub slot: Slot,
    pub from: NodeId,
    /// Where a place is best as things stand; the scheduler has the last word.
    pub to: NodeId,
    pub why: String,
}

/// What a request to even services out would do, or does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RebalanceView {
    pub moves: Vec<RebalanceMove>,
    /// Uneven services that stay as they are, each with the reason.
    pub stays: Vec<(String, String)>,
}
