//! Which part of the instances a caller uses, so that many callers do not each connect to all of many instances.
//!
//! Callers have slots, numbered without gaps. Each run of `n / size` slots is a round; a round shuffles the instances in its own
//! way and deals them out in chunks, one to each of its slots. So within a round no instance is used twice, and with `size` dividing
//! `n` all instances are used by the same number of callers, give or take one, whatever the number of callers is. (go-zero takes a
//! random part, which leaves some instances with twice the callers of others.)

use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};

/// The places, in a list of `count` instances that is in the same order at every caller, which the caller uses. In rising order.
pub(super) fn places(count: usize, size: usize, slot: u64) -> Vec<usize> {
    if size == 0 || count <= size {
        return (0..count).collect();
    }
    // At least one, because count > size.
    let chunks = (count / size) as u64;
    let mut places: Vec<usize> = (0..count).collect();
    places.shuffle(&mut SmallRng::seed_from_u64(slot / chunks));
    let begin = (slot % chunks) as usize * size;
    let mut chosen = places[begin..begin + size].to_vec();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(count: usize, size: usize, callers: u64) -> Vec<usize> {
        let mut uses = vec![0; count];
        for slot in 0..callers {
            let chosen = places(count, size, slot);
            assert_eq!(chosen.len(), size.min(count));
            chosen.into_iter().for_each(|place| uses[place] += 1);
        }
        uses
    }

    #[test]
    fn instances_have_the_same_number_of_callers() {
        for (count, size) in [(100, 25), (300, 25), (12, 3), (50, 50), (8, 1)] {
            for callers in [1, 3, 10, 37, 100] {
                let uses = uses(count, size, callers);
                let (min, max) = (uses.iter().min().unwrap(), uses.iter().max().unwrap());
                assert!(max - min <= 1, "{count} by {size} for {callers}: {uses:?}");
            }
        }
    }

    #[test]
    fn leftovers_change_with_the_round() {
        // 25 does not divide 110: ten are left out in each round, others in the next.
        let uses = uses(110, 25, 400);
        let (min, max) = (uses.iter().min().unwrap(), uses.iter().max().unwrap());
        assert!(*min > 70 && *max <= 100, "{min} {max}");
    }

    #[test]
    fn few_instances_are_all_used() {
        assert_eq!(places(3, 25, 7), [0, 1, 2]);
        assert_eq!(places(3, 0, 7), [0, 1, 2]);
        assert!(places(0, 1, 0).is_empty());
    }
}
