//! One step of a run, and the revisions in it that depend on what came before.

use catena_api::etcd::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, WatchCreateRequest, compare::TargetUnion, request_op::Request,
};

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant {
        ttl: i64,
        id: i64,
    },
    Revoke {
        id: i64,
    },
    KeepAlive {
        id: i64,
    },
    TimeToLive {
        id: i64,
    },
    Leases,
    HashKv {
        revision: i64,
    },
    Watch {
        stream: usize,
        request: WatchCreateRequest,
    },
    Cancel {
        stream: usize,
        watch_id: i64,
    },
    Progress {
        stream: usize,
    },
}

/// Where the store stands when a step begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) current: i64,
    pub(crate) compacted: i64,
}

/// Revisions near the present one are written as this plus the distance: far from any that a run reaches.
const CURRENT: i64 = 1 << 40;
/// Revisions near the compacted one are written as this plus the distance.
const COMPACTED: i64 = 1 << 41;
/// Distances are smaller than this.
const REACH: i64 = 1 << 20;

/// A revision so far from the present one of its step.
pub(crate) fn near_current(distance: i64) -> i64 {
    CURRENT + distance
}

/// A revision so far from the compacted one of its step.
pub(crate) fn near_compacted(distance: i64) -> i64 {
    COMPACTED + distance
}

impl Position {
    fn resolve(self, revision: &mut i64) {
        for (base, here) in [(CURRENT, self.current), (COMPACTED, self.compacted)] {
            if (base - REACH..base + REACH).contains(revision) {
                *revision = *revision - base + here;
            }
        }
    }
}

impl Operation {
    /// The step with its revisions as numbers.
    pub(crate) fn at(&self, position: Position) -> Self {
        let mut operation = self.clone();
        match &mut operation {
            Operation::Range(request) | Operation::RangeStream(request) => range(request, position),
            Operation::Txn(request) => txn(request, position),
            Operation::Compact(request) => position.resolve(&mut request.revision),
            Operation::HashKv { revision } => position.resolve(revision),
            Operation::Watch { request, .. } => position.resolve(&mut request.start_revision),
            Operation::Put(_)
            | Operation::Delete(_)
            | Operation::Grant { .. }
            | Operation::Revoke { .. }
            | Operation::KeepAlive { .. }
            | Operation::TimeToLive { .. }
            | Operation::Leases
            | Operation::Cancel { .. }
            | Operation::Progress { .. } => {}
        }
        operation
    }
}

fn range(request: &mut RangeRequest, position: Position) {
    for revision in [
        &mut request.revision,
        &mut request.min_mod_revision,
        &mut request.max_mod_revision,
        &mut request.min_create_revision,
        &mut request.max_create_revision,
    ] {
        position.resolve(revision);
    }
}

fn txn(request: &mut TxnRequest, position: Position) {
    for compare in &mut request.compare {
        operand(compare, position);
    }
    for op in request.success.iter_mut().chain(&mut request.failure) {
        nested(op, position);
    }
}

fn operand(compare: &mut Compare, position: Position) {
    match &mut compare.target_union {
        Some(TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision)) => {
            position.resolve(revision);
        }
        Some(TargetUnion::Version(_) | TargetUnion::Value(_) | TargetUnion::Lease(_)) | None => {}
    }
}

fn nested(op: &mut RequestOp, position: Position) {
    match &mut op.request {
        Some(Request::RequestRange(request)) => range(request, position),
        Some(Request::RequestTxn(request)) => txn(request, position),
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) | None => {}
    }
}
