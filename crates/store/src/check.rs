//! Checks of requests that need no state, in etcd's order. They are made before anything is replicated.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use catena_api::etcd::etcdserverpb::{
    self as pb,
    range_request::{SortOrder, SortTarget},
    request_op::Request as Op,
};

use crate::{Error, mvcc::has_filters};

/// Deepest transaction, itself counted, that is taken.
///
/// prost decodes a hundred messages within one another and no more. A transaction in a transaction is two of them, and the answer
/// to a read in the innermost takes three more, so at this depth the command can be decoded from the log of every member, and the
/// answer by a client that has prost's limit. What was logged and could not be decoded again would stop every member. etcd takes
/// as many levels as `--max-txn-ops` has operations.
pub const TXN_DEPTH_MAX: usize = 49;

/// A range.
pub fn range(request: &pb::RangeRequest) -> Result<(), Error> {
    key(&request.key)?;
    SortOrder::try_from(request.sort_order).map_err(|_| Error::InvalidSortOption)?;
    SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
    Ok(())
}

/// A range that is to be streamed: only the default order, no revision filters.
pub fn range_stream(request: &pb::RangeRequest) -> Result<(), Error> {
    range(request)?;
    let default_order = match request.sort_order() {
        SortOrder::None => true,
        SortOrder::Ascend => request.sort_target() == SortTarget::Key,
        SortOrder::Descend => false,
    };
    if !default_order {
        return Err(Error::StreamSort);
    }
    if has_filters(request) {
        return Err(Error::StreamFilter);
    }
    Ok(())
}

/// A put.
pub fn put(request: &pb::PutRequest) -> Result<(), Error> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// A deletion.
pub fn delete_range(request: &pb::DeleteRangeRequest) -> Result<(), Error> {
    key(&request.key)
}

/// A transaction, nested ones too, with at most `max_ops` operations or compares in a list and no deeper than [`TXN_DEPTH_MAX`].
pub fn txn(request: &pb::TxnRequest, max_ops: usize) -> Result<(), Error> {
    operations(request, max_ops, TXN_DEPTH_MAX)?;
    written(&request.success)?;
    written(&request.failure)?;
    Ok(())
}

/// Whether a transaction has nothing but ranges in both branches, so that it need not go through the log.
pub fn is_read_only(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

/// Whether a read-only transaction may be answered from local state: all its ranges are serializable.
pub fn is_serializable(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Op::RequestRange(range)) if range.serializable))
}

fn key(key: &Bytes) -> Result<(), Error> {
    match key.is_empty() {
        true => Err(Error::EmptyKey),
        false => Ok(()),
    }
}

