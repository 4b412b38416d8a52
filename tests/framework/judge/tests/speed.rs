//! A long history is judged quickly.

use std::time::{Duration, Instant};

use super::{
    super::{linearizable, revisions},
    Liar,
    run::{Plan, history},
};

/// Far above what it takes: about one second each. It shows a judge that is quadratic, and nothing else.
const JUDGED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_hundred_thousand_operations() {
    let (history, _) = history(Plan {
        seed: 1,
        operations: 100_000,
        liar: Liar::honest(),
    });
    let begun = Instant::now();
    let verdict = revisions(&history);
    println!("by revisions, {:?}: {verdict}", begun.elapsed());
    assert!(verdict.passed(), "{verdict}");
    let searched = Instant::now();
    let verdict = linearizable(&history);
    println!("by search, {:?}: {verdict}", searched.elapsed());
    assert!(verdict.passed(), "{verdict}");
    assert!(begun.elapsed() < JUDGED_WITHIN, "{:?}", begun.elapsed());
}
