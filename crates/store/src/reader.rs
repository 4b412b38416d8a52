//! What everybody but the writer sees.

use std::sync::{Arc, atomic::Ordering};

use catena_api::etcd::etcdserverpb as pb;

use crate::{
    Fatal, LeaseFeed, LeaseView, Member, Members, Position, ReadError, Snapshot, WatchLoad,
    WatchStream,
    backend::{Bucket, Sizes, View, Visit},
    mvcc::{self, StreamCursor},
    state::Shared,
};

/// A shared handle for reads. Every method works on the newest published state and blocks no writer.
#[derive(Clone)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox_bytes: usize,
}

/// A hash over the history of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C, defined by etcd's HashKV.
    pub hash: u32,
    /// Compacted revision that it was computed under; -1 if never.
    pub compact_revision: i64,
    /// Revision up to which was hashed.
    pub hash_revision: i64,
    /// Current revision when it was asked for.
    pub revision: i64,
}

impl Reader {
    /// The current revision; 1 in a fresh store.
    pub fn revision(&self) -> i64 {
        self.shared.load().ledger.revision
    }

    /// The compacted revision; -1 if never.
    pub fn compacted(&self) -> i64 {
        self.shared.load().ledger.compacted
    }

    /// Position of the last applied entry.
    pub fn applied(&self) -> Option<Position> {
        self.shared.position()
    }

    /// Returns once the entry at `index` is applied. Cancel-safe.
    pub async fn wait_applied(&self, index: u64) {
        let mut applied = self.shared.applied.subscribe();
        let reached = |applied: &Option<u64>| applied.is_some_and(|applied| applied >= index);
        // The sender lives as long as this handle.
        applied.wait_for(reached).await.ok();
    }

    /// The cluster's id, once bootstrapped.
    pub fn cluster_id(&self) -> Option<u64> {
        self.shared.load().ledger.members.cluster_id
    }

    /// The record of members.
    pub fn members(&self) -> Arc<Members> {
        self.shared.load().ledger.members.clone()
    }

    /// One member.
    pub fn member(&self, id: u64) -> Option<Member> {
        self.shared.load().ledger.members.present.get(&id).cloned()
    }

    /// Whether the id belonged to a member that was removed.
    pub fn is_removed(&self, id: u64) -> bool {
        self.shared.load().ledger.members.removed.contains(&id)
    }

    /// The cluster version, such as `3.7.0`.
    pub fn cluster_version(&self) -> Option<String> {
        let state = self.shared.load();
        state.ledger.cluster_version.as_deref().map(str::to_owned)
    }

    /// Raised alarms, by member and type.
    pub fn alarms(&self) -> Vec<pb::AlarmMember> {
        let state = self.shared.load();
        state.ledger.alarms.list(pb::AlarmType::None as i32)
    }

    /// Answers a range; also the revision that was current when it was read. The header is left out.
    pub fn range(&self, request: &pb::RangeRequest) -> Result<(pb::RangeResponse, i64), ReadError> {
        let state = self.shared.load();
        Ok((state.view().range(request)?, state.ledger.revision))
    }

    /// Answers a read-only transaction; also the revision that was current when it was read. The outermost header is left out.
    pub fn txn(&self, request: &pb::TxnRequest) -> Result<(pb::TxnResponse, i64), ReadError> {
        let state = self.shared.load();
        let answer = mvcc::read_only(&state.view(), request)?;
        Ok((answer, state.ledger.revision))
    }

    /// Answers a range in chunks of about `chunk_bytes` (etcd: the largest request).
    pub fn range_stream(
        &self,
        request: &pb::RangeRequest,
        chunk_bytes: usize,
    ) -> Result<RangeStream, ReadError> {
        let state = self.shared.load();
        let cursor = StreamCursor::new(&state.view(), request, chunk_bytes)?;
        let shared = self.shared.clone();
        Ok(RangeStream { shared, cursor })
    }

    /// One lease, with its keys.
    pub fn lease(&self, id: i64) -> Option<LeaseView> {
        self.shared.load().ledger.leases.view(id)
    }

