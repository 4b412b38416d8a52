//! Segment files: their names and headers.
//!
//! ```text
//! magic 8 | format u32 | body length u32 | crc u32 over format, length, body | body | records … | zeros
//! ```
//!
//! The body names the segment (sequence number, salt), where the one before ended, and carries over all that older segments might
//! still say: bounds, purge mark, vote, commit. So older segments can go as soon as their entries are purged. The checksum of the
//! header starts the chain of the records.
//!
//! A segment gets its name when its header is durable, so a header that does not check is damage, never a torn write.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes};
use catena_runtime::{Disk, File, OpenMode, Random};

use crate::{Error, view::View};

const MAGIC: &[u8; 8] = b"catena\x00w";

/// Raised when the layout changes; an older or newer log is refused by name.
const FORMAT: u32 = 1;

const FIXED_BYTES: usize = 20;

/// Longest body of a header: the marks are small, and a damaged length must not make us allocate.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// Name of a segment in the making.
pub(crate) const NEW_NAME: &str = "new.tmp";

/// Name of a segment that is zeroed ahead of its use.
pub(crate) const PREPARED_NAME: &str = "prepared.tmp";

/// One file of the log.
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Segment").field(&self.path).finish()
    }
}

/// Path of the segment with this number.
pub(crate) fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.wal"))
}

/// The number in a segment's name.
pub(crate) fn sequence(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let sequence = u64::from_str_radix(digits, 16).ok()?;
    (format!("{sequence:016x}") == digits).then_some(sequence)
}

/// Draws a salt. It holds no zero byte, so a search for it may skip zeros.
pub(crate) fn salt(random: &dyn Random) -> u64 {
    random.next_u64() | 0x0101_0101_0101_0101
}

/// Where a segment ends: position and checksum of its last record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) offset: u64,
    pub(crate) chain: u32,
}

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sequence: u64,
    /// Marks this segment's batch records, so that none is found in another segment or forged in a value.
    pub(crate) salt: u64,
    /// Where the segment before ended; zero for the first.
    pub(crate) before: End,
    /// What all records before amount to.
    pub(crate) view: View,
}

