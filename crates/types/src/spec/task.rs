//! What a user wants of each task of a service.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Constraint, ContainerSpec, Labels, NetworkAttachmentSpec, Platform, Resources, constraint::ConstraintKey};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    pub container: ContainerSpec,
    #[serde(default)]
    pub resources: ResourceRequirements,
    #[serde(default)]
    pub restart: RestartPolicy,
    #[serde(default)]
    pub placement: Placement,
    /// `None`: the cluster's default.
    #[serde(default)]
    pub log_driver: Option<LogDriver>,
    /// In the user's order; the first gives the container its default route, unless it is internal.
    #[serde(default)]
    pub networks: Vec<NetworkAttachmentSpec>,
    /// Raised to replace all tasks although nothing else changed (parity S-15).
    #[serde(default)]
    pub force_update: u64,
}

impl TaskSpec {
    /// Whether containers of both have the same around them. What only steers placement or restarting is nothing that a
    /// container has.
    pub fn surrounds_like(&self, other: &Self) -> bool {
        self.resources == other.resources
            && self.log_driver == other.log_driver
            && self.networks == other.networks
            && self.force_update == other.force_update
    }

    /// Whether what runs by the one runs by the other when the data of its files changes (P12).
    pub fn becomes(&self, other: &Self) -> bool {
        self.surrounds_like(other) && self.container.becomes(&other.container)
    }
}

/// Limits bind the container; reservations are what the scheduler counts (parity S-40, S-41).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceRequirements {
    pub limits: Resources,
    pub reservations: Resources,
    /// Swap beside the memory of the limit; -1 has no end, nothing: as much as memory (parity S-42).
    pub swap_bytes: Option<i64>,
    /// 0 to 100; -1 and nothing: the host's own.
    pub swappiness: Option<i64>,
}

impl ResourceRequirements {
    pub const SWAPPINESS: std::ops::RangeInclusive<i64> = -1..=100;
}

/// When a task that ended gets a successor in its slot (parity S-16).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    pub condition: RestartCondition,
    /// Pause before the first restart; doubles with every failure in a row, see `control`.
    pub delay: Duration,
    /// 0 means no limit.
    pub max_attempts: u64,
    /// Failures older than this do not count towards `max_attempts`; zero means all count.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: 0,
            window: Duration::ZERO,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartCondition {
    None,
    OnFailure,
    Any,
}

/// Where tasks may and should run (parity S-30 to S-33).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// All must hold.
    pub constraints: Vec<Constraint>,
    /// Outer level first.
    pub preferences: Vec<SpreadOver>,
    /// 0 means no limit.
    pub max_replicas: u64,
    /// Platforms the image is there for; empty means any.
    pub platforms: Vec<Platform>,
}

impl Placement {
    /// What is taken as it is said, and does nothing.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let nothing = |over: &&SpreadOver| !over.is_known();
        self.preferences.iter().filter(nothing).map(|over| {
            format!(
                "placement preference spread={over} does nothing: no node has such a quality; spread over node.labels.NAME, \
                 engine.labels.NAME, node.hostname or another quality that constraints know"
            )
        })
    }
}

/// Spread tasks evenly over the values of a label, or of another quality of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpreadOver {
    NodeLabel(String),
    EngineLabel(String),
    /// By its name in constraints; what no constraint knows is the same on all nodes, and so changes nothing, as in Docker.
    Other(String),
}

impl SpreadOver {
    /// Whether nodes may differ in it.
    pub fn is_known(&self) -> bool {
        match self {
            Self::NodeLabel(_) | Self::EngineLabel(_) => true,
            Self::Other(name) => ConstraintKey::of_node(name).is_some(),
        }
    }
}

impl From<String> for SpreadOver {
    fn from(text: String) -> Self {
        match ConstraintKey::of_node(&text) {
            Some(ConstraintKey::NodeLabel(name)) => Self::NodeLabel(name),
            Some(ConstraintKey::EngineLabel(name)) => Self::EngineLabel(name),
            _ => Self::Other(text),
        }
    }
}

impl fmt::Display for SpreadOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeLabel(name) => write!(f, "node.labels.{name}"),
            Self::EngineLabel(name) => write!(f, "engine.labels.{name}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDriver {
    pub name: String,
    #[serde(default)]
    pub options: Labels,
}
