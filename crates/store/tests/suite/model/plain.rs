//! The store as a list of changes. Slow and simple; it shares no code with the store.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use catena_api::{
    KeyValue, KeyValueView,
    etcd::etcdserverpb::{self as pb, request_op::Request as Op, response_op::Response as Answer},
};
use catena_store::{Error, Request, Response};

/// One change of one key.
#[derive(Clone)]
struct Change {
    main: i64,
    sub: i64,
    key: Bytes,
    /// Absent if the key was deleted.
    kv: Option<KeyValueView>,
}

pub(super) struct Plain {
    changes: Vec<Change>,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    leases: BTreeSet<i64>,
}

fn inside(key: &Bytes, start: &Bytes, end: &Bytes) -> bool {
    if end.is_empty() {
        return key == start;
    }
    key >= start && (&end[..] == b"\0" || key < end)
}

impl Plain {
    pub(super) fn new() -> Self {
        Self {
            changes: Vec::new(),
            revision: 1,
            compacted: -1,
            leases: BTreeSet::new(),
        }
    }

    /// Live pairs at a revision.
    fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValueView> {
        let mut pairs = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            match &change.kv {
                Some(kv) => pairs.insert(change.key.clone(), kv.clone()),
                None => pairs.remove(&change.key),
            };
        }
        pairs
    }

    fn interval(&self, revision: i64, start: &Bytes, end: &Bytes) -> Vec<KeyValueView> {
        let pairs = self.at(revision).into_values();
        pairs.filter(|kv| inside(&kv.key, start, end)).collect()
    }

    pub(super) fn lease_ids(&self) -> Vec<i64> {
        self.leases.iter().copied().collect()
    }

    pub(super) fn lease_keys(&self, id: i64) -> BTreeSet<Bytes> {
        let pairs = self.at(i64::MAX).into_values();
        pairs.filter(|kv| kv.lease == id).map(|kv| kv.key).collect()
    }

    pub(super) fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        self.range_seen_at(self.revision, request)
    }

    fn range_seen_at(
        &self,
        current: i64,
        request: &pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Error> {
        let revision = if request.revision <= 0 {
            current
        } else {
            request.revision
        };
        if revision > current {
            return Err(Error::FutureRevision);
        }
        if revision < self.compacted {
            return Err(Error::Compacted);
        }
        let mut pairs = self.interval(revision, &request.key, &request.range_end);
        let count = pairs.len() as i64;
        if request.count_only {
            return Ok(pb::RangeResponse {
                count,
                ..Default::default()
            });
        }
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let is_plain =
            request.sort_order == 0 || (request.sort_order == 1 && request.sort_target == 0);
        let limit = if request.limit > 0 {
            request.limit as usize
        } else {
            usize::MAX
        };
        if is_plain && filters == [0; 4] {
            pairs.truncate(limit.saturating_add(1));
        }
        let keep = |kv: &KeyValueView| {
            (filters[0] == 0 || kv.mod_revision >= filters[0])
                && (filters[1] == 0 || kv.mod_revision <= filters[1])
                && (filters[2] == 0 || kv.create_revision >= filters[2])
                && (filters[3] == 0 || kv.create_revision <= filters[3])
        };
        pairs.retain(keep);
        let descending = request.sort_order == 2;
        pairs.sort_by(|a, b| {
            let order = match request.sort_target {
                0 => a.key.cmp(&b.key),
                1 => a.version.cmp(&b.version),
                2 => a.create_revision.cmp(&b.create_revision),
                3 => a.mod_revision.cmp(&b.mod_revision),
                _ => a.value.cmp(&b.value),
            };
            if descending { order.reverse() } else { order }
        });
        let more = pairs.len() > limit;
        pairs.truncate(limit);
        if request.keys_only {
            for kv in &mut pairs {
                kv.value = Bytes::new();
                if request.sort_target != 4 {
                    kv.lease = 0;
                }
            }
        }
        Ok(pb::RangeResponse {
            header: None,
            kvs: pairs.iter().map(KeyValueView::encode).collect(),
            more,
            count,
        })
    }

    pub(super) fn apply(&mut self, request: &Request) -> Result<Response, Error> {
        let before = self.changes.len();
        let result = self.execute(request);
        if self.changes.len() > before {
            self.revision += 1;
        }
        result
    }

    fn execute(&mut self, request: &Request) -> Result<Response, Error> {
        match request {
            Request::Put(put) => {
                self.check_put(put)?;
                Ok(Response::Put(self.put(put, 0)))
            }
            Request::DeleteRange(delete) => Ok(Response::DeleteRange(self.delete(delete, 0))),
            Request::Txn(txn) => self.txn(txn),
            Request::Compact(compact) => {
                if compact.revision <= self.compacted {
                    return Err(Error::Compacted);
                }
                if compact.revision > self.revision {
                    return Err(Error::FutureRevision);
                }
                self.compacted = compact.revision;
                Ok(Response::Compact(pb::CompactionResponse::default()))
            }
            Request::LeaseGrant(grant) => {
                if !self.leases.insert(grant.id) {
                    return Err(Error::LeaseExists);
                }
                Ok(Response::LeaseGrant(pb::LeaseGrantResponse {
                    id: grant.id,
                    ttl: grant.ttl,
                    ..Default::default()
                }))
            }
            Request::LeaseRevoke(revoke) => {
                if !self.leases.contains(&revoke.id) {
                    return Err(Error::LeaseNotFound);
                }
                for (sub, key) in self.lease_keys(revoke.id).into_iter().enumerate() {
                    self.change(sub as i64, key, None);
                }
                self.leases.remove(&revoke.id);
                Ok(Response::LeaseRevoke(pb::LeaseRevokeResponse::default()))
            }
            other => panic!("not in the model: {other:?}"),
        }
    }

    fn change(&mut self, sub: i64, key: Bytes, kv: Option<KeyValueView>) {
        self.changes.push(Change {
            main: self.revision + 1,
            sub,
            key,
            kv,
        });
    }

    fn check_put(&self, put: &pb::PutRequest) -> Result<(), Error> {
        if put.lease != 0 && !self.leases.contains(&put.lease) {
            return Err(Error::LeaseNotFound);
        }
        let exists = self.at(self.revision).contains_key(&put.key);
        if (put.ignore_value || put.ignore_lease) && !exists {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn put(&mut self, put: &pb::PutRequest, sub: i64) -> pb::PutResponse {
        let main = self.revision + 1;
        let old = self.at(main).remove(&put.key);
        let base = old.clone().unwrap_or_default();
        let kv = KeyValueView {
            key: put.key.clone(),
            create_revision: old.as_ref().map_or(main, |old| old.create_revision),
            mod_revision: main,
            version: base.version + 1,
            value: if put.ignore_value {
                base.value
            } else {
                put.value.clone()
            },
            lease: if put.ignore_lease {
                base.lease
            } else {
                put.lease
            },
        };
        self.change(sub, put.key.clone(), Some(kv));
        pb::PutResponse {
            header: None,
            prev_kv: old.filter(|_| put.prev_kv).map(|old| old.encode()),
        }
    }

    fn delete(&mut self, delete: &pb::DeleteRangeRequest, sub: i64) -> pb::DeleteRangeResponse {
        let live = self.interval(self.revision + 1, &delete.key, &delete.range_end);
        for (place, kv) in live.iter().enumerate() {
            self.change(sub + place as i64, kv.key.clone(), None);
        }
        let prev_kvs = live
            .iter()
            .filter(|_| delete.prev_kv)
            .map(KeyValueView::encode);
        pb::DeleteRangeResponse {
            header: None,
            deleted: live.len() as i64,
            prev_kvs: prev_kvs.collect(),
        }
    }

    fn txn(&mut self, txn: &pb::TxnRequest) -> Result<Response, Error> {
        let pairs = self.at(self.revision);
        self.validate(txn, &pairs)?;
        let first = self.changes.len();
        Ok(Response::Txn(self.run(txn, &pairs, first)))
    }

    fn validate(
        &self,
        txn: &pb::TxnRequest,
        pairs: &BTreeMap<Bytes, KeyValueView>,
    ) -> Result<(), Error> {
        for op in branch(txn, pairs) {
            match op.request.as_ref().unwrap() {
                Op::RequestRange(range) if range.revision > self.revision => {
                    return Err(Error::FutureRevision);
                }
                Op::RequestRange(range)
                    if range.revision != 0 && range.revision < self.compacted =>
                {
                    return Err(Error::Compacted);
                }
                Op::RequestPut(put) => self.check_put(put)?,
                Op::RequestTxn(nested) => self.validate(nested, pairs)?,
                Op::RequestRange(_) | Op::RequestDeleteRange(_) => {}
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        txn: &pb::TxnRequest,
        pairs: &BTreeMap<Bytes, KeyValueView>,
        first: usize,
    ) -> pb::TxnResponse {
        let mut responses = Vec::new();
        for op in branch(txn, pairs) {
            let sub = (self.changes.len() - first) as i64;
            let mut answer = match op.request.as_ref().unwrap() {
                Op::RequestRange(range) => {
                    let seen = self.revision + i64::from(self.changes.len() > first);
                    Answer::ResponseRange(self.range_seen_at(seen, range).unwrap())
                }
                Op::RequestPut(put) => Answer::ResponsePut(self.put(put, sub)),
                Op::RequestDeleteRange(delete) => {
                    Answer::ResponseDeleteRange(self.delete(delete, sub))
                }
                Op::RequestTxn(nested) => Answer::ResponseTxn(self.run(nested, pairs, first)),
            };
            let header = Some(pb::ResponseHeader {
                revision: self.revision + i64::from(self.changes.len() > first),
                ..Default::default()
            });
            match &mut answer {
                Answer::ResponseRange(answer) => answer.header = header,
                Answer::ResponsePut(answer) => answer.header = header,
                Answer::ResponseDeleteRange(answer) => answer.header = header,
                Answer::ResponseTxn(answer) => answer.header = Some(pb::ResponseHeader::default()),
            }
            responses.push(pb::ResponseOp {
                response: Some(answer),
            });
        }
        pb::TxnResponse {
            header: None,
            succeeded: holds_all(txn, pairs),
            responses,
        }
    }

    /// HashKV as its definition says it, by generations.
    pub(super) fn hash(&self, revision: i64) -> u32 {
        let keep = self.keep_set(revision);
        let physical = self.kept(self.compacted);
        let mut sum = crc32c(0, b"key");
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            let place = (change.main, change.sub);
            let is_old = change.main <= self.compacted;
            let is_gone = is_old && !physical.contains(&place);
            let is_skipped = is_old && !keep.is_empty() && !keep.contains(&place);
            let is_tombstone_there = change.main == self.compacted && change.kv.is_none();
            if is_gone || is_skipped || is_tombstone_there {
                continue;
            }
            let mut key = Vec::new();
            key.extend(change.main.to_be_bytes());
            key.push(b'_');
            key.extend(change.sub.to_be_bytes());
            key.extend(change.kv.is_none().then_some(b't'));
            let value = match &change.kv {
                Some(kv) => kv.encode(),
                None => KeyValue::tombstone(change.key.clone()),
            };
            sum = crc32c(crc32c(sum, &key), value.as_encoded());
        }
        sum
    }

    /// Per key: in the oldest generation whose tombstone is at or after the revision, else in the newest one, the newest change at
    /// or before it, unless that is the tombstone.
    ///
    /// At the compacted revision itself etcd has lost keys that were deleted and put again in that very revision; here they live.
    fn keep_set(&self, revision: i64) -> BTreeSet<(i64, i64)> {
        if revision == self.compacted {
            let live = self.at(revision);
            let of = |change: &&Change| {
                change.kv.is_some() && live.get(&change.key) == change.kv.as_ref()
            };
            return self
                .changes
                .iter()
                .filter(of)
                .map(|change| (change.main, change.sub))
                .collect();
        }
        let mut generations: BTreeMap<&Bytes, Vec<Vec<&Change>>> = BTreeMap::new();
        for change in &self.changes {
            let of_key = generations
                .entry(&change.key)
                .or_insert_with(|| vec![vec![]]);
            of_key.last_mut().unwrap().push(change);
            if change.kv.is_none() {
                of_key.push(vec![]);
            }
        }
        let ends_late = |generation: &&Vec<&Change>| {
            generation
                .last()
                .is_some_and(|last| last.kv.is_none() && last.main >= revision)
        };
        let mut keep = BTreeSet::new();
        for of_key in generations.values() {
            let generation = of_key
                .iter()
                .find(ends_late)
                .unwrap_or(of_key.last().unwrap());
            let newest = generation.iter().rfind(|change| change.main <= revision);
            if let Some(newest) = newest.filter(|change| change.kv.is_some()) {
                keep.insert((newest.main, newest.sub));
            }
        }
        keep
    }

    /// What a finished compaction leaves at or below its revision.
    fn kept(&self, revision: i64) -> BTreeSet<(i64, i64)> {
        let mut newest: BTreeMap<&Bytes, &Change> = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.main <= revision) {
            newest.insert(&change.key, change);
        }
        let kept = newest
            .values()
            .filter(|change| change.kv.is_some() || change.main == revision);
        kept.map(|change| (change.main, change.sub)).collect()
    }

    /// Number of records once every compaction has finished.
    pub(super) fn kept_records(&self) -> usize {
        let later = self
            .changes
            .iter()
            .filter(|change| change.main > self.compacted);
        self.kept(self.compacted).len() + later.count()
    }
}

fn branch<'a>(
    txn: &'a pb::TxnRequest,
    pairs: &BTreeMap<Bytes, KeyValueView>,
) -> &'a [pb::RequestOp] {
    if holds_all(txn, pairs) {
        &txn.success
    } else {
        &txn.failure
    }
}

