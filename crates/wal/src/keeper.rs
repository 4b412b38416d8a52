//! Work on files that must not hold up the writer: zeroing the next segment, removing purged ones.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use catena_runtime::{Disk, File, Runtime};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, segment};

/// Jobs that may wait: one segment to prepare, and the removals of a few purges; beyond that the writer does it itself.
const JOBS_MAX: usize = 16;

/// Bytes that are zeroed between two syncs, so that the writer's own syncs have little to wait for.
const SLICE_BYTES: u64 = 1 << 20;

enum Job {
    Prepare,
    Remove(Vec<PathBuf>),
}

#[derive(Clone, Default)]
enum Slot {
    #[default]
    Empty,
    Busy,
    Ready(Arc<dyn File>),
    /// The log ends; nothing more is prepared.
    Stopped,
}

/// The writer's handle to the keeper, which ends when it is dropped.
pub(crate) struct Keeper {
    jobs: mpsc::Sender<Job>,
    slot: Arc<Mutex<Slot>>,
    disk: Arc<dyn Disk>,
    ended: oneshot::Receiver<()>,
}

impl Keeper {
    /// Starts the keeper of the log in `dir`, whose segments have `segment_bytes`.
    pub(crate) fn start(runtime: &Runtime, dir: &Path, segment_bytes: u64) -> Self {
        let (jobs, mut queue) = mpsc::channel(JOBS_MAX);
        let (ending, ended) = oneshot::channel();
        let slot = Arc::new(Mutex::new(Slot::Empty));
        let keeper = Self {
            jobs,
            slot: slot.clone(),
            disk: runtime.disk.clone(),
            ended,
        };
        let (disk, dir) = (runtime.disk.clone(), dir.to_owned());
        let run = async move {
            while let Some(job) = queue.recv().await {
                match job {
                    Job::Prepare => prepare(&*disk, &dir, segment_bytes, &slot).await,
                    Job::Remove(paths) => remove(&*disk, &paths),
                }
            }
            // Who does not wait for the end does not want to know.
            let _gone = ending.send(());
        };
        runtime.tasks.spawn_thread("wal-keeper", Box::pin(run));
        keeper
    }

    /// Asks for the next segment, unless it is there or on its way.
    pub(crate) fn prepare(&self) {
        let mut slot = self.slot.lock();
        if matches!(*slot, Slot::Empty) && self.jobs.try_send(Job::Prepare).is_ok() {
            *slot = Slot::Busy;
        }
    }

    /// Takes the prepared file, at [`segment::PREPARED_NAME`], if it is ready.
    pub(crate) fn take(&self) -> Option<Arc<dyn File>> {
        let mut slot = self.slot.lock();
        match std::mem::take(&mut *slot) {
            Slot::Ready(file) => Some(file),
            other => {
                *slot = other;
                None
            }
        }
    }

    /// Removes segments, in order.
    pub(crate) fn remove(&self, paths: Vec<PathBuf>) {
        if let Err(refused) = self.jobs.try_send(Job::Remove(paths))
            && let Job::Remove(paths) = refused.into_inner()
        {
            remove(&*self.disk, &paths);
        }
    }

    /// Ends the keeper; when this returns, it touches no file any more.
    pub(crate) async fn stop(self) {
        *self.slot.lock() = Slot::Stopped;
        drop(self.jobs);
        // An error means that its thread is gone.
        let _gone = self.ended.await;
    }
}

/// Fills the slot, unless the disk refuses or the log ends.
async fn prepare(disk: &dyn Disk, dir: &Path, bytes: u64, slot: &Mutex<Slot>) {
    let stopped = || matches!(*slot.lock(), Slot::Stopped);
    let prepared = zeroed(disk, dir, bytes, stopped).await;
    let mut slot = slot.lock();
    match prepared {
        Ok(file) if matches!(*slot, Slot::Busy) => {
            *slot = Slot::Ready(file);
            return;
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "cannot prepare a log segment ahead");
            if matches!(*slot, Slot::Busy) {
                *slot = Slot::Empty;
            }
        }
    }
    drop(slot);
    give_back(disk, dir);
}

/// Makes a zeroed file of `bytes`, durable but for its name; a shorter one if it is stopped.
async fn zeroed(
    disk: &dyn Disk,
    dir: &Path,
    bytes: u64,
    stopped: impl Fn() -> bool,
) -> Result<Arc<dyn File>, Error> {
    let path = dir.join(segment::PREPARED_NAME);
    let file = segment::create(disk, &path)?;
    let mut done = 0;
    while done < bytes && !stopped() {
        done = bytes.min(done + SLICE_BYTES);
        file.allocate(done).map_err(Error::io("allocate", &path))?;
        disk.sync_delay().await;
        file.sync().map_err(Error::io("sync", &path))?;
    }
    Ok(file)
}

/// Leaves the space of a half-made file to those who need it.
fn give_back(disk: &dyn Disk, dir: &Path) {
    let path = dir.join(segment::PREPARED_NAME);
    if disk.exists(&path)
        && let Err(error) = disk.remove(&path)
    {
        tracing::warn!(%error, path = %path.display(), "cannot remove an unused log segment");
    }
}

/// A segment that stays costs space until the next start; it is no reason to stop.
fn remove(disk: &dyn Disk, paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = disk.remove(path) {
            tracing::warn!(%error, path = %path.display(), "cannot remove a purged log segment");
        }
    }
}
