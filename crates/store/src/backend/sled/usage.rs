//! What is stored, counted twice.
//!
//! Each batch leaves its number and the bytes stored in sled itself, and its number in a small file beside. A batch in the file is
//! durable in sled, so a sled that knows fewer has lost some. The file is not synced: after a loss of power it may be behind, and
//! then it proves less, never anything wrong.

use std::{io::ErrorKind, path::Path, sync::Arc};

use catena_runtime::{Disk, File, OpenMode};

use super::{damaged, opening};
use crate::{backend::directory, error::Fatal};

/// Where [`Usage`] lies in the data tree: behind all buckets.
pub(super) const KEY: [u8; 1] = [0xff];

/// What sled keeps beside each pair, about.
const PAIR_OVERHEAD_BYTES: u64 = 16;

/// The file beside sled's.
const FILE: &str = "written";

/// Counted with each batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Batches ever written.
    pub(super) batches: u64,
    /// Bytes stored now, as [`pair_bytes`] counts.
    pub(super) bytes: u64,
}

impl Usage {
    pub(super) fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.batches.to_be_bytes());
        out[8..].copy_from_slice(&self.bytes.to_be_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (batches, bytes) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            batches: u64::from_be_bytes(*batches),
            bytes: u64::from_be_bytes(bytes.try_into().ok()?),
        })
    }
}

/// What a pair counts for.
pub(super) fn pair_bytes(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64 + PAIR_OVERHEAD_BYTES
}

/// The file with the number of the last batch: the number and its CRC-32C.
pub(super) struct Written {
    file: Arc<dyn File>,
}

impl Written {
    pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<Self, Fatal> {
        let path = dir.join(FILE);
        let file = disk
            .open(&path, OpenMode::Create)
            .map_err(|error| directory::io_error(&path, error))?;
        Ok(Self { file })
    }

    /// Makes the file, and with it the directory; false if another one has.
    pub(super) fn create(disk: &dyn Disk, dir: &Path) -> Result<bool, Fatal> {
        disk.create_dir_all(dir)
            .map_err(|error| directory::io_error(dir, error))?;
        let path = dir.join(FILE);
        match disk.open(&path, OpenMode::CreateNew) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(directory::io_error(&path, error)),
        }
    }

    /// Notes a batch that is durable in sled.
    pub(super) fn note(&self, usage: Usage) -> Result<(), Fatal> {
        let mut record = [0; 12];
        record[..8].copy_from_slice(&usage.batches.to_be_bytes());
        let crc = crc32c::crc32c(&record[..8]);
        record[8..].copy_from_slice(&crc.to_be_bytes());
        let noted = self.file.write_all_at(&record, 0);
        noted.map_err(|error| directory::io_error(Path::new(FILE), error))
    }

    /// The number noted; 0 if there is none that can be trusted.
    fn batches(&self) -> u64 {
        let mut record = [0; 12];
        if self.file.read_exact_at(&mut record, 0).is_err() {
            return 0;
        }
        let (batches, crc) = record.split_at(8);
        if crc32c::crc32c(batches).to_be_bytes() != *crc {
            return 0;
        }
        batches.try_into().map_or(0, u64::from_be_bytes)
    }
}

/// Reads everything, and compares it with what was counted.
pub(super) fn verify(data: &sled::Tree, written: &Written, dir: &Path) -> Result<Usage, Fatal> {
    let recorded = data.get(KEY).map_err(|error| opening(dir, error))?;
    let recorded = match &recorded {
        Some(recorded) => Usage::decode(recorded)
            .ok_or_else(|| damaged(dir, "its count of batches cannot be read"))?,
        None => Usage::default(),
    };
    if recorded.batches < written.batches() {
        return Err(damaged(dir, "the last batches are missing"));
    }
    let mut found = 0;
    for pair in data.range(..KEY) {
        let (key, value) = pair.map_err(|error| opening(dir, error))?;
        found += pair_bytes(&key[1..], &value);
    }
    if found != recorded.bytes {
        return Err(damaged(
            dir,
            &format!("{} bytes were stored, {found} are there", recorded.bytes),
        ));
    }
    Ok(recorded)
}
