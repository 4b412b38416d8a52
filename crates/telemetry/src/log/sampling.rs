//! Keeps a storm of one message from filling the disk, as zap's sampler does.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
};

/// What is written of one message within one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    window_secs: u64,
    /// So many at first …
    first: u64,
    /// … and then one in so many.
    thereafter: u64,
}

/// Of our own messages, as in etcd.
pub(super) const OURS: Rate = Rate {
    window_secs: 1,
    first: 100,
    thereafter: 100,
};

/// Of a place in a library. Consensus warns of each attempt to reach a peer that is away, and attempts are many.
pub(super) const LIBRARY: Rate = Rate {
    window_secs: 10,
    first: 1,
    thereafter: 10_000,
};

/// Messages are counted by hash in so many places; two that share one only make sampling begin earlier.
const SLOTS: usize = 1024;

/// Counts messages of the present window.
pub(super) struct Sampler {
    rate: Rate,
    slots: Mutex<Vec<Slot>>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    window: u64,
    count: u64,
}

impl Sampler {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            slots: Mutex::new(vec![Slot::default(); SLOTS]),
        }
    }

    pub(super) fn admits(&self, second: u64, message: &str) -> bool {
        let window = second / self.rate.window_secs;
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[hasher.finish() as usize % SLOTS];
        if slot.window != window {
            *slot = Slot { window, count: 0 };
        }
        slot.count += 1;
        let beyond = slot.count.saturating_sub(self.rate.first);
        beyond.is_multiple_of(self.rate.thereafter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_thinned_out_and_other_messages_are_not() {
        let sampler = Sampler::new(OURS);
        let admitted = (0..1000).filter(|_| sampler.admits(7, "storm")).count();
        assert_eq!(admitted, 109);
        assert!(sampler.admits(7, "calm"));
        assert!(sampler.admits(8, "storm"));
    }
}
