//! Repairs one mistake of old clients.
//!
//! etcdctl 3.4 names its endpoint with the scheme in `:authority` (`http://127.0.0.1:2379`). grpc-go lets that pass; for h2 it is a
//! malformed request. A client writes the name once, in the first request of a connection, and later points to it in the header
//! table that both ends keep. So only the first HEADERS frame is looked at, and a name with a scheme in it is replaced there; what
//! is not understood passes as it is, and so does everything after that frame.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::{Frames, HEAD_LEN, HEADERS, Stretch};

const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;
/// Bytes of a HEADERS frame before its fields, if it has a priority.
const PRIORITY_LEN: usize = 5;

/// Place of `:authority` in HPACK's static table.
const AUTHORITY: usize = 1;

/// What such a name is replaced by. No handler looks at it.
const REPLACEMENT: &[u8] = b"localhost";

/// `http://` and `https://`, raw and in Huffman's code; of the last byte only so many bits count.
const SCHEMES: [(bool, &[u8], u32); 4] = [
    (false, b"http://", 8),
    (false, b"https://", 8),
    (true, &[0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x00], 1),
    (true, &[0x9d, 0x29, 0xad, 0x17, 0x18, 0x60], 6),
];

/// Longest HEADERS frame that is held: HTTP/2 allows no longer one unless we say so.
const HELD_BYTES_MAX: usize = 16 << 10;

/// Bytes read at a time before a connection is left to itself.
const READ_BYTES: usize = 4096;

/// A connection whose first request is looked at.
pub(crate) struct Repaired<S> {
    stream: S,
    filter: Filter,
    /// Looked at, and not yet given on.
    out: Vec<u8>,
    given: usize,
}

impl<S> Repaired<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            filter: Filter::default(),
            out: Vec::new(),
            given: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Repaired<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let due = &this.out[this.given..];
            if !due.is_empty() {
                let taken = due.len().min(buf.remaining());
                buf.put_slice(&due[..taken]);
                this.given += taken;
                return Poll::Ready(Ok(()));
            }
            if this.filter.done {
                this.out = Vec::new();
                this.given = 0;
                return Pin::new(&mut this.stream).poll_read(cx, buf);
            }
            this.out.clear();
            this.given = 0;
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                this.filter.finish(&mut this.out);
            } else {
                this.filter.feed(read.filled(), &mut this.out);
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Repaired<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Lets everything pass at once but the first HEADERS frame, which it holds until it is whole: the client waits for our settings
/// before it sends a request, and we send them when we have its preface.
#[derive(Default)]
struct Filter {
    frames: Frames,
    /// The frame that is held, its head included.
    held: Vec<u8>,
    /// Bytes of it that are due.
    due: usize,
    done: bool,
}

impl Filter {
    fn feed(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while !self.done
            && let Some(stretch) = self.frames.next(&mut data)
        {
            match stretch {
                // HTTP/1, or nothing that we know.
                Stretch::Other(bytes) => {
                    self.done = true;
                    out.extend(bytes);
                }
                Stretch::Head(head) if head.kind() == HEADERS => {
                    self.held.extend(head.0);
                    self.due = head.length();
                    // One that is longer than HTTP/2 allows is not waited for.
                    self.done = self.due == 0 || self.due > HELD_BYTES_MAX;
                }
                Stretch::Head(head) => out.extend(head.0),
                Stretch::Payload(bytes) if !self.held.is_empty() => {
                    self.held.extend(bytes);
                    self.due -= bytes.len();
                    self.done = self.due == 0;
                }
                Stretch::Preface(bytes) | Stretch::Payload(bytes) => out.extend(bytes),
            }
        }
        if self.done {
            let held = std::mem::take(&mut self.held);
            out.extend(repair(&held).unwrap_or(held));
            out.extend(data);
        }
    }

    /// The connection has ended: what was held goes on as it is.
    fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        out.extend(self.frames.unfinished());
        self.done = true;
    }
}

/// The frame with another authority, if it has one with a scheme.
fn repair(frame: &[u8]) -> Option<Vec<u8>> {
    let flags = *frame.get(4)?;
    if flags & PADDED != 0 {
        return None;
    }
    let skipped = if flags & PRIORITY != 0 {
        PRIORITY_LEN
    } else {
        0
    };
    let mut fields = Fields {
        frame,
        at: HEAD_LEN + skipped,
    };
    let value = fields.authority()?;
    let (huffman, text) = value.content(frame);
    let has_scheme = SCHEMES.iter().any(|&(coded, scheme, last_bits)| {
        coded == huffman && begins_with(text, scheme, last_bits)
    });
    if !has_scheme {
        return None;
    }
    let mut repaired = frame[..value.start].to_vec();
    repaired.push(REPLACEMENT.len() as u8);
    repaired.extend(REPLACEMENT);
    repaired.extend(&frame[value.end..]);
    let length = u32::try_from(repaired.len() - HEAD_LEN).ok()?.to_be_bytes();
    repaired[..3].copy_from_slice(&length[1..]);
    Some(repaired)
}

