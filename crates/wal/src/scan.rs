//! One pass over the records of a segment, and what is cut off at its end.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Error, Torn,
    index::{Index, Place},
    record::{self, CLAIM_BYTES, Claim, HEAD_BYTES, Head, Kind},
    recover::Tail,
    segment::{End, Header, Segment},
    view::View,
    window::{PART_BYTES, WINDOW_BYTES, Window},
};

/// What most of a file behind its records looks like.
const ZEROS: [u8; PART_BYTES] = [0; PART_BYTES];

/// A segment and what its header says.
pub(crate) struct SegmentFile {
    pub(crate) segment: Arc<Segment>,
    pub(crate) header: Header,
    pub(crate) start: End,
}

/// One pass over the records of a segment.
pub(crate) struct Scan<'a> {
    segment: &'a Arc<Segment>,
    salt: u64,
    window: Window<'a>,
    at: End,
    /// The furthest watermark seen.
    claimed: u64,
    unclaimed: bool,
    /// Something other than zeros follows the last record.
    torn: bool,
}

impl<'a> Scan<'a> {
    pub(crate) fn new(file: &'a SegmentFile) -> Self {
        Self {
            segment: &file.segment,
            salt: file.header.salt,
            window: Window::new(&*file.segment.file, &file.segment.path),
            at: file.start,
            claimed: file.start.offset,
            unclaimed: false,
            torn: false,
        }
    }

    /// Applies the records. `end` is where they must end, if a later segment says so; else they end at the first that does not
    /// check, provided that nothing behind it claims otherwise.
    pub(crate) fn run(
        &mut self,
        end: Option<End>,
        view: &mut View,
        index: &mut Index,
    ) -> Result<(), Error> {
        let problem = loop {
            if end.is_some_and(|end| end.offset == self.at.offset) {
                break None;
            }
            match self.step(view, index)? {
                Step::Record => {}
                Step::Zeros => break end.map(|_| "the record is gone"),
                Step::Bad(what) => break Some(what),
            }
        };
        if let Some(end) = end {
            let what = match problem {
                Some(what) => what,
                None if end != self.at => "the next segment does not continue this one",
                None => return Ok(()),
            };
            return Err(self.damaged(what));
        }
        if let Some(claim) = self.find_claim()? {
            let what = problem.unwrap_or("the record is gone");
            let what = format!("{what}, and the log goes on at {}", claim.offset);
            return Err(self.damaged(what));
        }
        Ok(())
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::damaged(&self.segment.path, self.at.offset, what)
    }

    /// Applies the next record.
    fn step(&mut self, view: &mut View, index: &mut Index) -> Result<Step, Error> {
        let End { offset, chain } = self.at;
        let Some(head) = self.window.get(offset, HEAD_BYTES)? else {
            return Ok(Step::Zeros);
        };
        let Some(head) = Head::parse(head) else {
            return Ok(Step::Zeros);
        };
        let Some(frame) = self.window.get(offset, HEAD_BYTES + head.body_bytes)? else {
            return Ok(Step::Bad("the record is longer than the file"));
        };
        let (kind, next) = match head.verify(frame, chain) {
            Ok(verified) => verified,
            Err(what) => return Ok(Step::Bad(what)),
        };
        let end = offset + frame.len() as u64;
        let body = &frame[HEAD_BYTES..];
        let applied = match kind {
            Kind::Batch => match Claim::decode(body, self.salt, offset) {
                Some(claim) => {
                    self.claimed = self.claimed.max(claim.watermark);
                    self.unclaimed = self.claimed < offset;
                    Ok(())
                }
                None => return Err(self.damaged("the batch record is that of another place")),
            },
            Kind::Entry => {
                let Some(entry) = record::entry_index(body) else {
                    return Err(self.damaged("the entry has no index"));
                };
                self.unclaimed = true;
                let place = Place {
                    index: entry,
                    offset,
                    end,
                    chain,
                };
                view.entry(entry).map(|()| index.push(self.segment, place))
            }
            _ => {
                let Some(record) = record::decode(kind, &Bytes::copy_from_slice(body)) else {
                    return Err(self.damaged("the record is too short"));
                };
                self.unclaimed = true;
                index.apply(&record);
                view.apply(&record)
            }
        };
        applied.map_err(|error| self.damaged(error.to_string()))?;
        self.at = End {
            offset: end,
            chain: next,
        };
        Ok(Step::Record)
    }

    /// Looks behind the last good record for a batch record whose watermark lies beyond it.
    fn find_claim(&mut self) -> Result<Option<Claim>, Error> {
        let salt = self.salt.to_le_bytes();
        let mut offset = self.at.offset;
        while let Some(part) = self.window.part(offset)? {
            if is_zero(part) {
                offset += part.len() as u64;
                continue;
            }
            self.torn = true;
            let found = part.windows(salt.len()).position(|bytes| bytes == salt);
            let Some(found) = found else {
                // The last bytes may be the beginning of a salt.
                let last = part.len() < PART_BYTES;
                let keep = if last { 0 } else { salt.len() as u64 - 1 };
                offset += part.len() as u64 - keep;
                continue;
            };
            let body_at = offset + found as u64;
            let batch_at = body_at.saturating_sub(HEAD_BYTES as u64);
            if let Some(body) = self.window.get(body_at, CLAIM_BYTES)?
                && let Some(claim) = Claim::decode(body, self.salt, batch_at)
                && claim.watermark > self.at.offset
            {
                return Ok(Some(claim));
            }
            offset = body_at + 1;
        }
        Ok(None)
    }

    /// Cuts off the torn tail and makes durable what is kept.
    pub(crate) fn settle(mut self, last: &SegmentFile) -> Result<(Tail, Option<Torn>), Error> {
        let (file, path) = (&last.segment.file, &last.segment.path);
        let end = self.at;
        self.rewrite(end.offset)?;
        let torn = self.torn.then(|| Torn {
            path: path.clone(),
            offset: end.offset,
            bytes: self.window.len - end.offset,
        });
        if torn.is_some() {
            file.set_len(end.offset).map_err(Error::io("cut", path))?;
        }
        file.sync().map_err(Error::io("sync", path))?;
        let tail = Tail {
            end,
            salt: self.salt,
            unclaimed: self.unclaimed,
        };
        Ok((tail, torn))
    }

    /// Writes again what no watermark covers: a failed sync may have left pages that are marked clean and on no disk.
    fn rewrite(&mut self, end: u64) -> Result<(), Error> {
        let mut offset = self.claimed;
        while offset < end {
            let bytes = WINDOW_BYTES.min(end - offset);
            let Some(part) = self.window.get(offset, bytes as usize)? else {
                return Err(self.damaged("the file became shorter"));
            };
            let write = self.segment.file.write_all_at(part, offset);
            write.map_err(Error::io("write", &self.segment.path))?;
            offset += bytes;
        }
        Ok(())
    }
}

enum Step {
    Record,
    /// The log ends here, as it seems.
    Zeros,
    Bad(&'static str),
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(PART_BYTES)
        .all(|chunk| chunk == &ZEROS[..chunk.len()])
}
