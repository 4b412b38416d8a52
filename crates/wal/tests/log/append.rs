//! Appending, reading, reopening.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use super::*;

/// How long a disk may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_empty_log_stays_empty() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (wal, recovered) = open(dir.path()).unwrap();
        assert_eq!(
            recovered,
            Recovered {
                segments: 1,
                ..Recovered::default()
            }
        );
        assert_eq!(wal.bounds(), (None, None));
        assert!(wal.read(0, 9, 100).unwrap().is_empty());
        wal.close().await;
    }
}

#[tokio::test]
async fn everything_survives_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    for index in 7..100 {
        wal.write(entries([index], 1)).await.unwrap();
    }
    let marks = vec![Record::Vote("vote".into()), Record::Commit("commit".into())];
    wal.write(marks).await.unwrap();
    wal.close().await;

    let (wal, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.torn, None);
    assert_eq!((recovered.first, recovered.last), (Some(7), Some(99)));
    assert_eq!(recovered.vote.as_deref(), Some(&b"vote"[..]));
    assert_eq!(recovered.commit.as_deref(), Some(&b"commit"[..]));
    assert!(recovered.segments > 3, "{} segments", recovered.segments);
    assert_entries(&wal, 7..=99, |_| 1);
    wal.close().await;
}

#[tokio::test]
async fn an_acknowledged_write_survives_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    for index in 1..=50 {
        wal.write(entries([index], 1)).await.unwrap();
        let copy = crashed(dir.path());
        let (wal, recovered) = open(copy.path()).unwrap();
        assert_eq!(recovered.last, Some(index));
        assert_entries(&wal, 1..=index, |_| 1);
    }
}

#[tokio::test]
async fn entries_are_read_before_they_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    let other = wal.clone();
    for index in 1..=200 {
        wal.append(entries([index], 1), |_| {}).await.unwrap();
        let read = other.read(index, index + 1, 0).unwrap();
        assert_eq!(read, [(index, Bytes::from(content(index, 1)))]);
    }
    wal.sync().await.unwrap();
    assert_entries(&other, 1..=200, |_| 1);
}

#[tokio::test]
async fn callbacks_come_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    for index in 1..=500 {
        let calls = calls.clone();
        let done = move |result: Result<(), Error>| {
            result.unwrap();
            calls.lock().unwrap().push(index);
        };
        wal.append(entries([index], 1), done).await.unwrap();
    }
    wal.sync().await.unwrap();
    assert_eq!(*calls.lock().unwrap(), (1..=500).collect::<Vec<_>>());
}

#[tokio::test]
async fn truncated_entries_stay_away_and_their_successors_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(1..=60, 1)).await.unwrap();
    wal.write(vec![truncate(35)]).await.unwrap();
    wal.write(entries(36..=50, 2)).await.unwrap();
    wal.write(vec![truncate(200)]).await.unwrap();
    let mut change = vec![truncate(40)];
    change.extend(entries(41..=45, 3));
    wal.write(change).await.unwrap();
    let term = |index| match index {
        0..36 => 1,
        36..41 => 2,
        _ => 3,
    };
    assert_entries(&wal, 1..=45, term);
    let copy = crashed(dir.path());
    let (wal, _) = open(copy.path()).unwrap();
    assert_entries(&wal, 1..=45, term);
}

#[tokio::test]
async fn a_log_truncated_to_nothing_starts_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(10..=40, 1)).await.unwrap();
    wal.write(vec![Record::Truncate { keep_to: None }])
        .await
        .unwrap();
    assert_eq!(wal.bounds(), (None, None));
    wal.write(entries(3..=5, 2)).await.unwrap();
    wal.close().await;
    let (wal, _) = open(dir.path()).unwrap();
    assert_entries(&wal, 3..=5, |_| 2);
}

#[tokio::test]
async fn a_refused_append_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.write(entries(1..=3, 1)).await.unwrap();
    let hole = vec![entry(4, "four"), entry(6, "six")];
    let error = wal.write(hole).await.unwrap_err();
    assert_eq!(error.to_string(), "entry 6 does not follow 4");
    assert_entries(&wal, 1..=3, |_| 1);
    wal.write(entries(4..=4, 1)).await.unwrap();
}

