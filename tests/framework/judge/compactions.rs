//! What may have been compacted, and what must have been, at a moment.

use crate::history::{Args, History, Outcome};

/// The compactions of a run.
pub(super) struct Compactions {
    /// (call, revision, id of the operation) of those that may have been done.
    asked: Vec<(u64, i64, u64)>,
    /// (return, largest revision until then) of those that were.
    done: Vec<(u64, i64)>,
    /// Whether the members compact by themselves.
    automatic: bool,
}

/// The setting in [`Meta::settings`](crate::history::Meta::settings) that says that members compact by themselves.
const AUTOMATIC: &str = "auto_compaction";

impl Compactions {
    pub(super) fn new(history: &History) -> Self {
        let mut asked = Vec::new();
        let mut done = Vec::new();
        for operation in history.operations() {
            let Args::Compact(compact) = &operation.args else {
                continue;
            };
            match (&operation.outcome, operation.return_ns) {
                (Outcome::Fail(_), _) => continue,
                (Outcome::Ok(_), Some(end)) => done.push((end, compact.revision)),
                (Outcome::Ok(_) | Outcome::Unknown(_), _) => {}
            }
            asked.push((operation.call_ns, compact.revision, operation.id));
        }
        done.sort_unstable();
        let mut highest = 0;
        for (_, revision) in &mut done {
            highest = highest.max(*revision);
            *revision = highest;
        }
        let settings = history.meta().map(|meta| &meta.settings);
        Self {
            asked,
            done,
            automatic: settings
                .is_some_and(|settings| settings.get(AUTOMATIC) == Some(&true.into())),
        }
    }

    /// The largest revision that may be compacted at a moment.
    pub(super) fn possible(&self, ns: u64) -> i64 {
        self.possible_without(ns, None)
    }

    /// The same, as if an operation were not there.
    pub(super) fn possible_without(&self, ns: u64, id: Option<u64>) -> i64 {
        if self.automatic {
            return i64::MAX;
        }
        let before = self
            .asked
            .iter()
            .filter(|(call, _, other)| *call < ns && Some(*other) != id);
        before.map(|(_, revision, _)| *revision).max().unwrap_or(0)
    }

    /// The largest revision that is compacted for certain at a moment.
    pub(super) fn certain(&self, ns: u64) -> i64 {
        let later = self.done.partition_point(|(end, _)| *end < ns);
        self.done[..later]
            .last()
            .map_or(0, |(_, revision)| *revision)
    }
}
