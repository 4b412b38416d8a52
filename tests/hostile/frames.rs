//! HTTP/2 by hand: frames that no library would write.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, timeout_at},
};

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The error code CANCEL.
pub(crate) const CANCEL: u32 = 8;

/// A member says what it has to say by then.
const SAYS_WITHIN: Duration = Duration::from_secs(30);

/// Largest payload that we let a member send: HTTP/2's own limit unless we raise it.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;

/// A connection on which we write what we like.
pub(crate) struct Raw {
    reads: OwnedReadHalf,
    writes: OwnedWriteHalf,
}

/// A frame from the member.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// How the member ended a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With GOAWAY, its error code, and what was said in it.
    GoAway(u32, String),
    /// Without a word.
    Closed,
}

impl Raw {
    /// Connects, without a word.
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        Ok(Self::of(TcpStream::connect(address).await?))
    }

    /// Connects from an address of the loopback network, so that other clients are at another one.
    pub(crate) async fn connect_from(from: Ipv4Addr, address: &str) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Ok(Self::of(socket.connect(address.parse()?).await?))
    }

    /// Connects and greets with settings, given as pairs.
    pub(crate) async fn open(address: &str, settings: &[(u16, u32)]) -> Result<Self> {
        let mut raw = Self::connect(address).await?;
        let greeting = [PREFACE, &frame(SETTINGS, 0, 0, &pairs(settings))].concat();
        raw.write(&greeting).await?;
        Ok(raw)
    }

    fn of(stream: TcpStream) -> Self {
        let (reads, writes) = stream.into_split();
        Self { reads, writes }
    }

    /// Writes bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.writes.write_all(bytes).await?)
    }

    /// Writes `bytes` up to `times` times; less if the member ends the connection before. Whatever it says meanwhile is read, so
    /// that it cannot excuse itself with our not listening. How the member ended it, if it did.
    pub(crate) async fn flood(self, bytes: &[u8], times: usize) -> Result<Option<End>> {
        let Self {
            mut reads,
            mut writes,
        } = self;
        let listening = tokio::spawn(async move { end_of(&mut reads, None).await });
        for _ in 0..times {
            if listening.is_finished() || writes.write_all(bytes).await.is_err() {
                return Ok(Some(listening.await??));
            }
        }
        // It may be on its way yet: ask for an answer that comes behind everything else.
        let _may_be_closed = writes.write_all(&frame(PING, 0, 0, &LAST_PING)).await;
        let end = listening.await??;
        Ok((end != PONG).then_some(end))
    }

    /// The next frame; `None` once the member has closed the connection.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>> {
        next_frame(&mut self.reads, Instant::now() + SAYS_WITHIN).await
    }

    /// The next frame, however long it takes.
    pub(crate) async fn patiently(&mut self) -> Result<Option<Frame>> {
        let far = Instant::now() + 10 * SAYS_WITHIN;
        next_frame(&mut self.reads, far).await
    }

    /// Reads until the member ends the connection.
    pub(crate) async fn end(&mut self) -> Result<End> {
        end_of(&mut self.reads, Some(Instant::now() + SAYS_WITHIN)).await
    }

    /// Reads until a frame of this kind comes.
    pub(crate) async fn until(&mut self, kind: u8) -> Result<Frame> {
        loop {
            let frame = self.next().await?.context("the connection is closed")?;
            if frame.kind == kind {
                return Ok(frame);
            }
            if frame.kind == GOAWAY {
                bail!("sent away: {frame:?}");
            }
        }
    }
}

/// What our last PING carries.
const LAST_PING: [u8; 8] = *b"the last";

/// Stands for the answer to our last PING.
const PONG: End = End::GoAway(u32::MAX, String::new());

/// How the member ends the connection, or [`PONG`]. Without a deadline it may take as long as the caller writes.
async fn end_of(reads: &mut OwnedReadHalf, deadline: Option<Instant>) -> Result<End> {
    loop {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + SAYS_WITHIN);
        match next_frame(reads, deadline).await? {
            None => return Ok(End::Closed),
            Some(frame) if frame.kind == PING && frame.payload == LAST_PING => return Ok(PONG),
            Some(frame) if frame.kind == GOAWAY => {
                let code = frame.payload.get(4..8).context("GOAWAY has a code")?;
                let code = u32::from_be_bytes(code.try_into()?);
                let text = String::from_utf8_lossy(&frame.payload[8..]).into_owned();
                return Ok(End::GoAway(code, text));
            }
            Some(_) => {}
        }
    }
}

async fn next_frame(reads: &mut OwnedReadHalf, deadline: Instant) -> Result<Option<Frame>> {
    let mut head = [0; 9];
    let read = timeout_at(deadline, reads.read_exact(&mut head)).await;
    // A connection that the member resets has ended as well.
    if read.context("the member says nothing")?.is_err() {
        return Ok(None);
    }
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        bail!("a frame of {length} bytes");
    }
    let mut payload = vec![0; length];
    let read = timeout_at(deadline, reads.read_exact(&mut payload)).await;
    if read.context("the member stops within a frame")?.is_err() {
        return Ok(None);
    }
    let stream = u32::from_be_bytes(head[5..9].try_into()?) & (u32::MAX >> 1);
    Ok(Some(Frame {
        kind: head[3],
        stream,
        payload,
    }))
}

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("frames are short");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The payload of SETTINGS.
pub(crate) fn pairs(settings: &[(u16, u32)]) -> Vec<u8> {
    let pair = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    settings.iter().flat_map(pair).collect()
}

/// The head of a call of `path`, as a header block without compression.
pub(crate) fn head(path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "member"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let field = |(name, value): (&str, &str)| field(name, value);
    fields.into_iter().flat_map(field).collect()
}

/// One header field, literally and not to be remembered.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match text.len() {
        short @ 0..127 => bytes.push(short as u8),
        mut long => {
            bytes.push(127);
            long -= 127;
            while long >= 128 {
                bytes.push((long % 128) as u8 | 128);
                long /= 128;
            }
            bytes.push(long as u8);
        }
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// HEADERS that begin a call of `path`.
pub(crate) fn call(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &head(path))
}

/// DATA with one gRPC message, the last.
pub(crate) fn message(stream: u32, message: &[u8]) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, &envelope(message))
}

/// A message with the five bytes that gRPC puts before it.
pub(crate) fn envelope(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("messages are short");
    [&[0][..], &length.to_be_bytes(), message].concat()
}
