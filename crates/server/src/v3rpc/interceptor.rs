//! What happens to every call before and around its handler.
//!
//! ```text
//! request ─► count ─► learner? ─► metadata ─► leader? ─► place? ─► handler ─► response
//!               │                                                      │
//!               └── messages and bytes in both directions, the code at the end; the end of a stream
//!                   that wants a leader and has lost it
//! ```
//!
//! This stands outside of tonic's services because it must see every call alike, streams too, and the raw frames: message counts,
//! and the limit on received messages with the text of grpc-go, need both.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use catena_api::errors;
use catena_runtime::BoxFuture;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::SemaphorePermit;
use tonic::{Code, Status, body::Body as GrpcBody};

use super::{
    frames::FrameReader,
    table::{Kind, Learner, RPCS, Rpc, Writing},
    unary::Answer,
    watch,
};
use crate::{budget::Share, hall::Relay, metrics::Refused, server::Server};

/// Refuses what may not reach the handler, in etcd's order.
pub(super) fn admit(server: &Server, rpc: &Rpc, headers: &HeaderMap) -> Result<(), Status> {
    if rpc.learner == Learner::Refuses && server.is_learner() {
        return Err(errors::NOT_SUPPORTED_FOR_LEARNER.into());
    }
    let version = match headers.get("client-api-version") {
        None => None,
        Some(value) => match std::str::from_utf8(value.as_bytes()) {
            Ok(version) => Some(version),
            Err(_) => return Err(errors::INVALID_CLIENT_API_VERSION.into()),
        },
    };
    server.metrics.rpc.client_request(rpc.kind, version);
    if wants_leader(headers) && server.leader().is_none() {
        return Err(errors::NO_LEADER.into());
    }
    Ok(())
}

/// A place for a write, which the call has until it is answered.
pub(super) type Place<'a> = SemaphorePermit<'a>;

/// Waits for a place, if the call needs one. A call that waits costs next to nothing, since nothing of it is read; one that is
/// refused at once would be followed by the next, and refusing would be all that the member does.
pub(super) async fn place<'a>(server: &'a Server, rpc: &Rpc) -> Result<Option<Place<'a>>, Status> {
    if rpc.writing == Writing::Passes {
        return Ok(None);
    }
    if let Ok(place) = server.writes.try_acquire() {
        return Ok(Some(place));
    }
    // Boxed, since nearly all calls find one.
    let waited = Box::pin(server.within(WRITE_WAIT_MAX, server.writes.acquire())).await;
    match waited {
        Some(Ok(place)) => Ok(Some(place)),
        Some(Err(_)) | None => Err(errors::TOO_MANY_REQUESTS.into()),
    }
}

/// How long a write waits for a place. Whoever is refused then knows soon that more comes than is carried, and does not wait until
/// the time for requests is over.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Frames of a refused request that are taken; whoever sends more is told to stop.
const DISCARDED_FRAMES_MAX: usize = 8;

/// Takes what has come of a request that is refused, so that its stream ends without a reset. A request that fits in one packet is
/// there as a whole.
pub(super) fn discard(request: Request<Incoming>) {
    let mut body = request.into_body();
    for _ in 0..DISCARDED_FRAMES_MAX {
        let Some(Some(Ok(_))) = body.frame().now_or_never() else {
            return;
        };
    }
}

fn wants_leader(headers: &HeaderMap) -> bool {
    headers
        .get("hasleader")
        .is_some_and(|value| value == "true")
}

/// One call, from its first byte to its last; counts itself when it ends, however it ends.
pub(super) struct Call {
    server: Arc<Server>,
    place: usize,
    began: Duration,
    code: Option<Code>,
}

impl Call {
    /// Counts the beginning of a call of the RPC at `place`.
    pub(super) fn begin(server: Arc<Server>, place: usize) -> Self {
        server.metrics.rpc.series(place).started.inc();
        let began = server.runtime.clock.now();
        Self {
            server,
            place,
            began,
            code: None,
        }
    }

    /// Wraps the request's body.
    pub(super) fn incoming(&self, request: Request<Incoming>) -> Request<Received> {
        request.map(|body| Received {
            body,
            share: self.server.receiving.share(),
            server: self.server.clone(),
            place: self.place,
            frames: FrameReader::default(),
            deadline: None,
        })
    }

    /// Wraps the response, which ends the call when it has been sent.
    pub(super) fn outgoing(
        mut self,
        response: Response<Answer>,
        headers: &CallHeaders,
    ) -> Response<GrpcBody> {
        let mut response = name_depth(&RPCS[self.place], response);
        self.code = code_in(response.headers());
        let leaderless: Option<BoxFuture<'static, ()>> = match RPCS[self.place].kind {
            Kind::Unary => None,
            Kind::ServerStream | Kind::BidiStream => headers.wants_leader.then(|| {
                let server = self.server.clone();
                Box::pin(async move { server.leader_lost().await }) as _
            }),
        };
        let relay = match RPCS[self.place].kind {
            // It is all there.
            Kind::Unary => None,
            Kind::ServerStream | Kind::BidiStream => Relay::here(),
        };
        match watch::ResponseBody::take_from(&mut response) {
            Some(body) => response.map(|_empty| self.sent(body, leaderless, relay)),
            None => response.map(|body| self.sent(body, leaderless, relay)),
        }
    }

    fn sent<B>(
        self,
        body: B,
        leaderless: Option<BoxFuture<'static, ()>>,
        relay: Option<Relay>,
    ) -> GrpcBody
    where
        B: Body<Data = Bytes, Error = Status> + Unpin + Send + 'static,
    {
        GrpcBody::new(Sent {
            body: Some(body),
            call: self,
            frames: FrameReader::default(),
            leaderless,
            relay,
        })
    }
}

