//! The way of every write: quota, checks, size, log, quota again.
//!
//! The order is etcd's, and clients can see it: an oversized database answers "database space exceeded" even to an invalid put.
//! What etcd checks when it applies a write beyond the quota (the write stands, but its caller is told that there is no space) is done
//! here too, by the member that proposed it.

use catena_api::{errors, etcd::etcdserverpb as pb};
use catena_store::{Command, Error, Outcome, Request, Response, check, quota};
use prost::Message;
use tonic::Status;

use crate::{error::status, server::Server};

/// What etcd wraps around a request before it measures it: a header with a request id, tags and lengths.
const ENVELOPE_BYTES: usize = 18;

impl Server {
    /// Replicates a client's request; the answer's header stands beside it.
    pub(crate) async fn write(
        &self,
        request: Request,
    ) -> Result<(Response, pb::ResponseHeader), Status> {
        let cost = quota::cost(&request);
        if !self.has_room(cost) {
            return Err(Box::pin(self.no_space()).await);
        }
        self.check(&request).map_err(status)?;
        if encoded_len(&request) + ENVELOPE_BYTES > self.config.max_request_bytes {
            return Err(errors::REQUEST_TOO_LARGE.into());
        }
        let outcome = self.propose(request).await?;
        let response = outcome.result.map_err(status)?;
        self.metrics.mvcc.count(&response);
        if !self.has_room(cost) {
            return Err(Box::pin(self.no_space()).await);
        }
        let header = self.header_of_term(outcome.revision, outcome.position.term);
        Ok((response, header))
    }

    /// Replicates a command without checks.
    pub(crate) async fn propose(&self, request: Request) -> Result<Outcome, Status> {
        let _pending = self.metrics.pending_proposal();
        let proposed = self.node.propose(Command::internal(request)).await;
        proposed.map_err(|error| {
            self.metrics.proposals_failed.inc();
            status(error)
        })
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        match request {
            Request::Put(put) => check::put(put),
            Request::DeleteRange(delete) => check::delete_range(delete),
            Request::Txn(txn) => check::txn(txn, self.config.max_txn_ops),
            Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::LeaseCheckpoint(_)
            | Request::Alarm(_)
            | Request::Member(_)
            | Request::ClusterVersion(_) => Ok(()),
        }
    }

    fn has_room(&self, cost: u64) -> bool {
        let Some(quota) = self.config.quota() else {
            return true;
        };
        // What was applied a moment ago is not in the files yet, and counts: many fast writes would go far beyond the quota.
        let size = self.reader.sizes().physical + self.reader.uncommitted_bytes();
        cost == 0 || size.saturating_add(cost) < quota
    }

    /// Raises this member's alarm, unless it stands already, and makes the answer.
    async fn no_space(&self) -> Status {
        let alarm = pb::AlarmMember {
            member_id: self.node.member_id(),
            alarm: pb::AlarmType::Nospace.into(),
        };
        if !self.reader.alarms().contains(&alarm) {
            tracing::warn!(
                quota_size_bytes = self.config.quota(),
                "message exceeded backend quota; raising alarm"
            );
            let raise = Request::Alarm(pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Activate.into(),
                member_id: alarm.member_id,
                alarm: alarm.alarm,
            });
            // If it fails the next request tries again; the client is refused in any case.
            if let Err(error) = self.propose(raise).await {
                tracing::warn!(error = error.message(), "failed to raise alarm");
            }
        }
        errors::NO_SPACE.into()
    }
}

fn encoded_len(request: &Request) -> usize {
    match request {
        Request::Put(request) => request.encoded_len(),
        Request::DeleteRange(request) => request.encoded_len(),
        Request::Txn(request) => request.encoded_len(),
        Request::Compact(request) => request.encoded_len(),
        Request::LeaseGrant(request) => request.encoded_len(),
        Request::LeaseRevoke(request) => request.encoded_len(),
        Request::Alarm(request) => request.encoded_len(),
        // Members propose these; no client can make them large.
        Request::LeaseCheckpoint(_) | Request::Member(_) | Request::ClusterVersion(_) => 0,
    }
}

/// The store answered a request with an answer of another kind: a mistake in this program, which must not end the member.
pub(crate) fn mismatched() -> Status {
    tracing::error!("the answer of the store is not of the kind that was asked for");
    Status::internal("answer of another kind")
}
