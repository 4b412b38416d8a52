//! One after the other, from a random one on, so that callers that start together do not walk together.

use rand::rngs::SmallRng;

use super::View;

/// Whose turn it is.
#[derive(Debug)]
pub(in crate::balance) struct Rr {
    next: usize,
}

impl Rr {
    pub(super) fn new(start: u32) -> Self {
        // Any number will do, reduced by the size of the pool when that is known.
        Self {
            next: start as usize,
        }
    }

    /// The pool is not empty.
    pub(super) fn choose(&mut self, view: &View<'_>, rng: &mut SmallRng) -> usize {
        view.draw_warm(rng, |_| {
            let turn = self.next % view.pool.len();
            self.next = turn + 1;
            view.pool[turn]
        })
    }
}
