//! Each key by itself, without trust in the order of revisions.
//!
//! An operation on several keys is searched once for each of them, with what it says of that key.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    super::{interval::Interval, model},
    order::{Call, Object},
    scene::{Done, Effect},
};
use crate::history::{
    Args, Change, ChangeKind, Compare, Delete, Get, Pair, Put, Reply, SortOrder, SortTarget, Txn,
};

/// What an operation says of one key, in order.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The compare holds, or not; of the state before the operation.
    Holds(Compare, bool),
    /// This is what is there.
    Sees(Option<Pair>),
    /// Something is there, or nothing.
    Exists(bool),
    /// It is written, at this revision.
    Puts(Put, i64),
    /// It is deleted if it is there.
    Deletes,
}

/// A key.
pub(super) struct Key;

impl Object for Key {
    type State = Option<Digested>;
    type Op = Vec<Step>;

    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State> {
        let before = state.as_ref().map(|digested| &digested.0);
        let mut now = before.cloned();
        for step in op {
            match step {
                Step::Holds(compare, holds) => {
                    if model::compares(compare, before) != *holds {
                        return None;
                    }
                }
                Step::Sees(pair) if *pair != now => return None,
                Step::Exists(exists) if *exists != now.is_some() => return None,
                Step::Sees(_) | Step::Exists(_) => {}
                Step::Puts(put, revision) => now = Some(written(put, *revision, now)?),
                Step::Deletes => now = None,
            }
        }
        Some(now.map(Digested))
    }

    fn neutral(&self, state: &Self::State, op: &Self::Op) -> bool {
        let pair = state.as_ref().map(|digested| &digested.0);
        op.iter().all(|step| match step {
            Step::Holds(compare, holds) => model::compares(compare, pair) == *holds,
            Step::Sees(seen) => seen.as_ref() == pair,
            Step::Exists(exists) => *exists == pair.is_some(),
            Step::Puts(..) | Step::Deletes => false,
        })
    }
}

/// A pair that is known by its last write.
#[derive(Clone)]
pub(super) struct Digested(Pair);

impl std::hash::Hash for Digested {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        let Pair {
            value,
            create_revision,
            mod_revision,
            version,
            lease,
            ..
        } = &self.0;
        (value.bytes(), create_revision, mod_revision, version, lease).hash(hasher);
    }
}

fn written(put: &Put, revision: i64, old: Option<Pair>) -> Option<Pair> {
    if old.is_none() && (put.ignore_value || put.ignore_lease) {
        return None;
    }
    let old = old.unwrap_or_default();
    Some(Pair {
        key: put.key.clone(),
        value: if put.ignore_value {
            old.value
        } else {
            put.value.clone()
        },
        create_revision: if old.version == 0 {
            revision
        } else {
            old.create_revision
        },
        mod_revision: revision,
        version: old.version + 1,
        lease: if put.ignore_lease {
            old.lease
        } else {
            put.lease
        },
    })
}

/// The calls on each key.
pub(super) fn calls(
    effects: &[Effect<'_>],
    keys: &BTreeMap<Bytes, usize>,
) -> Vec<Vec<Call<Vec<Step>>>> {
    let mut calls: Vec<Vec<Call<Vec<Step>>>> = keys.iter().map(|_| Vec::new()).collect();
    for effect in effects {
        let mut said = Said {
            keys,
            steps: BTreeMap::new(),
        };
        match &effect.done {
            Done::Answered {
                args,
                answer,
                revision,
            } => said.answered(args, &answer.reply, *revision),
            Done::Seen {
                changes, revision, ..
            }
            | Done::Gone { changes, revision } => said.seen(changes, *revision),
        }
        for (key, op) in said.steps {
            calls[key].push(Call {
                id: effect.id,
                call_ns: effect.call_ns,
                return_ns: effect.return_ns,
                op,
            });
        }
    }
    calls
}

/// What an operation says of keys.
struct Said<'a> {
    keys: &'a BTreeMap<Bytes, usize>,
    steps: BTreeMap<usize, Vec<Step>>,
}

