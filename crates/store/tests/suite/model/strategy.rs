//! What the random operations are made of: few keys and few leases, so that they meet.

use bytes::Bytes;
use catena_api::etcd::etcdserverpb::{self as pb, compare::TargetUnion, request_op::Request as Op};
use catena_store::Request;
use proptest::prelude::*;

use crate::requests;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Apply(Request),
    /// Compacts at the current revision minus this.
    Compact(i64),
    /// Reads at the current revision plus one minus this, or at the current one.
    Range(pb::RangeRequest, Option<i64>),
    Seal,
    Commit,
    Maintain(usize),
    Restart,
    Install,
}

pub(super) fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..max)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => put().prop_map(|put| Step::Apply(Request::Put(put))),
        6 => delete().prop_map(|delete| Step::Apply(Request::DeleteRange(delete))),
        8 => txn().prop_map(|txn| Step::Apply(Request::Txn(txn))),
        5 => (-1..8_i64).prop_map(Step::Compact),
        3 => lease().prop_map(|id| Step::Apply(requests::grant(id, 60))),
        2 => lease().prop_map(|id| Step::Apply(requests::revoke(id))),
        6 => (range(), prop::option::of(-1..9_i64)).prop_map(|(range, back)| Step::Range(range, back)),
        4 => Just(Step::Seal),
        4 => Just(Step::Commit),
        5 => (1..4_usize).prop_map(Step::Maintain),
        2 => Just(Step::Restart),
        1 => Just(Step::Install),
    ]
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "aa", "b", "c", "d"]).prop_map(requests::bytes)
}

fn end() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "", "\0", "b", "c", "z"]).prop_map(requests::bytes)
}

fn lease() -> impl Strategy<Value = i64> {
    1..4_i64
}

fn put() -> impl Strategy<Value = pb::PutRequest> {
    let lease = prop_oneof![3 => Just(0), 2 => lease()];
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
    );
    (key(), 0..50_u8, lease, flags).prop_map(
        |(key, value, lease, (prev_kv, ignore_value, ignore_lease))| pb::PutRequest {
            key,
            value: if ignore_value {
                Bytes::new()
            } else {
                requests::bytes(&value.to_string())
            },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| pb::DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = pb::RangeRequest> {
    let filter = || prop_oneof![4 => Just(0), 1 => 1..12_i64];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    let filters = (filter(), filter(), filter(), filter());
    (key(), end(), -1..4_i64, 0..3, 0..5, flags, filters).prop_map(
        |(key, range_end, limit, sort_order, sort_target, (keys_only, count_only), filters)| {
            pb::RangeRequest {
                key,
                range_end,
                limit,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision: filters.0,
                max_mod_revision: filters.1,
                min_create_revision: filters.2,
                max_create_revision: filters.3,
                ..Default::default()
            }
        },
    )
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    (key(), end(), 0..4, 0..5, 0..6_i64).prop_map(|(key, range_end, result, target, wanted)| {
        pb::Compare {
            result,
            target,
            key,
            range_end,
            target_union: Some(match target {
                0 => TargetUnion::Version(wanted),
                1 => TargetUnion::CreateRevision(wanted),
                2 => TargetUnion::ModRevision(wanted),
                3 => TargetUnion::Value(requests::bytes(&wanted.to_string())),
                _ => TargetUnion::Lease(wanted),
            }),
        }
    })
}

fn txn() -> impl Strategy<Value = pb::TxnRequest> {
    let flat = list(op().boxed());
    let op = prop_oneof![3 => op(), 1 => flat.prop_map(Op::RequestTxn)];
    list(op.boxed())
}

fn list(op: BoxedStrategy<Op>) -> impl Strategy<Value = pb::TxnRequest> {
    let ops = || {
        let op = op
            .clone()
            .prop_map(|op| pb::RequestOp { request: Some(op) });
        prop::collection::vec(op, 0..4)
    };
    (prop::collection::vec(compare(), 0..3), ops(), ops()).prop_map(
        |(compare, success, failure)| pb::TxnRequest {
            compare,
            success,
            failure,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let range =
        (range(), -1..12_i64).prop_map(|(range, revision)| pb::RangeRequest { revision, ..range });
    prop_oneof![
        put().prop_map(Op::RequestPut),
        delete().prop_map(Op::RequestDeleteRange),
        range.prop_map(Op::RequestRange),
    ]
}
