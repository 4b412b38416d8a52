//! From arguments to etcd's messages, and from its responses to replies.

use bytes::Bytes;
use catena_api::etcd::etcdserverpb::{
    self as pb,
    compare::{CompareTarget, TargetUnion},
    range_request,
    request_op::Request,
    response_op::Response,
    watch_create_request::FilterType,
};

use super::{
    Answer, Args, Compact, Compare, CompareResult, Delete, Filter, Get, Hash, HashKv, LeaseGrant,
    LeaseGranted, LeaseId, LeaseLeft, LeaseTtl, Operand, Pair, Put, Ranged, Removed, Reply,
    SortOrder, SortTarget, Stored, Tried, Txn, WatchArgs,
};

impl From<&Get> for pb::RangeRequest {
    fn from(get: &Get) -> Self {
        Self {
            key: get.key.clone(),
            range_end: get.range_end.clone(),
            limit: get.limit,
            revision: get.revision,
            sort_order: range_request::SortOrder::from(get.sort_order).into(),
            sort_target: range_request::SortTarget::from(get.sort_target).into(),
            serializable: get.serializable,
            keys_only: get.keys_only,
            count_only: get.count_only,
            min_mod_revision: get.min_mod_revision,
            max_mod_revision: get.max_mod_revision,
            min_create_revision: get.min_create_revision,
            max_create_revision: get.max_create_revision,
        }
    }
}

impl From<SortOrder> for range_request::SortOrder {
    fn from(order: SortOrder) -> Self {
        match order {
            SortOrder::None => Self::None,
            SortOrder::Ascend => Self::Ascend,
            SortOrder::Descend => Self::Descend,
        }
    }
}

impl From<SortTarget> for range_request::SortTarget {
    fn from(target: SortTarget) -> Self {
        match target {
            SortTarget::Key => Self::Key,
            SortTarget::Version => Self::Version,
            SortTarget::Create => Self::Create,
            SortTarget::Mod => Self::Mod,
            SortTarget::Value => Self::Value,
        }
    }
}

impl From<&Put> for pb::PutRequest {
    fn from(put: &Put) -> Self {
        Self {
            key: put.key.clone(),
            value: put.value.bytes().clone(),
            lease: put.lease,
            prev_kv: put.prev_kv,
            ignore_value: put.ignore_value,
            ignore_lease: put.ignore_lease,
        }
    }
}

impl From<&Delete> for pb::DeleteRangeRequest {
    fn from(delete: &Delete) -> Self {
        Self {
            key: delete.key.clone(),
            range_end: delete.range_end.clone(),
            prev_kv: delete.prev_kv,
        }
    }
}

impl From<&Txn> for pb::TxnRequest {
    fn from(txn: &Txn) -> Self {
        Self {
            compare: txn.compare.iter().map(pb::Compare::from).collect(),
            success: txn.success.iter().map(op).collect(),
            failure: txn.failure.iter().map(op).collect(),
        }
    }
}

/// An operation of a transaction. What cannot be in one becomes an empty operation, which a member refuses.
fn op(args: &Args) -> pb::RequestOp {
    let request = match args {
        Args::Get(get) => Some(Request::RequestRange(get.into())),
        Args::Put(put) => Some(Request::RequestPut(put.into())),
        Args::Delete(delete) => Some(Request::RequestDeleteRange(delete.into())),
        Args::Txn(txn) => Some(Request::RequestTxn(txn.into())),
        Args::Compact(_)
        | Args::LeaseGrant(_)
        | Args::LeaseRevoke(_)
        | Args::LeaseKeepalive(_)
        | Args::LeaseTtl(_)
        | Args::Leases {}
        | Args::Hashkv(_)
        | Args::Other(_) => None,
    };
    pb::RequestOp { request }
}

impl From<&Compare> for pb::Compare {
    fn from(compare: &Compare) -> Self {
        let (target, operand) = match &compare.operand {
            Operand::Version { version } => {
                (CompareTarget::Version, TargetUnion::Version(*version))
            }
            Operand::Create { create_revision } => (
                CompareTarget::Create,
                TargetUnion::CreateRevision(*create_revision),
            ),
            Operand::Mod { mod_revision } => {
                (CompareTarget::Mod, TargetUnion::ModRevision(*mod_revision))
            }
            Operand::Value { value } => (
                CompareTarget::Value,
                TargetUnion::Value(value.bytes().clone()),
            ),
            Operand::Lease { lease } => (CompareTarget::Lease, TargetUnion::Lease(*lease)),
        };
        Self {
            result: pb::compare::CompareResult::from(compare.result).into(),
            target: target.into(),
            key: compare.key.clone(),
            range_end: compare.range_end.clone(),
            target_union: Some(operand),
        }
    }
}

impl From<CompareResult> for pb::compare::CompareResult {
    fn from(result: CompareResult) -> Self {
        match result {
            CompareResult::Equal => Self::Equal,
            CompareResult::Greater => Self::Greater,
            CompareResult::Less => Self::Less,
            CompareResult::NotEqual => Self::NotEqual,
        }
    }
}