impl Said<'_> {
    fn say(&mut self, key: &Bytes, step: Step) {
        if let Some(key) = self.keys.get(key) {
            self.steps.entry(*key).or_default().push(step);
        }
    }

    fn seen(&mut self, changes: &[Change], revision: i64) {
        for change in changes {
            let kv = &change.kv;
            let step = match change.kind {
                ChangeKind::Delete => {
                    self.say(&kv.key, Step::Exists(true));
                    Step::Deletes
                }
                ChangeKind::Put => {
                    let put = Put {
                        key: kv.key.clone(),
                        value: kv.value.clone(),
                        lease: kv.lease,
                        ..Put::default()
                    };
                    Step::Puts(put, revision)
                }
            };
            self.say(&kv.key, step);
        }
    }

    fn answered(&mut self, args: &Args, reply: &Reply, revision: i64) {
        if let (Args::Txn(txn), reply) = (args, reply) {
            self.compares(txn, reply);
        }
        self.op(args, reply, revision);
    }

    /// The compares, which look at the state before: those of nested transactions on the side that was taken as well.
    fn compares(&mut self, txn: &Txn, reply: &Reply) {
        let Reply::Txn(tried) = reply else {
            return;
        };
        // If one of several does not hold, nobody knows which.
        if tried.succeeded || txn.compare.len() == 1 {
            for compare in txn
                .compare
                .iter()
                .filter(|compare| compare.range_end.is_empty())
            {
                self.say(&compare.key, Step::Holds(compare.clone(), tried.succeeded));
            }
        }
        for (op, reply) in txn.branch(tried.succeeded).iter().zip(&tried.responses) {
            if let Args::Txn(inner) = op {
                self.compares(inner, reply);
            }
        }
    }

    fn op(&mut self, args: &Args, reply: &Reply, revision: i64) {
        match (args, reply) {
            (Args::Get(get), Reply::Get(ranged)) if complete(get) => {
                self.range(&Interval::new(&get.key, &get.range_end), &ranged.kvs);
            }
            (Args::Put(put), Reply::Put(stored)) => {
                if put.prev_kv {
                    self.say(&put.key, Step::Sees(stored.prev.clone()));
                }
                self.say(&put.key, Step::Puts(put.clone(), revision));
            }
            (Args::Delete(delete), Reply::Delete(removed)) => {
                self.delete(delete, removed.deleted, &removed.prevs);
            }
            (Args::Txn(txn), Reply::Txn(tried)) => {
                for (op, reply) in txn.branch(tried.succeeded).iter().zip(&tried.responses) {
                    self.op(op, reply, revision);
                }
            }
            _ => {}
        }
    }

    fn range(&mut self, interval: &Interval, pairs: &[Pair]) {
        let keys = self.keys.range::<[u8], _>(interval.bounds());
        for (key, _) in keys {
            let pair = pairs.iter().find(|pair| pair.key == *key);
            self.say(key, Step::Sees(pair.cloned()));
        }
    }

    fn delete(&mut self, delete: &Delete, deleted: i64, prevs: &[Pair]) {
        let interval = Interval::new(&delete.key, &delete.range_end);
        if delete.prev_kv {
            self.range(&interval, prevs);
        } else if let Some(key) = interval.single() {
            self.say(key, Step::Exists(deleted > 0));
        }
        for (key, _) in self.keys.range::<[u8], _>(interval.bounds()) {
            self.say(key, Step::Deletes);
        }
    }
}

/// Whether a get shows all of its interval as it is now.
fn complete(get: &Get) -> bool {
    *get == Get {
        key: get.key.clone(),
        range_end: get.range_end.clone(),
        sort_order: SortOrder::None,
        sort_target: SortTarget::Key,
        ..Get::default()
    }
}
