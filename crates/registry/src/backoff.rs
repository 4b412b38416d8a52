//! Pauses between attempts at a store that does not answer.

use std::time::Duration;

use rand::Rng;

/// The first pause at most.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause: with the pulse that wakes those who wait, 200 registrations are back within 5 seconds after the store is.
const LONGEST: Duration = Duration::from_secs(2);

/// Within this time all who waited for the store come back to it, so that they do not come at once.
pub(crate) const RETURN_SPREAD: Duration = Duration::from_millis(500);

/// Full jitter over a doubling span: any pause from zero to the span.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause.
    pub(crate) fn pause(&mut self, rng: &mut impl Rng) -> Duration {
        let span = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        rng.random_range(Duration::ZERO..=span)
    }

    /// Begins again with the shortest span.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// When one of those who waited comes back.
pub(crate) fn return_jitter(rng: &mut impl Rng) -> Duration {
    rng.random_range(Duration::ZERO..=RETURN_SPREAD)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn spans_double_up_to_two_seconds() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::default();
        for exponent in 0..100 {
            let span = Duration::from_millis(50 << exponent.min(6)).min(LONGEST);
            let pause = backoff.pause(&mut rng);
            assert!(pause <= span, "{exponent}: {pause:?}");
        }
        // The jitter is full: over a thousand draws both ends are come near to.
        let pauses: Vec<_> = (0..1000).map(|_| backoff.pause(&mut rng)).collect();
        assert!(pauses.iter().any(|pause| *pause < LONGEST / 20));
        assert!(pauses.iter().any(|pause| *pause > LONGEST * 19 / 20));
        backoff.reset();
        assert!(backoff.pause(&mut rng) <= FIRST);
    }
}
