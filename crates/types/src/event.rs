//! What happened to the objects of the cluster, as managers tell it (parity C-36, C-39).
//!
//! Made by `control` from two states of the value that follow each other, so every manager tells the same;
//! kept and shown by the engine, beside what happens on its host.

use std::collections::BTreeMap;

use crate::Timestamp;

/// What kind of object an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    Node,
    Service,
    Network,
    Secret,
    Config,
    Task,
    Stack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectAction {
    Create,
    Update,
    /// Of stacks: to what an earlier revision was.
    Rollback,
    Remove,
}

impl ObjectAction {
    /// Docker's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Rollback => "rollback",
            Self::Remove => "remove",
        }
    }
}

/// One object came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectEvent {
    pub kind: ObjectKind,
    pub action: ObjectAction,
    pub id: String,
    /// Docker's where it has some: `name`, and `X.old` with `X.new` for what changed.
    pub attributes: BTreeMap<String, String>,
}

/// What one step of the value changed; nothing, where only the step is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterEvents {
    /// The index of the step; `None` for what is no part of the value, such as who leads.
    pub index: Option<u64>,
    pub at: Timestamp,
    /// False where steps before this one were not seen one by one: what came and went in them is not told.
    pub is_gapless: bool,
    /// It was told before this manager was started again: news to those who ask for the past alone.
    pub is_past: bool,
    pub events: Vec<ObjectEvent>,
}
