use std::sync::Arc;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::backend::{Visit, memory::Memory};

fn engine(pairs: impl IntoIterator<Item = (Bucket, Vec<u8>, Vec<u8>)>) -> Arc<dyn Backend> {
    let backend = Memory::default();
    let changes: Vec<_> = pairs
        .into_iter()
        .map(|(bucket, key, value)| Change::Put(bucket, key.into(), value.into()))
        .collect();
    backend.write(&changes).unwrap();
    Arc::new(backend)
}

fn filled() -> Arc<dyn Backend> {
    let mut random = StdRng::seed_from_u64(3);
    let mut pairs = vec![
        (Bucket::Alarm, vec![], vec![]),
        (Bucket::Meta, vec![0; 70_000], vec![1]),
    ];
    for n in 0..3000u32 {
        let len = [0, 10, 300, 5_000][n as usize % 4];
        let value = (0..len).map(|_| random.random()).collect();
        pairs.push((Bucket::Key, n.to_be_bytes().to_vec(), value));
    }
    // Longer than two frames.
    let big = (0..5 << 19).map(|_| random.random()).collect();
    pairs.push((Bucket::Lease, b"big".to_vec(), big));
    engine(pairs)
}

fn frames(backend: &dyn Backend, meta: &'static [u8]) -> Vec<Bytes> {
    let mut dump = Dump::new(backend.view().unwrap().into(), Bytes::from_static(meta));
    std::iter::from_fn(|| dump.next_frame().unwrap()).collect()
}

fn load(frames: &[Bytes]) -> Result<(Arc<dyn Backend>, Loaded), LoadError> {
    let backend = engine([]);
    let mut load = Load::new(Arc::clone(&backend));
    for frame in frames {
        load.push(frame)?;
    }
    Ok((backend, load.finish()?))
}

fn contents(backend: &dyn Backend) -> Vec<(Bucket, Vec<u8>, Vec<u8>)> {
    let view = backend.view().unwrap();
    let mut found = Vec::new();
    for bucket in Bucket::ALL {
        let mut visit = |key: &[u8], value: &[u8]| {
            found.push((bucket, key.to_vec(), value.to_vec()));
            Visit::Continue
        };
        view.scan(bucket, b"", None, &mut visit).unwrap();
    }
    found
}

#[test]
fn what_is_loaded_is_what_was_dumped() {
    for backend in [engine([]), filled()] {
        let frames = frames(backend.as_ref(), b"meta of the caller");
        assert!(frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX));
        let (copy, loaded) = load(&frames).unwrap();
        assert_eq!(loaded.meta, "meta of the caller");
        assert_eq!(loaded.records as usize, contents(backend.as_ref()).len());
        assert!(contents(copy.as_ref()) == contents(backend.as_ref()));
    }
}

#[test]
fn frames_of_a_file_are_read_back() {
    let backend = filled();
    let file = frames(backend.as_ref(), b"").concat();
    let copy = engine([]);
    let loaded = Load::new(Arc::clone(&copy)).read(&mut &file[..]).unwrap();
    assert_eq!(loaded.records, 3003);
    assert!(contents(copy.as_ref()) == contents(backend.as_ref()));
}

#[test]
fn cut_file_is_refused() {
    let file = frames(filled().as_ref(), b"").concat();
    for len in [0, 1, 4, 5, 9, 10, 11, 100, 1 << 20, file.len() - 1] {
        let error = Load::new(engine([])).read(&mut &file[..len]).unwrap_err();
        assert!(
            matches!(error, LoadError::Malformed { .. }),
            "{len}: {error}"
        );
    }
}

#[test]
fn missing_doubled_or_swapped_frames_are_refused() {
    let frames = frames(filled().as_ref(), b"");
    assert!(frames.len() > 7);
    for n in 0..frames.len() {
        let mut without = frames.clone();
        without.remove(n);
        assert!(load(&without).is_err(), "without frame {n}");
        let mut twice = frames.clone();
        twice.insert(n, frames[n].clone());
        assert!(load(&twice).is_err(), "frame {n} twice");
        if n > 0 {
            let mut swapped = frames.clone();
            swapped.swap(n - 1, n);
            assert!(
                load(&swapped).is_err(),
                "frames {n} and the one before swapped"
            );
        }
    }
}

#[test]
fn any_flipped_bit_is_refused() {
    let backend = engine((0..50u8).map(|n| (Bucket::Key, vec![n], vec![n; 20])));
    let file = frames(backend.as_ref(), b"meta").concat();
    for bit in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = Load::new(engine([])).read(&mut &damaged[..]).unwrap_err();
        assert!(
            matches!(error, LoadError::Malformed { .. }),
            "bit {bit}: {error}"
        );
    }
}

/// Frames whose checksums are right, as a hostile sender would make them.
#[test]
fn hostile_records_are_refused() {
    let header = || frame(HEADER, &[&[FORMAT]]);
    let record = |bucket: u8, key: u32, value: u32| {
        let (key, value) = (key.to_le_bytes(), value.to_le_bytes());
        frame(RECORDS, &[&[bucket], &key, &value, b"ab"])
    };
    for hostile in [
        vec![frame(HEADER, &[])],
        vec![frame(HEADER, &[&[2]])],
        vec![frame(9, &[])],
        vec![record(5, 1, 1)],
        vec![frame(FOOTER, &[])],
        vec![header(), header()],
        vec![header(), record(10, 1, 1)],
        vec![header(), record(255, 1, 1)],
        vec![header(), record(5, u32::MAX, u32::MAX)],
        vec![header(), record(5, 1, u32::MAX)],
        vec![header(), record(5, 1, 1), record(5, 1, 1)],
        vec![header(), record(5, 1, 1), record(4, 1, 1)],
        vec![header(), record(5, 1, 100), frame(FOOTER, &[&[0; 20]])],
        vec![header(), record(5, 1, 1), frame(FOOTER, &[&[0; 20]])],
    ] {
        let error = load(&hostile).err().unwrap();
        assert!(matches!(error, LoadError::Malformed { .. }), "{error}");
    }
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..2000 {
        let payload: Vec<u8> = (0..random.random_range(0..60))
            .map(|_| random.random())
            .collect();
        assert!(load(&[header(), frame(random.random_range(0..5), &[&payload])]).is_err());
    }
}
