//! Deleting what compaction dropped, a slice at a time.
//!
//! The compacted revision itself moves at once, in apply, and decides what can be read. Deletion follows behind: a walk through the
//! records up to the target in order of revision, which prunes the index and collects the keys of records to delete. It also hashes
//! what it sees, before deletion, as etcd does. After a restart the walk begins anew; what is gone is gone.

use bytes::Bytes;

use super::{hash::Hasher, index::Index, records::Records, revision::Revision};
use crate::{Fatal, backend::Visit};

/// Bytes of records that one slice reads at most (and one record more): a slice holds up apply, so it must be short even if values
/// are large.
const SLICE_BYTES_MAX: usize = 1 << 20;

/// A walk that is due or under way.
#[derive(Debug)]
pub(crate) struct Compaction {
    /// The compacted revision that it establishes.
    pub(crate) target: i64,
    /// The one before; -1 if there was none.
    pub(crate) previous: i64,
    /// Where the walk goes on.
    next: Revision,
    /// Absent if the compaction before had not finished, or after a restart: then the walk does not see all that it should.
    hasher: Option<Hasher>,
}

/// What one slice found.
#[derive(Debug)]
pub(crate) enum Slice {
    /// There is more to do.
    Partial,
    /// The walk is complete; with the hash if there is one.
    Complete(Option<u32>),
}

impl Compaction {
    pub(crate) fn new(target: i64, previous: i64, is_hashed: bool) -> Self {
        Self {
            target,
            previous,
            next: Revision::first(0),
            hasher: is_hashed.then(|| Hasher::new(previous)),
        }
    }

    /// Takes over a later target before the walk has begun.
    pub(crate) fn extend(&mut self, target: i64) {
        self.target = target;
        self.hasher = None;
    }

    /// Looks at up to `limit` records, prunes the index and hands over the keys of the records to delete.
    pub(crate) fn slice(
        &mut self,
        index: &mut Index,
        records: &Records,
        limit: usize,
        delete: &mut dyn FnMut(Bytes),
    ) -> Result<Slice, Fatal> {
        let (mut seen, mut bytes, mut stopped) = (0, 0, false);
        let target = self.target;
        let mut dropped = Vec::new();
        records.scan(self.next, target, &mut |revision, tombstone, stored| {
            if seen >= limit || bytes >= SLICE_BYTES_MAX {
                self.next = revision;
                stopped = true;
                return Visit::Stop;
            }
            seen += 1;
            bytes += stored.bytes().len();
            let kept = index.keeps(stored.key(), revision, target);
            if let Some(hasher) = &mut self.hasher {
                hasher.add(revision, tombstone, stored.bytes(), kept);
            }
            if !kept {
                dropped.push(Bytes::copy_from_slice(stored.key()));
                delete(revision.key(tombstone).to_bytes());
            }
            Visit::Continue
        })?;
        for key in dropped {
            index.prune(&key, target);
        }
        Ok(match stopped {
            true => Slice::Partial,
            false => Slice::Complete(self.hasher.take().map(Hasher::finish)),
        })
    }
}
