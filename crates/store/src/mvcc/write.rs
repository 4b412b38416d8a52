//! Writing: the changes of one command.
//!
//! A command that changes something takes one new main revision; its changes get sub-revisions in the order of execution. What a
//! command may refuse is checked before its first change, so there is nothing to undo; if the engine fails in the middle, the
//! member stops and applies the entry again from the log.

use bytes::Bytes;
use catena_api::{EventType, KeyValue, KeyValueView, etcd::etcdserverpb as pb};

use super::{
    index::{Index, Key},
    interval::Interval,
    range::ReadView,
    records::{Record, Records},
    revision::Revision,
    txn,
};
use crate::{Error, Fatal, ReadError};

/// One change that a command made.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) kind: EventType,
    /// The record: the new pair, or a tombstone.
    pub(crate) kv: KeyValue,
    /// Lease of the new pair, or 0.
    pub(crate) lease: i64,
}

/// Executes one command on the index and the open layer.
pub(crate) struct Writer<'a> {
    index: &'a mut Index,
    records: &'a Records,
    lease_exists: &'a dyn Fn(i64) -> bool,
    /// Revision before the command.
    revision: i64,
    compacted: i64,
    changes: Vec<Change>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(
        index: &'a mut Index,
        records: &'a Records,
        lease_exists: &'a dyn Fn(i64) -> bool,
        revision: i64,
        compacted: i64,
    ) -> Self {
        Self {
            index,
            records,
            lease_exists,
            revision,
            compacted,
            // Most commands are one put.
            changes: Vec::with_capacity(1),
        }
    }

    /// What the command did, in order. If that is anything, the revision went up by one.
    pub(crate) fn finish(self) -> Vec<Change> {
        self.changes
    }

    /// The state as the command sees it, its own changes included.
    pub(crate) fn view(&self) -> ReadView<'_> {
        let changed = i64::from(!self.changes.is_empty());
        ReadView {
            index: self.index,
            records: self.records,
            revision: self.revision + changed,
            compacted: self.compacted,
        }
    }

    /// Runs a transaction.
    pub(crate) fn txn(&mut self, request: &pb::TxnRequest) -> Result<pb::TxnResponse, ReadError> {
        txn::run(self, request)
    }

    /// What forbids a put in the present state.
    pub(crate) fn check_put(&self, request: &pb::PutRequest) -> Result<(), Error> {
        if request.lease != 0 && !(self.lease_exists)(request.lease) {
            return Err(Error::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && self.index.live(&request.key, self.revision).is_none() {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    /// Writes a key. A put that keeps value or lease of a key that an earlier operation of the same command deleted keeps nothing.
    pub(crate) fn put(&mut self, request: &pb::PutRequest) -> Result<pb::PutResponse, Fatal> {
        let needs_previous = request.prev_kv || request.ignore_value || request.ignore_lease;
        let previous = match needs_previous {
            true => self.current(&request.key)?,
            false => None,
        };
        let kept = match &previous {
            Some(kv) if request.ignore_value || request.ignore_lease => kv.view(),
            _ => KeyValueView::default(),
        };
        let revision = self.next();
        let (key, item) = self
            .index
            .put(&request.key, revision.main, revision.sub as u32);
        let pair = KeyValueView {
            key: request.key.clone(),
            create_revision: item.create,
            mod_revision: item.main,
            version: item.version,
            value: match request.ignore_value {
                true => kept.value,
                false => request.value.clone(),
            },
            lease: match request.ignore_lease {
                true => kept.lease,
                false => request.lease,
            },
        };
        self.record(revision, key, EventType::Put, pair.encode(), pair.lease);
        Ok(pb::PutResponse {
            header: None,
            prev_kv: previous.filter(|_| request.prev_kv),
        })
    }

    /// Deletes the live keys of an interval, in key order.
    pub(crate) fn delete_range(
        &mut self,
        request: &pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Fatal> {
        let interval = Interval::new(&request.key, &request.range_end);
        let view = self.view();
        let live = view.index.range(&interval, view.revision);
        let mut keys = Vec::new();
        let mut prev_kvs = Vec::new();
        for (key, item) in live {
            keys.push(key.clone());
            if request.prev_kv {
                prev_kvs.push(view.record(item)?);
            }
        }
        let deleted = keys.len() as i64;
        self.delete(keys);
        Ok(pb::DeleteRangeResponse {
            header: None,
            deleted,
            prev_kvs,
        })
    }

    /// Deletes live keys, in the order given.
    pub(crate) fn delete(&mut self, keys: impl IntoIterator<Item = Key>) {
        for key in keys {
            let revision = self.next();
            self.index
                .tombstone(&key, revision.main, revision.sub as u32);
            let kv = KeyValue::tombstone(Bytes::copy_from_slice(&key));
            self.record(revision, key, EventType::Delete, kv, 0);
        }
    }

    fn current(&self, key: &[u8]) -> Result<Option<KeyValue>, Fatal> {
        let view = self.view();
        view.get(key, view.revision)
    }

    /// The revision of the next change. Sub-revisions count live keys or operations, so they stay far below 2^32.
    fn next(&self) -> Revision {
        Revision {
            main: self.revision + 1,
            sub: self.changes.len() as i64,
        }
    }

    fn record(&mut self, revision: Revision, key: Key, kind: EventType, kv: KeyValue, lease: i64) {
        self.records.open().push(Record {
            revision,
            tombstone: kind == EventType::Delete,
            kv: kv.clone(),
        });
        self.changes.push(Change {
            key,
            kind,
            kv,
            lease,
        });
    }
}
