//! Reading intervals of keys at a revision.
//!
//! The order of work is etcd's: fetch in key order, filter by revisions, sort, cut to the limit. Everything that the index knows is
//! decided on the index; a record is fetched only if it is in the answer or its value decides the order.

use bytes::Bytes;
use catena_api::{
    KeyValue, KeyValueView,
    etcd::etcdserverpb::{
        self as pb,
        range_request::{SortOrder, SortTarget},
    },
};

use super::{
    index::{Index, Key},
    interval::Interval,
    item::Item,
    records::Records,
};
use crate::{Error, Fatal, ReadError};

/// Keys in the first chunk of a streamed range.
const STREAM_FIRST_KEYS: usize = 10;

/// One moment of the store: of a reader, or of a transaction in the middle of its work.
#[derive(Clone, Copy)]
pub(crate) struct ReadView<'a> {
    pub(crate) index: &'a Index,
    pub(crate) records: &'a Records,
    /// Current revision.
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

/// A key of an answer with its revision and, once it is fetched, its record.
struct Found<'a> {
    key: &'a Key,
    item: Item,
    kv: Option<KeyValue>,
}

impl<'a> ReadView<'a> {
    /// Answers a range; the header is left out.
    pub(crate) fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, ReadError> {
        let at = self.resolve(request.revision)?;
        let interval = Interval::new(&request.key, &request.range_end);
        if request.count_only {
            return Ok(pb::RangeResponse {
                count: self.index.range(&interval, at).count() as i64,
                ..Default::default()
            });
        }
        let (mut found, count) = self.find(&interval, at, fetch_limit(request));
        found.retain(|found| passes_filters(request, &found.item));
        self.sort(request, &mut found)?;
        let more =
            usize::try_from(request.limit).is_ok_and(|limit| limit > 0 && found.len() > limit);
        if more {
            found.truncate(request.limit as usize);
        }
        let kvs = found
            .into_iter()
            .map(|found| self.finish(request, found))
            .collect::<Result<_, Fatal>>()?;
        Ok(pb::RangeResponse {
            header: None,
            kvs,
            more,
            count,
        })
    }

    /// The revision that a request means, if it can be read.
    fn resolve(&self, revision: i64) -> Result<i64, Error> {
        match revision {
            ..=0 => Ok(self.revision),
            _ if revision > self.revision => Err(Error::FutureRevision),
            _ if revision < self.compacted => Err(Error::Compacted),
            _ => Ok(revision),
        }
    }

    /// The first keys of an interval, and how many there are in all.
    fn find(&self, interval: &'a Interval, at: i64, limit: Option<usize>) -> (Vec<Found<'a>>, i64) {
        let mut found = Vec::new();
        let mut count = 0;
        for (key, item) in self.index.range(interval, at) {
            count += 1;
            if limit.is_none_or(|limit| found.len() < limit) {
                found.push(Found {
                    key,
                    item,
                    kv: None,
                });
            }
        }
        (found, count)
    }

