//! What a request may add to the database.

use catena_api::etcd::etcdserverpb::{self as pb, request_op::Request as Op};

use crate::Request;

/// What a key-value pair takes beside key and value, as etcd reckons.
const PAIR_BYTES: u64 = 256;

/// What a lease takes.
const LEASE_BYTES: u64 = 64;

/// Bytes that the request counts for against the quota; 0 for what is always allowed. A transaction counts as its dearer branch.
pub fn cost(request: &Request) -> u64 {
    match request {
        Request::Put(put) => put_cost(put),
        Request::Txn(txn) => txn_cost(txn),
        Request::LeaseGrant(_) => LEASE_BYTES,
        Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseCheckpoint(_)
        | Request::Alarm(_)
        | Request::Member(_)
        | Request::ClusterVersion(_) => 0,
    }
}

fn put_cost(put: &pb::PutRequest) -> u64 {
    PAIR_BYTES + put.key.len() as u64 + put.value.len() as u64
}

fn txn_cost(txn: &pb::TxnRequest) -> u64 {
    let branch = |ops: &[pb::RequestOp]| {
        let costs = ops.iter().map(|op| match &op.request {
            Some(Op::RequestPut(put)) => put_cost(put),
            Some(Op::RequestTxn(nested)) => txn_cost(nested),
            Some(Op::RequestRange(_) | Op::RequestDeleteRange(_)) | None => 0,
        });
        costs.sum::<u64>()
    };
    branch(&txn.success).max(branch(&txn.failure))
}
