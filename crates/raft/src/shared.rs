//! What the parts of a running member share.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::{NetError, Network, Runtime, watch};
use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::{
    CallError, Handler, Leadership, consensus::Consensus, identity::Identity, machine::Machine,
    method, stop::StopCell,
};

/// Times and rules of a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) election: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) strict_reconfig: bool,
    pub(crate) learners_max: usize,
}

/// Shared by the tasks, the service and the handle of a member.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) rules: Rules,
    pub(crate) runtime: Runtime,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) consensus: Arc<dyn Consensus>,
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) stop: StopCell,
    pub(crate) handlers: RwLock<HashMap<u32, Arc<dyn Handler>>>,
    /// Set while leadership is handed over: batches wait.
    pub(crate) handing_over: AtomicBool,
    /// One change of members, or one hand-over, at a time.
    pub(crate) reconfiguring: Semaphore,
    /// When the current leader was first seen, in nanoseconds of the clock.
    pub(crate) leader_since: AtomicU64,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    /// This member.
    Here,
    /// Another one.
    There(u64),
    /// Nobody, as far as we know.
    Nowhere,
}

impl Shared {
    /// Who leads, as far as we know.
    pub(crate) fn leader(&self) -> Leader {
        let known = *self.leadership.borrow();
        match known.leader {
            Some(id) if id != self.identity.member_id => Leader::There(id),
            Some(_) if known.led_term().is_some() => Leader::Here,
            Some(_) | None => Leader::Nowhere,
        }
    }

    /// The term that this member leads, if it is the whole cluster and has applied all that was committed before: then what it has
    /// applied is all that anybody was ever told.
    pub(crate) fn sole_leader(&self) -> Option<u64> {
        let term = self.leadership.borrow().led_term()?;
        let is_sole = self.machine.sole.is() && self.machine.is_applied_term(term);
        is_sole.then_some(term)
    }

    /// The term that this member leads, if that needs no question: nobody else is there, or a quorum has answered so lately that it
    /// elects nobody yet. While leadership is handed over, that says nothing.
    pub(crate) fn surely_led_term(&self) -> Option<u64> {
        let confirmed = || {
            let is_kept = !self.handing_over.load(Ordering::SeqCst);
            let lease = self.rules.election / 2;
            is_kept.then(|| self.consensus.confirmed_within(lease))?
        };
        self.sole_leader().or_else(confirmed)
    }

    pub(crate) fn now(&self) -> Duration {
        self.runtime.clock.now()
    }

    /// Waits until somebody else leads than before, but no longer than `limit`.
    pub(crate) async fn leader_changes(&self, limit: Duration) {
        let mut leadership = self.leadership.clone();
        leadership.mark_unchanged();
        let change = leadership.changed();
        let clock = self.runtime.clock.as_ref();
        // Whether it changed, or the sender is gone with the member: the caller looks again.
        let _either = crate::blocking::timeout(clock, limit, change).await;
    }

    /// Keeps note of when the leader changed.
    pub(crate) async fn track_leader(self: Arc<Self>) {
        let mut leadership = self.leadership.clone();
        let mut known = Leadership::default();
        loop {
            let now = *leadership.borrow_and_update();
            if (now.leader, now.term) != (known.leader, known.term) {
                let since = self.now().as_nanos() as u64;
                self.leader_since.store(since, Ordering::Relaxed);
                tracing::info!(
                    leader = now.leader.map(|id| format!("{id:x}")),
                    term = now.term,
                    "leader changed"
                );
            }
            known = now;
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    /// When the current leader was first seen.
    pub(crate) fn leader_since(&self) -> Duration {
        Duration::from_nanos(self.leader_since.load(Ordering::Relaxed))
    }

    /// Whether there was contact with the leader, or as leader with a quorum, after `time`.
    pub(crate) fn connected_after(&self, time: Duration) -> bool {
        let contact = match self.leader() {
            Leader::Here => {
                let silent = self.consensus.quorum_silent();
                silent.map(|silent| self.now().saturating_sub(silent))
            }
            Leader::There(_) | Leader::Nowhere => self.machine.heard.at(),
        };
        contact.is_some_and(|contact| contact >= time)
    }

    /// Calls a method of the leader once.
    pub(crate) async fn call_leader(
        &self,
        method: u32,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        match self.leader() {
            Leader::Here => Ok(self.handle(self.identity.member_id, method, body).await?),
            Leader::There(id) => Ok(self.network.call(id, method, body, timeout).await?),
            Leader::Nowhere => Err(CallError::NoLeader),
        }
    }

    /// Answers a call of a method that another part of the member handles.
    pub(crate) async fn handle(
        &self,
        from: u64,
        method: u32,
        body: Bytes,
    ) -> Result<Bytes, NetError> {
        let handler = self.handlers.read().get(&method).cloned();
        match handler {
            Some(handler) => handler.call(from, body).await,
            None => Err(NetError::Refused(format!("unknown method {method}"))),
        }
    }

    /// Refuses members that were removed.
    pub(crate) fn check_present(&self, from: u64) -> Result<(), NetError> {
        match self.machine.reader.is_removed(from) {
            true => Err(NetError::Refused(method::removed(from))),
            false => Ok(()),
        }
    }
}
