//! The search: is there a legal order of these calls that respects real time?
//!
//! The algorithm is Wing and Gong's with Lowe's memory: calls and returns in one list by time; the first call that the object can
//! take is taken out with its return; at a return that was not taken out, the last choice was wrong. What was tried, as a set of
//! calls taken with the state that they led to, is remembered and not tried again.
//!
//! A call that fits and changes nothing is taken at once and for good: it could not fit better later, and nothing depends on it.
//! Without this, a read that is passed over is missed only at its return, many choices later.

use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
};

use super::super::hash::{Mixer, Quick};

/// A call of an operation.
pub(super) struct Call<O> {
    /// The operation in the history; several calls may come from one.
    pub(super) id: u64,
    pub(super) call_ns: u64,
    pub(super) return_ns: u64,
    pub(super) op: O,
}

/// Something that operations act on, one at a time.
pub(super) trait Object {
    /// Its state.
    type State: Clone + Hash;
    /// What can be done to it, answer included.
    type Op;
    /// The state afterwards; `None` if the answer does not fit the state.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;
    /// Whether it fits this state, and leaves every state that it fits as it is.
    fn neutral(&self, state: &Self::State, op: &Self::Op) -> bool;
}

/// What a search finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is an order.
    Legal,
    /// There is none. The search came furthest at a call of this operation, which fits nowhere.
    Illegal(u64, u64),
    /// It took too long to say.
    Undecided,
}

/// The most steps of one search. A legal history takes a few for each call.
const STEPS_MAX: u64 = 5_000_000;

/// One end of a call in the list, with its neighbours.
struct Entry {
    call: usize,
    returns: bool,
    prev: usize,
    next: usize,
}

struct List {
    entries: Vec<Entry>,
    /// For each call, the places of its ends.
    ends: Vec<(usize, usize)>,
}

/// The place of the list's head, which is no end of a call; also what comes after the last.
const HEAD: usize = 0;

impl List {
    fn new<O>(calls: &[Call<O>]) -> Self {
        let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * calls.len());
        for (at, call) in calls.iter().enumerate() {
            // At one instant calls come before returns: such operations overlap.
            order.push((call.call_ns, false, at));
            order.push((call.return_ns, true, at));
        }
        order.sort_unstable();
        let last = order.len();
        let head = Entry {
            call: usize::MAX,
            returns: false,
            prev: last,
            next: if last == 0 { HEAD } else { 1 },
        };
        let mut ends = vec![(0, 0); calls.len()];
        let mut entries = vec![head];
        for (at, (_, returns, call)) in order.into_iter().enumerate() {
            let place = at + 1;
            match returns {
                true => ends[call].1 = place,
                false => ends[call].0 = place,
            }
            entries.push(Entry {
                call,
                returns,
                prev: at,
                next: if place == last { HEAD } else { place + 1 },
            });
        }
        Self { entries, ends }
    }

    fn unlink(&mut self, place: usize) {
        let Entry { prev, next, .. } = self.entries[place];
        self.entries[prev].next = next;
        self.entries[next].prev = prev;
    }

    fn relink(&mut self, place: usize) {
        let Entry { prev, next, .. } = self.entries[place];
        self.entries[prev].next = place;
        self.entries[next].prev = place;
    }

    fn take(&mut self, call: usize) {
        let (begins, returns) = self.ends[call];
        self.unlink(begins);
        self.unlink(returns);
    }

    fn put_back(&mut self, call: usize) {
        let (begins, returns) = self.ends[call];
        self.relink(returns);
        self.relink(begins);
    }
}

/// A choice that was made.
struct Taken<S> {
    call: usize,
    /// The state before, if there is something else to try in it.
    before: Option<S>,
}

