//! A handler that panics costs its own request and no more.
//!
//! This stands outside of everything else that answers. What it catches are panics of this one future, so the connection and its
//! other requests go on; line and count of the request are written as its future is dropped. The store lives in the same process
//! and must not go on after a panic: see [`catena_telemetry::panic`], whose hook ends the process for all that is not covered here.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use catena_telemetry::panic;

use crate::error::{Error, Result};

/// What `work` gives, or the error that stands for its panic.
pub async fn catch<F: Future>(work: F) -> Result<F::Output> {
    let mut work = pin!(work);
    poll_fn(|cx| match part(|| work.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

/// A part of a request: what it gives, or the error that stands for its panic, after which it is not to be run again.
pub(crate) fn part<T>(part: impl FnOnce() -> T) -> Result<T> {
    panic::cover(part).map_err(Error::internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_says_why_to_the_log() {
        let panics = async {
            tokio::task::yield_now().await;
            panic!("index {} is out", 7)
        };
        let caught: Result<()> = catch(panics).await;
        let error = caught.unwrap_err();
        assert_eq!(error.code(), 500);
        assert_eq!(error.causes().unwrap(), "panic: index 7 is out");
    }

    #[tokio::test]
    async fn what_does_not_panic_is_handed_on() {
        let seen = catch(async {
            tokio::task::yield_now().await;
            7
        });
        assert_eq!(seen.await.unwrap(), 7);
    }
}
