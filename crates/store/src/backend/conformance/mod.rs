//! What every engine must do, run for each of them: one macro call per engine, one function per fact.
//!
//! Facts about files do not apply to the memory engine. Loss of power is the simulation's business: its disk drops what was not
//! synced.

mod faults;
mod kill;
mod rewriting;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use catena_runtime::SystemDisk;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

use self::{kill::*, rewriting::*};
use super::*;

/// An engine in a directory of its own.
struct Bench {
    engine: Engine,
    dir: TempDir,
}

impl Bench {
    fn new(engine: Engine) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { engine, dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn open(&self) -> Arc<dyn Backend> {
        open_at(self.engine, self.path()).unwrap()
    }

    fn stage(&self) -> Staged {
        Staged::begin(self.engine, &disk(), self.path()).unwrap()
    }
}

fn disk() -> Arc<dyn Disk> {
    Arc::new(SystemDisk)
}

fn open_at(engine: Engine, dir: &Path) -> Result<Arc<dyn Backend>, Fatal> {
    open(engine, &disk(), dir)
}

fn put(bucket: Bucket, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Change {
    Change::Put(bucket, Bytes::from(key.into()), Bytes::from(value.into()))
}

fn delete(bucket: Bucket, key: impl Into<Vec<u8>>) -> Change {
    Change::Delete(bucket, Bytes::from(key.into()))
}

type Pairs = Vec<(Bytes, Bytes)>;

/// All pairs of a bucket.
fn pairs(view: &dyn View, bucket: Bucket) -> Pairs {
    pairs_between(view, bucket, b"", None)
}

fn pairs_between(view: &dyn View, bucket: Bucket, from: &[u8], to: Option<&[u8]>) -> Pairs {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Visit::Continue
    };
    view.scan(bucket, from, to, &mut visit).unwrap();
    found
}

/// A plain model of an engine, and of its views by copying.
#[derive(Clone, Default, Debug, PartialEq)]
struct Model(BTreeMap<(Bucket, Bytes), Bytes>);

impl Model {
    fn make(&mut self, changes: &[Change]) {
        for change in changes {
            match change.clone() {
                Change::Put(bucket, key, value) => self.0.insert((bucket, key), value),
                Change::Delete(bucket, key) => self.0.remove(&(bucket, key)),
            };
        }
    }

    fn of(view: &dyn View) -> Self {
        let mut model = Self::default();
        for bucket in Bucket::ALL {
            for (key, value) in pairs(view, bucket) {
                model.0.insert((bucket, key), value);
            }
        }
        model
    }

    fn assert_is(&self, view: &dyn View) {
        assert!(Self::of(view) == *self, "contents differ");
        for ((bucket, key), value) in self.0.iter().step_by(7) {
            assert_eq!(view.get(*bucket, key).unwrap().as_ref(), Some(value));
        }
    }
}

/// Seeded random batches over few enough keys that they meet again.
struct Batches {
    random: StdRng,
}

impl Batches {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self {
            random: StdRng::seed_from_u64(seed),
        }
    }

    fn next(&mut self, changes_max: usize) -> Vec<Change> {
        let count = self.random.random_range(1..=changes_max);
        (0..count).map(|_| self.change()).collect()
    }

    fn change(&mut self) -> Change {
        let random = &mut self.random;
        let bucket =
            [Bucket::Key, Bucket::Key, Bucket::Lease, Bucket::Meta][random.random_range(0..4)];
        // Zero bytes and prefixes of one another, where orders go wrong.
        let key: Vec<u8> = (0..random.random_range(1..=3))
            .map(|_| random.random_range(0..9))
            .collect();
        match random.random_range(0..3) {
            0 => delete(bucket, key),
            _ => {
                let len = if random.random_ratio(1, 50) {
                    9_000
                } else {
                    random.random_range(0..40)
                };
                put(bucket, key, vec![random.random(); len])
            }
        }
    }
}

fn scans_ascend_within_bounds(engine: Engine) {
    let backend = Bench::new(engine);
    let backend = backend.open();
    let keys: [&[u8]; 6] = [b"", b"\0", b"a", b"a\0", b"b", b"\xff\xff"];
    for key in keys.iter().rev() {
        backend
            .write(&[
                put(Bucket::Key, *key, *key),
                put(Bucket::Lease, *key, "other"),
            ])
            .unwrap();
    }
    let view = backend.view().unwrap();
    let found = |from: &[u8], to: Option<&[u8]>| -> Vec<Bytes> {
        let pairs = pairs_between(view.as_ref(), Bucket::Key, from, to);
        assert!(pairs.iter().all(|(key, value)| key == value));
        pairs.into_iter().map(|(key, _)| key).collect()
    };
    assert_eq!(found(b"", None), keys);
    assert_eq!(found(b"a", None), keys[2..]);
    assert_eq!(found(b"a", Some(b"b")), keys[2..4]);
    assert_eq!(found(b"aa", Some(b"\xff")), keys[4..5]);
    assert!(found(b"b", Some(b"b")).is_empty());
    assert!(found(b"b", Some(b"a")).is_empty());
    assert!(pairs(view.as_ref(), Bucket::Meta).is_empty());
}

