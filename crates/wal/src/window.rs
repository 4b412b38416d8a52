//! A file that is read in large pieces.

use std::path::Path;

use catena_runtime::File;

use crate::Error;

/// Bytes that are read at once: memory that a start takes beside the index.
pub(crate) const WINDOW_BYTES: u64 = 1 << 20;

/// Bytes that are looked at together by those who search.
pub(crate) const PART_BYTES: usize = 4096;

/// A file, read in large pieces.
pub(crate) struct Window<'a> {
    file: &'a dyn File,
    path: &'a Path,
    /// Bytes of the file.
    pub(crate) len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn File, path: &'a Path) -> Self {
        Self {
            file,
            path,
            len: 0,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// The bytes at `offset`; `None` if the file ends before.
    pub(crate) fn get(&mut self, offset: u64, bytes: usize) -> Result<Option<&[u8]>, Error> {
        if self.bytes.is_empty() {
            self.len = self.file.len().map_err(Error::io("read", self.path))?;
        }
        if offset
            .checked_add(bytes as u64)
            .is_none_or(|end| end > self.len)
        {
            return Ok(None);
        }
        let inside =
            offset >= self.start && offset + bytes as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            let size = WINDOW_BYTES.max(bytes as u64).min(self.len - offset);
            self.start = offset;
            self.bytes.resize(size as usize, 0);
            let read = self.file.read_exact_at(&mut self.bytes, offset);
            read.map_err(Error::io("read", self.path))?;
        }
        let at = (offset - self.start) as usize;
        Ok(Some(&self.bytes[at..at + bytes]))
    }

    /// Up to one page of bytes at `offset`; `None` at the end of the file.
    pub(crate) fn part(&mut self, offset: u64) -> Result<Option<&[u8]>, Error> {
        self.get(offset, 0)?;
        let bytes = (PART_BYTES as u64).min(self.len.saturating_sub(offset));
        if bytes == 0 {
            return Ok(None);
        }
        self.get(offset, bytes as usize)
    }
}
