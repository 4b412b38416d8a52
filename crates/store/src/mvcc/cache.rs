//! Records that were read from the engine not long ago.
//!
//! A record never changes under its revision, so the cache outlives the views of the engine and is never wrong; what a compaction
//! deletes is not asked for any more and ages out. The engine keeps pages, with whatever lies beside a record in them, and walks
//! three of them for each; this keeps the records themselves, a step away.

use std::collections::HashMap;

use catena_api::KeyValue;
use parking_lot::Mutex;

use super::revision::Revision;

/// Memory for records, what it takes to keep them included.
const CACHE_BYTES: usize = 32 << 20;

/// Parts with a lock each, so that readers seldom wait for one another.
const SHARDS: usize = 16;

/// What keeping a record takes beside its bytes: a place in a table that is never quite full, and the allocation's head.
const ENTRY_BYTES: usize = 112;

/// A larger record is not kept: copying it costs more than finding it, and it would displace many.
const RECORD_BYTES_MAX: usize = 16 << 10;

/// A bounded set of records, those that were asked for last.
pub(crate) struct RecordCache {
    shards: [Mutex<Shard>; SHARDS],
}

/// Two generations: when the young one is half of what the shard may hold, it becomes the old one, and what was not asked for since
/// the last time is dropped with that.
#[derive(Default)]
struct Shard {
    young: HashMap<Revision, KeyValue>,
    young_bytes: usize,
    old: HashMap<Revision, KeyValue>,
}

impl RecordCache {
    pub(crate) fn new() -> Self {
        Self {
            shards: Default::default(),
        }
    }

    pub(crate) fn get(&self, revision: Revision) -> Option<KeyValue> {
        let mut shard = self.shard(revision).lock();
        if let Some(kv) = shard.young.get(&revision) {
            return Some(kv.clone());
        }
        let kv = shard.old.remove(&revision)?;
        shard.insert(revision, kv.clone());
        Some(kv)
    }

    pub(crate) fn insert(&self, revision: Revision, kv: &KeyValue) {
        if kv.as_encoded().len() <= RECORD_BYTES_MAX {
            self.shard(revision).lock().insert(revision, kv.clone());
        }
    }

    fn shard(&self, revision: Revision) -> &Mutex<Shard> {
        &self.shards[revision.main.wrapping_add(revision.sub) as usize % SHARDS]
    }
}

impl Shard {
    fn insert(&mut self, revision: Revision, kv: KeyValue) {
        let bytes = kv.as_encoded().len() + ENTRY_BYTES;
        if self.young_bytes + bytes > CACHE_BYTES / SHARDS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some(before) = self.young.insert(revision, kv) {
            self.young_bytes -= before.as_encoded().len() + ENTRY_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(main: i64, bytes: usize) -> (Revision, KeyValue) {
        let kv = KeyValue::from_encoded(Bytes::from(vec![main as u8; bytes]));
        (Revision::first(main), kv)
    }

    #[test]
    fn gives_what_was_put_and_nothing_else() {
        let cache = RecordCache::new();
        for main in 0..100 {
            let (revision, kv) = record(main, 10);
            cache.insert(revision, &kv);
        }
        for main in 0..100 {
            let (revision, kv) = record(main, 10);
            assert_eq!(cache.get(revision), Some(kv));
            assert_eq!(cache.get(Revision { sub: 1, ..revision }), None);
        }
    }

    #[test]
    fn is_bounded_and_keeps_what_is_asked_for() {
        let cache = RecordCache::new();
        let (asked, kept) = record(0, 1000);
        cache.insert(asked, &kept);
        for main in 1..200_000 {
            let (revision, kv) = record(main, 1000);
            cache.insert(revision, &kv);
            assert_eq!(cache.get(asked).as_ref(), Some(&kept));
        }
        let held = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            let records = shard.young.values().chain(shard.old.values());
            let bytes: usize = records.map(|kv| kv.as_encoded().len() + ENTRY_BYTES).sum();
            bytes
        };
        let held: usize = cache.shards.iter().map(held).sum();
        assert!((CACHE_BYTES / 3..=CACHE_BYTES).contains(&held), "{held}");
    }

    #[test]
    fn large_record_is_not_kept() {
        let cache = RecordCache::new();
        let (revision, kv) = record(1, RECORD_BYTES_MAX + 1);
        cache.insert(revision, &kv);
        assert_eq!(cache.get(revision), None);
    }
}
