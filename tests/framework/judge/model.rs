//! What an operation does to pairs, and whether an answer fits: etcd's rules, written once more.
//!
//! Compares see the state before the transaction, those of nested transactions too; operations run in order and see what earlier
//! ones of the same transaction wrote.

use std::{cmp::Ordering, collections::BTreeMap};

use bytes::Bytes;

use super::{Guarantee, interval::Interval};
use crate::history::{
    Args, Change, ChangeKind, Compare, CompareResult, Delete, Get, Operand, Pair, Put, Ranged,
    Reply, SortOrder, SortTarget, Txn, Value,
};

/// The pairs at some revision.
pub(crate) trait State {
    /// The pair of a key.
    fn get(&self, key: &[u8]) -> Option<&Pair>;
    /// The pairs of an interval, by key.
    fn range(&self, interval: &Interval) -> Vec<&Pair>;
    /// The pairs of an interval at a given revision, by key.
    fn past(&self, interval: &Interval, revision: i64) -> Past<'_>;
}

/// An older state.
pub(crate) enum Past<'a> {
    /// The pairs.
    Pairs(Vec<&'a Pair>),
    /// The revision is not there yet.
    Future,
    /// Older states are not kept here.
    Untracked,
}

/// Why an answer does not fit.
#[derive(Clone, Debug)]
pub(crate) struct Mismatch {
    /// What that breaks.
    pub(crate) guarantee: Guarantee,
    /// In words.
    pub(crate) what: String,
}

/// Runs an operation on a state as the one that makes `revision`, and returns what it changes. If there is an answer, it must fit.
pub(crate) fn run(
    state: &impl State,
    revision: i64,
    args: &Args,
    reply: Option<&Reply>,
) -> Result<Vec<Change>, Mismatch> {
    let mut run = Run {
        state,
        revision,
        written: BTreeMap::new(),
        changes: Vec::new(),
        nested: false,
    };
    run.op(args, reply)?;
    Ok(run.changes)
}

/// What ends a lease: its keys go, in order.
pub(crate) fn revoke<'a>(
    pairs: impl Iterator<Item = &'a Pair>,
    lease: i64,
    revision: i64,
) -> Vec<Change> {
    let attached = pairs.filter(|pair| pair.lease == lease);
    attached.map(|pair| deletion(pair, revision)).collect()
}

fn deletion(pair: &Pair, revision: i64) -> Change {
    Change {
        kind: ChangeKind::Delete,
        kv: Pair {
            key: pair.key.clone(),
            mod_revision: revision,
            ..Pair::default()
        },
        prev: Some(pair.clone()),
    }
}

struct Run<'a, S> {
    state: &'a S,
    revision: i64,
    written: BTreeMap<Bytes, Option<Pair>>,
    changes: Vec<Change>,
    /// Whether the operation is one of a transaction.
    nested: bool,
}

