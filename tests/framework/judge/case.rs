//! One history under judgement by revisions.

use std::collections::{BTreeMap, HashMap};

use super::{
    Violation,
    compactions::Compactions,
    floor::Floor,
    leases::Leases,
    log::{self, Log},
    streams::{self, Stream},
};
use crate::history::{Change, ChangeKind, History, Operation};

/// What the steps share.
pub(super) struct Case<'a> {
    pub(super) history: &'a History,
    pub(super) streams: Vec<Stream<'a>>,
    pub(super) log: Log,
    pub(super) floor: Floor,
    pub(super) compactions: Compactions,
    pub(super) leases: Leases,
    /// The revisions at which each token was written.
    pub(super) tokens: HashMap<Vec<u8>, Vec<i64>>,
    /// Who made each revision.
    pub(super) claimed: BTreeMap<i64, u64>,
    pub(super) violations: Vec<Violation>,
    pub(super) defects: Vec<String>,
}

impl<'a> Case<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        let streams = streams::streams(history);
        let mut faults = log::Faults::default();
        let log = Log::new(&streams, &mut faults);
        Self {
            history,
            floor: Floor::new(history, &streams),
            compactions: Compactions::new(history),
            leases: Leases::new(history),
            tokens: tokens(&log),
            claimed: BTreeMap::new(),
            violations: faults.violations,
            defects: faults.defects,
            streams,
            log,
        }
    }

    /// The revisions at which an operation's token was written.
    pub(super) fn written(&self, operation: &Operation) -> &[i64] {
        let token = operation.token.as_ref().map_or("", String::as_str);
        let found = self.tokens.get(token.as_bytes());
        found.map_or(&[], |revisions| &revisions[..])
    }
}

fn tokens(log: &Log) -> HashMap<Vec<u8>, Vec<i64>> {
    let mut tokens: HashMap<Vec<u8>, Vec<i64>> = HashMap::new();
    for (revision, entry) in log.entries(0, log.last()) {
        for token in entry.changes.iter().filter_map(token) {
            let revisions = tokens.entry(token.to_vec()).or_default();
            if revisions.last() != Some(&revision) {
                revisions.push(revision);
            }
        }
    }
    tokens
}

/// The token that a change writes.
pub(super) fn token(change: &Change) -> Option<&[u8]> {
    let token = change.kv.value.token();
    (change.kind == ChangeKind::Put && !token.is_empty()).then_some(token)
}
