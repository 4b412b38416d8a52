//! What the next seal will hold beside the records of the open layer.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    backend::{Bucket, Change},
    meta,
};

/// What a change takes in a batch beside its key and value, roughly.
const CHANGE_BYTES: usize = 64;

/// Changes that wait for the next seal.
#[derive(Default)]
pub(super) struct Pending {
    /// The last value of each key that changed; `None` = deleted.
    others: BTreeMap<(Bucket, Bytes), Option<Bytes>>,
    /// Keys of records that compaction dropped.
    dropped: Vec<Bytes>,
    /// The compaction that ended.
    pub(super) finished: Option<i64>,
    pub(super) bytes: usize,
    /// Whether anything was applied at all.
    pub(super) is_dirty: bool,
}

impl Pending {
    pub(super) fn put(&mut self, bucket: Bucket, (key, value): meta::Pair) {
        self.bytes += key.len() + value.len() + CHANGE_BYTES;
        self.others.insert((bucket, key), Some(value));
    }

    pub(super) fn delete(&mut self, bucket: Bucket, key: Bytes) {
        self.bytes += key.len() + CHANGE_BYTES;
        self.others.insert((bucket, key), None);
    }

    /// Counts a record that went into the open layer.
    pub(super) fn count_record(&mut self, bytes: usize) {
        self.bytes += bytes + CHANGE_BYTES;
    }

    /// Takes the key of a record that compaction dropped.
    pub(super) fn drop_record(&mut self, key: Bytes) {
        self.bytes += key.len() + CHANGE_BYTES;
        self.dropped.push(key);
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        let dropped = self
            .dropped
            .into_iter()
            .map(|key| Change::Delete(Bucket::Key, key));
        let others = self
            .others
            .into_iter()
            .map(|((bucket, key), value)| match value {
                Some(value) => Change::Put(bucket, key, value),
                None => Change::Delete(bucket, key),
            });
        dropped.chain(others).collect()
    }
}
