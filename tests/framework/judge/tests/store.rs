//! A small store in one place, which may be told to lie once.

use std::collections::BTreeMap;

use bytes::Bytes;
use catena_api::errors::{self, ApiError};
use imbl::OrdMap;

use crate::history::{
    Args, Change, ChangeKind, Compare, CompareResult, Delete, Get, Operand, Pair, Put, Ranged,
    Removed, Reply, SortOrder, SortTarget, Stored, Tried, Txn, Value,
};

use super::lies::{Liar, Lie};

pub(super) type Pairs = OrdMap<Bytes, Pair>;

/// The store.
pub(super) struct Store {
    /// The pairs at each revision, from 1 on.
    states: Vec<Pairs>,
    /// What changed at each revision, from 2 on.
    pub(super) log: Vec<Vec<Change>>,
    pub(super) compacted: i64,
    pub(super) leases: BTreeMap<i64, Lease>,
    pub(super) liar: Liar,
    granted: i64,
}

#[derive(Clone, Copy)]
pub(super) struct Lease {
    pub(super) ttl: i64,
    pub(super) deadline_ns: u64,
}

pub(super) type Answered = Result<Reply, ApiError>;

/// A transaction's work while it is under way.
struct Batch {
    pairs: Pairs,
    changes: Vec<Change>,
    revision: i64,
}

impl Store {
    pub(super) fn new(liar: Liar) -> Self {
        Self {
            states: vec![Pairs::new()],
            log: Vec::new(),
            compacted: -1,
            leases: BTreeMap::new(),
            liar,
            granted: 0,
        }
    }

    pub(super) fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    pub(super) fn at(&self, revision: i64) -> &Pairs {
        &self.states[usize::try_from(revision - 1).expect("revisions begin at 1")]
    }

    pub(super) fn now(&self) -> &Pairs {
        self.at(self.revision())
    }

    fn commit(&mut self, batch: Batch) {
        if !batch.changes.is_empty() {
            self.states.push(batch.pairs);
            self.log.push(batch.changes);
        }
    }

    fn batch(&self) -> Batch {
        Batch {
            pairs: self.now().clone(),
            changes: Vec::new(),
            revision: self.revision() + 1,
        }
    }

    /// Runs an operation.
    pub(super) fn apply(&mut self, args: &Args, now_ns: u64) -> Answered {
        match args {
            Args::Get(get) => {
                let revision = self.revision();
                self.read(get, revision).map(Reply::Get)
            }
            Args::Put(_) | Args::Delete(_) | Args::Txn(_) => self.write(args),
            Args::Compact(compact) => self.compact(compact.revision),
            Args::LeaseGrant(grant) => {
                self.granted += 1;
                let id = if grant.id == 0 {
                    0x7000 + self.granted
                } else {
                    grant.id
                };
                if self.leases.contains_key(&id) {
                    return Err(errors::LEASE_EXISTS);
                }
                let lease = Lease {
                    ttl: grant.ttl,
                    deadline_ns: deadline(now_ns, grant.ttl),
                };
                self.leases.insert(id, lease);
                Ok(Reply::LeaseGrant(crate::history::LeaseGranted {
                    id,
                    ttl: grant.ttl,
                }))
            }
            Args::LeaseRevoke(lease) => match self.leases.contains_key(&lease.id) {
                true => {
                    self.end_lease(lease.id);
                    Ok(Reply::LeaseRevoke {})
                }
                false => Err(errors::LEASE_NOT_FOUND),
            },
            Args::LeaseKeepalive(lease) => Ok(Reply::LeaseKeepalive {
                ttl: self.renew(lease.id, now_ns),
            }),
            Args::LeaseTtl(asked) => {
                let left = self.leases.get(&asked.id).map_or(-1, |lease| lease.ttl);
                Ok(Reply::LeaseTtl(crate::history::LeaseLeft {
                    ttl: left,
                    granted_ttl: left.max(0),
                    keys: Vec::new(),
                }))
            }
            Args::Leases {} | Args::Hashkv(_) | Args::Other(_) => Err(errors::UNKNOWN_METHOD),
        }
    }

    fn renew(&mut self, id: i64, now_ns: u64) -> i64 {
        match self.leases.get_mut(&id) {
            Some(_) if self.liar.tells(Lie::RenewalDenied) => 0,
            Some(lease) => {
                lease.deadline_ns = deadline(now_ns, lease.ttl);
                lease.ttl
            }
            None if self.liar.tells(Lie::RenewedAfterEnd) => 5,
            None => 0,
        }
    }

