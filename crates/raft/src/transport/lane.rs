//! One connection to one peer.
//!
//! ```text
//!            call                   greeted
//!   idle ───────────► connecting ───────────► connected
//!    ▲  (after a pause)    │                      │
//!    └──── failed ─────────┴──────── broken ──────┘
//! ```
//!
//! Callers wait while a connection is made, within their own time; while it pauses they fail at once with the last error. A greeting
//! of that peer, on another lane or by itself, ends the pause. A peer that has restarted knows no session of before: it is greeted
//! anew, and asked again, since it has not looked at the request.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use catena_api::peer::{Frame, HelloRequest, door_client::DoorClient, peer_client::PeerClient};
use catena_runtime::{Duplex, NetError, STREAM_FRAMES_MAX, watch};
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, KEEPALIVE, METHOD_KEY, PROTOCOL_VERSION, SESSION_KEY,
    STREAM_WINDOW_BYTES, Shared,
    incarnation::Known,
    status::{from_status, is_stranger},
};
use crate::{METHOD_FREE, blocking::timeout, method};

/// Longest time to connect to one URL and greet.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// Pause after the first failure; doubles with each one.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Calls in a row that get no answer in time, after which the connection is made anew: packets may go nowhere for long before TCP
/// notices.
const SILENT_CALLS_MAX: u32 = 5;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Small and must not wait: votes, heartbeats, read indexes, what other parts of a member ask the leader.
    Urgent,
    /// Entries, proposals and all else.
    Bulk,
    /// A snapshot.
    Snapshot,
}

impl Purpose {
    /// What the connection for a method is for.
    pub(super) fn of(method: u32) -> Self {
        match method {
            method::VOTE
            | method::PRE_VOTE
            | method::TRANSFER
            | method::HEARTBEAT
            | method::READ_INDEX
            | method::TELL_VOTE
            | METHOD_FREE.. => Purpose::Urgent,
            method::SNAPSHOT => Purpose::Snapshot,
            _ => Purpose::Bulk,
        }
    }
}

/// A connection that was greeted.
struct Connection {
    client: PeerClient<Channel>,
    session: MetadataValue<Ascii>,
    silent_calls: AtomicU32,
}

#[derive(Clone)]
enum State {
    Idle {
        retry_at: Duration,
        /// Greetings of the peer until then.
        greetings: u64,
        error: NetError,
    },
    Connecting,
    Connected(Arc<Connection>),
}

/// A connection to one peer, whatever its state. Cheap to clone.
#[derive(Clone)]
pub(super) struct Lane {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    to: u64,
    state: watch::Sender<State>,
    failures: AtomicU32,
    /// The attempt to connect that is under way.
    attempt: Mutex<Option<catena_runtime::Task>>,
}

impl Lane {
    /// Not connected yet.
    pub(super) fn new(shared: Arc<Shared>, to: u64) -> Self {
        let idle = State::Idle {
            retry_at: Duration::ZERO,
            greetings: 0,
            error: NetError::Unreachable("never connected".to_owned()),
        };
        Self {
            inner: Arc::new(Inner {
                shared,
                to,
                state: watch::Sender::new(idle),
                failures: AtomicU32::new(0),
                attempt: Mutex::default(),
            }),
        }
    }

