//! What members held at the end.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Guarantee, Violation, case::Case, interval::Interval, model::State};
use crate::history::{Args, Final, History, Pair, Record, Reply};

/// All members are equal to each other and to the log; hashes of the same revision are equal whenever they were taken.
pub(super) fn check(case: &mut Case<'_>) {
    let ns = match case.history.records.last() {
        Some(Record::End(end)) => end.ns,
        _ => 0,
    };
    let mut found = Vec::new();
    for last in case.history.finals() {
        found.extend(held(case, last, ns));
    }
    found.extend(hashes(case.history, ns));
    case.violations.extend(found);
    let newest = case
        .history
        .finals()
        .map(|last| last.revision)
        .max()
        .unwrap_or(0);
    let watching = case
        .streams
        .iter()
        .any(|stream| stream.witness() && stream.live());
    if newest > case.log.last() && !watching {
        let last = case.log.last();
        case.defects.push(format!(
            "no witness watched from revision {last} to {newest}"
        ));
    }
}

fn held(case: &Case<'_>, last: &Final, ns: u64) -> Option<Violation> {
    let newest = case.log.last();
    let accuse =
        |guarantee, what| Some(Violation::new(guarantee, ns, what).revision(last.revision));
    let who = &last.endpoint;
    if last.revision < newest {
        let what = format!("{who} ended at revision {} of {newest}", last.revision);
        return accuse(Guarantee::K1, what);
    }
    if last.revision > newest {
        let what = format!(
            "{who} ended at revision {}, witnesses at {newest}",
            last.revision
        );
        return accuse(Guarantee::W4, what);
    }
    let all = Interval::new(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0"));
    let state = case.log.at(newest);
    let expected = state.range(&all);
    if expected.iter().copied().eq(&last.kvs) {
        return None;
    }
    let by_key = |pairs: Vec<&Pair>| -> BTreeMap<Bytes, Pair> {
        pairs
            .into_iter()
            .map(|pair| (pair.key.clone(), pair.clone()))
            .collect()
    };
    let (expected, got) = (by_key(expected), by_key(last.kvs.iter().collect()));
    let keys = expected.keys().chain(got.keys());
    let different = keys
        .filter(|key| expected.get(*key) != got.get(*key))
        .min()?;
    let what = format!(
        "{who} ended with {:?} instead of {:?}",
        got.get(different),
        expected.get(different)
    );
    accuse(Guarantee::H1, what)
}

/// Hashes that differ at the same revision and compaction.
fn hashes(history: &History, end_ns: u64) -> Vec<Violation> {
    let finals = history.finals().map(|last| {
        let at = (last.hash_revision, last.compact_revision);
        (end_ns, at, last.hash, last.endpoint.as_str())
    });
    let asked = history.operations().filter_map(|operation| {
        let (Args::Hashkv(_), Reply::Hashkv(hash)) = (&operation.args, &operation.answer()?.reply)
        else {
            return None;
        };
        let at = (hash.hash_revision, hash.compact_revision);
        let known = hash.hash_revision > 0;
        known.then_some((
            operation.return_ns?,
            at,
            hash.hash,
            operation.endpoint.as_str(),
        ))
    });
    let mut seen: BTreeMap<(i64, i64), (u32, &str)> = BTreeMap::new();
    let mut found = Vec::new();
    for (ns, at, hash, who) in asked.chain(finals) {
        let (first, whose) = *seen.entry(at).or_insert((hash, who));
        if first != hash {
            let what = format!(
                "hash {hash:08x} of {who} and {first:08x} of {whose}, compacted with {}",
                at.1
            );
            found.push(Violation::new(Guarantee::H1, ns, what).revision(at.0));
        }
    }
    found
}