impl<S: State> Run<'_, S> {
    fn op(&mut self, args: &Args, reply: Option<&Reply>) -> Result<(), Mismatch> {
        match (args, reply) {
            (Args::Get(_), None) => Ok(()),
            (Args::Get(get), Some(Reply::Get(ranged))) => self.get(get, ranged),
            (Args::Put(put), None) => self.put(put).map(drop),
            (Args::Put(put), Some(Reply::Put(stored))) => {
                let prev = self.put(put)?;
                let expected = prev.filter(|_| put.prev_kv);
                self.same("the previous pair", &expected, &stored.prev)
            }
            (Args::Delete(delete), None) => {
                self.delete(delete);
                Ok(())
            }
            (Args::Delete(delete), Some(Reply::Delete(removed))) => {
                let prevs = self.delete(delete);
                self.same(
                    "the number deleted",
                    &(prevs.len() as i64),
                    &removed.deleted,
                )?;
                let expected = if delete.prev_kv { prevs } else { Vec::new() };
                self.same("the previous pairs", &expected, &removed.prevs)
            }
            (Args::Txn(txn), None) => {
                self.nested = true;
                let branch = txn.branch(self.holds(txn));
                branch.iter().try_for_each(|op| self.op(op, None))
            }
            (Args::Txn(txn), Some(Reply::Txn(tried))) => {
                self.nested = true;
                self.same(
                    "whether the compares held",
                    &self.holds(txn),
                    &tried.succeeded,
                )?;
                let branch = txn.branch(tried.succeeded);
                self.same(
                    "the number of responses",
                    &branch.len(),
                    &tried.responses.len(),
                )?;
                let mut both = branch.iter().zip(&tried.responses);
                both.try_for_each(|(op, reply)| self.op(op, Some(reply)))
            }
            (args, _) => Err(Mismatch {
                guarantee: Guarantee::K2,
                what: format!("the answer is not one to a {}", args.name()),
            }),
        }
    }

    fn same<T: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        expected: &T,
        got: &T,
    ) -> Result<(), Mismatch> {
        if expected == got {
            return Ok(());
        }
        Err(Mismatch {
            guarantee: self.guarantee(),
            what: format!("{what}: {got:?} instead of {expected:?}"),
        })
    }

    fn guarantee(&self) -> Guarantee {
        match self.nested {
            true => Guarantee::K4,
            false => Guarantee::K2,
        }
    }

    fn current(&self, key: &[u8]) -> Option<Pair> {
        match self.written.get(key) {
            Some(written) => written.clone(),
            None => self.state.get(key).cloned(),
        }
    }

    fn current_range(&self, interval: &Interval) -> Vec<Pair> {
        if self.written.is_empty() {
            return self.state.range(interval).into_iter().cloned().collect();
        }
        let pairs = self.state.range(interval).into_iter();
        let mut merged: BTreeMap<_, _> = pairs
            .map(|pair| (pair.key.clone(), Some(pair.clone())))
            .collect();
        let written = self.written.range::<[u8], _>(interval.bounds());
        merged.extend(written.map(|(key, pair)| (key.clone(), pair.clone())));
        merged.into_values().flatten().collect()
    }

    fn put(&mut self, put: &Put) -> Result<Option<Pair>, Mismatch> {
        let prev = self.current(&put.key);
        if prev.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(Mismatch {
                guarantee: self.guarantee(),
                what: format!("a put keeps what {:?} has, and it has nothing", put.key),
            });
        }
        let old = prev.clone().unwrap_or_default();
        let pair = Pair {
            key: put.key.clone(),
            value: if put.ignore_value {
                old.value
            } else {
                put.value.clone()
            },
            create_revision: match old.version {
                0 => self.revision,
                _ => old.create_revision,
            },
            mod_revision: self.revision,
            version: old.version + 1,
            lease: if put.ignore_lease {
                old.lease
            } else {
                put.lease
            },
        };
        self.changes.push(Change {
            kind: ChangeKind::Put,
            kv: pair.clone(),
            prev: prev.clone(),
        });
        self.written.insert(put.key.clone(), Some(pair));
        Ok(prev)
    }

    fn delete(&mut self, delete: &Delete) -> Vec<Pair> {
        let prevs = self.current_range(&Interval::new(&delete.key, &delete.range_end));
        for pair in &prevs {
            self.changes.push(deletion(pair, self.revision));
            self.written.insert(pair.key.clone(), None);
        }
        prevs
    }

    fn get(&self, get: &Get, ranged: &Ranged) -> Result<(), Mismatch> {
        let interval = Interval::new(&get.key, &get.range_end);
        let (guarantee, pairs) = match get.revision {
            ..=0 if get.serializable && !self.nested => {
                (Guarantee::K6, self.current_range(&interval))
            }
            ..=0 => (self.guarantee(), self.current_range(&interval)),
            revision => match self.state.past(&interval, revision) {
                Past::Pairs(pairs) => (Guarantee::K7, pairs.into_iter().cloned().collect()),
                Past::Untracked => return Ok(()),
                Past::Future => {
                    return Err(Mismatch {
                        guarantee: Guarantee::K7,
                        what: format!("data of the future revision {revision}"),
                    });
                }
            },
        };
        ranges(get, pairs, ranged).map_err(|what| Mismatch { guarantee, what })
    }

    /// Whether the compares of a transaction hold, in the state before it.
    fn holds(&self, txn: &Txn) -> bool {
        txn.compare.iter().all(|compare| {
            let interval = Interval::new(&compare.key, &compare.range_end);
            let pairs = match interval.single() {
                Some(key) => self.state.get(key).into_iter().collect(),
                None => self.state.range(&interval),
            };
            match pairs.is_empty() {
                true => compares(compare, None),
                false => pairs.iter().all(|pair| compares(compare, Some(pair))),
            }
        })
    }
}

/// Whether a compare holds for a pair, or for its absence.
pub(crate) fn compares(compare: &Compare, pair: Option<&Pair>) -> bool {
    let number = |field: fn(&Pair) -> i64| pair.map_or(0, field);
    let ordering = match (&compare.operand, pair) {
        (Operand::Version { version }, _) => number(|pair| pair.version).cmp(version),
        (Operand::Create { create_revision }, _) => {
            number(|pair| pair.create_revision).cmp(create_revision)
        }
        (Operand::Mod { mod_revision }, _) => number(|pair| pair.mod_revision).cmp(mod_revision),
        (Operand::Lease { lease }, _) => number(|pair| pair.lease).cmp(lease),
        (Operand::Value { .. }, None) => return false,
        (Operand::Value { value }, Some(pair)) => order(&pair.value, value),
    };
    match compare.result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::NotEqual => ordering != Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
    }
}

