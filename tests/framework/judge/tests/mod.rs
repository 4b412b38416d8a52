//! The judges acquit every legal history, and convict every lie.

mod lies;
mod run;
mod store;
mod watchers;

use super::{Guarantee, Verdict, revisions};
use lies::{Liar, Lie};
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
    for seed in 0..LEGAL {
        let (history, _) = history(plan(seed));
        acquitted(seed, &revisions(&history));
    }
}

/// Who tells which lie breaks which guarantee.
const LIES: &[(Lie, Guarantee)] = &[
    (Lie::AnsweredAndLost, Guarantee::K1),
    (Lie::AppliedTwice, Guarantee::K8),
    (Lie::UnknownAppliedTwice, Guarantee::K8),
    (Lie::RefusedAndApplied, Guarantee::K9),
    (Lie::HalfApplied, Guarantee::K3),
    (Lie::WrongBranch, Guarantee::K4),
    (Lie::CompareSeesWrites, Guarantee::K4),
    (Lie::WrongOrder, Guarantee::K4),
    (Lie::RevisionSkipped, Guarantee::K5),
    (Lie::VersionGoesOn, Guarantee::K5),
    (Lie::CreateRevisionMoves, Guarantee::K5),
    (Lie::StaleRead, Guarantee::K2),
    (Lie::ReadOfLost, Guarantee::K2),
    (Lie::AppliedBeforeCall, Guarantee::K2),
    (Lie::WrittenByNobody, Guarantee::K2),
    (Lie::DeletedByNobody, Guarantee::K2),
    (Lie::SerializableGoesBack, Guarantee::K6),
    (Lie::SerializableMixed, Guarantee::K6),
    (Lie::PastReadShowsPresent, Guarantee::K7),
    (Lie::CompactedRead, Guarantee::K7),
    (Lie::FutureRead, Guarantee::K7),
    (Lie::SaidCompacted, Guarantee::K7),
    (Lie::SaidFuture, Guarantee::K7),
    (Lie::LeaseEndsEarly, Guarantee::L1),
    (Lie::LeaseNeverEnds, Guarantee::L2),
    (Lie::SomeKeysOfLease, Guarantee::L2),
    (Lie::RenewedAfterEnd, Guarantee::L3),
    (Lie::RenewalDenied, Guarantee::L1),
    (Lie::AttachedAfterEnd, Guarantee::L3),
];

/// Seeds tried until a lie finds its occasion.
const TRIES: u64 = 20;

#[test]
fn every_lie_of_a_store_is_convicted() {
    let mut escaped = Vec::new();
    for (lie, guarantee) in LIES {
        let judged = (0..TRIES).find_map(|seed| {
            let liar = Liar::of(*lie, 0);
            let (history, told) = history(Plan { liar, ..plan(seed) });
            told.then(|| (seed, revisions(&history)))
        });
        match judged {
            Some((_, verdict)) if verdict.convicts(*guarantee) => {}
            Some((seed, verdict)) => escaped.push(format!("{lie:?}, seed {seed}: {verdict}")),
            None => escaped.push(format!("{lie:?} found no occasion")),
        }
    }
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}