fn holds_all(txn: &pb::TxnRequest, pairs: &BTreeMap<Bytes, KeyValueView>) -> bool {
    txn.compare.iter().all(|compare| {
        let mut found: Vec<&KeyValueView> = pairs
            .values()
            .filter(|kv| inside(&kv.key, &compare.key, &compare.range_end))
            .collect();
        let nothing = KeyValueView::default();
        if found.is_empty() {
            if compare.target == 3 {
                return false;
            }
            found.push(&nothing);
        }
        found.into_iter().all(|kv| holds(compare, kv))
    })
}

fn holds(compare: &pb::Compare, kv: &KeyValueView) -> bool {
    use pb::compare::TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
    let order = match compare.target_union.as_ref().unwrap() {
        Version(wanted) => kv.version.cmp(wanted),
        CreateRevision(wanted) => kv.create_revision.cmp(wanted),
        ModRevision(wanted) => kv.mod_revision.cmp(wanted),
        Value(wanted) => kv.value.cmp(wanted),
        Lease(wanted) => kv.lease.cmp(wanted),
    };
    match compare.result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        _ => order.is_ne(),
    }
}

/// CRC-32C, bit by bit.
fn crc32c(sum: u32, bytes: &[u8]) -> u32 {
    let mut sum = !sum;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}
