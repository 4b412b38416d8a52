//! A long history is judged quickly.

use std::time::Duration;

use super::{
    super::{linearizable, revisions},
    Liar,
    run::{Plan, history},
};

/// Far above what it takes, a second or two each. It shows a judge that is quadratic, and nothing else.
const JUDGED_WITHIN: Duration = Duration::from_secs(60);

/// Time that this thread has had on a core: other work on the machine must not count.
fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

#[test]
fn a_hundred_thousand_operations() {
    let (history, _) = history(Plan {
        seed: 1,
        operations: 100_000,
        liar: Liar::honest(),
    });
    for judge in [revisions, linearizable] {
        let begun = worked();
        let verdict = judge(&history);
        let took = worked().saturating_sub(begun);
        println!("{took:?}: {verdict}");
        assert!(verdict.passed(), "{verdict}");
        assert!(took < JUDGED_WITHIN, "{took:?}");
    }
}
