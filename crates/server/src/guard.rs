//! Watches over the bytes of one connection, of a client or a peer: that it begins as one should, and that it carries something.
//!
//! Two things that hyper and h2 do not bound. A connection that says nothing is kept for ever, since they wait for its first bytes
//! without a limit. And frames that carry nothing (PING, SETTINGS, PRIORITY, DATA without data) cost an answer or a lookup
//! each, as many as a client likes to write. Honest clients send them too: grpc-go measures its way with a PING for each round of
//! data that it gets. So they are counted only while nothing else is written to the client, and for a while.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};
use tonic::transport::server::Connected;

use crate::{
    authority::{FRAME_HEAD_LEN, PREFACE},
    connections::Admitted,
    metrics::Refused,
    server::Server,
};

/// A client that has not said what it speaks by then is not one.
const GREETING_WITHIN: Duration = Duration::from_secs(10);

/// Frames that carry nothing, in [`CONTROL_WINDOW`] and while the client is sent nothing but answers to them.
const CONTROL_FRAMES_MAX: u32 = 1000;

/// See [`CONTROL_FRAMES_MAX`].
const CONTROL_WINDOW: Duration = Duration::from_secs(10);

/// Bytes of the answer to one such frame, at most: a PING.
const CONTROL_ANSWER_BYTES: u64 = 17;

const DATA: u8 = 0;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
/// Of PING and SETTINGS: it is an answer itself.
const ACK: u8 = 1;
const END_STREAM: u8 = 1;

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 22;

/// A connection that is watched.
pub(crate) struct Guarded<S> {
    stream: S,
    server: Arc<Server>,
    /// Who it is, for the log.
    peer: String,
    /// Until when it has to greet; none once it has.
    greeting: Option<Pin<Box<Sleep>>>,
    frames: Frames,
    control: Control,
    _admitted: Admitted,
}

impl<S> Guarded<S> {
    pub(crate) fn new(stream: S, server: Arc<Server>, peer: String, admitted: Admitted) -> Self {
        Self {
            _admitted: admitted,
            stream,
            server,
            peer,
            greeting: Some(Box::pin(tokio::time::sleep(GREETING_WITHIN))),
            frames: Frames::default(),
            control: Control::default(),
        }
    }

    fn refuse(&self, what: Refused, why: &'static str) -> io::Error {
        self.server.metrics.count_refusal(what);
        tracing::warn!(remote_addr = self.peer, why, "connection closed");
        io::Error::new(io::ErrorKind::ConnectionAborted, why)
    }

    /// Looks at bytes that the client has sent.
    fn look(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.frames.greeted == 0 && bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase())
        {
            let why = match bytes.first() {
                Some(&TLS_HANDSHAKE) => "a TLS handshake, not HTTP: this URL is http://",
                _ => "not HTTP",
            };
            return Err(self.refuse(Refused::Greeting, why));
        }
        let idle = self.frames.advance(bytes);
        if self.frames.has_greeted() {
            self.greeting = None;
        }
        if idle > 0 && self.control.is_too_much(idle, Instant::now()) {
            let why = "too many control frames";
            return Err(self.refuse(Refused::ControlFrames, why));
        }
        Ok(())
    }
}