fn operations(request: &pb::TxnRequest, max_ops: usize, max_depth: usize) -> Result<(), Error> {
    let depth_left = max_depth.checked_sub(1).ok_or(Error::TooManyOps)?;
    let lengths = [
        request.compare.len(),
        request.success.len(),
        request.failure.len(),
    ];
    let ops = lengths.into_iter().max().unwrap_or(0);
    let left = max_ops.checked_sub(ops).ok_or(Error::TooManyOps)?;
    for compare in &request.compare {
        key(&compare.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Op::RequestRange(request)) => range(request)?,
            Some(Op::RequestPut(request)) => put(request)?,
            Some(Op::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Op::RequestTxn(request)) => operations(request, left, depth_left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations writes.
#[derive(Default)]
struct Written {
    puts: HashSet<Bytes>,
    deleted: Deleted,
}

/// Collects what a branch writes and refuses duplicates: a key put twice, or put and deleted. The order is etcd's and so are its
/// gaps: own deletions are known before nested transactions are looked at, those of a nested one only to what comes after it.
fn written(ops: &[pb::RequestOp]) -> Result<Written, Error> {
    let mut all = Written::default();
    for op in ops {
        if let Some(Op::RequestDeleteRange(delete)) = &op.request {
            all.deleted.insert_request(delete);
        }
    }
    for op in ops {
        if let Some(Op::RequestTxn(nested)) = &op.request {
            all.join(written(&nested.success)?, written(&nested.failure)?)?;
        }
    }
    for op in ops {
        if let Some(Op::RequestPut(put)) = &op.request {
            all.put(put.key.clone())?;
        }
    }
    Ok(all)
}

impl Written {
    fn put(&mut self, key: Bytes) -> Result<(), Error> {
        match self.deleted.contains(&key) || !self.puts.insert(key) {
            true => Err(Error::DuplicateKey),
            false => Ok(()),
        }
    }

    /// Takes over both branches of a nested transaction, of which only one will run.
    fn join(&mut self, success: Written, failure: Written) -> Result<(), Error> {
        for key in &success.puts {
            self.put(key.clone())?;
        }
        for key in failure.puts {
            if !success.puts.contains(&key) {
                self.put(key)?;
            } else if self.deleted.contains(&key) {
                return Err(Error::DuplicateKey);
            }
        }
        self.deleted.union(success.deleted);
        self.deleted.union(failure.deleted);
        Ok(())
    }
}

/// Deleted keys as disjoint intervals, start to end. A range end of one zero byte is taken literally, as in etcd, and so deletes
/// nothing here.
#[derive(Default)]
struct Deleted {
    intervals: BTreeMap<Bytes, Bytes>,
}

impl Deleted {
    fn insert_request(&mut self, delete: &pb::DeleteRangeRequest) {
        let end = match delete.range_end.is_empty() {
            true => [&delete.key[..], b"\0"].concat().into(),
            false => delete.range_end.clone(),
        };
        self.insert(delete.key.clone(), end);
    }

    fn insert(&mut self, mut start: Bytes, mut end: Bytes) {
        if start >= end {
            return;
        }
        // The last interval that begins before the end touches the new one if any does; merge until none is left.
        while let Some((other, other_end)) = self.intervals.range(..=end.clone()).next_back() {
            if *other_end < start {
                break;
            }
            let other = other.clone();
            end = end.max(other_end.clone());
            start = start.min(other.clone());
            self.intervals.remove(&other);
        }
        self.intervals.insert(start, end);
    }

    fn contains(&self, key: &Bytes) -> bool {
        let candidate = self.intervals.range(..=key.clone()).next_back();
        candidate.is_some_and(|(_, end)| key < end)
    }

    fn union(&mut self, other: Deleted) {
        for (start, end) in other.intervals {
            self.insert(start, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Request};

    fn nested(depth: usize) -> pb::TxnRequest {
        let put = pb::PutRequest {
            key: "k".into(),
            ..Default::default()
        };
        let one = |op| pb::TxnRequest {
            success: vec![pb::RequestOp { request: Some(op) }],
            ..Default::default()
        };
        (1..depth).fold(one(Op::RequestPut(put)), |inner, _| {
            one(Op::RequestTxn(inner))
        })
    }

    /// Whatever number of operations is allowed: a caller in the same process meets no other decoder before the log.
    #[test]
    fn transaction_that_is_taken_can_be_decoded_from_the_log() {
        let deepest = nested(TXN_DEPTH_MAX);
        assert_eq!(txn(&deepest, usize::MAX), Ok(()));
        let command = Command::internal(Request::Txn(deepest));
        assert_eq!(Command::decode(&command.encode()).unwrap(), command);
        for depth in [TXN_DEPTH_MAX + 1, 200, 1000] {
            assert_eq!(txn(&nested(depth), usize::MAX), Err(Error::TooManyOps));
        }
    }

    /// The answer to a read has three messages in the innermost answer: operation, range and pair.
    #[test]
    fn answer_of_the_deepest_transaction_can_be_decoded() {
        use catena_api::etcd::etcdserverpb::response_op::Response;
        use prost::Message;
        let one = |response| pb::TxnResponse {
            responses: vec![pb::ResponseOp {
                response: Some(response),
            }],
            ..Default::default()
        };
        let range = pb::RangeResponse {
            header: Some(pb::ResponseHeader::default()),
            kvs: vec![Default::default()],
            ..Default::default()
        };
        let answer = (1..TXN_DEPTH_MAX).fold(one(Response::ResponseRange(range)), |inner, _| {
            one(Response::ResponseTxn(inner))
        });
        let decoded = pb::TxnResponse::decode(&*answer.encode_to_vec());
        assert_eq!(decoded.as_ref(), Ok(&answer));
    }

    #[test]
    fn deleted_intervals_merge() {
        let mut deleted = Deleted::default();
        for (start, end) in [("b", "d"), ("f", "h"), ("d", "e"), ("z", "a"), ("a", "g")] {
            deleted.insert(start.into(), end.into());
        }
        let left: Vec<_> = deleted.intervals.iter().collect();
        assert_eq!(left, [(&Bytes::from("a"), &Bytes::from("h"))]);
        assert!(deleted.contains(&"a".into()) && deleted.contains(&"gz".into()));
        assert!(!deleted.contains(&"h".into()));
    }
}
