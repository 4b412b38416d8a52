//! The log as its caller sees it, on a real directory: what is appended is read, survives, or is refused.

#![allow(clippy::unwrap_used, reason = "a test")]

mod append;
mod damage;
mod failure;
mod model;
mod purge;

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use catena_runtime::Runtime;
use catena_wal::{Error, Options, Record, Recovered, Wal};

/// Small enough that a few entries fill a segment.
const SEGMENT_BYTES: u64 = 4 << 10;

fn options() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        cache_bytes: 0,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Result<(Wal, Recovered), Error> {
    Wal::open(&Runtime::system(), dir, options())
}

fn entry(index: u64, data: impl Into<Bytes>) -> Record {
    Record::Entry {
        index,
        data: data.into(),
    }
}

/// Entries whose content tells them from those of another `term`.
fn entries(indexes: impl IntoIterator<Item = u64>, term: u64) -> Vec<Record> {
    let indexes = indexes.into_iter();
    indexes
        .map(|index| entry(index, content(index, term)))
        .collect()
}

fn content(index: u64, term: u64) -> String {
    format!(
        "entry {index} of term {term}, and some bytes to fill the segment: {}",
        "x".repeat(100)
    )
}

fn truncate(keep_to: u64) -> Record {
    Record::Truncate {
        keep_to: Some(keep_to),
    }
}

fn purge(upto: u64) -> Record {
    Record::Purge {
        upto,
        mark: Bytes::from(format!("mark {upto}")),
    }
}

/// All entries, read in several calls.
fn read_all(wal: &Wal) -> Vec<(u64, Bytes)> {
    let (Some(first), Some(last)) = wal.bounds() else {
        return Vec::new();
    };
    let mut all = Vec::new();
    while all.len() as u64 <= last - first {
        let from = first + all.len() as u64;
        let some = wal.read(from, last + 1, 1000).unwrap();
        assert!(!some.is_empty(), "nothing at {from}");
        all.extend(some);
    }
    all
}

fn assert_entries(wal: &Wal, indexes: std::ops::RangeInclusive<u64>, term: impl Fn(u64) -> u64) {
    let wanted: Vec<_> = indexes
        .map(|index| (index, Bytes::from(content(index, term(index)))))
        .collect();
    assert_eq!(read_all(wal), wanted);
}

/// The segments, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    files.sort();
    files
}

/// Stops the log without the farewell of [`Wal::close`]: what a crash of the process leaves, copied to another directory. Segments
/// that are no longer needed are removed meanwhile, oldest first: copied newest first, what is there is what some crash leaves.
fn crashed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for path in segments(dir).iter().rev() {
        match fs::copy(path, copy.path().join(path.file_name().unwrap())) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            copied => drop(copied.unwrap()),
        }
    }
    copy
}
