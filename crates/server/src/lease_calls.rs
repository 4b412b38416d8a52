//! Questions about leases that only the leader can answer: renewal and remaining time.
//!
//! A member that leads answers them itself, once it has proven that it still leads; another one sends them on over the peer port and
//! asks again until the time for requests is over. Renewals travel in batches: those that a client has sent when the stream is
//! looked at, one proof of leadership and one frame for all of them.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use catena_api::errors;
use catena_raft::{Handler, METHOD_FREE, Node};
use catena_runtime::{BoxFuture, NetError};
use catena_store::codec;
use serde::{Serialize, de::DeserializeOwned};
use tonic::Status;

use crate::{lease_clock, lessor::Renewal, server::Server};

/// Peer method: renews leases.
const RENEW: u32 = METHOD_FREE;
/// Peer method: remaining time of a lease.
const REMAINING: u32 = METHOD_FREE + 1;

/// Pause between two attempts to find the leader.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Pause between two looks at a lease that is being revoked or noted.
const SETTLE_INTERVAL: Duration = Duration::from_millis(10);

/// What a renewal gives: the TTL in seconds; 0 if there is no such lease.
type Ttls = Vec<i64>;

/// Why the leader did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Refusal {
    /// It does not lead: ask the one that does.
    NotLeader,
    /// It leads, by its own account, and no quorum confirms it.
    Unconfirmed,
    /// It stopped leading while it looked.
    Changed,
    /// No answer in time.
    Timeout,
}

impl Server {
    /// Renews leases, in order, wherever the leader is.
    pub(crate) async fn renew_leases(&self, ids: Vec<i64>) -> Result<Ttls, Status> {
        let ids = &ids;
        self.ask_leader(RENEW, ids, || self.renew_here(ids)).await
    }

    /// Whole seconds that a lease has left; `None` if there is no such lease.
    pub(crate) async fn lease_remaining_secs(&self, id: i64) -> Result<Option<i64>, Status> {
        self.ask_leader(REMAINING, &id, || self.remaining_here(id))
            .await
    }

