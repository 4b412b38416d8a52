//! Whether a store may have done what a history shows.
//!
//! Two judges look at the same history by methods that have nothing in common: [`revisions`] trusts that each write has a unique
//! revision and so has only to sort and replay; [`linearizable`] searches for an order that explains what clients saw. If they
//! disagree, one of them is wrong.
//!
//! # By revisions
//!
//! 1. *Log*: what the witnesses saw, merged: revision → events. It has no gap, and versions count right.
//! 2. *Floor*: the largest revision that anybody had seen before a moment.
//! 3. *Claims*: each acknowledged write made the revision of its answer: nobody else did, it is above the floor of the call, and it
//!    holds exactly what the operation does to the state before. Not in the log means lost.
//! 4. *Unknown writes* made the revision where their token is, or none; never two.
//! 5. *Leftovers*: a revision without an author is the end of a lease in its time, or the work of one unknown operation that
//!    leaves no token. Anything else nobody wrote.
//! 6. *Reads* show the state at the revision of their answer, which is not below the floor.
//! 7. *Serialisable reads* may be below the floor, but not below what the same process showed before.
//! 8. *Errors* about compacted and future revisions are true.
//! 9. *Watches* were sent the log, filtered, in order, each event once, up to where they got.
//! 10. *Delay*: what a member has shown anybody, it sends to every watch on it soon.
//! 11. *End*: members are equal, to each other and to the log.
//!
//! "Above" in 3 and "not below" in 6 are together exactly the order of real time. All of it sorts and replays: O(n log n).
//!
//! The settings `lease_late_ms` (bound for L2), `watch_late_ms` (bound for W8) and `auto_compaction` (members compact by themselves) of
//! [`Meta::settings`](crate::history::Meta::settings) are read.

mod case;
mod claims;
mod compactions;
mod ends;
mod floor;
mod hash;
mod interval;
mod leases;
mod leftovers;
mod log;
mod model;
mod prompt;
mod reads;
mod search;
mod streams;
mod verdict;
mod watches;

#[cfg(test)]
mod tests;

pub use verdict::{Guarantee, Verdict, Violation};

use crate::history::History;
use case::Case;

/// Judges by the order of revisions.
pub fn revisions(history: &History) -> Verdict {
    let mut verdict = Verdict {
        defects: history.defects(),
        ..Verdict::default()
    };
    if !verdict.defects.is_empty() {
        return verdict;
    }
    let mut case = Case::new(history);
    if case.defects.is_empty() {
        claims::acknowledged(&mut case);
        claims::unknown(&mut case);
        leftovers::explain(&mut case);
        reads::check(&mut case);
        verdict.events = watches::check(&mut case);
        verdict.delays_ns = prompt::check(&mut case);
        leases::check(&mut case);
        ends::check(&mut case);
    }
    verdict.ops = history.operations().count();
    verdict.revisions = case.log.entries(0, case.log.last()).count();
    verdict.violations = case.violations;
    verdict.defects = case.defects;
    verdict.finish(history)
}

/// Judges by a search for a legal order.
///
/// Independent of [`revisions`] in its method. It trusts what witnesses saw for one thing: whether, and until when, an operation of
/// unknown outcome took effect.
pub fn linearizable(history: &History) -> Verdict {
    let mut verdict = Verdict {
        defects: history.defects(),
        ..Verdict::default()
    };
    if verdict.defects.is_empty() {
        search::search(history, &mut verdict);
    }
    verdict.finish(history)
}
