//! Rebuilding what lives in memory from what lies in the engine.

use std::sync::Arc;

use crate::{
    Fatal, Members,
    alarm::Alarms,
    backend::{Bucket, View, Visit},
    lease::{Attachments, Leases},
    meta::{self, Meta},
    mvcc::Compaction,
    replay::{Replayed, replay},
    state::Ledger,
};

/// A state as it was found.
pub(crate) struct Restored {
    pub(crate) ledger: Ledger,
    pub(crate) attachments: Attachments,
    /// The compaction that had not finished.
    pub(crate) pending: Option<Compaction>,
    /// The compaction that had finished; -1 if none.
    pub(crate) finished: i64,
}

/// Reads everything. Costs one pass over the records.
pub(crate) fn restore(view: &dyn View) -> Result<Restored, Fatal> {
    let meta = Meta::read(view)?;
    let Replayed {
        index,
        last,
        mut attachments,
    } = replay(view)?;
    let mut leases = Leases::default();
    each(view, Bucket::Lease, |_, value| leases.restore_record(value))?;
    // A lease that is gone took its keys along; a file from elsewhere may say otherwise, and then the keys hang on nothing.
    let attached = std::mem::take(&mut attachments);
    for (key, id) in attached
        .into_iter()
        .filter(|(_, id)| leases.contains(*id))
        .collect::<Vec<_>>()
    {
        leases.attach(&mut attachments, &key, id);
    }
    let mut members = Members {
        cluster_id: meta.cluster_id,
        ..Members::default()
    };
    each(view, Bucket::Members, |key, value| {
        members.restore(key, value)
    })?;
    each(view, Bucket::MembersRemoved, |key, _| {
        members.restore_removed(key)
    })?;
    let mut alarms = Alarms::default();
    each(view, Bucket::Alarm, |key, _| alarms.restore(key))?;
    let cluster_version = view.get(Bucket::Cluster, meta::CLUSTER_VERSION)?;
    let is_pending = meta.scheduled > meta.finished;
    Ok(Restored {
        ledger: Ledger {
            index,
            revision: last.max(meta.scheduled).max(meta.finished).max(1),
            compacted: meta.scheduled.max(meta.finished),
            applied: meta.applied,
            membership: meta.membership,
            leases,
            members: Arc::new(members),
            alarms: Arc::new(alarms),
            cluster_version: cluster_version
                .map(|version| String::from_utf8_lossy(&version).into()),
        },
        attachments,
        pending: is_pending.then(|| Compaction::new(meta.scheduled, meta.finished, false)),
        finished: meta.finished,
    })
}

/// Visits all pairs of a bucket until one is refused.
fn each(
    view: &dyn View,
    bucket: Bucket,
    mut read: impl FnMut(&[u8], &[u8]) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    let mut refused = None;
    view.scan(
        bucket,
        b"",
        None,
        &mut |key, value| match read(key, value) {
            Ok(()) => Visit::Continue,
            Err(error) => {
                refused = Some(error);
                Visit::Stop
            }
        },
    )?;
    refused.map_or(Ok(()), Err)
}
