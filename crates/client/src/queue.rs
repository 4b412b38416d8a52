//! The line in which those who want a lock or a leadership stand: etcd's key layout and its way of waiting.
//!
//! All keys of one name begin with `name/`; each waiter's key ends in the hexadecimal id of its lease, so it vanishes with its owner.
//! The line's order is that of the keys' create revisions. A waiter watches only the key before its own: when an owner leaves, one
//! waiter wakes and not all of them.

use std::sync::Arc;

use bytes::Bytes;
use tracing::debug;

use crate::{
    Error, Kv, Result, Watcher,
    pb::{
        EventType, KeyValueView, RangeRequest, RangeResponse, TxnRequest, WatchCreateRequest,
        range_request::{SortOrder, SortTarget},
    },
    request::{self, Operation},
};

/// TTL of the lease that is granted to a caller who brings none, and never renewed: etcd's own.
const ORPHAN_TTL_SECS: i64 = 60;

/// The given lease, or for 0 a new one that ends by itself.
pub(crate) async fn lease_or_orphan(kv: &dyn Kv, lease: i64) -> Result<i64> {
    if lease != 0 {
        return Ok(lease);
    }
    Ok(kv.lease_grant(request::grant(ORPHAN_TTL_SECS)).await?.id)
}

/// What all keys of a name begin with.
pub(crate) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of a lease's owner.
pub(crate) fn key(prefix: &[u8], lease: i64) -> Bytes {
    // As Go prints a negative number: a sign and the digits of its absolute value.
    let sign = if lease < 0 { "-" } else { "" };
    let suffix = format!("{sign}{:x}", lease.unsigned_abs());
    [prefix, suffix.as_bytes()].concat().into()
}

/// Reads the first in line.
pub(crate) fn first(prefix: &Bytes) -> RangeRequest {
    RangeRequest {
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..request::get_prefix(prefix.clone())
    }
}

/// The only pair, or the first, of an answer.
pub(crate) fn first_kv(answer: &RangeResponse) -> Option<KeyValueView> {
    answer.kvs.first().map(|kv| kv.view())
}

/// A place in the line. Dropping it leaves the line, in the background.
pub(crate) struct Place {
    kv: Arc<dyn Kv>,
    key: Bytes,
    revision: i64,
    kept: bool,
}

impl Place {
    pub(crate) fn new(kv: Arc<dyn Kv>, key: Bytes, revision: i64) -> Self {
        Self {
            kv,
            key,
            revision,
            kept: false,
        }
    }

    pub(crate) fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    pub(crate) fn key(&self) -> &Bytes {
        &self.key
    }

    /// Create revision of the key.
    pub(crate) fn revision(&self) -> i64 {
        self.revision
    }

    /// Waits until nobody stands before.
    pub(crate) async fn wait(&self, prefix: &Bytes) -> Result<()> {
        let before = RangeRequest {
            limit: 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            max_create_revision: self.revision - 1,
            ..request::get_prefix(prefix.clone())
        };
        loop {
            let answer = self.kv.range(before.clone()).await?;
            let Some(predecessor) = first_kv(&answer) else {
                return Ok(());
            };
            let watch = WatchCreateRequest {
                start_revision: answer.header.unwrap_or_default().revision,
                ..request::watch(predecessor.key)
            };
            match wait_deleted(&mut self.kv.watch(watch).await?).await {
                // The predecessor's fate is in the compacted part: read again.
                Err(error) if error.is_compacted() => {}
                other => other?,
            }
        }
    }

    /// Leaves the line now. After an error, or if the future is dropped, it is tried once more in the background.
    pub(crate) async fn leave(mut self) -> Result<()> {
        self.kv.txn(leave(&self.key, self.revision)).await?;
        self.kept = true;
        Ok(())
    }

    /// Stays in line when dropped.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Without a runtime nothing can be sent; the lease ends the place.
            return;
        };
        if self.kept {
            return;
        }
        let (kv, leave) = (self.kv.clone(), leave(&self.key, self.revision));
        // Nobody is left to own this task; it ends with its one call, whose time the store bounds.
        runtime.spawn(async move {
            if let Err(error) = kv.txn(leave).await {
                debug!(%error, "place in line not left, its lease will end it");
            }
        });
    }
}

/// Deletes the key if it still is the one that was created at `revision`: a later one of the same lease belongs to another call.
fn leave(key: &Bytes, revision: i64) -> TxnRequest {
    TxnRequest {
        compare: vec![request::created_at(key.clone(), revision)],
        success: vec![request::delete(key.clone()).op()],
        failure: Vec::new(),
    }
}

async fn wait_deleted(watcher: &mut Watcher) -> Result<(), Error> {
    loop {
        let response = watcher.next().await?;
        if response
            .events
            .iter()
            .any(|event| event.kind() == EventType::Delete)
        {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_layout_is_etcd_s() {
        let prefix = prefix(b"jobs");
        assert_eq!(&prefix[..], b"jobs/");
        assert_eq!(
            &key(&prefix, 0x694d_81b5_33b0_7f0a)[..],
            b"jobs/694d81b533b07f0a"
        );
        assert_eq!(&key(&prefix, 1)[..], b"jobs/1");
        assert_eq!(&key(&prefix, -255)[..], b"jobs/-ff");
    }
}
