//! The way of applied state into the engine.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use crate::{
    Fatal,
    backend::{Backend, Bucket, Change},
    mvcc::Layer,
    state::Shared,
};

/// What was applied between two seals: one atomic batch, with the applied position in it.
pub struct Sealed {
    pub(crate) layer: Arc<Layer>,
    /// Changes beside the layer's records, which come before them.
    pub(crate) changes: Vec<Change>,
    pub(crate) bytes: usize,
    /// The compaction whose deletions end in this batch.
    pub(crate) finished: Option<i64>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) generation: u64,
}

/// Writes sealed batches to the engine, in the order of sealing.
#[derive(Clone)]
pub struct Committer {
    pub(crate) shared: Arc<Shared>,
}

impl Committer {
    /// Writes a batch and drops it from the overlay; blocks until it is durable. The caller has made the log durable first. A batch
    /// sealed before an [`install`](crate::Store::install) is dropped unwritten.
    pub fn commit(&self, sealed: Sealed) -> Result<(), Fatal> {
        let _commit = self.shared.commit.lock();
        let (records, generation) = self.shared.records();
        if generation != sealed.generation {
            return Ok(());
        }
        if !Arc::ptr_eq(&records.layers[0], &sealed.layer) {
            let error = "batches are committed in another order than sealed";
            return Err(Fatal::Engine(error.into()));
        }
        drop(records);
        sealed.backend.write(&sealed.to_changes())?;
        let base = self.shared.records().0.base.renewed()?;
        self.shared.rebase(base, generation, Some(&sealed.layer));
        if self.shared.is_current(generation) {
            let sizes = &self.shared.sealed_bytes;
            sizes.fetch_sub(sealed.bytes, Ordering::Relaxed);
            if let Some(finished) = sealed.finished {
                self.shared.compacted.send_replace(finished);
            }
        }
        Ok(())
    }
}

impl Sealed {
    /// Bytes of the batch.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn to_changes(&self) -> Vec<Change> {
        let records = self.layer.iter().map(|record| {
            let key: Bytes = record.revision.key(record.tombstone).to_bytes();
            Change::Put(Bucket::Key, key, record.kv.as_encoded().clone())
        });
        records.chain(self.changes.iter().cloned()).collect()
    }
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
