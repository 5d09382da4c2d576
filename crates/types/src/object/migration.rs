//! The data of local volumes on its way from one node to another (P41).

use serde::{Deserialize, Serialize};

use crate::{NodeId, ServiceId, Slot, Timestamp};

/// While it is in the value, the slots have no running task. It ends when the data is there, or when nobody holds it any
/// more: then the slots go on where they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// The volume that was named.
    pub volume: String,
    pub from: NodeId,
    pub to: NodeId,
    /// It, and what else its slots have in volumes of that node: a slot is on one node.
    pub volumes: Vec<String>,
    /// The slots with data in them.
    pub slots: Vec<(ServiceId, Slot)>,
    pub started_at: Timestamp,
    /// Whoever carries the data says again and again that it goes on.
    pub until: Timestamp,
}

/// Names one: the same volume may move again later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationKey {
    pub volume: String,
    pub from: NodeId,
    pub started_at: Timestamp,
}

/// What a carrier of data asks of the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MigrationStep {
    /// By names or ids of nodes. The slots' tasks stop, unless it is only asked whether they might.
    Begin { volume: String, from: String, to: String, dry_run: bool },
    /// It goes on.
    Renew(MigrationKey),
    /// The data is there: the slots are at home there from now on.
    Finish(MigrationKey),
    /// The slots stay at home where they were.
    Abort(MigrationKey),
}

impl Migration {
    pub fn key(&self) -> MigrationKey {
        MigrationKey { volume: self.volume.clone(), from: self.from, started_at: self.started_at }
    }

    pub fn holds(&self, service: ServiceId, slot: Slot) -> bool {
        self.slots.contains(&(service, slot))
    }
}
