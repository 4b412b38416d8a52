//! Facts about defragmentation and staging.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

/// Every path below a directory, except those that sled keeps changing.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        if !path.to_string_lossy().contains("snap.") {
            found.insert(path);
        }
    }
    found
}

pub(super) fn defragmentation_keeps_contents_beside_writers_and_readers(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let mut batches = Batches::new(rand::random());
    let mut model = Model::default();
    let filler: Vec<_> = (0..6000u32)
        .map(|n| put(Bucket::Key, n.to_be_bytes(), vec![n as u8; 1500]))
        .collect();
    for chunk in filler.chunks(1000) {
        backend.write(chunk).unwrap();
        model.make(chunk);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let defragmenting = scope.spawn(|| {
            backend.defragment().unwrap();
            backend.defragment().unwrap();
            done.store(true, Ordering::Release);
        });
        let mut rounds = 0;
        while !done.load(Ordering::Acquire) || rounds < 5 {
            let before = (model.clone(), backend.view().unwrap());
            let batch = batches.next(30);
            backend.write(&batch).unwrap();
            model.make(&batch);
            if rounds % 10 == 0 {
                before.0.assert_is(before.1.as_ref());
            }
            rounds += 1;
        }
        defragmenting.join().unwrap();
    });
    model.assert_is(backend.view().unwrap().as_ref());
    if engine != Engine::Memory {
        drop(backend);
        model.assert_is(bench.open().view().unwrap().as_ref());
    }
}

pub(super) fn defragmentation_shrinks_the_files(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let batch: Vec<_> = (0..8000u32)
        .map(|n| put(Bucket::Key, n.to_be_bytes(), vec![1; 1000]))
        .collect();
    for chunk in batch.chunks(500) {
        backend.write(chunk).unwrap();
    }
    let gone: Vec<_> = batch[100..]
        .iter()
        .map(|c| delete(Bucket::Key, c.key().1.to_vec()))
        .collect();
    for chunk in gone.chunks(500) {
        backend.write(chunk).unwrap();
    }
    let before = backend.sizes();
    backend.defragment().unwrap();
    let after = backend.sizes();
    assert_eq!(after.in_use, before.in_use);
    assert!(after.physical < before.physical / 3, "{before:?} {after:?}");
    assert_eq!(
        pairs(backend.view().unwrap().as_ref(), Bucket::Key).len(),
        100
    );
}

pub(super) fn old_engine_serves_its_views_after_the_switch(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    backend
        .write(&[put(Bucket::Key, "k", vec![1; 600_000])])
        .unwrap();
    let view = backend.view().unwrap();
    let before = files(bench.path());
    backend.defragment().unwrap();
    backend
        .write(&[put(Bucket::Key, "k", "2"), put(Bucket::Key, "l", "2")])
        .unwrap();
    assert_eq!(
        view.get(Bucket::Key, b"k").unwrap().unwrap(),
        vec![1; 600_000]
    );
    assert_eq!(pairs(view.as_ref(), Bucket::Key).len(), 1);
    drop(view);
    assert_eq!(
        files(bench.path()).len(),
        before.len(),
        "{:?}",
        files(bench.path())
    );
}

pub(super) fn staged_engine_takes_the_place(engine: Engine) {
    let bench = Bench::new(engine);
    let old = bench.open();
    old.write(&[put(Bucket::Key, "old", "1")]).unwrap();
    let view = old.view().unwrap();
    let staged = bench.stage();
    staged
        .backend()
        .write(&[put(Bucket::Key, "new", "2")])
        .unwrap();
    assert!(pairs(old.view().unwrap().as_ref(), Bucket::Key)[0].0 == "old");
    let new = staged.replace(old.as_ref()).unwrap();
    new.write(&[put(Bucket::Key, "newer", "3")]).unwrap();
    if engine != Engine::Memory {
        assert!(old.write(&[put(Bucket::Key, "late", "4")]).is_err());
        assert!(old.defragment().is_err());
    }
    let expected = |backend: &dyn Backend| {
        let found = pairs(backend.view().unwrap().as_ref(), Bucket::Key);
        assert_eq!(
            found,
            [("new".into(), "2".into()), ("newer".into(), "3".into())]
        );
    };
    assert_eq!(
        pairs(view.as_ref(), Bucket::Key),
        [("old".into(), "1".into())]
    );
    drop((old, view));
    expected(new.as_ref());
    new.defragment().unwrap();
    expected(new.as_ref());
    if engine != Engine::Memory {
        drop(new);
        expected(bench.open().as_ref());
    }
}

