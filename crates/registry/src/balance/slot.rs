//! What is known of one instance, kept as long as its address and its epoch stay the same.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{Exclusion, ejection::Ejection, ewma::PeakEwma, hash};
use crate::{Endpoint, Instance, Scheme};

/// The latency that an instance is given while nobody has a sample.
pub(super) const RTT_UNKNOWN_SECS: f64 = 1.0;

/// The least latency that a cost is made of: below it, clocks and schedulers decide.
const RTT_MIN_SECS: f64 = 1e-6;

/// Calls without an answer whose age is watched, the oldest ones. More of them say nothing new.
const WAITING_MAX: usize = 200;

/// The share of its weight with which a new instance starts.
const SLOW_START_MIN: f64 = 0.1;

/// The weight that means "one share"; also what weight 0 counts as where all are 0.
pub(super) const WEIGHT_UNIT: u32 = 100;

/// Names an instance's slot. It is never given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub(super) u64);

impl Key {
    #[cfg(test)]
    pub(crate) fn from_raw(key: u64) -> Self {
        Self(key)
    }
}

/// What a caller knows of one instance, to be shown.
#[derive(Clone, Debug)]
pub struct SlotView {
    /// The slot.
    pub key: Key,
    /// The instance.
    pub instance: Arc<Instance>,
    /// Its endpoint of a scheme that the caller speaks; `None` if it has none.
    pub endpoint: Option<Arc<Endpoint>>,
    /// Calls in flight.
    pub in_flight: u32,
    /// The latency average; `None` before the first answer.
    pub rtt: Option<Duration>,
    /// What checks found.
    pub alive: bool,
    /// Whether it is put aside because calls failed.
    pub ejected: bool,
}

/// One instance.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    pub(super) instance: Arc<Instance>,
    /// The endpoint that the caller speaks to; `None` if it speaks to none.
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) exclusion: Option<Exclusion>,
    /// The hash of the id.
    pub(super) hash: u64,
    pub(super) ewma: PeakEwma,
    pub(super) ejection: Ejection,
    pub(super) alive: bool,
    pub(super) in_flight: u32,
    pub(super) picked_at: Duration,
    /// When it began to take calls; `None` if it did so before it was first seen.
    warming_since: Option<Duration>,
    /// Calls without an answer and their starts, oldest first, at most [`WAITING_MAX`].
    waiting: VecDeque<(u64, Duration)>,
}

impl Slot {
    pub(super) fn new(
        key: Key,
        instance: Arc<Instance>,
        schemes: &[Scheme],
        now: Duration,
    ) -> Self {
        Self {
            key,
            hash: hash::of(instance.id.as_bytes()),
            endpoint: instance.endpoint(schemes).cloned().map(Arc::new),
            exclusion: Exclusion::of(&instance, schemes),
            instance,
            ewma: PeakEwma::default(),
            ejection: Ejection::new(now),
            alive: true,
            in_flight: 0,
            picked_at: now,
            warming_since: None,
            waiting: VecDeque::new(),
        }
    }

    /// Takes another view of the same instance. One that begins to take calls warms up.
    pub(super) fn update(&mut self, instance: Arc<Instance>, schemes: &[Scheme], now: Duration) {
        if Arc::ptr_eq(&self.instance, &instance) {
            return;
        }
        let fresh = Self::new(self.key, instance, schemes, now);
        if self.exclusion.is_some() && fresh.exclusion.is_none() {
            self.warm_up(now);
        }
        self.hash = fresh.hash;
        self.endpoint = fresh.endpoint;
        self.exclusion = fresh.exclusion;
        self.instance = fresh.instance;
    }

    /// Starts to give the instance less than its share.
    pub(super) fn warm_up(&mut self, now: Duration) {
        self.warming_since = Some(now);
    }

    /// Whether it may be called at all.
    pub(super) fn is_callable(&self) -> bool {
        self.exclusion.is_none()
    }

    /// When it gets its whole share.
    pub(super) fn warm_at(&self, slow_start: Duration) -> Duration {
        self.warming_since
            .map_or(Duration::ZERO, |since| since + slow_start)
    }

    /// The weight as registered, where it counts at all.
    pub(super) fn weight(&self) -> u32 {
        match self.instance.weight {
            0 => WEIGHT_UNIT,
            weight => weight,
        }
    }

    /// The fraction of its share that it gets now.
    pub(super) fn warmth(&self, slow_start: Duration, now: Duration) -> f64 {
        let Some(since) = self.warming_since else {
            return 1.0;
        };
        let age = now.saturating_sub(since);
        if age >= slow_start {
            return 1.0;
        }
        (age.as_secs_f64() / slow_start.as_secs_f64()).max(SLOW_START_MIN)
    }

