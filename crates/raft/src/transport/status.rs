//! Errors of the network as gRPC statuses, and back.

use std::error::Error;

use catena_runtime::NetError;
use tonic::{Code, ConnectError, Status};

/// The status that a caller gets.
pub(super) fn to_status(error: NetError) -> Status {
    match error {
        NetError::Refused(text) => Status::failed_precondition(text),
        NetError::Timeout => Status::deadline_exceeded(NetError::Timeout.to_string()),
        // Nested: what we asked of others on the caller's behalf.
        NetError::Unreachable(text) | NetError::Lost(text) => Status::unavailable(text),
    }
}

/// What a status means to the caller.
pub(super) fn from_status(status: &Status) -> NetError {
    match status.code() {
        Code::FailedPrecondition => NetError::Refused(status.message().to_owned()),
        Code::DeadlineExceeded | Code::Cancelled => NetError::Timeout,
        _ if is_stranger(status) => NetError::Unreachable(status.message().to_owned()),
        Code::Unavailable if is_connect_error(status) => {
            NetError::Unreachable(status.message().to_owned())
        }
        _ => NetError::Lost(status.message().to_owned()),
    }
}

/// Whether the session is unknown, so that the request was not looked at.
pub(super) fn is_stranger(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
}

/// Whether there was no connection, so that nothing was sent.
fn is_connect_error(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
