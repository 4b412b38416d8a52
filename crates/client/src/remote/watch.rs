//! A watch that outlives its connection.
//!
//! The [`Cursor`] knows the next revision that the user has to see. Events move it past their revision, marks of progress past
//! theirs; a stream that breaks is opened again from the cursor, at the next member. A revision's events come in one response or
//! in fragments of one, and count only when the last fragment has come: so nothing is lost or repeated, wherever a stream breaks.

use std::time::Duration;

use catena_api::{
    errors,
    etcd::etcdserverpb::{self as etcd, watch_client::WatchClient},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tracing::debug;

use super::{MESSAGE_BYTES_MAX, Options, call, endpoints::Endpoints};
use crate::{
    Error, Result, Watcher,
    pb::{Event, ResponseHeader, WatchCreateRequest},
    watch::{self, Gone, WatchResponse, WatchSender},
};

/// Requests on their way to the member: the creation and a request for progress. More of the latter say nothing more.
const REQUESTS_MAX: usize = 2;

/// A member that does not confirm a watch within this time is left; it does so at once if it is well.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pauses before a stream is opened again; doubling, with jitter, so that the watchers of a failed member do not come all at once.
const BACKOFF_MIN: Duration = Duration::from_millis(25);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Creates a watch and starts what feeds it; that ends when the watcher is dropped or the watch ends.
pub(super) async fn open(
    endpoints: Endpoints,
    options: Options,
    request: WatchCreateRequest,
) -> Result<Watcher> {
    let deadline = Instant::now() + options.request_timeout;
    let mut source = Source {
        endpoints,
        options,
        cursor: Cursor::new(request),
    };
    let (stream, created) = source.open_until(Some(deadline)).await?;
    let (sender, watcher) = watch::channel(created);
    tokio::spawn(source.feed(stream, sender));
    Ok(watcher)
}

struct Source {
    endpoints: Endpoints,
    options: Options,
    cursor: Cursor,
}

/// An open stream whose watch is created.
struct Stream {
    slot: usize,
    requests: mpsc::Sender<etcd::WatchRequest>,
    responses: Streaming<etcd::WatchResponse>,
}

impl Source {
    async fn feed(mut self, mut stream: Stream, sender: WatchSender) {
        loop {
            let end = tokio::select! {
                end = self.pump(&mut stream, &sender) => end,
                () = sender.closed() => return,
            };
            let error = match end {
                Err(Gone) => return,
                Ok(error) => error,
            };
            if !is_resumable(&error) {
                return deliver_end(&sender, error).await;
            }
            debug!(%error, next = self.cursor.next, "watch interrupted");
            self.endpoints.leave(stream.slot);
            let opened = tokio::select! {
                opened = self.open_until(None) => opened,
                () = sender.closed() => return,
            };
            stream = match opened {
                Ok((stream, _created)) => stream,
                Err(error) => return deliver_end(&sender, error).await,
            };
            sender.resumed();
        }
    }

    /// Carries responses to the user until the stream ends, with the reason.
    async fn pump(&mut self, stream: &mut Stream, sender: &WatchSender) -> Result<Error, Gone> {
        loop {
            tokio::select! {
                message = stream.responses.message() => {
                    let response = match message {
                        Ok(Some(response)) => response,
                        Ok(None) => return Ok(Error::Lost("stream ended".to_owned())),
                        Err(status) => return Ok(status.into()),
                    };
                    match self.cursor.absorb(response) {
                        Ok(Some(response)) => sender.send(Ok(response)).await?,
                        Ok(None) => {}
                        Err(error) => return Ok(error),
                    }
                }
                () = sender.progress_requested() => {
                    // A full queue already holds such a request; a closed one shows as the stream's end.
                    let _full_or_closed = stream.requests.try_send(progress_request());
                }
            }
        }
    }

    /// Opens the stream at one member after the other, until the deadline if there is one.
    async fn open_until(&mut self, deadline: Option<Instant>) -> Result<(Stream, ResponseHeader)> {
        let mut backoff = BACKOFF_MIN;
        let mut count = 0;
        loop {
            let error = match self.open(deadline).await {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            if !is_resumable(&error) {
                return Err(error);
            }
            count += 1;
            if count % self.endpoints.majority() != 0 {
                continue;
            }
            let pause = backoff.mul_f64(rand::random_range(0.5..1.0));
            if deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
                return Err(error);
            }
            sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn open(&mut self, deadline: Option<Instant>) -> Result<(Stream, ResponseHeader)> {
        let until = Instant::now() + CREATE_TIMEOUT;
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        let endpoints = self.endpoints.clone();
        let (attempt, channel) = endpoints.attempt();
        let client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let opened = timeout_at(until, self.create(client, attempt.slot()))
            .await
            .unwrap_or(Err(Error::Deadline));
        if opened.is_ok() {
            attempt.done();
        }
        opened
    }

    async fn create(
        &mut self,
        mut client: WatchClient<tonic::transport::Channel>,
        slot: usize,
    ) -> Result<(Stream, ResponseHeader)> {
        let (requests, rx) = mpsc::channel(REQUESTS_MAX);
        // The queue is empty and open, so there is room.
        let _room = requests.try_send(self.cursor.create_request());
        let mut request = tonic::Request::new(ReceiverStream::new(rx));
        if self.options.require_leader {
            call::mark_require_leader(&mut request);
        }
        let mut responses = client.watch(request).await?.into_inner();
        let Some(created) = responses.message().await? else {
            return Err(Error::Lost(
                "stream ended before the watch was created".to_owned(),
            ));
        };
        let header = self.cursor.confirm(created)?;
        let stream = Stream {
            slot,
            requests,
            responses,
        };
        Ok((stream, header))
    }
}

/// What the user has seen of a watch.
#[derive(Debug)]
struct Cursor {
    request: WatchCreateRequest,
    /// The next revision to be seen; 0 until the store has said where a watch without start revision begins.
    next: i64,
    /// Events of a response whose last fragment has not come.
    fragments: Vec<Event>,
    cluster_id: u64,
}

impl Cursor {
    fn new(request: WatchCreateRequest) -> Self {
        Self {
            next: request.start_revision,
            request: WatchCreateRequest {
                // The only watch on its stream.
                watch_id: 0,
                ..request
            },
            fragments: Vec::new(),
            cluster_id: 0,
        }
    }

    /// The request that goes on where the user stands.
    fn create_request(&mut self) -> etcd::WatchRequest {
        self.fragments.clear();
        let create = WatchCreateRequest {
            start_revision: self.next,
            ..self.request.clone()
        };
        etcd::WatchRequest {
            request_union: Some(etcd::watch_request::RequestUnion::CreateRequest(create)),
        }
    }

    /// Takes the first response of a stream.
    fn confirm(&mut self, response: etcd::WatchResponse) -> Result<ResponseHeader> {
        check_not_canceled(&response)?;
        let header = response.header.unwrap_or_default();
        if self.cluster_id != 0 && header.cluster_id != self.cluster_id {
            return Err(Error::OtherCluster {
                before: self.cluster_id,
                now: header.cluster_id,
            });
        }
        self.cluster_id = header.cluster_id;
        if self.next == 0 {
            self.next = header.revision + 1;
        }
        Ok(header)
    }

    /// Takes a later response: what the user gets, nothing yet, or the watch's end.
    fn absorb(&mut self, response: etcd::WatchResponse) -> Result<Option<WatchResponse>> {
        check_not_canceled(&response)?;
        let header = response.header.unwrap_or_default();
        if response.events.is_empty() && !response.fragment {
            // Progress says nothing while a revision is half received.
            if !self.fragments.is_empty() {
                return Ok(None);
            }
            self.next = self.next.max(header.revision + 1);
            return Ok(Some(WatchResponse {
                header,
                events: Vec::new(),
            }));
        }
        self.fragments.extend(response.events);
        if response.fragment {
            return Ok(None);
        }
        let events = std::mem::take(&mut self.fragments);
        if let Some(kv) = events.last().and_then(Event::kv) {
            self.next = kv.view().mod_revision + 1;
        }
        Ok(Some(WatchResponse { header, events }))
    }
}

fn check_not_canceled(response: &etcd::WatchResponse) -> Result<()> {
    if !response.canceled {
        return Ok(());
    }
    if response.compact_revision != 0 {
        return Err(Error::Compacted {
            revision: response.compact_revision,
        });
    }
    Err(Error::from_cancel_reason(&response.cancel_reason))
}

/// Whether a watch goes on after this, at another member or after a pause. What the store refuses for a reason stays refused.
fn is_resumable(error: &Error) -> bool {
    error.is_transient()
        || matches!(
            error,
            Error::Answer {
                code: Code::Cancelled | Code::Internal,
                ..
            }
        )
        || error.is(errors::REQUEST_CANCELED)
}

fn progress_request() -> etcd::WatchRequest {
    etcd::WatchRequest {
        request_union: Some(etcd::watch_request::RequestUnion::ProgressRequest(
            etcd::WatchProgressRequest {},
        )),
    }
}

async fn deliver_end(sender: &WatchSender, error: Error) {
    // A watcher that is gone needs no reason.
    let _gone = sender.send(Err(error)).await;
}