    async fn ask_leader<Q, A, F>(
        &self,
        method: u32,
        question: &Q,
        here: impl Fn() -> F,
    ) -> Result<A, Status>
    where
        Q: Serialize,
        A: DeserializeOwned,
        F: Future<Output = Result<A, Refusal>>,
    {
        let asked = self.in_time(async {
            loop {
                let leadership = self.leadership();
                let answer = match leadership.leader {
                    None => Err(Refusal::NotLeader),
                    Some(id) if id == self.node.member_id() => here().await,
                    Some(id) => self.ask_remote(id, method, codec::encode(question)).await,
                };
                match answer {
                    Err(Refusal::NotLeader) => self.runtime.clock.sleep(RETRY_INTERVAL).await,
                    answered => return answered,
                }
            }
        });
        match asked.await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Refusal::Unconfirmed)) => Err(errors::NOT_PRIMARY_LESSOR.into()),
            Some(Err(Refusal::Changed)) => Err(errors::LEADER_CHANGED.into()),
            Some(Err(Refusal::NotLeader | Refusal::Timeout)) | None => Err(errors::TIMEOUT.into()),
        }
    }

    /// Asks the leader, unless there is another one before it has answered: one that hangs must not cost a client its lease.
    async fn ask_remote<A: DeserializeOwned>(
        &self,
        leader: u64,
        method: u32,
        body: Bytes,
    ) -> Result<A, Refusal> {
        let timeout = self.config.request_timeout();
        let mut leadership = self.leadership_changes();
        let other = leadership.wait_for(|now| now.leader.is_some_and(|now| now != leader));
        let answer = tokio::select! {
            biased;
            answer = self.node.call_leader(method, body, timeout) => answer,
            _ = other => return Err(Refusal::NotLeader),
        };
        // Both questions may be asked again, so a lost answer counts as none.
        let answer = answer.map_err(|_| Refusal::NotLeader)?;
        codec::decode(&answer).map_err(|_| Refusal::NotLeader)?
    }

    async fn renew_here(&self, ids: &[i64]) -> Result<Ttls, Refusal> {
        let term = self.prove_leadership().await?;
        self.unnote(term, ids).await?;
        let mut ttls = Vec::with_capacity(ids.len());
        for &id in ids {
            ttls.push(self.renew_one(term, id).await?);
        }
        Ok(ttls)
    }

    /// Takes the notes of these leases back, all in one command.
    async fn unnote(&self, term: u64, ids: &[i64]) -> Result<(), Refusal> {
        let noted = self.lessor.noted(self.runtime.clock.now(), ids);
        lease_clock::clear_notes(self, term, &noted)
            .await
            .map_err(|_| Refusal::NotLeader)
    }

    async fn renew_one(&self, term: u64, id: i64) -> Result<i64, Refusal> {
        loop {
            if self.lessor.term() != Some(term) {
                return Err(Refusal::NotLeader);
            }
            // The store hears of a revocation before the clock does.
            if !self.reader.has_lease(id) && !self.has_lease_soon(id).await? {
                return Ok(0);
            }
            match self.lessor.renew(self.runtime.clock.now(), id) {
                Renewal::Renewed(ttl) => {
                    self.metrics.leases_renewed.inc();
                    return Ok(ttl);
                }
                Renewal::Noted => self.unnote(term, &[id]).await?,
                // The clock has not heard of the lease yet.
                Renewal::Unknown => {
                    if let Some(lease) = self.reader.lease(id) {
                        self.lessor
                            .admit(self.runtime.clock.now(), id, lease.ttl_secs);
                    }
                }
                Renewal::Noting | Renewal::Expired => {
                    self.runtime.clock.sleep(SETTLE_INTERVAL).await;
                }
                Renewal::NotPrimary => return Err(Refusal::NotLeader),
            }
        }
    }

    /// Whether the lease exists once everything is applied that is committed now: its grant may be on the way.
    async fn has_lease_soon(&self, id: i64) -> Result<bool, Refusal> {
        self.node
            .read_index()
            .await
            .map_err(|_| Refusal::Unconfirmed)?;
        Ok(self.reader.has_lease(id))
    }

    async fn remaining_here(&self, id: i64) -> Result<Option<i64>, Refusal> {
        let term = self.prove_leadership().await?;
        let now = self.runtime.clock.now();
        if let Some(lease) = self.reader.lease(id) {
            self.lessor.admit(now, id, lease.ttl_secs);
        } else if !self.has_lease_soon(id).await? {
            return Ok(None);
        }
        let remaining = self.lessor.remaining_secs(self.runtime.clock.now(), id);
        match remaining {
            Some((counted_in, secs)) if counted_in == term => Ok(secs),
            _ => Err(Refusal::Changed),
        }
    }

    /// Proves that this member leads, and waits until its clock runs.
    async fn prove_leadership(&self) -> Result<u64, Refusal> {
        let term = self
            .node
            .confirm_leader()
            .await
            .map_err(|error| match error {
                catena_raft::ReadError::NotLeader => Refusal::NotLeader,
                catena_raft::ReadError::Timeout
                | catena_raft::ReadError::NoLeader
                | catena_raft::ReadError::Stopped => Refusal::Unconfirmed,
            })?;
        // A new leader's clock starts when it has applied its predecessors' entries.
        if self.lessor.term() == Some(term) {
            Ok(term)
        } else {
            Err(Refusal::NotLeader)
        }
    }
}

/// Lets other members ask this one. The node keeps the handlers, and the server keeps the node, so they do not keep the server.
pub(crate) fn serve(server: &Arc<Server>, node: &Node) {
    node.handle(RENEW, Arc::new(Renewals(Arc::downgrade(server))));
    node.handle(REMAINING, Arc::new(Remaining(Arc::downgrade(server))));
}

fn living(server: &Weak<Server>) -> Result<Arc<Server>, NetError> {
    let gone = || NetError::Refused("member stops".to_owned());
    server.upgrade().ok_or_else(gone)
}

struct Renewals(Weak<Server>);

impl Handler for Renewals {
    fn call(&self, _from: u64, body: Bytes) -> BoxFuture<'_, Result<Bytes, NetError>> {
        Box::pin(async move {
            let server = living(&self.0)?;
            let ids: Vec<i64> = decode(&body)?;
            let renewed = server.in_time(server.renew_here(&ids)).await;
            Ok(codec::encode(&renewed.unwrap_or(Err(Refusal::Timeout))))
        })
    }
}

struct Remaining(Weak<Server>);

impl Handler for Remaining {
    fn call(&self, _from: u64, body: Bytes) -> BoxFuture<'_, Result<Bytes, NetError>> {
        Box::pin(async move {
            let server = living(&self.0)?;
            let id: i64 = decode(&body)?;
            let remaining = server.in_time(server.remaining_here(id)).await;
            Ok(codec::encode(&remaining.unwrap_or(Err(Refusal::Timeout))))
        })
    }
}

fn decode<T: DeserializeOwned>(body: &Bytes) -> Result<T, NetError> {
    codec::decode(body).map_err(|error| NetError::Refused(error.to_string()))
}
