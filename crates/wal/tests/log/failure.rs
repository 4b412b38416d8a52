//! A disk that refuses: the first failure is final.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use catena_runtime::{BoxFuture, Disk, File, OpenMode, SystemDisk};

use super::*;

/// The machine's disk, where syncs or writes fail once the countdown of each is over.
#[derive(Clone)]
struct Faulty {
    writes: Arc<AtomicUsize>,
    syncs: Arc<AtomicUsize>,
    /// Syncs that failed.
    refused: Arc<AtomicUsize>,
}

impl Faulty {
    fn new() -> Self {
        let never = || Arc::new(AtomicUsize::new(usize::MAX));
        Self {
            writes: never(),
            syncs: never(),
            refused: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn runtime(&self) -> Runtime {
        Runtime {
            disk: Arc::new(self.clone()),
            ..Runtime::system()
        }
    }

    fn step(countdown: &AtomicUsize, kind: io::ErrorKind) -> io::Result<()> {
        let step = |left: usize| Some(left.saturating_sub(usize::from(left < usize::MAX)));
        match countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Ok(0) => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

struct FaultyFile(Faulty, Arc<dyn File>);

impl File for FaultyFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.read_exact_at(buf, offset)
    }
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        Faulty::step(&self.0.writes, io::ErrorKind::StorageFull).inspect_err(|_| {
            // A full disk takes a part.
            let half = &data[..data.len() / 2];
            self.1.write_all_at(half, offset).unwrap();
        })?;
        self.1.write_all_at(data, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.1.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.1.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        if self.0.syncs.load(Ordering::SeqCst) == 0 {
            self.0.refused.fetch_add(1, Ordering::SeqCst);
        }
        Faulty::step(&self.0.syncs, io::ErrorKind::Other)?;
        self.1.sync()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.1.try_lock()
    }
}

impl Disk for Faulty {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FaultyFile(
            self.clone(),
            SystemDisk.open(path, mode)?,
        )))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(path)
    }
    fn exists(&self, path: &Path) -> bool {
        SystemDisk.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(path)
    }
    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        SystemDisk.real_path(path)
    }
    fn sync_delay(&self) -> BoxFuture<'static, ()> {
        SystemDisk.sync_delay()
    }
}

/// Options under which no segment is prepared in the background, so that the countdowns are exact.
fn one_segment() -> Options {
    Options {
        segment_bytes: 1 << 20,
        ..options()
    }
}

#[tokio::test]
async fn a_failed_sync_is_final_and_never_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new();
    let (wal, _) = Wal::open(&disk.runtime(), dir.path(), one_segment()).unwrap();
    wal.write(entries(1..=3, 1)).await.unwrap();
    disk.syncs.store(0, Ordering::SeqCst);
    let failed = wal.failed();
    let first = wal.write(entries([4], 1)).await.unwrap_err();
    assert!(matches!(first, Error::Io { action: "sync", .. }), "{first}");
    assert_eq!(failed.await.to_string(), first.to_string());
    for _ in 0..3 {
        let later = wal.write(entries([5], 1)).await.unwrap_err();
        assert_eq!(later.to_string(), first.to_string());
        let later = wal.sync().await.unwrap_err();
        assert_eq!(later.to_string(), first.to_string());
    }
    assert_eq!(disk.refused.load(Ordering::SeqCst), 1);
    wal.close().await;
    let (wal, _) = open(dir.path()).unwrap();
    assert_eq!(wal.bounds().0, Some(1));
}

#[tokio::test]
async fn a_sync_that_fails_here_ends_the_log_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new();
    let (wal, _) = Wal::open(&disk.runtime(), dir.path(), Options::default()).unwrap();
    wal.write(entries(1..=3, 1)).await.unwrap();
    disk.syncs.store(0, Ordering::SeqCst);
    let failed = wal.failed();
    let (calls, answer) = tokio::sync::oneshot::channel();
    let done = move |result: Result<(), Error>| calls.send(result).unwrap();
    wal.append_here(entries([4], 1), done).await.unwrap();
    let error = answer.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Io { action: "sync", .. }), "{error}");
    assert_eq!(failed.await.to_string(), error.to_string());
    assert!(wal.append_here(entries([5], 1), |_| {}).await.is_err());
    wal.close().await;
    let (wal, _) = open(dir.path()).unwrap();
    assert_eq!(wal.bounds().0, Some(1), "the directory was let go");
}

#[tokio::test]
async fn all_who_wait_get_the_error_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new();
    let (wal, _) = Wal::open(&disk.runtime(), dir.path(), one_segment()).unwrap();
    disk.syncs.store(0, Ordering::SeqCst);
    let (calls, mut seen) = tokio::sync::mpsc::channel(100);
    let mut queued = Vec::new();
    for index in 1..=50 {
        let calls = calls.clone();
        let done = move |result: Result<(), Error>| {
            calls.try_send((index, result.is_ok())).unwrap();
        };
        if wal.append(entries([index], 1), done).await.is_ok() {
            queued.push((index, false));
        }
    }
    drop(calls);
    wal.failed().await;
    let mut answers = Vec::new();
    while let Some(answer) = seen.recv().await {
        answers.push(answer);
    }
    assert_eq!(answers, queued);
}

#[tokio::test]
async fn a_full_disk_is_final_and_the_log_opens_again_with_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new();
    let (wal, _) = Wal::open(&disk.runtime(), dir.path(), one_segment()).unwrap();
    wal.write(entries(1..=3, 1)).await.unwrap();
    disk.writes.store(0, Ordering::SeqCst);
    let error = wal.write(entries([4], 1)).await.unwrap_err();
    assert!(error.is_storage_full(), "{error}");
    assert!(wal.append(entries([5], 1), |_| {}).await.is_err());
    wal.close().await;

    let (wal, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.last, Some(3));
    assert!(recovered.torn.is_some());
    wal.write(entries([4], 2)).await.unwrap();
    assert_entries(&wal, 1..=4, |index| if index < 4 { 1 } else { 2 });
}

#[tokio::test]
async fn an_append_that_waits_for_room_is_woken_by_the_failure() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::new();
    let options = Options {
        queue_bytes: 300,
        ..one_segment()
    };
    let (wal, _) = Wal::open(&disk.runtime(), dir.path(), options).unwrap();
    disk.syncs.store(3, Ordering::SeqCst);
    for index in 1.. {
        if let Err(error) = wal.append(entries([index], 1), |_| {}).await {
            assert!(matches!(error, Error::Io { .. }), "{error}");
            break;
        }
    }
}
