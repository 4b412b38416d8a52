//! Keeping a lease alive.
//!
//! A third of the TTL after each renewal the next one is due. One that gets no answer within a sixth is given up, which makes a
//! remote store try another member, and repeated with backoff until the TTL has passed since the last renewal that was
//! answered *was sent*. From then on the lease must be held for lost: the store may already have given its keys to others. (It may
//! also live on, for a change of leader prolongs leases; that only makes the owner cautious, never wrong.)

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::{debug, warn};

use crate::{Error, Kv};

/// First pause after a failed renewal; doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest pause after a failed renewal, so that an outage's end is noticed soon also with a long TTL; with a short one it is a
/// twelfth of that, so that every member is tried before the lease ends.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The shortest TTL that is worked with; the store grants none below it.
const TTL_MIN: Duration = Duration::from_secs(1);

/// What is known of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// The lease is alive.
    Alive {
        /// Its TTL.
        ttl: Duration,
        /// It may be relied on until then, if no renewal succeeds before.
        until: Instant,
    },
    /// The lease is lost, or this end was closed ([`Error::Closed`]). Final.
    Lost(Error),
}

/// Renews a lease until it is lost. Dropping it stops the renewals and leaves the lease to run out.
#[derive(Debug)]
pub struct KeepAlive {
    state: watch::Receiver<LeaseState>,
    task: JoinHandle<()>,
}

impl KeepAlive {
    /// Renews `lease`, whose TTL is `ttl`, at once and then forever. Must be called within a tokio runtime.
    pub fn start(kv: Arc<dyn Kv>, lease: i64, ttl: Duration) -> Self {
        let ttl = ttl.max(TTL_MIN);
        let until = Instant::now() + ttl;
        let (tx, state) = watch::channel(LeaseState::Alive { ttl, until });
        let renewer = Renewer {
            kv,
            lease,
            ttl,
            until,
            state: tx,
        };
        Self {
            state,
            task: tokio::spawn(renewer.run()),
        }
    }

    /// The lease's state and its changes.
    pub fn state(&self) -> watch::Receiver<LeaseState> {
        self.state.clone()
    }

    /// Completes when the lease is lost, with the reason.
    pub async fn lost(&self) -> Error {
        let mut state = self.state.clone();
        let found = state
            .wait_for(|state| matches!(state, LeaseState::Lost(_)))
            .await;
        match found.as_deref() {
            Ok(LeaseState::Lost(error)) => error.clone(),
            Ok(LeaseState::Alive { .. }) | Err(_) => Error::Closed,
        }
    }

    /// Stops the renewals; those who wait in [`lost`](Self::lost) get [`Error::Closed`].
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Renewer {
    kv: Arc<dyn Kv>,
    lease: i64,
    ttl: Duration,
    until: Instant,
    state: watch::Sender<LeaseState>,
}

impl Renewer {
    async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let pause = match self.renew().await {
                Ok(()) => {
                    backoff = BACKOFF_MIN;
                    self.ttl / 3
                }
                Err(error) if error.is_lease_not_found() => return self.lose(),
                Err(error) => {
                    debug!(lease = self.lease, %error, "lease not renewed, trying again");
                    let pause = backoff;
                    backoff = (backoff * 2).min(BACKOFF_MAX).min(self.ttl / 12);
                    pause
                }
            };
            if Instant::now() + pause >= self.until {
                sleep_until(self.until).await;
                return self.lose();
            }
            sleep(pause).await;
        }
    }

    async fn renew(&mut self) -> Result<(), Error> {
        let sent = Instant::now();
        let patience = (sent + self.ttl / 6).min(self.until);
        let answer = timeout_at(patience, self.kv.lease_renew(self.lease))
            .await
            .map_err(|_elapsed| Error::Deadline)??;
        let Some(ttl_secs) = u64::try_from(answer.ttl).ok().filter(|ttl| *ttl > 0) else {
            return Err(Error::LeaseLost(self.lease));
        };
        self.ttl = Duration::from_secs(ttl_secs).max(TTL_MIN);
        self.until = sent + self.ttl;
        self.state.send_replace(LeaseState::Alive {
            ttl: self.ttl,
            until: self.until,
        });
        Ok(())
    }

    fn lose(&self) {
        warn!(lease = self.lease, "lease lost");
        self.state
            .send_replace(LeaseState::Lost(Error::LeaseLost(self.lease)));
    }
}
