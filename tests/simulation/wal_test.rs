//! The log under crashes: what it was told to be durable is there, and what is there is a prefix of what was appended.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::Runtime;
use catena_wal::{Error, Options, Record, Wal};

use crate::{
    Case,
    disk::Crash,
    world::{self, Chance, Machine, with_seeds},
};

/// What is proven here.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "wal::crashes_keep_what_was_durable_and_nothing_but_a_prefix",
            crashes_keep_what_was_durable_and_nothing_but_a_prefix,
        ),
        (
            "wal::a_crash_during_a_start_loses_nothing",
            a_crash_during_a_start_loses_nothing,
        ),
        (
            "wal::nothing_is_durable_that_a_failed_sync_left_behind",
            nothing_is_durable_that_a_failed_sync_left_behind,
        ),
        (
            "wal::a_full_disk_stops_the_log_and_room_brings_it_back",
            a_full_disk_stops_the_log_and_room_brings_it_back,
        ),
        (
            "wal::a_flipped_bit_is_refused_or_harmless",
            a_flipped_bit_is_refused_or_harmless,
        ),
    ]
}

fn dir() -> &'static Path {
    Path::new("/member/wal")
}

fn open(runtime: &Runtime) -> Result<Wal, Error> {
    let options = Options {
        segment_bytes: 4 << 10,
        cache_bytes: 2 << 10,
        queue_bytes: 16 << 10,
        observer: None,
    };
    Wal::open(runtime, dir(), options).map(|(wal, _)| wal)
}

/// What a prefix of the stream amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    entries: Vec<(u64, Bytes)>,
    purged: Option<u64>,
    vote: Option<Bytes>,
    commit: Option<Bytes>,
}

impl State {
    fn apply(&mut self, record: &Record) {
        match record {
            Record::Entry { index, data } => self.entries.push((*index, data.clone())),
            Record::Truncate { keep_to } => {
                self.entries
                    .retain(|(index, _)| keep_to.is_some_and(|keep_to| *index <= keep_to));
            }
            Record::Purge { upto, .. } => {
                self.purged = self.purged.max(Some(*upto));
                self.entries.retain(|(index, _)| index > upto);
            }
            Record::Vote(vote) => self.vote = Some(vote.clone()),
            Record::Commit(commit) => self.commit = Some(commit.clone()),
        }
    }

    fn of(wal: &Wal) -> Self {
        let (first, last) = wal.bounds();
        let mut entries = Vec::new();
        if let (Some(first), Some(last)) = (first, last) {
            while entries.len() as u64 <= last - first {
                let from = first + entries.len() as u64;
                entries.extend(wal.read(from, last + 1, 500).unwrap());
            }
        }
        Self {
            entries,
            purged: wal.purged().map(|(upto, _)| upto),
            vote: wal.vote(),
            commit: wal.commit(),
        }
    }

    fn next(&self) -> u64 {
        let last = self.entries.last().map(|(index, _)| *index);
        last.max(self.purged).map_or(1, |last| last + 1)
    }
}

/// The stream as its caller knows it.
#[derive(Default)]
struct Stream {
    records: Vec<Record>,
    state: State,
    /// Records that were said to be durable.
    durable: Arc<AtomicUsize>,
    numbered: u64,
}

impl Stream {
    /// Some records that fit.
    fn invent(&mut self, chance: &Chance) -> Vec<Record> {
        let mut records = Vec::new();
        for _ in 0..1 + chance.below(4) {
            self.numbered += 1;
            let next = self.state.next();
            let filler = "z".repeat(chance.below(200) as usize);
            let data = Bytes::from(format!("{}{filler}", self.numbered));
            let record = match chance.below(20) {
                0 => Record::Truncate {
                    keep_to: Some(next.saturating_sub(chance.below(10))),
                },
                1 => Record::Purge {
                    upto: next.saturating_sub(chance.below(20)),
                    mark: data,
                },
                2 | 3 => Record::Vote(data),
                4..8 => Record::Commit(data),
                _ => Record::Entry { index: next, data },
            };
            self.state.apply(&record);
            records.push(record);
        }
        self.records.extend_from_slice(&records);
        records
    }

    /// Appends, and notes when it is durable.
    async fn append(&mut self, wal: &Wal, chance: &Chance) -> bool {
        let records = self.invent(chance);
        let (durable, length) = (self.durable.clone(), self.records.len());
        let done = move |result: Result<(), Error>| {
            if result.is_ok() {
                let before = durable.swap(length, Ordering::SeqCst);
                assert!(before < length, "callbacks in order");
            }
        };
        wal.append(records, done).await.is_ok()
    }

    /// Finds the prefix that the log now holds, and goes on from there.
    fn recovered(&mut self, wal: &Wal) {
        let found = State::of(wal);
        let durable = self.durable.load(Ordering::SeqCst);
        let mut state = State::default();
        for record in &self.records[..durable] {
            state.apply(record);
        }
        let mut length = durable;
        while state != found {
            let record = self.records.get(length);
            let record = record.unwrap_or_else(|| panic!("no prefix from {durable} on: {found:?}"));
            state.apply(record);
            length += 1;
        }
        self.records.truncate(length);
        self.state = state;
        self.durable.store(length, Ordering::SeqCst);
    }
}

