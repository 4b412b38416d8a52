//! Writing an engine's files anew beside the traffic.
//!
//! [`Rewrite`] is the [`Backend`] of every engine that keeps files. Its defragmentation walks over all pairs in slices, each from a
//! fresh view, into an empty engine beside:
//!
//! ```text
//!              copied, and kept so by replaying    not looked at yet
//!   keys   |------------------------------------|--------------------|
//!                                             cursor
//! ```
//!
//! Before a slice, under the writer's lock, it takes the batches written since the last slice and a view. Of those batches the part
//! before the cursor is made again in the new engine; the rest is in the view and comes with its slice. So no view lives longer
//! than a slice, and what is recorded meanwhile is what is written during one slice. At the end nothing is left but a small
//! remainder, which is replayed while writers wait; then the new files are put in the place of the old ones. Open views go on with
//! the old ones, which vanish with the last view.
//!
//! A crash at any point leaves the old files or the new ones; half-written new ones are removed by the next open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{
    Backend, Change, Sizes, View,
    slice::{Cursor, Slice},
};
use crate::error::Fatal;

/// Bytes copied at a time: a few milliseconds of reading, and an fsync of the new file is spread over enough.
const SLICE_BYTES: usize = 4 << 20;

/// Most bytes recorded while a slice is copied. A writer that fills it waits for the slice to end; the engines write no faster than
/// they copy, so this bounds memory and hardly ever delays.
const RECORD_BYTES_MAX: usize = 32 << 20;

/// What may be left to replay while writers wait: a single batch as the store commits them.
const REMAINDER_BYTES: usize = 1 << 20;

/// Replays before the switch: each takes less time than the one before, so the remainder shrinks to [`REMAINDER_BYTES`] at once
/// unless writers are as fast as the replay; then it is switched with what is left, bounded by [`RECORD_BYTES_MAX`].
const REPLAYS_MAX: usize = 8;

/// An engine in files, of which a second one can be made beside the first.
pub(super) trait Files: Send + Sync + Sized + 'static {
    /// As [`Backend::write`].
    fn write(&self, changes: &[Change]) -> Result<(), Fatal>;

    /// As [`Backend::view`]; the view keeps the engine open.
    fn view(self: &Arc<Self>) -> Result<Box<dyn View>, Fatal>;

    /// As [`Backend::sizes`].
    fn sizes(&self) -> Sizes;

    /// Makes an empty engine in the same directory. It removes itself when it is dropped before it was promoted, and the next open
    /// removes it after a crash.
    fn create_beside(&self) -> Result<Self, Fatal>;

    /// Makes this the engine that the next open finds, durably and at once.
    fn promote(&self) -> Result<(), Fatal>;
}

/// An engine in files whose files can be replaced.
pub(super) struct Rewrite<F> {
    files: ArcSwap<F>,
    /// Held during each write, and while the files are switched.
    record: Mutex<Record>,
    /// Signalled when the record was emptied.
    emptied: Condvar,
    /// Held by the one defragmentation that runs.
    defragmenting: Mutex<()>,
}

/// Batches written since the last slice.
#[derive(Default)]
struct Record {
    running: bool,
    /// Set when a switch failed halfway: which files the next open finds is not known, so nothing may be written any more.
    torn: bool,
    /// Set when another engine took the place of this one.
    retired: bool,
    batches: Vec<Vec<Change>>,
    bytes: usize,
}

impl Record {
    /// Whether the files may be written.
    fn check(&self) -> Result<(), Fatal> {
        if self.torn {
            let what = "switching to defragmented files failed, start the member again";
            return Err(Fatal::Engine(what.to_owned()));
        }
        if self.retired {
            let what = "this engine was replaced by an installed snapshot";
            return Err(Fatal::Engine(what.to_owned()));
        }
        Ok(())
    }
}

impl<F: Files> Rewrite<F> {
    pub(super) fn new(files: F) -> Self {
        Self {
            files: ArcSwap::from_pointee(files),
            record: Mutex::default(),
            emptied: Condvar::new(),
            defragmenting: Mutex::new(()),
        }
    }

