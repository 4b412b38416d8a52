//! The one that writes: drains what waits, writes once, syncs once, calls back in order.

use std::{path::PathBuf, sync::Arc, time::Duration};

use catena_runtime::{File, Runtime};

use crate::{
    Error, Options, Record,
    index::Place,
    keeper::Keeper,
    record::{self, Claim},
    recover::Tail,
    segment::{self, End, Header, Segment},
    shared::{Done, Pending, Shared},
    view::View,
};

/// Bytes that one write takes from the queue: beyond this a larger write gains nothing and delays the first callback.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// A sync that took longer says that the disk is slow: nobody but the writer's own thread should wait for the next one.
const QUICK_SYNC: Duration = Duration::from_millis(5);

/// What a segment has left when it may soon have to be changed for the next, which takes several syncs.
const NEARLY_FULL_BYTES: u64 = 1 << 20;

/// Callbacks that may wait for a sync that only commit marks ask for; then they get one of their own.
const LAZY_MAX: usize = 1024;

pub(crate) struct Writer {
    runtime: Runtime,
    shared: Arc<Shared>,
    options: Options,
    dir: PathBuf,
    keeper: Keeper,
    /// What the written stream amounts to.
    view: View,
    /// All that still have a file, oldest first; the last one is written to.
    segments: Vec<Arc<Segment>>,
    tail: Tail,
    /// Length of the last segment's file: zeros up to here.
    allocated: u64,
    /// Everything before is durable.
    watermark: u64,
    /// Written, not yet synced.
    waiting: Vec<(u64, Done)>,
    buf: Vec<u8>,
    moves: Vec<Move>,
    /// The last segment holds no record yet.
    fresh: bool,
    /// What the last sync took.
    last_sync: Duration,
    /// Ours until nothing is written any more.
    lock: Arc<dyn File>,
}

/// How a written record changes the index.
enum Move {
    Entry(Place),
    Other(Record),
}

/// Appends that are written together.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    dones: Vec<(u64, Done)>,
    /// Upper bound of what the records take in the file.
    bytes: usize,
    permits: usize,
    sync: bool,
    purge: bool,
}

impl Batch {
    fn new(appends: Vec<Pending>) -> Self {
        let mut batch = Self::default();
        for append in appends {
            batch.sync |= append.records.is_empty();
            for record in &append.records {
                batch.sync |= !record.is_lazy();
                batch.purge |= matches!(record, Record::Purge { .. });
            }
            batch.records.extend(append.records);
            batch.dones.push((append.sequence, append.done));
            batch.bytes += append.bytes;
            batch.permits += append.permits;
        }
        batch
    }
}

impl Writer {
    pub(crate) fn new(
        runtime: &Runtime,
        shared: Arc<Shared>,
        dir: PathBuf,
        options: Options,
        (segments, tail, lock): (Vec<Arc<Segment>>, Tail, Arc<dyn File>),
    ) -> Result<Self, Error> {
        let last = segments.last().expect("a log has a segment");
        let allocated = last.file.len().map_err(Error::io("read", &last.path))?;
        let view = shared.state.lock().view.clone();
        let mut writer = Self {
            keeper: Keeper::start(runtime, &dir, options.segment_bytes),
            runtime: runtime.clone(),
            view,
            shared,
            options,
            dir,
            segments,
            allocated,
            watermark: tail.end.offset,
            tail,
            waiting: Vec::new(),
            buf: Vec::new(),
            moves: Vec::new(),
            fresh: false,
            last_sync: Duration::ZERO,
            lock,
        };
        writer.remove_purged();
        Ok(writer)
    }

    /// Whether what it does next should not take long.
    pub(crate) fn is_quick(&self) -> bool {
        let end = self.tail.end.offset + NEARLY_FULL_BYTES;
        self.last_sync <= QUICK_SYNC && end <= self.options.segment_bytes
    }

    /// Writes what is queued.
    pub(crate) async fn serve(&mut self) -> Result<(), Error> {
        while let Some(appends) = self.shared.next(BATCH_BYTES_MAX) {
            self.take(appends).await?;
        }
        Ok(())
    }

    /// Ends the log; nothing is queued any more.
    pub(crate) async fn close(mut self) {
        match self.finish().await {
            Ok(()) => self.end(Error::Closed).await,
            Err(error) => self.fail(error).await,
        }
    }

    async fn take(&mut self, appends: Vec<Pending>) -> Result<(), Error> {
        let mut batch = Batch::new(appends);
        let written = self.write(&mut batch).await;
        self.waiting.append(&mut batch.dones);
        let bytes = written?;
        if batch.sync || self.waiting.len() > LAZY_MAX {
            self.sync(bytes).await?;
        }
        if batch.purge {
            self.remove_purged();
        }
        Ok(())
    }

    /// Writes the records of a batch, if it has any; gives the bytes written.
    async fn write(&mut self, batch: &mut Batch) -> Result<usize, Error> {
        if !batch.records.is_empty() {
            let room = batch.bytes + record::BATCH_BYTES;
            self.make_room(room as u64).await?;
            let end = self.encode(std::mem::take(&mut batch.records));
            self.put(end)?;
        }
        let written = batch.dones.last().map_or(0, |(sequence, _)| *sequence);
        let segment = self.segment().clone();
        self.shared.written(written, batch.permits, |index| {
            for change in self.moves.drain(..) {
                match change {
                    Move::Entry(place) => index.push(&segment, place),
                    Move::Other(record) => index.apply(&record),
                }
            }
        });
        let bytes = self.buf.len();
        self.buf.clear();
        self.buf.shrink_to(BATCH_BYTES_MAX);
        Ok(bytes)
    }