#[tokio::test]
async fn a_record_larger_than_a_segment_and_the_queue_fits() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        queue_bytes: 100,
        ..options()
    };
    let (wal, _) = Wal::open(&Runtime::system(), dir.path(), options).unwrap();
    let large = Bytes::from(vec![7; 3 * SEGMENT_BYTES as usize]);
    wal.write(entries(1..=2, 1)).await.unwrap();
    wal.write(vec![entry(3, large.clone())]).await.unwrap();
    wal.write(vec![entry(4, large.clone())]).await.unwrap();
    wal.write(entries(5..=6, 1)).await.unwrap();
    wal.close().await;
    let (wal, _) = open(dir.path()).unwrap();
    assert_eq!(wal.read(3, 9, 0).unwrap(), [(3, large.clone())]);
    assert_eq!(wal.read(4, 5, 0).unwrap(), [(4, large)]);
    assert_eq!(wal.bounds(), (Some(1), Some(6)));
}

#[tokio::test]
async fn a_full_queue_makes_appends_wait_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        queue_bytes: 1000,
        ..options()
    };
    let (wal, _) = Wal::open(&Runtime::system(), dir.path(), options).unwrap();
    for index in 1..=300 {
        wal.append(entries([index], 1), |_| {}).await.unwrap();
    }
    wal.close().await;
    let (wal, _) = open(dir.path()).unwrap();
    assert_entries(&wal, 1..=300, |_| 1);
}

#[tokio::test]
async fn a_commit_mark_becomes_durable_with_the_next_record() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    wal.append(vec![Record::Commit("one".into())], |_| {})
        .await
        .unwrap();
    assert_eq!(wal.commit().as_deref(), Some(&b"one"[..]));
    wal.write(entries([1], 1)).await.unwrap();
    let copy = crashed(dir.path());
    let (_, recovered) = open(copy.path()).unwrap();
    assert_eq!(recovered.commit.as_deref(), Some(&b"one"[..]));
}

#[tokio::test]
async fn commit_marks_alone_do_not_gather_without_bound() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    let synced = Arc::new(tokio::sync::Notify::new());
    for _ in 0..3000 {
        let synced = synced.clone();
        let done = move |_| synced.notify_one();
        wal.append(vec![Record::Commit("one".into())], done)
            .await
            .unwrap();
    }
    synced.notified().await;
}

#[tokio::test]
async fn a_locked_directory_is_refused_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    let other = wal.clone();
    wal.close().await;
    assert!(matches!(
        other.write(entries([1], 1)).await,
        Err(Error::Closed)
    ));
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn what_is_appended_here_is_done_when_that_returns() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(&Runtime::system(), dir.path(), Options::default()).unwrap();
    let mut here = 0;
    for index in 1..=100 {
        let (done, durable) = mpsc::channel();
        let done = move |result: Result<(), Error>| {
            done.send((result.is_ok(), thread::current().id())).unwrap();
        };
        wal.append_here(entries([index], 1), done).await.unwrap();
        // If a slow disk or a busy writer had it left to the writer's thread.
        let (is_durable, by) = durable.recv_timeout(PATIENCE).unwrap();
        assert!(is_durable);
        here += usize::from(by == thread::current().id());
        if index % 10 == 0 {
            let copy = crashed(dir.path());
            let (_, recovered) = open(copy.path()).unwrap();
            assert_eq!(recovered.last, Some(index));
        }
    }
    assert!(here > 0, "the writer was never idle");
    wal.close().await;
    let (wal, _) = open(dir.path()).unwrap();
    assert_entries(&wal, 1..=100, |_| 1);
}

#[tokio::test]
async fn appends_here_and_elsewhere_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(&Runtime::system(), dir.path(), Options::default()).unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    for index in 1..=600 {
        let calls = calls.clone();
        let done = move |result: Result<(), Error>| {
            result.unwrap();
            calls.lock().unwrap().push(index);
        };
        match index % 3 {
            0 => wal.append_here(entries([index], 1), done).await.unwrap(),
            _ => wal.append(entries([index], 1), done).await.unwrap(),
        }
    }
    wal.sync().await.unwrap();
    let expected: Vec<u64> = (1..=600).collect();
    assert_eq!(*calls.lock().unwrap(), expected);
    assert_entries(&wal, 1..=600, |_| 1);
}

#[tokio::test]
async fn a_commit_mark_is_written_with_what_comes_next() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = open(dir.path()).unwrap();
    let mark = |index: u64| Record::Commit(index.to_string().into());
    for index in 1..=20 {
        wal.append(vec![mark(index)], |_| {}).await.unwrap();
        assert_eq!(wal.commit(), Some(index.to_string().into()));
        wal.write(entries([index], 1)).await.unwrap();
        let copy = crashed(dir.path());
        let (_, recovered) = open(copy.path()).unwrap();
        assert_eq!(recovered.commit, Some(index.to_string().into()));
    }
    for index in 21..=1000 {
        wal.append(vec![mark(index)], |_| {}).await.unwrap();
    }
    wal.close().await;
    let (_, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.commit, Some("1000".into()));
}
