//! Of two random instances, the one with fewer calls in flight for its weight.

use rand::rngs::SmallRng;

use super::View;

pub(super) fn choose(view: &View<'_>, rng: &mut SmallRng) -> Option<usize> {
    let (a, b) = view.two(rng)?;
    let load = |place: usize| f64::from(view.slots[place].in_flight + 1) / view.weight(place);
    Some(if load(b) < load(a) { b } else { a })
}
