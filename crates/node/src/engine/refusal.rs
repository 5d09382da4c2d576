//! Why something asked of one container was not done, for whoever asked.

use types::with_causes;

use super::containers::{ContainerError, ContainerErrorKind};
/// What kind of refusal, for the status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// No such container, command or path.
    NotFound,
    /// Not in this state of the container.
    Conflict,
    /// What was asked makes no sense.
    Invalid,
    /// The container, or the host, may not be changed so.
    Forbidden,
    /// Something on this host did not work.
    Failed,
}

/// A request that was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub kind: RefusalKind,
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn of(error: &dyn std::error::Error) -> Self {
        Self::new(RefusalKind::Failed, with_causes(error))
    }

    pub(super) fn of_runtime(error: &runtime::Error) -> Self {
        let kind = match error {
            runtime::Error::NotFound { .. } => RefusalKind::NotFound,
            runtime::Error::Invalid { .. } => RefusalKind::Invalid,
            runtime::Error::Failed { .. } => RefusalKind::Conflict,
            _ => RefusalKind::Failed,
        };
        Self::new(kind, with_causes(error))
    }

    pub(super) fn of_image(error: &image::Error) -> Self {
        let kind = match error {
            image::Error::NoSuchImage(_) | image::Error::NoSuchSnapshot(_) => RefusalKind::NotFound,
            image::Error::BadChange { .. } | image::Error::Reference(_) => RefusalKind::Invalid,
            _ => RefusalKind::Failed,
        };
        Self::new(kind, with_causes(error))
    }
}

impl From<ContainerError> for Refusal {
    fn from(error: ContainerError) -> Self {
        let kind = match error.kind {
            ContainerErrorKind::NotFound => RefusalKind::NotFound,
            ContainerErrorKind::Conflict | ContainerErrorKind::Unchanged => RefusalKind::Conflict,
            ContainerErrorKind::Invalid => RefusalKind::Invalid,
            ContainerErrorKind::Failed => RefusalKind::Failed,
        };
        Self::new(kind, error.message)
    }
}
