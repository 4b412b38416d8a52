//! Time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::BoxFuture;

/// Monotonic time for every interval, wall time only for what people or etcd's id rule ask for.
pub trait Clock: Send + Sync + 'static {
    /// Time since an arbitrary origin; never goes back.
    fn now(&self) -> Duration;

    /// Seconds since the Unix epoch.
    fn unix_secs(&self) -> u64;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock, timers by tokio.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose origin is now.
    #[allow(
        clippy::new_without_default,
        reason = "a default that reads the clock would surprise"
    )]
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn unix_secs(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