/// For the peer port, which asks who has greeted and not where from.
impl<S> Connected for Guarded<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_pending()
            && let Some(greeting) = &mut this.greeting
        {
            ready!(greeting.as_mut().poll(cx));
            let why = "no request within the time for it";
            return Poll::Ready(Err(this.refuse(Refused::Greeting, why)));
        }
        ready!(read)?;
        Poll::Ready(this.look(&buf.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data))?;
        self.control.written(written);
        Poll::Ready(Ok(written))
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
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.control.written(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Frames that carry nothing, against what was sent to the client.
#[derive(Default)]
struct Control {
    /// Since [`Control::since`], and since the client was last sent something.
    count: u32,
    since: Option<Instant>,
    /// Bytes written meanwhile.
    written: u64,
}

impl Control {
    fn written(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(bytes as u64);
    }

    /// Counts more of them.
    fn is_too_much(&mut self, more: u32, now: Instant) -> bool {
        let answers = CONTROL_ANSWER_BYTES * u64::from(self.count);
        let is_over = self
            .since
            .is_none_or(|since| now.duration_since(since) > CONTROL_WINDOW);
        if is_over || self.written > answers {
            (self.count, self.since, self.written) = (0, Some(now), 0);
        }
        self.count = self.count.saturating_add(more);
        self.count > CONTROL_FRAMES_MAX
    }
}

/// Follows the frames of HTTP/2 while their bytes go by.
#[derive(Default)]
struct Frames {
    /// Bytes of the preface that have come; beyond its length if it is another protocol.
    greeted: usize,
    head: [u8; FRAME_HEAD_LEN],
    head_len: usize,
    /// Bytes of the present frame that have not gone by.
    left: usize,
}

/// Stands in [`Frames::greeted`] for a protocol that has no frames.
const OTHER: usize = usize::MAX;

impl Frames {
    fn has_greeted(&self) -> bool {
        self.greeted >= PREFACE.len()
    }

    /// Follows the next bytes; gives how many frames began in them that carry nothing.
    fn advance(&mut self, mut bytes: &[u8]) -> u32 {
        while let Some((byte, rest)) = bytes.split_first()
            && !self.has_greeted()
        {
            let same = PREFACE[self.greeted] == *byte;
            self.greeted = if same { self.greeted + 1 } else { OTHER };
            bytes = rest;
        }
        let mut idle = 0;
        while self.greeted != OTHER && !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let taken = (FRAME_HEAD_LEN - self.head_len).min(bytes.len());
            self.head[self.head_len..self.head_len + taken].copy_from_slice(&bytes[..taken]);
            self.head_len += taken;
            bytes = &bytes[taken..];
            if self.head_len == FRAME_HEAD_LEN {
                idle += u32::from(self.begin());
            }
        }
        idle
    }

    /// Begins the frame whose head is whole; tells whether it carries nothing.
    fn begin(&mut self) -> bool {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        self.head_len = 0;
        match kind {
            PING | SETTINGS => flags & ACK == 0,
            PRIORITY => true,
            DATA => self.left == 0 && flags & END_STREAM == 0,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = (payload as u32).to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 0];
        [&head[..], &vec![7; payload]].concat()
    }

    #[test]
    fn frames_that_carry_nothing_are_counted_however_the_bytes_are_cut() {
        let stream = [
            PREFACE.to_vec(),
            frame(SETTINGS, 0, 6),
            frame(SETTINGS, ACK, 0),
            frame(DATA, 0, 300),
            frame(DATA, 0, 0),
            frame(DATA, END_STREAM, 0),
            frame(PING, 0, 8),
            frame(PING, ACK, 8),
            frame(PRIORITY, 0, 5),
            frame(8, 0, 4),
        ]
        .concat();
        for step in 1..=stream.len() {
            let mut frames = Frames::default();
            let counted: u32 = stream.chunks(step).map(|part| frames.advance(part)).sum();
            assert_eq!(counted, 4, "cut every {step} bytes");
        }
    }

    #[test]
    fn other_protocols_have_no_frames() {
        let mut frames = Frames::default();
        assert_eq!(frames.advance(b"PRI"), 0);
        assert!(!frames.has_greeted());
        assert_eq!(frames.advance(&[PING; 100]), 0);
        assert!(frames.has_greeted());
    }

    #[test]
    fn frames_count_only_while_the_client_is_sent_nothing() {
        let (mut control, now) = (Control::default(), Instant::now());
        for _ in 0..10 {
            assert!(!control.is_too_much(CONTROL_FRAMES_MAX, now));
            // Its answers, and a little more.
            control.written(CONTROL_ANSWER_BYTES as usize * CONTROL_FRAMES_MAX as usize + 1);
        }
        assert!(!control.is_too_much(CONTROL_FRAMES_MAX, now));
        control.written(CONTROL_ANSWER_BYTES as usize * CONTROL_FRAMES_MAX as usize);
        assert!(control.is_too_much(1, now));
        let later = now + 2 * CONTROL_WINDOW;
        assert!(!control.is_too_much(1, later));
    }
}
