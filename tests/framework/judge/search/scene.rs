//! What is searched: the calls of a history, those of unknown outcome with what is known of them.
//!
//! A search cannot bear operations that may or may not have happened, at any time: each doubles the work. So what was *seen* of them
//! is used. A write of unknown outcome took effect if its token was ever sent to a witness, and before it was sent; if not, it is
//! left out. Keys that went away without an answered operation (the end of a lease, a bare delete of unknown outcome) went before
//! that was sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::super::{
    case::token,
    floor::{effect_revision, serializable},
    log::Log,
    model::State,
};
use crate::history::{Answer, Args, Change, ChangeKind, History, Operation};

/// What took effect.
pub(super) enum Done<'a> {
    /// An answered operation, with the revision of its answer.
    Answered {
        args: &'a Args,
        answer: &'a Answer,
        revision: i64,
    },
    /// A write whose answer nobody saw.
    Seen {
        args: &'a Args,
        changes: &'a [Change],
        revision: i64,
    },
    /// Keys that went away.
    Gone {
        changes: &'a [Change],
        revision: i64,
    },
}

/// Something that took effect between two moments.
pub(super) struct Effect<'a> {
    pub(super) id: u64,
    pub(super) call_ns: u64,
    pub(super) return_ns: u64,
    pub(super) done: Done<'a>,
}

/// Everything that acts on pairs.
pub(super) fn effects<'a>(history: &'a History, log: &'a Log) -> Vec<Effect<'a>> {
    let mut effects = Vec::new();
    let mut authors: BTreeSet<i64> = BTreeSet::new();
    for operation in history.operations() {
        let Some((answer, revision)) = operation.answer().zip(effect_revision(operation)) else {
            continue;
        };
        if let Some(end) = operation.return_ns.filter(|_| acts(operation)) {
            if answer.reply.changed() {
                authors.insert(revision);
            }
            effects.push(Effect {
                id: operation.id,
                call_ns: operation.call_ns,
                return_ns: end,
                done: Done::Answered {
                    args: &operation.args,
                    answer,
                    revision,
                },
            });
        }
    }
    let unknown: HashMap<&[u8], &Operation> = history
        .operations()
        .filter(|operation| operation.unknown())
        .filter_map(|operation| Some((operation.token.as_ref()?.as_bytes(), operation)))
        .collect();
    let free = log
        .entries(0, log.last())
        .filter(|(revision, _)| !authors.contains(revision));
    for (revision, entry) in free {
        let before = log.at(revision - 1);
        // A put that keeps the value shows the token of an older write.
        let kept = |change: &&Change| {
            before
                .get(&change.kv.key)
                .is_some_and(|pair| pair.value == change.kv.value)
        };
        let fresh = entry.changes.iter().filter(|change| !kept(change));
        let author = fresh.filter_map(token).find_map(|token| unknown.get(token));
        let changes = &entry.changes[..];
        let gone = changes
            .iter()
            .all(|change| change.kind == ChangeKind::Delete);
        let (id, call_ns, done) = match author {
            Some(operation) => {
                let args = &operation.args;
                let done = Done::Seen {
                    args,
                    changes,
                    revision,
                };
                (operation.id, operation.call_ns, done)
            }
            None if gone => (0, 0, Done::Gone { changes, revision }),
            // Nobody wrote it, so nobody may see it.
            None => continue,
        };
        effects.push(Effect {
            id,
            call_ns,
            return_ns: entry.seen_ns,
            done,
        });
    }
    effects
}

/// Whether an answered operation takes part: one on present pairs, at one instant.
fn acts(operation: &Operation) -> bool {
    match &operation.args {
        Args::Get(get) => !get.serializable && get.revision <= 0,
        Args::Txn(_) => !serializable(&operation.args),
        Args::Put(_) | Args::Delete(_) => true,
        // What a revocation deletes is seen.
        _ => false,
    }
}

/// Every key of the history.
pub(super) fn keys(history: &History, log: &Log) -> BTreeMap<Bytes, usize> {
    let mut keys = BTreeSet::new();
    for (_, entry) in log.entries(0, log.last()) {
        keys.extend(entry.changes.iter().map(|change| change.kv.key.clone()));
    }
    for operation in history.operations() {
        name(&operation.args, &mut keys);
    }
    keys.into_iter().zip(0..).collect()
}

fn name(args: &Args, keys: &mut BTreeSet<Bytes>) {
    match args {
        Args::Get(get) if get.range_end.is_empty() => {
            keys.insert(get.key.clone());
        }
        Args::Put(put) => {
            keys.insert(put.key.clone());
        }
        Args::Txn(txn) => txn.ops().for_each(|op| name(op, keys)),
        _ => {}
    }
}
