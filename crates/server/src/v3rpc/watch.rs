//! Service `etcdserverpb.Watch`.
//!
//! A stream has no task and no queue of its own: the connection pulls the next response when it has room for it, and only then
//! [`Driver::next`] looks at the watches and at what the client asks. So what a slow client costs is what one [`WatchStream::poll`]
//! gives, and its place in history; nothing waits for it.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use catena_api::{
    errors,
    etcd::etcdserverpb::{self as pb, watch_request::RequestUnion, watch_server::Watch},
};
use catena_runtime::BoxFuture;
use catena_store::WatchStream;
use futures_util::{Stream, StreamExt, stream, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{error::engine_failed, metrics::GaugeGuard, server::Server};

/// Events that one look at the watches takes, in bytes: enough to fill a connection's window, little enough that a client which does
/// not read costs no more.
const POLL_BYTES_MAX: usize = 256 << 10;

/// Shortest interval of progress notifications.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Handlers of the service.
#[derive(Clone)]
pub(crate) struct WatchService(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let driver = Driver::new(self.0.clone(), request.into_inner().boxed());
        let responses = stream::unfold(driver, |mut driver| async move {
            let response = driver.next().await?;
            Some((response, driver))
        });
        Ok(Response::new(responses.boxed()))
    }
}

/// One stream of watches.
pub(crate) struct Driver {
    server: Arc<Server>,
    /// What the client asks; `None` once it has said its last.
    requests: Option<BoxStream<'static, Result<pb::WatchRequest, Status>>>,
    watches: WatchStream,
    /// Responses that are due, in order.
    due: VecDeque<pb::WatchResponse>,
    ticker: BoxFuture<'static, ()>,
    tick: Duration,
    ended: bool,
    /// Counts this stream as long as it lives.
    _streams: GaugeGuard,
    watchers: GaugeGuard,
}

/// What woke a driver.
enum Event {
    Request(Option<Result<pb::WatchRequest, Status>>),
    Ready,
    Tick,
    Stop,
}

impl Driver {
    pub(crate) fn new(
        server: Arc<Server>,
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
            watches: server.reader.watch(),
            ticker: server.runtime.clock.sleep(tick),
            watchers: GaugeGuard::new(server.metrics.watchers.clone()),
            requests: Some(requests),
            due: VecDeque::new(),
            ended: false,
            _streams: streams,
            tick,
            server,
        }
    }

    /// The next response; `None` after the end. An error is the end. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<pb::WatchResponse, Status>> {
        while !self.ended {
            if let Some(response) = self.due.pop_front() {
                return Some(Ok(response));
            }
            if let Err(end) = self.step().await {
                self.ended = true;
                return Some(Err(end));
            }
        }
        None
    }

    /// Waits for something to happen and does what it asks for.
    async fn step(&mut self) -> Result<(), Status> {
        match self.event().await {
            Event::Request(Some(request)) => self.obey(request.map_err(canceled)?),
            // The client asks nothing more; its watches go on.
            Event::Request(None) => self.requests = None,
            Event::Ready => self.poll()?,
            Event::Tick => {
                self.ticker = self.server.runtime.clock.sleep(self.tick);
                self.watches.tick();
                self.poll()?;
            }
            Event::Stop => return Err(errors::STOPPED.into()),
        }
        self.watchers.set(self.watches.len() as i64);
        Ok(())
    }

    async fn event(&mut self) -> Event {
        let requests = self.requests.as_mut();
        tokio::select! {
            biased;
            () = self.server.stopping.cancelled() => Event::Stop,
            request = next_request(requests) => Event::Request(request),
            () = self.watches.ready() => Event::Ready,
            () = &mut self.ticker => Event::Tick,
        }
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

    fn poll(&mut self) -> Result<(), Status> {
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
}

type Requests = Pin<Box<dyn Stream<Item = Result<pb::WatchRequest, Status>> + Send>>;

async fn next_request(requests: Option<&mut Requests>) -> Option<Result<pb::WatchRequest, Status>> {
    match requests {
        Some(requests) => requests.next().await,
        None => std::future::pending().await,
    }
}

/// How a stream ends whose client went away.
fn canceled(status: Status) -> Status {
    match status.code() {
        tonic::Code::ResourceExhausted => status,
        _ => errors::WATCH_CANCELED.into(),
    }
}
