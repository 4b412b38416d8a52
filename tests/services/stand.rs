//! A user service and a gateway on loopback.

use std::{convert::Infallible, future::ready, net::SocketAddr, sync::Arc};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use catena_gateway::{Gateway, GatewayOptions, UserCalls};
use catena_middleware::{
    Health, Outbound, RouteLimits,
    admit::{body::BodyLimits, host::Hosts},
    observe::RequestMetrics,
    serve::{ConnectionLimits, Serving, serve},
};
use catena_services::user::{UserOptions, UserService};
use catena_telemetry::metrics::Registry;
use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::Notify};
use tonic::transport::{Channel, Endpoint};

/// How the gateway reaches the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In the same process.
    Local,
    /// Over a socket.
    Channel,
}

/// What a test wants to be otherwise.
pub(crate) struct Wish {
    pub(crate) way: Way,
    /// None: a file of SQLite of its own.
    pub(crate) database: Option<String>,
    pub(crate) age_min: u8,
    pub(crate) connections: ConnectionLimits,
    pub(crate) body: BodyLimits,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            way: Way::Local,
            database: None,
            age_min: 0,
            connections: ConnectionLimits::HTTP,
            body: BodyLimits::default(),
        }
    }
}

/// Both, running.
pub(crate) struct Stand {
    /// Of the gateway.
    pub(crate) rest: Serving,
    /// Of the service.
    pub(crate) grpc: Serving,
    /// The gateway's.
    pub(crate) health: Health,
    pub(crate) user: UserService,
    pub(crate) directory: TempDir,
    /// Lets one request to `/trouble/gate` be answered.
    pub(crate) gate: Arc<Notify>,
}

impl Stand {
    pub(crate) async fn start(wish: Wish) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users.db");
        let database = wish
            .database
            .unwrap_or_else(|| format!("sqlite:{}", file.display()));
        let registry = Arc::new(Registry::new().unwrap());
        let metrics = Arc::new(RequestMetrics::register(&registry).unwrap());
        let health = Health::new();
        let gate = Arc::new(Notify::new());
        let user = UserService::open(UserOptions {
            database,
            age_min: wish.age_min,
            hosts: Hosts::Loopback(Vec::new()),
            health: health.clone(),
            registry: registry.clone(),
            metrics: metrics.clone(),
        });
        let user = user.await.unwrap();
        let grpc = serve(loopback().await, user.app(), ConnectionLimits::GRPC).unwrap();
        let users = match wish.way {
            Way::Local => UserCalls::new(user.local(&Outbound::default())),
            Way::Channel => over(&channel(grpc.address())),
        };
        let gateway = Gateway::new(GatewayOptions {
            users,
            more: trouble(gate.clone()),
            hosts: Hosts::Loopback(Vec::new()),
            body: wish.body,
            limits: RouteLimits {
                prefixes: vec![("/trouble/gate", None)],
                ..RouteLimits::default()
            },
            health: health.clone(),
            registry,
            metrics,
        });
        let rest = serve(loopback().await, gateway.app(), wish.connections).unwrap();
        Self {
            rest,
            grpc,
            health,
            user,
            directory,
            gate,
        }
    }

    /// The gateway's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.rest.address()
    }

    /// A channel to the service itself.
    pub(crate) fn channel(&self) -> Channel {
        channel(self.grpc.address())
    }
}

/// Handlers that misbehave.
fn trouble(gate: Arc<Notify>) -> Router {
    Router::new()
        .route("/trouble/panic", get(panics))
        .route("/trouble/stream", get(panics_later))
        .route(
            "/trouble/slow",
            get(async || std::future::pending::<()>().await),
        )
        .route("/trouble/gate", get(async move || gate.notified().await))
}

async fn panics() {
    panic!("a handler's secret")
}

/// An answer that begins well.
async fn panics_later() -> Body {
    let begins = stream::once(ready(Ok::<_, Infallible>(Bytes::from_static(b"begun"))));
    Body::from_stream(begins.chain(stream::once(async { panic!("a stream's secret") })))
}

pub(crate) async fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

pub(crate) fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy()
}

/// A channel as the gateway takes it.
pub(crate) fn over(channel: &Channel) -> UserCalls {
    UserCalls::over(Outbound::default().transport(channel.clone()))
}
