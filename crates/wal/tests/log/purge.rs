//! Purging: what goes, what stays, what carries over.

use super::*;

/// Waits for the thread that removes segments, by closing the log.
async fn reopened(wal: Wal, dir: &Path) -> (Wal, Recovered) {
    wal.close().await;
    open(dir).unwrap()
}

#[tokio::test]
async fn purged_segments_go_and_the_marks_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    let marks = vec![Record::Vote("vote".into()), Record::Commit("commit".into())];
    wal.write(marks).await.unwrap();
    for index in 1..=100 {
        wal.write(entries([index], 1)).await.unwrap();
    }
    let before = segments(dir.path()).len();
    wal.write(vec![purge(90)]).await.unwrap();
    assert_entries(&wal, 91..=100, |_| 1);

    let (wal, recovered) = reopened(wal, dir.path()).await;
    let after = segments(dir.path()).len();
    assert!(after + 2 < before, "{before} segments, then {after}");
    assert_eq!(recovered.purge, Some((90, Bytes::from("mark 90"))));
    assert_eq!(recovered.vote.as_deref(), Some(&b"vote"[..]));
    assert_eq!(recovered.commit.as_deref(), Some(&b"commit"[..]));
    assert_entries(&wal, 91..=100, |_| 1);
}

#[tokio::test]
async fn a_purge_beyond_the_last_entry_empties_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(1..=40, 1)).await.unwrap();
    wal.write(vec![purge(1000)]).await.unwrap();
    assert_eq!(wal.bounds(), (None, None));
    assert!(wal.write(entries([1000], 1)).await.is_err());
    wal.write(entries(1001..=1040, 2)).await.unwrap();
    let (wal, recovered) = reopened(wal, dir.path()).await;
    assert_eq!(recovered.first, Some(1001));
    assert_entries(&wal, 1001..=1040, |_| 2);
}

#[tokio::test]
async fn a_purge_below_the_first_entry_changes_nothing_but_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(50..=60, 1)).await.unwrap();
    wal.write(vec![purge(10)]).await.unwrap();
    wal.write(vec![purge(5)]).await.unwrap();
    let (wal, recovered) = reopened(wal, dir.path()).await;
    assert_eq!(recovered.purge, Some((10, Bytes::from("mark 10"))));
    assert_entries(&wal, 50..=60, |_| 1);
}

#[tokio::test]
async fn a_log_that_is_always_purged_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    for index in 1..=500 {
        wal.write(entries([index], 1)).await.unwrap();
        if index % 10 == 0 {
            wal.write(vec![purge(index - 5)]).await.unwrap();
        }
    }
    let (wal, recovered) = reopened(wal, dir.path()).await;
    assert!(recovered.segments <= 2, "{} segments", recovered.segments);
    assert_entries(&wal, 496..=500, |_| 1);
}

#[tokio::test]
async fn purged_segments_that_a_crash_brings_back_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    for index in 1..=100 {
        wal.write(entries([index], 1)).await.unwrap();
    }
    let all = crashed(dir.path());
    wal.write(vec![purge(90)]).await.unwrap();
    wal.close().await;
    for back in [0, 2] {
        let copy = crashed(dir.path());
        let returned = &segments(all.path())[back];
        fs::copy(returned, copy.path().join(returned.file_name().unwrap())).unwrap();
        let (wal, recovered) = open(copy.path()).unwrap();
        assert_eq!(recovered.first, Some(91));
        assert_entries(&wal, 91..=100, |_| 1);
    }
}

#[tokio::test]
async fn a_reader_survives_the_removal_of_its_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(1..=100, 1)).await.unwrap();
    let reader = wal.clone();
    wal.write(vec![purge(99)]).await.unwrap();
    assert!(reader.read(1, 50, 1000).unwrap().is_empty());
    assert_eq!(reader.read(1, 200, 1000).unwrap().len(), 1);
}
