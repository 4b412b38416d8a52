//! Stands in for the crate `base2histogram` where openraft counts sizes of batches, which nobody can read: that takes openraft's
//! feature `runtime-stats`, which is off.
//!
//! The real crate computes tables for sixteen scales, of which openraft uses one, when the first histogram is made. They take 26 MiB
//! in every process for as long as it lives, two fifths of what an empty member needs. Here nothing is counted and nothing is kept.

use std::{fmt, marker::PhantomData};

/// Counts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { slots: PhantomData }
    }

    /// Forgets `value`.
    pub fn record(&mut self, _value: u64) {}

    /// Forgets `value`.
    pub fn record_n(&mut self, _value: u64, _count: u64) {}

    /// Those of no sample.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Percentiles of no sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named by what it is")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not counted")
    }
}

/// Draws nothing.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self
    }

    /// The same.
    #[must_use]
    pub fn add(self, _name: &str, _histogram: Histogram) -> Self {
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}
