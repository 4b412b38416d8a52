//! Random steps: every option of every call, few keys so that they meet, wrong input now and then.
//!
//! A step depends on the seed and its place alone, never on answers, so that a run can be repeated with steps left out.

use bytes::Bytes;
use catena_api::etcd::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest, WatchCreateRequest, compare::TargetUnion,
};
use framework::message::Op;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::operation::{Operation, near_compacted, near_current};

/// Watch streams on each side.
pub(crate) const STREAMS: usize = 3;

/// Few keys, with prefixes of one another and bytes at both ends.
const KEYS: [&[u8]; 12] = [
    b"a",
    b"a\0",
    b"aa",
    b"ab",
    b"b",
    b"ba",
    b"c",
    b"d",
    b"\0",
    b"\xff",
    b"\xff\xff",
    b"z",
];
const LEASES: [i64; 7] = [1, 2, 3, 4, 5, -3, i64::MAX];
/// No lease ends by itself during a run; the last is refused.
const TTLS: [i64; 4] = [10_000, 20_000, 9_000_000_000, 9_000_000_001];
/// How deep transactions nest.
const DEPTH_MAX: usize = 2;

/// The steps of a seed.
pub(crate) fn operations(seed: u64, count: usize) -> Vec<Operation> {
    let mut generator = Generator {
        rng: StdRng::seed_from_u64(seed),
        deeper_deletes: false,
    };
    (0..count).map(|_| generator.operation()).collect()
}

struct Generator {
    rng: StdRng,
    /// Whether the nested transactions of the one being made delete or put; see [`Generator::op`].
    deeper_deletes: bool,
}

impl Generator {
    fn operation(&mut self) -> Operation {
        match self.rng.random_range(0..1000) {
            0..300 => Operation::Put(self.put()),
            300..480 => Operation::Range(self.range()),
            480..510 => Operation::RangeStream(self.stream_range()),
            510..600 => Operation::Delete(self.delete()),
            600..790 => Operation::Txn(self.txn(0)),
            790..805 => Operation::Compact(self.compact()),
            805..840 => Operation::Grant {
                ttl: self.pick(&TTLS),
                id: self.lease(),
            },
            840..865 => Operation::Revoke { id: self.lease() },
            865..885 => Operation::KeepAlive { id: self.lease() },
            885..910 => Operation::TimeToLive { id: self.lease() },
            910..920 => Operation::Leases,
            920..950 => Operation::HashKv {
                revision: self.revision(),
            },
            950..975 => Operation::Watch {
                stream: self.stream(),
                request: self.watch(),
            },
            975..990 => Operation::Cancel {
                stream: self.stream(),
                watch_id: self.rng.random_range(-1..6),
            },
            _ => Operation::Progress {
                stream: self.stream(),
            },
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.rng).expect("no table is empty")
    }

    fn stream(&mut self) -> usize {
        self.rng.random_range(0..STREAMS)
    }

    fn lease(&mut self) -> i64 {
        self.pick(&LEASES)
    }

    fn key(&mut self) -> Bytes {
        if self.chance(1) {
            return Bytes::new();
        }
        Bytes::from_static(self.pick(&KEYS))
    }

