//! What keys held before they were changed: the snapshots that sled does not have.
//!
//! A batch first leaves here what its keys held (nothing is an answer too), then changes them in sled. A view of version `v` reads
//! sled and then asks here: if a batch later than `v` changed the key, the value that the first such batch found is the right one,
//! else the one in sled is. Since the old value is left before the new one is written, reading in this order never misses one.
//!
//! ```text
//!   version      1      2      3      4   = current
//!   key a      put x         put y
//!   preimages   -             (3: x)
//!   a view of version 2 finds (3: x) -> x;   one of version 3 finds none -> sled's y
//! ```
//!
//! Entries that no view needs go when a view is dropped. Those of one that stays open for long grow with what is written; above
//! [`MEMORY_BYTES_MAX`] they move to a tree of sled, which is cleared once that view is gone, and at each start.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use bytes::Bytes;

use super::{Key, fatal};
use crate::error::Fatal;

/// Preimages kept in memory: views are mostly short, and then nothing ever comes near this.
pub(super) const MEMORY_BYTES_MAX: usize = 32 << 20;

/// What one entry costs beside its bytes, roughly: two map nodes and two allocations.
const ENTRY_BYTES: usize = 128;

/// A value, or none.
pub(super) type Held = Option<Bytes>;

/// A key, and the version of the batch that changed it.
type Entry = (Key, u64);

/// Views and what they need.
pub(super) struct Preimages {
    /// Version of the last batch that is whole.
    current: u64,
    /// How many views each version has.
    views: BTreeMap<u64, usize>,
    entries: BTreeMap<Entry, Held>,
    /// The keys of each batch, oldest first.
    batches: VecDeque<(u64, Vec<Key>)>,
    bytes: usize,
    bytes_max: usize,
    spilled: sled::Tree,
    /// Newest version in the tree; 0 if it is empty.
    spilled_upto: u64,
}

impl Preimages {
    /// Keeps up to `bytes_max` bytes in memory, the rest in `spilled`, which is empty.
    pub(super) fn new(spilled: sled::Tree, bytes_max: usize) -> Self {
        Self {
            current: 0,
            views: BTreeMap::new(),
            entries: BTreeMap::new(),
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max,
            spilled,
            spilled_upto: 0,
        }
    }

    /// Opens a view; its version.
    pub(super) fn open_view(&mut self) -> u64 {
        *self.views.entry(self.current).or_default() += 1;
        self.current
    }

