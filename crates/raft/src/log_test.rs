//! What counts before it is durable, and what does not.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use catena_runtime::{BoxFuture, Disk, File, OpenMode, SystemDisk};
use futures_util::poll;
use tokio::sync::Semaphore;

use super::*;
use crate::types::Prod;

/// The machine's disk, which syncs a log when it is let.
struct Held(Arc<Semaphore>);

impl Disk for Held {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        SystemDisk.open(path, mode)
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
        let let_go = self.0.clone();
        Box::pin(async move {
            let permit = let_go.acquire_owned().await;
            permit.expect("nobody closes it").forget();
        })
    }
}

#[tokio::test]
async fn a_vote_counts_once_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let syncs = Arc::new(Semaphore::new(0));
    let runtime = Runtime {
        disk: Arc::new(Held(syncs.clone())),
        ..Runtime::system()
    };
    let (wal, _) = Wal::open(&runtime, dir.path(), catena_wal::Options::default()).unwrap();
    let mut log = Log::new(runtime, wal.clone());
    let vote = Vote::new(7, 1);
    {
        let mut saving = pin!(RaftLogStorage::<Prod>::save_vote(&mut log, &vote));
        let at_once = poll!(&mut saving).is_ready();
        assert!(!at_once, "a vote counts that no disk has");
        syncs.add_permits(1);
        saving.await.unwrap();
    }
    let read = RaftLogReader::<Prod>::read_vote(&mut log).await.unwrap();
    assert_eq!(read, Some(vote));
    // A log that closes syncs a few times more.
    syncs.add_permits(16);
    drop(log);
    wal.close().await;
}
