//! What everybody could know at a moment.

use super::streams::Stream;
use crate::history::{Args, Header, History, Operation};

/// The largest revision that anybody had seen, over time.
pub(super) struct Floor {
    /// (time, largest revision seen until then), both ascending.
    steps: Vec<(u64, i64)>,
}

impl Floor {
    /// From the answers of a history and what its watches were sent.
    ///
    /// The revision of an answer is a lower bound for every later call if the member confirmed it, or if it applied it: a committed
    /// revision is in every later leader's log. So serialisable reads and events count as well. Renewals and other calls whose
    /// header is read apart from their work count as what was seen, too.
    pub(super) fn new(history: &History, streams: &[Stream<'_>]) -> Self {
        let answers = history.operations().filter_map(|operation| {
            let revision = operation.answer()?.header.revision?;
            Some((operation.return_ns?, revision))
        });
        let events = streams.iter().flat_map(Stream::changes);
        let events = events.map(|(ns, change)| (ns, change.kv.mod_revision));
        let mut steps: Vec<_> = answers.chain(events).collect();
        steps.sort_unstable();
        let mut highest = 1;
        steps.retain_mut(|(_, revision)| {
            let rises = *revision > highest;
            highest = highest.max(*revision);
            rises
        });
        Self { steps }
    }

    /// The largest revision seen before a moment.
    pub(super) fn before(&self, ns: u64) -> i64 {
        let later = self.steps.partition_point(|(seen, _)| *seen < ns);
        self.steps[..later]
            .last()
            .map_or(1, |(_, revision)| *revision)
    }

    /// When a revision, or a later one, was first seen.
    pub(super) fn first_seen(&self, revision: i64) -> Option<u64> {
        let at = self.steps.partition_point(|(_, seen)| *seen < revision);
        self.steps.get(at).map(|(ns, _)| *ns)
    }
}

/// Whether the answer may come from an older state.
pub(super) fn serializable(args: &Args) -> bool {
    match args {
        Args::Get(get) => get.serializable,
        // One without any operation counts as serialisable too.
        Args::Txn(txn) => txn
            .ops()
            .all(|op| matches!(op, Args::Get(get) if get.serializable)),
        _ => false,
    }
}

/// The header's revision, of operations whose header tells the state in which they took effect.
pub(super) fn effect_revision(operation: &Operation) -> Option<i64> {
    let Header { revision, .. } = operation.answer()?.header;
    match operation.args {
        Args::Get(_)
        | Args::Put(_)
        | Args::Delete(_)
        | Args::Txn(_)
        | Args::Compact(_)
        | Args::LeaseGrant(_)
        | Args::LeaseRevoke(_) => revision,
        Args::LeaseKeepalive(_)
        | Args::LeaseTtl(_)
        | Args::Leases {}
        | Args::Hashkv(_)
        | Args::Other(_) => None,
    }
}
