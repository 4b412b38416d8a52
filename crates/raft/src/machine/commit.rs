//! The way of applied state into the engine: one task that owns all writing to it.

use std::{io, sync::Arc, time::Duration};

use catena_store::{Fatal, Sealed, Store};
use tokio::sync::{mpsc, oneshot};

use super::{Machine, log_id, position, snapshot::Ready, stored_membership};
use crate::{
    Stop,
    blocking::{blocking, timeout},
    types::{LogId, StoredMembership},
    wire::BadBytes,
};

/// How long what was applied may wait for more, as etcd's backend-batch-interval.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes applied after which a batch is committed without waiting: a fraction of what apply may be ahead.
const COMMIT_BYTES: usize = 8 << 20;

/// What the engine holds after its last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durable {
    /// The last entry in it.
    pub(crate) last: Option<LogId>,
    /// The membership at that entry.
    pub(crate) membership: StoredMembership,
}

impl Durable {
    /// What a store has applied: what will be durable when it is committed.
    pub(super) fn of(store: &Store) -> Result<Self, BadBytes> {
        Ok(Self {
            last: store.applied().map(log_id),
            membership: stored_membership(store.membership())?,
        })
    }
}

/// A request to the committing task.
pub(crate) enum Work {
    /// Commit all that is applied now.
    Flush {
        /// Answered when it is durable.
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Put a received snapshot in the place of the engine.
    Install {
        /// The new state and its engine.
        ready: Box<Ready>,
        /// Answered when readers see it.
        done: oneshot::Sender<io::Result<()>>,
    },
    /// Commit what is applied and end.
    Close {
        /// Answered at the end.
        done: oneshot::Sender<io::Result<()>>,
    },
}

/// Commits what is applied, soon; compacts in between; does what is asked.
pub(super) async fn run(machine: Arc<Machine>, mut queue: mpsc::Receiver<Work>) {
    loop {
        tokio::select! {
            biased;
            work = queue.recv() => match work {
                Some(Work::Flush { done }) => answer(done, machine.commit().await),
                Some(Work::Install { ready, done }) => {
                    answer(done, machine.swap(*ready).await);
                }
                Some(Work::Close { done }) => return answer(done, machine.commit().await),
                None => return,
            },
            () = machine.applied.notified() => machine.commit_soon(&queue).await,
        }
    }
}

fn answer(done: oneshot::Sender<io::Result<()>>, result: io::Result<()>) {
    // Who asked may have gone, at shutdown.
    let _gone = done.send(result);
}

impl Machine {
    /// Lets a batch grow for a while, then commits it. Errors stop the member.
    async fn commit_soon(&self, queue: &mpsc::Receiver<Work>) {
        let clock = self.runtime.clock.as_ref();
        let deadline = clock.now() + COMMIT_INTERVAL;
        while self.store.lock().unsealed_bytes() < COMMIT_BYTES && queue.is_empty() {
            let left = deadline.saturating_sub(clock.now());
            if left.is_zero()
                || timeout(clock, left, self.applied.notified())
                    .await
                    .is_none()
            {
                break;
            }
        }
        if self.commit().await.is_err() {
            return;
        }
        self.compact(queue).await;
    }

    /// Compacts slice by slice, as long as nobody asks for anything.
    async fn compact(&self, queue: &mpsc::Receiver<Work>) {
        let clock = self.runtime.clock.as_ref();
        let mut commit_at = clock.now() + COMMIT_INTERVAL;
        loop {
            let more = self.store.lock().maintain();
            let more = match more {
                Ok(more) => more,
                Err(fatal) => {
                    self.engine_broken(&fatal);
                    return;
                }
            };
            if !more {
                // What the last slices dropped, and the mark that they are done: somebody may wait for that, and no write may follow.
                // An error stops the member, and is told by that.
                let _member_stops = self.commit().await;
                return;
            }
            if self.store.lock().unsealed_bytes() >= COMMIT_BYTES || commit_at <= clock.now() {
                if self.commit().await.is_err() {
                    return;
                }
                commit_at = clock.now() + COMMIT_INTERVAL;
            }
            if !queue.is_empty() {
                // There is more: come back after what was asked for.
                self.applied.notify_one();
                return;
            }
            match self.compaction_pause.is_zero() {
                true => tokio::task::yield_now().await,
                false => clock.sleep(self.compaction_pause).await,
            }
        }
    }

    /// Seals what is applied, waits until the log before it is durable, and commits it.
    async fn commit(&self) -> io::Result<()> {
        let (sealed, durable) = {
            let mut store = self.store.lock();
            let sealed = store.seal();
            (sealed, Durable::of(&store))
        };
        let durable = durable.map_err(|error| self.bad_membership(&error))?;
        let Some(sealed) = sealed else {
            return Ok(());
        };
        if let Err(error) = self.wal.sync().await {
            // An apply that waits for room must not wait for ever.
            self.stop.set(Stop::wal(&error));
            self.room.notify_waiters();
            return Err(io::Error::other(error));
        }
        self.write(sealed, durable.last.as_ref()).await?;
        self.durable.send_replace(durable);
        self.room.notify_waiters();
        Ok(())
    }

    async fn write(&self, sealed: Sealed, last: Option<&LogId>) -> io::Result<()> {
        let committer = self.store.lock().committer();
        let clock = &self.runtime.clock;
        let began = clock.now();
        blocking(&self.runtime, "commit", move || committer.commit(sealed))
            .await
            .map_err(|fatal| self.engine_broken(&fatal))?;
        let took = clock.now().saturating_sub(began);
        self.observer.engine_committed(took, last.map(position));
        Ok(())
    }

    /// Puts a received snapshot in the place of the engine.
    async fn swap(self: &Arc<Self>, ready: Ready) -> io::Result<()> {
        self.wal.sync().await.map_err(io::Error::other)?;
        let machine = self.clone();
        let replaced = blocking(&self.runtime, "install snapshot", move || {
            let old = machine.backend.lock().clone();
            *machine.backend.lock() = ready.staged.replace(old.as_ref())?;
            let replaced = machine.store.lock().install(ready.prepared);
            // Here, where it holds up nobody.
            drop(replaced);
            Ok::<(), Fatal>(())
        });
        replaced.await.map_err(|fatal| self.engine_broken(&fatal))?;
        let durable = Durable::of(&self.store.lock());
        let durable = durable.map_err(|error| self.bad_membership(&error))?;
        if let Some(last) = durable.last {
            self.meter.lock().installed(last.index);
        }
        self.durable.send_replace(durable);
        self.room.notify_waiters();
        self.update_addresses();
        self.notice_removal();
        Ok(())
    }

    /// Commits what is applied and ends the committing task.
    pub(crate) async fn close(&self) -> io::Result<()> {
        let (done, closed) = oneshot::channel();
        self.ask(Work::Close { done }, closed).await
    }
}