/// What is kept of a call's headers for its duration.
pub(super) struct CallHeaders {
    wants_leader: bool,
}

impl CallHeaders {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self {
            wants_leader: wants_leader(headers),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let took = self.server.runtime.clock.now().saturating_sub(self.began);
        // No code: the client went away before the answer.
        let code = self.code.unwrap_or(Code::Cancelled);
        self.server
            .metrics
            .rpc
            .series(self.place)
            .finish(code, took);
        let rpc = &RPCS[self.place];
        if rpc.kind == Kind::Unary && took > self.server.config.warning_unary_duration {
            tracing::warn!(
                method = format!("/{}/{}", rpc.service.name(), rpc.method),
                time_spent = ?took,
                code = ?code,
                "request stats"
            );
        }
    }
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(Status::GRPC_STATUS)
        .map(|value| Code::from_bytes(value.as_bytes()))
}

/// Gives a transaction that prost does not decode, since it is nested too deeply, the answer of one that [`check`] refuses for that.
///
/// [`check`]: catena_store::check
fn name_depth(rpc: &Rpc, response: Response<Answer>) -> Response<Answer> {
    let status = Status::from_header_map(response.headers());
    let too_deep = rpc.method == "Txn"
        && status.is_some_and(|status| {
            status.code() == Code::Internal && status.message().contains("recursion limit reached")
        });
    match too_deep {
        true => Status::from(errors::TOO_MANY_OPS)
            .into_http()
            .map(Answer::Tonic),
        false => response,
    }
}

/// A message that was begun must be complete by then: clients send without a pause.
const RECEIVED_WITHIN: Duration = Duration::from_secs(30);

/// A request's body: counted, and cut off before a message that is too large, within one that takes too long, and where all
/// clients together have sent too much of messages that are not complete.
pub(super) struct Received {
    body: Incoming,
    server: Arc<Server>,
    place: usize,
    frames: FrameReader,
    /// What has come of the present message.
    share: Share,
    /// When it must be complete.
    deadline: Option<BoxFuture<'static, ()>>,
}

impl Received {
    /// Counts bytes that have come.
    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        let seen = self.frames.advance(data);
        let max = self.server.config.receive_bytes_max();
        if seen.largest > max {
            return Err(too_large(seen.largest, max));
        }
        let metrics = &self.server.metrics;
        metrics.rpc.received(self.place, seen.messages, seen.bytes);
        if !self.share.resize(self.frames.unfinished()) {
            metrics.count_refusal(Refused::RequestBytes);
            return Err(errors::TOO_MANY_REQUESTS.into());
        }
        if seen.messages > 0 || self.frames.unfinished() == 0 {
            self.deadline = None;
        }
        Ok(())
    }

    /// Whether a message that was begun takes too long.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.frames.unfinished() == 0 {
            return false;
        }
        let clock = &self.server.runtime.clock;
        let deadline = self
            .deadline
            .get_or_insert_with(|| clock.sleep(RECEIVED_WITHIN));
        deadline.as_mut().poll(cx).is_ready()
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            if !this.is_late(cx) {
                return Poll::Pending;
            }
            this.server.metrics.count_refusal(Refused::RequestBytes);
            return Poll::Ready(Some(Err(errors::DEADLINE_EXCEEDED.into())));
        };
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| Status::from_error(Box::new(error)))?;
            if let Some(data) = frame.data_ref() {
                this.count(data)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn too_large(length: usize, max: usize) -> Status {
    let text = format!("grpc: received message larger than max ({length} vs. {max})");
    Status::resource_exhausted(text)
}

/// A response's body: counted, and ended early if the call wants a leader and there is none any more.
struct Sent<B> {
    /// None once the call was ended early.
    body: Option<B>,
    call: Call,
    frames: FrameReader,
    leaderless: Option<BoxFuture<'static, ()>>,
    relay: Option<Relay>,
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Sent<B> {
    /// The next frame of the handler's body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let body = Pin::new(body);
        match &self.relay {
            Some(relay) => relay.poll(cx, |cx| body.poll_frame(cx)),
            None => body.poll_frame(cx),
        }
    }

    fn lost_leader(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(leaderless) = &mut self.leaderless else {
            return false;
        };
        leaderless.as_mut().poll(cx).is_ready()
    }

    /// Ends the stream with `status`, dropping the handler's part of it.
    fn end(&mut self, status: &Status) -> Result<Frame<Bytes>, Status> {
        self.body = None;
        self.leaderless = None;
        self.call.code = Some(status.code());
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }
}

impl<B: Body<Data = Bytes, Error = Status> + Unpin> Body for Sent<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.lost_leader(cx) {
            return Poll::Ready(Some(this.end(&errors::NO_LEADER.into())));
        }
        let frame = std::task::ready!(this.poll_body(cx));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                let seen = this.frames.advance(data);
                let (messages, bytes) = (seen.messages, seen.bytes);
                this.call
                    .server
                    .metrics
                    .rpc
                    .sent(this.call.place, messages, bytes);
            } else if let Some(trailers) = frame.trailers_ref() {
                this.call.code = code_in(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let empty = || SizeHint::with_exact(0);
        self.body.as_ref().map_or_else(empty, Body::size_hint)
    }
}
