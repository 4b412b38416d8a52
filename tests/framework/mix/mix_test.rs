//! A mix makes every kind of operation, with tokens of their own.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::history::{Answer, Header, LeaseGranted, Outcome, Reply};

fn mix(seed: u64) -> Mix<impl FnMut(u64) -> u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    Mix::new(move |bound| rng.random_range(0..bound), Settings::default())
}

fn ended(args: Args, reply: Reply, revision: i64) -> Operation {
    Operation {
        id: 1,
        client: 1,
        endpoint: String::new(),
        call_ns: 1,
        return_ns: Some(2),
        args,
        outcome: Outcome::Ok(Answer {
            reply,
            header: Header {
                revision: Some(revision),
                ..Header::default()
            },
        }),
        token: None,
    }
}

#[test]
fn every_kind_comes_and_tokens_are_unique() {
    let mut mix = mix(1);
    let granted = LeaseGranted { id: 9, ttl: 5 };
    let grant = Args::LeaseGrant(LeaseGrant { ttl: 5, id: 9 });
    mix.learn(&ended(grant, Reply::LeaseGrant(granted), 1000));
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut tokens = BTreeSet::new();
    for _ in 0..20_000 {
        let Call { args, token } = mix.next(1);
        *counts.entry(args.name().to_owned()).or_default() += 1;
        if let Some(token) = token {
            assert!(tokens.insert(token.clone()), "{token} comes twice");
            assert!(marked(&args, &token), "{args:?} does not write {token}");
        }
    }
    for name in ["get", "put", "delete", "txn", "compact", "lease_grant"] {
        assert!(counts.contains_key(name), "no {name} in {counts:?}");
    }
    for name in ["lease_keepalive", "lease_revoke", "lease_ttl"] {
        assert!(counts.contains_key(name), "no {name} in {counts:?}");
    }
}

/// Whether every put of an operation writes its token.
fn marked(args: &Args, token: &str) -> bool {
    match args {
        Args::Put(put) => put.ignore_value || put.value.token() == token.as_bytes(),
        Args::Txn(txn) => txn.ops().all(|op| marked(op, token)),
        _ => true,
    }
}

#[test]
fn the_same_randomness_makes_the_same_operations() {
    let calls = |mut mix: Mix<_>| -> Vec<_> { (0..500).map(|_| mix.next(1).args).collect() };
    assert_eq!(calls(mix(7)), calls(mix(7)));
}
