//! The handle: what callers see, and what they share with the writer.

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::Runtime;
use tokio::sync::oneshot;

use crate::{
    Error, Record, cache::Cache, desk::Desk, index::Gather, recover, shared::Shared, writer::Writer,
};

/// Bytes by which a segment grows if it was not prepared ahead: few enough to zero in passing.
const STEP_BYTES: u64 = 4 << 20;

/// Appends that may be queued before commit marks wake the writer.
const LAZY_QUEUED_MAX: usize = 64;

/// What a waiting record costs beside its bytes, so that many small ones are bounded too.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// Sees what the writer does; called by the writer, so it must be quick.
pub trait Observer: Send + Sync + 'static {
    /// A sync took `took`; `bytes` were written for it.
    fn synced(&self, took: Duration, bytes: usize);
}

/// How a log is kept.
#[derive(Clone)]
pub struct Options {
    /// Size of a segment. A batch that is larger gets a segment of its size.
    pub segment_bytes: u64,
    /// Recent entries kept in memory, beside those that are not written yet.
    pub cache_bytes: usize,
    /// Records that wait to be durable; beyond this [`Wal::append`] waits.
    pub queue_bytes: usize,
    /// Told about each sync.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            cache_bytes: 16 << 20,
            queue_bytes: 32 << 20,
            observer: None,
        }
    }
}

impl Options {
    pub(crate) fn step_bytes(&self) -> u64 {
        self.segment_bytes.min(STEP_BYTES)
    }
}

/// What [`Wal::open`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last vote.
    pub vote: Option<Bytes>,
    /// The last commit mark that became durable.
    pub commit: Option<Bytes>,
    /// The last purge: index and mark.
    pub purge: Option<(u64, Bytes)>,
    /// First entry.
    pub first: Option<u64>,
    /// Last entry.
    pub last: Option<u64>,
    /// What was cut off.
    pub torn: Option<Torn>,
    /// Segments read.
    pub segments: usize,
}

/// A write that a crash interrupted, and that nobody was told to be durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// Bytes of the file behind, preallocated zeros included.
    pub bytes: u64,
}

/// The log. Cheap to clone; it closes when it is [closed](Self::close), or by itself when the last handle is dropped.
#[derive(Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    _open: Arc<Open>,
}

