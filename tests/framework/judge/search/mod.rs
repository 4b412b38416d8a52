//! By search: is there an order of the operations that explains every answer and respects real time?
//!
//! Three searches, each by [Wing and Gong's algorithm](order): each [key](keys) by itself, as a register that knows nothing of
//! other keys and of the order of revisions; [all keys](whole) at once, with the revision in the state; each [lease](leases) by
//! itself. What is known of operations of unknown outcome is in [`scene`].
//!
//! Serialisable reads and reads of the past are not searched: they may come from older states.

mod keys;
mod leases;
mod order;
mod scene;
mod whole;

use std::marker::PhantomData;

use super::{
    Guarantee, Verdict, Violation,
    log::{self, Log},
    streams,
};
use crate::history::History;
use order::Found;

/// Judges a history without defects.
pub(super) fn search(history: &History, verdict: &mut Verdict) {
    let streams = streams::streams(history);
    // What is wrong with the log is the other judge's to say.
    let log = Log::new(&streams, &mut log::Faults::default());
    let effects = scene::effects(history, &log);
    let keys = scene::keys(history, &log);
    verdict.ops = effects.len();
    verdict.revisions = log.entries(0, log.last()).count();
    let object = whole::Whole(PhantomData);
    let all = order::search(&object, whole::Pairs::empty(), &whole::calls(&effects));
    note(verdict, Guarantee::K2, "all keys", &all);
    for ((key, _), calls) in keys.iter().zip(keys::calls(&effects, &keys)) {
        let found = match order::search(&keys::Key, None, &calls) {
            // Without revisions a search may take too long. An order of all operations is one of those on this key, too.
            Found::Undecided if all == Found::Legal => Found::Legal,
            found => found,
        };
        note(verdict, Guarantee::K2, &format!("key {key:?}"), &found);
    }
    for (id, (lease, calls)) in leases::calls(history) {
        let found = order::search(&lease, leases::Life::Before, &calls);
        note(verdict, Guarantee::L3, &format!("lease {id:x}"), &found);
    }
}

fn note(verdict: &mut Verdict, guarantee: Guarantee, what: &str, found: &Found) {
    match found {
        Found::Legal => {}
        Found::Undecided => verdict
            .undecided
            .push(format!("{what}: the search is too long")),
        Found::Illegal(operation, ns) => {
            let words = format!("{what}: no order explains the answers");
            let violation = Violation::new(guarantee, *ns, words);
            verdict.violations.push(violation.op(*operation));
        }
    }
}
