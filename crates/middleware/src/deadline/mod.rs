//! The moment by which an answer is of use, carried from the edge to the database.
//!
//! The edge sets it once: the lesser of what the client says and what the route allows. Whatever is called outward gets what is left
//! of it, less [`MARGIN`], so that the one who waits hears from the one who works and not from its own clock. Work that outlives
//! the request leaves the task, and with it the deadline: a task that is spawned does not inherit it.
//!
//! The timeout that tonic implements covers the wait for the head of the answer alone and ends as `Cancelled`; this one covers
//! bodies and trailers too (`body`), and ends as `DeadlineExceeded`.

pub(crate) mod body;
pub(crate) mod header;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub use header::{GRPC_TIMEOUT, REQUEST_TIMEOUT_MS, write_grpc};

use crate::error::{Error, Result, reasons};

/// What one hop keeps for itself of the time that is left.
pub const MARGIN: Duration = Duration::from_millis(5);

tokio::task_local! {
    static CURRENT: Deadline;
}

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from `now`; none if that is beyond what the clock can say.
    pub fn after(now: Instant, limit: Duration) -> Option<Self> {
        now.checked_add(limit).map(Self)
    }

    /// The deadline of the current task, if it has one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|deadline| *deadline).ok()
    }

    /// What is left.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The moment.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// Runs `work` by this deadline: it sees it as the current one, and is dropped when it passes.
    pub async fn enforce<F: Future>(self, work: F) -> Result<F::Output> {
        if self.remaining().is_zero() {
            return Err(Error::of(&reasons::DEADLINE_EXCEEDED));
        }
        let work = CURRENT.scope(self, work);
        tokio::time::timeout_at(self.0.into(), work)
            .await
            .map_err(|_elapsed| Error::of(&reasons::DEADLINE_EXCEEDED))
    }
}

/// The time that a call outward may take: its own limit, or what is left of the deadline if that is less. Fails if nothing is left.
pub fn outbound(own: Duration) -> Result<Duration> {
    let Some(deadline) = Deadline::current() else {
        return Ok(own);
    };
    let left = deadline.remaining().saturating_sub(MARGIN);
    if left.is_zero() {
        return Err(Error::of(&reasons::DEADLINE_EXCEEDED));
    }
    Ok(own.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_ends_what_waits() {
        let deadline = Deadline::after(Instant::now(), Duration::from_millis(20)).unwrap();
        let ended = deadline
            .enforce(std::future::pending::<()>())
            .await
            .unwrap_err();
        assert!(ended.is(&reasons::DEADLINE_EXCEEDED));
    }

    #[tokio::test]
    async fn a_spent_deadline_starts_nothing() {
        let deadline = Deadline(Instant::now());
        let ended = deadline.enforce(async { unreachable!("not polled") }).await;
        assert!(ended.is_err());
    }

    #[tokio::test]
    async fn what_goes_out_has_less_than_what_is_left() {
        let own = Duration::from_secs(2);
        assert_eq!(outbound(own).unwrap(), own);
        let far = Deadline::after(Instant::now(), Duration::from_secs(60)).unwrap();
        assert_eq!(
            far.enforce(async { outbound(own) }).await.unwrap().unwrap(),
            own
        );
        let near = Deadline::after(Instant::now(), Duration::from_secs(1)).unwrap();
        let left = near
            .enforce(async { outbound(own) })
            .await
            .unwrap()
            .unwrap();
        assert!(left <= Duration::from_millis(995), "{left:?}");
    }

    #[tokio::test]
    async fn what_is_spawned_has_no_deadline() {
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(60)).unwrap();
        let seen = deadline.enforce(async {
            let spawned = tokio::spawn(async { Deadline::current() });
            (Deadline::current(), spawned.await.unwrap())
        });
        assert_eq!(seen.await.unwrap(), (Some(deadline), None));
    }
}