    /// Makes the engine the one that the next open finds.
    pub(super) fn promote(&self) -> Result<(), Fatal> {
        self.files.load().promote()
    }

    fn copy(&self, new: &F) -> Result<(), Fatal> {
        let mut cursor = Cursor::default();
        loop {
            let (batches, view) = {
                let mut record = self.record.lock();
                record.check()?;
                (self.take(&mut record), self.files.load_full().view()?)
            };
            replay(new, &batches, &cursor)?;
            let Some((bucket, pairs)) = cursor.next(view.as_ref(), SLICE_BYTES)? else {
                return Ok(());
            };
            new.write(&puts((bucket, pairs)))?;
        }
    }

    fn take(&self, record: &mut Record) -> Vec<Vec<Change>> {
        record.bytes = 0;
        self.emptied.notify_all();
        std::mem::take(&mut record.batches)
    }

    /// Brings the copy up to date and puts it in the place of the engine.
    fn switch(&self, new: F) -> Result<(), Fatal> {
        for _ in 0..REPLAYS_MAX {
            let batches = {
                let mut record = self.record.lock();
                if record.bytes <= REMAINDER_BYTES {
                    break;
                }
                self.take(&mut record)
            };
            replay_all(&new, &batches)?;
        }
        let mut record = self.record.lock();
        record.check()?;
        let batches = self.take(&mut record);
        replay_all(&new, &batches)?;
        new.promote().inspect_err(|_| record.torn = true)?;
        let old = self.files.swap(Arc::new(new));
        // Closing the old files takes time that no writer should wait for.
        drop(record);
        drop(old);
        Ok(())
    }

    /// Waits until the record has room.
    fn room(&self) -> MutexGuard<'_, Record> {
        let mut record = self.record.lock();
        while record.running && record.bytes >= RECORD_BYTES_MAX {
            self.emptied.wait(&mut record);
        }
        record
    }
}

impl<F: Files> Backend for Rewrite<F> {
    fn write(&self, changes: &[Change]) -> Result<(), Fatal> {
        let mut record = self.room();
        record.check()?;
        self.files.load().write(changes)?;
        if record.running {
            record.bytes += changes.iter().map(Change::bytes).sum::<usize>();
            record.batches.push(changes.to_vec());
        }
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, Fatal> {
        self.files.load_full().view()
    }

    fn sizes(&self) -> Sizes {
        self.files.load().sizes()
    }

    fn defragment(&self) -> Result<(), Fatal> {
        let _one_at_a_time = self.defragmenting.lock();
        let new = self.files.load().create_beside()?;
        {
            let mut record = self.record.lock();
            record.check()?;
            record.running = true;
        }
        let copied = self.copy(&new).and_then(|()| self.switch(new));
        let mut record = self.record.lock();
        record.running = false;
        self.take(&mut record);
        copied
    }

    fn retire(&self) {
        let mut record = self.record.lock();
        record.retired = true;
        self.take(&mut record);
        drop(record);
        // A defragmentation that runs sees it after its slice and gives up.
        drop(self.defragmenting.lock());
    }
}

fn puts((bucket, pairs): Slice) -> Vec<Change> {
    let put = |(key, value)| Change::Put(bucket, key, value);
    pairs.into_iter().map(put).collect()
}

/// Makes the part of the batches that the copy has passed.
fn replay<F: Files>(new: &F, batches: &[Vec<Change>], cursor: &Cursor) -> Result<(), Fatal> {
    let passed: Vec<Change> = batches
        .iter()
        .flatten()
        .filter(|change| {
            let (bucket, key) = change.key();
            cursor.has_passed(bucket, key)
        })
        .cloned()
        .collect();
    if passed.is_empty() {
        Ok(())
    } else {
        new.write(&passed)
    }
}

fn replay_all<F: Files>(new: &F, batches: &[Vec<Change>]) -> Result<(), Fatal> {
    let all = batches.concat();
    if all.is_empty() {
        Ok(())
    } else {
        new.write(&all)
    }
}
