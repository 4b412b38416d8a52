//! Reading the records of an engine into an index.
//!
//! The records lie in the order of their revisions, and that is the order in which the index and the leases take them. What costs is
//! to get them out of the engine: of many records, threads read chunks ahead, in turn, and one takes what they found in order.

use std::{
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use catena_api::KeyValueHead;

use crate::{
    Fatal,
    backend::{Bucket, View, Visit},
    lease::Attachments,
    mvcc::{Gathered, Index, Item, Revision},
};

/// Main revisions in a chunk, at least.
const CHUNK_REVISIONS_MIN: i64 = 1 << 14;

/// Chunks, at most, whatever revision a file claims.
const CHUNKS_MAX: i64 = 1 << 12;

/// Chunks from which on it is worth while to start threads.
const CHUNKS_FOR_THREADS: i64 = 8;

/// Threads, at most: beyond, the one that takes what they find is the slowest.
const THREADS_MAX: usize = 4;

/// What the records come to.
pub(crate) struct Replayed {
    pub(crate) index: Index,
    /// The last revision; 0 if there is no record.
    pub(crate) last: i64,
    /// The lease of each live key that has one.
    pub(crate) attachments: Attachments,
}

/// Reads all records.
pub(crate) fn replay(view: &dyn View) -> Result<Replayed, Fatal> {
    let chunks = Chunks::up_to(newest(view)?);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = match chunks.count {
        CHUNKS_FOR_THREADS.. => cores.min(THREADS_MAX),
        _ => 1,
    };
    replay_by(view, chunks, threads)
}

fn replay_by(view: &dyn View, chunks: Chunks, threads: usize) -> Result<Replayed, Fatal> {
    let mut replay = Replay::default();
    if threads > 1 {
        replay.take_from_threads(view, chunks, threads)?;
    } else {
        for number in 0..chunks.count {
            replay.take(Chunk::read(view, chunks, number)?);
        }
    }
    Ok(Replayed {
        index: replay.gathered.into_index(),
        last: replay.last,
        attachments: replay.attachments,
    })
}

/// The greatest main revision that a record has, or 0. A negative one, which no store writes, counts for nothing here.
fn newest(view: &dyn View) -> Result<i64, Fatal> {
    let positive_to = [0x80];
    let (mut reached, mut beyond) = (0, i64::MAX);
    while reached + 1 < beyond {
        let middle = reached.midpoint(beyond);
        let from = Revision::first(middle).key(false);
        let mut found = false;
        view.scan(Bucket::Key, &from, Some(&positive_to), &mut |_, _| {
            found = true;
            Visit::Stop
        })?;
        match found {
            true => reached = middle,
            false => beyond = middle,
        }
    }
    Ok(reached)
}

/// How the records are cut.
#[derive(Clone, Copy, Debug)]
struct Chunks {
    count: i64,
    /// Main revisions in each.
    revisions: i64,
}

impl Chunks {
    fn up_to(newest: i64) -> Self {
        let revisions = CHUNK_REVISIONS_MIN.max(newest / CHUNKS_MAX + 1);
        Self {
            count: newest / revisions + 1,
            revisions,
        }
    }

    /// Where the records of a chunk begin.
    fn start(self, number: i64) -> Vec<u8> {
        match number {
            0 => Vec::new(),
            _ => Revision::first(number * self.revisions).key(false).to_vec(),
        }
    }

    /// Where they end; nowhere for the last one.
    fn end(self, number: i64) -> Option<Vec<u8>> {
        (number + 1 < self.count).then(|| self.start(number + 1))
    }
}

/// What records say of keys, without values.
#[derive(Default)]
struct Chunk {
    /// One behind the other.
    keys: Vec<u8>,
    notes: Vec<Note>,
    /// The last revision, also of a record that says nothing; none without records.
    last: Option<i64>,
}

struct Note {
    /// Where its key ends.
    end: usize,
    item: Item,
    lease: i64,
}

impl Chunk {
    fn read(view: &dyn View, chunks: Chunks, number: i64) -> Result<Self, Fatal> {
        let mut chunk = Self::default();
        let mut refused = None;
        view.scan(
            Bucket::Key,
            &chunks.start(number),
            chunks.end(number).as_deref(),
            &mut |key, value| match chunk.note(key, value) {
                Some(()) => Visit::Continue,
                None => {
                    refused = Some(Fatal::key(Bucket::Key, key));
                    Visit::Stop
                }
            },
        )?;
        refused.map_or(Ok(chunk), Err)
    }

    /// Notes a record; `None` if its key is malformed.
    fn note(&mut self, record_key: &[u8], value: &[u8]) -> Option<()> {
        let (revision, tombstone) = Revision::parse(record_key)?;
        self.last = Some(revision.main);
        let pair = KeyValueHead::of(value);
        // An empty record does nothing but raise the revision; restored snapshots of etcd may have one.
        if pair.key.is_empty() {
            return Some(());
        }
        self.keys.extend_from_slice(pair.key);
        self.notes.push(Note {
            end: self.keys.len(),
            item: Item {
                main: revision.main,
                create: if tombstone { 0 } else { pair.create_revision },
                version: if tombstone { 0 } else { pair.version },
                sub: u32::try_from(revision.sub).ok()?,
            },
            lease: pair.lease,
        });
        Some(())
    }
}

/// What the records come to so far.
#[derive(Default)]
struct Replay {
    gathered: Gathered,
    last: i64,
    attachments: Attachments,
}

impl Replay {
    fn take(&mut self, chunk: Chunk) {
        let mut start = 0;
        for note in &chunk.notes {
            let key = &chunk.keys[start..note.end];
            start = note.end;
            self.gathered.add(key, note.item);
            match note.lease {
                0 if self.attachments.is_empty() => {}
                0 => drop(self.attachments.remove(key)),
                lease => drop(
                    self.gathered
                        .key(key)
                        .map(|key| self.attachments.insert(key, lease)),
                ),
            }
        }
        self.last = chunk.last.unwrap_or(self.last);
    }

    /// Takes chunks that threads read, each of them every so many-th.
    fn take_from_threads(
        &mut self,
        view: &dyn View,
        chunks: Chunks,
        threads: usize,
    ) -> Result<(), Fatal> {
        thread::scope(|scope| {
            let feeds: Vec<Receiver<Result<Chunk, Fatal>>> = (0..threads)
                .map(|thread| {
                    // One is ready when the one before was taken; more would be memory for nothing.
                    let (feed, found) = sync_channel(1);
                    scope.spawn(move || {
                        for number in (0..chunks.count).skip(thread).step_by(threads) {
                            let read = Chunk::read(view, chunks, number);
                            if feed.send(read).is_err() {
                                break;
                            }
                        }
                    });
                    found
                })
                .collect();
            let in_turn = feeds.iter().cycle().take(chunks.count as usize);
            // A thread that is gone has panicked, and the scope ends with that.
            for found in in_turn.map_while(|feed| feed.recv().ok()) {
                self.take(found?);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use catena_api::{KeyValue, KeyValueView};
    use proptest::prelude::*;

    use super::*;

    /// An engine that holds nothing but records.
    #[derive(Debug, Default)]
    struct Records(BTreeMap<Bytes, Bytes>);

    impl View for Records {
        fn get(&self, _: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
            Ok(self.0.get(key).cloned())
        }

        fn scan(
            &self,
            _: Bucket,
            from: &[u8],
            to: Option<&[u8]>,
            visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
        ) -> Result<(), Fatal> {
            let behind = self.0.range(Bytes::copy_from_slice(from)..);
            let wanted = behind.take_while(|(key, _)| to.is_none_or(|to| &key[..] < to));
            for (key, value) in wanted {
                if visit(key, value) == Visit::Stop {
                    break;
                }
            }
            Ok(())
        }
    }

    impl Records {
        fn add(&mut self, revision: Revision, key: &'static str, lease: i64) {
            let value = KeyValueView {
                key: key.into(),
                create_revision: revision.main,
                mod_revision: revision.main,
                version: 1,
                lease,
                ..KeyValueView::default()
            };
            let value = value.encode().as_encoded().clone();
            self.0.insert(revision.key(false).to_bytes(), value);
        }

        fn delete(&mut self, revision: Revision, key: &'static str) {
            let value = KeyValue::tombstone(key.into()).as_encoded().clone();
            self.0.insert(revision.key(true).to_bytes(), value);
        }
    }

    const KEYS: [&str; 4] = ["a", "b", "c", "d"];

    fn records() -> impl Strategy<Value = Records> {
        let change = (0..6_i64, 0..KEYS.len(), 0..8_i64);
        prop::collection::vec(change, 0..60).prop_map(|changes| {
            let mut records = Records::default();
            let mut at = Revision { main: 1, sub: 0 };
            for (step, key, kind) in changes {
                at = match step {
                    0 => Revision {
                        sub: at.sub + 1,
                        ..at
                    },
                    _ => Revision::first(at.main + step),
                };
                match kind {
                    0 => records.delete(at, KEYS[key]),
                    // An empty record.
                    1 => drop(records.0.insert(at.key(false).to_bytes(), Bytes::new())),
                    lease => records.add(at, KEYS[key], lease % 4),
                }
            }
            records
        })
    }

    /// All that can be asked of what was read.
    fn picture(replayed: &Replayed) -> impl PartialEq + std::fmt::Debug + use<> {
        let histories = KEYS.map(|key| {
            let history = replayed.index.history(key.as_bytes())?;
            let items: Vec<_> = (0..=replayed.last).map(|main| history.at(main)).collect();
            Some(items)
        });
        let leases = KEYS.map(|key| replayed.attachments.get(key.as_bytes()).copied());
        (replayed.last, histories, leases)
    }

    proptest! {
        #[test]
        fn chunks_and_threads_make_no_difference(records in records(), revisions in 1..9_i64) {
            let newest = newest(&records).unwrap();
            let whole = Chunks { count: 1, revisions: i64::MAX };
            let expected = picture(&replay_by(&records, whole, 1).unwrap());
            let chunks = Chunks { count: newest / revisions + 1, revisions };
            for threads in [1, 2, 3] {
                let replayed = replay_by(&records, chunks, threads).unwrap();
                prop_assert_eq!(&picture(&replayed), &expected, "{} threads", threads);
            }
        }
    }

    #[test]
    fn the_newest_revision_is_found() {
        for main in [1, 2, 3, 1000, 1 << 40, i64::MAX - 1] {
            let mut records = Records::default();
            assert_eq!(newest(&records).unwrap(), 0);
            records.add(Revision { main: 1, sub: 0 }, "a", 0);
            records.add(Revision { main, sub: 7 }, "b", 0);
            assert_eq!(newest(&records).unwrap(), main);
        }
    }

    #[test]
    fn what_a_file_claims_costs_no_more_than_what_it_holds() {
        for main in [i64::MAX, i64::MAX - 1, -1, i64::MIN] {
            let mut records = Records::default();
            records.add(Revision::first(2), "a", 3);
            records.add(Revision::first(main), "b", 0);
            let replayed = replay(&records).unwrap();
            assert_eq!(replayed.last, main);
            assert!(replayed.index.history(b"a").is_some());
            assert!(replayed.index.history(b"b").is_some());
        }
    }

    #[test]
    fn the_first_malformed_record_is_named_whoever_reads_it() {
        let mut records = Records::default();
        for main in 1..100 {
            records.add(Revision::first(main), "a", 0);
        }
        for main in [40_i64, 70, 90] {
            let key = [&main.to_be_bytes()[..], b"?"].concat();
            records.0.insert(key.into(), Bytes::new());
        }
        let chunks = Chunks {
            count: 20,
            revisions: 5,
        };
        let expected = Fatal::key(Bucket::Key, &[&40_i64.to_be_bytes()[..], b"?"].concat());
        for threads in [1, 2, 3] {
            let refused = replay_by(&records, chunks, threads).err().unwrap();
            assert_eq!(refused.to_string(), expected.to_string());
        }
    }
}