/// Appends until `end`, with pauses; false if the log failed before.
async fn append_until(stream: &mut Stream, wal: &Wal, chance: &Chance, end: Duration) -> bool {
    while world::now() < end {
        if !stream.append(wal, chance).await {
            return false;
        }
        if chance.once_in(3) {
            world::sleep(chance.micros(2000)).await;
        }
        if chance.once_in(30) && wal.sync().await.is_ok() {
            let durable = stream.durable.load(Ordering::SeqCst);
            assert_eq!(
                durable,
                stream.records.len(),
                "a barrier passes when all is durable"
            );
        }
    }
    true
}

fn crashes_keep_what_was_durable_and_nothing_but_a_prefix() {
    with_seeds(
        "wal::crashes_keep_what_was_durable_and_nothing_but_a_prefix",
        60,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let mut stream = Stream::default();
            for _ in 0..12 {
                let wal = open(&machine.boot()).unwrap();
                stream.recovered(&wal);
                let end = world::now() + chance.micros(60_000);
                append_until(&mut stream, &wal, &chance, end).await;
                machine.crash(*chance.pick(&[Crash::Kill, Crash::Power, Crash::Reordered]));
                let error = wal.write(vec![Record::Vote(Bytes::new())]).await;
                assert!(error.is_err(), "the process is dead");
                world::sleep(Duration::from_millis(10)).await;
            }
        },
    );
}

fn a_crash_during_a_start_loses_nothing() {
    with_seeds(
        "wal::a_crash_during_a_start_loses_nothing",
        60,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let mut stream = Stream::default();
            for _ in 0..10 {
                let wal = open(&machine.boot()).unwrap();
                stream.recovered(&wal);
                let end = world::now() + chance.micros(20_000);
                append_until(&mut stream, &wal, &chance, end).await;
                for _ in 0..3 {
                    machine.crash(*chance.pick(&[Crash::Power, Crash::Reordered]));
                    let wal = open(&machine.boot()).unwrap();
                    stream.recovered(&wal);
                }
                machine.crash(Crash::Power);
            }
        },
    );
}

fn nothing_is_durable_that_a_failed_sync_left_behind() {
    let failed = AtomicUsize::new(0);
    with_seeds(
        "wal::nothing_is_durable_that_a_failed_sync_left_behind",
        60,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let mut stream = Stream::default();
            for _ in 0..6 {
                let wal = open(&machine.boot()).unwrap();
                stream.recovered(&wal);
                machine.drive().fail_sync_after(chance.below(10));
                let end = world::now() + Duration::from_millis(200);
                if !append_until(&mut stream, &wal, &chance, end).await {
                    wal.failed().await;
                    failed.fetch_add(1, Ordering::SeqCst);
                }
                // The process exits and starts again on the same page cache, then the power fails.
                machine.crash(Crash::Kill);
                let wal = open(&machine.boot()).unwrap();
                stream.recovered(&wal);
                machine.crash(Crash::Power);
            }
        },
    );
    assert!(
        failed.load(Ordering::SeqCst) > 0,
        "some runs meet the fault"
    );
}

fn a_full_disk_stops_the_log_and_room_brings_it_back() {
    let failed = AtomicUsize::new(0);
    with_seeds(
        "wal::a_full_disk_stops_the_log_and_room_brings_it_back",
        60,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let mut stream = Stream::default();
            for _ in 0..6 {
                let wal = open(&machine.boot()).unwrap();
                stream.recovered(&wal);
                machine
                    .drive()
                    .set_room(Some(chance.below(10_000) as usize));
                let end = world::now() + Duration::from_millis(200);
                if !append_until(&mut stream, &wal, &chance, end).await {
                    assert!(wal.failed().await.is_storage_full());
                    failed.fetch_add(1, Ordering::SeqCst);
                }
                machine.drive().set_room(None);
                machine.crash(*chance.pick(&[Crash::Kill, Crash::Power]));
            }
        },
    );
    assert!(
        failed.load(Ordering::SeqCst) > 0,
        "some runs meet the fault"
    );
}

fn a_flipped_bit_is_refused_or_harmless() {
    let refused = AtomicUsize::new(0);
    with_seeds(
        "wal::a_flipped_bit_is_refused_or_harmless",
        200,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let mut stream = Stream::default();
            let wal = open(&machine.boot()).unwrap();
            append_until(&mut stream, &wal, &chance, Duration::from_millis(20)).await;
            wal.close().await;
            let files = machine.drive().files();
            let (path, bytes) = loop {
                let (path, bytes) = chance.pick(&files);
                if *bytes > 0 {
                    break (path, bytes);
                }
            };
            let byte = chance.below(*bytes as u64) as usize;
            machine.drive().flip(path, byte, chance.below(8) as u8);
            machine.crash(Crash::Power);
            match open(&machine.boot()) {
                Ok(wal) => assert_eq!(State::of(&wal), stream.state),
                Err(Error::Damaged { .. }) => {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                Err(error) => panic!("{error}"),
            }
        },
    );
    assert!(refused.load(Ordering::SeqCst) > 0, "some flips hit");
}
