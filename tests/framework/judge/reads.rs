//! What reads and operations that changed nothing show, and what errors claim.

use std::collections::{BTreeMap, HashMap};

use catena_api::errors;

use super::{
    Guarantee, Violation,
    case::Case,
    floor::{effect_revision, serializable},
    model::{self, Mismatch},
};
use crate::history::{Answer, Args, Compact, History, Operation, ProcEvent};

/// Judges every operation that changed nothing.
pub(super) fn check(case: &mut Case<'_>) {
    let mut found = Vec::new();
    for operation in case.history.operations() {
        let ns = operation.return_ns.unwrap_or(operation.call_ns);
        let accuse = |(guarantee, what): (Guarantee, String)| {
            Violation::new(guarantee, ns, what).op(operation.id)
        };
        if let (Some(answer), Some(revision)) = (operation.answer(), effect_revision(operation)) {
            found.extend(compacted(case, operation, revision).map(accuse));
            if !answer.reply.changed() && !matches!(operation.args, Args::LeaseRevoke(_)) {
                let what = content(case, operation, answer, revision);
                found.extend(what.map(|what| accuse(what).revision(revision)));
            }
        }
        found.extend(error(case, operation).map(accuse));
    }
    found.extend(backwards(case.history));
    case.violations.extend(found);
}

/// An answer that does not show the state at its revision, or shows too old a one.
fn content(
    case: &Case<'_>,
    operation: &Operation,
    answer: &Answer,
    revision: i64,
) -> Option<(Guarantee, String)> {
    if revision > case.log.last() {
        let what = format!("shows revision {revision}, which is nowhere");
        return Some((Guarantee::K1, what));
    }
    let floor = case.floor.before(operation.call_ns);
    if revision < floor && !serializable(&operation.args) {
        let what = format!("answered from revision {revision} when {floor} had been seen");
        return Some((Guarantee::K2, what));
    }
    match &operation.args {
        Args::Get(_) | Args::Put(_) | Args::Delete(_) | Args::Txn(_) => {}
        _ => return None,
    }
    let state = case.log.at(revision);
    match model::run(&state, revision + 1, &operation.args, Some(&answer.reply)) {
        Err(Mismatch { guarantee, what }) => Some((guarantee, what)),
        Ok(changes) if !changes.is_empty() => {
            Some((Guarantee::K2, "should have changed something".to_owned()))
        }
        Ok(_) => None,
    }
}

/// Data from below a compaction that was over before the call.
fn compacted(case: &Case<'_>, operation: &Operation, revision: i64) -> Option<(Guarantee, String)> {
    let certain = case.compactions.certain(operation.call_ns);
    match operation.args {
        Args::Compact(Compact {
            revision: asked, ..
        }) if asked > revision => {
            let what = format!("compacted {asked}, which is in the future of {revision}");
            Some((Guarantee::K7, what))
        }
        Args::Compact(Compact {
            revision: asked, ..
        }) if asked > 0 && asked <= certain => {
            let what = format!("compacted {asked} again, below {certain}");
            Some((Guarantee::K7, what))
        }
        // A member that lags behind may not know of the compaction.
        ref args if serializable(args) => None,
        ref args => asked_revisions(args, operation.answer())
            .into_iter()
            .find(|asked| *asked < certain)
            .map(|asked| {
                let what = format!("read at {asked}, which was compacted with {certain}");
                (Guarantee::K7, what)
            }),
    }
}

/// The revisions that an operation reads; of a transaction only those of the side that was taken, if there is an answer.
fn asked_revisions(args: &Args, answer: Option<&Answer>) -> Vec<i64> {
    match (args, answer.map(|answer| &answer.reply)) {
        (Args::Get(get), _) if get.revision > 0 => vec![get.revision],
        (Args::Txn(txn), Some(crate::history::Reply::Txn(tried))) => {
            let branch = txn.branch(tried.succeeded).iter();
            branch.flat_map(|op| asked_revisions(op, None)).collect()
        }
        (Args::Txn(txn), _) => txn.ops().flat_map(|op| asked_revisions(op, None)).collect(),
        _ => Vec::new(),
    }
}

