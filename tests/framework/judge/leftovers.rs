//! Revisions that no token explains.
//!
//! Each needs the end of a lease, or one operation of unknown outcome that leaves no token: a bare delete, a revocation. An
//! operation explains one revision at most, so this is a matching; operations without a token are rare, and it is small.

use super::{
    Guarantee, Violation,
    case::{Case, token},
    log::Entry,
    model,
};
use crate::history::{Args, Change, ChangeKind, LeaseId, Operation};

/// Finds an author for every revision that has none, or an offence.
pub(super) fn explain(case: &mut Case<'_>) {
    let history = case.history;
    let silent: Vec<_> = history
        .operations()
        .filter(|operation| operation.unknown() && silent(operation))
        .collect();
    let free = |case: &Case<'_>| -> Vec<i64> {
        let entries = case.log.entries(0, case.log.last());
        entries
            .map(|(revision, _)| revision)
            .filter(|revision| !case.claimed.contains_key(revision))
            .collect()
    };
    let mut open = Vec::new();
    for revision in free(case) {
        match expired(case, revision) {
            Some((lease, known_ns, None)) => case.leases.gone(lease, revision, known_ns),
            Some((_, _, Some(_))) | None => open.push(revision),
        }
    }
    let eligible: Vec<Vec<usize>> = open
        .iter()
        .map(|revision| {
            let fits = |at: &usize| explains(case, silent[*at], *revision);
            (0..silent.len()).filter(fits).collect()
        })
        .collect();
    let authors = matching(&eligible, silent.len());
    for (revision, author) in open.into_iter().zip(authors) {
        match author {
            Some(at) => {
                case.claimed.insert(revision, silent[at].id);
                if let Args::LeaseRevoke(LeaseId { id }) = silent[at].args {
                    let ns = case.log.entry(revision).map_or(0, |entry| entry.seen_ns);
                    case.leases.gone(id, revision, ns);
                }
            }
            None => {
                let violation = offence(case, revision);
                case.violations.push(violation);
            }
        }
    }
}

/// Whether an operation may change something and leave no token.
fn silent(operation: &Operation) -> bool {
    operation.args.can_write() && (operation.token.is_none() || unmarked(&operation.args))
}

fn unmarked(args: &Args) -> bool {
    match args {
        Args::Txn(txn) => [&txn.success, &txn.failure].into_iter().any(|branch| {
            branch.iter().any(unmarked)
                || (branch.iter().any(Args::can_write)
                    && !branch
                        .iter()
                        .any(|op| matches!(op, Args::Put(put) if !put.ignore_value)))
        }),
        Args::Put(put) => put.ignore_value,
        Args::Delete(_) | Args::LeaseRevoke(_) => true,
        _ => false,
    }
}

/// Whether an operation explains a revision.
fn explains(case: &Case<'_>, operation: &Operation, revision: i64) -> bool {
    let Some(entry) = case.log.entry(revision) else {
        return false;
    };
    let before = case.log.at(revision - 1);
    let changes = match &operation.args {
        Args::LeaseRevoke(LeaseId { id }) => before.revoked(*id),
        args => match model::run(&before, revision, args, None) {
            Ok(changes) => changes,
            Err(_) => return false,
        },
    };
    equal(&changes, entry) && revision > case.floor.before(operation.call_ns)
}

fn equal(changes: &[Change], entry: &Entry) -> bool {
    changes.len() == entry.changes.len()
        && changes
            .iter()
            .zip(&entry.changes)
            .all(|(one, other)| one.kind == other.kind && one.kv == other.kv)
}

/// The lease whose end a revision is, when that was known, and the renewal that forbids it.
fn expired(case: &Case<'_>, revision: i64) -> Option<(i64, u64, Option<u64>)> {
    let entry = case.log.entry(revision)?;
    let lease = lease_of(case, entry, revision)?;
    if !equal(&case.log.at(revision - 1).revoked(lease), entry) {
        return None;
    }
    let known_ns = case.floor.first_seen(revision).unwrap_or(entry.seen_ns);
    let known_ns = known_ns.min(entry.seen_ns);
    Some((lease, known_ns, case.leases.early(lease, known_ns)))
}

/// The lease of all keys that a revision deletes.
fn lease_of(case: &Case<'_>, entry: &Entry, revision: i64) -> Option<i64> {
    let before = case.log.at(revision - 1);
    let mut leases = entry.changes.iter().map(|change| match change.kind {
        ChangeKind::Delete => model::State::get(&before, &change.kv.key).map(|pair| pair.lease),
        ChangeKind::Put => None,
    });
    let first = leases.next()??;
    (first != 0 && leases.all(|lease| lease == Some(first))).then_some(first)
}

/// For each revision an operation that explains it, as many as possible.
fn matching(eligible: &[Vec<usize>], operations: usize) -> Vec<Option<usize>> {
    let mut taken: Vec<Option<usize>> = vec![None; operations];
    for revision in 0..eligible.len() {
        let mut tried = vec![false; operations];
        augment(revision, eligible, &mut taken, &mut tried);
    }
    let mut authors = vec![None; eligible.len()];
    for (operation, revision) in taken.into_iter().enumerate() {
        if let Some(revision) = revision {
            authors[revision] = Some(operation);
        }
    }
    authors
}

fn augment(
    revision: usize,
    eligible: &[Vec<usize>],
    taken: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for &operation in &eligible[revision] {
        if std::mem::replace(&mut tried[operation], true) {
            continue;
        }
        let free = match taken[operation] {
            None => true,
            Some(other) => augment(other, eligible, taken, tried),
        };
        if free {
            taken[operation] = Some(revision);
            return true;
        }
    }
    false
}

/// What a revision without an author breaks.
fn offence(case: &Case<'_>, revision: i64) -> Violation {
    let entry = case
        .log
        .entry(revision)
        .expect("only revisions that were seen are open");
    let show = super::log::describe(&entry.changes.iter().collect::<Vec<_>>());
    let accuse = |guarantee, what: String| {
        Violation::new(guarantee, entry.seen_ns, format!("{what}: {show}")).revision(revision)
    };
    if let Some((lease, _, Some(renewed_ns))) = expired(case, revision) {
        let what = format!("lease {lease:x} ended too early, it was renewed at {renewed_ns} ns");
        return accuse(Guarantee::L1, what);
    }
    if let Some(lease) = lease_of(case, entry, revision) {
        let all = case.log.at(revision - 1).revoked(lease).len();
        if all > entry.changes.len() {
            let what = format!("only some of the {all} keys of lease {lease:x} went with it");
            return accuse(Guarantee::L2, what);
        }
    }
    match author_of_token(case, entry) {
        Some(operation) if operation.failure().is_some() => {
            accuse(Guarantee::K9, "what was refused took effect".to_owned()).op(operation.id)
        }
        Some(operation) if case.claimed.values().any(|id| *id == operation.id) => {
            accuse(Guarantee::K8, "a write took effect twice".to_owned()).op(operation.id)
        }
        Some(operation) => accuse(
            Guarantee::K2,
            "a write took effect that says it did not".to_owned(),
        )
        .op(operation.id),
        None => accuse(Guarantee::K2, "nobody wrote this".to_owned()),
    }
}

fn author_of_token<'a>(case: &Case<'a>, entry: &Entry) -> Option<&'a Operation> {
    let tokens: Vec<_> = entry.changes.iter().filter_map(token).collect();
    let history = case.history;
    history.operations().find(|operation| {
        let own = operation.token.as_ref().map(|token| token.as_bytes());
        own.is_some_and(|own| tokens.contains(&own))
    })
}
