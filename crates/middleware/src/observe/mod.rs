//! One line in the log and one count in the metrics for each request, whatever becomes of it.
//!
//! A `Watch` stands beside a request from its first moment to the last byte of its answer. It reports exactly once: when the answer
//! has ended, when the handler panicked, or when the client left, which nobody else notices because the future is then just dropped.

mod log;
mod metrics;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use tonic::{Code, Status};

pub use metrics::RequestMetrics;

use crate::{
    error::{Error, table},
    protocol::{Protocol, grpc_code, http_of_head},
    record::Record,
    recover,
};

/// What a request without an answer counts as.
const CLIENT_LEFT: u16 = 499;
const PANICKED: u16 = 500;

/// Who is at the other end of the connection. The accept loop puts it into every request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// How a request ended.
pub(crate) struct Outcome {
    pub(crate) status: u16,
    pub(crate) grpc: Option<Code>,
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
}

/// Reports one request, once.
pub(crate) struct Watch {
    record: Arc<Record>,
    metrics: Arc<RequestMetrics>,
    peer: Option<SocketAddr>,
    /// Whether this process asks itself: the one who asked for it writes the line.
    inner: bool,
    reported: bool,
}

impl Watch {
    pub(crate) fn begin(
        record: Arc<Record>,
        metrics: Arc<RequestMetrics>,
        peer: Option<Peer>,
    ) -> Self {
        metrics.began(record.protocol());
        Self {
            peer: peer.map(|Peer(address)| address),
            inner: Record::current().is_some(),
            record,
            metrics,
            reported: false,
        }
    }

    /// Watches the rest of an answer.
    pub(crate) fn follow(mut self, response: Response<Body>) -> Response<Body> {
        let (head, body) = response.into_parts();
        let protocol = self.record.protocol();
        let status = http_of_head(protocol, head.status, &head.headers);
        let grpc = grpc_code(&head.headers);
        if let Some(bytes) = body.size_hint().exact() {
            self.report(status, grpc, bytes);
            return Response::from_parts(head, body);
        }
        let body = Body::new(Followed {
            body,
            status: head.status,
            grpc,
            bytes: 0,
            watch: self,
        });
        Response::from_parts(head, body)
    }

    /// A call within this process has ended: there is no body to watch.
    pub(crate) fn called(mut self, failed: Option<&Status>) {
        let code = failed.map_or(Code::Ok, Status::code);
        self.report(table::http_of_grpc(code), Some(code), 0);
    }

    fn panicked(&mut self, error: &Error, bytes: u64) {
        if !self.reported {
            self.metrics.panicked();
            self.record.note_error(error);
        }
        self.report(PANICKED, None, bytes);
    }

    fn report(&mut self, status: u16, grpc: Option<Code>, bytes: u64) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        let outcome = Outcome {
            status,
            grpc,
            bytes,
            took: self.record.began().elapsed(),
        };
        self.metrics.ended(&self.record, &outcome);
        if !self.inner {
            log::write(&self.record, &outcome, self.peer);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.panicked(&Error::internal("panic"), 0);
        } else {
            self.report(CLIENT_LEFT, None, 0);
        }
    }
}

/// A body that is watched to its end.
struct Followed {
    body: Body,
    status: StatusCode,
    grpc: Option<Code>,
    bytes: u64,
    watch: Watch,
}

impl Followed {
    fn ended(&mut self) {
        let status = match (self.watch.record.protocol(), self.grpc) {
            (Protocol::Grpc, Some(code)) => table::http_of_grpc(code),
            (Protocol::Grpc, None) | (Protocol::Http, _) => self.status.as_u16(),
        };
        let (grpc, bytes) = (self.grpc, self.bytes);
        self.watch.report(status, grpc, bytes);
    }
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        // A stream runs after its handler has returned, and is the request's all the same.
        let polled = recover::part(|| Pin::new(&mut this.body).poll_frame(cx));
        let frame = match polled {
            Ok(polled) => ready!(polled),
            Err(error) => {
                this.watch.panicked(&error, this.bytes);
                return Poll::Ready(Some(Err(axum::Error::new(error))));
            }
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes += data.len() as u64;
                }
                if let Some(trailers) = frame.trailers_ref() {
                    self.grpc = grpc_code(trailers).or(self.grpc);
                    self.ended();
                }
            }
            Some(Err(_)) => {
                let status = http_of_head(
                    self.watch.record.protocol(),
                    StatusCode::INTERNAL_SERVER_ERROR,
                    &http::HeaderMap::new(),
                );
                let (grpc, bytes) = (self.grpc, self.bytes);
                self.watch.report(status, grpc, bytes);
            }
            None => self.ended(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
