//! Putting an instance aside because calls to it fail.
//!
//! ```text
//!           5 failures in a row, or too many of the last ten seconds', or no connection
//!      In ─────────────────────────────────────────────────────────────▶ Out, 1 s × 2ⁿ
//!       ▲                                                               │ time is over
//!       └──────────────── success ─── Trial: one call at a time ◀───────┘
//!                                       └── failure ──▶ Out, twice as long
//! ```
//!
//! One connection that cannot be made is enough, as in gRPC, where it takes an address out of the picker until a pause is over. Five
//! in a row would never come together where they are needed: a rule that goes by cost avoids the instance after the first, and
//! meets it only once in a while, until its lease is over.
//!
//! The balancer decides whether an instance may be put aside at all, for it alone sees how many are.

use std::time::Duration;

use super::{Class, EjectionOptions, hash};

/// Length of the window over which successes are counted, in buckets of one second.
const WINDOW_BUCKETS: usize = 10;

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Takes calls.
    In,
    /// Takes none until then.
    Out { until: Duration },
    /// Takes one call, which decides.
    Trial { in_flight: bool },
}

/// The record of one instance.
#[derive(Clone, Debug)]
pub(super) struct Ejection {
    stand: Stand,
    failures_in_row: u32,
    /// How often it was put aside without a long time in service between.
    times: u32,
    in_since: Duration,
    window: Window,
}

impl Ejection {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            stand: Stand::In,
            failures_in_row: 0,
            times: 0,
            in_since: now,
            window: Window::default(),
        }
    }

    pub(super) fn stand(&self) -> Stand {
        self.stand
    }

    /// Whether a call may be sent.
    pub(super) fn takes_calls(&self) -> bool {
        matches!(self.stand, Stand::In | Stand::Trial { in_flight: false })
    }

    /// Whether the instance is put aside, on trial or not.
    pub(super) fn is_aside(&self) -> bool {
        self.stand != Stand::In
    }

    /// Ends the time aside if it is over; says whether it is.
    pub(super) fn wake(&mut self, now: Duration) -> bool {
        let over = matches!(self.stand, Stand::Out { until } if until <= now);
        if over {
            self.stand = Stand::Trial { in_flight: false };
        }
        over
    }

    /// A call is sent; says whether it is the one that decides.
    pub(super) fn begin(&mut self) -> bool {
        let decides = self.stand == Stand::Trial { in_flight: false };
        if decides {
            self.stand = Stand::Trial { in_flight: true };
        }
        decides
    }

    /// A call is over. Says whether the instance should be put aside.
    pub(super) fn record(
        &mut self,
        class: Class,
        decides: bool,
        options: &EjectionOptions,
        now: Duration,
    ) -> bool {
        if decides && self.stand == (Stand::Trial { in_flight: true }) {
            match class {
                Class::Success => self.readmit(now),
                Class::Failure | Class::Unreachable => return true,
                Class::Canceled => self.stand = Stand::Trial { in_flight: false },
            }
            return false;
        }
        match class {
            Class::Success => self.failures_in_row = 0,
            Class::Failure | Class::Unreachable => {
                self.failures_in_row = self.failures_in_row.saturating_add(1);
            }
            Class::Canceled => return false,
        }
        let failed = class != Class::Success;
        self.window.record(failed, now);
        let is_failing = class == Class::Unreachable || failed && self.is_failing(options, now);
        self.stand == Stand::In && is_failing
    }

    /// Puts the instance aside and returns until when. `salt` makes the jitter this caller's and this instance's own.
    pub(super) fn eject(
        &mut self,
        options: &EjectionOptions,
        salt: u64,
        now: Duration,
    ) -> Duration {
        let in_service = now.saturating_sub(self.in_since);
        if self.stand == Stand::In && in_service > options.max {
            self.times = 0;
        }
        // Beyond this the longest time is reached whatever the base is.
        let doublings = self.times.min(31);
        self.times = self.times.saturating_add(1);
        let spread = hash::fraction(hash::mix(salt ^ u64::from(self.times))) * 2.0 - 1.0;
        let time = options
            .base
            .saturating_mul(1 << doublings)
            .min(options.max)
            .mul_f64((1.0 + options.jitter * spread).max(0.0));
        let until = now + time;
        self.stand = Stand::Out { until };
        self.forget();
        until
    }

    /// Takes the instance back, for an answer or because its caller has changed its mind about ejection.
    pub(super) fn readmit(&mut self, now: Duration) {
        self.stand = Stand::In;
        self.in_since = now;
        self.forget();
    }

    /// Old failures do not count against an instance that comes back.
    fn forget(&mut self) {
        self.failures_in_row = 0;
        self.window = Window::default();
    }

    fn is_failing(&self, options: &EjectionOptions, now: Duration) -> bool {
        if self.failures_in_row >= options.failures_in_row {
            return true;
        }
        let (calls, failures) = self.window.totals(now);
        let successes = f64::from(calls - failures);
        calls >= options.calls_min && successes < options.success_min * f64::from(calls)
    }
}

/// Calls and failures of the last ten seconds.
#[derive(Clone, Debug, Default)]
struct Window {
    buckets: [Bucket; WINDOW_BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    calls: u32,
    failures: u32,
}

impl Window {
    fn record(&mut self, failed: bool, now: Duration) {
        let second = now.as_secs();
        // The remainder is below the number of buckets.
        let bucket = &mut self.buckets[(second % WINDOW_BUCKETS as u64) as usize];
        if bucket.second != second {
            *bucket = Bucket {
                second,
                ..Bucket::default()
            };
        }
        bucket.calls = bucket.calls.saturating_add(1);
        bucket.failures = bucket.failures.saturating_add(u32::from(failed));
    }

