//! Service `etcdserverpb.Watch`.
//!
//! A stream has no task and no queue of its own: the connection pulls the next responses when it has room for them, and only then
//! [`Driver`] looks at the watches and at what the client asks. So what a slow client costs is what one [`WatchStream::poll`]
//! gives, and its place in history; nothing waits for it.
//!
//! An event may have thousands of watchers, so what each of them costs is kept small, which is mostly the memory that is touched. The
//! handler only opens the stream; in the place of tonic's encoder, which has a buffer for each stream, comes a [`ResponseBody`] that
//! gives ready frames, and the same frames to all streams of a thread that have the same to say. A driver that is woken looks at its
//! inbox, and at the [`Rest`] only if that has rung.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{BufMut, Bytes};
use catena_api::{
    errors,
    etcd::etcdserverpb::{self as pb, watch_request::RequestUnion, watch_server::Watch},
};
use catena_runtime::BoxFuture;
use catena_store::WatchStream;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use http::HeaderMap;
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use prost::Message;
use tokio::task::coop;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Request, Response, Status, Streaming};

use super::frames;
use crate::{error::engine_failed, metrics::GaugeGuard, server::Server};

/// Events that one look at the watches takes, in bytes: enough to fill a connection's window, little enough that a client which does
/// not read costs no more.
const POLL_BYTES_MAX: usize = 256 << 10;

/// Responses that are due are put together until they have so many bytes: as many as tonic's encoder gives to a connection at a time.
const TOGETHER_BYTES_MAX: usize = 32 << 10;

/// Shortest interval of progress notifications.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Handlers of the service.
#[derive(Clone)]
pub(crate) struct WatchService(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Watch for WatchService {
    /// Never asked for anything: a [`ResponseBody`] comes in the place of this.
    type WatchStream = stream::Empty<Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let driver = Driver::new(self.0.clone(), request.into_inner().boxed());
        let mut response = Response::new(stream::empty());
        let opened = Opened(Arc::new(Mutex::new(Some(ResponseBody(driver)))));
        response.extensions_mut().insert(opened);
        Ok(response)
    }
}

/// Carries the body of a stream that was opened past tonic's encoder.
#[derive(Clone)]
struct Opened(Arc<Mutex<Option<ResponseBody>>>);

/// The responses of a stream as gRPC has them on the wire.
pub(super) struct ResponseBody(Driver);

impl ResponseBody {
    /// Takes that of a stream which was opened out of the handler's response.
    pub(super) fn take_from<B>(response: &mut http::Response<B>) -> Option<Self> {
        let opened = response.extensions_mut().remove::<Opened>()?;
        opened.0.lock().take()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let driver = &mut self.0;
        Poll::Ready(match ready!(driver.poll_due(cx)) {
            None => None,
            Some(Ok(())) => Some(Ok(Frame::data(framed(driver.take_together())))),
            Some(Err(end)) => {
                let mut trailers = HeaderMap::new();
                Some(
                    end.add_header(&mut trailers)
                        .map(|()| Frame::trailers(trailers)),
                )
            }
        })
    }
}

/// Responses, and what they are on the wire.
struct Framed {
    responses: Vec<pb::WatchResponse>,
    bytes: Bytes,
}

thread_local! {
    /// What was sent last. The next stream of the thread often has the same to say.
    static LAST: RefCell<Framed> = const {
        RefCell::new(Framed {
            responses: Vec::new(),
            bytes: Bytes::new(),
        })
    };
}

/// What is kept of what was sent last, at most.
const KEPT_BYTES_MAX: usize = 2 * TOGETHER_BYTES_MAX;

/// Responses as length-prefixed messages, one after the other.
fn framed(responses: Vec<pb::WatchResponse>) -> Bytes {
    LAST.with_borrow_mut(|last| {
        if last.responses == responses {
            return last.bytes.clone();
        }
        let bytes = encode(&responses);
        if bytes.len() <= KEPT_BYTES_MAX {
            *last = Framed {
                responses,
                bytes: bytes.clone(),
            };
        }
        bytes
    })
}

fn encode(responses: &[pb::WatchResponse]) -> Bytes {
    let lens: Vec<usize> = responses.iter().map(Message::encoded_len).collect();
    let bytes = lens.iter().map(|len| frames::HEAD_LEN + len).sum();
    let mut together = Vec::with_capacity(bytes);
    for (response, len) in responses.iter().zip(lens) {
        let head = frames::head(len).expect("what one look takes is not that much");
        together.put_slice(&head);
        response.encode_raw(&mut together);
    }
    together.into()
}

