//! What can go wrong, sorted by what the caller can do.

use std::error::Error as StdError;

use catena_api::errors::{self, ApiError};
use tonic::{Code, Status};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed, or why a watch or a lease ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store answered with an error. Texts are etcd's, see [`catena_api::errors`].
    #[error("{text}")]
    Answer {
        /// The gRPC code.
        code: Code,
        /// The text.
        text: String,
    },
    /// No byte was sent, so the call had no effect.
    #[error("store is unreachable: {0}")]
    Unreachable(String),
    /// The connection broke before the answer: the call may have had its effect, or still have it.
    #[error("connection lost before the answer: {0}")]
    Lost(String),
    /// No answer within the time given: the call may have had its effect, or still have it.
    #[error("context deadline exceeded")]
    Deadline,
    /// The revision that a watch has to go on from is gone. Read again, and watch from the revision of that read.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted {
        /// The revision at which the store was compacted; 0 if the store did not say.
        revision: i64,
    },
    /// Another cluster answers at the endpoints; revisions of the old one mean nothing in it.
    #[error("cluster id changed from {before:x} to {now:x}")]
    OtherCluster {
        /// The cluster that was watched.
        before: u64,
        /// The cluster that answers now.
        now: u64,
    },
    /// The lease ran out or was revoked, and what was attached to it is gone.
    #[error("lease {0:x} is lost")]
    LeaseLost(i64),
    /// This end was closed.
    #[error("closed")]
    Closed,
    /// An endpoint that cannot be used as it is written.
    #[error("endpoint {endpoint:?}: {reason}")]
    BadEndpoint {
        /// The endpoint as given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// The gRPC code that a service answers with when this error is its own.
    pub fn code(&self) -> Code {
        match self {
            Self::Answer { code, .. } => *code,
            Self::Unreachable(_) | Self::Lost(_) => Code::Unavailable,
            Self::Deadline => Code::DeadlineExceeded,
            Self::Compacted { .. } => Code::OutOfRange,
            Self::LeaseLost(_) => Code::NotFound,
            Self::OtherCluster { .. } => Code::FailedPrecondition,
            Self::Closed => Code::Cancelled,
            Self::BadEndpoint { .. } => Code::InvalidArgument,
        }
    }

    /// Whether a write that failed so may have taken place, or still take place. If false, it has not and will not.
    pub fn is_unknown_outcome(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Deadline => true,
            Self::Answer { code, .. } => match code {
                Code::Unavailable => !self.is(errors::NO_LEADER),
                Code::DeadlineExceeded | Code::Cancelled | Code::Internal => true,
                // etcd sends errors of its own that it forgot to give a code as `Unknown`; those are known to change nothing.
                Code::Unknown => !errors::ALL.iter().any(|error| self.is(*error)),
                _ => false,
            },
            Self::Unreachable(_)
            | Self::Compacted { .. }
            | Self::OtherCluster { .. }
            | Self::LeaseLost(_)
            | Self::Closed
            | Self::BadEndpoint { .. } => false,
        }
    }

    /// Whether the same call may succeed later, or at another member, without any change to it.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Lost(_) | Self::Deadline => true,
            Self::Answer { code, .. } => {
                matches!(code, Code::Unavailable | Code::DeadlineExceeded)
                    || [
                        errors::TOO_MANY_REQUESTS,
                        errors::NOT_SUPPORTED_FOR_LEARNER,
                        errors::PROPOSAL_DROPPED,
                        errors::NOT_PRIMARY_LESSOR,
                    ]
                    .iter()
                    .any(|error| self.is(*error))
            }
            Self::Compacted { .. }
            | Self::OtherCluster { .. }
            | Self::LeaseLost(_)
            | Self::Closed
            | Self::BadEndpoint { .. } => false,
        }
    }

    /// Whether this is the given error of the API. Codes differ between versions of etcd, so the text decides.
    pub fn is(&self, error: ApiError) -> bool {
        matches!(self, Self::Answer { text, .. } if text == error.text)
    }

    /// Whether a revision that was asked for is compacted.
    pub fn is_compacted(&self) -> bool {
        matches!(self, Self::Compacted { .. }) || self.is(errors::COMPACTED)
    }

    /// Whether a revision that was asked for is one that the store has not reached: if it was once, the store has lost it.
    pub fn is_future_revision(&self) -> bool {
        self.is(errors::FUTURE_REVISION)
    }

    /// Whether a lease does not exist, or exists no more.
    pub fn is_lease_not_found(&self) -> bool {
        matches!(self, Self::LeaseLost(_)) || self.is(errors::LEASE_NOT_FOUND)
    }

    /// Reads the text `rpc error: code = NotFound desc = …`, in which etcd wraps why it cancelled a watch.
    pub fn from_cancel_reason(reason: &str) -> Self {
        let wrapped = reason
            .strip_prefix("rpc error: code = ")
            .and_then(|rest| rest.split_once(" desc = "));
        let text = wrapped.map_or(reason, |(_, text)| text);
        if text == errors::COMPACTED.text {
            return Self::Compacted { revision: 0 };
        }
        let known = errors::ALL.iter().find(|error| error.text == text);
        Self::Answer {
            code: known
                .map(|error| error.code)
                .or_else(|| wrapped.and_then(|(code, _)| code_by_name(code)))
                .unwrap_or(Code::Unknown),
            text: text.to_owned(),
        }
    }
}

