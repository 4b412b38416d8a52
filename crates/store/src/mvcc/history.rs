//! The revisions of one key.
//!
//! A put on an existing key is the most frequent change of all. Copying the path to the key in the index for each of them costs a
//! reference count, and a cache miss, for every neighbour on the way. It is needless, since a history only grows and whoever reads
//! at a revision is not disturbed by later items. So roots of the index share the history of a key, the writer appends to it, and
//! nobody takes a lock. Only when its few slots are used up the key gets a new history, as it does when compaction drops something.
//!
//! ```text
//!   older runs, immutable: … ◀─ 32 ◀─ 16 ◀─ 8 ◀─ 4 │ first item, in place │ slots, filled one by one
//! ```
//!
//! A run is merged with its neighbour while that one is not longer. So the chain is logarithmic in length, a push costs a few copies
//! of items on average. Slots and [runs](super::run) keep of a change only what does not follow from the one before it.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
};

use super::{item::Item, run::Run};

/// Items that are appended to a shared history before the key gets a new one.
const SLOTS: usize = 3;

/// All changes of a key that compaction has not removed; never empty.
#[derive(Debug)]
pub(crate) struct History {
    older: Option<Arc<Run>>,
    // The first item. As a field of its own it would end in padding.
    main: i64,
    create: i64,
    version: i64,
    sub: u32,
    /// Places of the items after the first, each written before its revision is.
    subs: [AtomicU32; SLOTS],
    /// Their revisions, filled from the front and each once: 0 where free, negative for a tombstone.
    mains: [AtomicI64; SLOTS],
}

/// What a compaction leaves of a history.
#[derive(Debug)]
pub(super) enum Compacted {
    /// All of it.
    Unchanged,
    /// A part.
    Part(History),
    /// Nothing.
    Nothing,
}

impl History {
    pub(crate) fn new(first: Item) -> Self {
        Self::after(None, first)
    }

    fn after(older: Option<Arc<Run>>, first: Item) -> Self {
        Self {
            older,
            main: first.main,
            create: first.create,
            version: first.version,
            sub: first.sub,
            subs: Default::default(),
            mains: Default::default(),
        }
    }

    /// One of these changes, ascending; `None` if there are none.
    pub(super) fn of(mut items: Vec<Item>) -> Option<Self> {
        let newest = items.pop()?;
        let older = (!items.is_empty()).then(|| Run::push(None, items));
        Some(Self::after(older, newest))
    }

    /// Appends a change, which is newer than all others, if there is a slot for it. Only for the writer.
    #[must_use]
    pub(super) fn push(&self, item: Item) -> bool {
        let mut slots = self.mains.iter().zip(&self.subs);
        let free = slots.find(|(main, _)| main.load(Ordering::Relaxed) == 0);
        let Some((main, sub)) = free.filter(|_| self.newest().leads_to(&item)) else {
            return false;
        };
        sub.store(item.sub, Ordering::Relaxed);
        let sign = if item.is_tombstone() { -1 } else { 1 };
        main.store(sign * item.main, Ordering::Release);
        true
    }

    /// A history with all changes of this one and a newer one.
    pub(super) fn grown(&self, item: Item) -> Self {
        let recent = self.recent().collect();
        Self::after(Some(Run::push(self.older.clone(), recent)), item)
    }

    /// The newest change. Only for the writer: readers ask for a revision.
    pub(crate) fn newest(&self) -> Item {
        self.recent().last().unwrap_or(self.first())
    }

    /// The newest change at or before `main`.
    pub(crate) fn at(&self, main: i64) -> Option<Item> {
        self.last(|item| item.main <= main)
    }

    /// The newest change that satisfies `is_early`, which holds for a change if it holds for a later one.
    fn last(&self, is_early: impl Fn(&Item) -> bool) -> Option<Item> {
        let recent = self.recent().take_while(&is_early).last();
        recent.or_else(|| self.runs().find_map(|run| run.last(&is_early)))
    }

    fn first(&self) -> Item {
        Item {
            main: self.main,
            create: self.create,
            version: self.version,
            sub: self.sub,
        }
    }

    /// The changes that are not in a run, ascending.
    fn recent(&self) -> impl Iterator<Item = Item> {
        let slots = self.mains.iter().zip(&self.subs);
        let later = slots.scan(self.first(), |last, (main, sub)| {
            let main = main.load(Ordering::Acquire);
            let sub = sub.load(Ordering::Relaxed);
            *last = last.then(main.abs(), sub, main < 0);
            (main != 0).then_some(*last)
        });
        iter::once(self.first()).chain(later)
    }

