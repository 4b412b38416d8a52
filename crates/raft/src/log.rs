//! The log, bound to [`catena_wal`].
//!
//! All that openraft writes goes into one ordered stream of records, so an entry is never durable without the vote and the
//! truncation before it. What openraft awaits inline is a vote, which is synced before it counts; an append returns as soon as the
//! entries can be read and calls back when they are durable.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use bytes::Bytes;
use catena_runtime::Runtime;
use catena_wal::{Error, Record, Wal};
use futures_util::{Stream, stream};
use openraft::{
    LogState, RaftLogReader, entry::RaftEntry, storage::IOFlushed, storage::RaftLogStorage,
};
use tokio::sync::oneshot;

use crate::{
    Ballot, Observer,
    blocking::blocking,
    pace::{Pace, Past},
    sole::Sole,
    types::{Entry, LogId, Types, Vote},
    wire::{self, decode_entry, encode_entry},
};

/// Bytes of entries that one request to a follower carries, as etcd's `maxSizePerMsg`; a larger entry goes alone.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Entries for which consensus waits itself, at most.
const HERE_BYTES_MAX: usize = 64 << 10;

/// Bytes of entries that are read ahead for apply: a follower that catches up reads its whole log through this window.
const APPLY_BYTES_MAX: usize = 1 << 20;

/// The log of a member; all handles see the same.
#[derive(Clone)]
pub(crate) struct Log {
    runtime: Runtime,
    wal: Wal,
    sole: Arc<Sole>,
    pace: Arc<Pace>,
    /// What this handle reads for a member that is far behind.
    past: Past,
    observer: Arc<dyn Observer>,
}

impl Log {
    pub(crate) fn new(
        runtime: Runtime,
        wal: Wal,
        sole: Arc<Sole>,
        pace: Arc<Pace>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let past = pace.log();
        Self {
            runtime,
            wal,
            sole,
            pace,
            past,
            observer,
        }
    }

    /// Reads entries of `[from, to)`, at least one and about `bytes_max`; none if the first one is not there.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        decoded(self.read_records(from, to, bytes_max).await?)
    }

    /// The same, not decoded.
    async fn read_records(
        &self,
        from: u64,
        to: u64,
        bytes_max: usize,
    ) -> io::Result<Vec<(u64, Bytes)>> {
        if from >= to {
            return Ok(Vec::new());
        }
        let records = if self.wal.is_cached(from) {
            self.wal.read(from, to, bytes_max)
        } else {
            let wal = self.wal.clone();
            blocking(&self.runtime, "read log", move || {
                wal.read(from, to, bytes_max)
            })
            .await
        };
        records.map_err(failed)
    }

    async fn append_records(
        &self,
        records: Vec<Record>,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> io::Result<()> {
        self.wal.append(records, done).await.map_err(failed)
    }

    /// Whether consensus has nothing better to do than to wait for the disk: nobody else is to be told of the entry, and if more
    /// were asked for at once, there would be more than one. A follower that waited would take a tenth longer for 64 clients, whose
    /// next entries come meanwhile.
    fn has_time_for(&self, bytes: usize) -> bool {
        self.sole.is() && bytes <= HERE_BYTES_MAX
    }

    /// Appends records that nobody waits for: a failure reaches every later append.
    async fn append_unawaited(&self, record: Record) -> io::Result<()> {
        self.append_records(vec![record], |_sticky| {}).await
    }

    fn purged(&self) -> io::Result<Option<LogId>> {
        match self.wal.purged() {
            Some((_, mark)) => Ok(Some(wire::decode(&mark)?)),
            None => Ok(None),
        }
    }
}

fn failed(error: Error) -> io::Error {
    io::Error::other(error)
}

fn decoded(records: Vec<(u64, Bytes)>) -> io::Result<Vec<Entry>> {
    let entries = records.into_iter();
    entries
        .map(|(index, data)| Ok(decode_entry(index, data)?))
        .collect()
}

/// The range as `[from, to)`, cut to what the log holds.
fn bounds(range: &impl RangeBounds<u64>, last: Option<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(&from) => from,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&to) => to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to.min(last.map_or(0, |last| last.saturating_add(1))))
}

