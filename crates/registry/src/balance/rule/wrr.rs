//! Smooth weighted round robin, nginx's: every instance gains its weight, the richest one is chosen and pays the sum of all weights.
//! Weights 5, 1, 1 give `a a b a c a a` and not `a a a a a b c`.

use std::{collections::HashMap, time::Duration};

use super::View;
use crate::balance::{Key, slot::Slot};

/// Parts that a weight is counted in, so that a tenth of weight 1 is something.
const SCALE: f64 = 1000.0;

/// Turns that a new rule is moved ahead, at most: enough to keep callers that start together apart.
const AHEAD_MAX: u32 = 64;

/// What each instance of the pool has gained.
#[derive(Debug)]
pub(in crate::balance) struct Wrr {
    keys: Vec<Key>,
    weights: Vec<i64>,
    gains: Vec<i64>,
    /// Until then, weights rise.
    warm_at: Option<Duration>,
    ahead: u32,
}

impl Wrr {
    pub(super) fn new(ahead: u32) -> Self {
        Self {
            keys: Vec::new(),
            weights: Vec::new(),
            gains: Vec::new(),
            warm_at: None,
            ahead: ahead % AHEAD_MAX,
        }
    }

    pub(super) fn set_pool(&mut self, pool: &[usize], slots: &[Slot]) {
        let former: HashMap<Key, i64> = std::mem::take(&mut self.keys)
            .into_iter()
            .zip(std::mem::take(&mut self.gains))
            .collect();
        for place in pool {
            let key = slots[*place].key;
            self.keys.push(key);
            self.gains
                .push(former.get(&key).copied().unwrap_or_default());
        }
        let weight = |place: &usize| (f64::from(slots[*place].weight()) * SCALE) as i64;
        self.weights = pool.iter().map(weight).collect();
        self.warm_at = Some(Duration::MAX);
        for _ in 0..std::mem::take(&mut self.ahead) {
            self.turn();
        }
    }

    /// The pool is the one last set.
    pub(super) fn choose(&mut self, view: &View<'_>) -> Option<usize> {
        if self.warm_at.is_some_and(|at| view.now < at) {
            self.warm_up(view);
        }
        self.turn().map(|turn| view.pool[turn])
    }

    /// Three plain loops, which the compiler turns into vector code, where one with a branch in it would take three times as long.
    fn turn(&mut self) -> Option<usize> {
        for (gain, weight) in self.gains.iter_mut().zip(&self.weights) {
            *gain += weight;
        }
        let most = self.gains.iter().copied().max()?;
        let richest = self.gains.iter().position(|gain| *gain == most)?;
        self.gains[richest] -= self.weights.iter().sum::<i64>();
        Some(richest)
    }

    fn warm_up(&mut self, view: &View<'_>) {
        let slow_start = view.options.slow_start;
        let mut warm_at = Duration::ZERO;
        for (weight, place) in self.weights.iter_mut().zip(view.pool) {
            *weight = ((view.weight(*place) * SCALE) as i64).max(1);
            warm_at = warm_at.max(view.slots[*place].warm_at(slow_start));
        }
        self.warm_at = (view.now < warm_at).then_some(warm_at);
    }
}
