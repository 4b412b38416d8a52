//! Which instance is to be checked when, and what the findings add up to. Pure: the time and the generator come from outside.

use std::{collections::HashMap, time::Duration};

use rand::{Rng, rngs::SmallRng};

use crate::balance::Key;

/// By which fraction the time between two checks varies, so that callers that start together do not check together for ever.
const JITTER: f64 = 0.1;

/// The instances under watch.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    failures_max: u32,
    rng: SmallRng,
    targets: HashMap<Key, Target>,
}

#[derive(Debug)]
struct Target {
    due_at: Duration,
    running: bool,
    failures: u32,
    alive: bool,
}

impl Schedule {
    pub(super) fn new(interval: Duration, failures_max: u32, rng: SmallRng) -> Self {
        Self {
            interval,
            failures_max: failures_max.max(1),
            rng,
            targets: HashMap::new(),
        }
    }

    /// Takes the instances to be watched. New ones are first checked at a random moment of the first interval.
    pub(super) fn set_targets(&mut self, keys: impl Iterator<Item = Key>, now: Duration) {
        let mut former = std::mem::take(&mut self.targets);
        for key in keys {
            let target = former.remove(&key).unwrap_or_else(|| Target {
                due_at: now + self.interval.mul_f64(self.rng.random()),
                running: false,
                failures: 0,
                alive: true,
            });
            self.targets.insert(key, target);
        }
    }

    /// Takes up to `room` instances that are due, the longest overdue first. Each is under way until it is recorded.
    pub(super) fn due(&mut self, now: Duration, room: usize) -> Vec<Key> {
        let targets = self.targets.iter();
        let due = targets.filter(|(_, target)| !target.running && target.due_at <= now);
        let mut due: Vec<_> = due.map(|(key, target)| (target.due_at, *key)).collect();
        due.sort_unstable();
        due.truncate(room);
        for (_, key) in &due {
            if let Some(target) = self.targets.get_mut(key) {
                target.running = true;
            }
        }
        due.into_iter().map(|(_, key)| key).collect()
    }

    /// Takes what a check found; whether the instance is alive, if that has changed.
    pub(super) fn record(&mut self, key: Key, well: bool, now: Duration) -> Option<bool> {
        let target = self.targets.get_mut(&key)?;
        target.running = false;
        let spread = self.rng.random_range(1.0 - JITTER..1.0 + JITTER);
        target.due_at = now + self.interval.mul_f64(spread);
        target.failures = if well {
            0
        } else {
            target.failures.saturating_add(1)
        };
        let alive = if target.alive {
            target.failures < self.failures_max
        } else {
            well
        };
        let changed = alive != target.alive;
        target.alive = alive;
        changed.then_some(alive)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn schedule(count: u64) -> (Schedule, Vec<Key>) {
        let keys: Vec<Key> = (0..count).map(Key::from_raw).collect();
        let mut schedule = Schedule::new(INTERVAL, 2, SmallRng::seed_from_u64(1));
        schedule.set_targets(keys.iter().copied(), Duration::ZERO);
        (schedule, keys)
    }

    #[test]
    fn two_failures_kill_and_one_success_revives() {
        let (mut schedule, keys) = schedule(1);
        let mut record = |well| schedule.record(keys[0], well, Duration::ZERO);
        assert_eq!(record(false), None);
        assert_eq!(record(true), None);
        assert_eq!(record(false), None);
        assert_eq!(record(false), Some(false));
        assert_eq!(record(false), None);
        assert_eq!(record(true), Some(true));
        assert_eq!(record(false), None);
    }

    #[test]
    fn first_checks_are_spread_and_bounded_in_number() {
        let (mut schedule, _) = schedule(100);
        assert!(schedule.due(Duration::from_secs(1), 100).len() < 40);
        let due = schedule.due(INTERVAL, 16);
        assert_eq!(due.len(), 16);
        let more = schedule.due(INTERVAL, 100);
        assert!(due.iter().all(|key| !more.contains(key)), "one at a time");
    }

    #[test]
    fn instance_is_checked_once_in_an_interval() {
        let (mut schedule, keys) = schedule(1);
        let mut checks = 0;
        for tenth in 0..600 {
            let now = Duration::from_millis(100 * tenth);
            for key in schedule.due(now, 16) {
                checks += 1;
                schedule.record(key, true, now);
            }
        }
        assert!((11..=13).contains(&checks), "{checks} in a minute");
        schedule.set_targets(std::iter::empty(), INTERVAL * 100);
        assert!(schedule.due(INTERVAL * 200, 16).is_empty());
        assert_eq!(schedule.record(keys[0], false, INTERVAL), None);
    }
}
