//! Latencies, counted in buckets of equal relative width.

use std::time::Duration;

/// Each power of two is cut into so many buckets: a quantile is told to within 1/64.
const STEPS: usize = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// How often each latency was seen, in nanoseconds.
///
/// Below 64 ns each value has a bucket; above, each octave has 64. As in HdrHistogram, but without a bound to configure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Counts one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket(nanos);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// How many were counted.
    pub(crate) fn len(&self) -> u64 {
        self.total
    }

    /// The latency that a share of all does not exceed; zero if there are none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < STEPS as u64 {
        return nanos as usize;
    }
    // The highest bit and the six behind it.
    let shift = nanos.ilog2() - STEP_BITS;
    (shift as usize) * STEPS + (nanos >> shift) as usize
}

/// The greatest value in a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let mantissa = (bucket % STEPS + STEPS) as u64;
    ((mantissa + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_without_gap_and_narrow() {
        for nanos in (0..10_000).chain([1 << 20, (1 << 40) + 12_345, u64::MAX >> 8]) {
            let upper = upper(bucket(nanos));
            assert!(upper >= nanos, "{nanos} is above its bucket");
            assert!(upper - nanos <= nanos / STEPS as u64, "{nanos}: {upper}");
            assert_eq!(bucket(upper + 1), bucket(nanos) + 1, "{nanos}");
        }
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        assert_eq!(histogram.len(), 1000);
        for (share, micros) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let ratio = histogram.quantile(share).as_secs_f64() * 1e6 / micros;
            assert!((1.0..1.016).contains(&ratio), "{share}: {ratio}");
        }
    }

    #[test]
    fn nothing_counted_has_no_latency() {
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
    }
}
