//! Large answers, and clients that do not take them.
//!
//! An answer is made as a whole, and lies in memory until its client has taken it. How much of that there may be in all is a budget
//! of the member; an answer to a read beyond it is refused. What is lent to an answer comes back when the last of it has been
//! given to the connection, so it is given there in pieces, as the client makes room. A client that makes none for a while has its
//! answer taken from it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use catena_api::errors;
use catena_runtime::Task;
use http::Response;
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use prost::Message;
use tonic::{Status, body::Body as GrpcBody};

use crate::{budget::Share, metrics::Refused, server::Server};

/// An answer of fewer bytes is not counted: the buffers of its connection may hold as much.
const COUNTED_BYTES_MIN: usize = 256 << 10;

/// Bytes given to the connection at a time.
const PIECE_BYTES: usize = 64 << 10;

/// A client that takes nothing of its answer for so long does not get the rest.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

impl Server {
    /// Makes `message` an answer, unless that would be too much of them. The share goes with the response.
    pub(crate) fn answer_read<M: Message>(&self, message: M) -> Result<tonic::Response<M>, Status> {
        let bytes = message.encoded_len();
        let mut response = tonic::Response::new(message);
        if bytes < COUNTED_BYTES_MIN {
            return Ok(response);
        }
        let mut share = self.answering.share();
        if !share.resize(bytes) {
            self.metrics.count_refusal(Refused::ResponseBytes);
            tracing::warn!(bytes, "answer refused: clients have not taken too many");
            return Err(errors::TOO_MANY_REQUESTS.into());
        }
        response.extensions_mut().insert(Arc::new(share));
        Ok(response)
    }
}

/// Watches over how a counted answer is taken; others pass as they are.
pub(super) fn watch(server: &Arc<Server>, mut response: Response<GrpcBody>) -> Response<GrpcBody> {
    let Some(share) = response.extensions_mut().remove::<Arc<Share>>() else {
        return response;
    };
    response.map(|body| GrpcBody::new(Watched::new(server.clone(), body, share)))
}

/// What is left of an answer.
struct Left {
    body: GrpcBody,
    rest: Bytes,
    _share: Arc<Share>,
}

/// An answer that is given in pieces.
struct Watched {
    left: Arc<Mutex<Option<Left>>>,
    /// Pieces taken.
    taken: Arc<AtomicU64>,
    _watching: Task,
}

impl Watched {
    fn new(server: Arc<Server>, body: GrpcBody, share: Arc<Share>) -> Self {
        let left = Arc::new(Mutex::new(Some(Left {
            body,
            rest: Bytes::new(),
            _share: share,
        })));
        let taken = Arc::new(AtomicU64::new(0));
        let tasks = server.runtime.tasks.clone();
        let watching = give_up(server, left.clone(), taken.clone());
        Self {
            left,
            taken,
            _watching: tasks.spawn("answer", Box::pin(watching)),
        }
    }
}

/// Drops what is left once nothing was taken for too long.
async fn give_up(server: Arc<Server>, left: Arc<Mutex<Option<Left>>>, taken: Arc<AtomicU64>) {
    let mut before = 0;
    loop {
        server.runtime.clock.sleep(TAKEN_WITHIN).await;
        let now = taken.load(Ordering::Relaxed);
        if now == before {
            break;
        }
        before = now;
    }
    *left.lock() = None;
    server.metrics.count_refusal(Refused::ResponseBytes);
    tracing::warn!("answer dropped: its client does not take it");
}

impl Left {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.split_to(PIECE_BYTES.min(self.rest.len()));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        match &mut *self.left.lock() {
            Some(left) => left.poll(cx),
            None => Poll::Ready(Some(Err(Status::cancelled("the answer was not taken")))),
        }
    }
}
