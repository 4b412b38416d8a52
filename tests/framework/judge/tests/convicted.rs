//! Every lie is convicted of the guarantee that it breaks.

use super::{
    super::{Guarantee, Verdict, linearizable, revisions},
    lies::{Liar, Lie},
    members, plan,
    run::{Plan, history},
    told, unfit,
};

/// Which lie of a store breaks which guarantee.
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

/// Lies that a search finds too: those about present pairs and about leases that are gone.
const SEARCHED: &[Lie] = &[
    Lie::AnsweredAndLost,
    Lie::AppliedTwice,
    Lie::UnknownAppliedTwice,
    Lie::RefusedAndApplied,
    Lie::HalfApplied,
    Lie::WrongBranch,
    Lie::CompareSeesWrites,
    Lie::WrongOrder,
    Lie::StaleRead,
    Lie::ReadOfLost,
    Lie::AppliedBeforeCall,
    Lie::WrittenByNobody,
    Lie::RenewedAfterEnd,
];

/// Which lie of a watch, a member or a recorder breaks which guarantee.
const TOLD: &[(&str, told::Lie, Guarantee)] = &[
    ("event lost", told::event_lost, Guarantee::W4),
    (
        "part of a revision lost",
        told::part_of_revision_lost,
        Guarantee::W3,
    ),
    ("event twice", told::event_twice, Guarantee::W2),
    ("events swapped", told::events_swapped, Guarantee::W1),
    (
        "revision in two responses",
        told::revision_in_two_responses,
        Guarantee::W3,
    ),
    (
        "bookmark ahead of its events",
        told::bookmark_ahead,
        Guarantee::W6,
    ),
    ("value changed", told::value_changed, Guarantee::W4),
    ("members disagree", told::members_disagree, Guarantee::H1),
    ("prev_kv wrong", told::prev_wrong, Guarantee::W7),
    ("prev_kv missing", told::prev_missing, Guarantee::W7),
    ("filter ignored", told::filter_ignored, Guarantee::W7),
    (
        "events before the start",
        told::events_before_start,
        Guarantee::W9,
    ),
    (
        "bookmark before the start",
        told::bookmark_before_start,
        Guarantee::W9,
    ),
    ("gap at resumption", told::gap_at_resumption, Guarantee::W5),
    (
        "canceled without compaction",
        told::canceled_without_compaction,
        Guarantee::W5,
    ),
    (
        "events before created",
        told::events_before_created,
        Guarantee::W7,
    ),
    (
        "header behind its events",
        told::header_behind,
        Guarantee::W1,
    ),
    (
        "stops before the end",
        told::stops_before_the_end,
        Guarantee::W4,
    ),
    ("history rewritten", told::history_rewritten, Guarantee::K1),
    ("events late", told::events_late, Guarantee::W8),
    (
        "watch falls silent",
        told::watch_falls_silent,
        Guarantee::W8,
    ),
    (
        "member ends differently",
        members::member_ends_differently,
        Guarantee::H1,
    ),
    (
        "member ends behind",
        members::member_ends_behind,
        Guarantee::K1,
    ),
    ("hash differs", members::hash_differs, Guarantee::H1),
    (
        "key appears at the end",
        members::key_appears_at_end,
        Guarantee::H1,
    ),
    (
        "unknown told as ok",
        members::write_of_unknown_outcome_told_as_ok,
        Guarantee::K1,
    ),
];

/// What makes a history unfit to be judged.
const UNFIT: &[(&str, told::Lie)] = &[
    ("end missing", unfit::end_missing),
    ("line lost", unfit::line_lost),
    ("fault unproved", unfit::fault_unproved),
    ("token of two", unfit::token_of_two),
    ("client of two", unfit::client_of_two),
    ("nobody watched", unfit::nobody_watched),
    ("nobody read at the end", unfit::nobody_read_at_end),
    ("unknown returned", unfit::unknown_returned),
];

/// Seeds tried until a lie finds its occasion.
const TRIES: u64 = 20;

/// What is wrong with the verdicts on a lie of a store.
fn escapes(lie: Lie, guarantee: Guarantee) -> Option<String> {
    let judged = (0..TRIES).find_map(|seed| {
        let liar = Liar::of(lie);
        let (history, told) = history(Plan { liar, ..plan(seed) });
        told.then(|| (seed, revisions(&history), linearizable(&history)))
    });
    let Some((seed, verdict, other)) = judged else {
        return Some(format!("{lie:?} found no occasion"));
    };
    let found = !SEARCHED.contains(&lie) || !other.violations.is_empty();
    (!verdict.convicts(guarantee) || !found)
        .then(|| format!("{lie:?}, seed {seed}: {verdict}\nby search: {other}"))
}

/// What is wrong with the verdict on a history that was changed.
fn misjudged(name: &str, lie: told::Lie, right: impl Fn(&Verdict) -> bool) -> Option<String> {
    let judged = (0..TRIES).find_map(|seed| {
        let (mut history, _) = history(plan(seed));
        lie(&mut history).then(|| (seed, revisions(&history)))
    });
    match judged {
        None => Some(format!("{name}: no occasion")),
        Some((_, verdict)) if right(&verdict) => None,
        Some((seed, verdict)) => Some(format!("{name}, seed {seed}: {verdict}")),
    }
}

fn none(escaped: &[String]) {
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}

#[test]
fn lies_of_a_store() {
    let escaped = LIES
        .iter()
        .filter_map(|(lie, guarantee)| escapes(*lie, *guarantee));
    none(&escaped.collect::<Vec<_>>());
}

#[test]
fn lies_of_watches_and_members() {
    let escaped = TOLD.iter().filter_map(|(name, lie, guarantee)| {
        misjudged(name, *lie, |verdict| verdict.convicts(*guarantee))
    });
    none(&escaped.collect::<Vec<_>>());
}

#[test]
fn unfit_histories_are_no_proof() {
    let escaped = UNFIT.iter().filter_map(|(name, lie)| {
        misjudged(name, *lie, |verdict| {
            !verdict.defects.is_empty() && !verdict.passed()
        })
    });
    none(&escaped.collect::<Vec<_>>());
}
