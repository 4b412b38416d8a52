//! Torn tails are cut, damage is refused.

use std::ops::Range;

use super::*;

/// Where the records of the only segment begin and end: behind the header, before the zeros.
fn used(file: &[u8]) -> Range<usize> {
    let header = 20 + u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    let end = file.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    header..end
}

/// A log of one segment, with one batch for each of `batches` entries, as a crash leaves it; and where its last batch begins.
async fn one_segment(batches: u64) -> (tempfile::TempDir, PathBuf, usize) {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    let mut last = 0;
    for index in 1..=batches {
        last = used(&fs::read(&segments(dir.path())[0]).unwrap()).end;
        wal.write(vec![entry(index, format!("entry {index}"))])
            .await
            .unwrap();
    }
    let copy = crashed(dir.path());
    let [path] = &segments(copy.path())[..] else {
        panic!("more than one segment");
    };
    (copy, path.clone(), last)
}

async fn refused(dir: &Path) -> Error {
    match open(dir) {
        Err(error) => error,
        Ok((wal, recovered)) => {
            wal.close().await;
            panic!("opened: {recovered:?}")
        }
    }
}

#[tokio::test]
async fn a_last_batch_cut_at_each_byte_is_dropped() {
    let (dir, path, last) = one_segment(3).await;
    let whole = fs::read(&path).unwrap();
    for zeroed in [true, false] {
        for cut in last..used(&whole).end {
            let mut torn = whole.clone();
            if zeroed {
                torn[cut..].fill(0);
            } else {
                torn.truncate(cut);
            }
            fs::write(&path, torn).unwrap();
            let (wal, recovered) = open(dir.path()).unwrap();
            assert_eq!(recovered.last, Some(2), "cut at {cut}");
            wal.write(vec![entry(3, "another third")]).await.unwrap();
            wal.close().await;

            let (wal, recovered) = open(dir.path()).unwrap();
            assert_eq!(recovered.torn, None, "cut at {cut}");
            let read = wal.read(3, 4, 100).unwrap();
            assert_eq!(read, [(3, Bytes::from("another third"))]);
            wal.close().await;
        }
    }
}

#[tokio::test]
async fn a_last_batch_with_any_byte_wrong_is_dropped() {
    let (dir, path, last) = one_segment(3).await;
    let whole = fs::read(&path).unwrap();
    for at in last..used(&whole).end {
        let mut torn = whole.clone();
        torn[at] ^= 0x10;
        fs::write(&path, torn).unwrap();
        let (wal, recovered) = open(dir.path()).unwrap();
        assert_eq!(recovered.last, Some(2), "byte {at}");
        let torn = recovered.torn.expect("a torn tail is reported");
        assert!((last as u64..=at as u64).contains(&torn.offset));
        wal.close().await;
    }
}

#[tokio::test]
async fn a_flipped_bit_in_any_byte_of_an_early_record_is_refused() {
    let (dir, path, last) = one_segment(3).await;
    let whole = fs::read(&path).unwrap();
    for at in 0..last {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&path, flipped).unwrap();
        let error = refused(dir.path()).await;
        let known = matches!(error, Error::Damaged { .. });
        assert!(known, "byte {at}: {error}");
    }
}

#[tokio::test]
async fn a_zeroed_early_record_is_refused() {
    let (dir, path, last) = one_segment(3).await;
    let whole = fs::read(&path).unwrap();
    let first = used(&whole).start;
    let mut zeroed = whole.clone();
    zeroed[first..last - 20].fill(0);
    fs::write(&path, zeroed).unwrap();
    let error = refused(dir.path()).await.to_string();
    assert!(
        error.contains("the record is gone, and the log goes on at"),
        "{error}"
    );
    assert!(error.contains(&format!("offset {first}")), "{error}");
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(error.contains("must not start"), "{error}");
}

#[tokio::test]
async fn after_a_close_even_the_last_record_is_protected() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(vec![entry(1, "one")]).await.unwrap();
    wal.close().await;
    let path = &segments(dir.path())[0];
    let whole = fs::read(path).unwrap();
    let data = whole.windows(3).position(|bytes| bytes == b"one").unwrap();
    let mut flipped = whole;
    flipped[data] ^= 1;
    fs::write(path, flipped).unwrap();
    refused(dir.path()).await;
}

#[tokio::test]
async fn damage_in_an_older_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(1..=60, 1)).await.unwrap();
    wal.write(entries(61..=120, 1)).await.unwrap();
    wal.write(entries(121..=180, 1)).await.unwrap();
    wal.close().await;
    let files = segments(dir.path());
    for path in &files[..files.len() - 1] {
        let whole = fs::read(path).unwrap();
        for at in used(&whole).step_by(41) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x80;
            fs::write(path, &flipped).unwrap();
            refused(dir.path()).await;
        }
        fs::write(path, &whole[..whole.len() / 2]).unwrap();
        refused(dir.path()).await;
        fs::write(path, &whole).unwrap();
    }
    open(dir.path()).unwrap().0.close().await;
}

#[tokio::test]
async fn a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    for index in 1..=100 {
        wal.write(entries([index], 1)).await.unwrap();
    }
    wal.close().await;
    let files = segments(dir.path());
    for missing in &files[..files.len() - 1] {
        let copy = crashed(dir.path());
        fs::remove_file(copy.path().join(missing.file_name().unwrap())).unwrap();
        let error = refused(copy.path()).await.to_string();
        assert!(error.contains("is missing"), "{error}");
        assert_eq!(
            segments(copy.path()).len(),
            files.len() - 1,
            "nothing is removed"
        );
    }
}

#[tokio::test]
async fn a_segment_of_another_log_is_refused() {
    let (one, path, _) = one_segment(2).await;
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(1..=60, 1)).await.unwrap();
    wal.write(entries(61..=90, 1)).await.unwrap();
    wal.close().await;
    fs::copy(&path, &segments(dir.path())[0]).unwrap();
    refused(dir.path()).await;
    drop(one);
}

#[tokio::test]
async fn a_value_cannot_forge_a_claim() {
    let (dir, path, last) = one_segment(3).await;
    let whole = fs::read(&path).unwrap();
    // The batch record of the last batch, as a value of an entry in the same file would hold it.
    let copied = whole[last..last + 37].to_vec();
    fs::remove_file(&path).unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(1..=3, 1)).await.unwrap();
    wal.write(vec![entry(4, copied)]).await.unwrap();
    let torn = crashed(dir.path());
    let path = &segments(torn.path())[0];
    let mut file = fs::read(path).unwrap();
    let end = used(&file).end;
    file[end - 60] ^= 1;
    fs::write(path, file).unwrap();
    let (wal, recovered) = open(torn.path()).unwrap();
    assert_eq!(recovered.last, Some(3));
    wal.close().await;
}

#[tokio::test]
async fn rot_under_a_running_log_is_noticed_by_the_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(1..=5, 1)).await.unwrap();
    let path = &segments(dir.path())[0];
    let mut file = fs::read(path).unwrap();
    let middle = used(&file).end / 2;
    file[middle] ^= 1;
    fs::write(path, file).unwrap();
    let error = wal.read(1, 6, 10_000).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}