    /// Whether the lease exists; cheaper than [`lease`](Self::lease).
    pub fn has_lease(&self, id: i64) -> bool {
        self.shared.load().ledger.leases.contains(id)
    }

    /// All leases by id, without keys.
    pub fn leases(&self) -> Vec<LeaseView> {
        self.shared.load().ledger.leases.list()
    }

    /// Changes of leases from now on. Take it before [`leases`](Self::leases), so that no change falls between the two.
    pub fn lease_feed(&self) -> LeaseFeed {
        LeaseFeed::new(self.shared.lease_changes.subscribe())
    }

    /// The hash at a revision. 0 is the current one, and always computed; another revision at which a compaction was made gives the
    /// hash that it left. Reads the whole history: not for an async thread.
    pub fn hash_kv(&self, revision: i64) -> Result<KvHash, ReadError> {
        let state = self.shared.load();
        let mut left = self.shared.hashes().into_iter();
        if let Some(hash) = left.find(|hash| revision != 0 && hash.hash_revision == revision) {
            return Ok(KvHash {
                revision: state.ledger.revision,
                ..hash
            });
        }
        let wanted = match revision {
            0 => state.ledger.revision,
            revision => revision,
        };
        let hash = mvcc::hash_history(&state.view(), wanted)?;
        Ok(KvHash {
            hash,
            compact_revision: state.ledger.compacted,
            hash_revision: wanted,
            revision: state.ledger.revision,
        })
    }

    /// Hashes that finished compactions left, newest first.
    pub fn compaction_hashes(&self) -> Vec<KvHash> {
        self.shared.hashes()
    }

    /// A hash of all buckets, equal on members with the same state. Reads everything: not for an async thread.
    pub fn hash(&self) -> Result<u32, Fatal> {
        let snapshot = self.snapshot();
        let mut sum = 0;
        for bucket in Bucket::ALL {
            sum = crc32c::crc32c_append(sum, bucket.name().as_bytes());
            snapshot.scan(bucket, b"", None, &mut |key, value| {
                sum = crc32c::crc32c_append(sum, key);
                sum = crc32c::crc32c_append(sum, value);
                Visit::Continue
            })?;
        }
        Ok(sum)
    }

    /// Returns once the compaction at `revision`, or a later one, has deleted everything and that is durable. Cancel-safe.
    pub async fn compaction_done(&self, revision: i64) {
        let mut compacted = self.shared.compacted.subscribe();
        // The sender lives as long as this handle.
        compacted
            .wait_for(|compacted| *compacted >= revision)
            .await
            .ok();
    }

    /// Sizes of the engine's files.
    pub fn sizes(&self) -> Sizes {
        self.shared.load().records.base.backend.sizes()
    }

    /// Bytes that the engine will hold beside [`sizes`](Self::sizes) once all that is applied is committed; roughly, and rather more.
    pub fn uncommitted_bytes(&self) -> u64 {
        let Shared {
            unsealed_bytes,
            sealed_bytes,
            ..
        } = &*self.shared;
        (unsealed_bytes.load(Ordering::Relaxed) + sealed_bytes.load(Ordering::Relaxed)) as u64
    }

    /// Gives space back to the file system. Takes long: not for an async thread.
    pub fn defragment(&self) -> Result<(), Fatal> {
        let backend = self.shared.load().records.base.backend.clone();
        backend.defragment()?;
        self.shared.refresh()
    }

    /// A frozen picture of everything, to be copied to a follower or into a backup.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.shared.load())
    }

    /// What watching holds in memory.
    pub fn watch_load(&self) -> WatchLoad {
        self.shared.hub().load()
    }

    /// A new watch stream.
    pub fn watch(&self) -> WatchStream {
        WatchStream::new(self.shared.clone(), self.inbox_bytes)
    }
}

/// The chunks of one streamed range, at one pinned revision. The last one has `more`, `count`, and a header with nothing but the
/// revision that was current at the beginning. If compaction overtakes the pinned revision, an error ends the stream.
pub struct RangeStream {
    shared: Arc<Shared>,
    cursor: StreamCursor,
}

impl Iterator for RangeStream {
    type Item = Result<pb::RangeResponse, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let state = self.shared.load();
        self.cursor.next(&state.view())
    }
}
