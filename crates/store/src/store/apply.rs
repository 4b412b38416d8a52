//! The commands, one after the other.

use std::sync::Arc;

use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;

use super::Store;
use crate::{
    Error, LeaseChange, LeaseCheckpoint, MemberChange, ReadError, Request, Response,
    alarm::{self, AlarmChange},
    backend::Bucket,
    lease, member, meta,
    mvcc::{self, Compaction, Records, Writer},
    watch::Batch,
};

/// Walks of compactions that may wait. Compactions come minutes apart; if they come faster than the walks are made, the last two
/// are made in one.
const COMPACTIONS_MAX: usize = 16;

/// What one entry has to tell once it is visible.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) batches: Vec<Arc<Batch>>,
    pub(super) leases: Vec<LeaseChange>,
}

impl Store {
    pub(super) fn execute(
        &mut self,
        request: &Request,
        records: &Records,
        effects: &mut Effects,
    ) -> Result<Response, ReadError> {
        self.ledger.alarms.check(request)?;
        match request {
            Request::Put(put) => self.write(records, effects, |writer| {
                writer.check_put(put)?;
                Ok(Response::Put(writer.put(put)?))
            }),
            Request::DeleteRange(delete) => self.write(records, effects, |writer| {
                Ok(Response::DeleteRange(writer.delete_range(delete)?))
            }),
            Request::Txn(txn) => self.write(records, effects, |writer| {
                Ok(Response::Txn(writer.txn(txn)?))
            }),
            Request::Compact(compact) => Ok(self.compact(compact)?),
            Request::LeaseGrant(grant) => Ok(self.grant(grant, effects)?),
            Request::LeaseRevoke(revoke) => self.revoke(revoke, records, effects),
            Request::LeaseCheckpoint(checkpoints) => Ok(self.checkpoint(checkpoints, effects)),
            Request::Alarm(alarm) => Ok(self.alarm(alarm)),
            Request::Member(change) => Ok(self.change_member(change)?),
            Request::ClusterVersion(version) => Ok(self.set_version(version)),
        }
    }

    /// Runs a command on the keys and spreads what it changed: leases, batch, events.
    fn write(
        &mut self,
        records: &Records,
        effects: &mut Effects,
        run: impl FnOnce(&mut Writer<'_>) -> Result<Response, ReadError>,
    ) -> Result<Response, ReadError> {
        let ledger = &mut self.ledger;
        let leases = &ledger.leases;
        let exists = |id| leases.contains(id);
        let mut writer = Writer::new(
            &mut ledger.index,
            records,
            &exists,
            ledger.revision,
            ledger.compacted,
        );
        let response = run(&mut writer)?;
        let changes = writer.finish();
        if !changes.is_empty() {
            self.changed(changes, effects);
        }
        Ok(response)
    }

    fn changed(&mut self, changes: Vec<mvcc::Change>, effects: &mut Effects) {
        self.ledger.revision += 1;
        for change in &changes {
            self.ledger
                .leases
                .attach(&mut self.attachments, &change.key, change.lease);
            self.pending.count_record(change.kv.as_encoded().len());
        }
        effects
            .batches
            .push(Arc::new(Batch::new(self.ledger.revision, changes)));
    }

    fn compact(&mut self, request: &pb::CompactionRequest) -> Result<Response, Error> {
        let (target, previous) = (request.revision, self.ledger.compacted);
        if target <= previous {
            return Err(Error::Compacted);
        }
        if target > self.ledger.revision {
            return Err(Error::FutureRevision);
        }
        self.ledger.compacted = target;
        self.pending.put(Bucket::Meta, meta::scheduled(target));
        let waiting = self.compactions.len();
        match self.compactions.back_mut() {
            Some(last) if waiting >= COMPACTIONS_MAX => last.extend(target),
            _ => {
                let is_hashed = waiting == 0;
                self.compactions
                    .push_back(Compaction::new(target, previous, is_hashed));
            }
        }
        Ok(Response::Compact(pb::CompactionResponse::default()))
    }

    fn grant(
        &mut self,
        request: &pb::LeaseGrantRequest,
        effects: &mut Effects,
    ) -> Result<Response, Error> {
        let (id, ttl_secs) = (request.id, request.ttl);
        self.ledger.leases.grant(id, ttl_secs)?;
        self.store_lease(id);
        effects.leases.push(LeaseChange::Granted { id, ttl_secs });
        Ok(Response::LeaseGrant(pb::LeaseGrantResponse {
            id,
            ttl: ttl_secs,
            ..Default::default()
        }))
    }

    /// Deletes the keys of a lease in key order, then the lease.
    fn revoke(
        &mut self,
        request: &pb::LeaseRevokeRequest,
        records: &Records,
        effects: &mut Effects,
    ) -> Result<Response, ReadError> {
        let id = request.id;
        let keys = self.ledger.leases.keys(id)?;
        self.write(records, effects, |writer| {
            writer.delete(keys);
            Ok(Response::Done)
        })?;
        self.ledger.leases.remove(id);
        self.pending.delete(Bucket::Lease, lease::record_key(id));
        effects.leases.push(LeaseChange::Revoked { id });
        Ok(Response::LeaseRevoke(pb::LeaseRevokeResponse::default()))
    }

    /// Notes remaining times; leases that are gone meanwhile are passed over.
    fn checkpoint(&mut self, checkpoints: &[LeaseCheckpoint], effects: &mut Effects) -> Response {
        for &LeaseCheckpoint {
            id,
            remaining_ttl_secs,
        } in checkpoints
        {
            if self.ledger.leases.checkpoint(id, remaining_ttl_secs) {
                self.store_lease(id);
                effects.leases.push(LeaseChange::Checkpointed {
                    id,
                    remaining_ttl_secs,
                });
            }
        }
        Response::Done
    }

    fn store_lease(&mut self, id: i64) {
        if let Some(record) = self.ledger.leases.record(id) {
            self.pending.put(Bucket::Lease, record);
        }
    }

    fn alarm(&mut self, request: &pb::AlarmRequest) -> Response {
        let (response, change) = Arc::make_mut(&mut self.ledger.alarms).apply(request);
        match change {
            Some(AlarmChange::Raised(raised)) => {
                let record = (alarm::record_key(&raised), Bytes::new());
                self.pending.put(Bucket::Alarm, record);
            }
            Some(AlarmChange::Lifted(lifted)) => {
                self.pending
                    .delete(Bucket::Alarm, alarm::record_key(&lifted));
            }
            None => {}
        }
        Response::Alarm(response)
    }

    fn change_member(&mut self, change: &MemberChange) -> Result<Response, Error> {
        let members = Arc::make_mut(&mut self.ledger.members);
        members.change(change)?;
        for (bucket, key, value) in members.records() {
            self.pending.put(bucket, (key, value));
        }
        match change {
            MemberChange::Remove { id } => self
                .pending
                .delete(Bucket::Members, member::record_key(*id)),
            MemberChange::Bootstrap { cluster_id, .. } => {
                self.pending
                    .put(Bucket::Meta, meta::cluster_id(*cluster_id));
            }
            MemberChange::Add(_)
            | MemberChange::Update { .. }
            | MemberChange::Promote { .. }
            | MemberChange::Publish { .. } => {}
        }
        Ok(Response::Done)
    }

    fn set_version(&mut self, version: &str) -> Response {
        self.ledger.cluster_version = Some(version.into());
        let key = Bytes::from_static(meta::CLUSTER_VERSION);
        let value = Bytes::copy_from_slice(version.as_bytes());
        self.pending.put(Bucket::Cluster, (key, value));
        Response::Done
    }
}
