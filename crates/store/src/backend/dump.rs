//! The contents of an engine as a stream of frames: what one member sends to another, whatever the engines of both.
//!
//! ```text
//! stream   header frame, any number of record frames, footer frame
//! frame    u8 kind | u32 length | payload | u32 CRC-32C of all before it in the frame          (integers little endian)
//! header   u8 format version | opaque bytes of the caller
//! records  bytes of the record stream, cut wherever a frame is full
//! record   u8 bucket | u32 key length | u32 value length | key | value; buckets and keys ascend
//! footer   u64 records | u64 bytes of the record stream | u32 CRC-32C of the record stream
//! ```
//!
//! [`Dump`] makes one frame per call and holds nothing of the engine in between but the view, so the caller sets the pace. [`Load`]
//! takes the frames in order and writes them in batches. Bytes from another member are not trusted: each length is checked before
//! anything is allocated for it, and what is missing, doubled or out of order is an error.

use std::{io::Read, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    Backend, Bucket, Change, View,
    slice::{Cursor, Slice},
};
use crate::error::Fatal;

/// Format written and read.
const FORMAT: u8 = 1;

/// Largest frame, with its head and checksum: a message that every transport carries.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Largest payload.
const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_OVERHEAD;

/// Kind, length and checksum.
const FRAME_OVERHEAD: usize = FRAME_HEAD + 4;
const FRAME_HEAD: usize = 5;

/// Bucket and the two lengths.
const RECORD_HEAD: usize = 9;

/// Longest key and value that are accepted: far above the largest request of any cluster, and little enough to hold one in memory.
const KEY_BYTES_MAX: usize = 64 << 20;
const VALUE_BYTES_MAX: usize = 256 << 20;

/// Bytes loaded in one batch: fsyncs are spread over enough, and the engine holds little that is dirty.
const BATCH_BYTES: usize = 8 << 20;

const HEADER: u8 = 1;
const RECORDS: u8 = 2;
const FOOTER: u8 = 3;

/// Why a stream is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The stream is damaged, cut off or of another version.
    #[error("snapshot stream, frame {frame}: {what}")]
    Malformed {
        /// Which frame, from 0.
        frame: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The stream cannot be read.
    #[error("snapshot stream: {0}")]
    Read(#[from] std::io::Error),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] Fatal),
}

/// What a complete stream held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The caller's bytes of the header.
    pub meta: Bytes,
    /// Pairs loaded.
    pub records: u64,
}

/// Makes the frames of a view.
pub struct Dump {
    view: Arc<dyn View>,
    meta: Option<Bytes>,
    cursor: Cursor,
    /// Part of the record stream that no frame has carried yet.
    pending: BytesMut,
    scanned: bool,
    done: bool,
    records: u64,
    bytes: u64,
    crc: u32,
}

impl Dump {
    /// Of everything in `view`. `meta` travels in the header, for the caller; at most half a frame.
    pub fn new(view: Arc<dyn View>, meta: Bytes) -> Self {
        Self {
            view,
            meta: Some(meta),
            cursor: Cursor::default(),
            pending: BytesMut::new(),
            scanned: false,
            done: false,
            records: 0,
            bytes: 0,
            crc: 0,
        }
    }

