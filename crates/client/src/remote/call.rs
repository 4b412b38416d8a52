//! One call: attempts, repetitions, deadline.
//!
//! The rules are those of etcd's own client. A read is repeated when it fails with `Unavailable`, at most [`ATTEMPTS_MAX`] times,
//! with a pause each time a majority of the members has been asked. A write is repeated only if no byte of it was sent; an
//! answer of the server, `Unavailable` too, is final, for the write may have been done. A learner serves neither, so any call moves
//! on from one.

use std::{future::Future, time::Duration};

use catena_api::errors;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Response, Status, metadata::MetadataValue, transport::Channel};

use super::endpoints::Endpoints;
use crate::{Error, Result};

/// Attempts before the last error is given to the caller.
const ATTEMPTS_MAX: usize = 100;

/// Pause between rounds of attempts, give or take a tenth.
const PAUSE: Duration = Duration::from_millis(25);

/// When a call may be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The call changes nothing, or the same however often it is made.
    Always,
    /// The call is a write.
    IfUnsent,
}

/// Makes a call at one member after the other until it is answered, may not be repeated, or `timeout` has passed.
pub(super) async fn call<Q, A, F>(
    endpoints: &Endpoints,
    timeout: Duration,
    repeat: Repeat,
    request: Q,
    send: impl Fn(Channel, tonic::Request<Q>) -> F + Send + Sync,
) -> Result<A>
where
    Q: Clone + Send + Sync,
    F: Future<Output = Result<Response<A>, Status>> + Send,
{
    let deadline = Instant::now() + timeout;
    for count in 1.. {
        let (attempt, channel) = endpoints.attempt();
        let mut message = tonic::Request::new(request.clone());
        message.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let error = match timeout_at(deadline, send(channel, message)).await {
            Ok(Ok(response)) => {
                attempt.done();
                return Ok(response.into_inner());
            }
            Ok(Err(status)) => Error::from(status),
            Err(_elapsed) => Error::Deadline,
        };
        if leaves_endpoint(&error) {
            drop(attempt);
        } else {
            attempt.done();
        }
        if !may_repeat(repeat, &error) || count >= ATTEMPTS_MAX {
            return Err(error);
        }
        if count % endpoints.majority() == 0 {
            let pause = PAUSE.mul_f64(rand::random_range(0.9..1.1));
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            sleep(pause).await;
        }
    }
    unreachable!("the loop returns at the last attempt")
}

/// Asks the member to end the call when it loses its leader.
pub(super) fn mark_require_leader<T>(request: &mut tonic::Request<T>) {
    request
        .metadata_mut()
        .insert("hasleader", MetadataValue::from_static("true"));
}

fn may_repeat(repeat: Repeat, error: &Error) -> bool {
    if matches!(error, Error::Unreachable(_)) || error.is(errors::NOT_SUPPORTED_FOR_LEARNER) {
        return true;
    }
    match repeat {
        Repeat::Always => error.code() == Code::Unavailable,
        Repeat::IfUnsent => false,
    }
}

/// Whether another member may do better.
fn leaves_endpoint(error: &Error) -> bool {
    matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded)
        || error.is(errors::NOT_SUPPORTED_FOR_LEARNER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unsent_writes_are_repeated() {
        let unavailable = Error::from(errors::TIMEOUT);
        let cases = [
            (Repeat::Always, unavailable.clone(), true),
            (Repeat::IfUnsent, unavailable, false),
            (Repeat::Always, Error::Lost(String::new()), true),
            (Repeat::IfUnsent, Error::Lost(String::new()), false),
            (Repeat::IfUnsent, Error::Unreachable(String::new()), true),
            (
                Repeat::IfUnsent,
                errors::NOT_SUPPORTED_FOR_LEARNER.into(),
                true,
            ),
            (Repeat::Always, errors::EMPTY_KEY.into(), false),
            (Repeat::Always, Error::Deadline, false),
        ];
        for (repeat, error, expected) in cases {
            assert_eq!(may_repeat(repeat, &error), expected, "{repeat:?} {error:?}");
        }
    }
}
