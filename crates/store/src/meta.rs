//! The records of the bucket `meta`: how far the state has come.

use bytes::Bytes;

use crate::{
    Fatal, Position,
    backend::{Bucket, View},
    codec,
    mvcc::Revision,
};

/// Index of the last applied entry, as etcd names it.
const INDEX: &[u8] = b"consistent_index";
/// Term of the last applied entry.
const TERM: &[u8] = b"term";
/// Raft's membership.
const MEMBERSHIP: &[u8] = b"membership";
/// The cluster's id. etcd keeps it in its log.
const CLUSTER_ID: &[u8] = b"clusterId";
/// The compacted revision.
pub(crate) const SCHEDULED: &[u8] = b"scheduledCompactRev";
/// The revision up to which compaction has deleted everything.
pub(crate) const FINISHED: &[u8] = b"finishedCompactRev";

/// Key of the cluster version in [`Bucket::Cluster`].
pub(crate) const CLUSTER_VERSION: &[u8] = b"clusterVersion";

/// A record of the bucket.
pub(crate) type Pair = (Bytes, Bytes);

pub(crate) fn position(position: Position) -> [Pair; 2] {
    [(INDEX, position.index), (TERM, position.term)].map(number)
}

pub(crate) fn membership(membership: &(Option<Position>, Bytes)) -> Pair {
    (Bytes::from_static(MEMBERSHIP), codec::encode(membership))
}

pub(crate) fn cluster_id(id: u64) -> Pair {
    number((CLUSTER_ID, id))
}

pub(crate) fn scheduled(revision: i64) -> Pair {
    compaction(SCHEDULED, revision)
}

pub(crate) fn finished(revision: i64) -> Pair {
    compaction(FINISHED, revision)
}

fn number((key, number): (&'static [u8], u64)) -> Pair {
    let value = Bytes::copy_from_slice(&number.to_be_bytes());
    (Bytes::from_static(key), value)
}

fn compaction(key: &'static [u8], revision: i64) -> Pair {
    let value = Revision::first(revision).key(false).to_bytes();
    (Bytes::from_static(key), value)
}

/// The bucket, read back.
#[derive(Debug)]
pub(crate) struct Meta {
    pub(crate) applied: Option<Position>,
    pub(crate) membership: Option<(Option<Position>, Bytes)>,
    pub(crate) cluster_id: Option<u64>,
    /// -1 if never.
    pub(crate) scheduled: i64,
    /// -1 if never.
    pub(crate) finished: i64,
}

impl Meta {
    pub(crate) fn read(view: &dyn View) -> Result<Self, Fatal> {
        let index = read_number(view, INDEX)?;
        let term = read_number(view, TERM)?.unwrap_or(0);
        let membership = view.get(Bucket::Meta, MEMBERSHIP)?;
        let membership = membership.map(|record| codec::decode(&record)).transpose();
        Ok(Self {
            applied: index.map(|index| Position { term, index }),
            membership: membership.map_err(|e| Fatal::record(Bucket::Meta, e))?,
            cluster_id: read_number(view, CLUSTER_ID)?,
            scheduled: read_compaction(view, SCHEDULED)?,
            finished: read_compaction(view, FINISHED)?,
        })
    }
}

fn read_number(view: &dyn View, key: &'static [u8]) -> Result<Option<u64>, Fatal> {
    let Some(value) = view.get(Bucket::Meta, key)? else {
        return Ok(None);
    };
    let number = value[..].try_into().map(u64::from_be_bytes);
    number.map(Some).map_err(|_| Fatal::key(Bucket::Meta, key))
}

fn read_compaction(view: &dyn View, key: &'static [u8]) -> Result<i64, Fatal> {
    let Some(value) = view.get(Bucket::Meta, key)? else {
        return Ok(-1);
    };
    let (revision, _) = Revision::parse(&value).ok_or_else(|| Fatal::key(Bucket::Meta, key))?;
    Ok(revision.main)
}
