//! A consistent hash by a table, Google's Maglev: each instance has its own order of preference over the table's entries, and in
//! turn, by weight, each takes the next free entry that it prefers. The entries differ by at most one between equal instances, so
//! keys are spread more evenly than by a ring; taking an instance away moves a few keys of others too.

use rand::{Rng, rngs::SmallRng};

use super::View;
use crate::balance::{hash, slot::Slot};

/// Entries of the table. A prime, so that every stride visits all of them; large beside the number of instances, so that shares are
/// even to the percent.
const TABLE: usize = 65537;

/// How many entries are looked at for an instance that is in the pool before the pool itself is.
const STEPS_MAX: usize = 16;

const FREE: usize = usize::MAX;

/// The place of an instance for each entry.
#[derive(Debug, Default)]
pub(in crate::balance) struct Maglev {
    table: Vec<usize>,
}

/// An instance that takes entries.
struct Taker {
    place: usize,
    weight: u64,
    next: usize,
    stride: usize,
    /// What it has gained of a turn.
    gained: u64,
}

impl Taker {
    fn new(place: usize, slot: &Slot) -> Self {
        Self {
            place,
            weight: u64::from(slot.weight()),
            next: below(slot.hash, TABLE),
            stride: below(hash::mix(slot.hash), TABLE - 1) + 1,
            gained: 0,
        }
    }

    fn take(&mut self, table: &mut [usize]) {
        while table[self.next] != FREE {
            self.next = (self.next + self.stride) % TABLE;
        }
        table[self.next] = self.place;
    }
}

impl Maglev {
    pub(super) fn build(&mut self, members: &[usize], slots: &[Slot]) {
        // More instances than entries would leave some without any.
        let members = &members[..members.len().min(TABLE)];
        let mut takers: Vec<Taker> = members
            .iter()
            .map(|place| Taker::new(*place, &slots[*place]))
            .collect();
        let heaviest = takers.iter().map(|taker| taker.weight).max().unwrap_or(1);
        self.table = vec![FREE; TABLE];
        let mut free = if takers.is_empty() { 0 } else { TABLE };
        while free > 0 {
            for taker in &mut takers {
                taker.gained += taker.weight;
                if taker.gained < heaviest {
                    continue;
                }
                taker.gained -= heaviest;
                taker.take(&mut self.table);
                free -= 1;
                if free == 0 {
                    break;
                }
            }
        }
    }

    pub(super) fn choose(&self, view: &View<'_>, rng: &mut SmallRng) -> Option<usize> {
        let mut hash = view.hash.unwrap_or_else(|| rng.random());
        for _ in 0..STEPS_MAX {
            let place = self.table[below(hash, TABLE)];
            if view.contains(place) {
                return Some(place);
            }
            hash = hash::mix(hash);
        }
        let pool = view.pool;
        (!pool.is_empty()).then(|| pool[below(hash, pool.len())])
    }
}

/// The remainder of a hash.
fn below(hash: u64, bound: usize) -> usize {
    (hash % bound as u64) as usize
}
