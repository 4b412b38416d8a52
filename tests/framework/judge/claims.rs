//! Who made which revision.
//!
//! An acknowledged write claims the revision of its answer. A write of unknown outcome claims the revision at which its token is
//! found. Either way the revision must come after everything that was seen before the call, and hold exactly what the operation
//! does to the state before it.

use super::{
    Guarantee, Violation,
    case::{Case, token},
    floor::effect_revision,
    model::{self, Mismatch},
};
use crate::history::{Args, Change, ChangeKind, Operation, Outcome, Reply};

/// The acknowledged writes.
pub(super) fn acknowledged(case: &mut Case<'_>) {
    let history = case.history;
    for operation in history.operations() {
        let (Outcome::Ok(answer), Some(revision)) =
            (&operation.outcome, effect_revision(operation))
        else {
            continue;
        };
        if answer.reply.changed() {
            claim(case, operation, revision, &answer.reply);
        } else if let Args::LeaseRevoke(lease) = &operation.args {
            revoked(case, operation, revision, lease.id);
        }
    }
}

fn claim(case: &mut Case<'_>, operation: &Operation, revision: i64, reply: &Reply) {
    if let Some(mut violation) = fault(case, operation, revision, Some(reply)) {
        let lost = violation.guarantee == Guarantee::K1;
        violation.ns = operation.return_ns.unwrap_or(operation.call_ns);
        let violation = violation.op(operation.id).revision(revision);
        case.violations.push(violation);
        if lost {
            // What is there instead has another author.
            return;
        }
    }
    case.claimed.entry(revision).or_insert(operation.id);
}

/// What is wrong with an operation as the author of a revision.
fn fault(
    case: &Case<'_>,
    operation: &Operation,
    revision: i64,
    reply: Option<&Reply>,
) -> Option<Violation> {
    let accuse = |guarantee, what: String| Some(Violation::new(guarantee, operation.call_ns, what));
    let Some(entry) = case.log.entry(revision) else {
        return accuse(Guarantee::K1, "an acknowledged write is lost".to_owned());
    };
    let before = case.log.at(revision - 1);
    match model::run(&before, revision, &operation.args, reply) {
        Ok(changes) if changes.len() == entry.changes.len() && alike(&changes, &entry.changes) => {}
        Ok(changes) => {
            let (guarantee, what) = difference(&changes, &entry.changes);
            return accuse(guarantee, what);
        }
        Err(_) if lost(operation, &entry.changes) => {
            return accuse(
                Guarantee::K1,
                "an acknowledged write is lost: its revision holds something else".to_owned(),
            );
        }
        Err(Mismatch { guarantee, what }) => return accuse(guarantee, what),
    }
    if let Some(other) = case.claimed.get(&revision) {
        let what = format!("operation {other} made the same revision");
        return accuse(Guarantee::K2, what);
    }
    let floor = case.floor.before(operation.call_ns);
    if revision <= floor {
        let what = format!("took effect before it was called: revision {floor} had been seen");
        return accuse(Guarantee::K2, what);
    }
    None
}

fn alike(one: &[Change], other: &[Change]) -> bool {
    one.iter()
        .zip(other)
        .all(|(one, other)| one.kind == other.kind && one.kv == other.kv)
}

/// Whether a revision shows nothing of an operation that left a token.
fn lost(operation: &Operation, changes: &[Change]) -> bool {
    operation.token.as_ref().is_some_and(|own| {
        !changes
            .iter()
            .any(|change| token(change) == Some(own.as_bytes()))
    })
}

