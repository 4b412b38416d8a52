//! What the handles and the writer share.

use catena_runtime::watch;
use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::{Error, Record, cache::Cache, index::Index, view::View};

pub(crate) type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// One append that waits for the writer. Without records it is a barrier.
pub(crate) struct Pending {
    pub(crate) sequence: u64,
    pub(crate) records: Vec<Record>,
    /// Upper bound of what the records take in a file.
    pub(crate) bytes: usize,
    /// What it holds of the queue's room.
    pub(crate) permits: usize,
    pub(crate) done: Done,
}

/// What handles and writer share. The writer's index lags behind the view by what is queued; the cache holds the difference.
pub(crate) struct State {
    pub(crate) view: View,
    pub(crate) index: Index,
    /// Sequence number of the last append that is durable.
    pub(crate) durable: u64,
    pub(crate) cache: Cache,
    queue: VecDeque<Pending>,
    /// Sequence number of the last append.
    pub(crate) appended: u64,
    closing: bool,
    failed: Option<Error>,
}

pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    wake: Notify,
    /// Bytes that may still be queued.
    pub(crate) room: Semaphore,
    /// Bytes that may be queued in all.
    pub(crate) queue_bytes: usize,
    /// Why nothing is written any more.
    pub(crate) ended: watch::Sender<Option<Error>>,
}

impl Shared {
    /// What an opened log starts with.
    pub(crate) fn new(view: View, index: Index, cache: Cache, queue_bytes: usize) -> Self {
        let queue_bytes = queue_bytes
            .min(Semaphore::MAX_PERMITS)
            .min(u32::MAX as usize);
        Self {
            state: Mutex::new(State {
                view,
                index,
                durable: 0,
                cache,
                queue: VecDeque::new(),
                appended: 0,
                closing: false,
                failed: None,
            }),
            wake: Notify::new(),
            room: Semaphore::new(queue_bytes),
            queue_bytes,
            ended: watch::Sender::new(None),
        }
    }

    /// Takes nothing more; the writer ends when nothing waits.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_one();
    }

    /// There is something to write.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for something to write, or for the end; whether the log is closed.
    pub(crate) async fn called(&self) -> bool {
        loop {
            {
                let state = self.state.lock();
                if state.closing || state.failed.is_some() || !state.queue.is_empty() {
                    return state.closing;
                }
            }
            self.wake.notified().await;
        }
    }

    /// The next appends to write, about `bytes_max`, if any are queued.
    pub(crate) fn next(&self, bytes_max: usize) -> Option<Vec<Pending>> {
        let mut state = self.state.lock();
        let mut bytes = 0;
        let fits = state.queue.iter().take_while(|append| {
            let fits = bytes == 0 || bytes + append.bytes <= bytes_max;
            bytes += append.bytes;
            fits
        });
        let count = fits.count();
        (count > 0).then(|| state.queue.drain(..count).collect())
    }

    /// The appends up to `sequence`, which held `permits`, are in the file.
    pub(crate) fn written(&self, sequence: u64, permits: usize, change: impl FnOnce(&mut Index)) {
        let mut state = self.state.lock();
        change(&mut state.index);
        state.cache.evict(sequence);
        drop(state);
        self.room.add_permits(permits);
    }

    /// The log failed and takes nothing any more; gives the callbacks of those who wait.
    pub(crate) fn refuse(&self, error: Error) -> impl Iterator<Item = Done> + use<> {
        let mut state = self.state.lock();
        state.failed = Some(error);
        let queued = std::mem::take(&mut state.queue);
        drop(state);
        self.room.close();
        queued.into_iter().map(|append| append.done)
    }

    /// Nothing is written any more, for this reason.
    pub(crate) fn end(&self, reason: Error) {
        self.state.lock().failed.get_or_insert(reason.clone());
        self.room.close();
        self.ended.send_replace(Some(reason));
        // The writer's thread, if the log ended in the hands of a caller.
        self.wake.notify_one();
    }
}

impl State {
    /// Whether something may be appended.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        match &self.failed {
            Some(error) => Err(error.clone()),
            None if self.closing => Err(Error::Closed),
            None => Ok(()),
        }
    }

    /// Appends that nobody has written yet.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Lets all see the records and the writer write them; nothing of it if one of them is refused.
    pub(crate) fn enqueue(
        &mut self,
        records: Vec<Record>,
        (bytes, permits): (usize, usize),
        done: Done,
    ) -> Result<(), Error> {
        let mut view = self.view.clone();
        for record in &records {
            view.apply(record)?;
        }
        self.view = view;
        self.appended += 1;
        for record in &records {
            match record {
                Record::Entry { index, data } => {
                    self.cache.push(*index, data.clone(), self.appended);
                }
                Record::Truncate { keep_to } => self.cache.truncate(*keep_to),
                Record::Purge { upto, .. } => self.cache.purge(*upto),
                Record::Vote(_) | Record::Commit(_) => {}
            }
        }
        self.queue.push_back(Pending {
            sequence: self.appended,
            records,
            bytes,
            permits,
            done,
        });
        Ok(())
    }
}
