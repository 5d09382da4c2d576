//! Why something about a single container was not done. Texts that Docker's clients look for are Docker's own.

/// The message says what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ContainerError {
    pub kind: ContainerErrorKind,
    pub message: String,
}

/// What a front end turns into a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerErrorKind {
    NotFound,
    /// Not as things stand.
    Conflict,
    Invalid,
    /// It is so already.
    Unchanged,
    /// The host could not do it.
    Failed,
}

impl ContainerError {
    pub(crate) fn new(kind: ContainerErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn not_found(text: &str) -> Self {
        Self::new(ContainerErrorKind::NotFound, format!("No such container: {text}"))
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(ContainerErrorKind::Conflict, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ContainerErrorKind::Invalid, message)
    }

    pub(crate) fn unchanged() -> Self {
        Self::new(ContainerErrorKind::Unchanged, "it is so already")
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(ContainerErrorKind::Failed, message)
    }
}
