//! What a judge says.

use std::{collections::BTreeMap, fmt};

use crate::history::{History, Phase};

/// The guarantees of the store's contract with its users that a history can show to be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarantee {
    /// Durable: what was acknowledged is there.
    K1,
    /// Strictly serialisable: each operation takes effect at one instant between call and return.
    K2,
    /// Atomic: completely or not at all.
    K3,
    /// Order in a transaction: compares see the state before, operations the ones before them.
    K4,
    /// Revisions, versions and create revisions count right.
    K5,
    /// Serialisable reads show one whole state, and those of one process never an older one.
    K6,
    /// Reads of the past show the past.
    K7,
    /// Nothing is applied twice.
    K8,
    /// What was refused never takes effect.
    K9,
    /// Watches: events are in order.
    W1,
    /// Watches: no event comes twice.
    W2,
    /// Watches: one revision, one response.
    W3,
    /// Watches: nothing is missing, nothing is invented.
    W4,
    /// Watches: they resume without a gap, or are told of the compaction.
    W5,
    /// Watches: nothing at or below a bookmark comes after it.
    W6,
    /// Watches: events hold what they should.
    W7,
    /// Watches: events come soon.
    W8,
    /// Watches: nothing comes from before the start.
    W9,
    /// Leases: never early.
    L1,
    /// Leases: not late, and all keys at once.
    L2,
    /// Leases: gone is gone.
    L3,
    /// Members are equal.
    H1,
}

/// Something that a store may not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it breaks.
    pub guarantee: Guarantee,
    /// What happened.
    pub what: String,
    /// Ids of the operations concerned.
    pub ops: Vec<u64>,
    /// The revisions concerned.
    pub revisions: Vec<i64>,
    /// When, as far as it is known.
    pub ns: u64,
    /// The faults that were under way then.
    pub faults: Vec<String>,
}

/// What a judge says about a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many operations were judged.
    pub ops: usize,
    /// How many watch events were judged.
    pub events: usize,
    /// How many revisions the history shows.
    pub revisions: usize,
    /// How long the events of each response were owed to their watch, in ascending order, where that was judged.
    pub delays_ns: Vec<u64>,
    /// What the store may not do.
    pub violations: Vec<Violation>,
    /// Why the history cannot be judged; a run with such a history proves nothing.
    pub defects: Vec<String>,
    /// What the judge could not decide; not passed, but no accusation either.
    pub undecided: Vec<String>,
}

impl Violation {
    pub(super) fn new(guarantee: Guarantee, ns: u64, what: impl Into<String>) -> Self {
        Self {
            guarantee,
            what: what.into(),
            ops: Vec::new(),
            revisions: Vec::new(),
            ns,
            faults: Vec::new(),
        }
    }

    pub(super) fn op(mut self, id: u64) -> Self {
        self.ops.push(id);
        self
    }

    pub(super) fn revision(mut self, revision: i64) -> Self {
        self.revisions.push(revision);
        self
    }
}

/// The most violations that are printed: after the first, most are its consequences.
const SHOWN_MAX: usize = 20;

impl Verdict {
    /// Whether the history was judged whole and nothing was found.
    pub fn passed(&self) -> bool {
        self.violations.is_empty() && self.defects.is_empty() && self.undecided.is_empty()
    }

    /// Whether a breach of this guarantee was found.
    pub fn convicts(&self, guarantee: Guarantee) -> bool {
        self.violations
            .iter()
            .any(|violation| violation.guarantee == guarantee)
    }

    /// How many breaches of each guarantee were found.
    pub fn counts(&self) -> BTreeMap<Guarantee, usize> {
        let mut counts = BTreeMap::new();
        for violation in &self.violations {
            *counts.entry(violation.guarantee).or_default() += 1;
        }
        counts
    }

    /// Names the faults that were under way at each violation, and sorts them by time.
    pub(super) fn finish(mut self, history: &History) -> Self {
        for violation in &mut self.violations {
            violation.faults = faults_at(history, violation.ns);
        }
        self.violations.sort_by_key(|violation| violation.ns);
        self
    }
}

fn faults_at(history: &History, ns: u64) -> Vec<String> {
    let mut active: Vec<String> = Vec::new();
    for fault in history.faults().filter(|fault| fault.ns <= ns) {
        match fault.phase {
            Phase::Start => active.push(fault.name.clone()),
            Phase::End => {
                if let Some(at) = active.iter().position(|name| *name == fault.name) {
                    active.remove(at);
                }
            }
        }
    }
    active
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} operations, {} events, {} revisions: ",
            self.ops, self.events, self.revisions
        )?;
        if self.passed() {
            return write!(f, "nothing wrong");
        }
        let counts: Vec<_> = self.counts().into_iter().collect();
        writeln!(f, "{counts:?}")?;
        for defect in &self.defects {
            writeln!(f, "  cannot be judged: {defect}")?;
        }
        for question in &self.undecided {
            writeln!(f, "  undecided: {question}")?;
        }
        for violation in self.violations.iter().take(SHOWN_MAX) {
            writeln!(f, "  {violation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.ns as f64 / 1e9;
        write!(f, "{:?} at {seconds:.3} s: {}", self.guarantee, self.what)?;
        if !self.ops.is_empty() {
            write!(f, "; operations {:?}", self.ops)?;
        }
        if !self.revisions.is_empty() {
            write!(f, "; revisions {:?}", self.revisions)?;
        }
        if !self.faults.is_empty() {
            write!(f, "; during {}", self.faults.join(", "))?;
        }
        Ok(())
    }
}
