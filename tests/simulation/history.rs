//! What clients did and saw, and whether one store could have answered so.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use catena_api::{
    KeyValue,
    etcd::etcdserverpb::{self as pb, RangeRequest},
};
use catena_raft::{Node, ProposeError};
use catena_store::{Command, Reader, Request};
use futures_util::future::{self, Either};

use crate::{
    cluster::Cluster,
    world::{self, Chance},
};

/// Keys that clients share.
const KEYS: u64 = 8;

/// How long a client waits before it calls the outcome unknown.
const PATIENCE: Duration = Duration::from_secs(3);

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Took effect under this revision.
    Acked(i64),
    /// A transaction whose comparison failed, at this revision.
    Declined(i64),
    /// May take effect, now or later.
    Unknown,
    /// Will never take effect.
    Refused,
}

struct Write {
    keys: Vec<Bytes>,
    token: Bytes,
    /// The highest revision that anybody had seen when it began.
    seen_before: i64,
    fate: Fate,
}

struct Read {
    key: Bytes,
    revision: i64,
    seen_before: i64,
    found: Option<Bytes>,
}

/// All of it.
#[derive(Default)]
pub(crate) struct History {
    writes: Vec<Write>,
    reads: Vec<Read>,
    /// The highest revision that anybody has seen.
    seen: i64,
    tokens: u64,
}

impl History {
    fn token(&mut self) -> Bytes {
        self.tokens += 1;
        Bytes::from(format!("token {}", self.tokens))
    }

    /// Writes that were acknowledged.
    pub(crate) fn acked(&self) -> usize {
        let acked = self
            .writes
            .iter()
            .filter(|write| matches!(write.fate, Fate::Acked(_)));
        acked.count()
    }

    /// Reads that were answered.
    pub(crate) fn reads(&self) -> usize {
        self.reads.len()
    }

    /// Panics if the final state of a store contradicts what clients saw.
    pub(crate) fn check(&self, store: &Reader) {
        let truth = Truth::of(store);
        for write in &self.writes {
            truth.check_write(write);
        }
        for read in &self.reads {
            truth.check_read(read);
        }
        truth.check_strangers(&self.writes);
    }
}

pub(crate) type Shared = std::sync::Arc<parking_lot::Mutex<History>>;

/// Puts, transactions and reads through members that run, until `end`.
pub(crate) async fn client(cluster: Cluster, history: Shared, chance: Chance, end: Duration) {
    while world::now() < end {
        world::sleep(chance.micros(20_000)).await;
        let running = cluster.running();
        if running.is_empty() {
            continue;
        }
        let Some(node) = cluster.node(*chance.pick(&running)) else {
            continue;
        };
        match chance.below(10) {
            0..5 => put(&node, &history, &chance).await,
            5..7 => txn(&node, &history, &chance).await,
            _ => read(&node, &history, &chance).await,
        }
    }
}

fn any_key(chance: &Chance) -> Bytes {
    Bytes::from(format!("key {}", chance.below(KEYS)))
}

async fn within_patience<T>(future: impl Future<Output = T>) -> Option<T> {
    let (future, sleep) = (
        std::pin::pin!(future),
        std::pin::pin!(world::sleep(PATIENCE)),
    );
    match future::select(future, sleep).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}

/// Proposes, and notes the fate.
async fn write(node: &Node, history: &Shared, keys: Vec<Bytes>, token: Bytes, request: Request) {
    let number = {
        let mut history = history.lock();
        let write = Write {
            keys,
            token,
            seen_before: history.seen,
            fate: Fate::Unknown,
        };
        history.writes.push(write);
        history.writes.len() - 1
    };
    let proposed = within_patience(node.propose(Command::internal(request))).await;
    let fate = match proposed {
        None => Fate::Unknown,
        Some(Err(error)) => fate_of(&error),
        Some(Ok(outcome)) => match outcome.result {
            Ok(catena_store::Response::Txn(txn)) if !txn.succeeded => {
                Fate::Declined(outcome.revision)
            }
            Ok(_) => Fate::Acked(outcome.revision),
            Err(error) => panic!("a plain write is refused: {error}"),
        },
    };
    let mut history = history.lock();
    if let Fate::Acked(revision) | Fate::Declined(revision) = fate {
        history.seen = history.seen.max(revision);
    }
    let write = &mut history.writes[number];
    write.fate = fate;
    world::tell(|| format!("{}: {fate:?}", show(&write.token)));
}

fn fate_of(error: &ProposeError) -> Fate {
    match error {
        ProposeError::TooManyRequests
        | ProposeError::TooLarge
        | ProposeError::NoLeader
        | ProposeError::NotLeader
        | ProposeError::Deadline => Fate::Refused,
        ProposeError::Timeout
        | ProposeError::TimeoutLeaderFailure
        | ProposeError::TimeoutConnectionLost
        | ProposeError::Stopped => Fate::Unknown,
    }
}

fn put_request(key: &Bytes, token: &Bytes) -> pb::PutRequest {
    pb::PutRequest {
        key: key.clone(),
        value: token.clone(),
        ..pb::PutRequest::default()
    }
}