    fn totals(&self, now: Duration) -> (u32, u32) {
        let oldest = (now.as_secs() + 1).saturating_sub(WINDOW_BUCKETS as u64);
        self.buckets
            .iter()
            .filter(|bucket| bucket.second >= oldest)
            .fold((0, 0), |(calls, failures), bucket| {
                (
                    calls.saturating_add(bucket.calls),
                    failures.saturating_add(bucket.failures),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: EjectionOptions = EjectionOptions {
        failures_in_row: 5,
        success_min: 0.85,
        calls_min: 20,
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
        jitter: 0.0,
    };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Records calls one after the other; says whether the last one asks for ejection.
    fn record(ejection: &mut Ejection, failures: &[bool], now: Duration) -> bool {
        failures.iter().fold(false, |_, failed| {
            let class = if *failed {
                Class::Failure
            } else {
                Class::Success
            };
            ejection.record(class, false, &OPTIONS, now)
        })
    }

    #[test]
    fn five_failures_in_a_row_eject() {
        let mut ejection = Ejection::new(secs(0));
        assert!(!record(&mut ejection, &[true; 4], secs(1)));
        assert!(!record(&mut ejection, &[false], secs(1)));
        assert!(!record(&mut ejection, &[true; 4], secs(1)));
        assert!(!ejection.record(Class::Canceled, false, &OPTIONS, secs(1)));
        assert!(record(&mut ejection, &[true], secs(1)));
    }

    #[test]
    fn connection_that_cannot_be_made_ejects() {
        let mut ejection = Ejection::new(secs(0));
        record(&mut ejection, &[false; 100], secs(1));
        assert!(ejection.record(Class::Unreachable, false, &OPTIONS, secs(1)));
        let until = ejection.eject(&OPTIONS, 0, secs(1));
        // Calls that were under way find the same out and change nothing.
        assert!(!ejection.record(Class::Unreachable, false, &OPTIONS, secs(1)));
        ejection.wake(until);
        ejection.begin();
        assert!(ejection.record(Class::Unreachable, true, &OPTIONS, until));
    }

    #[test]
    fn too_few_successes_of_the_last_seconds_eject() {
        let mut ejection = Ejection::new(secs(0));
        let mut calls = vec![false; 16];
        calls.extend([true, true, true]);
        assert!(
            !record(&mut ejection, &calls, secs(1)),
            "19 calls are too few"
        );
        assert!(!record(&mut ejection, &[false], secs(2)));
        assert!(
            record(&mut ejection, &[true], secs(3)),
            "17 of 21 succeeded"
        );
        // A window later they are forgotten.
        let mut ejection = Ejection::new(secs(0));
        record(&mut ejection, &calls, secs(1));
        assert!(!record(&mut ejection, &[false, true], secs(12)));
    }

    #[test]
    fn time_aside_doubles_until_a_trial_succeeds() {
        let mut ejection = Ejection::new(secs(0));
        let mut now = secs(100);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let until = ejection.eject(&OPTIONS, 0, now);
            assert_eq!(until - now, secs(expected));
            assert!(!ejection.takes_calls());
            assert!(!ejection.wake(until - Duration::from_nanos(1)));
            assert!(ejection.wake(until));
            assert!(ejection.begin(), "the first call decides");
            assert!(!ejection.takes_calls(), "and is the only one");
            now = until + secs(1);
            assert!(ejection.record(Class::Failure, true, &OPTIONS, now));
        }
        let until = ejection.eject(&OPTIONS, 0, now);
        ejection.wake(until);
        ejection.begin();
        assert!(!ejection.record(Class::Success, true, &OPTIONS, until));
        assert!(!ejection.is_aside());
    }

    #[test]
    fn former_ejections_count_until_a_long_time_in_service() {
        for (in_service, expected) in [(secs(10), secs(2)), (secs(61), secs(1))] {
            let mut ejection = Ejection::new(secs(0));
            let until = ejection.eject(&OPTIONS, 0, secs(100));
            ejection.wake(until);
            ejection.begin();
            ejection.record(Class::Success, true, &OPTIONS, until);
            let now = until + in_service;
            assert_eq!(ejection.eject(&OPTIONS, 0, now) - now, expected);
        }
    }

    #[test]
    fn trial_that_is_canceled_is_repeated() {
        let mut ejection = Ejection::new(secs(0));
        let until = ejection.eject(&OPTIONS, 0, secs(1));
        ejection.wake(until);
        assert!(ejection.begin());
        assert!(!ejection.record(Class::Canceled, true, &OPTIONS, until));
        assert!(ejection.takes_calls() && ejection.begin());
    }

    #[test]
    fn call_from_before_does_not_decide_the_trial() {
        let mut ejection = Ejection::new(secs(0));
        let until = ejection.eject(&OPTIONS, 0, secs(1));
        ejection.wake(until);
        ejection.begin();
        assert!(!ejection.record(Class::Success, false, &OPTIONS, until));
        assert_eq!(ejection.stand(), Stand::Trial { in_flight: true });
    }

    #[test]
    fn jitter_stays_within_its_fraction() {
        let options = EjectionOptions {
            jitter: 0.5,
            ..OPTIONS
        };
        let times: Vec<f64> = (0..1000)
            .map(|salt| {
                let mut ejection = Ejection::new(secs(0));
                ejection
                    .eject(&options, hash::mix(salt), secs(0))
                    .as_secs_f64()
            })
            .collect();
        assert!(times.iter().all(|time| (0.5..1.5).contains(time)));
        let mean = times.iter().sum::<f64>() / 1000.0;
        assert!((0.95..1.05).contains(&mean), "{mean}");
    }
}
