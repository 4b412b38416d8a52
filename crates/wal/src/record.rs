//! Records and their encoding.

use bytes::Bytes;

use crate::Error;

/// Longest body of a record: far above any batch of proposals, low enough that a damaged length is told from a real one.
const BODY_BYTES_MAX: usize = 1 << 30;

/// Bytes before the body: length, kind, checksum.
pub(crate) const HEAD_BYTES: usize = 9;

/// Bytes of a batch record, head included.
pub(crate) const BATCH_BYTES: usize = HEAD_BYTES + CLAIM_BYTES;

/// Bytes of the body of a batch record: salt, position, watermark, checksum of the three.
pub(crate) const CLAIM_BYTES: usize = 28;

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An entry; its index follows that of the last one, or is free if there is none.
    Entry {
        /// Its place.
        index: u64,
        /// Its content.
        data: Bytes,
    },
    /// Drops the entries above `keep_to`, all of them if that is `None`.
    Truncate {
        /// The last entry that stays.
        keep_to: Option<u64>,
    },
    /// Drops the entries up to `upto`, which may lie beyond the last one. `mark` is kept for the caller.
    Purge {
        /// The last entry that goes.
        upto: u64,
        /// The caller's description of that entry.
        mark: Bytes,
    },
    /// Replaces the vote.
    Vote(Bytes),
    /// Replaces the commit mark. It alone causes no sync: it becomes durable with the next record that does.
    Commit(Bytes),
}

impl Record {
    /// Bytes that it occupies in a file, and roughly in a queue.
    pub(crate) fn bytes(&self) -> usize {
        HEAD_BYTES
            + match self {
                Self::Entry { data, .. } => 8 + data.len(),
                Self::Truncate { .. } => 9,
                Self::Purge { mark, .. } => 8 + mark.len(),
                Self::Vote(vote) => vote.len(),
                Self::Commit(commit) => commit.len(),
            }
    }

    /// Refuses what could not be read back.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.bytes() > BODY_BYTES_MAX {
            return Err(Error::Invalid {
                what: format!("a record of {} bytes is too large", self.bytes()),
            });
        }
        Ok(())
    }

    /// Whether it may wait for the sync of another record.
    pub(crate) fn is_lazy(&self) -> bool {
        matches!(self, Self::Commit(_))
    }
}

/// What a frame in a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Batch = 1,
    Entry = 2,
    Truncate = 3,
    Purge = 4,
    Vote = 5,
    Commit = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Batch,
            2 => Self::Entry,
            3 => Self::Truncate,
            4 => Self::Purge,
            5 => Self::Vote,
            6 => Self::Commit,
            _ => return None,
        })
    }
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Bytes of the body.
    pub(crate) body_bytes: usize,
    kind: u8,
    crc: u32,
}

impl Head {
    /// Reads a head; `None` where the file is zero, which is how the end of a log looks.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEAD_BYTES] = bytes.try_into().ok()?;
        if bytes == &[0; HEAD_BYTES] {
            return None;
        }
        let [l0, l1, l2, l3, kind, c0, c1, c2, c3] = *bytes;
        Some(Self {
            body_bytes: u32::from_le_bytes([l0, l1, l2, l3]) as usize,
            kind,
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
        })
    }

    /// Checks a whole frame against the checksum before it; gives the kind and the checksum for the next.
    pub(crate) fn verify(&self, frame: &[u8], chain: u32) -> Result<(Kind, u32), &'static str> {
        let crc = checksum(chain, frame);
        if crc != self.crc {
            return Err("the checksum of the record does not match");
        }
        let kind = Kind::from_byte(self.kind).ok_or("the kind of the record is unknown")?;
        Ok((kind, crc))
    }
}

fn checksum(chain: u32, frame: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(chain, &frame[..5]);
    crc32c::crc32c_append(crc, &frame[HEAD_BYTES..])
}

