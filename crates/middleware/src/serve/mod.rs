//! Accepting connections and serving them, for HTTP and gRPC.
//!
//! hyper reads and writes; what it does not bound is bounded here: how long a head may take and a connection may lie idle (`watched`),
//! how long a client may take nothing of what is written to it, and how many connections there are. A listener that is stopped
//! accepts no more, tells its connections so (`connection: close`, GOAWAY), and lets them finish for a while.

mod activity;
mod watched;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::body::Body;
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use self::{activity::Activity, watched::Watched};
use crate::{
    admit::target::{HEADER_BYTES_MAX, HEADERS_MAX, TARGET_BYTES_MAX},
    observe::Peer,
};

/// Connections of one listener: each costs a task and some buffers, and one more waits to be accepted.
const CONNECTIONS_MAX: usize = 10_000;

/// Pause after the system refuses a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes that a client may send on one stream before it must wait.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes that a client may send on all streams of a connection before it must wait.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Calls that a client has reset before we have seen them; with more it is sent away (CVE-2023-44487).
const RESET_STREAMS_MAX: usize = 20;

/// How long an HTTP/2 connection may be silent before it is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Limits of one listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The time for a request's head, from its first byte on; for the first one from the connection on.
    pub head: Duration,
    /// How long a connection may lie idle between requests.
    pub idle: Duration,
    /// How long a client may take nothing of what is written to it.
    pub write_idle: Duration,
    /// Streams that one HTTP/2 connection may have open.
    pub streams_max: u32,
    /// How long connections may take to finish once the listener is stopped.
    pub drain: Duration,
}

impl ConnectionLimits {
    /// For HTTP, whose clients are strangers.
    pub const HTTP: Self = Self {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        write_idle: Duration::from_secs(30),
        streams_max: 200,
        drain: Duration::from_secs(30),
    };

    /// For gRPC, whose clients keep their connections and close them themselves after five idle minutes.
    pub const GRPC: Self = Self {
        idle: Duration::from_secs(600),
        streams_max: 256,
        ..Self::HTTP
    };
}

/// A listener that is being served.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    stopping: CancellationToken,
    task: JoinHandle<()>,
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, and asks those that there are to finish.
    pub fn stop_accepting(&self) {
        self.stopping.cancel();
    }

    /// Waits until a listener that was stopped has let go of its last connection.
    pub async fn finished(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a listener has failed");
        }
    }
}

/// Serves a listener in a task of its own.
pub fn serve<S>(
    listener: TcpListener,
    service: S,
    limits: ConnectionLimits,
) -> std::io::Result<Serving>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let address = listener.local_addr()?;
    let stopping = CancellationToken::new();
    let task = tokio::spawn(run(listener, service, limits, stopping.clone()));
    Ok(Serving {
        address,
        stopping,
        task,
    })
}

async fn run<S>(
    listener: TcpListener,
    service: S,
    limits: ConnectionLimits,
    stopping: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let permit = room.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection =
                    connection(stream, peer, service.clone(), limits, stopping.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    connection.await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(limits.drain, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!(left = connections.len(), "connections are cut off");
    }
}

async fn connection<S>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    limits: ConnectionLimits,
    stopping: CancellationToken,
) where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no delay is not to be had");
    }
    let activity = Arc::new(Activity::new());
    let closed = CancellationToken::new();
    let stream = Watched::new(
        stream,
        activity.clone(),
        limits,
        closed.clone().drop_guard(),
    );
    let answer = service_fn(|request: Request<Incoming>| {
        let call = activity.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        let answer = service.clone().oneshot(request);
        async move { answer.await.map(|response| call.follow(response)) }
    });
    let builder = builder(limits);
    let ended = {
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), answer);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = told_to_end(&stopping, &activity) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    // A connection that has left HTTP lives on elsewhere, and is one of the listener's all the same.
    closed.cancelled().await;
    if let Err(error) = ended {
        tracing::debug!(error, %peer, "connection ended");
    }
}

/// The listener stops, or the connection was idle for too long.
async fn told_to_end(stopping: &CancellationToken, activity: &Activity) {
    tokio::select! {
        () = stopping.cancelled() => {}
        () = activity.idle_for_too_long() => {}
    }
}

fn builder(limits: ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Ours tells a head that is slow from a connection that is idle.
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        // A head has its own limits, which are answered; this only keeps it from growing meanwhile.
        .max_buf_size(2 * (TARGET_BYTES_MAX + HEADER_BYTES_MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(limits.streams_max)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32 * 2)
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1);
    builder
}