/// One stream of watches.
pub(crate) struct Driver {
    server: Arc<Server>,
    watches: WatchStream,
    /// Responses that are due, in order.
    due: VecDeque<pb::WatchResponse>,
    rest: Box<Rest>,
    /// Whether there may be something in the rest.
    has_rung: bool,
    ended: bool,
}

/// What a driver has beside its watches, and looks at when the bell of these has rung.
struct Rest {
    bell: Waker,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// What the client asks; `None` once it has said its last.
    requests: Option<BoxStream<'static, Result<pb::WatchRequest, Status>>>,
    ticker: BoxFuture<'static, ()>,
    tick: Duration,
    /// Counts this stream as long as it lives.
    _streams: GaugeGuard,
    watchers: GaugeGuard,
}

/// What there was in [`Rest`].
enum Event {
    Stop,
    Request(Option<Result<pb::WatchRequest, Status>>),
    Tick,
}

impl Rest {
    fn new(
        server: &Server,
        bell: Waker,
        requests: BoxStream<'static, Result<pb::WatchRequest, Status>>,
    ) -> Self {
        let interval = server
            .config
            .watch_progress_interval
            .max(PROGRESS_INTERVAL_MIN);
        // Up to a tenth more, so that the streams of one member do not tick together.
        let spread = server.runtime.random.next_u64() % 100;
        let tick = interval + interval.mul_f64(spread as f64 / 1000.0);
        let mut streams = GaugeGuard::new(server.metrics.watch_streams.clone());
        streams.set(1);
        Self {
            bell,
            stop: Box::pin(server.stopping.clone().cancelled_owned()),
            requests: Some(requests),
            ticker: server.runtime.clock.sleep(tick),
            tick,
            _streams: streams,
            watchers: GaugeGuard::new(server.metrics.watchers.clone()),
        }
    }

    /// What there is. If nothing, what comes rings the bell.
    fn look(&mut self) -> Poll<Event> {
        let cx = &mut Context::from_waker(&self.bell);
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Stop);
        }
        if let Some(requests) = &mut self.requests
            && let Poll::Ready(request) = requests.poll_next_unpin(cx)
        {
            return Poll::Ready(Event::Request(request));
        }
        self.ticker.as_mut().poll(cx).map(|()| Event::Tick)
    }
}

impl Driver {
    pub(crate) fn new(
        server: Arc<Server>,
        requests: BoxStream<'static, Result<pb::WatchRequest, Status>>,
    ) -> Self {
        let watches = server.reader.watch();
        Self {
            rest: Box::new(Rest::new(&server, watches.bell(), requests)),
            watches,
            due: VecDeque::new(),
            has_rung: true,
            ended: false,
            server,
        }
    }

