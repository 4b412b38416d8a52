//! The HTTP/2 connections, one for each instance.

use std::{collections::HashMap, time::Duration};

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
    attempts::{self, Fate, Missed, Transport},
    first_byte::FirstByte,
    replay::Replay,
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

/// An address that did not answer in time is not tried again for this long: each try costs its call the whole connect timeout, where
/// a refusal costs nothing.
const SILENT_PAUSE: Duration = Duration::from_secs(2);

/// Makes requests on a connection.
type Sender = http2::SendRequest<Replay<Body>>;

/// A connection on its way, shared by the calls that wait for it.
type Connecting = Shared<BoxFuture<'static, Result<Sender, ConnectError>>>;

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
    peers: Mutex<HashMap<Key, Peer>>,
}

#[derive(Debug)]
struct Peer {
    connecting: Connecting,
    used_at: Instant,
    /// When it was found silent.
    silent_since: Option<Instant>,
}

impl Peers {
    pub(super) fn new(connect_timeout: Duration) -> Self {
        Self {
            connect_timeout,
            peers: Mutex::default(),
        }
    }

    /// Lets go of the connections that are idle, and of those whose instance is gone: they end with the last call on them.
    pub(super) fn retain(&self, idle: Duration, is_listed: impl Fn(Key) -> bool) {
        let mut peers = self.peers.lock();
        peers.retain(|key, peer| peer.used_at.elapsed() < idle && is_listed(*key));
    }

    /// How many connections are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.peers.lock().len()
    }

    /// Sends a request that is no call, over the connection that calls go over.
    pub(crate) async fn send_once(
        &self,
        key: Key,
        endpoint: &Endpoint,
        request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, String> {
        let sent = self.send(key, endpoint, request.map(attempts::once)).await;
        sent.map_err(|missed| missed.reason)
    }

    /// A connection to the instance: the one there is, or a new one.
    async fn sender(&self, key: Key, endpoint: &Endpoint) -> Result<Sender, ConnectError> {
        let connecting = self.connecting(key, endpoint)?;
        let connected = connecting.await;
        if let Err(ConnectError::Silent(_)) = connected
            && let Some(peer) = self.peers.lock().get_mut(&key)
        {
            peer.silent_since.get_or_insert_with(Instant::now);
        }
        connected
    }

    fn connecting(&self, key: Key, endpoint: &Endpoint) -> Result<Connecting, ConnectError> {
        let now = Instant::now();
        let connect = || {
            connect(endpoint.address(), self.connect_timeout)
                .boxed()
                .shared()
        };
        let mut peers = self.peers.lock();
        let peer = peers.entry(key).or_insert_with(|| Peer {
            connecting: connect(),
            used_at: now,
            silent_since: None,
        });
        peer.used_at = now;
        let is_dead = match peer.connecting.peek() {
            None => false,
            Some(Ok(sender)) => sender.is_closed(),
            Some(Err(_)) => true,
        };
        if is_dead {
            if let Some(since) = peer.silent_since
                && now - since < SILENT_PAUSE
            {
                return Err(ConnectError::Silent(self.connect_timeout));
            }
            peer.silent_since = None;
            peer.connecting = connect();
        }
        Ok(peer.connecting.clone())
    }
}

impl Transport for Peers {
    type Body = Body;

    async fn send(
        &self,
        key: Key,
        endpoint: &Endpoint,
        request: http::Request<Replay<Body>>,
    ) -> Result<http::Response<Incoming>, Missed> {
        let mut sender = self.sender(key, endpoint).await.map_err(|error| Missed {
            fate: Fate::Unreachable,
            reason: error.to_string(),
        })?;
        sender.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            let error = error.into_error();
            let fate = if unsent || is_unprocessed(&error) {
                Fate::Refused
            } else {
                Fate::Lost
            };
            let reason = reason(&error);
            Missed { fate, reason }
        })
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
async fn connect(address: String, limit: Duration) -> Result<Sender, ConnectError> {
    let connected = timeout(limit, async {
        let stream = TcpStream::connect(&address)
            .await
            .map_err(|error| reason(&error))?;
        stream.set_nodelay(true).map_err(|error| reason(&error))?;
        let (io, heard) = FirstByte::new(stream);
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
        // The task is owned by the senders: it ends when the last of them and the last stream are gone.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(address, reason = reason(&error), "connection lost");
            }
        });
        let heard = heard.await;
        heard.map_err(|_closed| "closed before it was accepted".to_owned())?;
        Ok(sender)
    });
    match connected.await {
        Ok(connected) => connected.map_err(ConnectError::Refused),
        Err(_elapsed) => Err(ConnectError::Silent(limit)),
    }
}
