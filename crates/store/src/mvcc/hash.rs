//! HashKV: one number for a whole history, equal on all members and equal to etcd's.
//!
//! CRC-32C over the word `key` and then, in order, key and value of every record up to a revision. Records at or below the
//! compacted revision count only if a compaction at the *hashed* revision would keep them alive (so a hash does not depend on how
//! far deletion has come), with one exception of etcd's: if nothing is kept alive at all, they count as long as they lie there.
//! Whether anything is kept shows only in the course of the scan, so the hasher carries both sums until it knows.

use super::{range::ReadView, revision::Revision};
use crate::{Error, ReadError, backend::Visit};

/// The running hash.
#[derive(Clone, Debug)]
pub(crate) struct Hasher {
    compacted: i64,
    /// The sum under the rule.
    strict: u32,
    /// The sum of the exception, once it differs and as long as it may be the valid one.
    loose: Option<u32>,
    /// Whether a kept record was met.
    keeps: bool,
}

impl Hasher {
    /// A hash under the given compacted revision (-1 if never).
    pub(crate) fn new(compacted: i64) -> Self {
        Self {
            compacted,
            strict: crc32c::crc32c(b"key"),
            loose: None,
            keeps: false,
        }
    }

    /// Takes the next record. `kept` says whether it is in the keep set.
    pub(crate) fn add(&mut self, revision: Revision, tombstone: bool, value: &[u8], kept: bool) {
        if kept {
            self.keeps = true;
            self.loose = None;
        }
        if tombstone && revision.main == self.compacted {
            return;
        }
        let key = revision.key(tombstone);
        let extend = |sum| crc32c::crc32c_append(crc32c::crc32c_append(sum, &key), value);
        if revision.main <= self.compacted && !kept {
            if !self.keeps {
                self.loose = Some(extend(self.loose.unwrap_or(self.strict)));
            }
            return;
        }
        self.strict = extend(self.strict);
        self.loose = self.loose.map(extend);
    }

    /// Whether [`add`](Self::add) still needs to know of records above the compacted revision if they are kept.
    fn is_undecided(&self) -> bool {
        !self.keeps
    }

    pub(crate) fn finish(self) -> u32 {
        self.loose.unwrap_or(self.strict)
    }
}

/// Hashes the history of a view up to a revision. As in etcd, a negative revision is one that no record is as old as.
pub(crate) fn hash_history(view: &ReadView<'_>, at: i64) -> Result<u32, ReadError> {
    match at {
        ..0 => return Ok(Hasher::new(view.compacted).finish()),
        _ if at < view.compacted => return Err(Error::Compacted.into()),
        _ if at > view.revision => return Err(Error::FutureRevision.into()),
        _ => {}
    }
    let mut hasher = Hasher::new(view.compacted);
    let first = Revision::first(0);
    view.records
        .scan(first, at, &mut |revision, tombstone, stored| {
            let old = revision.main <= view.compacted;
            // What compaction deletes is left out however far deletion has come.
            if old && !view.index.keeps(stored.key(), revision, view.compacted) {
                return Visit::Continue;
            }
            let asks = !tombstone && (old || hasher.is_undecided());
            // At the compacted revision itself, the exception for reborn keys would depend on how far deletion has come.
            let kept = asks
                && match at > view.compacted {
                    true => view.index.hashes(stored.key(), revision, at),
                    false => view.index.keeps(stored.key(), revision, at),
                };
            hasher.add(revision, tombstone, stored.bytes(), kept);
            Visit::Continue
        })?;
    Ok(hasher.finish())
}