/// Searches for an order of `calls` from a first state.
pub(super) fn search<T: Object>(object: &T, first: T::State, calls: &[Call<T::Op>]) -> Found {
    let mut list = List::new(calls);
    let mut state = first;
    let mut taken: Vec<Taken<T::State>> = Vec::new();
    let mut tried: HashSet<(u64, u64), Quick> = HashSet::default();
    let mut set = 0;
    let mut furthest = (0, HEAD);
    let mut place = HEAD;
    for _ in 0..STEPS_MAX {
        if list.entries[HEAD].next == HEAD {
            return Found::Legal;
        }
        if place == HEAD {
            while let Some(call) = neutral(object, &state, &list, calls) {
                set ^= mark(call);
                taken.push(Taken { call, before: None });
                list.take(call);
            }
            place = list.entries[HEAD].next;
            continue;
        }
        let Entry {
            call,
            returns,
            next,
            ..
        } = list.entries[place];
        if !returns {
            let after = object.step(&state, &calls[call].op);
            let after = after.filter(|after| tried.insert((set ^ mark(call), digest(after))));
            match after {
                Some(after) => {
                    set ^= mark(call);
                    let before = Some(std::mem::replace(&mut state, after));
                    taken.push(Taken { call, before });
                    list.take(call);
                    place = HEAD;
                }
                None => place = next,
            }
            continue;
        }
        if taken.len() >= furthest.0 {
            furthest = (taken.len(), call);
        }
        let Some((call, before)) = undo(&mut taken, &mut list, &mut set) else {
            let stuck = &calls[furthest.1];
            return Found::Illegal(stuck.id, stuck.return_ns);
        };
        state = before;
        place = list.entries[list.ends[call].0].next;
    }
    Found::Undecided
}

/// A call that may come next, fits, and changes nothing.
fn neutral<T: Object>(
    object: &T,
    state: &T::State,
    list: &List,
    calls: &[Call<T::Op>],
) -> Option<usize> {
    let mut place = list.entries[HEAD].next;
    while place != HEAD && !list.entries[place].returns {
        let call = list.entries[place].call;
        if object.neutral(state, &calls[call].op) {
            return Some(call);
        }
        place = list.entries[place].next;
    }
    None
}

/// Takes back choices, up to the last one that was a choice. Returns its call and the state before it.
fn undo<S>(taken: &mut Vec<Taken<S>>, list: &mut List, set: &mut u64) -> Option<(usize, S)> {
    while let Some(Taken { call, before }) = taken.pop() {
        *set ^= mark(call);
        list.put_back(call);
        if let Some(before) = before {
            return Some((call, before));
        }
    }
    None
}

/// A number for each call, such that the sums of different sets differ (splitmix64).
fn mark(call: usize) -> u64 {
    let mut mixed = (call as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn digest(state: &impl Hash) -> u64 {
    let mut hasher = Mixer::default();
    state.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that is written and read.
    struct Register;

    enum Op {
        Write(u32),
        Read(u32),
    }

    impl Object for Register {
        type State = u32;
        type Op = Op;

        fn step(&self, state: &u32, op: &Op) -> Option<u32> {
            match op {
                Op::Write(value) => Some(*value),
                Op::Read(value) => (state == value).then_some(*state),
            }
        }

        fn neutral(&self, state: &u32, op: &Op) -> bool {
            matches!(op, Op::Read(value) if value == state)
        }
    }

    fn found(calls: Vec<(u64, u64, Op)>) -> Found {
        let calls: Vec<_> = calls
            .into_iter()
            .zip(0..)
            .map(|((call_ns, return_ns, op), id)| Call {
                id,
                call_ns,
                return_ns,
                op,
            })
            .collect();
        search(&Register, 0, &calls)
    }

    #[test]
    fn overlapping_calls_may_come_in_any_order() {
        let calls = vec![
            (0, 10, Op::Write(1)),
            (1, 9, Op::Read(0)),
            (2, 8, Op::Read(1)),
        ];
        assert_eq!(found(calls), Found::Legal);
    }

    #[test]
    fn real_time_is_respected() {
        let calls = vec![(0, 1, Op::Write(1)), (2, 3, Op::Read(0))];
        assert_eq!(found(calls), Found::Illegal(1, 3));
        let calls = vec![
            (0, 10, Op::Write(1)),
            (1, 2, Op::Read(1)),
            (3, 4, Op::Read(0)),
        ];
        assert_eq!(found(calls), Found::Illegal(2, 4));
    }
}
