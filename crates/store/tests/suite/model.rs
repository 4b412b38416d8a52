//! Random operations on the store and on a plain model of it, which is nothing but the list of all changes.
//!
//! Between the operations the store is sealed, committed, compacted in slices, restarted from the engine (and then fed the entries
//! that the engine had not yet), and replaced by its own snapshot. Every answer, every readable revision and every hash must agree.

mod plain;
mod strategy;

use std::collections::BTreeSet;

use catena_api::etcd::etcdserverpb as pb;
use catena_store::{Error, Options, ReadError, Request, check};
use proptest::prelude::*;

use self::{
    plain::Plain,
    strategy::{Step, steps},
};
use crate::world::World;

/// Operations in a list of a transaction.
const TXN_OPS_MAX: usize = 8;

fn options() -> Options {
    Options {
        compaction_batch_limit: 3,
        history_bytes: 500,
        inbox_bytes: 500,
        ..Options::default()
    }
}

/// A store, its model, and the entries that a log would hold.
struct Run {
    world: World,
    plain: Plain,
    entries: Vec<Request>,
}

impl Run {
    fn step(&mut self, step: Step) {
        match step {
            Step::Apply(request) => self.apply(request),
            Step::Compact(back) => {
                let revision = self.plain.revision - back;
                self.apply(crate::requests::compact(revision));
            }
            Step::Seal => {
                self.world.seal();
            }
            Step::Commit => {
                self.world.commit();
            }
            Step::Maintain(slices) => {
                for _ in 0..slices {
                    self.world.store.maintain().unwrap();
                }
            }
            Step::Restart => {
                self.world.restart();
                for request in &self.entries[self.world.next_index as usize..] {
                    self.world.apply_all(vec![request.clone()], None);
                }
            }
            Step::Install => {
                let mut follower = World::new(options());
                follower.install(&self.world);
                assert_eq!(
                    follower.reader().hash().unwrap(),
                    self.world.reader().hash().unwrap()
                );
                self.world = follower;
            }
            Step::Range(mut request, back) => {
                // Some revisions are out of bounds on both sides.
                request.revision = match back {
                    None => 0,
                    Some(back) => self.plain.revision + 1 - back,
                };
                let ours = self
                    .world
                    .reader()
                    .range(&request)
                    .map(|(response, _)| response);
                assert_eq!(refused(ours), self.plain.range(&request), "{request:?}");
            }
        }
    }

    fn apply(&mut self, request: Request) {
        if !is_valid(&request) {
            return;
        }
        let outcome = self.world.apply_all(vec![request.clone()], None).remove(0);
        let expected = self.plain.apply(&request);
        assert_eq!(outcome.result, expected, "{request:?}");
        assert_eq!(outcome.revision, self.plain.revision, "{request:?}");
        self.entries.push(request);
    }

    /// Compares everything that can be read.
    fn compare(&self) {
        let reader = self.world.reader();
        assert_eq!(
            (reader.revision(), reader.compacted()),
            (self.plain.revision, self.plain.compacted)
        );
        for revision in self.plain.compacted.max(1)..=self.plain.revision {
            let all = pb::RangeRequest {
                revision,
                ..crate::requests::range("\0", "\0")
            };
            let (response, _) = reader.range(&all).unwrap();
            assert_eq!(Ok(response), self.plain.range(&all), "revision {revision}");
            let known = reader
                .compaction_hashes()
                .iter()
                .any(|hash| hash.hash_revision == revision);
            if !known {
                let hash = reader.hash_kv(revision).unwrap();
                assert_eq!(
                    hash.hash,
                    self.plain.hash(revision),
                    "hash of revision {revision}"
                );
            }
        }
        let ids: Vec<i64> = reader.leases().iter().map(|lease| lease.id).collect();
        assert_eq!(ids, self.plain.lease_ids());
        for id in ids {
            let keys: BTreeSet<_> = reader.lease(id).unwrap().keys.into_iter().collect();
            assert_eq!(keys, self.plain.lease_keys(id), "lease {id}");
        }
    }
}

/// What a server lets through.
fn is_valid(request: &Request) -> bool {
    match request {
        Request::Put(put) => check::put(put).is_ok(),
        Request::Txn(txn) => check::txn(txn, TXN_OPS_MAX).is_ok(),
        _ => true,
    }
}

fn refused<T>(result: Result<T, ReadError>) -> Result<T, Error> {
    result.map_err(|error| match error {
        ReadError::Refused(error) => error,
        ReadError::Fatal(fatal) => panic!("{fatal}"),
    })
}

/// After everything is compacted and committed, the engine holds exactly what the rule keeps.
fn assert_engine_holds_only_what_is_kept(run: &mut Run) {
    run.world.maintain();
    run.world.flush();
    run.compare();
    let records = run.world.backend.len(catena_store::backend::Bucket::Key);
    assert_eq!(records, run.plain.kept_records());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn store_equals_its_model(steps in steps(60)) {
        let mut run = Run {
            world: World::new(options()),
            plain: Plain::new(),
            entries: Vec::new(),
        };
        for step in steps {
            run.step(step);
        }
        run.compare();
        assert_engine_holds_only_what_is_kept(&mut run);
        run.step(Step::Restart);
        run.compare();
    }
}