    fn compact(&mut self, revision: i64) -> Answered {
        if revision <= self.compacted {
            return Err(errors::COMPACTED);
        }
        if revision > self.revision() {
            return Err(errors::FUTURE_REVISION);
        }
        self.compacted = revision;
        Ok(Reply::Compact {})
    }

    /// Deletes the keys of a lease and forgets it.
    pub(super) fn end_lease(&mut self, id: i64) {
        let mut batch = self.batch();
        let attached: Vec<_> = batch
            .pairs
            .values()
            .filter(|pair| pair.lease == id)
            .cloned()
            .collect();
        let some = attached.len() > 1 && self.liar.tells(Lie::SomeKeysOfLease);
        for pair in attached.into_iter().skip(usize::from(some)) {
            batch.remove(&pair);
        }
        self.commit(batch);
        self.leases.remove(&id);
    }

    fn write(&mut self, args: &Args) -> Answered {
        self.validate(args)?;
        let mut batch = self.batch();
        let before = batch.pairs.clone();
        let reply = self.op(&mut batch, args, &before)?;
        if batch.changes.len() > 1 && self.liar.tells(Lie::HalfApplied) {
            batch.changes.truncate(1);
            batch.pairs = before;
            let change = batch.changes[0].clone();
            match change.kind {
                ChangeKind::Put => batch.pairs.insert(change.kv.key.clone(), change.kv),
                ChangeKind::Delete => batch.pairs.remove(&change.kv.key),
            };
        }
        self.commit(batch);
        Ok(reply)
    }

    fn validate(&mut self, args: &Args) -> Result<(), ApiError> {
        match args {
            Args::Put(put) if put.lease != 0 && !self.leases.contains_key(&put.lease) => {
                match self.liar.tells(Lie::AttachedAfterEnd) {
                    true => Ok(()),
                    false => Err(errors::LEASE_NOT_FOUND),
                }
            }
            Args::Put(put) if put.ignore_value && !self.now().contains_key(&put.key) => {
                Err(errors::KEY_NOT_FOUND)
            }
            Args::Txn(txn) => {
                let branch = txn.branch(holds(txn, self.now())).clone();
                branch.iter().try_for_each(|op| self.validate(op))
            }
            _ => Ok(()),
        }
    }

    fn op(&mut self, batch: &mut Batch, args: &Args, before: &Pairs) -> Answered {
        match args {
            Args::Get(get) => Ok(Reply::Get(ranged(get, &batch.pairs))),
            Args::Put(put) => Ok(Reply::Put(self.put(batch, put))),
            Args::Delete(delete) => Ok(Reply::Delete(batch.delete(delete))),
            Args::Txn(txn) => self.txn(batch, txn, before),
            _ => Err(errors::KEY_NOT_FOUND),
        }
    }

    fn txn(&mut self, batch: &mut Batch, txn: &Txn, before: &Pairs) -> Answered {
        let right = holds(txn, before);
        let seen = holds(txn, &batch.pairs);
        let succeeded = match right {
            _ if seen != right && self.liar.tells(Lie::CompareSeesWrites) => seen,
            right if txn.failure.len() == 1 && self.liar.tells(Lie::WrongBranch) => !right,
            right => right,
        };
        let mut branch = txn.branch(succeeded).clone();
        let written =
            matches!(&branch[..], [Args::Get(get), .., Args::Put(put)] if get.key == put.key);
        if written && self.liar.tells(Lie::WrongOrder) {
            branch.reverse();
            let mut responses = branch
                .iter()
                .map(|op| self.op(batch, op, before))
                .collect::<Result<Vec<_>, _>>()?;
            responses.reverse();
            return Ok(Reply::Txn(Tried {
                succeeded,
                responses,
            }));
        }
        let responses = branch
            .iter()
            .map(|op| self.op(batch, op, before))
            .collect::<Result<_, _>>()?;
        Ok(Reply::Txn(Tried {
            succeeded,
            responses,
        }))
    }

    fn put(&mut self, batch: &mut Batch, put: &Put) -> Stored {
        let prev = batch.pairs.get(&put.key).cloned();
        let mut pair = Pair {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: batch.revision,
            mod_revision: batch.revision,
            version: 1,
            lease: put.lease,
        };
        if let Some(prev) = &prev {
            pair.version = prev.version + 1;
            if !self.liar.tells(Lie::CreateRevisionMoves) {
                pair.create_revision = prev.create_revision;
            }
            if put.ignore_value {
                pair.value = prev.value.clone();
            }
        } else if batch.revision > 200 && self.liar.tells(Lie::VersionGoesOn) {
            pair.version = 7;
        }
        batch.pairs.insert(put.key.clone(), pair.clone());
        batch.changes.push(Change {
            kind: ChangeKind::Put,
            kv: pair,
            prev: prev.clone(),
        });
        Stored {
            prev: prev.filter(|_| put.prev_kv),
        }
    }

