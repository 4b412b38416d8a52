//! The HTTP/2 connections: one for each instance, and a second while the first has no room.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tonic::body::Body;
use tracing::debug;

use super::{
    attempts::{self, Fate, Missed, Sent, Transport},
    greeting::{Greeted, Greeting},
    replay::Replay,
    stream::Stream,
    tls::{HTTP2, Tls, TlsError, TlsOptions},
};
use crate::{Endpoint, balance::Key};

/// A connection without traffic is tried after this time …
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// … and is dead when that goes unanswered for this long.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What an instance may send on one stream before it is read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// What it may send on all of them. A stream that nobody reads takes its own window of it and leaves the rest to the others.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Connections to one instance. More would only help to overrun it: it says itself how many calls it takes on each, and the balancer
/// has others.
const CONNECTIONS_MAX: usize = 2;

/// The part of a connection's streams, in percent, above which another connection is made: before calls have to wait.
const BUSY_PERCENT: u64 = 80;

/// An address that did not answer in time is not tried again for this long: each try costs its call the whole connect timeout, where
/// a refusal costs nothing. Nor is a second connection tried again for this long after one was refused.
const SILENT_PAUSE: Duration = Duration::from_secs(2);

/// Makes requests on a connection.
type Sender = http2::SendRequest<Replay<Body>>;

/// A connection on its way, shared by the calls that wait for it.
type Connecting = Shared<BoxFuture<'static, Result<Live, ConnectError>>>;

/// A connection that was made.
#[derive(Clone, Debug)]
struct Live {
    sender: Sender,
    /// How many streams the instance takes on it at once.
    streams_max: u32,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Refused(String),
    #[error("no answer within {0:?}")]
    Silent(Duration),
}

/// The connections of a channel.
#[derive(Debug)]
pub(crate) struct Peers {
    connect_timeout: Duration,
    tls: Option<Arc<Tls>>,
    peers: Mutex<HashMap<Key, Peer>>,
}

/// The connections to one instance.
#[derive(Debug, Default)]
struct Peer {
    links: Vec<Link>,
    /// When it was found silent.
    silent_since: Option<Instant>,
    /// When a second connection was refused.
    alone_since: Option<Instant>,
}

#[derive(Debug)]
struct Link {
    connecting: Connecting,
    streams: Arc<AtomicU32>,
    used_at: Instant,
}

/// A stream of a connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct StreamGuard(Arc<AtomicU32>);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How full a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    /// Below the part of its streams at which another connection is made.
    Roomy,
    /// Above.
    Busy,
    /// It is still being made, and how many streams it will have is unknown.
    Unknown,
    /// Calls wait for one another.
    Full,
}

impl Link {
    fn new(connecting: Connecting) -> Self {
        Self {
            connecting,
            streams: Arc::default(),
            used_at: Instant::now(),
        }
    }

    /// Whether it has ended, or was never made.
    fn is_over(&self) -> bool {
        match self.connecting.peek() {
            None => false,
            Some(Ok(live)) => live.sender.is_closed(),
            Some(Err(_)) => true,
        }
    }

    fn load(&self) -> Load {
        let Some(Ok(live)) = self.connecting.peek() else {
            return Load::Unknown;
        };
        let (used, max) = (self.streams.load(Ordering::Relaxed), live.streams_max);
        match u64::from(used) * 100 {
            _ if used >= max => Load::Full,
            parts if parts > u64::from(max) * BUSY_PERCENT => Load::Busy,
            _ => Load::Roomy,
        }
    }

    fn begin(&mut self) -> (Connecting, StreamGuard) {
        self.used_at = Instant::now();
        self.streams.fetch_add(1, Ordering::Relaxed);
        (
            self.connecting.clone(),
            StreamGuard(Arc::clone(&self.streams)),
        )
    }
}

impl Peer {
    /// Forgets connections that have ended. If the first one has, the second takes its place.
    fn sweep(&mut self) {
        self.links.retain(|link| !link.is_over());
    }

    /// The connection for the next call: the first that has room, or else the least full one.
    fn choose(&mut self) -> Option<&mut Link> {
        self.links.iter_mut().min_by_key(|link| link.load())
    }

    /// Whether another connection should be made: all that there are have been, and are busy.
    fn wants_another(&self) -> bool {
        let is_busy = |link: &Link| matches!(link.load(), Load::Busy | Load::Full);
        self.links.len() < CONNECTIONS_MAX
            && self.links.iter().all(is_busy)
            && !is_recent(self.alone_since)
    }
}

fn is_recent(since: Option<Instant>) -> bool {
    since.is_some_and(|since| since.elapsed() < SILENT_PAUSE)
}

impl Peers {
    /// Without TLS, endpoints that ask for it are not connected to.
    pub(super) fn new(connect_timeout: Duration, tls: Option<TlsOptions>) -> Self {
        Self {
            connect_timeout,
            tls: tls.map(|options| Arc::new(Tls::new(options, HTTP2))),
            peers: Mutex::default(),
        }
    }

    /// Lets go of the connections that are idle, and of those whose instance is gone: they end with the last call on them.
    pub(super) fn retain(&self, idle: Duration, is_listed: impl Fn(Key) -> bool) {
        let mut peers = self.peers.lock();
        peers.retain(|key, peer| {
            peer.links.retain(|link| link.used_at.elapsed() < idle);
            is_listed(*key) && (!peer.links.is_empty() || is_recent(peer.silent_since))
        });
    }