    /// One request, one answer.
    pub(super) async fn call(
        &self,
        method: u32,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, NetError> {
        let Inner { shared, to, .. } = self.inner.as_ref();
        let began = shared.runtime.clock.now();
        shared.observer.peer_sent(*to, body.len());
        let answer = self.ask(method, body, limit).await;
        match &answer {
            Ok(body) => {
                shared.observer.peer_received(*to, body.len());
                if method == method::HEARTBEAT {
                    let took = shared.runtime.clock.now().saturating_sub(began);
                    shared.observer.peer_answered(*to, took);
                }
            }
            Err(_) => shared.observer.peer_failed(*to),
        }
        answer
    }

    async fn ask(&self, method: u32, body: Bytes, limit: Duration) -> Result<Bytes, NetError> {
        let clock = self.inner.shared.runtime.clock.clone();
        let deadline = clock.now() + limit;
        let left = || deadline.saturating_sub(clock.now());
        let mut greeted_anew = false;
        loop {
            let connected = timeout(clock.as_ref(), left(), self.connected()).await;
            let connection = connected
                .unwrap_or_else(|| Err(NetError::Unreachable("still connecting".to_owned())))?;
            let mut client = connection.client.clone();
            let body = body.clone();
            let request = connection.request(Frame { method, body });
            match timeout(clock.as_ref(), left(), client.call(request)).await {
                Some(Ok(answer)) => {
                    connection.silent_calls.store(0, Ordering::Relaxed);
                    return Ok(answer.into_inner().body);
                }
                Some(Err(status)) => {
                    let error = self.failed(&connection, &status);
                    if is_stranger(&status) && !std::mem::replace(&mut greeted_anew, true) {
                        continue;
                    }
                    return Err(error);
                }
                None => {
                    let silent = connection.silent_calls.fetch_add(1, Ordering::Relaxed) + 1;
                    if silent >= SILENT_CALLS_MAX {
                        self.disconnect(&connection, NetError::Timeout);
                    }
                    return Err(NetError::Timeout);
                }
            }
        }
    }

    /// Opens a stream.
    pub(super) async fn stream(&self, method: u32) -> Result<Duplex, NetError> {
        let mut greeted_anew = false;
        loop {
            let connection = self.connected().await?;
            let (tx, frames) = mpsc::channel::<Bytes>(STREAM_FRAMES_MAX);
            let lane = self.inner.clone();
            let mut request = connection.request(Sent { frames, lane });
            request
                .metadata_mut()
                .insert(METHOD_KEY, MetadataValue::from(method));
            match connection.client.clone().stream(request).await {
                Ok(answers) => {
                    let (to_us, rx) = mpsc::channel(STREAM_FRAMES_MAX);
                    // Ends with the stream, when either side drops it.
                    tokio::spawn(forward(answers.into_inner(), to_us, self.inner.clone()));
                    return Ok(Duplex { tx, rx });
                }
                Err(status) => {
                    let error = self.failed(&connection, &status);
                    if is_stranger(&status) && !std::mem::replace(&mut greeted_anew, true) {
                        continue;
                    }
                    self.inner.shared.observer.peer_failed(self.inner.to);
                    return Err(error);
                }
            }
        }
    }

    /// The connection, made if there is none.
    async fn connected(&self) -> Result<Arc<Connection>, NetError> {
        let mut state = self.inner.state.subscribe();
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Connected(connection) => return Ok(connection),
                State::Connecting => {}
                State::Idle {
                    retry_at,
                    greetings,
                    error,
                } => {
                    let shared = &self.inner.shared;
                    let pauses = shared.runtime.clock.now() < retry_at;
                    if pauses && shared.greetings.of(self.inner.to) == greetings {
                        return Err(error);
                    }
                    self.connect();
                }
            }
            if state.changed().await.is_err() {
                return Err(NetError::Unreachable("transport is closed".to_owned()));
            }
        }
    }

    /// Starts an attempt to connect, unless one is under way.
    fn connect(&self) {
        let begins = self.inner.state.send_if_modified(|state| {
            let idle = matches!(state, State::Idle { .. });
            if idle {
                *state = State::Connecting;
            }
            idle
        });
        if !begins {
            return;
        }
        let inner = self.inner.clone();
        let attempt = Box::pin(async move { inner.attempt().await });
        // Held until the handle is kept: this attempt may end and the next one begin before `spawn` returns, and its handle, put
        // in the place of the next one's, would abort that and leave everybody waiting for it.
        let mut kept = self.inner.attempt.lock();
        *kept = Some(self.inner.shared.runtime.tasks.spawn("connect", attempt));
    }

    /// A call over this connection failed.
    fn failed(&self, connection: &Arc<Connection>, status: &Status) -> NetError {
        let error = from_status(status);
        match error {
            // Without a connection or a session nothing will go through any more.
            NetError::Unreachable(_) => self.disconnect(connection, error.clone()),
            NetError::Refused(_) | NetError::Lost(_) | NetError::Timeout => {}
        }
        error
    }

    fn disconnect(&self, connection: &Arc<Connection>, error: NetError) {
        let shared = &self.inner.shared;
        let retry_at = shared.runtime.clock.now();
        let greetings = shared.greetings.of(self.inner.to);
        self.inner.state.send_if_modified(|state| {
            let ours = matches!(state, State::Connected(now) if Arc::ptr_eq(now, connection));
            if ours {
                *state = State::Idle {
                    retry_at,
                    greetings,
                    error,
                };
            }
            ours
        });
    }
}

