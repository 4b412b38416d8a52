//! The rules by which an instance is chosen from a pool.
//!
//! | rule | what it looks at | cost of a pick |
//! |---|---|---|
//! | [`p2c`] | latency, calls in flight, weight of two random ones | constant |
//! | [`least_request`] | calls in flight, weight of two random ones | constant |
//! | [`random`] | weight | logarithmic |
//! | [`rr`] | whose turn it is | constant |
//! | [`wrr`] | whose turn it is, weight | linear in the number of different weights |
//! | [`ring`] | the call's key, weight, calls in flight | logarithmic; linear for a key whose instance is busy |
//! | [`maglev`] | the call's key, weight | constant |
//!
//! The two that hash are built over a tier's members and step over those that are not in the pool, so that an instance that is
//! ill for a while takes no other instance's keys with it. All others go by the pool.

mod least_request;
mod maglev;
mod p2c;
mod random;
mod ring;
mod rr;
mod wrr;

use std::time::Duration;

use rand::{Rng, rngs::SmallRng};

use self::{maglev::Maglev, p2c::P2c, random::Random, ring::Ring, rr::Rr, wrr::Wrr};
use super::{Algorithm, Options, slot::Slot};

/// How often a rule that knows no fraction of a turn draws again for an instance that is warming up.
const WARM_DRAWS_MAX: usize = 4;

/// What a rule chooses from and by.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) slots: &'a [Slot],
    /// Places in `slots`, in rising order.
    pub(super) pool: &'a [usize],
    pub(super) options: &'a Options,
    pub(super) hash: Option<u64>,
    pub(super) rtt_unknown: f64,
    pub(super) now: Duration,
}

impl View<'_> {
    fn contains(&self, place: usize) -> bool {
        self.pool.binary_search(&place).is_ok()
    }

    /// The weight of an instance, less while it is new.
    fn weight(&self, place: usize) -> f64 {
        let slot = &self.slots[place];
        f64::from(slot.weight()) * slot.warmth(self.options.slow_start, self.now)
    }

    /// Draws with `draw` until an instance is warm enough.
    fn draw_warm(&self, rng: &mut SmallRng, mut draw: impl FnMut(&mut SmallRng) -> usize) -> usize {
        let mut place = draw(rng);
        for _ in 1..WARM_DRAWS_MAX {
            let warmth = self.slots[place].warmth(self.options.slow_start, self.now);
            if warmth >= 1.0 || rng.random::<f64>() < warmth {
                break;
            }
            place = draw(rng);
        }
        place
    }

    /// Two distinct places; the same one twice if there is no other.
    fn two(&self, rng: &mut SmallRng) -> Option<(usize, usize)> {
        match self.pool {
            [] => None,
            [only] => Some((*only, *only)),
            pool => {
                let first = rng.random_range(0..pool.len());
                let second = rng.random_range(0..pool.len() - 1);
                let second = second + usize::from(second >= first);
                Some((pool[first], pool[second]))
            }
        }
    }
}

/// A rule and what it remembers.
#[derive(Debug)]
pub(super) enum Rule {
    P2c(P2c),
    Wrr(Wrr),
    Rr(Rr),
    Random(Random),
    LeastRequest,
    Ring(Ring),
    Maglev(Maglev),
}

impl Rule {
    pub(super) fn new(algorithm: Algorithm, rng: &mut SmallRng) -> Self {
        match algorithm {
            Algorithm::P2cEwma => Self::P2c(P2c::default()),
            Algorithm::Wrr => Self::Wrr(Wrr::new(rng.random())),
            Algorithm::Rr => Self::Rr(Rr::new(rng.random())),
            Algorithm::Random => Self::Random(Random::default()),
            Algorithm::LeastRequest => Self::LeastRequest,
            Algorithm::Ring => Self::Ring(Ring::default()),
            Algorithm::Maglev => Self::Maglev(Maglev::default()),
        }
    }

    /// The list has changed.
    pub(super) fn set_members(&mut self, members: &[usize], slots: &[Slot]) {
        match self {
            Self::Ring(ring) => ring.build(members, slots),
            Self::Maglev(maglev) => maglev.build(members, slots),
            Self::P2c(_) | Self::Wrr(_) | Self::Rr(_) | Self::Random(_) | Self::LeastRequest => {}
        }
    }

    /// The list or the health of an instance has changed.
    pub(super) fn set_pool(&mut self, pool: &[usize], slots: &[Slot]) {
        match self {
            Self::Wrr(wrr) => wrr.set_pool(pool, slots),
            Self::Random(random) => random.set_pool(pool, slots),
            Self::P2c(_) | Self::Rr(_) | Self::LeastRequest | Self::Ring(_) | Self::Maglev(_) => {}
        }
    }

    /// Chooses a place for a call's first attempt.
    pub(super) fn choose(&mut self, view: &View<'_>, rng: &mut SmallRng) -> Option<usize> {
        if view.pool.is_empty() {
            return None;
        }
        match self {
            Self::P2c(p2c) => p2c.choose(view, rng),
            Self::Wrr(wrr) => wrr.choose(view),
            Self::Rr(rr) => Some(rr.choose(view, rng)),
            Self::Random(random) => Some(random.choose(view, rng)),
            Self::LeastRequest => least_request::choose(view, rng),
            Self::Ring(ring) => ring.choose(view, rng),
            Self::Maglev(maglev) => maglev.choose(view, rng),
        }
    }

    /// Chooses a place for a further attempt, when the pool lacks what was tried: turns are not counted then.
    pub(super) fn choose_again(&mut self, view: &View<'_>, rng: &mut SmallRng) -> Option<usize> {
        match self {
            Self::Wrr(_) | Self::Rr(_) | Self::Random(_) => random::once(view, rng),
            Self::P2c(_) | Self::LeastRequest | Self::Ring(_) | Self::Maglev(_) => {
                self.choose(view, rng)
            }
        }
    }
}