/// Whether `text` begins with `scheme`, of whose last byte only the upper `last_bits` count.
fn begins_with(text: &[u8], scheme: &[u8], last_bits: u32) -> bool {
    let Some((last, whole)) = scheme.split_last() else {
        return true;
    };
    let mask = 0xff_u8 << (8 - last_bits);
    text.starts_with(whole)
        && text
            .get(whole.len())
            .is_some_and(|byte| byte & mask == last & mask)
}

/// A string in a header block: where its length stands, and its content.
struct Value {
    start: usize,
    content: usize,
    end: usize,
}

impl Value {
    /// Whether it is in Huffman's code, and its bytes.
    fn content<'a>(&self, frame: &'a [u8]) -> (bool, &'a [u8]) {
        (
            frame[self.start] & 0x80 != 0,
            &frame[self.content..self.end],
        )
    }
}

/// Walks over the fields of a header block.
struct Fields<'a> {
    frame: &'a [u8],
    at: usize,
}

impl Fields<'_> {
    /// The value of the first literal `:authority`.
    fn authority(&mut self) -> Option<Value> {
        loop {
            let kind = *self.frame.get(self.at)?;
            let index_bits = match kind {
                0x80.. => 7,
                0x40..0x80 => 6,
                0x20..0x40 => 5,
                0x00..0x20 => 4,
            };
            let index = self.integer(index_bits)?;
            // A field of the table, or a change of the table's size.
            if index_bits == 7 || index_bits == 5 {
                continue;
            }
            if index == 0 {
                self.string()?;
            }
            let value = self.string()?;
            if index == AUTHORITY {
                return Some(value);
            }
        }
    }

    /// An integer whose first `bits` are the lower ones of the present byte.
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let mask = (1_usize << bits) - 1;
        let mut value = usize::from(*self.frame.get(self.at)?) & mask;
        self.at += 1;
        if value < mask {
            return Some(value);
        }
        // Four more groups of seven bits are more than any frame has.
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(*self.frame.get(self.at)?);
            self.at += 1;
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Value> {
        let start = self.at;
        let length = self.integer(7)?;
        let content = self.at;
        self.at = content + length;
        (self.at <= self.frame.len()).then_some(Value {
            start,
            content,
            end: self.at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::PREFACE;

    /// `http://127.0.0.1:2379` in Huffman's code.
    const HUFFMAN: [u8; 15] = [
        0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x04, 0x4e, 0xae, 0x05, 0xc0, 0xb8, 0x6e, 0x09, 0x97, 0x5f,
    ];

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, 4, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    /// Preface, settings, and a request with this authority.
    fn connection(huffman: bool, authority: &[u8]) -> Vec<u8> {
        let mut fields = vec![0x83, 0x86, 0x44, 2, b'/', b'x', 0x41];
        fields.push(authority.len() as u8 | if huffman { 0x80 } else { 0 });
        fields.extend(authority);
        fields.extend([0x40, 1, b'a', 1, b'b']);
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frame(4, &[0; 12]));
        bytes.extend(frame(HEADERS, &fields));
        bytes.extend(frame(0, b"data"));
        bytes
    }

    fn frame_too_long() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        bytes.extend([0xff, 0xff, 0xff, HEADERS, 4, 0, 0, 0, 1, 0x83]);
        bytes
    }

    /// What comes out, however the bytes are cut.
    fn filtered(bytes: &[u8]) -> Vec<u8> {
        let mut results = Vec::new();
        for step in 1..=bytes.len() {
            let (mut filter, mut out) = (Filter::default(), Vec::new());
            for piece in bytes.chunks(step) {
                filter.feed(piece, &mut out);
            }
            filter.finish(&mut out);
            results.push(out);
        }
        results.dedup();
        assert_eq!(results.len(), 1);
        results.remove(0)
    }

    #[test]
    fn authority_with_a_scheme_is_replaced() {
        let repaired = connection(false, REPLACEMENT);
        assert_eq!(
            filtered(&connection(false, b"http://127.0.0.1:2379")),
            repaired
        );
        assert_eq!(filtered(&connection(false, b"https://a:1")), repaired);
        assert_eq!(filtered(&connection(true, &HUFFMAN)), repaired);
    }

    #[test]
    fn everything_else_passes_as_it_is() {
        let damaged = {
            let mut bytes = PREFACE.to_vec();
            bytes.extend(frame(HEADERS, &[0x41, 0xff, 0xff, 0xff]));
            bytes
        };
        for bytes in [
            connection(false, b"127.0.0.1:2379"),
            connection(true, &HUFFMAN[5..]),
            damaged,
            frame_too_long(),
            b"GET /health HTTP/1.1\r\n\r\n".to_vec(),
            b"PRI".to_vec(),
            PREFACE.to_vec(),
        ] {
            assert_eq!(filtered(&bytes), bytes);
        }
    }
}