impl Connection {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert(SESSION_KEY, self.session.clone());
        request
    }
}

impl Inner {
    /// Tries each URL of the peer once.
    async fn attempt(&self) {
        let greetings = self.shared.greetings.of(self.to);
        let mut last = NetError::Unreachable(format!("no peer URL of {:x} is known", self.to));
        for url in self.shared.addresses.urls(self.to) {
            let clock = self.shared.runtime.clock.as_ref();
            let greeted = timeout(clock, CONNECT_MAX, self.greet(&url)).await;
            let greeted = greeted
                .unwrap_or_else(|| Err(NetError::Unreachable(format!("{url} does not answer"))));
            match greeted {
                Ok(connection) => {
                    self.failures.store(0, Ordering::Relaxed);
                    self.shared.greetings.count(self.to);
                    tracing::debug!(peer = format_args!("{:x}", self.to), url, "connected");
                    self.state
                        .send_replace(State::Connected(Arc::new(connection)));
                    return;
                }
                Err(error) => last = error,
            }
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        let pause = PAUSE_MIN
            .saturating_mul(1 << failures.min(5))
            .min(PAUSE_MAX);
        if failures == 0 {
            tracing::warn!(peer = format_args!("{:x}", self.to), error = %last, "cannot connect to peer");
        }
        self.state.send_replace(State::Idle {
            retry_at: self.shared.runtime.clock.now() + pause,
            greetings,
            error: last,
        });
    }

    async fn greet(&self, url: &str) -> Result<Connection, NetError> {
        let unreachable =
            |error: tonic::transport::Error| NetError::Unreachable(format!("{url}: {error}"));
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(unreachable)?
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await.map_err(unreachable)?;
        let own = self.shared.identity;
        let hello = HelloRequest {
            protocol_version: PROTOCOL_VERSION,
            cluster_id: own.cluster_id,
            from: own.member_id,
            to: self.to,
            incarnation: own.incarnation,
        };
        let answer = DoorClient::new(channel.clone()).hello(hello).await;
        let answer = answer.map_err(|status| from_status(&status))?.into_inner();
        self.check_incarnation(answer.incarnation).await?;
        let session = MetadataValue::try_from(answer.session)
            .map_err(|_| NetError::Refused("peer gave no proper session".to_owned()))?;
        let client = PeerClient::new(channel)
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX);
        Ok(Connection {
            client,
            session,
            silent_calls: AtomicU32::new(0),
        })
    }

    /// A peer that has lost its data gets nothing from us: it might be given what it once acknowledged, and forgot.
    async fn check_incarnation(&self, incarnation: u64) -> Result<(), NetError> {
        match self.shared.incarnations.check(self.to, incarnation) {
            Known::Same => Ok(()),
            Known::Other => Err(NetError::Refused(format!(
                "peer: {}",
                method::wiped(self.to)
            ))),
            Known::New => {
                let learnt = self.shared.learn(self.to, incarnation).await;
                learnt.map_err(|status| NetError::Unreachable(status.message().to_owned()))
            }
        }
    }
}

/// The frames of a stream as they are sent, counted.
struct Sent {
    frames: mpsc::Receiver<Bytes>,
    lane: Arc<Inner>,
}

impl Stream for Sent {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let body = std::task::ready!(self.frames.poll_recv(cx));
        Poll::Ready(body.map(|body| {
            self.lane
                .shared
                .observer
                .peer_sent(self.lane.to, body.len());
            Frame { method: 0, body }
        }))
    }
}

/// Carries the frames of a stream to its owner; an error is the last one.
async fn forward(
    mut answers: Streaming<Frame>,
    to_us: mpsc::Sender<Result<Bytes, NetError>>,
    lane: Arc<Inner>,
) {
    while let Some(answer) = answers.next().await {
        let is_last = answer.is_err();
        match &answer {
            Ok(frame) => lane
                .shared
                .observer
                .peer_received(lane.to, frame.body.len()),
            Err(_) => lane.shared.observer.peer_failed(lane.to),
        }
        let answer = answer
            .map(|frame| frame.body)
            .map_err(|status| from_status(&status));
        if to_us.send(answer).await.is_err() || is_last {
            return;
        }
    }
}