    /// The next frame; none after the footer. Reads about a frame's worth from the view.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, Fatal> {
        if let Some(meta) = self.meta.take() {
            if meta.len() >= PAYLOAD_BYTES_MAX {
                return Err(Fatal::Engine(format!(
                    "snapshot header of {} bytes",
                    meta.len()
                )));
            }
            return Ok(Some(frame(HEADER, &[&[FORMAT], &meta[..]])));
        }
        while self.pending.len() < PAYLOAD_BYTES_MAX && !self.scanned {
            match self.cursor.next(self.view.as_ref(), PAYLOAD_BYTES_MAX)? {
                Some(slice) => self.push(slice),
                None => self.scanned = true,
            }
        }
        if !self.pending.is_empty() {
            let payload = self
                .pending
                .split_to(self.pending.len().min(PAYLOAD_BYTES_MAX));
            self.bytes += payload.len() as u64;
            self.crc = crc32c::crc32c_append(self.crc, &payload);
            return Ok(Some(frame(RECORDS, &[&payload])));
        }
        if self.done {
            return Ok(None);
        }
        self.done = true;
        let (records, bytes) = (self.records.to_le_bytes(), self.bytes.to_le_bytes());
        Ok(Some(frame(
            FOOTER,
            &[&records, &bytes, &self.crc.to_le_bytes()],
        )))
    }

    fn push(&mut self, (bucket, pairs): Slice) {
        for (key, value) in pairs {
            self.pending.put_u8(bucket.tag());
            self.pending.put_u32_le(key.len() as u32);
            self.pending.put_u32_le(value.len() as u32);
            self.pending.put_slice(&key);
            self.pending.put_slice(&value);
            self.records += 1;
        }
    }
}

fn frame(kind: u8, payload: &[&[u8]]) -> Bytes {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(len + FRAME_OVERHEAD);
    out.push(kind);
    out.put_u32_le(len as u32);
    for part in payload {
        out.put_slice(part);
    }
    let crc = crc32c::crc32c(&out);
    out.put_u32_le(crc);
    out.into()
}

/// Takes the frames of a [`Dump`] into an empty engine, such as that of a [`super::Staged`].
pub struct Load {
    backend: Arc<dyn Backend>,
    frame: u64,
    meta: Option<Bytes>,
    finished: bool,
    /// A record of which a part came.
    pending: BytesMut,
    batch: Vec<Change>,
    batch_bytes: usize,
    last: Option<(Bucket, Bytes)>,
    records: u64,
    bytes: u64,
    crc: u32,
}

