//! What a connection has to say, as far as the server takes it.

use std::{
    io::{self, ErrorKind, Write},
    net::TcpStream,
};

use super::frame::{self, PAYLOAD_BYTES_MAX, WINDOW_BYTES};

/// Messages of a stream of which something waits for the server's windows.
#[derive(Debug)]
struct Waiting {
    stream: u32,
    bytes: Vec<u8>,
    sent: usize,
    /// On the last frame.
    flags: u8,
    /// What the server takes on the stream.
    window: i64,
}

/// Frames on their way out.
///
/// A message that fits into a frame goes at once, as nearly all do: only the connection's window is counted for it. That of its stream
/// is whole, since a request of one frame is all that its stream carries, or the last message was answered. Others are cut into frames
/// and go as both windows let them.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    /// What the server takes on the connection.
    window: i64,
    /// What it takes on a new stream.
    initial: i64,
    waiting: Vec<Waiting>,
}

impl Outgoing {
    /// Nothing but the client's preface.
    pub(super) fn new() -> Self {
        Self {
            bytes: frame::PREFACE.to_vec(),
            written: 0,
            window: WINDOW_BYTES.into(),
            initial: WINDOW_BYTES.into(),
            waiting: Vec::new(),
        }
    }

    /// Where frames that no window holds back are put.
    pub(super) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Sends a message on a stream, the first or one behind an answer.
    pub(super) fn message(&mut self, stream: u32, message: &[u8], flags: u8) {
        let length = i64::try_from(message.len()).expect("messages are short");
        let fits = message.len() <= PAYLOAD_BYTES_MAX && length <= self.window;
        if fits && self.waiting.is_empty() {
            self.window -= length;
            frame::put(frame::DATA, flags, stream, message, &mut self.bytes);
            return;
        }
        let had = self.waiting.iter_mut().find(|had| had.stream == stream);
        if let Some(had) = had {
            // Frames need not end where messages do.
            had.bytes.extend_from_slice(message);
            had.flags = flags;
            return;
        }
        self.waiting.push(Waiting {
            stream,
            bytes: message.to_vec(),
            sent: 0,
            flags,
            window: self.initial,
        });
        self.go_on();
    }

    /// The server takes more, on a stream or, as stream 0, on the connection.
    pub(super) fn window_update(&mut self, stream: u32, payload: &[u8]) {
        let Some(more) = payload.first_chunk() else {
            return;
        };
        let more = i64::from(u32::from_be_bytes(*more) & 0x7fff_ffff);
        if stream == 0 {
            self.window += more;
        }
        for waiting in self.waiting.iter_mut().filter(|had| had.stream == stream) {
            waiting.window += more;
        }
        self.go_on();
    }

    /// The server's settings, of which the window of new streams also changes that of those which stand.
    pub(super) fn settings(&mut self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            let [n1, n0, v3, v2, v1, v0] = *setting else {
                continue;
            };
            if u16::from_be_bytes([n1, n0]) == frame::INITIAL_WINDOW_SIZE {
                let initial = i64::from(u32::from_be_bytes([v3, v2, v1, v0]));
                for waiting in &mut self.waiting {
                    waiting.window += initial - self.initial;
                }
                self.initial = initial;
            }
        }
        self.go_on();
    }

    /// Forgets what waits on a stream that has ended.
    pub(super) fn end(&mut self, stream: u32) {
        self.waiting.retain(|waiting| waiting.stream != stream);
    }

    fn go_on(&mut self) {
        let (out, window) = (&mut self.bytes, &mut self.window);
        self.waiting.retain_mut(|waiting| !waiting.put(window, out));
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, mut socket: &TcpStream) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match socket.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.written = 0;
        Ok(())
    }
}

impl Waiting {
    /// Puts out what the windows let through; whether that was all.
    fn put(&mut self, connection: &mut i64, out: &mut Vec<u8>) -> bool {
        loop {
            let rest = &self.bytes[self.sent..];
            let open = usize::try_from(self.window.min(*connection)).unwrap_or(0);
            let length = open.min(PAYLOAD_BYTES_MAX).min(rest.len());
            if length == 0 {
                return rest.is_empty();
            }
            let flags = if length == rest.len() { self.flags } else { 0 };
            frame::put(frame::DATA, flags, self.stream, &rest[..length], out);
            self.sent += length;
            let length = i64::try_from(length).expect("it fits into a frame");
            self.window -= length;
            *connection -= length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::frame::{END_STREAM, HEAD_BYTES, Head},
        *,
    };

    /// The frames put out since the last look: stream, length, and whether the stream ends.
    fn put_out(outgoing: &mut Outgoing) -> Vec<(u32, usize, bool)> {
        let bytes = std::mem::take(outgoing.frames());
        let mut bytes = bytes.strip_prefix(frame::PREFACE).unwrap_or(&bytes);
        let mut frames = Vec::new();
        while let Some(head) = Head::decode(bytes) {
            assert_eq!(head.kind, frame::DATA);
            frames.push((head.stream, head.length, head.flags == END_STREAM));
            bytes = &bytes[HEAD_BYTES + head.length..];
        }
        assert!(bytes.is_empty());
        frames
    }

    fn setting(value: u32) -> Vec<u8> {
        let name = frame::INITIAL_WINDOW_SIZE.to_be_bytes();
        [&name[..], &value.to_be_bytes()].concat()
    }

    const FRAME: usize = PAYLOAD_BYTES_MAX;

    #[test]
    fn a_long_message_goes_as_both_windows_let_it() {
        let mut outgoing = Outgoing::new();
        outgoing.message(1, &vec![7; 5 * FRAME], END_STREAM);
        // 65,535 are 64 KiB less a byte.
        let first = [(1, FRAME, false); 3].into_iter();
        let first: Vec<_> = first.chain([(1, FRAME - 1, false)]).collect();
        assert_eq!(put_out(&mut outgoing), first);
        outgoing.window_update(1, &100_000_u32.to_be_bytes());
        assert_eq!(put_out(&mut outgoing), [], "the connection's is closed");
        outgoing.window_update(0, &10_u32.to_be_bytes());
        assert_eq!(put_out(&mut outgoing), [(1, 10, false)]);
        outgoing.window_update(0, &100_000_u32.to_be_bytes());
        assert_eq!(put_out(&mut outgoing), [(1, FRAME - 9, true)]);
    }

    #[test]
    fn a_stream_that_waits_lets_others_pass() {
        let mut outgoing = Outgoing::new();
        outgoing.settings(&setting(10));
        outgoing.message(1, &vec![7; FRAME + 1], END_STREAM);
        outgoing.message(3, &[7; 8], END_STREAM);
        assert_eq!(put_out(&mut outgoing), [(1, 10, false), (3, 8, true)]);
        // More for new streams is more for those which stand.
        outgoing.settings(&setting(20));
        assert_eq!(put_out(&mut outgoing), [(1, 10, false)]);
        outgoing.end(1);
        outgoing.window_update(1, &100_000_u32.to_be_bytes());
        assert_eq!(put_out(&mut outgoing), []);
    }

    #[test]
    fn messages_of_a_stream_keep_their_order() {
        let mut outgoing = Outgoing::new();
        outgoing.settings(&setting(10));
        outgoing.message(1, &vec![7; FRAME + 1], 0);
        outgoing.message(1, &[8; 5], END_STREAM);
        outgoing.settings(&setting(1 << 20));
        let wanted = [(1, 10, false), (1, FRAME - 4, true)];
        assert_eq!(put_out(&mut outgoing), wanted);
    }
}
