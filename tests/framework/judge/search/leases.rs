//! Each lease by itself: it is granted once, is there for a while, and then never again.

use std::collections::BTreeMap;

use catena_api::errors;

use super::order::{Call, Object};
use crate::history::{Args, History, Operation, Reply};

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    /// Not granted yet.
    Before,
    /// There.
    During,
    /// Ended, for good.
    After,
}

/// What an operation says of a lease.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// It begins.
    Grants,
    /// It is there.
    Meets,
    /// It is there, and ends.
    Ends,
    /// It is not there.
    Misses,
}

/// A lease.
pub(super) struct Lease {
    /// Whether a grant of unknown outcome may have begun it.
    maybe_granted: bool,
}

impl Object for Lease {
    type State = Life;
    type Op = Op;

    fn step(&self, state: &Life, op: &Op) -> Option<Life> {
        let begun = match state {
            Life::Before if self.maybe_granted => Life::During,
            state => *state,
        };
        match (begun, op) {
            (Life::Before, Op::Grants) => Some(Life::During),
            (Life::During, Op::Meets) => Some(Life::During),
            (Life::During, Op::Ends) => Some(Life::After),
            // Its time ran out before; whether that was too early is the other judge's question.
            (Life::During | Life::After, Op::Misses) => Some(match state {
                Life::Before => Life::Before,
                Life::During | Life::After => Life::After,
            }),
            (Life::Before, Op::Misses) => Some(Life::Before),
            (Life::During | Life::After, Op::Grants)
            | (Life::Before | Life::After, Op::Meets | Op::Ends) => None,
        }
    }

    fn neutral(&self, state: &Life, op: &Op) -> bool {
        matches!((state, op), (Life::During, Op::Meets))
    }
}

/// The calls on each lease.
pub(super) fn calls(history: &History) -> BTreeMap<i64, (Lease, Vec<Call<Op>>)> {
    let mut leases: BTreeMap<i64, (Lease, Vec<Call<Op>>)> = BTreeMap::new();
    for operation in history.operations() {
        if let (Args::LeaseGrant(grant), true) = (&operation.args, operation.unknown()) {
            of(&mut leases, grant.id).0.maybe_granted = true;
        }
        let Some(end) = operation.return_ns else {
            continue;
        };
        for (id, op) in says(operation) {
            of(&mut leases, id).1.push(Call {
                id: operation.id,
                call_ns: operation.call_ns,
                return_ns: end,
                op,
            });
        }
    }
    leases
}

fn of(leases: &mut BTreeMap<i64, (Lease, Vec<Call<Op>>)>, id: i64) -> &mut (Lease, Vec<Call<Op>>) {
    let new = || {
        let lease = Lease {
            maybe_granted: false,
        };
        (lease, Vec::new())
    };
    leases.entry(id).or_insert_with(new)
}

fn says(operation: &Operation) -> Vec<(i64, Op)> {
    let reply = operation.answer().map(|answer| &answer.reply);
    let failure = operation.failure().map(|failure| failure.text.as_str());
    let missing = failure == Some(errors::LEASE_NOT_FOUND.text);
    match (&operation.args, reply) {
        (Args::LeaseGrant(_), Some(Reply::LeaseGrant(granted))) => vec![(granted.id, Op::Grants)],
        (Args::LeaseRevoke(lease), Some(_)) => vec![(lease.id, Op::Ends)],
        (Args::LeaseRevoke(lease), None) if missing => vec![(lease.id, Op::Misses)],
        (Args::LeaseKeepalive(lease), Some(Reply::LeaseKeepalive { ttl })) => match ttl {
            1.. => vec![(lease.id, Op::Meets)],
            _ => vec![(lease.id, Op::Misses)],
        },
        (Args::Put(put), None) if missing => vec![(put.lease, Op::Misses)],
        (args, Some(reply)) => {
            let mut met = Vec::new();
            attached(args, reply, &mut met);
            met.into_iter().map(|lease| (lease, Op::Meets)).collect()
        }
        _ => Vec::new(),
    }
}

/// The leases to which an operation attached keys.
fn attached(args: &Args, reply: &Reply, met: &mut Vec<i64>) {
    match (args, reply) {
        (Args::Put(put), _) if put.lease != 0 => met.push(put.lease),
        (Args::Txn(txn), Reply::Txn(tried)) => {
            for (op, reply) in txn.branch(tried.succeeded).iter().zip(&tried.responses) {
                attached(op, reply, met);
            }
        }
        _ => {}
    }
    met.dedup();
}
