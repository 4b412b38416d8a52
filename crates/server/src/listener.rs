//! Sockets: accepting connections, and serving gRPC and HTTP on one port.
//!
//! On a plain port the first bytes decide: the preface of HTTP/2 means gRPC, everything else is for the HTTP handlers, as in etcd.
//! How many connections there may be, [`connections`](crate::connections) decides; what must not come over one,
//! [`guard`](crate::guard).
//!
//! Not as in etcd: a client that pings more often than `grpc-keepalive-min-time` is not sent away, unless it does so hundreds of
//! times a second and for no reason.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use catena_raft::transport::Transport;
use futures_util::stream;
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
use tonic::body::Body;
use tower::ServiceExt;

use crate::{
    authority::Repaired,
    config::ServerConfig,
    connections::{Admitted, Connections},
    cork::Corked,
    guard::Guarded,
    hall,
    metrics::Refused,
    server::Server,
    threads::{ClientThread, ClientThreads},
    url::Url,
    v3rpc::Services,
};

/// A client that sends no complete head of a request for this long is dropped.
const HEADER_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes that a client may send on one stream before it must wait; a request of the usual limit fits in two.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes that a client may send on all streams of a connection before it must wait.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Bytes of responses that wait in one connection for the client to take them.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Calls that one connection may have open where `--max-concurrent-streams` says nothing: a client with more waits, or connects
/// again. etcd sets no limit then, and each call costs some kilobytes.
const STREAMS_MAX: u32 = 1000;

/// Calls that a client has reset before we have seen them; with more it is sent away (CVE-2023-44487). h2's own default, said here
/// because so much hangs on it.
const RESET_STREAMS_MAX: usize = 20;

/// Calls that were reset because of a client's mistakes; with more it is sent away.
const FAULTY_STREAMS_MAX: usize = 1024;

/// Bytes of a request's head, as HTTP/2 counts them; a call with more is answered 431, and one with many times more ends its
/// connection. Tokens fit, novels do not; etcd takes 16 MiB.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;

/// Pause after the system refuses a connection, for want of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time that open requests have when a member stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

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
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Connection {
    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }

    /// The same connection, watched by the runtime that calls.
    fn rebind(self) -> std::io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream, address) => {
                Self::Tcp(TcpStream::from_std(stream.into_std()?)?, address)
            }
            Self::Unix(stream) => Self::Unix(UnixStream::from_std(stream.into_std()?)?),
        })
    }

    /// Who is at the other end, for the log.
    fn peer(&self) -> String {
        match self {
            Self::Tcp(_, address) => address.to_string(),
            Self::Unix(_) => "unix".to_owned(),
        }
    }
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

    /// The URL that was bound, with the port that was found.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Tcp(_, address) => format!("http://{address}"),
            Self::Unix(socket) => format!("unix://{}", socket.path.display()),
        }
    }

    /// The next connection that is let in.
    async fn admit(&self, server: &Server, allowed: &Connections) -> (Connection, Admitted) {
        loop {
            let connection = match self.accept().await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Some(admitted) = allowed.admit(connection.address()) {
                return (connection, admitted);
            }
            server.metrics.count_refusal(Refused::Connection);
            let remote_addr = connection.peer();
            tracing::warn!(remote_addr, "connection refused: too many are open");
        }
    }

    /// The same socket, watched by the runtime that calls: the one that bound it may be slow to see a connection.
    fn rebind(self) -> std::io::Result<Self> {
        match self {
            Self::Tcp(listener, address) => {
                let listener = TcpListener::from_std(listener.into_std()?)?;
                Ok(Self::Tcp(listener, address))
            }
            unix @ Self::Unix(_) => Ok(unix),
        }
    }

    async fn accept(&self) -> std::io::Result<Connection> {
        match self {
            Self::Tcp(listener, _) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Connection::Tcp(stream, address))
            }
            Self::Unix(socket) => Ok(Connection::Unix(socket.listener.accept().await?.0)),
        }
    }
}

