//! Short ways to write the messages that suites send.

use bytes::Bytes;
use catena_api::etcd::etcdserverpb::{
    self as pb,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};

/// A range over one key.
pub fn one(key: impl Into<Bytes>) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

/// A range over `[key, end)`.
pub fn between(key: impl Into<Bytes>, end: impl Into<Bytes>) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        range_end: end.into(),
        ..Default::default()
    }
}

/// A put without options.
pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

/// A delete of one key, or of `[key, end)` if `end` is not empty.
pub fn delete(key: impl Into<Bytes>, end: impl Into<Bytes>) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.into(),
        range_end: end.into(),
        prev_kv: false,
    }
}

/// A transaction.
pub fn txn(
    compare: Vec<pb::Compare>,
    success: Vec<pb::RequestOp>,
    failure: Vec<pb::RequestOp>,
) -> pb::TxnRequest {
    pb::TxnRequest {
        compare,
        success,
        failure,
    }
}

/// An operation of a transaction.
pub trait Op {
    /// The operation in its envelope.
    fn op(self) -> pb::RequestOp;
}

macro_rules! op {
    ($($message:ty => $variant:ident;)*) => {
        $(impl Op for $message {
            fn op(self) -> pb::RequestOp {
                pb::RequestOp { request: Some(Request::$variant(self)) }
            }
        })*
    };
}

op! {
    pb::RangeRequest => RequestRange;
    pb::PutRequest => RequestPut;
    pb::DeleteRangeRequest => RequestDeleteRange;
    pb::TxnRequest => RequestTxn;
}

/// A compare of one key.
pub fn compare(
    key: impl Into<Bytes>,
    target: CompareTarget,
    result: CompareResult,
    with: TargetUnion,
) -> pb::Compare {
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: Bytes::new(),
        target_union: Some(with),
    }
}

/// The compare "key exists", if `wanted`, or else "key does not exist".
pub fn exists(key: impl Into<Bytes>, wanted: bool) -> pb::Compare {
    let result = if wanted {
        CompareResult::Greater
    } else {
        CompareResult::Equal
    };
    compare(key, CompareTarget::Version, result, TargetUnion::Version(0))
}

/// The range answers of a transaction, nested ones left aside.
pub fn ranges(response: &pb::TxnResponse) -> Vec<pb::RangeResponse> {
    let range = |op: &'_ pb::ResponseOp| match &op.response {
        Some(Response::ResponseRange(range)) => Some(range.clone()),
        Some(
            Response::ResponsePut(_) | Response::ResponseDeleteRange(_) | Response::ResponseTxn(_),
        )
        | None => None,
    };
    response.responses.iter().filter_map(range).collect()
}

/// Keys of a range answer, as text.
pub fn keys(response: &pb::RangeResponse) -> Vec<String> {
    response.kvs.iter().map(|kv| text(&kv.key())).collect()
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