    /// Reads at a state.
    pub(super) fn read(&mut self, get: &Get, present: i64) -> Result<Ranged, ApiError> {
        if get.revision <= 0 {
            return Ok(ranged(get, self.at(present)));
        }
        if get.revision > present {
            return match self.liar.tells(Lie::FutureRead) {
                true => Ok(ranged(get, self.at(present))),
                false => Err(errors::FUTURE_REVISION),
            };
        }
        if get.revision < self.compacted && !self.liar.tells(Lie::CompactedRead) {
            return Err(errors::COMPACTED);
        }
        if get.revision > self.compacted && self.liar.tells(Lie::SaidCompacted) {
            return Err(errors::COMPACTED);
        }
        if get.revision < present - 20 && self.liar.tells(Lie::SaidFuture) {
            return Err(errors::FUTURE_REVISION);
        }
        let past = ranged(get, self.at(get.revision));
        let now = ranged(get, self.at(present));
        match past != now && self.liar.tells(Lie::PastReadShowsPresent) {
            true => Ok(now),
            false => Ok(past),
        }
    }
}

fn deadline(now_ns: u64, ttl: i64) -> u64 {
    now_ns + ttl.unsigned_abs() * 1_000_000_000
}

impl Batch {
    fn remove(&mut self, pair: &Pair) {
        self.pairs.remove(&pair.key);
        self.changes.push(Change {
            kind: ChangeKind::Delete,
            kv: Pair {
                key: pair.key.clone(),
                mod_revision: self.revision,
                ..Pair::default()
            },
            prev: Some(pair.clone()),
        });
    }

    fn delete(&mut self, delete: &Delete) -> Removed {
        let prevs = interval(&self.pairs, &delete.key, &delete.range_end);
        for pair in &prevs {
            self.remove(pair);
        }
        Removed {
            deleted: prevs.len() as i64,
            prevs: if delete.prev_kv { prevs } else { Vec::new() },
        }
    }
}

pub(super) fn inside(key: &[u8], first: &[u8], end: &[u8]) -> bool {
    match end {
        b"" => key == first,
        b"\0" => key >= first,
        end => key >= first && key < end,
    }
}

fn interval(pairs: &Pairs, first: &[u8], end: &[u8]) -> Vec<Pair> {
    pairs
        .values()
        .filter(|pair| inside(&pair.key, first, end))
        .cloned()
        .collect()
}

fn ranged(get: &Get, pairs: &Pairs) -> Ranged {
    let mut kvs = interval(pairs, &get.key, &get.range_end);
    let count = kvs.len() as i64;
    if get.count_only {
        return Ranged {
            kvs: Vec::new(),
            count,
            more: false,
        };
    }
    kvs.retain(|pair| pair.mod_revision >= get.min_mod_revision);
    match get.sort_target {
        SortTarget::Key => {}
        SortTarget::Version => kvs.sort_by_key(|pair| pair.version),
        SortTarget::Create => kvs.sort_by_key(|pair| pair.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|pair| pair.mod_revision),
        SortTarget::Value => kvs.sort_by_key(|pair| pair.value.bytes().clone()),
    }
    if get.sort_order == SortOrder::Descend {
        kvs.reverse();
    }
    let limit = usize::try_from(get.limit).unwrap_or(0);
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if get.keys_only {
        kvs.iter_mut()
            .for_each(|pair| pair.value = Value::default());
    }
    Ranged { kvs, count, more }
}

fn holds(txn: &Txn, pairs: &Pairs) -> bool {
    txn.compare
        .iter()
        .all(|compare| compares(compare, pairs.get(&compare.key)))
}

fn compares(compare: &Compare, pair: Option<&Pair>) -> bool {
    let field = |field: fn(&Pair) -> i64| pair.map_or(0, field);
    let (there, with) = match &compare.operand {
        Operand::Version { version } => (field(|pair| pair.version), *version),
        Operand::Create { create_revision } => {
            (field(|pair| pair.create_revision), *create_revision)
        }
        Operand::Mod { mod_revision } => (field(|pair| pair.mod_revision), *mod_revision),
        Operand::Lease { lease } => (field(|pair| pair.lease), *lease),
        Operand::Value { value } => match pair {
            None => return false,
            Some(pair) => (0, i64::from(pair.value != *value)),
        },
    };
    match compare.result {
        CompareResult::Equal => there == with,
        CompareResult::NotEqual => there != with,
        CompareResult::Greater => there > with,
        CompareResult::Less => there < with,
    }
}