/// An error that is not true.
fn error(case: &Case<'_>, operation: &Operation) -> Option<(Guarantee, String)> {
    let failure = operation.failure()?;
    let compaction = matches!(operation.args, Args::Compact(_));
    let asked = match &operation.args {
        Args::Compact(compact) => vec![compact.revision],
        args => asked_revisions(args, None),
    };
    let (lowest, highest) = (asked.iter().min()?, asked.iter().max()?);
    if failure.text == errors::COMPACTED.text {
        let end = operation.return_ns?;
        let possible = case.compactions.possible_without(end, Some(operation.id));
        let holds = *lowest < possible || (compaction && *lowest <= possible);
        return (!holds).then(|| {
            let what = format!("{lowest} is said to be compacted, at most {possible} can be");
            (Guarantee::K7, what)
        });
    }
    if failure.text == errors::FUTURE_REVISION.text && !serializable(&operation.args) {
        let floor = case.floor.before(operation.call_ns);
        return (*highest <= floor).then(|| {
            let what = format!("{highest} is said to be in the future, {floor} had been seen");
            (Guarantee::K7, what)
        });
    }
    None
}

/// Serialisable reads that show less than the same process had shown before.
fn backwards(history: &History) -> Vec<Violation> {
    let starts = starts(history);
    let mut by_member: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations() {
        let member = operation.answer().and_then(|answer| answer.header.member);
        if let Some(member) = member {
            by_member.entry(member).or_default().push(operation);
        }
    }
    let mut found = Vec::new();
    for (member, operations) in by_member {
        if let Some(starts) = starts.get(&member) {
            found.extend(backwards_of(starts, operations));
        }
    }
    found
}

/// When each member's processes began; only members of which something is known.
fn starts(history: &History) -> HashMap<u64, Vec<u64>> {
    let members = history.meta().map_or(&[][..], |meta| &meta.members);
    let mut starts: HashMap<u64, Vec<u64>> = members
        .iter()
        .map(|member| (member.id, Vec::new()))
        .collect();
    for process in history
        .processes()
        .filter(|process| process.event == ProcEvent::Start)
    {
        let named = members.iter().find(|member| member.name == process.name);
        if let Some(member) = process.member.or(named.map(|member| member.id)) {
            starts.entry(member).or_default().push(process.ns);
        }
    }
    starts
        .values_mut()
        .for_each(|starts| starts.sort_unstable());
    starts
}

fn backwards_of(starts: &[u64], mut operations: Vec<&Operation>) -> Vec<Violation> {
    // Which process answered; `None` if it may have been either of two.
    let process = |operation: &Operation| {
        let begun = |ns: u64| starts.partition_point(|start| *start <= ns);
        let (one, other) = (begun(operation.call_ns), begun(operation.return_ns?));
        (one == other).then_some(one)
    };
    let revision =
        |operation: &Operation| operation.answer().and_then(|answer| answer.header.revision);
    let mut answered = operations.clone();
    answered.sort_by_key(|operation| operation.return_ns);
    operations.sort_by_key(|operation| operation.call_ns);
    let mut answered = answered.into_iter().peekable();
    let mut highest: HashMap<usize, (i64, u64)> = HashMap::new();
    let mut found = Vec::new();
    for operation in operations {
        let earlier = |other: &&Operation| other.return_ns < Some(operation.call_ns);
        while let Some(other) = answered.next_if(earlier) {
            if let (Some(process), Some(revision)) = (process(other), revision(other)) {
                let highest = highest.entry(process).or_default();
                *highest = (*highest).max((revision, other.id));
            }
        }
        if serializable(&operation.args)
            && let (Some(process), Some(revision)) = (process(operation), revision(operation))
            && let Some((highest, id)) = highest
                .get(&process)
                .filter(|(highest, _)| *highest > revision)
        {
            let what = format!("shows revision {revision}, the same process had shown {highest}");
            let violation = Violation::new(Guarantee::K6, operation.call_ns, what);
            found.push(violation.op(*id).op(operation.id));
        }
    }
    found
}
