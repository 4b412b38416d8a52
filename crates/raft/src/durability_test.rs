//! What must be durable before what: the vote before it counts, the log before the engine, the engine before the log is cut.

use std::{
    io,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use catena_runtime::{BoxFuture, Disk, File, OpenMode, Runtime, SystemDisk};
use catena_store::{
    Store,
    backend::{Backend, Engine},
};
use catena_wal::Wal;
use futures_util::{poll, stream};
use openraft::{
    RaftLogReader,
    entry::RaftEntry,
    storage::{RaftLogStorage, RaftStateMachine},
};
use tokio::sync::Semaphore;

use crate::{
    log::Log,
    machine::{Machine, StateMachine, log_id},
    observer::Blind,
    pace::Pace,
    sole::Sole,
    suite,
    types::{CommittedLeaderId, Entry, LogId, Payload, Prod, Vote},
    wire,
};

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
    let pace = Pace::new(runtime.clock.clone(), 16 << 20, 256 << 20);
    let mut log = Log::new(
        runtime,
        wal.clone(),
        Arc::new(Sole::new(1)),
        Arc::new(pace),
        Arc::new(Blind),
    );
    let vote = Vote::new(7, 1);
    {
        let mut saving = pin!(RaftLogStorage::<Prod>::save_vote(&mut log, &vote));
        let at_once = poll!(&mut saving).is_ready();
        assert!(!at_once, "a vote counts that no disk has");
        let known = wal
            .vote()
            .map(|known| wire::decode::<Vote>(&known).unwrap());
        assert_eq!(known, Some(vote), "the read gate shows an older vote");
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

async fn apply_one(machine: &Arc<Machine>) {
    let at = LogId::new(CommittedLeaderId::new(1), 1);
    let entry = <Entry as RaftEntry>::new(at, Payload::default());
    let entries = stream::iter([Ok((entry, None))]);
    let mut machine = StateMachine::new(machine.clone());
    RaftStateMachine::<Prod>::apply(&mut machine, entries)
        .await
        .unwrap();
}

/// The last entry that an engine has.
fn applied(backend: &Arc<dyn Backend>) -> Option<LogId> {
    let store = Store::open(backend.clone(), catena_store::Options::default()).unwrap();
    store.applied().map(log_id)
}

#[tokio::test]
async fn the_engine_takes_nothing_that_the_log_has_not() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::system();
    let made = suite::make(&runtime, dir.path(), Engine::Memory);
    made.wal.close().await;
    apply_one(&made.machine).await;
    let commit = made.machine.clone().commit_loop(made.work);
    let _running = runtime.tasks.spawn("commit", Box::pin(commit));
    // The log cannot be made durable any more.
    assert!(made.machine.flush().await.is_err());
    assert_eq!(
        applied(&made.backend),
        None,
        "the engine is ahead of the log"
    );
}

#[tokio::test]
async fn the_log_may_be_cut_up_to_what_the_engine_has() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Runtime::system();
    let made = suite::make(&runtime, dir.path(), Engine::Memory);
    apply_one(&made.machine).await;
    let reported = {
        let mut flush = pin!(made.machine.flush());
        let at_once = poll!(&mut flush).is_ready();
        assert!(!at_once, "reported before the engine has it");
        let commit = made.machine.clone().commit_loop(made.work);
        let _running = runtime.tasks.spawn("commit", Box::pin(commit));
        flush.await.unwrap()
    };
    assert!(reported.last.is_some());
    assert_eq!(applied(&made.backend), reported.last);
    made.wal.close().await;
}
