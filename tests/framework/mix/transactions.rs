//! Transactions.

use bytes::Bytes;

use super::{Chance, Mix};
use crate::history::{Args, Compare, CompareResult, Get, Operand, Pair, Put, Txn, Value};

fn put(key: &Bytes, value: &Value) -> Args {
    Args::Put(Put {
        key: key.clone(),
        value: value.clone(),
        ..Put::default()
    })
}

fn get(key: &Bytes) -> Args {
    Args::Get(Get {
        key: key.clone(),
        ..Get::default()
    })
}

impl<C: Chance> Mix<C> {
    /// Several keys, written together; one of them is read before or after.
    pub(super) fn puts(&mut self, value: &Value) -> Args {
        let count = 2 + self.chance.below(3);
        let keys = self.keys(count);
        let mut success: Vec<_> = keys.iter().map(|key| put(key, value)).collect();
        let at = usize::try_from(self.chance.below(success.len() as u64 + 1)).unwrap_or(0);
        success.insert(at, get(&keys[0]));
        Args::Txn(Txn {
            success,
            ..Txn::default()
        })
    }

    /// A write that depends on what is there.
    pub(super) fn swap(&mut self, value: &Value) -> Args {
        let key = self.key();
        let compare = vec![self.compare(&key)];
        let marker = put(&self.marker(), value);
        let (success, failure) = match self.chance.below(10) {
            // Keeps the value; the token is in the marker.
            0 => {
                let keep = Args::Put(Put {
                    key: key.clone(),
                    ignore_value: true,
                    ..Put::default()
                });
                let there = Compare {
                    key: key.clone(),
                    range_end: Bytes::new(),
                    result: CompareResult::Greater,
                    operand: Operand::Version { version: 0 },
                };
                return Args::Txn(Txn {
                    compare: vec![there],
                    success: vec![keep, marker],
                    failure: vec![get(&key)],
                });
            }
            1 | 2 => (vec![get(&key), put(&key, value)], vec![marker, get(&key)]),
            _ => (vec![put(&key, value)], vec![get(&key)]),
        };
        Args::Txn(Txn {
            compare,
            success,
            failure,
        })
    }

    /// A transaction in a transaction; the inner compare sees the state before the outer put.
    pub(super) fn nested(&mut self, value: &Value) -> Args {
        let keys = self.keys(3);
        let last = keys.last().cloned().unwrap_or_default();
        let inner = Txn {
            compare: vec![self.compare(&keys[0])],
            success: vec![put(&last, value)],
            failure: vec![get(&keys[0]), put(&self.marker(), value)],
        };
        let outer = match last == keys[0] {
            // A settings with a single key: one key must not be put twice.
            true => Vec::new(),
            false => vec![put(&keys[0], value)],
        };
        let success: Vec<_> = outer
            .into_iter()
            .chain([Args::Txn(inner), get(&last)])
            .collect();
        let middle = self.key();
        Args::Txn(Txn {
            compare: vec![self.compare(&middle)],
            success,
            failure: vec![get(&middle), put(&self.marker(), value)],
        })
    }

    /// Attaches a key to a lease.
    pub(super) fn attach(&mut self, value: &Value, lease: i64) -> Args {
        let attached = |key| Put {
            key,
            value: value.clone(),
            lease,
            ..Put::default()
        };
        match self.one_in(3) {
            true => {
                let keys = self.keys(2);
                Args::Txn(Txn {
                    success: keys.into_iter().map(attached).map(Args::Put).collect(),
                    ..Txn::default()
                })
            }
            false => Args::Put(attached(self.key())),
        }
    }

    /// A compare that may or may not hold: with what was last seen, if anything was.
    fn compare(&mut self, key: &Bytes) -> Compare {
        let seen = self.known.pairs.get(key).cloned();
        let (result, operand) = self.condition(seen);
        Compare {
            key: key.clone(),
            range_end: Bytes::new(),
            result,
            operand,
        }
    }

    fn condition(&mut self, seen: Option<Pair>) -> (CompareResult, Operand) {
        let there = seen.clone().unwrap_or_default();
        let result = match self.chance.below(4) {
            0 => CompareResult::Less,
            1 => CompareResult::NotEqual,
            2 => CompareResult::Greater,
            _ => CompareResult::Equal,
        };
        match self.chance.below(6) {
            0 => {
                let version = i64::try_from(self.chance.below(6)).unwrap_or(0);
                (result, Operand::Version { version })
            }
            1 => (
                result,
                Operand::Create {
                    create_revision: there.create_revision,
                },
            ),
            2 => (CompareResult::Equal, Operand::Lease { lease: there.lease }),
            // Of a long value only the digest is known.
            3 if seen.is_some() && matches!(there.value, Value::Whole(_)) => {
                (CompareResult::Equal, Operand::Value { value: there.value })
            }
            _ => (
                CompareResult::Equal,
                Operand::Mod {
                    mod_revision: there.mod_revision,
                },
            ),
        }
    }
}
