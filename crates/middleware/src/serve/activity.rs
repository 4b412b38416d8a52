//! Whether a connection is answering something.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::Notify;

/// Shared by the two ends of a connection: the one that reads bytes and the one that answers requests.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests whose head is there and whose answer has not ended.
    open: AtomicUsize,
    /// All requests that there have been.
    begun: AtomicUsize,
    expired: Notify,
    /// The reader, which has to look at its clock again when the last answer has ended: hyper does not read of itself then.
    reader: AtomicWaker,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            open: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            expired: Notify::new(),
            reader: AtomicWaker::new(),
        }
    }

    pub(super) fn is_answering(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Wakes the reader when nothing is answered any more.
    pub(super) fn wake_when_idle(&self, cx: &Context<'_>) {
        self.reader.register(cx.waker());
    }

    /// Says that the connection has been idle for too long.
    pub(super) fn expire(&self) {
        self.expired.notify_one();
    }

    /// Waits until someone says so.
    pub(super) async fn idle_for_too_long(&self) {
        self.expired.notified().await;
    }

    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>) -> Call {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Call(self.clone())
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Call(Arc<Activity>);

impl Call {
    /// Goes on until the answer's last byte, if it is not in memory already; until the connection ends if that leaves HTTP.
    pub(super) fn follow(self, response: Response<Body>) -> Response<Body> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody takes this one away again.
            self.0.open.fetch_add(1, Ordering::Relaxed);
        }
        if response.body().size_hint().exact().is_some() {
            return response;
        }
        response.map(|body| Body::new(Answering { body, _call: self }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.reader.wake();
        }
    }
}

struct Answering {
    body: Body,
    _call: Call,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