impl Header {
    /// The bytes of the header.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.put_u64_le(self.sequence);
        body.put_u64_le(self.salt);
        body.put_u64_le(self.before.offset);
        body.put_u32_le(self.before.chain);
        let (first, last) = self.view.bounds.unwrap_or_default();
        body.put_u8(u8::from(self.view.bounds.is_some()));
        body.put_u64_le(first);
        body.put_u64_le(last);
        body.put_u64_le(self.view.purge.as_ref().map_or(0, |(upto, _)| *upto));
        let mark = self.view.purge.as_ref().map(|(_, mark)| mark);
        for mark in [mark, self.view.vote.as_ref(), self.view.commit.as_ref()] {
            body.put_u8(u8::from(mark.is_some()));
            let mark = mark.map_or(&[][..], |mark| mark);
            body.put_u32_le(mark.len() as u32);
            body.put_slice(mark);
        }
        let mut bytes = Vec::with_capacity(FIXED_BYTES + body.len());
        bytes.put_slice(MAGIC);
        bytes.put_u32_le(FORMAT);
        bytes.put_u32_le(body.len() as u32);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[8..16]), &body);
        bytes.put_u32_le(crc);
        bytes.put_slice(&body);
        bytes
    }

    /// Reads the header of `path`; gives it and where its records begin.
    pub(crate) fn read(file: &dyn File, path: &Path) -> Result<(Self, End), Error> {
        let io = || Error::io("read", path);
        let damaged = |what| Error::damaged(path, 0, what);
        let len = file.len().map_err(io())?;
        if len < FIXED_BYTES as u64 {
            return Err(damaged("the header is cut"));
        }
        let mut fixed = [0; FIXED_BYTES];
        file.read_exact_at(&mut fixed, 0).map_err(io())?;
        let mut rest = &fixed[8..];
        let (format, body_bytes, crc) = (rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le());
        if &fixed[..8] != MAGIC {
            return Err(damaged("this is not the header of a log segment"));
        }
        if u64::from(body_bytes) > BODY_BYTES_MAX.min(len - FIXED_BYTES as u64) {
            return Err(damaged("the header is longer than the file"));
        }
        let mut body = vec![0; body_bytes as usize];
        file.read_exact_at(&mut body, FIXED_BYTES as u64)
            .map_err(io())?;
        if crc != crc32c::crc32c_append(crc32c::crc32c(&fixed[8..16]), &body) {
            return Err(damaged("the checksum of the header does not match"));
        }
        if format != FORMAT {
            return Err(Error::Format {
                path: path.to_owned(),
                found: format,
                known: FORMAT,
            });
        }
        let start = End {
            offset: FIXED_BYTES as u64 + u64::from(body_bytes),
            chain: crc,
        };
        let header = Self::decode(Bytes::from(body)).ok_or_else(|| damaged("the header is odd"))?;
        Ok((header, start))
    }

    fn decode(mut body: Bytes) -> Option<Self> {
        let sequence = body.try_get_u64_le().ok()?;
        let salt = body.try_get_u64_le().ok()?;
        let before = End {
            offset: body.try_get_u64_le().ok()?,
            chain: body.try_get_u32_le().ok()?,
        };
        let any = body.try_get_u8().ok()? == 1;
        let first = body.try_get_u64_le().ok()?;
        let last = body.try_get_u64_le().ok()?;
        let purged = body.try_get_u64_le().ok()?;
        let mut mark = || {
            let some = body.try_get_u8().ok()? == 1;
            let bytes = body.try_get_u32_le().ok()? as usize;
            (bytes <= body.len()).then(|| some.then_some(body.split_to(bytes)))
        };
        let view = View {
            bounds: any.then_some((first, last)),
            purge: mark()?.map(|mark| (purged, mark)),
            vote: mark()?,
            commit: mark()?,
        };
        Some(Self {
            sequence,
            salt,
            before,
            view,
        })
    }

    /// Writes the header into `file`, which lies at `from`, and gives the file the segment's name, all durable. The caller has
    /// awaited [`Disk::sync_delay`].
    pub(crate) fn publish(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        file: Arc<dyn File>,
        from: &Path,
    ) -> Result<(Arc<Segment>, End), Error> {
        let bytes = self.encode();
        file.write_all_at(&bytes, 0)
            .map_err(Error::io("write", from))?;
        file.sync().map_err(Error::io("sync", from))?;
        let path = path(dir, self.sequence);
        disk.rename(from, &path)
            .map_err(Error::io("rename", from))?;
        disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
        let start = End {
            offset: bytes.len() as u64,
            chain: u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]),
        };
        let segment = Segment {
            sequence: self.sequence,
            path,
            file,
        };
        Ok((Arc::new(segment), start))
    }
}

/// Makes an empty file at `path`, whatever was there.
pub(crate) fn create(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn File>, Error> {
    if disk.exists(path) {
        disk.remove(path).map_err(Error::io("remove", path))?;
    }
    disk.open(path, OpenMode::CreateNew)
        .map_err(Error::io("create", path))
}

#[cfg(test)]
mod tests {
    use catena_runtime::SystemDisk;

    use super::*;

    fn header() -> Header {
        Header {
            sequence: 3,
            salt: 77,
            before: End {
                offset: 1000,
                chain: 42,
            },
            view: View {
                bounds: Some((5, 9)),
                purge: Some((4, Bytes::from_static(b"four"))),
                vote: Some(Bytes::new()),
                commit: None,
            },
        }
    }

    fn read(bytes: &[u8]) -> Result<(Header, End), Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        std::fs::write(&path, bytes).unwrap();
        let file = SystemDisk.open(&path, OpenMode::Read).unwrap();
        Header::read(&*file, &path)
    }

    #[test]
    fn names_read_back() {
        let path = path(Path::new("/d"), 300);
        assert_eq!(path, Path::new("/d/000000000000012c.wal"));
        assert_eq!(sequence("000000000000012c.wal"), Some(300));
        assert_eq!(sequence("12c.wal"), None);
        assert_eq!(sequence(NEW_NAME), None);
    }

    #[test]
    fn headers_read_back() {
        let bytes = header().encode();
        let (read, start) = read(&bytes).unwrap();
        assert_eq!(read, header());
        assert_eq!(start.offset, bytes.len() as u64);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let bytes = header().encode();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert!(read(&flipped).is_err(), "byte {at}");
            assert!(read(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_format_is_refused_by_name() {
        let mut bytes = header().encode();
        bytes[8] = 9;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[8..16]), &bytes[20..]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        let error = read(&bytes).unwrap_err();
        assert!(matches!(error, Error::Format { found: 9, .. }), "{error}");
    }
}
