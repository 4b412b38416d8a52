//! The one table from what store and raft refuse to what clients of etcd see.

use catena_api::errors::{self, ApiError};
use catena_raft::{CallError, MemberError, MoveError, ProposeError, ReadError};
use catena_store::{Error, Fatal};
use tonic::Status;

/// An error that a client sees with one of etcd's codes and texts.
pub(crate) trait ToApi {
    /// The row of the table.
    fn to_api(&self) -> ApiError;
}

impl ToApi for Error {
    fn to_api(&self) -> ApiError {
        match self {
            Error::EmptyKey => errors::EMPTY_KEY,
            Error::KeyNotFound => errors::KEY_NOT_FOUND,
            Error::ValueProvided => errors::VALUE_PROVIDED,
            Error::LeaseProvided => errors::LEASE_PROVIDED,
            Error::TooManyOps => errors::TOO_MANY_OPS,
            Error::DuplicateKey => errors::DUPLICATE_KEY,
            Error::InvalidSortOption => errors::INVALID_SORT_OPTION,
            Error::Compacted => errors::COMPACTED,
            Error::FutureRevision => errors::FUTURE_REVISION,
            Error::LeaseNotFound => errors::LEASE_NOT_FOUND,
            Error::LeaseExists => errors::LEASE_EXISTS,
            Error::LeaseTtlTooLarge => errors::LEASE_TTL_TOO_LARGE,
            Error::NoSpace => errors::NO_SPACE,
            Error::Corrupt => errors::CORRUPT,
            Error::MemberNotFound => errors::MEMBER_NOT_FOUND,
            Error::MemberExists => errors::MEMBER_EXISTS,
            Error::PeerUrlExists => errors::PEER_URL_EXISTS,
            Error::NotLearner => errors::NOT_LEARNER,
            Error::StreamSort => errors::RANGE_STREAM_SORT,
            Error::StreamFilter => errors::RANGE_STREAM_FILTER,
        }
    }
}

impl ToApi for ProposeError {
    fn to_api(&self) -> ApiError {
        match self {
            ProposeError::TooManyRequests => errors::TOO_MANY_REQUESTS,
            ProposeError::TooLarge => errors::REQUEST_TOO_LARGE,
            ProposeError::NoLeader => errors::NO_LEADER,
            ProposeError::NotLeader => errors::NOT_LEADER,
            ProposeError::Deadline => errors::DEADLINE_EXCEEDED,
            ProposeError::Timeout => errors::TIMEOUT,
            ProposeError::TimeoutLeaderFailure => errors::TIMEOUT_LEADER_FAILURE,
            ProposeError::TimeoutConnectionLost => errors::TIMEOUT_CONNECTION_LOST,
            ProposeError::Stopped => errors::STOPPED,
        }
    }
}

impl ToApi for ReadError {
    fn to_api(&self) -> ApiError {
        match self {
            ReadError::Timeout => errors::TIMEOUT,
            ReadError::NoLeader => errors::NO_LEADER,
            ReadError::NotLeader => errors::LEADER_CHANGED,
            ReadError::Stopped => errors::STOPPED,
        }
    }
}

impl ToApi for MemberError {
    fn to_api(&self) -> ApiError {
        match self {
            MemberError::BadUrls => errors::BAD_URLS,
            MemberError::NotEnoughStarted => errors::NOT_ENOUGH_STARTED,
            MemberError::Unhealthy => errors::UNHEALTHY,
            MemberError::NotFound => errors::MEMBER_NOT_FOUND,
            MemberError::Exists => errors::MEMBER_EXISTS,
            MemberError::PeerUrlExists => errors::PEER_URL_EXISTS,
            MemberError::TooManyLearners => errors::TOO_MANY_LEARNERS,
            MemberError::NotLearner => errors::NOT_LEARNER,
            MemberError::LearnerNotReady => errors::LEARNER_NOT_READY,
            MemberError::NoLeader => errors::NO_LEADER,
            MemberError::Timeout => errors::TIMEOUT,
            MemberError::Stopped => errors::STOPPED,
        }
    }
}

impl ToApi for MoveError {
    fn to_api(&self) -> ApiError {
        match self {
            MoveError::NotLeader => errors::NOT_LEADER,
            MoveError::BadTransferee => errors::BAD_TRANSFEREE,
            MoveError::Timeout => errors::TIMEOUT_LEADER_TRANSFER,
            MoveError::Stopped => errors::STOPPED,
        }
    }
}

impl ToApi for CallError {
    fn to_api(&self) -> ApiError {
        match self {
            CallError::NoLeader => errors::NO_LEADER,
            CallError::Net(_) => errors::TIMEOUT,
        }
    }
}

/// The error as a gRPC status.
pub(crate) fn status(error: impl ToApi) -> Status {
    error.to_api().into()
}

/// The engine failed under a read. The client learns that the member is no use; the log says why. The member itself is stopped by
/// the next write, which meets the same engine.
pub(crate) fn engine_failed(fatal: &Fatal) -> Status {
    tracing::error!(error = %fatal, "storage engine failed to read");
    errors::STOPPED.into()
}