    /// Closes a view of `version`.
    pub(super) fn close_view(&mut self, version: u64) {
        if let Some(count) = self.views.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                self.views.remove(&version);
            }
        }
        self.drop_unneeded();
    }

    /// Leaves what a batch is about to change. Views opened until [`Preimages::publish`] are of the version before.
    pub(super) fn leave(&mut self, held: Vec<(Key, Held)>) -> Result<(), Fatal> {
        let version = self.current + 1;
        let mut keys = Vec::with_capacity(held.len());
        for (key, value) in held {
            self.bytes += entry_bytes(&key, &value);
            keys.push(key.clone());
            self.entries.insert((key, version), value);
        }
        self.batches.push_back((version, keys));
        if self.bytes > self.bytes_max && self.oldest_view() < self.current {
            self.spill()?;
        }
        Ok(())
    }

    /// Makes the batch visible to views opened from now on.
    pub(super) fn publish(&mut self) -> Result<(), Fatal> {
        self.current += 1;
        self.drop_unneeded();
        if self.spilled_upto > 0 && self.spilled_upto <= self.oldest_view() {
            self.spilled_upto = 0;
            self.spilled.clear().map_err(fatal)?;
        }
        Ok(())
    }

    /// What `key` held for a view of `version`, if it was changed since.
    pub(super) fn get(&self, key: &Key, version: u64) -> Result<Option<Held>, Fatal> {
        if self.spilled_upto > version {
            let range = spilled_key(key, version + 1)..=spilled_key(key, u64::MAX);
            if let Some(found) = self.spilled.range(range).next() {
                return Ok(Some(decode(&found.map_err(fatal)?.1)));
            }
        }
        let range = (key.clone(), version + 1)..=(key.clone(), u64::MAX);
        Ok(self
            .entries
            .range(range)
            .next()
            .map(|(_, held)| held.clone()))
    }

    /// What keys from `from` to `last` held for a view of `version`, of those changed since; at most `count_max` of them, the first
    /// ones, and whether these are all.
    pub(super) fn range(
        &self,
        from: &Key,
        last: Bound<&Key>,
        version: u64,
        count_max: usize,
    ) -> Result<(BTreeMap<Key, Held>, bool), Fatal> {
        let mut found: BTreeMap<Key, Held> = BTreeMap::new();
        let mut all = true;
        if self.spilled_upto > version {
            for pair in self.spilled.range(spilled_bounds(from, last)) {
                let (key, held) = pair.map_err(fatal)?;
                let (key, changed) = split_spilled(&key);
                if changed <= version || found.contains_key(&key) {
                    continue;
                }
                if found.len() == count_max {
                    all = false;
                    break;
                }
                found.insert(key, decode(&held));
            }
        }
        let mut added = 0;
        for ((key, changed), held) in self.entries.range(entry_bounds(from, last)) {
            if *changed <= version || found.contains_key(key) {
                continue;
            }
            if added == count_max {
                all = false;
                break;
            }
            added += 1;
            found.insert(key.clone(), held.clone());
        }
        while found.len() > count_max {
            found.pop_last();
            all = false;
        }
        Ok((found, all))
    }

    fn oldest_view(&self) -> u64 {
        self.views.keys().next().copied().unwrap_or(self.current)
    }

    /// Drops what the oldest view does not need: the entries of batches that it sees.
    fn drop_unneeded(&mut self) {
        let oldest = self.oldest_view();
        while self
            .batches
            .front()
            .is_some_and(|(version, _)| *version <= oldest)
        {
            let Some((version, keys)) = self.batches.pop_front() else {
                break;
            };
            for key in keys {
                let entry = (key, version);
                if let Some(held) = self.entries.remove(&entry) {
                    self.bytes -= entry_bytes(&entry.0, &held);
                }
            }
        }
    }

    fn spill(&mut self) -> Result<(), Fatal> {
        for ((key, version), held) in &self.entries {
            self.spilled
                .insert(spilled_key(key, *version), encode(held))
                .map_err(fatal)?;
        }
        if let Some((version, _)) = self.batches.back() {
            self.spilled_upto = *version;
        }
        self.entries.clear();
        self.batches.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn entry_bytes(key: &Key, held: &Held) -> usize {
    2 * key.len() + held.as_ref().map_or(0, Bytes::len) + ENTRY_BYTES
}

/// Keys end with a terminator below every continuation, so that the versions of a key stand together and before those of longer
/// keys: a zero byte is written as `00 ff`, the end as `00 00`.
fn spilled_key(key: &Key, version: u64) -> Vec<u8> {
    let mut out = spilled_prefix(key);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&version.to_be_bytes());
    out
}

fn spilled_prefix(key: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 10);
    for &byte in key.iter() {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out
}

fn split_spilled(spilled: &[u8]) -> (Key, u64) {
    let (key, version) = spilled.split_at(spilled.len() - 8);
    let mut out = Vec::with_capacity(key.len());
    let mut bytes = key[..key.len() - 2].iter();
    while let Some(&byte) = bytes.next() {
        out.push(byte);
        if byte == 0 {
            bytes.next();
        }
    }
    let version = version.try_into().expect("split off as eight bytes");
    (out.into(), u64::from_be_bytes(version))
}

fn spilled_bounds(from: &Key, last: Bound<&Key>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let upper = match last {
        Bound::Included(key) => Bound::Included(spilled_key(key, u64::MAX)),
        Bound::Excluded(key) => Bound::Excluded(spilled_key(key, 0)),
        Bound::Unbounded => Bound::Unbounded,
    };
    (Bound::Included(spilled_key(from, 0)), upper)
}

fn entry_bounds(from: &Key, last: Bound<&Key>) -> (Bound<Entry>, Bound<Entry>) {
    let upper = match last {
        Bound::Included(key) => Bound::Included((key.clone(), u64::MAX)),
        Bound::Excluded(key) => Bound::Excluded((key.clone(), 0)),
        Bound::Unbounded => Bound::Unbounded,
    };
    (Bound::Included((from.clone(), 0)), upper)
}

fn encode(held: &Held) -> Vec<u8> {
    match held {
        None => vec![0],
        Some(value) => [&[1], &value[..]].concat(),
    }
}

