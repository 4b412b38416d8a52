//! The log beside the least that a log can do.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use catena_runtime::Runtime;
use catena_wal::{Options, Record, Wal};

use crate::load::value;

/// Entries in a batch.
pub(crate) const BATCHES: [usize; 4] = [1, 16, 128, 1024];
/// Bytes of an entry.
pub(crate) const ENTRIES_BYTES: [usize; 2] = [256, 1024];
/// How long each side writes in a round.
const LENGTH: Duration = Duration::from_millis(400);
/// Rounds in which the two take turns.
pub(crate) const ROUNDS: usize = 5;
/// What is written before the log is opened again.
const REOPENED_BYTES: usize = 1 << 30;

/// Batches a second that became durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// Through the log.
    pub(crate) log: f64,
    /// By a bare append of the same bytes and an `fdatasync`.
    pub(crate) bare: f64,
}

/// One round: both sides write batches of `entries` entries of `bytes` bytes, one after another.
pub(crate) async fn round(entries: usize, bytes: usize) -> Result<Rates> {
    let dir = tempfile::tempdir()?;
    let bare = bare(dir.path(), entries * bytes)?;
    let log = log(&dir.path().join("log"), entries, bytes).await?;
    Ok(Rates { log, bare })
}

fn bare(dir: &Path, bytes: usize) -> Result<f64> {
    let mut file = File::create(dir.join("bare"))?;
    let batch = value(bytes);
    let (began, mut batches) = (Instant::now(), 0);
    while began.elapsed() < LENGTH {
        file.write_all(&batch)?;
        file.sync_data()?;
        batches += 1;
    }
    Ok(f64::from(batches) / began.elapsed().as_secs_f64())
}

async fn log(dir: &Path, entries: usize, bytes: usize) -> Result<f64> {
    let (wal, _) = Wal::open(&Runtime::system(), dir, Options::default())?;
    let data = value(bytes);
    let (began, mut batches) = (Instant::now(), 0);
    while began.elapsed() < LENGTH {
        let first = batches * entries as u64;
        wal.write(batch(first, entries, &data)).await?;
        batches += 1;
    }
    let rate = batches as f64 / began.elapsed().as_secs_f64();
    wal.close().await;
    Ok(rate)
}

fn batch(first: u64, entries: usize, data: &Bytes) -> Vec<Record> {
    let entry = |index| Record::Entry {
        index,
        data: data.clone(),
    };
    (first..first + entries as u64).map(entry).collect()
}

/// How long it takes to open a log of 1 GiB, in entries of 1 KiB.
pub(crate) async fn reopen() -> Result<Duration> {
    const ENTRIES: usize = 1024;
    let dir = tempfile::tempdir()?;
    let runtime = Runtime::system();
    let (wal, _) = Wal::open(&runtime, dir.path(), Options::default())?;
    let data = value(1024);
    for place in 0..REOPENED_BYTES / ENTRIES / data.len() {
        wal.write(batch((place * ENTRIES) as u64, ENTRIES, &data))
            .await?;
    }
    wal.close().await;
    let began = Instant::now();
    let (wal, _) = Wal::open(&runtime, dir.path(), Options::default())?;
    let taken = began.elapsed();
    wal.close().await;
    Ok(taken)
}