    /// Whether it may be called without regard to how many others may.
    pub(super) fn is_healthy(&self) -> bool {
        self.alive && self.ejection.takes_calls()
    }

    /// What one more call to it costs, in seconds of one share. `rtt_unknown` stands for a latency without sample.
    pub(super) fn cost(&self, rtt_unknown: f64, slow_start: Duration, now: Duration) -> f64 {
        let rtt = self.ewma.value().unwrap_or(rtt_unknown).max(RTT_MIN_SECS);
        let rtt = self.waiting_age(rtt, now).unwrap_or(rtt);
        let share = f64::from(self.weight()) / f64::from(WEIGHT_UNIT);
        rtt * f64::from(self.in_flight + 1) / (share * self.warmth(slow_start, now))
    }

    /// The mean age of the calls that have waited for longer than `rtt`, if more than half have. This is how an instance that
    /// hangs is noticed before any of its calls ends.
    fn waiting_age(&self, rtt: f64, now: Duration) -> Option<f64> {
        let mut count = 0usize;
        let mut sum = 0.0;
        for (_, started) in &self.waiting {
            let age = now.saturating_sub(*started).as_secs_f64();
            if age <= rtt {
                break;
            }
            count += 1;
            sum += age;
        }
        (count * 2 > self.waiting.len()).then(|| sum / count as f64)
    }

    /// A call is sent. Says whether its outcome decides about the instance.
    pub(super) fn begin(&mut self, call: u64, now: Duration) -> bool {
        self.in_flight = self.in_flight.saturating_add(1);
        self.picked_at = now;
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((call, now));
        }
        self.ejection.begin()
    }

    /// A call waits no more.
    pub(super) fn stop_waiting(&mut self, call: u64) {
        // Calls are numbered as they come, so the queue is sorted.
        if let Ok(place) = self.waiting.binary_search_by_key(&call, |(call, _)| *call) {
            self.waiting.remove(place);
        }
    }

    pub(super) fn view(&self) -> SlotView {
        SlotView {
            key: self.key,
            instance: Arc::clone(&self.instance),
            endpoint: self.endpoint.clone(),
            in_flight: self.in_flight,
            rtt: self.ewma.value().map(Duration::from_secs_f64),
            alive: self.alive,
            ejected: self.ejection.is_aside(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::sim_tests::instance;

    const SLOW_START: Duration = Duration::from_secs(30);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn slot() -> Slot {
        Slot::new(Key(1), Arc::new(instance("a")), &[Scheme::Grpc], secs(0))
    }

    fn cost(slot: &Slot, now: Duration) -> f64 {
        slot.cost(RTT_UNKNOWN_SECS, SLOW_START, now)
    }

    #[test]
    fn cost_is_latency_times_calls_by_weight() {
        let mut slot = slot();
        assert_eq!(cost(&slot, secs(0)), 1.0);
        slot.ewma
            .record(Duration::from_millis(500), secs(10), secs(0));
        slot.begin(1, secs(0));
        assert_eq!(cost(&slot, secs(0)), 1.0);
        let mut lighter = instance("a");
        lighter.weight = 50;
        slot.update(Arc::new(lighter), &[Scheme::Grpc], secs(0));
        assert_eq!(cost(&slot, secs(0)), 2.0);
    }

    #[test]
    fn warmth_rises_from_a_tenth() {
        let mut slot = slot();
        assert_eq!(slot.warmth(SLOW_START, secs(0)), 1.0);
        slot.warm_up(secs(100));
        for (now, expected) in [(100, 0.1), (101, 0.1), (115, 0.5), (130, 1.0), (500, 1.0)] {
            assert_eq!(slot.warmth(SLOW_START, secs(now)), expected, "{now}");
        }
        assert_eq!(slot.warmth(Duration::ZERO, secs(100)), 1.0);
    }

    #[test]
    fn age_of_waiting_calls_counts_when_most_are_overdue() {
        let mut slot = slot();
        slot.ewma.record(secs(1), secs(10), secs(0));
        slot.begin(1, secs(0));
        slot.begin(2, secs(2));
        slot.begin(3, secs(9));
        assert_eq!(cost(&slot, secs(10)), 9.0 * 4.0, "ages 10 and 8 of three");
        slot.stop_waiting(2);
        assert_eq!(cost(&slot, secs(10)), 4.0, "one of two is not most");
    }

    #[test]
    fn watched_calls_are_bounded() {
        let mut slot = slot();
        for call in 0..1000 {
            slot.begin(call, secs(0));
        }
        assert_eq!((slot.in_flight, slot.waiting.len()), (1000, WAITING_MAX));
        slot.stop_waiting(999);
        slot.stop_waiting(0);
        assert_eq!(slot.waiting.len(), WAITING_MAX - 1);
    }
}
