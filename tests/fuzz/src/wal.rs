//! The log: what a start makes of the segments that it finds.
//!
//! An input is a byte of options and the segments as [pieces](crate::joined), each under the number that its header says.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use catena_wal::{Error, Options, Record, Recovered, Wal};
use futures_executor::block_on;

use crate::{
    MENDED,
    disk::{self, Memory},
    memory::{Bound, bounded},
    number, pieces, refused, split,
};

/// Where the log lies.
const DIR: &str = "log";

/// Two windows of the reader, the preallocated segment, the zeros behind it; and the files, their copies and the index.
const BOUND: Bound = Bound {
    fixed: 8 << 20,
    per_byte: 64,
};

/// Small, so that the log goes on in a new segment now and then.
const SEGMENT_BYTES: u64 = 4096;

/// Bytes before the body of a header, and where in it the sum over the rest stands.
const HEADER_BYTES: usize = 20;
const HEADER_SUM: usize = 16;

/// Bytes before the body of a record, and where in them the sum stands.
const HEAD_BYTES: usize = 9;
const RECORD_SUM: usize = 5;

/// The kind of the record that begins a batch, and the bytes of its body: salt, position, watermark, sum.
const BATCH: u8 = 1;
const CLAIM_BYTES: usize = 28;

/// The way in which logs are kept here.
pub fn options() -> Options {
    Options {
        segment_bytes: SEGMENT_BYTES,
        cache_bytes: 4096,
        queue_bytes: 1 << 20,
        observer: None,
    }
}

/// One input.
pub fn check(input: &[u8]) {
    let (first, rest) = split(input);
    let disk = Arc::new(Memory::default());
    for (place, piece) in pieces(rest).into_iter().enumerate() {
        let mut segment = piece.to_vec();
        if first & MENDED != 0 {
            mend(&mut segment);
        }
        let said = segment.get(HEADER_BYTES..HEADER_BYTES + 8);
        let said = said.and_then(|bytes| bytes.try_into().ok());
        let sequence = said.map_or(place as u64, u64::from_le_bytes);
        disk.put(path(sequence), &segment);
    }
    bounded(BOUND, input, || open(&disk));
}

/// The path of a segment.
pub fn path(sequence: u64) -> std::path::PathBuf {
    Path::new(DIR).join(format!("{sequence:016x}.wal"))
}

fn open(disk: &Arc<Memory>) {
    let before = segments(disk);
    match Wal::open(&disk::runtime(disk), Path::new(DIR), options()) {
        Err(error) => {
            let known = matches!(error, Error::Damaged { .. } | Error::Format { .. });
            assert!(known, "{error}");
            assert!(error.to_string().contains(DIR), "{error}");
            refused(error);
            assert!(
                segments(disk) == before,
                "a log that is refused was changed"
            );
        }
        Ok((wal, recovered)) => go_on(disk, wal, &recovered),
    }
}

fn segments(disk: &Memory) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = disk.contents().into_iter();
    files
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "wal"))
        .collect()
}

/// A log that was opened holds what it says, takes more, and holds that as well when it is opened again.
fn go_on(disk: &Arc<Memory>, wal: Wal, recovered: &Recovered) {
    let mut entries = all(&wal, recovered);
    let purged = recovered.purge.as_ref().map(|(upto, _)| *upto);
    let next = recovered
        .last
        .or(purged)
        .map_or(Some(0), |last| last.checked_add(1))
        .filter(|next| *next != u64::MAX);
    let vote = Bytes::from_static(b"another vote");
    let mut records = vec![Record::Vote(vote.clone())];
    if let Some(index) = next {
        let data = Bytes::from_static(b"another entry");
        entries.push((index, data.clone()));
        records.push(Record::Entry { index, data });
    }
    block_on(wal.write(records)).expect("a log that opened takes more");
    block_on(wal.close());

    let opened = Wal::open(&disk::runtime(disk), Path::new(DIR), options());
    let (wal, again) = opened.expect("a log that was closed opens");
    assert_eq!(again.torn, None);
    assert_eq!(again.vote, Some(vote));
    assert_eq!(again.commit, recovered.commit);
    assert_eq!(again.purge, recovered.purge);
    assert!(all(&wal, &again) == entries, "entries changed");
    block_on(wal.close());
}

/// All entries, which must be those between the bounds.
fn all(wal: &Wal, recovered: &Recovered) -> Vec<(u64, Bytes)> {
    let (Some(first), Some(last)) = (recovered.first, recovered.last) else {
        assert_eq!((recovered.first, recovered.last), (None, None));
        return Vec::new();
    };
    let mut entries = Vec::new();
    let mut from = first;
    loop {
        let read = wal.read(from, u64::MAX, 1 << 20);
        let read = read.expect("what was checked at the start can be read");
        let Some((end, _)) = read.last() else { break };
        from = end.saturating_add(1);
        entries.extend(read);
        if from > last || from == u64::MAX {
            break;
        }
    }
    let indexes = entries.iter().map(|(index, _)| *index);
    assert!(indexes.eq(first..=last), "entries are missing");
    entries
}

/// Writes the right sums over whatever the segment says.
fn mend(segment: &mut [u8]) {
    let Some(body_bytes) = number(segment, 12) else {
        return;
    };
    let Some(start) = HEADER_BYTES.checked_add(body_bytes) else {
        return;
    };
    let Some(body) = segment.get(HEADER_BYTES..start) else {
        return;
    };
    let salt: Option<[u8; 8]> = body.get(8..16).and_then(|salt| salt.try_into().ok());
    let mut chain = crc32c::crc32c_append(crc32c::crc32c(&segment[8..16]), body);
    segment[HEADER_SUM..HEADER_BYTES].copy_from_slice(&chain.to_le_bytes());
    let mut at = start;
    while let Some(body_bytes) = number(segment, at) {
        let Some(end) = at.checked_add(HEAD_BYTES + body_bytes) else {
            return;
        };
        let Some(frame) = segment.get_mut(at..end) else {
            return;
        };
        if frame[..HEAD_BYTES] == [0; HEAD_BYTES] {
            return;
        }
        if frame[4] == BATCH && body_bytes >= CLAIM_BYTES {
            mend_claim(&mut frame[HEAD_BYTES..], salt, at);
        }
        chain = crc32c::crc32c_append(chain, &frame[..RECORD_SUM]);
        chain = crc32c::crc32c_append(chain, &frame[HEAD_BYTES..]);
        frame[RECORD_SUM..HEAD_BYTES].copy_from_slice(&chain.to_le_bytes());
        at = end;
    }
}

fn mend_claim(body: &mut [u8], salt: Option<[u8; 8]>, at: usize) {
    if let Some(salt) = salt {
        body[..8].copy_from_slice(&salt);
    }
    body[8..16].copy_from_slice(&(at as u64).to_le_bytes());
    let sum = crc32c::crc32c(&body[..CLAIM_BYTES - 4]);
    body[CLAIM_BYTES - 4..CLAIM_BYTES].copy_from_slice(&sum.to_le_bytes());
}
