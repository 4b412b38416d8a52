//! All keys at once, with the revision as part of the state.
//!
//! This finds what no key shows by itself: transactions that are not atomic, ranges that mix two states. Revisions make it quick:
//! at each moment only the operation that makes the next one fits.

use bytes::Bytes;
use imbl::OrdMap;

use super::{
    super::{
        interval::Interval,
        model::{self, Past, State},
    },
    order::{Call, Object},
    scene::{Done, Effect},
};
use crate::history::{Args, Change, ChangeKind, Pair, Reply};

/// What was done to the whole.
pub(super) struct Op<'a> {
    revision: i64,
    changes: bool,
    action: Action<'a>,
}

enum Action<'a> {
    Runs(&'a Args, Option<&'a Reply>),
    Loses(&'a [Change]),
}

/// All pairs, at a revision.
#[derive(Clone)]
pub(super) struct Pairs {
    revision: i64,
    pairs: OrdMap<Bytes, Pair>,
}

impl std::hash::Hash for Pairs {
    /// The same calls in any order lead to the same pairs if they lead to the same revision, since each revision is made by one.
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.revision.hash(hasher);
    }
}

impl Pairs {
    /// An empty store.
    pub(super) fn empty() -> Self {
        Self {
            revision: 1,
            pairs: OrdMap::new(),
        }
    }
}

impl State for Pairs {
    fn get(&self, key: &[u8]) -> Option<&Pair> {
        self.pairs.get(key)
    }

    fn range(&self, interval: &Interval) -> Vec<&Pair> {
        self.pairs
            .range::<_, [u8]>(interval.bounds())
            .map(|(_, pair)| pair)
            .collect()
    }

    fn past(&self, _: &Interval, revision: i64) -> Past<'_> {
        match revision <= self.revision {
            true => Past::Untracked,
            false => Past::Future,
        }
    }
}

/// The whole store.
pub(super) struct Whole<'a>(pub(super) std::marker::PhantomData<&'a ()>);

impl<'a> Object for Whole<'a> {
    type State = Pairs;
    type Op = Op<'a>;

    fn step(&self, state: &Pairs, op: &Op<'a>) -> Option<Pairs> {
        let fits = match op.changes {
            true => op.revision == state.revision + 1,
            false => op.revision == state.revision,
        };
        if !fits {
            return None;
        }
        let ran;
        let changes = match &op.action {
            Action::Runs(args, reply) => {
                ran = model::run(state, state.revision + 1, args, *reply).ok()?;
                &ran[..]
            }
            Action::Loses(changes) => {
                let there = |change: &Change| state.pairs.contains_key(&change.kv.key);
                changes.iter().all(there).then_some(*changes)?
            }
        };
        if changes.is_empty() == op.changes {
            return None;
        }
        let mut after = state.clone();
        after.revision = op.revision;
        for change in changes {
            match change.kind {
                ChangeKind::Put => after.pairs.insert(change.kv.key.clone(), change.kv.clone()),
                ChangeKind::Delete => after.pairs.remove(&change.kv.key),
            };
        }
        Some(after)
    }

    fn neutral(&self, state: &Pairs, op: &Op<'a>) -> bool {
        !op.changes && self.step(state, op).is_some()
    }
}

/// The calls on the whole.
pub(super) fn calls<'a>(effects: &[Effect<'a>]) -> Vec<Call<Op<'a>>> {
    let call = |effect: &Effect<'a>| Call {
        id: effect.id,
        call_ns: effect.call_ns,
        return_ns: effect.return_ns,
        op: match effect.done {
            Done::Answered {
                args,
                answer,
                revision,
            } => Op {
                revision,
                changes: answer.reply.changed(),
                action: Action::Runs(args, Some(&answer.reply)),
            },
            Done::Seen { args, revision, .. } => Op {
                revision,
                changes: true,
                action: Action::Runs(args, None),
            },
            Done::Gone { changes, revision } => Op {
                revision,
                changes: true,
                action: Action::Loses(changes),
            },
        },
    };
    effects.iter().map(call).collect()
}