fn code_by_name(name: &str) -> Option<Code> {
    // Go's spelling of "canceled" is the only one that differs from the variant's.
    let name = if name == "Canceled" {
        "Cancelled"
    } else {
        name
    };
    (1..=16)
        .map(Code::from_i32)
        .find(|code| format!("{code:?}") == name)
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Answer {
            code: error.code,
            text: error.text.to_owned(),
        }
    }
}

/// A status that the server sent has no source; one that was made on this side carries what broke.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let mut source = StdError::source(&status);
        if source.is_none() {
            return Self::Answer {
                code: status.code(),
                text: status.message().to_owned(),
            };
        }
        while let Some(cause) = source {
            if cause.is::<tonic::TimeoutExpired>() {
                return Self::Deadline;
            }
            // hyper reports as cancelled a request that was still queued when its connection closed.
            let queued = cause
                .downcast_ref::<hyper::Error>()
                .is_some_and(hyper::Error::is_canceled);
            if queued || cause.is::<tonic::ConnectError>() {
                return Self::Unreachable(status.message().to_owned());
            }
            source = cause.source();
        }
        Self::Lost(status.message().to_owned())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::new(error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: Code, text: &str) -> Error {
        Error::from(Status::new(code, text))
    }

    #[test]
    fn outcome_known_only_if_nothing_happened() {
        let unknown = [
            answer(Code::Unavailable, errors::TIMEOUT.text),
            answer(Code::Unavailable, "transport is closing"),
            answer(Code::DeadlineExceeded, "context deadline exceeded"),
            answer(Code::Unknown, "something else"),
            Error::Lost(String::new()),
            Error::Deadline,
        ];
        let definite = [
            answer(Code::Unavailable, errors::NO_LEADER.text),
            answer(Code::InvalidArgument, errors::EMPTY_KEY.text),
            answer(Code::Unknown, errors::TOO_MANY_REQUESTS.text),
            answer(Code::ResourceExhausted, errors::NO_SPACE.text),
            Error::Unreachable(String::new()),
            Error::Closed,
        ];
        for error in unknown {
            assert!(error.is_unknown_outcome(), "{error:?}");
        }
        for error in definite {
            assert!(!error.is_unknown_outcome(), "{error:?}");
        }
    }

    #[test]
    fn cancel_reason_wrapped_and_plain() {
        let denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
        let compacted = errors::COMPACTED.text;
        let duplicate = errors::WATCH_DUPLICATE_ID.text;
        assert_eq!(
            Error::from_cancel_reason(denied),
            answer(Code::PermissionDenied, "etcdserver: permission denied")
        );
        assert_eq!(
            Error::from_cancel_reason("rpc error: code = Canceled desc = x"),
            answer(Code::Cancelled, "x")
        );
        assert_eq!(
            Error::from_cancel_reason(compacted),
            Error::Compacted { revision: 0 }
        );
        assert_eq!(
            Error::from_cancel_reason(duplicate),
            answer(Code::Unknown, duplicate)
        );
    }

    #[test]
    fn status_round_trip_keeps_code_and_text() {
        let error = Error::from(errors::LEASE_NOT_FOUND);
        assert_eq!(Error::from(Status::from(error.clone())), error);
        assert!(error.is_lease_not_found());
        assert!(Error::from(errors::FUTURE_REVISION).is_future_revision());
        assert!(!error.is_future_revision());
    }
}