/// Serves the other members until this one stops.
pub(crate) async fn run_for_peers(
    listener: Listener,
    transport: Arc<Transport>,
    server: Arc<Server>,
    allowed: Connections,
) {
    let listener = match listener.rebind() {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "peer traffic is not served");
            return;
        }
    };
    let node = server.node.clone();
    let incoming = stream::unfold((listener, server, allowed), |state| async {
        let (listener, server, allowed) = &state;
        loop {
            let (connection, admitted) = listener.admit(server, allowed).await;
            let peer = connection.peer();
            if let Connection::Tcp(stream, _) = connection {
                let stream = Guarded::new(stream, server.clone(), peer, admitted);
                return Some((Ok(stream), state));
            }
        }
    });
    if let Err(error) = transport.serve(incoming, node).await {
        tracing::warn!(%error, "peer traffic is no longer served");
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by hand.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// What a port serves.
pub(crate) struct Serving {
    /// gRPC, unless the port is for HTTP only.
    pub(crate) grpc: Option<Services>,
    /// HTTP handlers; without any paths on a port for gRPC only.
    pub(crate) http: Router,
}

impl Serving {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        match &self.grpc {
            Some(services) if request.version() == Version::HTTP_2 => {
                Ok(services.call(request).await)
            }
            Some(_) | None => {
                let request = request.map(axum::body::Body::new);
                let Ok(response) = self.http.clone().oneshot(request).await;
                Ok(response.map(Body::new))
            }
        }
    }
}

/// Accepts and serves connections until the member stops; then lets them finish, and cuts those off that have not after
/// [`DRAIN_TIMEOUT`].
pub(crate) async fn run(
    listener: Listener,
    serving: Arc<Serving>,
    server: Arc<Server>,
    allowed: Connections,
    threads: Arc<ClientThreads>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (connection, admitted) = tokio::select! {
            biased;
            () = server.stopping.cancelled() => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = listener.admit(&server, &allowed) => accepted,
        };
        let thread = threads.least_loaded();
        let serve = serve_on(thread.clone(), connection, admitted, &serving, &server);
        connections.spawn_on(serve, thread.handle());
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::debug!(left = connections.len(), "connections are cut off");
    }
}

/// Serves a connection on the thread that polls this first, which is `thread`.
fn serve_on(
    thread: ClientThread,
    connection: Connection,
    admitted: Admitted,
    serving: &Arc<Serving>,
    server: &Arc<Server>,
) -> impl Future<Output = ()> + Send + 'static {
    let (serving, server) = (serving.clone(), server.clone());
    async move {
        let _is_its_load = thread;
        let peer = connection.peer();
        match connection.rebind() {
            Ok(Connection::Tcp(stream, _)) => {
                let stream = Guarded::new(stream, server.clone(), peer, admitted);
                serve(stream, serving, server).await;
            }
            Ok(Connection::Unix(stream)) => {
                let stream = Guarded::new(stream, server.clone(), peer, admitted);
                serve(stream, serving, server).await;
            }
            Err(error) => tracing::warn!(%error, "connection lost"),
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: Guarded<S>,
    serving: Arc<Serving>,
    server: Arc<Server>,
) {
    let builder = builder(&server.config);
    // Boxed, since the future of a call is moved four times until it runs as a task.
    let service = service_fn(move |request| hall::wait(Box::pin(serving.clone().answer(request))));
    let connection =
        builder.serve_connection(TokioIo::new(Corked::new(Repaired::new(stream))), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = server.stopping.cancelled() => {
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
        .max_concurrent_streams(match config.max_concurrent_streams {
            u32::MAX => STREAMS_MAX,
            told => told,
        })
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(FAULTY_STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .keep_alive_timeout(config.keepalive_timeout);
    if !config.keepalive_interval.is_zero() {
        http2.keep_alive_interval(config.keepalive_interval);
    }
    builder
}
