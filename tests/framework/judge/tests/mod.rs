//! The judges acquit every legal history, and convict every lie.
//!
//! Histories come from a [small store](store) that shares no code with the judges, with [clients](run) that ask what the mix says,
//! lagging members, and [watches](watchers) that are resumed. The store can be told to [lie](lies) once, and a true history can be
//! [changed](told) afterwards.

mod convicted;
mod lies;
mod members;
mod run;
mod speed;
mod store;
mod told;
mod unfit;
mod watchers;

use super::{Verdict, linearizable, revisions};
use crate::history::History;
use lies::Liar;
use run::{Plan, history};

/// Legal histories that both judges acquit.
const LEGAL: u64 = 300;
/// Operations in each.
const OPERATIONS: u64 = 600;

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        operations: OPERATIONS,
        liar: Liar::honest(),
    }
}

fn acquitted(seed: u64, verdict: &Verdict) {
    assert!(verdict.passed(), "seed {seed}: {verdict}");
}

#[test]
fn legal_histories_are_acquitted() {
    let judge = |seeds: std::ops::Range<u64>| {
        for seed in seeds {
            let (history, _) = history(plan(seed));
            acquitted(seed, &revisions(&history));
            acquitted(seed, &linearizable(&history));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| judge(0..LEGAL / 2));
        judge(LEGAL / 2..LEGAL);
    });
}

#[test]
fn a_file_is_judged_like_the_original() {
    let (mut original, _) = history(plan(1));
    assert!(told::event_lost(&mut original));
    let file = tempfile::NamedTempFile::new().unwrap();
    original.write_to(file.path()).unwrap();
    let read = History::read_from(file.path()).unwrap();
    assert_eq!(read.records.len(), original.records.len());
    for (one, other) in read.records.iter().zip(&original.records) {
        assert_eq!(one, other);
    }
    assert_eq!(revisions(&read), revisions(&original));
}
