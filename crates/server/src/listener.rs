//! Sockets: accepting connections, and serving gRPC and HTTP on one port.
//!
//! On a plain port the first bytes decide: the preface of HTTP/2 means gRPC, everything else is for the HTTP handlers, as in etcd.
//!
//! Not as in etcd: a client that pings more often than `grpc-keepalive-min-time` is not sent away, since hyper does not count pings
//! of its peers; it costs a frame of 17 bytes for each.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use http::{Request, Response, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt;

use crate::{authority::Repaired, config::ServerConfig, url::Url, v3rpc::Services};

/// A client that sends no complete head of a request for this long is dropped.
const HEADER_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes that a client may send on one stream before it must wait; a request of the usual limit fits in two.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes that a client may send on all streams of a connection before it must wait.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Bytes of responses that wait in one connection for the client to take them.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Pause after the system refuses a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that is bound.
pub(crate) enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(SocketFile),
}

/// A Unix socket, whose file goes with it.
pub(crate) struct SocketFile {
    listener: UnixListener,
    path: PathBuf,
}

/// A connection of either kind.
enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Binds a URL. Port 0 takes a free one.
    pub(crate) async fn bind(url: &Url) -> std::io::Result<Self> {
        match url {
            Url::Http { host, port } => {
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                let listener = TcpListener::bind((host, *port)).await?;
                let address = listener.local_addr()?;
                Ok(Self::Tcp(listener, address))
            }
            Url::Unix { path } => {
                let path = PathBuf::from(path);
                // A socket that a killed member left behind; one that is in use would be taken over, so look first.
                if path.exists() && UnixStream::connect(&path).await.is_err() {
                    std::fs::remove_file(&path)?;
                }
                let listener = UnixListener::bind(&path)?;
                Ok(Self::Unix(SocketFile { listener, path }))
            }
        }
    }

    /// The address, if it is one of TCP.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(_, address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The listener for the peers' transport.
    pub(crate) fn into_tcp(self) -> Option<TcpListener> {
        match self {
            Self::Tcp(listener, _) => Some(listener),
            Self::Unix(_) => None,
        }
    }

    /// The URL that was bound, with the port that was found.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Tcp(_, address) => format!("http://{address}"),
            Self::Unix(socket) => format!("unix://{}", socket.path.display()),
        }
    }

    async fn accept(&self) -> std::io::Result<Connection> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream))
            }
            Self::Unix(socket) => Ok(Connection::Unix(socket.listener.accept().await?.0)),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by hand.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// What a port serves.
#[derive(Clone)]
pub(crate) struct Serving {
    /// gRPC, unless the port is for HTTP only.
    pub(crate) grpc: Option<Services>,
    /// HTTP handlers; without any paths on a port for gRPC only.
    pub(crate) http: Router,
}

impl Serving {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        match &self.grpc {
            Some(services) if request.version() == Version::HTTP_2 => {
                Ok(services.call(request).await)
            }
            Some(_) | None => {
                let request = request.map(axum::body::Body::new);
                let Ok(response) = self.http.oneshot(request).await;
                Ok(response.map(Body::new))
            }
        }
    }
}

/// Accepts and serves connections until `stopping`; then lets them finish, and cuts those off that have not after `drain`.
pub(crate) async fn run(
    listener: Listener,
    serving: Serving,
    config: Arc<ServerConfig>,
    stopping: CancellationToken,
    drain: Duration,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(Connection::Tcp(stream)) => {
                connections.spawn(serve(
                    stream,
                    serving.clone(),
                    config.clone(),
                    stopping.clone(),
                ));
            }
            Ok(Connection::Unix(stream)) => {
                connections.spawn(serve(
                    stream,
                    serving.clone(),
                    config.clone(),
                    stopping.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(drain, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::debug!(left = connections.len(), "connections are cut off");
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    serving: Serving,
    config: Arc<ServerConfig>,
    stopping: CancellationToken,
) {
    let builder = builder(&config);
    let service = service_fn(move |request| serving.clone().answer(request));
    let connection = builder.serve_connection(TokioIo::new(Repaired::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "connection ended");
    }
}

fn builder(config: &ServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let mut http2 = builder.http2();
    http2
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(config.max_concurrent_streams)
        .keep_alive_timeout(config.keepalive_timeout);
    if !config.keepalive_interval.is_zero() {
        http2.keep_alive_interval(config.keepalive_interval);
    }
    builder
}
