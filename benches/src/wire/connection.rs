//! One connection to a server.

use std::{
    io::{self, ErrorKind, Read},
    mem,
    net::{SocketAddr, TcpStream},
};

use super::{
    frame::{self, HEAD_BYTES, Head, WINDOW_BYTES, WINDOW_BYTES_MAX},
    hpack::HeaderTable,
    outgoing::Outgoing,
    unframe::Unframer,
};

/// Read at once: an answer with 1000 values of 256 bytes.
const INPUT_BYTES: usize = 512 * 1024;
/// So much received is given back to the server's window in one go.
const GIVEN_BACK_BYTES: u32 = 1 << 28;

/// What a server says.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A part of a message, and whether it is the last one of it.
    Piece {
        stream: u32,
        bytes: &'a [u8],
        last: bool,
    },
    /// The stream has ended, well or not: a unary call that failed had no message.
    Ended { stream: u32 },
}

/// Whether more messages follow on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum More {
    Follows,
    Ends,
}

/// A non-blocking connection. Requests gather in a buffer until [`Connection::flush`].
#[derive(Debug)]
pub(crate) struct Connection {
    socket: TcpStream,
    authority: String,
    headers: HeaderTable,
    next_stream: u32,
    /// Received and not given back to the server's window.
    owed: u32,
    output: Outgoing,
    /// Untouched pages of it take no memory: an idle connection has few.
    input: Vec<u8>,
    filled: usize,
    /// Whether the server has sent its settings.
    greeted: bool,
    unframer: Unframer,
}

impl Connection {
    /// Connects and puts the client's preface into the buffer.
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut output = Outgoing::new();
        let mut settings = Vec::new();
        for (name, value) in [
            (frame::ENABLE_PUSH, 0),
            (frame::INITIAL_WINDOW_SIZE, WINDOW_BYTES_MAX),
        ] {
            settings.extend_from_slice(&name.to_be_bytes());
            settings.extend_from_slice(&u32::to_be_bytes(value));
        }
        frame::put(frame::SETTINGS, 0, 0, &settings, output.frames());
        let more = (WINDOW_BYTES_MAX - WINDOW_BYTES).to_be_bytes();
        frame::put(frame::WINDOW_UPDATE, 0, 0, &more, output.frames());
        Ok(Self {
            socket,
            authority: address.to_string(),
            headers: HeaderTable::default(),
            next_stream: 1,
            owed: 0,
            output,
            input: vec![0; INPUT_BYTES],
            filled: 0,
            greeted: false,
            unframer: Unframer::default(),
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether the server has answered the client's preface: it has taken the connection.
    pub(crate) fn is_greeted(&self) -> bool {
        self.greeted
    }

    /// Calls `path` with a first message, of any length; gives the stream.
    pub(crate) fn call(&mut self, path: &str, message: &[u8], more: More) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let output = self.output.frames();
        let at = output.len();
        let mut head = Head {
            length: 0,
            kind: frame::HEADERS,
            flags: frame::END_HEADERS,
            stream,
        };
        head.encode(output);
        self.headers.request(path, &self.authority, output);
        head.length = output.len() - at - HEAD_BYTES;
        head.write_length(&mut output[at..]);
        self.send(stream, message, more);
        stream
    }

    /// Sends a further message, with its gRPC prefix, on a stream whose last one was answered.
    pub(crate) fn send(&mut self, stream: u32, message: &[u8], more: More) {
        let flags = match more {
            More::Follows => 0,
            More::Ends => frame::END_STREAM,
        };
        self.output.message(stream, message, flags);
    }

    /// Writes what waits, as far as the socket takes it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.output.flush(&self.socket)
    }

    /// Reads until nothing is left to read.
    pub(crate) fn receive(&mut self, mut on: impl FnMut(Event<'_>)) -> io::Result<()> {
        loop {
            match self.socket.read(&mut self.input[self.filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.filled += count;
                    let drained = self.filled < self.input.len();
                    self.parse(&mut on)?;
                    if drained {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes every frame that is complete.
    fn parse(&mut self, on: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        // Out of `self` for as long as frames borrow from it.
        let mut input = mem::take(&mut self.input);
        let mut at = 0;
        let mut result = Ok(());
        while let Some(head) = Head::decode(&input[at..self.filled]) {
            let end = at + HEAD_BYTES + head.length;
            if end > self.filled {
                break;
            }
            result = self.frame(head, &input[at + HEAD_BYTES..end], on);
            at = end;
            if result.is_err() {
                break;
            }
        }
        input.copy_within(at..self.filled, 0);
        self.filled -= at;
        self.input = input;
        result
    }

    fn frame(
        &mut self,
        head: Head,
        payload: &[u8],
        on: &mut impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        let stream = head.stream;
        match head.kind {
            frame::DATA => self.data(head, payload, on)?,
            // The block is not decoded: whether a call succeeded is told by its message.
            frame::HEADERS if head.flags & frame::END_STREAM != 0 => self.ended(stream, on),
            frame::RST_STREAM => self.ended(stream, on),
            frame::SETTINGS | frame::PING if head.flags & frame::ACK == 0 => {
                let echoed = if head.kind == frame::PING {
                    payload
                } else {
                    self.greeted = true;
                    self.output.settings(payload);
                    &[]
                };
                frame::put(head.kind, frame::ACK, 0, echoed, self.output.frames());
            }
            frame::WINDOW_UPDATE => self.output.window_update(stream, payload),
            frame::GOAWAY => {
                let text = String::from_utf8_lossy(payload.get(8..).unwrap_or_default());
                return Err(io::Error::other(format!("the server goes away: {text}")));
            }
            // Answer heads, and what the server says of our settings: see the module's essay.
            _ => {}
        }
        Ok(())
    }

    fn data(
        &mut self,
        head: Head,
        payload: &[u8],
        on: &mut impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        if head.flags & frame::PADDED != 0 {
            return Err(io::Error::other(
                "a padded frame, which no gRPC server sends",
            ));
        }
        let stream = head.stream;
        self.unframer.take(stream, payload, &mut |bytes, last| {
            on(Event::Piece {
                stream,
                bytes,
                last,
            });
        });
        self.owed += u32::try_from(payload.len()).map_err(|_| ErrorKind::InvalidData)?;
        if self.owed > GIVEN_BACK_BYTES {
            let given = self.owed.to_be_bytes();
            frame::put(frame::WINDOW_UPDATE, 0, 0, &given, self.output.frames());
            self.owed = 0;
        }
        if head.flags & frame::END_STREAM != 0 {
            self.ended(stream, on);
        }
        Ok(())
    }

    fn ended(&mut self, stream: u32, on: &mut impl FnMut(Event<'_>)) {
        self.unframer.end(stream);
        self.output.end(stream);
        on(Event::Ended { stream });
    }
}
