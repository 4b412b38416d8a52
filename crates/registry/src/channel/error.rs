//! Why a call failed on its way, as opposed to what the service answered.

use std::{error::Error as StdError, sync::Arc};

use tonic::Status;

use crate::balance::NoInstance;

/// A call that got no answer. In a [`Status`] that the channel made, it is the source.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is nobody to call.
    #[error("service {service}: {why}{}", last.as_ref().map(|error| format!("; last: {error}")).unwrap_or_default())]
    NoInstance {
        /// The service.
        service: String,
        /// What took its instances away.
        why: NoInstance,
        /// How the last attempt failed, if there was one.
        last: Option<Arc<Error>>,
    },
    /// No connection to the instance could be made, so it has seen nothing of the call.
    #[error("instance {instance} at {address} is unreachable: {reason}")]
    Unreachable {
        /// The instance.
        instance: String,
        /// Where it should be.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The instance closed the connection, or refused the stream, without looking at the call.
    #[error("instance {instance} at {address} did not take the call: {reason}")]
    Refused {
        /// The instance.
        instance: String,
        /// Where it is.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The connection broke before the answer was complete: the call may have had its effect, or still have it.
    #[error("instance {instance} at {address} was lost before its answer: {reason}")]
    Lost {
        /// The instance.
        instance: String,
        /// Where it was.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The call's time is over: it may have had its effect, or still have it.
    #[error("deadline exceeded")]
    Deadline,
}

impl Error {
    /// The reason as callers compare it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoInstance { .. } => NoInstance::REASON,
            Self::Unreachable { .. } => "INSTANCE_UNREACHABLE",
            Self::Refused { .. } => "INSTANCE_REFUSED",
            Self::Lost { .. } => "INSTANCE_LOST",
            Self::Deadline => "DEADLINE_EXCEEDED",
        }
    }

    /// Whether the call may have had an effect. If false, it has not and will not.
    pub fn is_unknown_outcome(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Deadline => true,
            Self::NoInstance { .. } | Self::Unreachable { .. } | Self::Refused { .. } => false,
        }
    }

    /// The error that a status of the channel's own was made of; `None` for one that the service sent.
    pub fn of(status: &Status) -> Option<&Self> {
        let mut source = StdError::source(status);
        while let Some(cause) = source {
            if let Some(error) = cause.downcast_ref() {
                return Some(error);
            }
            source = cause.source();
        }
        None
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = match error {
            Error::Deadline => Self::deadline_exceeded(error.to_string()),
            Error::NoInstance { .. }
            | Error::Unreachable { .. }
            | Error::Refused { .. }
            | Error::Lost { .. } => Self::unavailable(error.to_string()),
        };
        status.set_source(Arc::new(error));
        status
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn status_keeps_the_error() {
        let error = Error::NoInstance {
            service: "user".to_owned(),
            why: NoInstance::default(),
            last: Some(Arc::new(Error::Deadline)),
        };
        let status = Status::from(error);
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(
            status.message(),
            "service user: NO_INSTANCE: of 0 known instances none is left; last: deadline exceeded"
        );
        let error = Error::of(&status).unwrap();
        assert!(error.reason() == "NO_INSTANCE" && !error.is_unknown_outcome());
        assert_eq!(Status::from(Error::Deadline).code(), Code::DeadlineExceeded);
        assert!(Error::of(&Status::unavailable("x")).is_none());
    }
}