pub(super) fn staged_engine_that_is_dropped_leaves_nothing(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    backend.write(&[put(Bucket::Key, "k", "1")]).unwrap();
    let before = files(bench.path());
    let (first, second) = std::thread::scope(|scope| {
        let stage = || scope.spawn(|| bench.stage());
        let (first, second) = (stage(), stage());
        (first.join().unwrap(), second.join().unwrap())
    });
    first
        .backend()
        .write(&[put(Bucket::Key, "k", "2")])
        .unwrap();
    second
        .backend()
        .write(&[put(Bucket::Key, "k", "3")])
        .unwrap();
    drop((first, second));
    assert_eq!(files(bench.path()), before);
    drop(backend);
    assert_eq!(
        pairs(bench.open().view().unwrap().as_ref(), Bucket::Key),
        [("k".into(), "1".into())]
    );
}

pub(super) fn interrupted_rewrite_is_swept_away(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    backend.write(&[put(Bucket::Key, "k", "1")]).unwrap();
    let staged = bench.stage();
    staged
        .backend()
        .write(&[put(Bucket::Key, "k", "2")])
        .unwrap();
    let copy = copy_of(bench.path());
    drop((backend, staged));
    let before = files(bench.path());
    let swept = open_at(engine, copy.path()).unwrap();
    assert_eq!(
        pairs(swept.view().unwrap().as_ref(), Bucket::Key),
        [("k".into(), "1".into())]
    );
    assert_eq!(
        files(copy.path()).len(),
        before.len(),
        "{:?}",
        files(copy.path())
    );
}

/// The files as a crash would leave them.
pub(super) fn copy_of(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for path in files(dir) {
        let to = copy.path().join(path.strip_prefix(dir).unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(to).unwrap();
        } else {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&path, to).unwrap();
        }
    }
    copy
}

/// Bits flipped, one at a time.
const DAMAGES: usize = 20;

pub(super) fn damaged_files_are_refused_or_read_right(engine: Engine) {
    let bench = Bench::new(engine);
    let backend = bench.open();
    let batch: Vec<_> = (0..3000u32)
        .map(|n| put(Bucket::Key, n.to_be_bytes(), vec![n as u8; 100]))
        .collect();
    backend.write(&batch).unwrap();
    let model = Model::of(backend.view().unwrap().as_ref());
    drop(backend);
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..DAMAGES {
        let copy = copy_of(bench.path());
        let victims: Vec<_> = files(copy.path())
            .into_iter()
            .filter(|path| path.ends_with("db") || path.ends_with("db.redb"))
            .collect();
        let victim = &victims[0];
        let mut bytes = std::fs::read(victim).unwrap();
        let place = random.random_range(0..bytes.len());
        bytes[place] ^= 1 << random.random_range(0..8);
        std::fs::write(victim, bytes).unwrap();
        let read = || {
            let backend = open_at(engine, copy.path())?;
            Ok::<_, Fatal>(Model::of(backend.view()?.as_ref()))
        };
        match std::panic::catch_unwind(read) {
            Ok(Ok(found)) => assert!(found == model, "offset {place}: read wrong"),
            Ok(Err(error)) => {
                let text = error.to_string();
                assert!(text.contains("is damaged"), "offset {place}: {text}");
            }
            // sled itself panics on some damage: a refusal too, if not one that says what to do.
            Err(_) => assert_eq!(engine, Engine::Sled, "offset {place}: panicked"),
        }
    }
}