/// Held by all handles together.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Wal {
    /// Opens the log in `dir`, or makes one there, and starts its writer. What a crash tore off is cut; damage is refused with
    /// [`Error::Damaged`], a directory in use with [`Error::Locked`]. Blocks in disk calls.
    pub fn open(
        runtime: &Runtime,
        dir: &Path,
        options: Options,
    ) -> Result<(Self, Recovered), Error> {
        let opened = recover::open(runtime, dir, &options)?;
        let view = &opened.view;
        let recovered = Recovered {
            vote: view.vote.clone(),
            commit: view.commit.clone(),
            purge: view.purge.clone(),
            first: view.bounds.map(|(first, _)| first),
            last: view.bounds.map(|(_, last)| last),
            torn: opened.torn.clone(),
            segments: opened.segments.len(),
        };
        let next = recovered.last.map_or(0, |last| last.saturating_add(1));
        let cache = Cache::new(next, options.cache_bytes);
        let shared = Shared::new(opened.view, opened.index, cache, options.queue_bytes);
        let shared = Arc::new(shared);
        let files = (opened.segments, opened.tail, opened.lock);
        let writer = Writer::new(runtime, shared.clone(), dir.to_owned(), options, files)?;
        let desk = Arc::new(Desk::new(writer));
        let (its_shared, its_desk) = (shared.clone(), desk.clone());
        let run = async move { its_desk.run(&its_shared).await };
        runtime.tasks.spawn_thread("wal-writer", Box::pin(run));
        let open = Arc::new(Open(shared.clone()));
        let wal = Self {
            shared,
            desk,
            _open: open,
        };
        Ok((wal, recovered))
    }

    /// Appends records, all or none. They are seen by every handle when this returns; `done` is called once, in order, by the
    /// writer, when a sync covers them, or with the error that ended the log. If this returns an error, nothing was appended and
    /// `done` is not called. Waits, without blocking the thread, while [`Options::queue_bytes`] are queued.
    ///
    /// Commit marks by themselves do not wake the writer: they are written with what comes next, or when the log is closed.
    pub async fn append(
        &self,
        records: Vec<Record>,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let can_wait = !records.is_empty() && records.iter().all(Record::is_lazy);
        let queued = self.enqueue(records, done).await?;
        if !can_wait || queued > LAZY_QUEUED_MAX {
            self.shared.wake();
        }
        Ok(())
    }

    /// The same for who has nothing better to do than to wait: unless the writer is at work or the disk is slow, it is done here, in
    /// disk calls that block, and `done` is called before this returns. It must not be dropped before that.
    pub async fn append_here(
        &self,
        records: Vec<Record>,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> Result<(), Error> {
        self.enqueue(records, done).await?;
        if !self.desk.serve_here().await {
            self.shared.wake();
        }
        Ok(())
    }

    /// Puts records into the queue; how many appends then are there.
    async fn enqueue(
        &self,
        records: Vec<Record>,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> Result<usize, Error> {
        for record in &records {
            record.check()?;
        }
        let cost = |record: &Record| record.bytes() + RECORD_OVERHEAD_BYTES;
        let bytes: usize = records.iter().map(cost).sum();
        let permits = bytes.min(self.shared.queue_bytes);
        let room = self.shared.room.acquire_many(permits as u32).await;
        let mut state = self.shared.state.lock();
        state.check_open()?;
        let Ok(room) = room else {
            return Err(Error::Closed);
        };
        state.enqueue(records, (bytes, permits), Box::new(done))?;
        room.forget();
        Ok(state.queued())
    }

    /// Appends records and waits until they are durable.
    pub async fn write(&self, records: Vec<Record>) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.append(records, |result| {
            // Who no longer waits does not want to know.
            let _gone = done.send(result);
        })
        .await?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Waits until everything appended before is durable.
    pub async fn sync(&self) -> Result<(), Error> {
        {
            let state = self.shared.state.lock();
            state.check_open()?;
            if state.durable == state.appended {
                return Ok(());
            }
        }
        self.write(Vec::new()).await
    }

    /// The entries of `from..to` that exist, without holes, as many as fit into `bytes_max` but at least one. Reads files, and so
    /// blocks, unless [`Self::is_cached`].
    pub fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, Error> {
        let blocks = {
            let state = self.shared.state.lock();
            let Some((first, last)) = state.view.bounds else {
                return Ok(Vec::new());
            };
            let (from, to) = (from.max(first), to.min(last.saturating_add(1)));
            if from >= state.cache.first() {
                let mut gather = Gather::new(from, to, bytes_max);
                state.cache.read(from, &mut gather);
                return Ok(gather.into_entries());
            }
            let to = to.min(state.cache.first());
            (from, to, state.index.blocks(from, to, bytes_max))
        };
        let (from, to, blocks) = blocks;
        let mut gather = Gather::new(from, to, bytes_max);
        for block in blocks {
            if gather.is_full() {
                break;
            }
            block.read(&mut gather)?;
        }
        Ok(gather.into_entries())
    }

    /// Whether [`Self::read`] from here on finds all in memory.
    pub fn is_cached(&self, from: u64) -> bool {
        from >= self.shared.state.lock().cache.first()
    }

    /// First and last entry.
    pub fn bounds(&self) -> (Option<u64>, Option<u64>) {
        let bounds = self.shared.state.lock().view.bounds;
        (bounds.map(|(first, _)| first), bounds.map(|(_, last)| last))
    }

    /// The last purge: index and mark.
    pub fn purged(&self) -> Option<(u64, Bytes)> {
        self.shared.state.lock().view.purge.clone()
    }

    /// The last vote appended.
    pub fn vote(&self) -> Option<Bytes> {
        self.shared.state.lock().view.vote.clone()
    }

    /// The last commit mark appended.
    pub fn commit(&self) -> Option<Bytes> {
        self.shared.state.lock().view.commit.clone()
    }

    /// The error that ended the log, if one has.
    pub fn failure(&self) -> Option<Error> {
        let open = self.shared.state.lock().check_open();
        open.err().filter(|error| !matches!(error, Error::Closed))
    }

    /// Completes with the error that ended the log; never, if it is closed in peace.
    pub fn failed(&self) -> impl Future<Output = Error> + Send + 'static {
        let mut ended = self.shared.ended.subscribe();
        async move {
            let failed = |ended: &Option<Error>| {
                ended
                    .as_ref()
                    .is_some_and(|error| !matches!(error, Error::Closed))
            };
            let error = ended
                .wait_for(failed)
                .await
                .ok()
                .and_then(|error| error.clone());
            match error {
                Some(error) => error,
                None => std::future::pending().await,
            }
        }
    }

    /// Refuses new records, writes those that wait, and ends the writer.
    pub async fn close(self) {
        let mut ended = self.shared.ended.subscribe();
        self.shared.close();
        // An error means that the writer is gone.
        let _gone = ended.wait_for(Option::is_some).await;
    }
}
