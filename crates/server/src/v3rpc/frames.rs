//! gRPC's length-prefixed messages, followed while their bytes go by.
//!
//! tonic counts no messages, and refuses a large one with a text of its own; clients of etcd know grpc-go's. So the body of each
//! request and response passes through a [`FrameReader`], which looks at the five bytes before each message and skips the rest.

use tonic::Status;

/// One byte of flags and four of length.
pub(super) const HEAD_LEN: usize = 5;

/// What stands before a message of `length` bytes; what grpc-go says if there is no number for so many.
pub(super) fn head(length: usize) -> Result<[u8; HEAD_LEN], Status> {
    let number = u32::try_from(length).map_err(|_| {
        Status::resource_exhausted(format!("grpc: message too large ({length} bytes)"))
    })?;
    let [a, b, c, d] = number.to_be_bytes();
    Ok([0, a, b, c, d])
}

/// Where in the stream of messages we are.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    head: [u8; HEAD_LEN],
    head_len: usize,
    /// Bytes of the present message.
    length: usize,
    /// Those of them that have not gone by.
    left: usize,
}

/// What went by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Messages that began.
    pub(crate) messages: u64,
    /// Their lengths, without heads.
    pub(crate) bytes: u64,
    /// Length of the largest.
    pub(crate) largest: usize,
}

impl FrameReader {
    /// Bytes that have come of a message that is not complete; 0 between messages.
    pub(crate) fn unfinished(&self) -> usize {
        match self.left {
            0 => self.head_len,
            left => HEAD_LEN + self.length - left,
        }
    }

    /// Follows the stream over the next bytes.
    pub(crate) fn advance(&mut self, mut data: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !data.is_empty() {
            let skipped = self.left.min(data.len());
            self.left -= skipped;
            data = &data[skipped..];
            let taken = (HEAD_LEN - self.head_len).min(data.len());
            self.head[self.head_len..self.head_len + taken].copy_from_slice(&data[..taken]);
            self.head_len += taken;
            data = &data[taken..];
            if self.head_len == HEAD_LEN {
                let [_flags, length @ ..] = self.head;
                self.length = u32::from_be_bytes(length) as usize;
                self.left = self.length;
                self.head_len = 0;
                seen.messages += 1;
                seen.bytes += self.left as u64;
                seen.largest = seen.largest.max(self.left);
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_seen_however_the_bytes_are_cut() {
        let mut stream = Vec::new();
        for length in [0usize, 1, 300, 0, 7] {
            stream.push(0);
            stream.extend((length as u32).to_be_bytes());
            stream.extend(vec![0xff; length]);
        }
        for step in 1..stream.len() + 1 {
            let mut reader = FrameReader::default();
            let mut total = Seen::default();
            for piece in stream.chunks(step) {
                let seen = reader.advance(piece);
                total.messages += seen.messages;
                total.bytes += seen.bytes;
                total.largest = total.largest.max(seen.largest);
            }
            let expected = Seen {
                messages: 5,
                bytes: 308,
                largest: 300,
            };
            assert_eq!(total, expected, "cut every {step} bytes");
        }
    }

    #[test]
    fn a_message_is_unfinished_until_its_last_byte() {
        let mut reader = FrameReader::default();
        let mut unfinished = Vec::new();
        for byte in [0, 0, 0, 0, 2, 7, 7, 0] {
            reader.advance(&[byte]);
            unfinished.push(reader.unfinished());
        }
        assert_eq!(unfinished, [1, 2, 3, 4, 5, 6, 0, 1]);
    }

    #[test]
    fn head_is_what_the_reader_reads() {
        let mut reader = FrameReader::default();
        let seen = reader.advance(&head(70_000).unwrap());
        assert_eq!((seen.messages, seen.bytes), (1, 70_000));
        assert!(head(u32::MAX as usize + 1).is_err());
    }

    #[test]
    fn a_length_counts_as_soon_as_it_is_known() {
        let mut reader = FrameReader::default();
        assert_eq!(reader.advance(&[0, 0xff, 0xff, 0xff]).messages, 0);
        assert_eq!(reader.advance(&[0xff]).largest, u32::MAX as usize);
    }
}