    /// Newest first.
    fn runs(&self) -> impl Iterator<Item = &Run> {
        iter::successors(self.older.as_deref(), |run: &&Run| run.older())
    }

    /// All changes, newest first, a run at a time.
    fn items(&self) -> impl Iterator<Item = Item> {
        let recent: Vec<Item> = self.recent().collect();
        let older = self.runs().map(|run| run.items().collect());
        iter::once(recent)
            .chain(older)
            .flat_map(|items: Vec<Item>| items.into_iter().rev())
    }

    /// The change that a compaction at `main` keeps: the newest one at or before it, unless that is an older tombstone.
    pub(crate) fn kept_at(&self, main: i64) -> Option<Item> {
        self.at(main)
            .filter(|item| !item.is_tombstone() || item.main == main)
    }

    /// The change that etcd's hash at `main` counts as kept: the live one, but not if a generation ended in the same revision before
    /// it (a transaction can delete a key and put it again).
    pub(super) fn hashed_at(&self, main: i64) -> Option<Item> {
        let item = self.at(main).filter(|item| !item.is_tombstone())?;
        let place = (item.main, item.sub);
        let before = self.last(|other| (other.main, other.sub) < place);
        let reborn = before.is_some_and(|before| before.is_tombstone() && before.main == main);
        (!reborn).then_some(item)
    }

    /// What a compaction at `main` leaves.
    pub(super) fn compact(&self, main: i64) -> Compacted {
        let kept = self.kept_at(main);
        let oldest = self.runs().last().and_then(|run| run.items().next());
        let oldest = oldest.unwrap_or(self.first());
        if oldest.main > main || Some(oldest) == kept {
            return Compacted::Unchanged;
        }
        let later = self.items().take_while(|item| item.main > main);
        let mut left: Vec<Item> = later.chain(kept).collect();
        left.reverse();
        Self::of(left).map_or(Compacted::Nothing, Compacted::Part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A history of revisions 1, 3, 5 … of which every seventh is a tombstone, and the same as a plain list.
    fn sample(len: i64) -> (History, Vec<Item>) {
        let first = Item::first(1, 0);
        let (mut history, mut items) = (History::new(first), vec![first]);
        for i in 1..len {
            let item = history.newest().then(2 * i + 1, 0, i % 7 == 6);
            if !history.push(item) {
                history = history.grown(item);
            }
            assert_eq!(history.newest(), item);
            items.push(item);
        }
        (history, items)
    }

    #[test]
    fn look_up_equals_a_plain_list() {
        for len in [1, 2, 3, 4, 6, 7, 8, 63, 64, 1000] {
            let (history, items) = sample(len);
            for main in 0..2 * len + 2 {
                let expected = items.iter().rfind(|item| item.main <= main);
                assert_eq!(
                    history.at(main).as_ref(),
                    expected,
                    "length {len}, revision {main}"
                );
            }
        }
    }

    #[test]
    fn chain_is_logarithmic() {
        let (history, _) = sample(100_000);
        assert!(history.runs().count() <= 16);
    }

    #[test]
    fn compaction_keeps_what_the_rule_says() {
        for len in [1, 2, 9, 20, 70] {
            for at in 0..2 * len + 2 {
                let (history, items) = sample(len);
                let newest = items.iter().rev().find(|item| item.main <= at);
                let base = newest.filter(|item| !item.is_tombstone() || item.main == at);
                let later = items.iter().filter(|item| item.main > at);
                let kept: Vec<Item> = base.into_iter().chain(later).copied().collect();
                let mut left: Vec<Item> = match history.compact(at) {
                    Compacted::Unchanged => items.iter().rev().copied().collect(),
                    Compacted::Part(history) => history.items().collect(),
                    Compacted::Nothing => vec![],
                };
                left.reverse();
                assert_eq!(left, kept, "length {len}, compacted at {at}");
                let untouched = history.items().eq(items.iter().rev().copied());
                assert!(untouched, "others share this history");
            }
        }
    }

    #[test]
    fn a_key_that_was_written_once_costs_little() {
        assert!(size_of::<History>() <= 72);
    }

    #[test]
    fn what_an_imported_database_says_is_kept_as_it_is() {
        let first = Item::first(5, 0);
        let odd = Item {
            version: 9,
            ..first.put(7, 3)
        };
        let history = History::new(first);
        assert!(!history.push(odd), "no slot has room for its version");
        let history = history.grown(odd);
        assert!(history.items().eq([odd, first]));
        assert_eq!(history.at(6), Some(first));
    }
}
