//! Errors as HTTP: the one place that says which status an error has.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use node::{
    engine::{
        NetworkError, NetworkErrorKind, Refusal, RefusalKind,
        containers::{ContainerError, ContainerErrorKind},
        volumes::VolumeError,
    },
    image, membership,
};
use tonic::Code;
use types::with_causes;

use crate::convert::reader::FieldError;

/// What a failed request is answered with: `{"message": …}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

/// Docker's own words; scripts look for them.
pub(crate) const NOT_A_MANAGER: &str = "This node is not a swarm manager. Worker nodes can't be used to view or \
     modify cluster state. Please run this command on a manager node or promote the current node to a manager.";
pub(crate) const NOT_IN_A_CLUSTER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker \
     swarm join\" to connect this node to swarm and try again.";
pub(crate) const ALREADY_IN_A_CLUSTER: &str =
    "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.";
pub(crate) const NOT_PART_OF_A_CLUSTER: &str = "This node is not part of a swarm";

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() && self.status != StatusCode::NOT_IMPLEMENTED {
            tracing::info!(status = self.status.as_u16(), message = %self.message, "request failed");
        }
        // an answer with this status has no body (RFC 9110, 15.4.5)
        if self.status == StatusCode::NOT_MODIFIED {
            return self.status.into_response();
        }
        (self.status, Json(serde_json::json!({ "message": self.message }))).into_response()
    }
}

impl From<ContainerError> for ApiError {
    fn from(error: ContainerError) -> Self {
        let status = match error.kind {
            ContainerErrorKind::NotFound => StatusCode::NOT_FOUND,
            ContainerErrorKind::Conflict => StatusCode::CONFLICT,
            ContainerErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ContainerErrorKind::Unchanged => StatusCode::NOT_MODIFIED,
            ContainerErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.message)
    }
}

impl From<FieldError> for ApiError {
    fn from(error: FieldError) -> Self {
        let status = match &error {
            FieldError::NoPlugin { .. } => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

impl From<tonic::Status> for ApiError {
    fn from(status: tonic::Status) -> Self {
        let http = match status.code() {
            // Docker answers 400, not 412, to what does not fit the state of an object.
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unavailable | Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(http, status.message())
    }
}

impl From<proto::WireError> for ApiError {
    fn from(error: proto::WireError) -> Self {
        Self::internal(with_causes(&error))
    }
}

impl From<membership::Error> for ApiError {
    fn from(error: membership::Error) -> Self {
        let status = match error.kind {
            membership::ErrorKind::BadRequest => StatusCode::BAD_REQUEST,
            // What Docker answers to a command that does not fit the host's state.
            membership::ErrorKind::Conflict | membership::ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            membership::ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            membership::ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.message)
    }
}

impl From<NetworkError> for ApiError {
    fn from(error: NetworkError) -> Self {
        let status = match error.kind {
            NetworkErrorKind::NotFound => StatusCode::NOT_FOUND,
            NetworkErrorKind::Conflict => StatusCode::CONFLICT,
            NetworkErrorKind::Invalid => StatusCode::BAD_REQUEST,
            NetworkErrorKind::Forbidden => StatusCode::FORBIDDEN,
            NetworkErrorKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.message)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, refusal.message)
    }
}

impl From<image::Error> for ApiError {
    fn from(error: image::Error) -> Self {
        use image::Error as E;
        let status = match &error {
            E::NoSuchImage(_)
            | E::OtherPlatform { .. }
            | E::NothingToPush(_)
            | E::NoSuchTag(_)
            | E::NotFoundInRegistry { .. } => StatusCode::NOT_FOUND,
            E::Fetch { status: Some(400), .. } => StatusCode::BAD_REQUEST,
            E::Fetch { status: Some(401), .. } => StatusCode::UNAUTHORIZED,
            E::Fetch { status: Some(403), .. } => StatusCode::FORBIDDEN,
            E::Fetch { status: Some(404), .. } => StatusCode::NOT_FOUND,
            E::Conflict(_) => StatusCode::CONFLICT,
            E::AmbiguousId { .. }
            | E::Reference(_)
            | E::BadDigest(_)
            | E::BadPlatform(_)
            | E::BadArchive(_)
            // what was sent is cut off or no archive: the sender's fault, not the store's
            | E::ReadArchive(_)
            | E::BadDocument { .. }
            | E::Unusable { .. }
            | E::BadChange { .. }
            | E::Hostile { .. }
            | E::CredentialHelper { .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, with_causes(&error))
    }
}

impl From<VolumeError> for ApiError {
    fn from(error: VolumeError) -> Self {
        let status = match &error {
            VolumeError::Invalid { .. } => StatusCode::BAD_REQUEST,
            VolumeError::NotFound(_) | VolumeError::NoDriver { .. } => StatusCode::NOT_FOUND,
            VolumeError::InUse { .. } => StatusCode::CONFLICT,
            VolumeError::Mount { .. } | VolumeError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, with_causes(&error))
    }
}
