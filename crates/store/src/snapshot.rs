//! A frozen picture of the whole state.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{
    Fatal, Position,
    backend::{Bucket, View, Visit},
    meta,
    mvcc::{Revision, Stored},
    state::{Ledger, State},
};

/// All buckets as they would lie in the engine if everything applied were committed and every compaction finished. It pins a view
/// of the engine: hold it as long as it is being copied, no longer.
pub struct Snapshot {
    state: Arc<State>,
    /// Every bucket but that of keys, written out when first asked for: who only asks for the position pays for no lease.
    others: OnceLock<BTreeMap<(Bucket, Bytes), Bytes>>,
}

impl Snapshot {
    pub(crate) fn new(state: Arc<State>) -> Self {
        let others = OnceLock::new();
        Self { state, others }
    }

    /// Position of the last entry in it.
    pub fn position(&self) -> Option<Position> {
        self.state.ledger.applied
    }

    /// The membership in it and the position of the entry that brought it.
    pub fn membership(&self) -> Option<(Option<Position>, Bytes)> {
        self.state.ledger.membership.clone()
    }

    /// Revision of the store in it.
    pub fn revision(&self) -> i64 {
        self.state.ledger.revision
    }

    /// Whether the record survives a compaction at the compacted revision: if not, it only waits for deletion.
    fn survives(&self, record_key: &[u8], stored: Stored<'_>) -> bool {
        let ledger = &self.state.ledger;
        let Some((revision, _)) = Revision::parse(record_key) else {
            return true;
        };
        // The newest layer grows on: what was applied after this moment is not in the picture.
        revision.main <= ledger.revision
            && (revision.main > ledger.compacted
                || ledger.index.keeps(stored.key(), revision, ledger.compacted))
    }
}

impl View for Snapshot {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        let mut found = None;
        let after = [key, b"\0"].concat();
        self.scan(bucket, key, Some(&after), &mut |_, value| {
            found = Some(Bytes::copy_from_slice(value));
            Visit::Stop
        })?;
        Ok(found)
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal> {
        if bucket == Bucket::Key {
            let records = &self.state.records;
            return records.scan_keys(
                from,
                to,
                &mut |key, stored| match self.survives(key, stored) {
                    true => visit(key, stored.bytes()),
                    false => Visit::Continue,
                },
            );
        }
        let others = self.others.get_or_init(|| others(&self.state.ledger));
        let first = (bucket, Bytes::copy_from_slice(from));
        for ((at, key), value) in others.range(first..) {
            let is_past = *at != bucket || to.is_some_and(|to| &key[..] >= to);
            if is_past || visit(key, value) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }
}

fn others(ledger: &Ledger) -> BTreeMap<(Bucket, Bytes), Bytes> {
    let mut records = BTreeMap::new();
    let mut put = |bucket, (key, value)| records.insert((bucket, key), value);
    let position = ledger.applied.map(meta::position);
    for pair in position.into_iter().flatten() {
        put(Bucket::Meta, pair);
    }
    if let Some(membership) = &ledger.membership {
        put(Bucket::Meta, meta::membership(membership));
    }
    if let Some(id) = ledger.members.cluster_id {
        put(Bucket::Meta, meta::cluster_id(id));
    }
    if ledger.compacted >= 0 {
        put(Bucket::Meta, meta::scheduled(ledger.compacted));
        put(Bucket::Meta, meta::finished(ledger.compacted));
    }
    for lease in ledger.leases.records() {
        put(Bucket::Lease, lease);
    }
    for (bucket, key, value) in ledger.members.records() {
        put(bucket, (key, value));
    }
    for key in ledger.alarms.records() {
        put(Bucket::Alarm, (key, Bytes::new()));
    }
    if let Some(version) = &ledger.cluster_version {
        let version = Bytes::copy_from_slice(version.as_bytes());
        put(
            Bucket::Cluster,
            (Bytes::from_static(meta::CLUSTER_VERSION), version),
        );
    }
    records
}
