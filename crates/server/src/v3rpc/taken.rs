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
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use tonic::Status;

use super::{
    gathered::{Gather, Gathered},
    unary::ok,
};
use crate::{budget::Share, metrics::Refused, server::Server};

/// An answer of fewer bytes is not counted: the buffers of its connection may hold as much.
pub(super) const COUNTED_BYTES_MIN: usize = 256 << 10;

/// Bytes given to the connection at a time.
const PIECE_BYTES: usize = 64 << 10;

/// A client that takes nothing of its answer for so long does not get the rest.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// A large answer, or what is left of it.
struct Large {
    parts: Gathered,
    _share: Share,
}

/// An answer that is given in pieces.
pub(super) struct Taken {
    left: Arc<Mutex<Option<Large>>>,
    /// Pieces taken.
    taken: Arc<AtomicU64>,
    has_ended: bool,
    _watching: Task,
}

impl Taken {
    /// Makes `message` an answer, unless that would be too much of them.
    pub(super) fn of(server: &Arc<Server>, message: impl Gather) -> Result<Self, Status> {
        let bytes = message.encoded_len();
        let mut share = server.answering.share();
        if !share.resize(bytes) {
            server.metrics.count_refusal(Refused::ResponseBytes);
            tracing::warn!(bytes, "answer refused: clients have not taken too many");
            return Err(errors::TOO_MANY_REQUESTS.into());
        }
        let parts = Gathered::message(message)?;
        let large = Large {
            parts,
            _share: share,
        };
        Ok(Self::new(server.clone(), large))
    }

    fn new(server: Arc<Server>, large: Large) -> Self {
        let left = Arc::new(Mutex::new(Some(large)));
        let taken = Arc::new(AtomicU64::new(0));
        let tasks = server.runtime.tasks.clone();
        let watching = give_up(server, left.clone(), taken.clone());
        Self {
            left,
            taken,
            has_ended: false,
            _watching: tasks.spawn("answer", Box::pin(watching)),
        }
    }

    /// The next piece of the answer, its end, or that it was taken away.
    fn next(&mut self) -> Result<Frame<Bytes>, Status> {
        let mut left = self.left.lock();
        let Some(large) = &mut *left else {
            self.has_ended = true;
            return Err(Status::cancelled("the answer was not taken"));
        };
        if let Some(piece) = large.parts.next(PIECE_BYTES) {
            return Ok(Frame::data(piece));
        }
        // Gives the share back.
        *left = None;
        self.has_ended = true;
        Ok(ok())
    }
}

/// Drops what is left once nothing was taken for too long.
async fn give_up(server: Arc<Server>, left: Arc<Mutex<Option<Large>>>, taken: Arc<AtomicU64>) {
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

impl Body for Taken {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.taken.fetch_add(1, Ordering::Relaxed);
        let more = !self.has_ended;
        Poll::Ready(more.then(|| self.next()))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}