    fn end(&mut self) -> Bytes {
        match self.rng.random_range(0..10) {
            0..5 => Bytes::new(),
            5 | 6 => Bytes::from_static(b"\0"),
            _ => self.key(),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.rng.random_range(0..200) {
            // Beyond the limit of a request.
            0 => vec![b'v'; 1_600_000].into(),
            1..20 => Bytes::new(),
            _ => format!("{}", self.rng.random_range(0..8)).into(),
        }
    }

    /// A revision around the interesting ones.
    fn revision(&mut self) -> i64 {
        match self.rng.random_range(0..20) {
            0..8 => 0,
            8..14 => near_current(self.rng.random_range(-12..3)),
            14..18 => near_compacted(self.rng.random_range(-2..4)),
            18 => self.rng.random_range(-3..4),
            _ => self.pick(&[i64::MAX, i64::MIN]),
        }
    }

    fn filter(&mut self) -> i64 {
        if self.chance(85) {
            0
        } else {
            near_current(self.rng.random_range(-15..2))
        }
    }

    fn range(&mut self) -> RangeRequest {
        let sorted = self.chance(40);
        let wrong = self.chance(1);
        RangeRequest {
            key: self.key(),
            range_end: self.end(),
            limit: if self.chance(60) {
                0
            } else {
                self.rng.random_range(-1..5)
            },
            revision: self.revision(),
            sort_order: if wrong {
                7
            } else if sorted {
                self.rng.random_range(0..3)
            } else {
                0
            },
            sort_target: if sorted {
                self.rng.random_range(0..5)
            } else {
                0
            },
            serializable: self.chance(20),
            keys_only: self.chance(10),
            count_only: self.chance(10),
            min_mod_revision: self.filter(),
            max_mod_revision: self.filter(),
            min_create_revision: self.filter(),
            max_create_revision: self.filter(),
        }
    }

    /// etcd sorts each chunk of a stream by itself if a target is given without an order, so the whole depends on the size of its
    /// chunks: that combination is left out.
    fn stream_range(&mut self) -> RangeRequest {
        let mut range = self.range();
        if range.sort_order == 0 {
            range.sort_target = 0;
        }
        if self.chance(20) {
            return range;
        }
        RangeRequest {
            sort_order: 0,
            sort_target: 0,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
            ..range
        }
    }

    fn put(&mut self) -> PutRequest {
        let (ignore_value, ignore_lease) = (self.chance(5), self.chance(5));
        let wrong = self.chance(2);
        PutRequest {
            key: self.key(),
            value: if ignore_value && !wrong {
                Bytes::new()
            } else {
                self.value()
            },
            lease: if (ignore_lease && !wrong) || self.chance(75) {
                0
            } else {
                self.lease()
            },
            prev_kv: self.chance(20),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key(),
            range_end: self.end(),
            prev_kv: self.chance(30),
        }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        // A run meets the limit of operations now and then.
        let many = depth == 0 && self.chance(1);
        let count = |g: &mut Self, max: usize| g.rng.random_range(0..=max);
        let compares = count(self, 2);
        let (success, failure) = (if many { 129 } else { count(self, 3) }, count(self, 3));
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..success).map(|_| self.op(depth)).collect(),
            failure: (0..failure).map(|_| self.op(depth)).collect(),
        }
    }

    /// An operation of a transaction.
    ///
    /// No accepted transaction may put a key and delete it: etcd's check lets some pass (§5.6: a delete to the end of all keys, and
    /// a put before a delete in sibling transactions), and etcd 3.7.1 then dies at a later range of the key, once its revision is
    /// compacted ("range failed to find revision pair").
    fn op(&mut self, depth: usize) -> RequestOp {
        if depth == 0 {
            self.deeper_deletes = self.chance(30);
        }
        match self.rng.random_range(0..100) {
            0..45 if depth > 0 && self.deeper_deletes => self.delete_to_an_end().op(),
            0..45 => self.put().op(),
            45..70 => self.range().op(),
            70..85 if depth == 0 || self.deeper_deletes => self.delete_to_an_end().op(),
            85..99 if depth < DEPTH_MAX => self.txn(depth + 1).op(),
            99 => RequestOp { request: None },
            _ => self.range().op(),
        }
    }

    fn delete_to_an_end(&mut self) -> DeleteRangeRequest {
        let mut delete = self.delete();
        if delete.range_end == b"\0"[..] {
            delete.range_end = Bytes::from_static(b"zz");
        }
        delete
    }

    fn compare(&mut self) -> Compare {
        let target = self.rng.random_range(0..5);
        let operand = match target {
            0 => TargetUnion::Version(self.rng.random_range(0..4)),
            1 => TargetUnion::CreateRevision(self.compared_revision()),
            2 => TargetUnion::ModRevision(self.compared_revision()),
            3 => TargetUnion::Value(self.value()),
            _ => TargetUnion::Lease(if self.chance(50) { 0 } else { self.lease() }),
        };
        Compare {
            result: if self.chance(1) {
                9
            } else {
                self.rng.random_range(0..4)
            },
            target,
            key: self.key(),
            range_end: if self.chance(70) {
                Bytes::new()
            } else {
                self.end()
            },
            target_union: (!self.chance(3)).then_some(operand),
        }
    }

    fn compared_revision(&mut self) -> i64 {
        if self.chance(40) {
            0
        } else {
            near_current(self.rng.random_range(-10..2))
        }
    }

    fn compact(&mut self) -> CompactionRequest {
        let revision = match self.rng.random_range(0..10) {
            0..7 => near_current(self.rng.random_range(-20..1)),
            7 => near_current(1),
            8 => near_compacted(self.rng.random_range(-1..1)),
            _ => self.rng.random_range(-1..2),
        };
        CompactionRequest {
            revision,
            physical: self.chance(50),
        }
    }

    fn watch(&mut self) -> WatchCreateRequest {
        let filters = (0..2).filter(|_| self.chance(10)).collect();
        WatchCreateRequest {
            key: self.key(),
            range_end: self.end(),
            start_revision: if self.chance(40) { 0 } else { self.revision() },
            // Off: what comes by the clock cannot be compared.
            progress_notify: false,
            filters,
            prev_kv: self.chance(50),
            watch_id: if self.chance(50) {
                0
            } else {
                self.rng.random_range(-1..6)
            },
            fragment: self.chance(30),
        }
    }
}