fn scan_stops_when_told(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let batch: Vec<_> = (0..1000u16)
        .map(|n| put(Bucket::Key, n.to_be_bytes(), ""))
        .collect();
    backend.write(&batch).unwrap();
    let view = backend.view().unwrap();
    for stop_after in [1, 2, 255, 256, 257, 999, 1000] {
        let mut count = 0;
        let mut visit = |_: &[u8], _: &[u8]| {
            count += 1;
            if count == stop_after {
                Visit::Stop
            } else {
                Visit::Continue
            }
        };
        view.scan(Bucket::Key, b"", None, &mut visit).unwrap();
        assert_eq!(count, stop_after);
    }
}

fn last_change_of_a_key_in_a_batch_wins(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let (a, b) = (|| put(Bucket::Key, "k", "a"), || put(Bucket::Key, "k", "b"));
    let gone = || delete(Bucket::Key, "k");
    for (batch, expected) in [
        (vec![a(), b()], Some("b")),
        (vec![a(), gone()], None),
        (vec![gone(), a()], Some("a")),
        (vec![gone(), a(), gone(), gone(), b()], Some("b")),
        (vec![gone(), gone()], None),
        (vec![], None),
    ] {
        backend.write(&batch).unwrap();
        let found = backend.view().unwrap().get(Bucket::Key, b"k").unwrap();
        assert_eq!(found.as_deref(), expected.map(str::as_bytes));
    }
}

fn views_keep_what_they_saw(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let mut batches = Batches::new(rand::random());
    let mut model = Model::default();
    let mut views = std::collections::VecDeque::new();
    for round in 0..60 {
        let batch = batches.next(40);
        backend.write(&batch).unwrap();
        model.make(&batch);
        views.push_back((model.clone(), backend.view().unwrap()));
        // Some views live long, most do not, and not always the oldest goes first.
        if round % 3 > 0 {
            let (model, view) = views.remove(views.len() / 2).unwrap();
            model.assert_is(view.as_ref());
        }
    }
    assert!(views.len() > 10);
    for (model, view) in &views {
        model.assert_is(view.as_ref());
    }
}

fn views_are_whole_beside_a_writer(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let count = 600u32;
    let write = |round: u32| {
        let value = round.to_be_bytes();
        let batch: Vec<_> = (0..count)
            .map(|n| put(Bucket::Key, n.to_be_bytes(), value))
            .collect();
        backend.write(&batch).unwrap();
    };
    write(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (1..40).for_each(write));
        let mut newest = 0;
        let mut seen = 0;
        while !writer.is_finished() || seen == 0 {
            let view = backend.view().unwrap();
            let first = view.get(Bucket::Key, &0u32.to_be_bytes()).unwrap().unwrap();
            let found = pairs(view.as_ref(), Bucket::Key);
            assert_eq!(found.len(), count as usize);
            assert!(found.iter().all(|(_, value)| *value == first));
            let round = u32::from_be_bytes(first[..].try_into().unwrap());
            assert!(round >= newest, "a later view shows an older state");
            newest = round;
            seen += 1;
        }
    });
}

fn view_outlives_many_writes_and_deletes(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let all: Vec<_> = (0..2000u32)
        .map(|n| put(Bucket::Key, n.to_be_bytes(), vec![1; 200]))
        .collect();
    backend.write(&all).unwrap();
    let view = backend.view().unwrap();
    for chunk in all.chunks(500) {
        let gone: Vec<_> = chunk
            .iter()
            .map(|change| delete(Bucket::Key, change.key().1.to_vec()))
            .collect();
        backend.write(&gone).unwrap();
    }
    backend
        .write(&[put(Bucket::Key, [0, 0, 1], "new")])
        .unwrap();
    assert_eq!(pairs(view.as_ref(), Bucket::Key).len(), 2000);
    assert_eq!(
        pairs(backend.view().unwrap().as_ref(), Bucket::Key).len(),
        1
    );
    assert!(view.get(Bucket::Key, &[0, 0, 1]).unwrap().is_none());
}

