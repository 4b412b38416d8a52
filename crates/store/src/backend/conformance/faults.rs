//! Facts about disks that fail, or processes that end, between any two accesses. Only for redb: sled does not go through our disk.

use std::{
    io,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use catena_runtime::{BoxFuture, File, OpenMode};

use super::{kill, *};
use crate::backend::directory;

/// The real disk until `left` changes are made; from then on it refuses every one, as a full disk does.
#[derive(Clone)]
struct Failing {
    left: Arc<AtomicUsize>,
}

impl Failing {
    fn after(changes: usize) -> Self {
        Self {
            left: Arc::new(AtomicUsize::new(changes)),
        }
    }

    fn change(&self) -> io::Result<()> {
        let take = |left: usize| left.checked_sub(1);
        match self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(io::ErrorKind::StorageFull.into()),
        }
    }
}

impl Disk for Failing {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if matches!(mode, OpenMode::Create | OpenMode::CreateNew) {
            self.change()?;
        }
        let file = SystemDisk.open(path, mode)?;
        let disk = self.clone();
        Ok(Arc::new(FailingFile { file, disk }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        SystemDisk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(path)
    }

    fn exists(&self, path: &Path) -> bool {
        SystemDisk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        SystemDisk.remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        SystemDisk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        SystemDisk.sync_dir(path)
    }

    fn real_path(&self, _: &Path) -> Option<PathBuf> {
        None
    }

    fn sync_delay(&self) -> BoxFuture<'static, ()> {
        SystemDisk.sync_delay()
    }
}

struct FailingFile {
    file: Arc<dyn File>,
    disk: Failing,
}

impl File for FailingFile {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.disk.change()?;
        self.file.write_all_at(data, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        self.file.allocate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}

/// Writes batches, defragments and puts a staged copy in place, until something fails; the batches acknowledged.
fn run(disk: &Arc<dyn Disk>, dir: &Path) -> (u32, Result<(), Fatal>) {
    let mut acknowledged = 0;
    let mut go = || {
        let mut backend = open(Engine::Redb, disk, dir)?;
        for number in 0..6 {
            backend.write(&kill::batch(number))?;
            acknowledged = number + 1;
            match number {
                1 => backend.defragment()?,
                3 => backend = replace(disk, dir, backend.as_ref())?,
                _ => {}
            }
        }
        Ok(())
    };
    let done = go();
    (acknowledged, done)
}

fn replace(disk: &Arc<dyn Disk>, dir: &Path, old: &dyn Backend) -> Result<Arc<dyn Backend>, Fatal> {
    let staged = Staged::begin(Engine::Redb, disk, dir)?;
    let mut dump = Dump::new(old.view()?.into(), Bytes::new());
    let mut load = Load::new(Arc::clone(staged.backend()));
    while let Some(frame) = dump.next_frame()? {
        load.push(&frame)
            .map_err(|error| Fatal::Engine(error.to_string()))?;
    }
    staged.replace(old)
}

/// At whichever change the disk fails: what was acknowledged is there afterwards, and at most the batch that was being written.
#[test]
fn failing_disk_loses_nothing_acknowledged() {
    // A run tries every third place, beginning anywhere.
    let first = rand::random_range(0..3);
    println!("first {first}");
    for changes in (first..).step_by(3) {
        let dir = tempfile::tempdir().unwrap();
        let failing: Arc<dyn Disk> = Arc::new(Failing::after(changes));
        let (acknowledged, done) = run(&failing, dir.path());
        let backend = open_at(Engine::Redb, dir.path()).unwrap();
        let found = kill::newest_batch(backend.as_ref()).map_or(0, |newest| newest + 1);
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "after {changes} changes: {acknowledged} batches acknowledged, {found} found"
        );
        if done.is_ok() {
            println!("{changes} changes");
            break;
        }
    }
}

#[test]
fn failed_write_is_final() {
    let bench = Bench::new(Engine::Redb);
    let failing = Failing::after(usize::MAX);
    let disk: Arc<dyn Disk> = Arc::new(failing.clone());
    let backend = open(Engine::Redb, &disk, bench.path()).unwrap();
    backend.write(&kill::batch(0)).unwrap();
    failing.left.store(0, Ordering::SeqCst);
    assert!(matches!(
        backend.write(&kill::batch(1)),
        Err(Fatal::Io { .. })
    ));
    failing.left.store(usize::MAX, Ordering::SeqCst);
    let error = backend.write(&kill::batch(1)).unwrap_err().to_string();
    assert!(error.contains("start the member again"), "{error}");
    drop(backend);
    assert!(kill::newest_batch(bench.open().as_ref()).unwrap() <= 1);
}

/// Else a crash would bring the old file back, while the log behind the new one is cut already.
#[test]
fn new_name_counts_once_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let (new, place) = (dir.path().join("new"), dir.path().join("place"));
    std::fs::write(&new, "new").unwrap();
    let replaced = directory::replace(&Failing::after(1), &new, &place);
    assert!(place.exists(), "the disk failed before the file was there");
    assert!(replaced.is_err(), "a name counts that no disk has");
}
