//! The cheaper of two random instances.
//!
//! Comparing two instead of all keeps callers from running to the same best one together. An instance that always loses would never
//! be seen to recover; so the loser is taken once if nobody took it for a while. This is bounded twice: by time, as in kratos and
//! go-zero, and as a part of the picks, for with many instances and few calls every loser has waited for long, and time alone
//! would choose the worse of two each time.

use std::time::Duration;

use rand::rngs::SmallRng;

use super::View;

/// A loser that nobody took for this long is tried.
const FORCE_AFTER: Duration = Duration::from_secs(1);

/// At most one pick of so many tries a loser.
const FORCE_EVERY: u32 = 20;

/// The rule's memory.
#[derive(Debug, Default)]
pub(in crate::balance) struct P2c {
    since_forced: u32,
}

impl P2c {
    pub(super) fn choose(&mut self, view: &View<'_>, rng: &mut SmallRng) -> Option<usize> {
        let (a, b) = view.two(rng)?;
        if a == b {
            return Some(a);
        }
        let cost = |place: usize| {
            view.slots[place].cost(view.rtt_unknown, view.options.slow_start, view.now)
        };
        let (winner, loser) = if cost(b) < cost(a) { (b, a) } else { (a, b) };
        self.since_forced = self.since_forced.saturating_add(1);
        let unpicked = view.now.saturating_sub(view.slots[loser].picked_at);
        if unpicked > FORCE_AFTER && self.since_forced >= FORCE_EVERY {
            self.since_forced = 0;
            return Some(loser);
        }
        Some(winner)
    }
}