/// Order of values. Of long ones only the tokens are known, which differ unless the values are equal.
fn order(one: &Value, other: &Value) -> Ordering {
    if one == other {
        return Ordering::Equal;
    }
    one.bytes().cmp(other.bytes()).then(Ordering::Less)
}

/// Whether a range shows `pairs`, which are all of its interval in order of keys.
fn ranges(get: &Get, pairs: Vec<Pair>, got: &Ranged) -> Result<(), String> {
    let count = pairs.len() as i64;
    if got.count != count {
        return Err(format!("count {} instead of {count}", got.count));
    }
    if get.count_only {
        return match got.kvs.is_empty() && !got.more {
            true => Ok(()),
            false => Err("pairs where only their number was wanted".to_owned()),
        };
    }
    let (expected, more) = select(get, pairs);
    if got.more != more {
        return Err(format!("more: {} instead of {more}", got.more));
    }
    match expected.len() == got.kvs.len() && alike(get, &expected, &got.kvs) {
        true => Ok(()),
        false => Err(format!("{:?} instead of {expected:?}", got.kvs)),
    }
}

/// Filters, sorts and cuts, in that order. A sort by target without an order sorts what the limit has left.
fn select(get: &Get, mut pairs: Vec<Pair>) -> (Vec<Pair>, bool) {
    pairs.retain(|pair| {
        within(
            pair.mod_revision,
            get.min_mod_revision,
            get.max_mod_revision,
        ) && within(
            pair.create_revision,
            get.min_create_revision,
            get.max_create_revision,
        )
    });
    let more = get.limit > 0 && pairs.len() as i64 > get.limit;
    let cut = |pairs: &mut Vec<Pair>| {
        if more {
            pairs.truncate(usize::try_from(get.limit).unwrap_or(usize::MAX));
        }
    };
    if get.sort_order == SortOrder::None && unfiltered(get) {
        cut(&mut pairs);
    }
    pairs.sort_by(|one, other| match get.sort_order {
        SortOrder::None | SortOrder::Ascend => by(get.sort_target, one, other),
        SortOrder::Descend => by(get.sort_target, other, one),
    });
    cut(&mut pairs);
    (pairs, more)
}

fn within(number: i64, min: i64, max: i64) -> bool {
    (min == 0 || number >= min) && (max == 0 || number <= max)
}

fn unfiltered(get: &Get) -> bool {
    get.min_mod_revision == 0
        && get.max_mod_revision == 0
        && get.min_create_revision == 0
        && get.max_create_revision == 0
}

fn by(target: SortTarget, one: &Pair, other: &Pair) -> Ordering {
    match target {
        SortTarget::Key => one.key.cmp(&other.key),
        SortTarget::Version => one.version.cmp(&other.version),
        SortTarget::Create => one.create_revision.cmp(&other.create_revision),
        SortTarget::Mod => one.mod_revision.cmp(&other.mod_revision),
        SortTarget::Value => order(&one.value, &other.value),
    }
}

/// Whether two lists are the same, but for the order of what the sort finds equal; etcd's sort is not stable.
///
/// A limit may cut among equals too; such a list is accepted if what it has instead sorts the same.
fn alike(get: &Get, expected: &[Pair], got: &[Pair]) -> bool {
    if expected
        .iter()
        .zip(got)
        .all(|(one, other)| shows(get, one, other))
    {
        return true;
    }
    if get.sort_target == SortTarget::Key {
        return false;
    }
    let mut keys: Vec<_> = got.iter().map(|pair| &pair.key).collect();
    keys.sort();
    keys.dedup();
    keys.len() == got.len()
        && expected.iter().zip(got).all(|(one, other)| {
            by(get.sort_target, one, other) == Ordering::Equal
                && (get.limit > 0 || expected.iter().any(|pair| shows(get, pair, other)))
        })
}

/// Whether a pair is shown as `got`. With `keys_only` a member may leave the lease out with the value.
fn shows(get: &Get, pair: &Pair, got: &Pair) -> bool {
    if !get.keys_only {
        return pair == got;
    }
    let bare = Pair {
        value: Value::default(),
        ..pair.clone()
    };
    bare == *got || Pair { lease: 0, ..bare } == *got
}
