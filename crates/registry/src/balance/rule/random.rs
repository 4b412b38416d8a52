//! At random, by weight.

use rand::{Rng, rngs::SmallRng};

use super::View;
use crate::balance::slot::Slot;

/// The pool's weights, summed up.
#[derive(Debug, Default)]
pub(in crate::balance) struct Random {
    sums: Vec<u64>,
}

impl Random {
    pub(super) fn set_pool(&mut self, pool: &[usize], slots: &[Slot]) {
        let mut sum = 0;
        let weights = pool.iter().map(|place| u64::from(slots[*place].weight()));
        self.sums = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
    }

    /// The pool is the one last set, and not empty.
    pub(super) fn choose(&self, view: &View<'_>, rng: &mut SmallRng) -> usize {
        let total = self.sums.last().copied().unwrap_or(1);
        view.draw_warm(rng, |rng| {
            let drawn = rng.random_range(0..total);
            let turn = self.sums.partition_point(|sum| *sum <= drawn);
            view.pool[turn]
        })
    }
}

/// Chooses from a pool that is used once.
pub(super) fn once(view: &View<'_>, rng: &mut SmallRng) -> Option<usize> {
    let total: f64 = view.pool.iter().map(|place| view.weight(*place)).sum();
    let mut drawn = rng.random::<f64>() * total;
    let chosen = view.pool.iter().find(|place| {
        drawn -= view.weight(**place);
        drawn < 0.0
    });
    // Rounding may leave a rest behind the last one.
    chosen.or(view.pool.last()).copied()
}
