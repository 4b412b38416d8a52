//! When the leader was last heard.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use catena_runtime::Clock;

/// The time of the last word from a leader; cheap to clone, all see the same.
#[derive(Clone)]
pub(crate) struct Heard {
    clock: Arc<dyn Clock>,
    /// Nanoseconds of the clock; 0: never.
    at: Arc<AtomicU64>,
}

impl Heard {
    /// Nothing was heard yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            at: Arc::default(),
        }
    }

    /// A leader was heard.
    pub(crate) fn now(&self) {
        let now = self.clock.now().as_nanos() as u64;
        self.at.store(now.max(1), Ordering::Relaxed);
    }

    /// When that was.
    pub(crate) fn at(&self) -> Option<Duration> {
        match self.at.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// How long ago that is.
    pub(crate) fn ago(&self) -> Option<Duration> {
        self.at().map(|at| self.clock.now().saturating_sub(at))
    }
}