fn large_values_come_back(engine: Engine) {
    let bench = Bench::new(engine);
    let mut random = StdRng::seed_from_u64(7);
    let values: Vec<Vec<u8>> = [0, 1, 4_000, 70_000, 600_000, 3_000_000]
        .map(|len| (0..len).map(|_| random.random()).collect())
        .to_vec();
    let backend = bench.open();
    for (n, value) in values.iter().enumerate() {
        backend
            .write(&[put(Bucket::Key, [n as u8], value.clone())])
            .unwrap();
    }
    let check = |backend: &dyn Backend| {
        let view = backend.view().unwrap();
        for (n, value) in values.iter().enumerate() {
            assert_eq!(view.get(Bucket::Key, &[n as u8]).unwrap().unwrap(), value);
        }
    };
    check(backend.as_ref());
    if engine != Engine::Memory {
        drop(backend);
        check(bench.open().as_ref());
    }
}

fn contents_survive_reopening(engine: Engine) {
    let bench = Bench::new(engine);
    let mut batches = Batches::new(rand::random());
    let mut model = Model::default();
    for _ in 0..4 {
        let backend = bench.open();
        model.assert_is(backend.view().unwrap().as_ref());
        for _ in 0..10 {
            let batch = batches.next(60);
            backend.write(&batch).unwrap();
            model.make(&batch);
        }
    }
}

fn second_opening_is_refused(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let error = open_at(engine, bench.path()).err().unwrap().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    drop(backend);
    bench.open();
}

fn sizes_follow_the_contents(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let empty = backend.sizes();
    let batch: Vec<_> = (0..3000u32)
        .map(|n| put(Bucket::Key, n.to_be_bytes(), vec![1; 1000]))
        .collect();
    for chunk in batch.chunks(100) {
        backend.write(chunk).unwrap();
    }
    let full = backend.sizes();
    assert!(full.in_use > empty.in_use + 3_000_000, "{full:?}");
    assert!(full.in_use < empty.in_use + 3_400_000, "{full:?}");
    assert!(full.physical >= full.in_use, "{full:?}");
    backend.write(&batch[..1500]).unwrap();
    assert_eq!(backend.sizes().in_use, full.in_use);
    if engine != Engine::Memory {
        drop(backend);
        let again = bench.open();
        assert_eq!(again.sizes().in_use, full.in_use);
        assert!(
            again.sizes().physical < 3 * full.physical,
            "{:?}",
            again.sizes()
        );
        return empties(again.as_ref());
    }
    empties(backend.as_ref());
}

fn empties(backend: &dyn Backend) {
    let stored = pairs(backend.view().unwrap().as_ref(), Bucket::Key);
    let gone: Vec<_> = stored
        .into_iter()
        .map(|(key, _)| delete(Bucket::Key, key))
        .collect();
    backend.write(&gone).unwrap();
    assert!(backend.sizes().in_use < 1_000, "{:?}", backend.sizes());
}

/// One test per fact, named after it.
macro_rules! facts {
    ($name:ident, $engine:ident, [$($fact:ident),* $(,)?]) => {
        mod $name {
            $(
                #[test]
                fn $fact() {
                    super::$fact(super::Engine::$engine);
                }
            )*
        }
    };
}

macro_rules! facts_of_all {
    ($name:ident, $engine:ident) => {
        facts!(
            $name,
            $engine,
            [
                scans_ascend_within_bounds,
                scan_stops_when_told,
                last_change_of_a_key_in_a_batch_wins,
                views_keep_what_they_saw,
                views_are_whole_beside_a_writer,
                view_outlives_many_writes_and_deletes,
                large_values_come_back,
                sizes_follow_the_contents,
                defragmentation_keeps_contents_beside_writers_and_readers,
                staged_engine_takes_the_place,
            ]
        );
    };
}

macro_rules! facts_of_files {
    ($name:ident, $engine:ident) => {
        facts!(
            $name,
            $engine,
            [
                contents_survive_reopening,
                second_opening_is_refused,
                defragmentation_shrinks_the_files,
                staged_engine_that_is_dropped_leaves_nothing,
                interrupted_rewrite_is_swept_away,
                old_engine_serves_its_views_after_the_switch,
                killed_writer_loses_nothing_acknowledged,
                killed_defragmentation_leaves_one_whole_engine,
                damaged_files_are_refused_or_read_right,
            ]
        );
    };
}

facts_of_all!(memory, Memory);
facts_of_all!(redb, Redb);
facts_of_all!(sled, Sled);
facts_of_files!(redb_files, Redb);
facts_of_files!(sled_files, Sled);
