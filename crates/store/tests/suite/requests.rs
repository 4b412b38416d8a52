//! Short ways to write requests.

use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;
use catena_store::Request;

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    }
}

pub(crate) fn delete(key: &str, range_end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        prev_kv: false,
    }
}

pub(crate) fn range(key: &str, range_end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        ..Default::default()
    }
}

pub(crate) fn compact(revision: i64) -> Request {
    Request::Compact(pb::CompactionRequest {
        revision,
        physical: false,
    })
}

pub(crate) fn grant(id: i64, ttl: i64) -> Request {
    Request::LeaseGrant(pb::LeaseGrantRequest { ttl, id })
}

pub(crate) fn revoke(id: i64) -> Request {
    Request::LeaseRevoke(pb::LeaseRevokeRequest { id })
}
