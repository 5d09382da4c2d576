//! What a user wants of a node.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Labels;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    pub name: String,
    pub labels: Labels,
    /// The role the node shall have; the one it has is `Node::role`.
    pub role: NodeRole,
    pub availability: Availability,
}

impl Default for NodeSpec {
    fn default() -> Self {
        Self { name: String::new(), labels: Labels::new(), role: NodeRole::Worker, availability: Availability::Active }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeRole {
    Worker,
    Manager,
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Worker => "worker",
            Self::Manager => "manager",
        })
    }
}

/// What the scheduler may do with a node (parity C-22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Availability {
    Active,
    /// No new tasks.
    Pause,
    /// No new tasks, and those there leave.
    Drain,
}