impl From<&Compact> for pb::CompactionRequest {
    fn from(compact: &Compact) -> Self {
        Self {
            revision: compact.revision,
            physical: compact.physical,
        }
    }
}

impl From<&LeaseGrant> for pb::LeaseGrantRequest {
    fn from(grant: &LeaseGrant) -> Self {
        Self {
            ttl: grant.ttl,
            id: grant.id,
        }
    }
}

impl From<&LeaseId> for pb::LeaseRevokeRequest {
    fn from(lease: &LeaseId) -> Self {
        Self { id: lease.id }
    }
}

impl From<&LeaseId> for pb::LeaseKeepAliveRequest {
    fn from(lease: &LeaseId) -> Self {
        Self { id: lease.id }
    }
}

impl From<&LeaseTtl> for pb::LeaseTimeToLiveRequest {
    fn from(lease: &LeaseTtl) -> Self {
        Self {
            id: lease.id,
            keys: lease.keys,
        }
    }
}

impl From<&HashKv> for pb::HashKvRequest {
    fn from(hash: &HashKv) -> Self {
        Self {
            revision: hash.revision,
        }
    }
}

impl From<&WatchArgs> for pb::WatchCreateRequest {
    fn from(watch: &WatchArgs) -> Self {
        let filter = |filter: &Filter| match filter {
            Filter::NoPut => FilterType::Noput.into(),
            Filter::NoDelete => FilterType::Nodelete.into(),
        };
        Self {
            key: watch.key.clone(),
            range_end: watch.range_end.clone(),
            start_revision: watch.start_revision,
            progress_notify: watch.progress_notify,
            filters: watch.filters.iter().map(filter).collect(),
            prev_kv: watch.prev_kv,
            watch_id: 0,
            fragment: watch.fragment,
        }
    }
}

fn pairs(kvs: &[catena_api::KeyValue]) -> Vec<Pair> {
    kvs.iter().map(Pair::from).collect()
}

impl From<&pb::RangeResponse> for Ranged {
    fn from(response: &pb::RangeResponse) -> Self {
        Self {
            kvs: pairs(&response.kvs),
            count: response.count,
            more: response.more,
        }
    }
}

impl From<&pb::PutResponse> for Stored {
    fn from(response: &pb::PutResponse) -> Self {
        Self {
            prev: response.prev_kv.as_ref().map(Pair::from),
        }
    }
}

impl From<&pb::DeleteRangeResponse> for Removed {
    fn from(response: &pb::DeleteRangeResponse) -> Self {
        Self {
            deleted: response.deleted,
            prevs: pairs(&response.prev_kvs),
        }
    }
}

impl From<&pb::TxnResponse> for Tried {
    fn from(response: &pb::TxnResponse) -> Self {
        Self {
            succeeded: response.succeeded,
            responses: response.responses.iter().map(Reply::from).collect(),
        }
    }
}

impl From<&pb::ResponseOp> for Reply {
    fn from(response: &pb::ResponseOp) -> Self {
        match &response.response {
            Some(Response::ResponseRange(range)) => Reply::Get(range.into()),
            Some(Response::ResponsePut(put)) => Reply::Put(put.into()),
            Some(Response::ResponseDeleteRange(delete)) => Reply::Delete(delete.into()),
            Some(Response::ResponseTxn(txn)) => Reply::Txn(txn.into()),
            // No member sends it; what is recorded then matches no operation.
            None => Reply::Other {
                op: "none".to_owned(),
                result: serde_json::Value::Null,
            },
        }
    }
}

macro_rules! answers {
    ($($message:ident => |$response:ident| $reply:expr;)*) => {
        $(impl From<pb::$message> for Answer {
            fn from($response: pb::$message) -> Self {
                Self { reply: $reply, header: $response.header.into() }
            }
        })*
    };
}

answers! {
    RangeResponse => |response| Reply::Get((&response).into());
    PutResponse => |response| Reply::Put((&response).into());
    DeleteRangeResponse => |response| Reply::Delete((&response).into());
    TxnResponse => |response| Reply::Txn((&response).into());
    CompactionResponse => |response| Reply::Compact {};
    LeaseGrantResponse => |response| Reply::LeaseGrant(LeaseGranted {
        id: response.id,
        ttl: response.ttl,
    });
    LeaseRevokeResponse => |response| Reply::LeaseRevoke {};
    LeaseKeepAliveResponse => |response| Reply::LeaseKeepalive { ttl: response.ttl };
    LeaseTimeToLiveResponse => |response| Reply::LeaseTtl(LeaseLeft {
        ttl: response.ttl,
        granted_ttl: response.granted_ttl,
        keys: keys(response.keys),
    });
    LeaseLeasesResponse => |response| Reply::Leases {
        ids: response.leases.iter().map(|lease| lease.id).collect(),
    };
    HashKvResponse => |response| Reply::Hashkv(Hash {
        hash: response.hash,
        hash_revision: response.hash_revision,
        compact_revision: response.compact_revision,
    });
}

fn keys(keys: Vec<impl Into<Bytes>>) -> Vec<Bytes> {
    keys.into_iter().map(Into::into).collect()
}