impl Load {
    /// Into `backend`, which must be empty.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            frame: 0,
            meta: None,
            finished: false,
            pending: BytesMut::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            last: None,
            records: 0,
            bytes: 0,
            crc: 0,
        }
    }

    /// Takes everything from `reader`, which must end with the footer.
    pub fn read(mut self, reader: &mut dyn Read) -> Result<Loaded, LoadError> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            (&mut *reader)
                .take(FRAME_HEAD as u64)
                .read_to_end(&mut bytes)?;
            if bytes.is_empty() {
                return self.finish();
            }
            let left = match bytes[..] {
                [_, a, b, c, d] => u32::from_le_bytes([a, b, c, d]) as usize + 4,
                _ => return Err(self.malformed("it is cut off")),
            };
            if left > FRAME_BYTES_MAX {
                return Err(self.malformed(format!("its length of {left} bytes is too large")));
            }
            (&mut *reader).take(left as u64).read_to_end(&mut bytes)?;
            self.push(&bytes)?;
        }
    }

    /// Takes the next frame.
    pub fn push(&mut self, frame: &[u8]) -> Result<(), LoadError> {
        let (kind, payload) = self.open_frame(frame)?;
        match (kind, &self.meta, self.finished) {
            (HEADER, None, false) => self.header(payload)?,
            (RECORDS, Some(_), false) => self.record_bytes(payload)?,
            (FOOTER, Some(_), false) => self.footer(payload)?,
            _ => return Err(self.malformed(format!("a frame of kind {kind} does not belong here"))),
        }
        self.frame += 1;
        Ok(())
    }

    /// The caller's bytes of the header, once it came.
    pub fn meta(&self) -> Option<&Bytes> {
        self.meta.as_ref()
    }

    /// After the last frame: everything is there, and durable.
    pub fn finish(self) -> Result<Loaded, LoadError> {
        match &self.meta {
            Some(meta) if self.finished => Ok(Loaded {
                meta: meta.clone(),
                records: self.records,
            }),
            _ => Err(self.malformed("the stream ends before its footer")),
        }
    }

    fn open_frame<'a>(&self, frame: &'a [u8]) -> Result<(u8, &'a [u8]), LoadError> {
        if frame.len() < FRAME_OVERHEAD || frame.len() > FRAME_BYTES_MAX {
            return Err(self.malformed(format!("it has {} bytes", frame.len())));
        }
        let (body, crc) = frame.split_at(frame.len() - 4);
        if crc32c::crc32c(body).to_le_bytes() != *crc {
            return Err(self.malformed("its checksum is wrong"));
        }
        let (head, payload) = body.split_at(FRAME_HEAD);
        if read_u32(&head[1..]) != payload.len() {
            return Err(self.malformed("its length is wrong"));
        }
        Ok((head[0], payload))
    }

    fn header(&mut self, payload: &[u8]) -> Result<(), LoadError> {
        match payload.split_first() {
            Some((&FORMAT, meta)) => self.meta = Some(Bytes::copy_from_slice(meta)),
            Some((format, _)) => {
                return Err(self.malformed(format!(
                    "it has format {format}, this version reads format {FORMAT}"
                )));
            }
            None => return Err(self.malformed("the header is empty")),
        }
        Ok(())
    }

    fn record_bytes(&mut self, payload: &[u8]) -> Result<(), LoadError> {
        self.bytes += payload.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, payload);
        self.pending.extend_from_slice(payload);
        while let Some((bucket, key_len, value_len)) = self.record_head()? {
            let len = RECORD_HEAD + key_len + value_len;
            if self.pending.len() < len {
                break;
            }
            let mut record = self.pending.split_to(len).split_off(RECORD_HEAD).freeze();
            let key = record.split_to(key_len);
            self.take(bucket, key, record)?;
        }
        Ok(())
    }

    /// The head of the record that comes next, if it is there.
    fn record_head(&self) -> Result<Option<(Bucket, usize, usize)>, LoadError> {
        let Some(head) = self.pending.get(..RECORD_HEAD) else {
            return Ok(None);
        };
        let (key_len, value_len) = (read_u32(&head[1..]), read_u32(&head[5..]));
        if key_len > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX {
            return Err(self.malformed(format!(
                "a record has a key of {key_len} and a value of {value_len} bytes"
            )));
        }
        let Some(bucket) = Bucket::from_tag(head[0]) else {
            return Err(self.malformed(format!("there is no bucket {}", head[0])));
        };
        Ok(Some((bucket, key_len, value_len)))
    }

    fn take(&mut self, bucket: Bucket, key: Bytes, value: Bytes) -> Result<(), LoadError> {
        let place = (bucket, key.clone());
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            return Err(self.malformed("its records are out of order"));
        }
        self.last = Some(place);
        self.records += 1;
        let change = Change::Put(bucket, key, value);
        self.batch_bytes += change.bytes();
        self.batch.push(change);
        if self.batch_bytes >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn footer(&mut self, payload: &[u8]) -> Result<(), LoadError> {
        let expected = [
            &self.records.to_le_bytes()[..],
            &self.bytes.to_le_bytes(),
            &self.crc.to_le_bytes(),
        ]
        .concat();
        if !self.pending.is_empty() || payload != expected {
            return Err(self.malformed("the footer does not fit what came before it"));
        }
        self.write()?;
        self.finished = true;
        Ok(())
    }

    fn write(&mut self) -> Result<(), LoadError> {
        self.backend.write(&self.batch)?;
        self.batch.clear();
        self.batch_bytes = 0;
        Ok(())
    }

    fn malformed(&self, what: impl Into<String>) -> LoadError {
        LoadError::Malformed {
            frame: self.frame,
            what: what.into(),
        }
    }
}

fn read_u32(bytes: &[u8]) -> usize {
    bytes
        .first_chunk::<4>()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
}

#[cfg(test)]
mod tests;