/// What a difference between what an operation does and what a revision holds breaks.
fn difference(expected: &[Change], got: &[Change]) -> (Guarantee, String) {
    let among = |change: &Change, list: &[Change]| {
        list.iter()
            .any(|other| other.kind == change.kind && other.kv == change.kv)
    };
    let known = got.iter().all(|change| among(change, expected));
    let complete = expected.iter().all(|change| among(change, got));
    let tokens = |list: &[Change]| {
        list.iter()
            .filter_map(token)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (own, there) = (tokens(expected), tokens(got));
    let guarantee = match (known, complete) {
        (true, true) => Guarantee::K4,
        (true, false) => Guarantee::K3,
        _ if !own.is_empty() && !own.iter().any(|token| there.contains(token)) => Guarantee::K1,
        _ if counts_only(expected, got) => Guarantee::K5,
        _ => Guarantee::K2,
    };
    let show = |list: &[Change]| super::log::describe(&list.iter().collect::<Vec<_>>());
    let what = match guarantee {
        Guarantee::K1 => format!(
            "an acknowledged write is lost: there is {} instead",
            show(got)
        ),
        Guarantee::K5 => format!("counts differ: {got:?} instead of {expected:?}"),
        _ => format!(
            "the revision holds {} instead of {}",
            show(got),
            show(expected)
        ),
    };
    (guarantee, what)
}

/// Whether only revisions and versions differ.
fn counts_only(expected: &[Change], got: &[Change]) -> bool {
    expected.len() == got.len()
        && expected.iter().zip(got).all(|(one, other)| {
            one.kind == other.kind
                && one.kv.key == other.kv.key
                && (one.kind == ChangeKind::Delete
                    || (one.kv.value == other.kv.value && one.kv.lease == other.kv.lease))
        })
}

/// A revocation does not say whether there were keys: its revision shows it.
fn revoked(case: &mut Case<'_>, operation: &Operation, revision: i64, lease: i64) {
    let ns = operation.return_ns.unwrap_or(operation.call_ns);
    let floor = case.floor.before(operation.call_ns);
    let deleted = case.log.at(revision - 1).revoked(lease);
    let makes = case.log.entry(revision).is_some_and(|entry| {
        !deleted.is_empty()
            && deleted.len() == entry.changes.len()
            && alike(&deleted, &entry.changes)
    });
    if makes && revision > floor && !case.claimed.contains_key(&revision) {
        case.claimed.insert(revision, operation.id);
        case.leases.gone(lease, revision, ns);
        return;
    }
    let left = case.log.at(revision).revoked(lease).len();
    let found = if revision > case.log.last() {
        Some((
            Guarantee::K1,
            "an acknowledged revocation is lost".to_owned(),
        ))
    } else if revision < floor {
        let what = format!("answered from a state before revision {floor}, which had been seen");
        Some((Guarantee::K2, what))
    } else if left > 0 {
        let what = format!("lease {lease:x} was revoked and {left} of its keys are still there");
        Some((Guarantee::L2, what))
    } else {
        None
    };
    if let Some((guarantee, what)) = found {
        let violation = Violation::new(guarantee, ns, what);
        case.violations
            .push(violation.op(operation.id).revision(revision));
    }
    case.leases.gone(lease, revision, ns);
}

/// The writes of unknown outcome that left their token.
pub(super) fn unknown(case: &mut Case<'_>) {
    let history = case.history;
    for operation in history.operations().filter(|operation| operation.unknown()) {
        let free = case.written(operation).iter().copied();
        let free: Vec<_> = free
            .filter(|revision| !case.claimed.contains_key(revision))
            .collect();
        let mut faults = Vec::new();
        let mut fits = Vec::new();
        for revision in free {
            match fault(case, operation, revision, None) {
                None => fits.push(revision),
                Some(violation) => faults.push((revision, violation)),
            }
        }
        for revision in &fits {
            case.claimed.insert(*revision, operation.id);
        }
        let found = match (&fits[..], faults.into_iter().next()) {
            ([_, second, ..], _) => {
                let what = "a write of unknown outcome took effect twice";
                let violation = Violation::new(Guarantee::K8, seen(case, *second), what);
                Some(violation.revision(fits[0]).revision(*second))
            }
            ([], Some((revision, violation))) if !elsewhere(case, operation, revision) => {
                case.claimed.insert(revision, operation.id);
                Some(violation.revision(revision))
            }
            _ => None,
        };
        case.violations
            .extend(found.map(|violation| violation.op(operation.id)));
    }
}

/// Whether a revision that does not fit has another author: a write that keeps a value writes the token of an older one again.
fn elsewhere(case: &Case<'_>, operation: &Operation, revision: i64) -> bool {
    let own = operation.token.as_ref().map(|token| token.as_bytes());
    case.log.entry(revision).is_some_and(|entry| {
        entry
            .changes
            .iter()
            .filter_map(token)
            .any(|token| Some(token) != own)
    })
}

fn seen(case: &Case<'_>, revision: i64) -> u64 {
    case.log.entry(revision).map_or(0, |entry| entry.seen_ns)
}
