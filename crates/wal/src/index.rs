//! Where entries lie in the segments.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use catena_runtime::File;

use crate::{
    Error, Record,
    record::{self, HEAD_BYTES, Head, Kind},
    segment::Segment,
};

/// Bytes of log behind one position of the index: reading one entry costs at most this much more than the entry, and 1 GiB of log
/// costs about 1 MiB of memory.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;

/// A stretch of one segment that begins with an entry and holds `first..=last` in order, other records between them. Longer than
/// [`BLOCK_BYTES`] only if it is a single entry.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    segment: Arc<Segment>,
    offset: u64,
    end: u64,
    /// The checksum before the first record.
    chain: u32,
    first: u64,
    last: u64,
    /// Entries that were truncated follow `last`: it must not grow over them.
    closed: bool,
}

impl Block {
    /// Offers the entries to `gather`.
    pub(crate) fn read(&self, gather: &mut Gather) -> Result<(), Error> {
        let mut block = vec![0; (self.end - self.offset) as usize];
        let file: &dyn File = &*self.segment.file;
        file.read_exact_at(&mut block, self.offset)
            .map_err(Error::io("read", &self.segment.path))?;
        let block = Bytes::from(block);
        let (mut at, mut chain) = (0, self.chain);
        while at < block.len() {
            let damaged = |what| Error::damaged(&self.segment.path, self.offset + at as u64, what);
            let head = block.get(at..at + HEAD_BYTES).and_then(Head::parse);
            let head = head.ok_or_else(|| damaged("the record is gone"))?;
            let end = at + HEAD_BYTES + head.body_bytes;
            let frame = block
                .get(at..end)
                .ok_or_else(|| damaged("the record is cut"))?;
            let (kind, next) = head.verify(frame, chain).map_err(damaged)?;
            if kind == Kind::Entry {
                let index = record::entry_index(&frame[HEAD_BYTES..]);
                let index = index.ok_or_else(|| damaged("the entry has no index"))?;
                if index > self.last || !gather.offer(index, &block.slice(at + HEAD_BYTES + 8..end))
                {
                    return Ok(());
                }
            }
            (at, chain) = (end, next);
        }
        Ok(())
    }
}

/// What a reader wants and has.
#[derive(Debug)]
pub(crate) struct Gather {
    from: u64,
    to: u64,
    bytes_left: usize,
    full: bool,
    out: Vec<(u64, Bytes)>,
}

impl Gather {
    /// Wants the entries of `from..to`, as many as fit into `bytes_max`, at least one.
    pub(crate) fn new(from: u64, to: u64, bytes_max: usize) -> Self {
        Self {
            from,
            to,
            bytes_left: bytes_max,
            full: false,
            out: Vec::new(),
        }
    }

    /// Takes the entry if it is wanted; false once nothing more is.
    pub(crate) fn offer(&mut self, index: u64, data: &Bytes) -> bool {
        if index < self.from {
            return true;
        }
        self.full |= index >= self.to || (!self.out.is_empty() && data.len() > self.bytes_left);
        if !self.full {
            self.bytes_left = self.bytes_left.saturating_sub(data.len());
            self.out.push((index, data.clone()));
        }
        !self.full
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    pub(crate) fn into_entries(self) -> Vec<(u64, Bytes)> {
        self.out
    }
}

/// The live entries of the written part of the stream, in order and without holes.
#[derive(Debug, Default)]
pub(crate) struct Index {
    blocks: VecDeque<Block>,
}

/// Where an entry was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) index: u64,
    pub(crate) offset: u64,
    pub(crate) end: u64,
    /// The checksum before the record.
    pub(crate) chain: u32,
}

impl Index {
    /// The first entry that is in the files.
    pub(crate) fn first(&self) -> Option<u64> {
        self.blocks.front().map(|block| block.first)
    }

    /// The sequence number of the oldest segment that holds a live entry.
    pub(crate) fn oldest_segment(&self) -> Option<u64> {
        self.blocks.front().map(|block| block.segment.sequence)
    }

    /// Adds the next entry.
    pub(crate) fn push(&mut self, segment: &Arc<Segment>, place: Place) {
        if let Some(block) = self.blocks.back_mut()
            && block.segment.sequence == segment.sequence
            && !block.closed
            && block.last + 1 == place.index
            && place.end - block.offset <= BLOCK_BYTES
        {
            block.last = place.index;
            block.end = place.end;
            return;
        }
        self.blocks.push_back(Block {
            segment: segment.clone(),
            offset: place.offset,
            end: place.end,
            chain: place.chain,
            first: place.index,
            last: place.index,
            closed: false,
        });
    }

    /// Follows any record but an entry.
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Truncate { keep_to } => self.truncate(*keep_to),
            Record::Purge { upto, .. } => self.purge(*upto),
            Record::Entry { .. } | Record::Vote(_) | Record::Commit(_) => {}
        }
    }

    /// Forgets the entries above `keep_to`.
    fn truncate(&mut self, keep_to: Option<u64>) {
        let Some(keep_to) = keep_to else {
            return self.blocks.clear();
        };
        while self
            .blocks
            .back()
            .is_some_and(|block| block.first > keep_to)
        {
            self.blocks.pop_back();
        }
        if let Some(block) = self.blocks.back_mut() {
            block.last = block.last.min(keep_to);
            block.closed = true;
        }
    }

    /// Forgets the entries up to `upto`.
    fn purge(&mut self, upto: u64) {
        while self.blocks.front().is_some_and(|block| block.last <= upto) {
            self.blocks.pop_front();
        }
        if let Some(block) = self.blocks.front_mut() {
            block.first = block.first.max(upto + 1);
        }
    }

    /// The blocks from that of `from` on, of about `bytes_max` bytes, at least one.
    pub(crate) fn blocks(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Block> {
        let at = self.blocks.partition_point(|block| block.last < from);
        let mut bytes = 0;
        let wanted = self.blocks.iter().skip(at).take_while(|block| {
            let take = block.first < to && bytes <= bytes_max as u64;
            bytes += block.end - block.offset;
            take
        });
        wanted.cloned().collect()
    }
}
