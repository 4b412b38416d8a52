//! Leases as the state machine knows them: ids with a time to live and keys; the clock is the leader's affair.

use std::collections::HashMap;

use bytes::Bytes;
use catena_api::etcd::leasepb;
use imbl::{OrdMap, OrdSet};
use prost::Message;
use tokio::sync::broadcast;

use crate::{Error, Fatal, backend::Bucket, mvcc::Key};

/// Longest time to live that is granted, as in etcd.
const TTL_SECS_MAX: i64 = 9_000_000_000;

/// Changes that a [`LeaseFeed`] may lag behind. A clock reads all leases anew after more than that, which costs no more than the
/// changes would have.
const FEED_CHANGES_MAX: usize = 4096;

/// All leases; a clone is a picture of the moment.
#[derive(Clone, Default)]
pub(crate) struct Leases {
    by_id: OrdMap<i64, Lease>,
}

#[derive(Clone, Debug, Default)]
struct Lease {
    ttl_secs: i64,
    remaining_ttl_secs: i64,
    keys: OrdSet<Key>,
}

/// Which lease each key hangs on: only the writer asks.
pub(crate) type Attachments = HashMap<Key, i64>;

impl Leases {
    pub(crate) fn contains(&self, id: i64) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Makes a lease without keys.
    pub(crate) fn grant(&mut self, id: i64, ttl_secs: i64) -> Result<(), Error> {
        if ttl_secs > TTL_SECS_MAX {
            return Err(Error::LeaseTtlTooLarge);
        }
        if self.contains(id) {
            return Err(Error::LeaseExists);
        }
        self.restore(id, ttl_secs, 0);
        Ok(())
    }

    /// Takes a lease as it was stored.
    pub(crate) fn restore(&mut self, id: i64, ttl_secs: i64, remaining_ttl_secs: i64) {
        let keys = OrdSet::new();
        let lease = Lease {
            ttl_secs,
            remaining_ttl_secs,
            keys,
        };
        self.by_id.insert(id, lease);
    }

    /// The attached keys, ascending.
    pub(crate) fn keys(&self, id: i64) -> Result<Vec<Key>, Error> {
        let lease = self.by_id.get(&id).ok_or(Error::LeaseNotFound)?;
        Ok(lease.keys.iter().cloned().collect())
    }

    pub(crate) fn remove(&mut self, id: i64) {
        self.by_id.remove(&id);
    }

    /// Notes the remaining time; false if there is no such lease.
    pub(crate) fn checkpoint(&mut self, id: i64, remaining_ttl_secs: i64) -> bool {
        let Some(lease) = self.by_id.get_mut(&id) else {
            return false;
        };
        lease.remaining_ttl_secs = remaining_ttl_secs;
        true
    }

    /// Moves a key to a lease; 0 detaches it.
    pub(crate) fn attach(&mut self, attachments: &mut Attachments, key: &Key, id: i64) {
        let before = match id {
            0 if attachments.is_empty() => return,
            0 => attachments.remove(key),
            _ => attachments.insert(key.clone(), id),
        };
        if before == Some(id) {
            return;
        }
        if let Some(lease) = before.and_then(|before| self.by_id.get_mut(&before)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(key.clone());
        }
    }

    pub(crate) fn view(&self, id: i64) -> Option<LeaseView> {
        let lease = self.by_id.get(&id)?;
        let keys = lease.keys.iter().map(|key| Bytes::copy_from_slice(key));
        Some(LeaseView {
            keys: keys.collect(),
            ..lease.view(id)
        })
    }

    pub(crate) fn list(&self) -> Vec<LeaseView> {
        self.by_id
            .iter()
            .map(|(id, lease)| lease.view(*id))
            .collect()
    }

    /// Key and value of a lease in its bucket.
    pub(crate) fn record(&self, id: i64) -> Option<(Bytes, Bytes)> {
        let lease = self.by_id.get(&id)?;
        let record = leasepb::Lease {
            id,
            ttl: lease.ttl_secs,
            remaining_ttl: lease.remaining_ttl_secs,
        };
        Some((record_key(id), record.encode_to_vec().into()))
    }

    /// All records, by key.
    pub(crate) fn records(&self) -> impl Iterator<Item = (Bytes, Bytes)> {
        self.by_id.keys().filter_map(|id| self.record(*id))
    }

    /// Reads a record.
    pub(crate) fn restore_record(&mut self, value: &[u8]) -> Result<(), Fatal> {
        let lease = leasepb::Lease::decode(value).map_err(|e| Fatal::record(Bucket::Lease, e))?;
        self.restore(lease.id, lease.ttl, lease.remaining_ttl);
        Ok(())
    }
}

impl Lease {
    fn view(&self, id: i64) -> LeaseView {
        LeaseView {
            id,
            ttl_secs: self.ttl_secs,
            remaining_ttl_secs: self.remaining_ttl_secs,
            keys: Vec::new(),
        }
    }
}

/// The key of a lease's record.
pub(crate) fn record_key(id: i64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// A lease as readers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Its id.
    pub id: i64,
    /// Granted seconds.
    pub ttl_secs: i64,
    /// Seconds that were left at the last checkpoint; 0 if there is none.
    pub remaining_ttl_secs: i64,
    /// Attached keys, ascending; empty in lists.
    pub keys: Vec<Bytes>,
}

/// What the leader's clock must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease began.
    Granted {
        /// The lease.
        id: i64,
        /// Granted seconds.
        ttl_secs: i64,
    },
    /// A lease ended.
    Revoked {
        /// The lease.
        id: i64,
    },
    /// The remaining time was noted; 0 clears the note.
    Checkpointed {
        /// The lease.
        id: i64,
        /// Seconds.
        remaining_ttl_secs: i64,
    },
    /// Changes were missed, or the whole state was replaced: read [`Reader::leases`](crate::Reader::leases) again.
    Rescan,
}

/// Changes of leases in order of apply. Bounded: who falls behind gets [`LeaseChange::Rescan`].
pub struct LeaseFeed {
    changes: broadcast::Receiver<LeaseChange>,
}

/// Where the changes come from.
pub(crate) fn feed() -> broadcast::Sender<LeaseChange> {
    broadcast::Sender::new(FEED_CHANGES_MAX)
}

impl LeaseFeed {
    pub(crate) fn new(changes: broadcast::Receiver<LeaseChange>) -> Self {
        Self { changes }
    }

    /// The next change; waits for it. `None` once the store is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<LeaseChange> {
        match self.changes.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(LeaseChange::Rescan),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// The next change if there is one already.
    pub fn try_next(&mut self) -> Option<LeaseChange> {
        match self.changes.try_recv() {
            Ok(change) => Some(change),
            Err(broadcast::error::TryRecvError::Lagged(_)) => Some(LeaseChange::Rescan),
            Err(_) => None,
        }
    }
}