    /// Sorts stably, so that ties stay in key order.
    fn sort(&self, request: &pb::RangeRequest, found: &mut [Found<'_>]) -> Result<(), Fatal> {
        let (target, order) = (request.sort_target(), request.sort_order());
        if target == SortTarget::Value {
            for found in found.iter_mut() {
                found.kv = Some(self.record(found.item)?);
            }
        }
        match target {
            SortTarget::Key if order == SortOrder::Descend => found.reverse(),
            SortTarget::Key => {}
            SortTarget::Version => sort_by(found, order, |found| found.item.version),
            SortTarget::Create => sort_by(found, order, |found| found.item.create),
            SortTarget::Mod => sort_by(found, order, |found| found.item.main),
            SortTarget::Value => sort_by(found, order, |found| {
                found.kv.as_ref().map(KeyValue::value).unwrap_or_default()
            }),
        }
        Ok(())
    }

    /// The pair as the answer shows it.
    fn finish(&self, request: &pb::RangeRequest, found: Found<'_>) -> Result<KeyValue, Fatal> {
        match (request.keys_only, found.kv) {
            (true, Some(kv)) => Ok(KeyValueView {
                value: Bytes::new(),
                ..kv.view()
            }
            .encode()),
            // As etcd since 3.7: from the index alone, which does not know the lease.
            (true, None) => Ok(KeyValueView {
                key: Bytes::copy_from_slice(found.key),
                create_revision: found.item.create,
                mod_revision: found.item.main,
                version: found.item.version,
                ..KeyValueView::default()
            }
            .encode()),
            (false, Some(kv)) => Ok(kv),
            (false, None) => self.record(found.item),
        }
    }

    /// The record of a live item.
    pub(crate) fn record(&self, item: Item) -> Result<KeyValue, Fatal> {
        self.records.get(item.revision())
    }

    /// The pair of a key at a revision, if it was live.
    pub(crate) fn get(&self, key: &[u8], at: i64) -> Result<Option<KeyValue>, Fatal> {
        let item = self.index.live(key, at);
        item.map(|item| self.record(item)).transpose()
    }
}

/// How many keys the store fetches: one more than the limit tells whether there are more. Another order or a filter needs them all.
fn fetch_limit(request: &pb::RangeRequest) -> Option<usize> {
    let default_order = request.sort_order() == SortOrder::None
        || (request.sort_target() == SortTarget::Key && request.sort_order() == SortOrder::Ascend);
    match usize::try_from(request.limit) {
        Ok(limit) if limit > 0 && default_order && !has_filters(request) => {
            Some(limit.saturating_add(1))
        }
        _ => None,
    }
}

pub(crate) fn has_filters(request: &pb::RangeRequest) -> bool {
    request.max_mod_revision != 0
        || request.min_mod_revision != 0
        || request.max_create_revision != 0
        || request.min_create_revision != 0
}

fn passes_filters(request: &pb::RangeRequest, item: &Item) -> bool {
    let at_most = |bound: i64, value: i64| bound == 0 || value <= bound;
    let at_least = |bound: i64, value: i64| bound == 0 || value >= bound;
    at_most(request.max_mod_revision, item.main)
        && at_least(request.min_mod_revision, item.main)
        && at_most(request.max_create_revision, item.create)
        && at_least(request.min_create_revision, item.create)
}

fn sort_by<K: Ord>(found: &mut [Found<'_>], order: SortOrder, key: impl Fn(&Found<'_>) -> K) {
    match order {
        SortOrder::Descend => found.sort_by_cached_key(|found| std::cmp::Reverse(key(found))),
        SortOrder::None | SortOrder::Ascend => found.sort_by_cached_key(key),
    }
}

/// Where a streamed range stands. The revision is pinned, the state is not: each chunk is read from the state of its time.
pub(crate) struct StreamCursor {
    request: pb::RangeRequest,
    pinned: i64,
    /// The current revision at the beginning: what the header tells.
    revision: i64,
    chunk_keys: usize,
    chunk_bytes: usize,
    sent: usize,
    done: bool,
}

impl StreamCursor {
    /// Begins at the revision that the request means in `view`.
    pub(crate) fn new(
        view: &ReadView<'_>,
        request: &pb::RangeRequest,
        chunk_bytes: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            request: request.clone(),
            pinned: view.resolve(request.revision)?,
            revision: view.revision,
            chunk_keys: STREAM_FIRST_KEYS,
            chunk_bytes,
            sent: 0,
            done: false,
        })
    }

    /// The next chunk; `None` after the last.
    pub(crate) fn next(
        &mut self,
        view: &ReadView<'_>,
    ) -> Option<Result<pb::RangeResponse, ReadError>> {
        if self.done {
            return None;
        }
        let chunk = if self.pinned < view.compacted {
            Err(Error::Compacted.into())
        } else {
            self.chunk(view)
        };
        self.done |= chunk.is_err();
        Some(chunk)
    }

    fn chunk(&mut self, view: &ReadView<'_>) -> Result<pb::RangeResponse, ReadError> {
        let left = match usize::try_from(self.request.limit) {
            Ok(limit) if limit > 0 => limit - self.sent,
            _ => usize::MAX,
        };
        let keys = self.chunk_keys.min(left);
        let interval = Interval::new(&self.request.key, &self.request.range_end);
        let mut rest = view.index.range(&interval, self.pinned);
        let mut found: Vec<Found<'_>> = Vec::new();
        if !self.request.count_only {
            found.extend(rest.by_ref().take(keys).map(|(key, item)| Found {
                key,
                item,
                kv: None,
            }));
        }
        let unsent = rest.next().is_some();
        let wanted = found.len();
        let (mut kvs, mut bytes, mut resume) = (Vec::with_capacity(wanted), 0, None);
        for found in found {
            resume = Some(found.key.clone());
            let kv = view.finish(&self.request, found)?;
            bytes += kv.as_encoded().len();
            kvs.push(kv);
            // Keys are counted as etcd counts them, by what the chunks before had. Where large values follow small ones that would be
            // any amount.
            if bytes >= self.chunk_bytes.saturating_mul(2) {
                break;
            }
        }
        let is_whole = kvs.len() == wanted;
        let last = is_whole && (self.request.count_only || !unsent || wanted == left);
        self.sent += kvs.len();
        self.adapt(bytes);
        if last {
            self.done = true;
            return Ok(self.last(view, kvs, unsent && !self.request.count_only));
        }
        if let Some(resume) = resume {
            self.request.key = [&resume[..], b"\0"].concat().into();
        }
        Ok(pb::RangeResponse {
            kvs,
            ..Default::default()
        })
    }

    /// Doubles or halves the size of the next chunk by the bytes of this one.
    fn adapt(&mut self, bytes: usize) {
        if bytes < self.chunk_bytes / 2 {
            self.chunk_keys = self.chunk_keys.saturating_mul(2);
        } else if bytes > self.chunk_bytes.saturating_mul(2) {
            self.chunk_keys = (self.chunk_keys / 2).max(1);
        }
    }

    fn last(&self, view: &ReadView<'_>, kvs: Vec<KeyValue>, more: bool) -> pb::RangeResponse {
        let interval = Interval::new(&self.request.key, &self.request.range_end);
        let rest = view.index.range(&interval, self.pinned).count();
        let before = self.sent - kvs.len();
        pb::RangeResponse {
            header: Some(pb::ResponseHeader {
                revision: self.revision,
                ..Default::default()
            }),
            count: (before + rest) as i64,
            kvs,
            more,
        }
    }
}
