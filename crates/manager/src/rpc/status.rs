//! Errors as gRPC statuses: the one place that chooses codes.

use control::Rejection;
use tonic::Status;

use crate::raft::{ProposeError, membership::MembershipError};

pub(crate) fn of_rejection(rejection: &Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        Rejection::NotFound { .. } => Status::not_found(text),
        Rejection::AlreadyExists { .. } => Status::already_exists(text),
        Rejection::OutOfSequence { .. } => Status::aborted(text),
        Rejection::Ambiguous { .. } | Rejection::Invalid(_) => Status::invalid_argument(text),
        Rejection::FailedPrecondition(_) => Status::failed_precondition(text),
    }
}

pub(crate) fn of_propose(error: ProposeError) -> Status {
    match error {
        ProposeError::Rejected(rejection) => of_rejection(&rejection),
        ProposeError::Remote(status) => status,
        other @ (ProposeError::NotLeader | ProposeError::Timeout | ProposeError::Stopped(_)) => {
            Status::unavailable(other.to_string())
        }
    }
}

pub(crate) fn of_membership(error: MembershipError) -> Status {
    match error {
        MembershipError::Refused(text) => Status::failed_precondition(text),
        MembershipError::Unavailable(text) => Status::unavailable(text),
        MembershipError::Propose(error) => of_propose(error),
    }
}
