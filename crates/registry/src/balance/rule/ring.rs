//! A consistent hash with bounded load.
//!
//! Every instance has points on a ring, as many as its weight asks for. A call goes to the instance whose point follows the
//! call's hash; an instance that has its share of the calls in flight and a quarter more is stepped over ("Consistent Hashing
//! with Bounded Loads", Mirrokni, Thorup, Zadimoghaddam), so a key that everybody asks for is shared by its neighbours. Taking an
//! instance away moves its own keys and no others.

use rand::{Rng, rngs::SmallRng};

use super::View;
use crate::balance::{
    hash,
    slot::{Slot, WEIGHT_UNIT},
};

/// Points of an instance of weight 100.
const POINTS: u64 = 160;

/// Points of a whole ring, at most: 16 MiB. Above, all instances get fewer.
const RING_POINTS_MAX: u64 = 1 << 20;

/// What the product of a load and a weight may be off.
const ROUNDING: f64 = 1e-6;

/// The points in the order of their hashes, each with the place of its instance.
#[derive(Debug, Default)]
pub(in crate::balance) struct Ring {
    points: Vec<(u64, usize)>,
}

impl Ring {
    pub(super) fn build(&mut self, members: &[usize], slots: &[Slot]) {
        let wanted = |place: usize| u64::from(slots[place].weight()) * POINTS;
        let sum: u64 = members.iter().map(|place| wanted(*place)).sum();
        let unit = u64::from(WEIGHT_UNIT).max(sum.div_ceil(RING_POINTS_MAX));
        self.points.clear();
        for place in members {
            let own = slots[*place].hash;
            let count = (wanted(*place) / unit).max(1);
            let points = (0..count).map(|point| hash::mix(own ^ hash::mix(point)));
            self.points.extend(points.map(|hash| (hash, *place)));
        }
        self.points.sort_unstable();
    }

    pub(super) fn choose(&self, view: &View<'_>, rng: &mut SmallRng) -> Option<usize> {
        let hash = view.hash.unwrap_or_else(|| rng.random());
        let begin = self.points.partition_point(|(point, _)| *point < hash);
        let (head, tail) = self.points.split_at(begin);
        let mut bound = None;
        let mut first = None;
        for (_, place) in tail.iter().chain(head) {
            if !view.contains(*place) {
                continue;
            }
            // Every bound leaves room for one call, so an idle instance needs no sum over the others.
            if view.slots[*place].in_flight == 0
                || bound
                    .get_or_insert_with(|| Bound::new(view))
                    .admits(view, *place)
            {
                return Some(*place);
            }
            first = first.or(Some(*place));
        }
        first
    }
}

/// How many calls in flight an instance may have, by its weight.
struct Bound {
    /// For each unit of weight.
    load: f64,
}

impl Bound {
    fn new(view: &View<'_>) -> Self {
        let (calls, weight) = view
            .pool
            .iter()
            .fold((1u64, 0u64), |(calls, weight), place| {
                let slot = &view.slots[*place];
                (
                    calls + u64::from(slot.in_flight),
                    weight + u64::from(slot.weight()),
                )
            });
        Self {
            load: view.options.ring_load * calls as f64 / weight as f64,
        }
    }

    fn admits(&self, view: &View<'_>, place: usize) -> bool {
        let slot = &view.slots[place];
        // A product that rounding has lifted above a whole number is that number.
        let share = (self.load * f64::from(slot.weight()) - ROUNDING).ceil();
        f64::from(slot.in_flight + 1) <= share
    }
}
