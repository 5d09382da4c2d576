//! Errors as gRPC statuses: the one place that chooses codes.

use control::Rejection;
use tonic::Status;

use crate::raft::{ProposeError, membership::MembershipError};

/// A text goes as a header, of which HTTP/2 peers take 16 KiB; escaped, each byte may take three.
const MAX_TEXT_BYTES: usize = 4 << 10;

/// The beginning of what repeats too much of the user's own words.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let end = (0..=MAX_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

pub(crate) fn of_rejection(rejection: &Rejection) -> Status {
    let text = bounded(rejection.to_string());
    match rejection {
        Rejection::NotFound { .. } => Status::not_found(text),
        Rejection::AlreadyExists { .. } => Status::already_exists(text),
        Rejection::OutOfSequence { .. } | Rejection::Unsettled(_) => Status::aborted(text),
        Rejection::Ambiguous { .. } | Rejection::Invalid(_) => Status::invalid_argument(text),
        Rejection::FailedPrecondition(_) => Status::failed_precondition(text),
        Rejection::Denied(_) => Status::permission_denied(text),
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
        MembershipError::Refused(text) => Status::failed_precondition(bounded(text)),
        MembershipError::Unavailable(text) => Status::unavailable(text),
        MembershipError::Propose(error) => of_propose(error),
    }
}