    /// The next response; `None` after the end. An error is the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<pb::WatchResponse, Status>> {
        let due = poll_fn(|cx| self.poll_due(cx)).await?;
        due.map(|()| self.due.pop_front()).transpose()
    }

    /// Whether a response is due; `None` after the end. An error is the end.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Status>>> {
        while self.due.is_empty() {
            if self.ended {
                return Poll::Ready(None);
            }
            // A long history without an event for this stream must not keep others waiting.
            let budget = ready!(coop::poll_proceed(cx));
            let stepped = ready!(self.poll_step(cx));
            budget.made_progress();
            if let Err(end) = stepped {
                self.ended = true;
                return Poll::Ready(Some(Err(end)));
            }
        }
        Poll::Ready(Some(Ok(())))
    }

    /// Waits for something to happen and does what it asks for.
    fn poll_step(&mut self, cx: &Context<'_>) -> Poll<Result<(), Status>> {
        if self.has_rung {
            match self.rest.look() {
                Poll::Ready(event) => return Poll::Ready(self.heed(event)),
                Poll::Pending => self.has_rung = false,
            }
        }
        let ready = ready!(self.watches.poll_ready(cx));
        self.has_rung = ready.rung;
        Poll::Ready(match ready.rung {
            // That comes first.
            true => Ok(()),
            false => self.look(),
        })
    }

    fn heed(&mut self, event: Event) -> Result<(), Status> {
        match event {
            Event::Stop => return Err(errors::STOPPED.into()),
            Event::Request(Some(request)) => {
                self.obey(request.map_err(canceled)?);
                self.rest.watchers.set(self.watches.len() as i64);
            }
            // The client asks nothing more; its watches go on.
            Event::Request(None) => self.rest.requests = None,
            Event::Tick => {
                self.rest.ticker = self.server.runtime.clock.sleep(self.rest.tick);
                self.watches.tick();
            }
        }
        Ok(())
    }

    fn obey(&mut self, request: pb::WatchRequest) {
        let answer = match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => Some(self.watches.create(&create)),
            Some(RequestUnion::CancelRequest(cancel)) => self.watches.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => {
                self.watches.progress();
                None
            }
            // A kind of request that this version does not know.
            None => None,
        };
        if let Some(answer) = answer {
            self.push(answer);
        }
    }

    /// Takes what the watches have.
    fn look(&mut self) -> Result<(), Status> {
        let limit = self.server.config.receive_bytes_max();
        let deliveries = self.watches.poll(POLL_BYTES_MAX);
        for delivery in deliveries.map_err(|fatal| engine_failed(&fatal))? {
            for response in delivery.into_responses(limit) {
                self.push(response);
            }
        }
        Ok(())
    }

    fn push(&mut self, mut response: pb::WatchResponse) {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        response.header = Some(self.server.header(revision));
        self.due.push_back(response);
    }

    /// Takes responses that are due, to be sent as one piece.
    fn take_together(&mut self) -> Vec<pb::WatchResponse> {
        let mut bytes = 0;
        let fits = |response: &&pb::WatchResponse| {
            let fits = bytes < TOGETHER_BYTES_MAX;
            bytes += response.encoded_len();
            fits
        };
        let together = match self.due.len() {
            1 => 1,
            _ => self.due.iter().take_while(fits).count(),
        };
        let left = self.due.split_off(together);
        std::mem::replace(&mut self.due, left).into()
    }
}

/// How a stream ends whose client went away.
fn canceled(status: Status) -> Status {
    match status.code() {
        tonic::Code::ResourceExhausted => status,
        _ => errors::WATCH_CANCELED.into(),
    }
}

#[cfg(test)]
mod tests {
    use catena_api::{Event, EventType, KeyValueView};

    use super::*;

    fn response(watch_id: i64, value_bytes: usize) -> pb::WatchResponse {
        let kv = KeyValueView {
            key: "k".into(),
            value: vec![7; value_bytes].into(),
            ..KeyValueView::default()
        };
        pb::WatchResponse {
            header: Some(pb::ResponseHeader {
                revision: 9,
                ..pb::ResponseHeader::default()
            }),
            watch_id,
            events: vec![Event::new(EventType::Put, &kv.encode(), None)],
            ..pb::WatchResponse::default()
        }
    }

    #[test]
    fn frames_are_the_messages_behind_their_lengths() {
        let responses = [
            response(0, 300),
            pb::WatchResponse::default(),
            response(5, 0),
        ];
        let frames = encode(&responses);
        let mut rest = &frames[..];
        for response in &responses {
            let (head, behind) = rest.split_at(frames::HEAD_LEN);
            let (message, behind) = behind.split_at(response.encoded_len());
            assert_eq!(head[0], 0, "it is not compressed");
            assert_eq!(head[1..], (message.len() as u32).to_be_bytes());
            assert_eq!(pb::WatchResponse::decode(message).unwrap(), *response);
            rest = behind;
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn what_is_the_same_is_encoded_once() {
        let first = framed(vec![response(1, 300)]);
        let same = framed(vec![response(1, 300)]);
        assert_eq!(first.as_ptr(), same.as_ptr());
        for other in [
            vec![response(2, 300)],
            vec![response(2, 300), response(2, 301)],
        ] {
            assert_eq!(framed(other.clone()), encode(&other));
        }
    }

    #[test]
    fn what_is_large_is_not_kept() {
        let kept = framed(vec![response(1, 300)]);
        let large = vec![response(1, KEPT_BYTES_MAX)];
        assert_eq!(framed(large.clone()), encode(&large));
        assert_eq!(framed(vec![response(1, 300)]).as_ptr(), kept.as_ptr());
    }
}
