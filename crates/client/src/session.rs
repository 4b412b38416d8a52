//! A lease that is kept alive for its owner, the ground on which locks and leaderships stand.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{Error, KeepAlive, Kv, LeaseState, Result, request};

/// How a session begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// The TTL to ask for; without meaning if `lease` is given.
    pub ttl_secs: i64,
    /// An existing lease to take over, or 0 to be granted a new one.
    pub lease: i64,
}

/// etcd's default: 60 seconds, a new lease.
impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            ttl_secs: 60,
            lease: 0,
        }
    }
}

/// A lease that is renewed until [`close`](Self::close), or until it is lost. Dropping the session stops the renewals and leaves the
/// lease to run out.
pub struct Session {
    kv: Arc<dyn Kv>,
    lease: i64,
    keep_alive: KeepAlive,
}

impl Session {
    /// Grants a lease, or takes one over, and keeps it alive.
    pub async fn open(kv: Arc<dyn Kv>, options: SessionOptions) -> Result<Self> {
        let (lease, ttl) = match options.lease {
            0 => {
                let granted = kv.lease_grant(request::grant(options.ttl_secs)).await?;
                (granted.id, granted.ttl)
            }
            lease => (lease, kv.lease_renew(lease).await?.ttl),
        };
        let ttl_secs = u64::try_from(ttl).unwrap_or(0);
        if ttl_secs == 0 {
            return Err(Error::LeaseLost(lease));
        }
        let keep_alive = KeepAlive::start(kv.clone(), lease, Duration::from_secs(ttl_secs));
        Ok(Self {
            kv,
            lease,
            keep_alive,
        })
    }

    /// The lease.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// The store in which the lease lives.
    pub fn kv(&self) -> &Arc<dyn Kv> {
        &self.kv
    }

    /// The lease's state and its changes.
    pub fn state(&self) -> watch::Receiver<LeaseState> {
        self.keep_alive.state()
    }

    /// Completes when the lease is lost or the session closed. Whoever holds a lock or a leadership on this session must stop then.
    pub async fn lost(&self) -> Error {
        self.keep_alive.lost().await
    }

    /// Ends the session: revokes the lease and thereby deletes all that is attached to it. A lease that is gone already is success.
    pub async fn close(&self) -> Result<()> {
        self.keep_alive.stop();
        match self.kv.lease_revoke(self.lease).await {
            Err(error) if !error.is_lease_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
