//! The usual requests, so that a call reads like what it does.
//!
//! ```
//! use catena_client::{pb::TxnRequest, request::{self, Operation}};
//!
//! let create_once = TxnRequest {
//!     compare: vec![request::absent("k")],
//!     success: vec![request::put("k", "v").op()],
//!     failure: vec![request::get("k").op()],
//! };
//! # assert_eq!(create_once.compare.len(), 1);
//! ```

use bytes::Bytes;

use crate::pb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse,
    RequestOp, ResponseOp, TxnRequest, WatchCreateRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
    response_op::Response,
};

/// One key.
pub fn get(key: impl Into<Bytes>) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

/// All keys that begin with `prefix`.
pub fn get_prefix(prefix: impl Into<Bytes>) -> RangeRequest {
    let (key, range_end) = prefix_interval(prefix.into());
    RangeRequest {
        key,
        range_end,
        ..RangeRequest::default()
    }
}

/// Writes a key, without a lease.
pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }
}

/// Deletes one key.
pub fn delete(key: impl Into<Bytes>) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        ..DeleteRangeRequest::default()
    }
}

/// Deletes all keys that begin with `prefix`.
pub fn delete_prefix(prefix: impl Into<Bytes>) -> DeleteRangeRequest {
    let (key, range_end) = prefix_interval(prefix.into());
    DeleteRangeRequest {
        key,
        range_end,
        prev_kv: false,
    }
}

/// Watches one key from now on.
pub fn watch(key: impl Into<Bytes>) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        ..WatchCreateRequest::default()
    }
}

/// Watches all keys that begin with `prefix` from now on.
pub fn watch_prefix(prefix: impl Into<Bytes>) -> WatchCreateRequest {
    let (key, range_end) = prefix_interval(prefix.into());
    WatchCreateRequest {
        key,
        range_end,
        ..WatchCreateRequest::default()
    }
}

/// A lease of `ttl_secs`, its id chosen by the store.
pub fn grant(ttl_secs: i64) -> LeaseGrantRequest {
    LeaseGrantRequest {
        ttl: ttl_secs,
        id: 0,
    }
}

/// True if the key does not exist.
pub fn absent(key: impl Into<Bytes>) -> Compare {
    created_at(key, 0)
}

/// True if the key's present generation began at `revision`.
pub fn created_at(key: impl Into<Bytes>, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.into(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        range_end: Bytes::new(),
    }
}

/// True if the key was last written at `revision`.
pub fn modified_at(key: impl Into<Bytes>, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        range_end: Bytes::new(),
    }
}

/// A request that can stand in a transaction.
pub trait Operation {
    /// As an operation of a transaction.
    fn op(self) -> RequestOp;
}

impl Operation for RangeRequest {
    fn op(self) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestRange(self)),
        }
    }
}

impl Operation for PutRequest {
    fn op(self) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestPut(self)),
        }
    }
}

impl Operation for DeleteRangeRequest {
    fn op(self) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestDeleteRange(self)),
        }
    }
}

impl Operation for TxnRequest {
    fn op(self) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestTxn(self)),
        }
    }
}

/// The answer of a range inside a transaction; empty if the operation was another one.
pub fn range_answer(op: &ResponseOp) -> RangeResponse {
    match &op.response {
        Some(Response::ResponseRange(range)) => range.clone(),
        Some(
            Response::ResponsePut(_) | Response::ResponseDeleteRange(_) | Response::ResponseTxn(_),
        )
        | None => RangeResponse::default(),
    }
}

/// The end of the interval of all keys that begin with `prefix`; `\0`, which means no end, if there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(b"\0"),
    }
}

fn prefix_interval(prefix: Bytes) -> (Bytes, Bytes) {
    let end = prefix_end(&prefix);
    // The store refuses an empty key; the least key is one zero byte.
    let start = if prefix.is_empty() {
        end.clone()
    } else {
        prefix
    };
    (start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_is_the_next_prefix() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"a", b"b"),
            (b"foo/", b"foo0"),
            (b"a\xff", b"b"),
            (b"\xff\xff", b"\0"),
            (b"", b"\0"),
        ];
        for (prefix, end) in cases {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
        }
    }

    #[test]
    fn empty_prefix_is_every_key() {
        let request = get_prefix("");
        assert_eq!(
            (&request.key[..], &request.range_end[..]),
            (&b"\0"[..], &b"\0"[..])
        );
    }
}
