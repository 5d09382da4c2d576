//! A stack: services, networks, secrets and configs that were deployed together, and what they were before.
//!
//! What is of a stack says the label [`STACK_LABEL`] of each object, as Docker's clients have it; the stack itself keeps
//! what was asked for, so that it can be gone back to as a whole.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DependencyId, DependencyKind, DependencyName, Labels, Meta, Name, NetworkSpec, ServiceSpec, Timestamp};

/// Label with the name of the stack that an object is of.
pub const STACK_LABEL: &str = "com.docker.stack.namespace";

/// The stack that these labels speak of.
pub fn stack_of(labels: &Labels) -> Option<&str> {
    labels.get(STACK_LABEL).map(String::as_str)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    pub name: Name,
    #[serde(default)]
    pub meta: Meta,
    pub present: Arc<StackRevision>,
    /// Earlier ones, oldest first, at most [`crate::KEPT_REVISIONS`].
    #[serde(default)]
    pub earlier: Vec<Arc<StackRevision>>,
}

impl Stack {
    /// All revisions, the present one last.
    pub fn revisions(&self) -> impl Iterator<Item = &StackRevision> {
        self.earlier.iter().chain([&self.present]).map(|revision| &**revision)
    }

    /// Whether something of it, now or before, has this version of a secret or config.
    pub fn names(&self, id: DependencyId) -> bool {
        let in_service = |service: &ServiceSpec| service.task.container.dependencies.iter().any(|d| d.id == Some(id));
        self.revisions().any(|revision| revision.spec.services.iter().any(in_service))
    }
}

/// What a stack was at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRevision {
    /// 1 at the beginning, one more with each change.
    pub number: u64,
    pub at: Timestamp,
    /// It is an earlier one once more: that one's number.
    #[serde(default)]
    pub back_to: Option<u64>,
    /// Who asked for it, as the manager that was asked knows him; empty in revisions of older managers.
    #[serde(default)]
    pub by: String,
    /// What became of it until the next one; of the present one it is worked out when somebody asks.
    #[serde(default)]
    pub result: Option<StackResult>,
    pub spec: Arc<StackSpec>,
}

/// What became of a deploy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackResult {
    pub state: StackState,
    /// Of the service that decides it, in words; empty when all is well.
    pub reason: String,
}

/// The worse, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StackState {
    /// All services run as they shall, or have done their work.
    Done,
    /// Not yet, and nothing has failed for good.
    Deploying,
    /// A service went back to what it was before.
    RolledBack,
    /// A service was stopped half-way, ended or was taken away.
    Failed,
}

impl StackState {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Deploying => "deploying",
            Self::RolledBack => "rolled back",
            Self::Failed => "failed",
        }
    }
}

/// What was asked for. Networks are by name, secrets and configs by name and version: a network that went meanwhile is
/// made anew, data is what it was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StackSpec {
    pub services: Vec<ServiceSpec>,
    pub networks: Vec<NetworkSpec>,
    pub dependencies: Vec<StackDependency>,
}

/// A secret or config of a stack. Its data is a version of the cluster's, not the stack's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackDependency {
    pub kind: DependencyKind,
    pub name: DependencyName,
    pub id: DependencyId,
}

/// What a deploy did to one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StackAction {
    Created,
    Updated,
    Unchanged,
    Removed,
    /// It is of the stack and not in what was deployed, and stays.
    Kept,
}

impl StackAction {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Removed => "removed",
            Self::Kept => "kept",
        }
    }
}

/// One object of a stack, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackPart {
    /// `service`, `network`, `secret` or `config`.
    pub kind: String,
    pub name: String,
    pub action: StackAction,
}
