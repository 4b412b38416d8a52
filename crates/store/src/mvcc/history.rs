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
//! of items on average, and a key that was written once needs neither runs nor slots.

use std::sync::{Arc, OnceLock};

use super::revision::Revision;

/// Items that are appended to a shared history before the key gets a new one.
const SLOTS: usize = 3;

/// One change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Revision of the change.
    pub(crate) main: i64,
    /// Revision that began the generation; 0 in a tombstone.
    pub(crate) create: i64,
    /// Number of writes in the generation, this one included; 0 in a tombstone.
    pub(crate) version: i64,
    /// Place of the change in its command.
    pub(crate) sub: u32,
}

impl Item {
    pub(crate) fn revision(&self) -> Revision {
        Revision {
            main: self.main,
            sub: i64::from(self.sub),
        }
    }

    /// Whether it ends a generation.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// All changes of a key that compaction has not removed; never empty.
#[derive(Debug)]
pub(crate) struct History {
    older: Option<Arc<Run>>,
    first: Item,
    /// Filled from the front; a slot is filled once.
    slots: OnceLock<Box<[OnceLock<Item>; SLOTS]>>,
}

#[derive(Debug)]
struct Run {
    /// Ascending.
    items: Box<[Item]>,
    older: Option<Arc<Run>>,
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
        Self {
            older: None,
            first,
            slots: OnceLock::new(),
        }
    }

    /// One of these changes, ascending; `None` if there are none.
    pub(super) fn of(mut items: Vec<Item>) -> Option<Self> {
        let newest = items.pop()?;
        let older = (!items.is_empty()).then(|| Run::push(None, items.into()));
        Some(Self {
            older,
            ..Self::new(newest)
        })
    }

    /// Appends a change, which is newer than all others, if there is a slot left. Only for the writer.
    #[must_use]
    pub(super) fn push(&self, item: Item) -> bool {
        let slots = self.slots.get_or_init(Box::default);
        let free = slots.iter().find(|slot| slot.get().is_none());
        free.is_some_and(|slot| slot.set(item).is_ok())
    }

    /// A history with all changes of this one and a newer one.
    pub(super) fn grown(&self, item: Item) -> Self {
        let recent: Box<[Item]> = self.recent().rev().copied().collect();
        Self {
            older: Some(Run::push(self.older.clone(), recent)),
            ..Self::new(item)
        }
    }

    /// The newest change. Only for the writer: readers ask for a revision.
    pub(crate) fn newest(&self) -> &Item {
        self.recent().next().unwrap_or(&self.first)
    }

    /// The newest change at or before `main`.
    pub(crate) fn at(&self, main: i64) -> Option<&Item> {
        self.last(|item| item.main <= main)
    }

    /// The newest change that satisfies `is_early`, which holds for a change if it holds for a later one.
    fn last(&self, is_early: impl Fn(&Item) -> bool) -> Option<&Item> {
        let recent = self.recent().find(|item| is_early(item));
        recent.or_else(|| {
            let run = self.runs().find(|run| is_early(&run.items[0]))?;
            let early = run.items.partition_point(&is_early);
            Some(&run.items[early - 1])
        })
    }

    /// The changes that are not in a run, newest first.
    fn recent(&self) -> impl DoubleEndedIterator<Item = &Item> {
        let slots = self.slots.get().into_iter().flat_map(|slots| slots.iter());
        let slots = slots.filter_map(OnceLock::get).rev();
        slots.chain(std::iter::once(&self.first))
    }

    /// Newest first.
    fn runs(&self) -> impl Iterator<Item = &Run> {
        std::iter::successors(self.older.as_deref(), |run: &&Run| Run::older(run))
    }

    /// All changes, newest first.
    fn items(&self) -> impl Iterator<Item = &Item> {
        let older = self.runs().flat_map(|run| run.items.iter().rev());
        self.recent().chain(older)
    }

    /// The change that a compaction at `main` keeps: the newest one at or before it, unless that is an older tombstone.
    pub(crate) fn kept_at(&self, main: i64) -> Option<&Item> {
        self.at(main)
            .filter(|item| !item.is_tombstone() || item.main == main)
    }

    /// The change that etcd's hash at `main` counts as kept: the live one, but not if a generation ended in the same revision before
    /// it (a transaction can delete a key and put it again).
    pub(super) fn hashed_at(&self, main: i64) -> Option<&Item> {
        let item = self.at(main).filter(|item| !item.is_tombstone())?;
        let place = (item.main, item.sub);
        let before = self.last(|other| (other.main, other.sub) < place);
        let reborn = before.is_some_and(|before| before.is_tombstone() && before.main == main);
        (!reborn).then_some(item)
    }

    /// What a compaction at `main` leaves.
    pub(super) fn compact(&self, main: i64) -> Compacted {
        let kept = self.kept_at(main);
        let oldest = self.runs().last().map_or(&self.first, |run| &run.items[0]);
        if oldest.main > main || Some(oldest) == kept {
            return Compacted::Unchanged;
        }
        let later = self.items().take_while(|item| item.main > main);
        let mut left: Vec<Item> = later.chain(kept).copied().collect();
        left.reverse();
        Self::of(left).map_or(Compacted::Nothing, Compacted::Part)
    }
}

impl Run {
    fn older(&self) -> Option<&Run> {
        self.older.as_deref()
    }

    /// Puts a run before others, merged with those that are not longer.
    fn push(mut older: Option<Arc<Run>>, mut items: Box<[Item]>) -> Arc<Run> {
        while let Some(run) = older.as_ref().filter(|run| run.items.len() <= items.len()) {
            items = run.items.iter().chain(&items[..]).copied().collect();
            older = run.older.clone();
        }
        Arc::new(Run { items, older })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(main: i64, version: i64) -> Item {
        Item {
            main,
            create: 1,
            version,
            sub: 0,
        }
    }

    /// A history of revisions 1, 3, 5 … of which every seventh is a tombstone, and the same as a plain list.
    fn sample(len: i64) -> (History, Vec<Item>) {
        let items: Vec<Item> = (0..len)
            .map(|i| item(2 * i + 1, if i % 7 == 6 { 0 } else { i + 1 }))
            .collect();
        let mut history = History::new(items[0]);
        for item in &items[1..] {
            if !history.push(*item) {
                history = history.grown(*item);
            }
            assert_eq!(history.newest(), item);
        }
        (history, items)
    }

    #[test]
    fn look_up_equals_a_plain_list() {
        for len in [1, 2, 3, 4, 6, 7, 8, 63, 64, 1000] {
            let (history, items) = sample(len);
            for main in 0..2 * len + 2 {
                let expected = items.iter().rev().find(|item| item.main <= main);
                assert_eq!(history.at(main), expected, "length {len}, revision {main}");
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
                    Compacted::Part(history) => history.items().copied().collect(),
                    Compacted::Nothing => vec![],
                };
                left.reverse();
                assert_eq!(left, kept, "length {len}, compacted at {at}");
                let untouched = history.items().eq(items.iter().rev());
                assert!(untouched, "others share this history");
            }
        }
    }

    #[test]
    fn a_key_that_was_written_once_costs_little() {
        assert!(size_of::<History>() <= 56);
    }
}