async fn put(node: &Node, history: &Shared, chance: &Chance) {
    let (key, token) = (any_key(chance), history.lock().token());
    let request = Request::Put(put_request(&key, &token));
    write(node, history, vec![key], token, request).await;
}

/// Writes two keys, if one of them has an even version.
async fn txn(node: &Node, history: &Shared, chance: &Chance) {
    let (one, other) = (any_key(chance), any_key(chance));
    let token = history.lock().token();
    let keys = match one == other {
        true => vec![one],
        false => vec![one, other],
    };
    let puts = keys.iter().map(|key| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(put_request(
            key, &token,
        ))),
    });
    let request = Request::Txn(pb::TxnRequest {
        compare: vec![pb::Compare {
            result: pb::compare::CompareResult::Less.into(),
            target: pb::compare::CompareTarget::Version.into(),
            key: keys[0].clone(),
            target_union: Some(pb::compare::TargetUnion::Version(chance.below(200) as i64)),
            ..pb::Compare::default()
        }],
        success: puts.collect(),
        failure: Vec::new(),
    });
    write(node, history, keys, token, request).await;
}

async fn read(node: &Node, history: &Shared, chance: &Chance) {
    let key = any_key(chance);
    let seen_before = history.lock().seen;
    let Some(Ok(())) = within_patience(node.read_index()).await else {
        return;
    };
    let request = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let (found, revision) = node
        .reader()
        .range(&request)
        .expect("a read at the current revision");
    let mut history = history.lock();
    history.seen = history.seen.max(revision);
    history.reads.push(Read {
        key,
        revision,
        seen_before,
        found: found.kvs.first().map(|pair| pair.value().clone()),
    });
}

/// The first revision at which two stores differ, and what they hold there.
pub(crate) fn difference(one: &Reader, other: &Reader) -> Option<String> {
    let (one, other) = (Truth::of(one).0, Truth::of(other).0);
    let revisions = one.keys().chain(other.keys());
    let first = revisions
        .filter(|revision| one.get(revision) != other.get(revision))
        .min()?;
    Some(format!(
        "revision {first}: {:?} and {:?}",
        one.get(first),
        other.get(first)
    ))
}

/// The writes of each revision, as a store has them at the end.
struct Truth(BTreeMap<i64, BTreeMap<Bytes, Bytes>>);

impl Truth {
    fn of(store: &Reader) -> Self {
        let revisions = 2..=store.revision();
        let writes = |revision| {
            let request = RangeRequest {
                key: Bytes::from_static(b"\0"),
                range_end: Bytes::from_static(b"\0"),
                revision,
                min_mod_revision: revision,
                ..RangeRequest::default()
            };
            let (found, _) = store.range(&request).expect("nothing is compacted");
            assert!(!found.kvs.is_empty(), "revision {revision} has no write");
            let pairs = found.kvs.iter().map(pair);
            (revision, pairs.collect())
        };
        Self(revisions.map(writes).collect())
    }

    fn check_write(&self, write: &Write) {
        let found: Vec<_> = self.with_token(&write.token).collect();
        match write.fate {
            Fate::Acked(revision) => {
                assert_eq!(found, [revision], "{} was acknowledged", show(&write.token));
                let written: Vec<_> = self.0[&revision].keys().cloned().collect();
                let mut keys = write.keys.clone();
                keys.sort();
                assert_eq!(written, keys, "a write is whole");
                assert!(
                    revision > write.seen_before,
                    "a later write has a higher revision"
                );
            }
            Fate::Declined(_) | Fate::Refused => {
                assert!(found.is_empty(), "{} was refused", show(&write.token));
            }
            Fate::Unknown => assert!(found.len() <= 1, "{} took effect twice", show(&write.token)),
        }
    }

    fn with_token(&self, token: &Bytes) -> impl Iterator<Item = i64> {
        let holds =
            move |pairs: &BTreeMap<Bytes, Bytes>| pairs.values().any(|value| value == token);
        let revisions = self.0.iter().filter(move |(_, pairs)| holds(pairs));
        revisions.map(|(revision, _)| *revision)
    }

    fn check_read(&self, read: &Read) {
        assert!(
            read.revision >= read.seen_before,
            "a read saw what was already over"
        );
        let before = self.0.range(..=read.revision).rev();
        let value = before.filter_map(|(_, pairs)| pairs.get(&read.key)).next();
        assert_eq!(
            value,
            read.found.as_ref(),
            "a read at revision {}",
            read.revision
        );
    }

    /// Everything that is there was written by somebody.
    fn check_strangers(&self, writes: &[Write]) {
        let known: std::collections::BTreeSet<_> =
            writes.iter().map(|write| &write.token).collect();
        for (revision, pairs) in &self.0 {
            for value in pairs.values() {
                assert!(
                    known.contains(value),
                    "{} at {revision}: by nobody",
                    show(value)
                );
            }
        }
    }
}

fn pair(pair: &KeyValue) -> (Bytes, Bytes) {
    (pair.key().clone(), pair.value().clone())
}

fn show(token: &Bytes) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(token)
}
