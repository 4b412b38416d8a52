//! Chance, from a seed.

use std::{sync::Arc, time::Duration};

use catena_runtime::Random;
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

/// A stream of chances; clones draw from the same stream.
#[derive(Clone)]
pub(crate) struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A stream that belongs to no run, for what must not shift the chances of one.
    pub(crate) fn still() -> Self {
        Self::new(0)
    }

    /// A stream of its own, so that what one part draws does not shift what another gets.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.next_u64())
    }

    /// Less than `end`, which is not 0.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.0.lock().random_range(0..end)
    }

    /// True once in `times`.
    pub(crate) fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Up to `max`.
    pub(crate) fn micros(&self, max: u64) -> Duration {
        Duration::from_micros(self.below(max + 1))
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

impl Random for Chance {
    fn next_u64(&self) -> u64 {
        self.0.lock().random()
    }
}