fn frame(buf: &mut Vec<u8>, chain: u32, kind: Kind, parts: &[&[u8]]) -> u32 {
    let start = buf.len();
    let body_bytes: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(body_bytes).expect("records are checked when they are appended");
    buf.extend_from_slice(&length.to_le_bytes());
    buf.extend_from_slice(&[kind as u8, 0, 0, 0, 0]);
    for part in parts {
        buf.extend_from_slice(part);
    }
    let crc = checksum(chain, &buf[start..]);
    buf[start + 5..start + HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Appends the frame of `record` to `buf`; gives the checksum for the next.
pub(crate) fn encode(buf: &mut Vec<u8>, chain: u32, record: &Record) -> u32 {
    match record {
        Record::Entry { index, data } => {
            frame(buf, chain, Kind::Entry, &[&index.to_le_bytes(), data])
        }
        Record::Truncate { keep_to } => {
            let flag = [u8::from(keep_to.is_some())];
            let keep_to = keep_to.unwrap_or(0).to_le_bytes();
            frame(buf, chain, Kind::Truncate, &[&flag, &keep_to])
        }
        Record::Purge { upto, mark } => {
            frame(buf, chain, Kind::Purge, &[&upto.to_le_bytes(), mark])
        }
        Record::Vote(vote) => frame(buf, chain, Kind::Vote, &[vote]),
        Record::Commit(commit) => frame(buf, chain, Kind::Commit, &[commit]),
    }
}

/// The body of an entry's frame.
pub(crate) fn entry_index(body: &[u8]) -> Option<u64> {
    u64_at(body, 0)
}

/// Reads the body of any frame but a batch's.
pub(crate) fn decode(kind: Kind, body: &Bytes) -> Option<Record> {
    Some(match kind {
        Kind::Batch => return None,
        Kind::Entry => Record::Entry {
            index: u64_at(body, 0)?,
            data: body.slice(8..),
        },
        Kind::Truncate => {
            let keep_to = u64_at(body, 1)?;
            Record::Truncate {
                keep_to: (body[0] == 1).then_some(keep_to),
            }
        }
        Kind::Purge => Record::Purge {
            upto: u64_at(body, 0)?,
            mark: body.slice(8..),
        },
        Kind::Vote => Record::Vote(body.clone()),
        Kind::Commit => Record::Commit(body.clone()),
    })
}

/// The body of a batch record: a statement that is true wherever it is found intact, so it carries a checksum of its own and is
/// bound to its segment (by a secret number) and to its position. A client cannot forge one inside a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Where the batch begins.
    pub(crate) offset: u64,
    /// Everything before was durable when this was written.
    pub(crate) watermark: u64,
}

impl Claim {
    /// Appends the batch record; gives the checksum for the next.
    pub(crate) fn encode(&self, buf: &mut Vec<u8>, chain: u32, salt: u64) -> u32 {
        let mut body = [0; CLAIM_BYTES];
        body[..8].copy_from_slice(&salt.to_le_bytes());
        body[8..16].copy_from_slice(&self.offset.to_le_bytes());
        body[16..24].copy_from_slice(&self.watermark.to_le_bytes());
        let crc = crc32c::crc32c(&body[..24]);
        body[24..].copy_from_slice(&crc.to_le_bytes());
        frame(buf, chain, Kind::Batch, &[&body])
    }

    /// Reads the body of a batch record that begins at `offset`.
    pub(crate) fn decode(body: &[u8], salt: u64, offset: u64) -> Option<Self> {
        let body: &[u8; CLAIM_BYTES] = body.get(..CLAIM_BYTES)?.try_into().ok()?;
        let crc = u32::from_le_bytes([body[24], body[25], body[26], body[27]]);
        let claim = Self {
            offset: u64_at(body, 8)?,
            watermark: u64_at(body, 16)?,
        };
        let intact = crc == crc32c::crc32c(&body[..24]);
        (intact && u64_at(body, 0)? == salt && claim.offset == offset).then_some(claim)
    }
}

/// A little-endian number at `at`, if the bytes reach that far.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        vec![
            Record::Entry {
                index: 7,
                data: Bytes::from_static(b"seven"),
            },
            Record::Truncate { keep_to: Some(3) },
            Record::Truncate { keep_to: None },
            Record::Purge {
                upto: 2,
                mark: Bytes::from_static(b"mark"),
            },
            Record::Vote(Bytes::new()),
            Record::Commit(Bytes::from_static(b"commit")),
        ]
    }

    #[test]
    fn every_record_reads_back() {
        for record in records() {
            let mut buf = Vec::new();
            let crc = encode(&mut buf, 9, &record);
            assert_eq!(buf.len(), record.bytes());
            let head = Head::parse(&buf[..HEAD_BYTES]).unwrap();
            let (kind, chain) = head.verify(&buf, 9).unwrap();
            assert_eq!(chain, crc);
            let body = Bytes::from(buf).slice(HEAD_BYTES..);
            assert_eq!(decode(kind, &body), Some(record));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_other_chain_is_noticed() {
        for record in records() {
            let mut buf = Vec::new();
            encode(&mut buf, 9, &record);
            let head = Head::parse(&buf[..HEAD_BYTES]).unwrap();
            assert!(head.verify(&buf, 10).is_err());
            for bit in 0..buf.len() * 8 {
                buf[bit / 8] ^= 1 << (bit % 8);
                let intact = Head::parse(&buf[..HEAD_BYTES])
                    .is_some_and(|head| head.verify(&buf, 9).is_ok());
                assert!(!intact, "bit {bit} of {record:?}");
                buf[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn short_bodies_are_refused() {
        for kind in [Kind::Entry, Kind::Truncate, Kind::Purge] {
            assert_eq!(decode(kind, &Bytes::from_static(b"short")), None);
        }
    }

    #[test]
    fn a_claim_counts_only_in_its_segment_and_place() {
        let claim = Claim {
            offset: 100,
            watermark: 90,
        };
        let mut buf = Vec::new();
        claim.encode(&mut buf, 0, 77);
        assert_eq!(buf.len(), BATCH_BYTES);
        let body = &buf[HEAD_BYTES..];
        assert_eq!(Claim::decode(body, 77, 100), Some(claim));
        assert_eq!(Claim::decode(body, 78, 100), None);
        assert_eq!(Claim::decode(body, 77, 101), None);
        assert_eq!(Claim::decode(&body[..20], 77, 100), None);
    }
}