    /// How many connections are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let peers = self.peers.lock();
        peers.values().map(|peer| peer.links.len()).sum()
    }

    /// Sends a request that is no call, over the connection that calls go over.
    pub(crate) async fn send_once(
        &self,
        key: Key,
        endpoint: &Endpoint,
        request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, String> {
        let sent = self.send(key, endpoint, request.map(attempts::once)).await;
        let sent = sent.map_err(|missed| missed.reason)?;
        Ok(sent.response)
    }

    /// A connection to the instance: one that there is, or a new one.
    async fn sender(
        &self,
        key: Key,
        endpoint: &Endpoint,
    ) -> Result<(Sender, StreamGuard), ConnectError> {
        loop {
            let (connecting, stream) = self.link(key, endpoint)?;
            match connecting.await {
                Ok(live) => return Ok((live.sender, stream)),
                Err(error) if self.note(key, &error) => return Err(error),
                // There is another one, which is made already.
                Err(_refused) => {}
            }
        }
    }

    fn link(
        &self,
        key: Key,
        endpoint: &Endpoint,
    ) -> Result<(Connecting, StreamGuard), ConnectError> {
        let mut peers = self.peers.lock();
        let peer = peers.entry(key).or_default();
        peer.sweep();
        if peer.links.is_empty() {
            if is_recent(peer.silent_since) {
                return Err(ConnectError::Silent(self.connect_timeout));
            }
            peer.silent_since = None;
            peer.links.push(Link::new(self.connect(endpoint)));
        } else if peer.wants_another() {
            let connecting = self.connect(endpoint);
            // No call waits for it as long as the first has room. The task ends within the time that a connection may take.
            tokio::spawn(connecting.clone());
            peer.links.push(Link::new(connecting));
        }
        let chosen = peer.choose().expect("one was there, or was made");
        Ok(chosen.begin())
    }

    /// Takes note of a connection that was not made. Says whether the instance has no other.
    fn note(&self, key: Key, error: &ConnectError) -> bool {
        let mut peers = self.peers.lock();
        let Some(peer) = peers.get_mut(&key) else {
            return true;
        };
        peer.sweep();
        let now = Instant::now();
        if !peer.links.is_empty() {
            peer.alone_since = Some(now);
            return false;
        }
        if let ConnectError::Silent(_) = error {
            peer.silent_since.get_or_insert(now);
        }
        true
    }

    fn connect(&self, endpoint: &Endpoint) -> Connecting {
        let tls = match endpoint.scheme.is_secure() {
            false => Ok(None),
            true => self.tls.clone().map(Some).ok_or(TlsError::Off),
        };
        let (endpoint, limit) = (endpoint.clone(), self.connect_timeout);
        connect(endpoint, tls, limit).boxed().shared()
    }
}

impl Transport for Peers {
    type Body = Body;

    async fn send(
        &self,
        key: Key,
        endpoint: &Endpoint,
        request: http::Request<Replay<Body>>,
    ) -> Result<Sent, Missed> {
        let connected = self.sender(key, endpoint).await;
        let (mut sender, stream) = connected.map_err(|error| Missed {
            fate: Fate::Unreachable,
            reason: error.to_string(),
        })?;
        let sent = sender.try_send_request(request).await;
        let response = sent.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            let error = error.into_error();
            let fate = if unsent || is_unprocessed(&error) {
                Fate::Refused
            } else {
                Fate::Lost
            };
            let reason = reason(&error);
            Missed { fate, reason }
        })?;
        let stream = Some(stream);
        Ok(Sent { response, stream })
    }
}

/// The error and what is behind it, which hyper's own text leaves out.
pub(super) fn reason(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The HTTP/2 error behind an error.
pub(super) fn h2_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a h2::Error> {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref() {
            return Some(error);
        }
        source = cause.source();
    }
    None
}

/// Whether the instance says that it has not looked at the stream: a GOAWAY fails only the streams behind the last one that it
/// names, and a refused stream is one that has not been processed (RFC 9113, 8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    let Some(error) = h2_error(error) else {
        // Still queued when the connection closed.
        return error.is_canceled();
    };
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (error.is_go_away() || refused)
}

/// Makes a connection and waits until the instance has spoken: its kernel accepts connections that its process never will.
async fn connect(
    endpoint: Endpoint,
    tls: Result<Option<Arc<Tls>>, TlsError>,
    limit: Duration,
) -> Result<Live, ConnectError> {
    let connected = timeout(limit, async {
        let tls = tls.map_err(|error| reason(&error))?;
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(|error| reason(&error))?;
        stream.set_nodelay(true).map_err(|error| reason(&error))?;
        let stream = match &tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let stream = tls.connect(&endpoint.host, stream).await;
                Stream::Tls(Box::new(stream.map_err(|error| reason(&error))?))
            }
        };
        let (io, heard) = Greeted::new(stream);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| reason(&error))?;
        let mut connection = Box::pin(connection);
        let greeting = tokio::select! {
            // First, for what was said explains how the connection ended.
            biased;
            heard = heard => heard.map_err(|_closed| NOT_ACCEPTED.to_owned())?,
            ended = &mut connection => {
                let why = ended.err().map(|error| reason(&error));
                return Err(why.unwrap_or_else(|| NOT_ACCEPTED.to_owned()));
            }
        };
        let streams_max = match greeting {
            Greeting::Settings { streams_max } => streams_max,
            Greeting::Tls => {
                return Err(format!("it speaks TLS, but its endpoint is {endpoint}"));
            }
            Greeting::Other => return Err("it does not speak HTTP/2".to_owned()),
        };
        // The task is owned by the senders: it ends when the last of them and the last stream are gone.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%endpoint, reason = reason(&error), "connection lost");
            }
        });
        Ok(Live {
            sender,
            streams_max,
        })
    });
    match connected.await {
        Ok(connected) => connected.map_err(ConnectError::Refused),
        Err(_elapsed) => Err(ConnectError::Silent(limit)),
    }
}

const NOT_ACCEPTED: &str = "closed before it was accepted";
