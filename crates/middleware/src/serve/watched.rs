//! The bytes of one connection against the clock.
//!
//! ```text
//!   connected ──head──► answering ──answered──► idle ──first byte──► head …
//! ```
//!
//! While a head is due, its sender has [`ConnectionLimits::head`]; HTTP/1.1 is told 408 when it is over. An idle connection is closed
//! with grace. A connection that has left HTTP, for a WebSocket, counts as answering. While something is answered, deadlines and the body's own limit rule. HTTP/2 sends frames that carry nothing
//! between requests, so on it only idleness is judged.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use tokio_util::sync::DropGuard;

use super::{ConnectionLimits, activity::Activity};

/// The first bytes of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// What a client is told whose head took too long. There is no request yet, so neither trace nor language.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\n\
    content-type: application/json\r\n\
    content-length: 118\r\n\
    connection: close\r\n\r\n\
    {\"code\":408,\"message\":\"the request came too slowly\",\"data\":null,\"reason\":\"REQUEST_TIMEOUT\",\"trace_id\":\"\",\"details\":[]}";

/// What the connection is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// A request's head.
    Head,
    /// Another request, if the client wants.
    Request,
    /// Nothing: requests are being answered.
    Nothing,
}

pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    limits: ConnectionLimits,
    due: Due,
    is_http2: bool,
    /// What [`Activity::begun`] was when `due` was last looked at.
    begun: usize,
    timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    /// Tells of the end of the connection, whoever holds it by then.
    _open: DropGuard,
}

impl<S> Watched<S> {
    pub(super) fn new(
        stream: S,
        activity: Arc<Activity>,
        limits: ConnectionLimits,
        open: DropGuard,
    ) -> Self {
        Self {
            stream,
            activity,
            limits,
            due: Due::Head,
            is_http2: false,
            begun: 0,
            timer: None,
            write_timer: None,
            _open: open,
        }
    }

    /// Bytes have come.
    fn heard(&mut self, bytes: &[u8]) {
        if self.activity.begun() == 0 && bytes.starts_with(PREFACE) {
            self.is_http2 = true;
        }
        if self.due == Due::Request && !self.is_http2 {
            self.wait_for(Due::Head);
        }
    }

    /// Follows what has happened to requests meanwhile.
    fn look(&mut self) {
        let begun = self.activity.begun();
        let is_new = begun != std::mem::replace(&mut self.begun, begun);
        if self.activity.is_answering() {
            self.wait_for(Due::Nothing);
        } else if is_new || self.due == Due::Nothing || self.is_http2 {
            self.wait_for(Due::Request);
        }
    }

    fn wait_for(&mut self, due: Due) {
        if self.due != due {
            self.due = due;
            self.timer = None;
        }
    }

    fn limit(&self) -> Option<Duration> {
        match self.due {
            Due::Head => Some(self.limits.head),
            Due::Request => Some(self.limits.idle),
            Due::Nothing => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        this.look();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            this.heard(&buf.filled()[before..]);
            return Poll::Ready(read);
        }
        if this.due == Due::Nothing {
            this.activity.wake_when_idle(cx);
            // The answer may have ended before the waker was there.
            this.look();
        }
        let Some(limit) = this.limit() else {
            return Poll::Pending;
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        if this.due == Due::Request {
            this.activity.expire();
            // Not to be polled again: the connection is about to end.
            timer.as_mut().reset(Instant::now() + this.limits.idle);
            return Poll::Pending;
        }
        // The connection ends here, whether or not this can be written.
        let _written = Pin::new(&mut this.stream).poll_write(cx, TOO_SLOW);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> Watched<S> {
    /// Bounds how long `written` may be pending.
    fn bound<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let limit = self.limits.write_idle;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, data);
        self.bound(cx, written)
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
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.bound(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