fn decode(bytes: &[u8]) -> Held {
    match bytes.split_first() {
        Some((1, value)) => Some(Bytes::copy_from_slice(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preimages(bytes_max: usize) -> Preimages {
        let database = sled::Config::new().temporary(true).open().unwrap();
        Preimages::new(database.open_tree("spilled").unwrap(), bytes_max)
    }

    fn key(text: &str) -> Key {
        Key::copy_from_slice(text.as_bytes())
    }

    /// Makes a batch that changes `keys`, which held `value` before.
    fn change(preimages: &mut Preimages, keys: &[&str], value: Option<&'static str>) {
        let held = keys
            .iter()
            .map(|text| (key(text), value.map(Bytes::from)))
            .collect();
        preimages.leave(held).unwrap();
        preimages.publish().unwrap();
    }

    fn get(preimages: &Preimages, text: &str, version: u64) -> Option<Held> {
        preimages.get(&key(text), version).unwrap()
    }

    fn all(preimages: &Preimages, version: u64, count_max: usize) -> (Vec<Key>, bool) {
        let (found, all) = preimages
            .range(&key(""), Bound::Unbounded, version, count_max)
            .unwrap();
        (found.into_keys().collect(), all)
    }

    /// In memory, and all of it spilled.
    fn both(test: impl Fn(Preimages)) {
        test(preimages(MEMORY_BYTES_MAX));
        test(preimages(0));
    }

    #[test]
    fn view_finds_the_first_change_after_it() {
        both(|mut preimages| {
            let first = preimages.open_view();
            change(&mut preimages, &["a", "b"], None);
            let second = preimages.open_view();
            change(&mut preimages, &["a", "a\0"], Some("1"));
            change(&mut preimages, &["a"], Some("2"));
            let third = preimages.open_view();
            assert_eq!(get(&preimages, "a", first), Some(None));
            assert_eq!(get(&preimages, "a", second), Some(Some("1".into())));
            assert_eq!(get(&preimages, "a", third), None);
            assert_eq!(get(&preimages, "b", first), Some(None));
            assert_eq!(get(&preimages, "b", second), None);
            assert_eq!(
                all(&preimages, first, 9),
                (vec![key("a"), key("a\0"), key("b")], true)
            );
            assert_eq!(
                all(&preimages, first, 2),
                (vec![key("a"), key("a\0")], false)
            );
            assert_eq!(
                all(&preimages, second, 9),
                (vec![key("a"), key("a\0")], true)
            );
            assert_eq!(all(&preimages, third, 9), (vec![], true));
        });
    }

    #[test]
    fn nothing_is_left_when_the_views_are_gone() {
        both(|mut preimages| {
            let old = preimages.open_view();
            for _ in 0..10 {
                let short = preimages.open_view();
                change(&mut preimages, &["a", "b"], Some("1"));
                preimages.close_view(short);
            }
            assert_eq!(get(&preimages, "a", old), Some(Some("1".into())));
            preimages.close_view(old);
            change(&mut preimages, &["a"], Some("2"));
            assert!(preimages.entries.is_empty() && preimages.batches.is_empty());
            assert_eq!((preimages.bytes, preimages.spilled_upto), (0, 0));
            assert!(preimages.spilled.is_empty());
        });
    }

    #[test]
    fn memory_stays_bounded_beside_an_old_view() {
        let mut preimages = preimages(10_000);
        let old = preimages.open_view();
        for round in 0..200 {
            change(
                &mut preimages,
                &[&format!("key {round}"), "hot"],
                Some("value"),
            );
            assert!(preimages.bytes <= 10_000);
        }
        assert_eq!(all(&preimages, old, 500).0.len(), 201);
        let (found, is_all) = all(&preimages, old, 100);
        assert_eq!((found.len(), is_all), (100, false));
        assert!(found.is_sorted());
    }

    #[test]
    fn spilled_keys_come_back_in_order() {
        let keys: Vec<Key> = [
            &b""[..],
            b"\0",
            b"\0\0",
            b"\0\xff",
            b"a",
            b"a\0",
            b"a\0b",
            b"b",
        ]
        .map(Key::from_static)
        .to_vec();
        let spilled: Vec<_> = keys
            .iter()
            .flat_map(|key| [0, 1, u64::MAX].map(|version| spilled_key(key, version)))
            .collect();
        assert!(spilled.is_sorted());
        for (key, triple) in keys.iter().zip(spilled.chunks(3)) {
            assert_eq!(split_spilled(&triple[1]), (key.clone(), 1));
        }
        let held = [None, Some(Bytes::new()), Some(Bytes::from("x"))];
        assert_eq!(held.clone().map(|held| decode(&encode(&held))), held);
    }
}