impl<C: Types> RaftLogReader<C> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        let (first, last) = self.wal.bounds();
        let (from, to) = bounds(&range, last);
        let mut from = from.max(first.unwrap_or(from));
        let mut entries = Vec::new();
        while from < to {
            let chunk = self.read(from, to, usize::MAX).await?;
            if chunk.is_empty() {
                break;
            }
            from += chunk.len() as u64;
            entries.extend(chunk);
        }
        Ok(entries)
    }

    /// For replication alone, which has a handle for each member: who is far behind waits here for more.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        if self.wal.is_cached(start) {
            return self.read(start, end, REQUEST_BYTES_MAX).await;
        }
        self.past.wait().await;
        let records = self.read_records(start, end, REQUEST_BYTES_MAX).await?;
        self.past
            .goes(records.iter().map(|(_, data)| data.len()).sum());
        decoded(records)
    }

    async fn entries_stream<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = io::Result<Entry>> + Send {
        let (_, last) = self.wal.bounds();
        let (from, to) = bounds(&range, last);
        let log = self.clone();
        let ahead = Vec::new().into_iter();
        stream::try_unfold(
            (log, from, ahead),
            move |(log, from, mut ahead)| async move {
                let entry: Entry = match ahead.next() {
                    Some(entry) => entry,
                    None if from >= to => return Ok(None),
                    None => {
                        ahead = log.read(from, to, APPLY_BYTES_MAX).await?.into_iter();
                        ahead.next().ok_or_else(|| {
                            io::Error::new(
                                io::ErrorKind::InvalidData,
                                format!("entry {from} is missing in the log"),
                            )
                        })?
                    }
                };
                Ok(Some((entry, (log, from + 1, ahead))))
            },
        )
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        match self.wal.vote() {
            Some(vote) => Ok(Some(wire::decode(&vote)?)),
            None => Ok(None),
        }
    }
}

impl<C: Types> RaftLogStorage<C> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<C>> {
        let purged = self.purged()?;
        let last = match self.wal.bounds().1 {
            Some(last) => self
                .read(last, last + 1, 0)
                .await?
                .first()
                .map(RaftEntry::log_id),
            None => None,
        };
        Ok(LogState {
            last_purged_log_id: purged,
            last_log_id: last.or(purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (done, synced) = oneshot::channel();
        let record = Record::Vote(wire::encode(vote));
        self.append_records(vec![record], |result| {
            // The receiver is gone only if openraft dropped this future, as at shutdown.
            let _shutting_down = done.send(result);
        })
        .await?;
        synced.await.unwrap_or(Err(Error::Closed)).map_err(failed)?;
        self.observer.voted(Ballot::of(vote));
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mark = match committed {
            Some(committed) => wire::encode(&committed),
            None => Bytes::new(),
        };
        self.append_unawaited(Record::Commit(mark)).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        match self.wal.commit() {
            Some(mark) if !mark.is_empty() => Ok(Some(wire::decode(&mark)?)),
            _ => Ok(None),
        }
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<C>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut bytes = 0;
        let records: Vec<Record> = entries
            .into_iter()
            .inspect(|entry| self.sole.appending(entry))
            .map(|entry| {
                let data = encode_entry(&entry);
                bytes += data.len();
                let index = entry.log_id.index;
                Record::Entry { index, data }
            })
            .collect();
        self.pace.wrote(bytes);
        let done = |result: Result<_, _>| callback.io_completed(result.map_err(failed));
        if self.has_time_for(bytes) {
            let appended = self.wal.append_here(records, done).await;
            return appended.map_err(failed);
        }
        self.append_records(records, done).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let keep_to = last.map(|last| last.index);
        self.append_unawaited(Record::Truncate { keep_to }).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.append_unawaited(Record::Purge {
            upto: upto.index,
            mark: wire::encode(&upto),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use catena_runtime::Clock;
    use openraft::entry::RaftPayload;

    use super::*;
    use crate::{
        observer::Blind,
        pace::tests::Sleepers,
        types::{CommittedLeaderId, Payload, Prod},
    };

    /// How long a follower waits for its second part of the log, while as much is written as fills a disk.
    async fn waits(cache_bytes: usize) -> Duration {
        let clock = Arc::new(Sleepers::default());
        let runtime = Runtime {
            clock: clock.clone(),
            ..Runtime::system()
        };
        let dir = tempfile::tempdir().unwrap();
        let options = catena_wal::Options {
            cache_bytes,
            ..Default::default()
        };
        let (wal, _) = Wal::open(&runtime, dir.path(), options).unwrap();
        let entry = |index| Entry {
            log_id: LogId::new(CommittedLeaderId::new(1), index),
            payload: Payload::blank(),
        };
        let records = (0..10).map(|index| Record::Entry {
            index,
            data: encode_entry(&entry(index)),
        });
        wal.write(records.collect()).await.unwrap();
        let pace = Arc::new(Pace::new(clock.clone(), 1000, 256 << 20));
        let sole = Arc::new(Sole::new(1));
        let mut log = Log::new(runtime, wal, sole, pace.clone(), Arc::new(Blind));
        clock.sleep(Duration::from_secs(1)).await;
        pace.wrote(1000);
        let began = clock.now();
        for from in [0, 5] {
            let read = RaftLogReader::<Prod>::limited_get_log_entries(&mut log, from, from + 5);
            assert_eq!(read.await.unwrap().len(), 5);
        }
        clock.now() - began
    }

    #[tokio::test]
    async fn only_the_past_is_held_back() {
        assert_eq!(waits(1 << 20).await, Duration::ZERO);
        assert!(waits(0).await > Duration::ZERO);
    }
}