    /// Fills the buffer with a batch, its claim first; gives where the log then ends.
    fn encode(&mut self, records: Vec<Record>) -> End {
        let start = self.tail.end;
        let claim = Claim {
            offset: start.offset,
            watermark: self.watermark,
        };
        let mut chain = claim.encode(&mut self.buf, start.chain, self.tail.salt);
        for record in records {
            let offset = start.offset + self.buf.len() as u64;
            let next = record::encode(&mut self.buf, chain, &record);
            let applied = self.view.apply(&record);
            debug_assert!(
                applied.is_ok(),
                "appends are checked before they are queued"
            );
            match record {
                Record::Entry { index, .. } => self.moves.push(Move::Entry(Place {
                    index,
                    offset,
                    end: start.offset + self.buf.len() as u64,
                    chain,
                })),
                Record::Truncate { .. } | Record::Purge { .. } => {
                    self.moves.push(Move::Other(record));
                }
                Record::Vote(_) | Record::Commit(_) => {}
            }
            chain = next;
        }
        self.tail.unclaimed = true;
        End {
            offset: start.offset + self.buf.len() as u64,
            chain,
        }
    }

    /// Writes the buffer at the end of the log, which then is `end`.
    fn put(&mut self, end: End) -> Result<(), Error> {
        let segment = self.segment();
        let (file, path) = (&segment.file, &segment.path);
        if end.offset > self.allocated {
            let step = self.options.step_bytes();
            let wanted = self.options.segment_bytes.min(end.offset + step);
            let allocated = wanted.max(end.offset);
            file.allocate(allocated)
                .map_err(Error::io("allocate", path))?;
            self.allocated = allocated;
        }
        let segment = self.segment();
        let write = segment.file.write_all_at(&self.buf, self.tail.end.offset);
        write.map_err(Error::io("write", &segment.path))?;
        self.tail.end = end;
        self.fresh = false;
        Ok(())
    }

    /// Makes everything written durable and says so to those who wait.
    async fn sync(&mut self, bytes: usize) -> Result<(), Error> {
        if self.watermark < self.tail.end.offset {
            self.runtime.disk.sync_delay().await;
            let began = self.runtime.clock.now();
            let segment = self.segment();
            segment
                .file
                .sync()
                .map_err(Error::io("sync", &segment.path))?;
            self.watermark = self.tail.end.offset;
            self.last_sync = self.runtime.clock.now().saturating_sub(began);
            if let Some(observer) = &self.options.observer {
                observer.synced(self.last_sync, bytes);
            }
        }
        if let Some((durable, _)) = self.waiting.last() {
            self.shared.state.lock().durable = *durable;
        }
        for (_, done) in self.waiting.drain(..) {
            done(Ok(()));
        }
        Ok(())
    }

    /// Opens the next segment if `bytes` do not fit into this one.
    async fn make_room(&mut self, bytes: u64) -> Result<(), Error> {
        let end = self.tail.end.offset;
        if end + bytes > self.options.segment_bytes / 2 {
            self.keeper.prepare();
        }
        if end + bytes <= self.options.segment_bytes || self.fresh {
            return Ok(());
        }
        self.sync(0).await?;
        self.runtime.disk.sync_delay().await;
        self.rotate()?;
        self.remove_purged();
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), Error> {
        let disk = &*self.runtime.disk;
        let (file, name) = match self.keeper.take() {
            Some(file) => (file, segment::PREPARED_NAME),
            None => {
                let path = self.dir.join(segment::NEW_NAME);
                (segment::create(disk, &path)?, segment::NEW_NAME)
            }
        };
        let header = Header {
            sequence: self.segment().sequence + 1,
            salt: segment::salt(&*self.runtime.random),
            before: self.tail.end,
            view: self.view.clone(),
        };
        let from = self.dir.join(name);
        let (segment, start) = header.publish(disk, &self.dir, file, &from)?;
        self.allocated = segment
            .file
            .len()
            .map_err(Error::io("read", &segment.path))?;
        self.segments.push(segment);
        self.watermark = start.offset;
        self.fresh = true;
        self.tail = Tail {
            end: start,
            salt: header.salt,
            unclaimed: false,
        };
        Ok(())
    }

    fn segment(&self) -> &Arc<Segment> {
        self.segments.last().expect("a log has a segment")
    }

    /// Gives away the segments before that of the oldest live entry; the purge is durable.
    fn remove_purged(&mut self) {
        let newest = self.segment().sequence;
        let oldest = self.shared.state.lock().index.oldest_segment();
        let keep_from = oldest.unwrap_or(newest);
        let purged = self
            .segments
            .partition_point(|segment| segment.sequence < keep_from);
        if purged > 0 {
            let purged = self.segments.drain(..purged);
            self.keeper
                .remove(purged.map(|segment| segment.path.clone()).collect());
        }
    }

    /// Ends the log so that damage to its last records would be noticed: a last batch record claims them.
    async fn finish(&mut self) -> Result<(), Error> {
        self.sync(0).await?;
        if self.tail.unclaimed {
            let end = self.encode(Vec::new());
            self.put(end)?;
            self.sync(0).await?;
        }
        Ok(())
    }

    /// The first failure is the last thing that this log does.
    pub(crate) async fn fail(mut self, error: Error) {
        let queued = self.shared.refuse(error.clone());
        let waiting = self.waiting.drain(..).map(|(_, done)| done);
        for done in waiting.chain(queued) {
            done(Err(error.clone()));
        }
        self.end(error).await;
    }

    /// Lets go of the directory, and then says so.
    async fn end(self, reason: Error) {
        self.keeper.stop().await;
        drop(self.lock);
        self.shared.end(reason);
    }
}
