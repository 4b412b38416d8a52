//! From keys to revisions.

use std::{collections::HashMap, sync::Arc};

use imbl::OrdMap;

use super::{
    history::{Compacted, History},
    interval::Interval,
    item::Item,
    revision::Revision,
};

/// A key, shared by all roots of the index and by the leases it hangs on.
pub(crate) type Key = Arc<[u8]>;

/// The histories of all keys. A clone is a root of its own and costs nothing. New keys and compaction copy the path to the key; a
/// change of a key that is there is appended to the history that all roots share, and of no concern to those who read at earlier
/// revisions. A reader must therefore never ask beyond the revision of its root.
#[derive(Clone, Default)]
pub(crate) struct Index {
    keys: OrdMap<Key, Arc<History>>,
}

/// The index of a store that is opened: gathers the items of each key in the order of the records, and sorts the keys at the end.
#[derive(Default)]
pub(crate) struct Gathered {
    keys: HashMap<Key, Vec<Item>>,
}

impl Gathered {
    /// Adds an item as it was stored.
    pub(crate) fn add(&mut self, key: &[u8], item: Item) {
        match self.keys.get_mut(key) {
            Some(items) => items.push(item),
            None => drop(self.keys.insert(Key::from(key), vec![item])),
        }
    }

    /// The shared form of a key that was added.
    pub(crate) fn key(&self, key: &[u8]) -> Option<Key> {
        self.keys.get_key_value(key).map(|(key, _)| key.clone())
    }

    /// The index of all that was added.
    pub(crate) fn into_index(self) -> Index {
        let mut keys: Vec<(Key, Vec<Item>)> = self.keys.into_iter().collect();
        keys.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let histories = keys.into_iter().filter_map(|(key, items)| {
            let history = History::of(items)?;
            Some((key, Arc::new(history)))
        });
        Index {
            keys: histories.collect(),
        }
    }
}

impl Index {
    /// Records a write; gives the shared key and the item with its place in the generation.
    pub(crate) fn put(&mut self, key: &[u8], main: i64, sub: u32) -> (Key, Item) {
        let Some((shared, history)) = self.keys.get_key_value(key) else {
            let first = Item::first(main, sub);
            return (self.insert(key, first), first);
        };
        let item = history.newest().put(main, sub);
        (self.append(shared.clone(), &history.clone(), item), item)
    }

    /// Ends the generation of a live key.
    pub(crate) fn tombstone(&mut self, key: &[u8], main: i64, sub: u32) {
        let item = Item::tombstone(main, sub);
        match self.keys.get_key_value(key) {
            Some((shared, history)) => self.append(shared.clone(), &history.clone(), item),
            None => self.insert(key, item),
        };
    }

    fn append(&mut self, shared: Key, history: &History, item: Item) -> Key {
        if !history.push(item) {
            let grown = Arc::new(history.grown(item));
            self.keys.insert(shared.clone(), grown);
        }
        shared
    }

    fn insert(&mut self, key: &[u8], first: Item) -> Key {
        let shared = Key::from(key);
        let history = Arc::new(History::new(first));
        self.keys.insert(shared.clone(), history);
        shared
    }

    /// The history of a key.
    pub(crate) fn history(&self, key: &[u8]) -> Option<&History> {
        self.keys.get(key).map(Arc::as_ref)
    }

    /// The item under which the key was live at `main`.
    pub(crate) fn live(&self, key: &[u8], main: i64) -> Option<Item> {
        self.history(key)?
            .at(main)
            .filter(|item| !item.is_tombstone())
    }

    /// The keys of an interval that were live at `main`, ascending.
    pub(crate) fn range<'a>(
        &'a self,
        interval: &'a Interval,
        main: i64,
    ) -> impl Iterator<Item = (&'a Key, Item)> + use<'a> {
        let keys = (!interval.is_empty()).then(|| self.keys.range::<_, [u8]>(interval.bounds()));
        keys.into_iter()
            .flatten()
            .filter_map(move |(key, history)| {
                let item = history.at(main).filter(|item| !item.is_tombstone())?;
                Some((key, item))
            })
    }

    /// Whether a compaction at `main` keeps this record of the key.
    pub(crate) fn keeps(&self, key: &[u8], record: Revision, main: i64) -> bool {
        let kept = self.history(key).and_then(|history| history.kept_at(main));
        kept.is_some_and(|item| item.revision() == record)
    }

    /// Whether this record of the key is in the keep set of a hash at `main`.
    pub(super) fn hashes(&self, key: &[u8], record: Revision, main: i64) -> bool {
        let kept = self.history(key);
        let kept = kept.and_then(|history| history.hashed_at(main));
        kept.is_some_and(|item| item.revision() == record)
    }

    /// Drops what a compaction at `main` does not keep of this key.
    pub(crate) fn prune(&mut self, key: &[u8], main: i64) {
        let Some((shared, history)) = self.keys.get_key_value(key) else {
            return;
        };
        match history.compact(main) {
            Compacted::Unchanged => {}
            Compacted::Part(history) => {
                let shared = shared.clone();
                self.keys.insert(shared, Arc::new(history));
            }
            Compacted::Nothing => {
                self.keys.remove(key);
            }
        }
    }
}
