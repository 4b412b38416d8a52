//! Mutual exclusion by etcd's recipe.
//!
//! A lock is as good as its lease: a holder that was stopped for longer than the TTL no longer holds it and cannot know. Where that
//! matters, put [`Lock::held`] into the transaction that does the work, or carry [`Lock::revision`] along as a fencing token.

use std::sync::Arc;

use bytes::Bytes;
use catena_api::{errors, etcd::lockpb::LockResponse};

use crate::{
    Kv, Result, Session,
    pb::{Compare, ResponseHeader, TxnRequest},
    queue::{self, Place},
    request::{self, Operation},
};

/// Takes the lock `name` on a lease, waiting for it: what etcd's Lock service answers. For lease 0 one of 60 seconds is granted and
/// not renewed, so that the lock ends by itself.
///
/// Dropping the future while it waits leaves the line. Dropped, or failed, before the first answer, it may leave a place behind that
/// lasts as long as the lease; calling again with the same lease takes that place.
pub async fn lock(kv: &Arc<dyn Kv>, name: &[u8], lease: i64) -> Result<LockResponse> {
    let lease = queue::lease_or_orphan(kv.as_ref(), lease).await?;
    let lock = acquire(kv, &queue::prefix(name), lease).await?;
    let response = LockResponse {
        header: Some(lock.header),
        key: lock.place.key().clone(),
    };
    lock.place.keep();
    Ok(response)
}

/// Gives up the lock whose key [`lock`] gave. An unknown key is success.
pub async fn unlock(kv: &dyn Kv, key: Bytes) -> Result<ResponseHeader> {
    let answer = kv.delete_range(request::delete(key)).await?;
    Ok(answer.header.unwrap_or_default())
}

/// A lock that a session's owner can take.
#[derive(Clone, Debug)]
pub struct Mutex {
    session: Arc<Session>,
    prefix: Bytes,
}

/// A lock that is held. Dropping it gives it up in the background; [`unlock`](Self::unlock) says when that is done.
pub struct Lock {
    header: ResponseHeader,
    place: Place,
}

impl Mutex {
    /// The lock `name`.
    pub fn new(session: Arc<Session>, name: &str) -> Self {
        Self {
            session,
            prefix: queue::prefix(name.as_bytes()),
        }
    }

    /// Takes the lock, waiting for it. Dropping the future leaves the line.
    pub async fn lock(&self) -> Result<Lock> {
        tokio::select! {
            biased;
            lost = self.session.lost() => Err(lost),
            lock = acquire(self.session.kv(), &self.prefix, self.session.lease()) => lock,
        }
    }

    /// Takes the lock if it is free.
    pub async fn try_lock(&self) -> Result<Option<Lock>> {
        let (lock, first) = enter(self.session.kv(), &self.prefix, self.session.lease()).await?;
        if first {
            return Ok(Some(lock));
        }
        lock.place.leave().await?;
        Ok(None)
    }
}

impl Lock {
    /// The header of the answer that made this end the holder.
    pub fn header(&self) -> &ResponseHeader {
        &self.header
    }

    /// The key by which the lock is held.
    pub fn key(&self) -> &Bytes {
        self.place.key()
    }

    /// Grows from holder to holder: a fencing token.
    pub fn revision(&self) -> i64 {
        self.place.revision()
    }

    /// True inside a transaction as long as the lock is held.
    pub fn held(&self) -> Compare {
        request::created_at(self.key().clone(), self.revision())
    }

    /// Gives the lock up.
    pub async fn unlock(self) -> Result<()> {
        self.place.leave().await
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock")
            .field("key", self.key())
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

/// Enters the line, or finds the lease's place in it; and whether that is the first.
async fn enter(kv: &Arc<dyn Kv>, prefix: &Bytes, lease: i64) -> Result<(Lock, bool)> {
    let key = queue::key(prefix, lease);
    let put = crate::pb::PutRequest {
        lease,
        ..request::put(key.clone(), "")
    };
    let answer = kv
        .txn(TxnRequest {
            compare: vec![request::absent(key.clone())],
            success: vec![put.op(), queue::first(prefix).op()],
            failure: vec![request::get(key.clone()).op(), queue::first(prefix).op()],
        })
        .await?;
    let header = answer.header.unwrap_or_default();
    let ranges: Vec<_> = answer
        .responses
        .iter()
        .map(|op| queue::first_kv(&request::range_answer(op)))
        .collect();
    let own = ranges.first().and_then(Option::as_ref);
    let revision = match own {
        Some(own) if !answer.succeeded => own.create_revision,
        Some(_) | None => header.revision,
    };
    let owner = ranges.get(1).and_then(Option::as_ref);
    let first = owner.is_none_or(|owner| owner.create_revision == revision);
    let place = Place::new(kv.clone(), key, revision);
    Ok((Lock { header, place }, first))
}

async fn acquire(kv: &Arc<dyn Kv>, prefix: &Bytes, lease: i64) -> Result<Lock> {
    let (mut lock, first) = enter(kv, prefix, lease).await?;
    if first {
        return Ok(lock);
    }
    lock.place.wait(prefix).await?;
    // The own key may have gone with its lease while others were waited for.
    let own = kv.range(request::get(lock.place.key().clone())).await?;
    if own.kvs.is_empty() {
        lock.place.keep();
        return Err(errors::SESSION_EXPIRED.into());
    }
    lock.header = own.header.unwrap_or_default();
    Ok(lock)
}
