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
    connections::Admitted,
    http2::{DATA, Frames, Head, PING, PRIORITY, SETTINGS, Stretch},
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
        if self.frames.is_new() && bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            let why = match bytes.first() {
                Some(&TLS_HANDSHAKE) => "a TLS handshake, not HTTP: this URL is http://",
                _ => "not HTTP",
            };
            return Err(self.refuse(Refused::Greeting, why));
        }
        let idle = count_idle(&mut self.frames, bytes);
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

/// How many frames begin in the next bytes that carry nothing.
fn count_idle(frames: &mut Frames, mut bytes: &[u8]) -> u32 {
    let mut idle = 0;
    while let Some(stretch) = frames.next(&mut bytes) {
        if let Stretch::Head(head) = stretch {
            idle += u32::from(is_idle(head));
        }
    }
    idle
}

/// Whether a frame carries nothing.
fn is_idle(head: Head) -> bool {
    match head.kind() {
        PING | SETTINGS => head.flags() & ACK == 0,
        PRIORITY => true,
        DATA => head.length() == 0 && head.flags() & END_STREAM == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::PREFACE;

    #[test]
    fn frames_that_carry_nothing_are_counted() {
        let frame = |kind: u8, flags: u8, payload: u8| {
            let head = [0, 0, payload, kind, flags, 0, 0, 0, 0];
            [&head[..], &vec![7; payload.into()]].concat()
        };
        let stream = [
            PREFACE.to_vec(),
            frame(SETTINGS, 0, 6),
            frame(SETTINGS, ACK, 0),
            frame(DATA, 0, 200),
            frame(DATA, 0, 0),
            frame(DATA, END_STREAM, 0),
            frame(PING, 0, 8),
            frame(PING, ACK, 8),
            frame(PRIORITY, 0, 5),
            frame(8, 0, 4),
        ]
        .concat();
        assert_eq!(count_idle(&mut Frames::default(), &stream), 4);
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
