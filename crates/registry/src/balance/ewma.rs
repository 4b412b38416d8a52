//! A latency average that believes bad news at once and good news slowly.
//!
//! A sample above the average replaces it; a lower one is blended in with the weight that the old value has lost since the last
//! sample, `1 - e^(-dt/tau)`. The first sample is the average.

use std::time::Duration;

/// What a failed call counts as, at least: an instance that fails fast must not look fast.
const FAILURE: Duration = Duration::from_secs(5);

/// The longest time for which an instance can ask to be left alone.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The average of one instance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeakEwma {
    /// The average in seconds and when it was last touched.
    state: Option<(f64, Duration)>,
}

impl PeakEwma {
    /// The average in seconds; `None` before the first sample.
    pub(super) fn value(&self) -> Option<f64> {
        self.state.map(|(value, _)| value)
    }

    /// Takes the latency of an answered call.
    pub(super) fn record(&mut self, sample: Duration, tau: Duration, now: Duration) {
        let sample = sample.as_secs_f64();
        let value = match self.state {
            Some((old, at)) if sample < old => {
                let elapsed = now.saturating_sub(at).as_secs_f64();
                let kept = (-elapsed / tau.as_secs_f64()).exp();
                old * kept + sample * (1.0 - kept)
            }
            _ => sample,
        };
        self.state = Some((value, now));
    }

    /// Takes a failed call.
    pub(super) fn record_failure(&mut self, retry_after: Option<Duration>, now: Duration) {
        let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        let penalty = FAILURE.max(asked).as_secs_f64();
        let value = self.value().unwrap_or_default().max(penalty);
        self.state = Some((value, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAU: Duration = Duration::from_secs(10);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn peak_replaces_and_lower_blends() {
        let mut ewma = PeakEwma::default();
        assert_eq!(ewma.value(), None);
        ewma.record(secs(1), TAU, secs(0));
        assert_eq!(ewma.value(), Some(1.0));
        ewma.record(secs(3), TAU, secs(1));
        assert_eq!(ewma.value(), Some(3.0));
        ewma.record(secs(1), TAU, secs(11));
        let kept = (-1.0f64).exp();
        let expected = 3.0 * kept + (1.0 - kept);
        assert!((ewma.value().unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn failure_counts_as_five_seconds_or_what_was_asked() {
        let mut ewma = PeakEwma::default();
        ewma.record(secs(1), TAU, secs(0));
        ewma.record_failure(None, secs(1));
        assert_eq!(ewma.value(), Some(5.0));
        ewma.record_failure(Some(secs(7)), secs(2));
        assert_eq!(ewma.value(), Some(7.0));
        ewma.record_failure(Some(secs(1000)), secs(3));
        assert_eq!(ewma.value(), Some(300.0));
        ewma.record_failure(None, secs(4));
        assert_eq!(ewma.value(), Some(300.0));
    }

    #[test]
    fn clock_that_stands_still_keeps_the_average() {
        let mut ewma = PeakEwma::default();
        ewma.record(secs(2), TAU, secs(5));
        ewma.record(secs(1), TAU, secs(4));
        assert_eq!(ewma.value(), Some(2.0));
    }
}
